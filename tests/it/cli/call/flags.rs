//! Flags: how much, how fast, and those that are wrong.

use super::super::process::run;
use super::{call, echo, service};

#[tokio::test]
async fn a_rate_is_kept_and_slow_answers_do_not_slow_it_down() {
    // 20 calls of 300 ms, one after the other, would take six seconds.
    let slow = echo(&["--delay", "300ms"]).await;
    let folder = service("http", &[slow.address], "");
    let result = call(&folder, &["-n", "20", "--rate", "40", "http://one/"]).await;
    let elapsed = result["elapsed_us"].as_u64().expect("a number");
    assert_eq!(result["ok"], 20);
    assert!((775_000..4_000_000).contains(&elapsed), "{elapsed}");
}

#[tokio::test]
async fn with_a_rate_latency_counts_from_the_schedule() {
    let slow = echo(&["--delay", "100ms"]).await;
    let folder = service("http", &[slow.address], "");
    let args = ["-n", "10", "--rate", "1000", "-c", "1", "http://one/"];
    let result = call(&folder, &args).await;
    let max = result["latency_us"]["max"].as_u64().expect("a number");
    assert!(max >= 900_000, "the tenth waited for nine others: {max}");
}

#[tokio::test]
async fn a_duration_ends_the_calls() {
    let quick = echo(&[]).await;
    let folder = service("http", &[quick.address], "");
    let result = call(&folder, &["--duration", "300ms", "-c", "2", "http://one/"]).await;
    let elapsed = result["elapsed_us"].as_u64().expect("a number");
    assert!((250_000..10_000_000).contains(&elapsed), "{elapsed}");
    assert!(result["sent"].as_u64() > Some(2), "{result}");
    assert_eq!(result["sent"], result["ok"]);
}

#[tokio::test]
async fn method_headers_and_body_arrive() {
    let quick = echo(&["--name", "e"]).await;
    let folder = service("http", &[quick.address], "");
    let args = ["-X", "PUT", "-H", "x-a: 1", "-d", "hello", "http://one/p"];
    assert_eq!(call(&folder, &args).await["ok"], 1);
    let unrouted = call(&folder, &["-H", "host: one", "http://127.0.0.1:1/"]).await;
    assert_eq!(
        unrouted["by_name"]["e"], 1,
        "the host header decides: {unrouted}"
    );
}

#[tokio::test]
async fn the_table_is_for_people() {
    let quick = echo(&["--name", "e"]).await;
    let url = format!("http://{}/", quick.address);
    let output = run(&["call", "-n", "4", &url]).await;
    assert_eq!(output.status.code(), Some(0));
    assert!(
        output.stderr.is_empty(),
        "no progress line where there is no terminal"
    );
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    for part in ["answered by", "100.0 %", "latency  p50", "4 calls in"] {
        assert!(said.contains(part), "{part:?} is not in\n{said}");
    }
}

#[tokio::test]
async fn wrong_arguments_and_configurations_exit_with_2() {
    let broken = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(broken.path().join("a.yaml"), "kind: [\n").expect("a file");
    let broken = broken.path().to_str().expect("UTF-8");
    for (args, why) in [
        (&[][..], "required arguments"),
        (&["https://a"], "the mesh decides about TLS; write http"),
        (&["http://a", "-H", "x"], "expected 'name: value'"),
        (&["http://a", "-n", "0"], "0 is not in"),
        (&["http://a", "--rate", "0"], "from 0.001 to 1000000"),
        (&["http://a", "--timeout", "2"], "has no unit"),
        (
            &["http://a", "--grpc", "x"],
            "expected PACKAGE.SERVICE/METHOD",
        ),
        (
            &["http://a", "--grpc", "a.B/C", "--data-hex", "xx"],
            "is not hex",
        ),
        (
            &["http://a", "--grpc", "a.B/C", "-d", "x"],
            "cannot be used with",
        ),
        (&["http://a", "--config", "no/such"], "cannot read no/such"),
        (&["http://a", "--config", broken], "error[M002]"),
    ] {
        let output = run(&[&["call"], args].concat()).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.contains(why), "{args:?}: {said}");
        assert!(output.stdout.is_empty(), "{args:?}");
    }
}
