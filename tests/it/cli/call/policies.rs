//! What the mesh does, as `call` tells it.

use serde_json::json;

use super::super::process::Echo;
use super::{article, call, echo, service};

async fn catalog() -> [Echo; 3] {
    [
        echo(&["--name", "v1"]).await,
        echo(&["--name", "v1"]).await,
        echo(&["--name", "v2"]).await,
    ]
}

#[tokio::test]
async fn calls_are_split_ninety_to_ten_and_counted_by_name_and_endpoint() {
    let echoes = catalog().await;
    let folder = article("canary", echoes.each_ref().map(|echo| echo.address));
    let result = call(&folder, &["-n", "2000", "-c", "8", "http://catalog/items"]).await;
    assert_eq!(
        (&result["sent"], &result["ok"]),
        (&json!(2_000), &json!(2_000))
    );
    assert_eq!(result["by_status"], json!({"200": 2_000}));
    let of = |key: &str, name: &str| result[key][name].as_u64().unwrap_or(0);
    let v2 = of("by_name", "v2");
    assert_eq!(of("by_name", "v1") + v2, 2_000);
    // Six standard deviations of a binomial of 2,000 at 0.1: the dice are not seeded.
    assert!(v2.abs_diff(200) <= 81, "{v2} to v2");
    assert_eq!(of("by_endpoint", &echoes[2].address.to_string()), v2);
    assert_eq!(
        (&result["attempts"], &result["retries"]),
        (&json!(2_000), &json!(0))
    );
    assert_eq!(result["last_error"], json!(null));
    let latency = &result["latency_us"];
    let [p50, p90, p99, max] = ["p50", "p90", "p99", "max"].map(|key| latency[key].as_u64());
    assert!(
        Some(0) < p50 && p50 <= p90 && p90 <= p99 && p99 <= max,
        "{latency}"
    );
}

#[tokio::test]
async fn the_header_decides_and_its_wrong_case_does_not() {
    let echoes = catalog().await;
    let folder = article("canary", echoes.each_ref().map(|echo| echo.address));
    let with = async |header: &str| {
        let result = call(
            &folder,
            &["-n", "200", "-H", header, "http://catalog/items"],
        )
        .await;
        result["by_name"]["v2"].as_u64().unwrap_or(0)
    };
    assert_eq!(with("x-canary: true").await, 200);
    assert!(with("x-canary: True").await < 100);
}

#[tokio::test]
async fn retries_are_counted_and_save_every_call() {
    let echoes = [
        echo(&["--name", "v1"]).await,
        echo(&["--name", "bad", "--status", "503"]).await,
        echo(&["--name", "v2"]).await,
    ];
    let folder = article("resilience", echoes.each_ref().map(|echo| echo.address));
    let result = call(&folder, &["-n", "100", "http://catalog/items"]).await;
    assert_eq!(result["ok"], 100, "{result}");
    // Three errors in a row eject the bad one; each was retried elsewhere.
    let bad = echoes[1].address.to_string();
    assert_eq!(result["by_endpoint"][&bad], 3, "{result}");
    assert_eq!(
        (&result["retries"], &result["ejections"]),
        (&json!(3), &json!(1))
    );
    assert_eq!(result["attempts"], 103);
    assert_eq!(result["by_name"], json!({"v1": 100}));
}

#[tokio::test]
async fn a_failure_is_told_with_status_endpoint_and_flag() {
    let bad = echo(&["--name", "bad", "--status", "503"]).await;
    let rule = "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n\
                metadata: {name: one, namespace: my-app}\nspec:\n  hosts: [one]\n  http:\n  \
                - route: [{destination: {host: one}}]\n    retries: {attempts: 2, retryOn: 5xx}\n";
    let folder = service("http", &[bad.address], rule);
    let result = call(&folder, &["http://one/"]).await;
    assert_eq!((&result["sent"], &result["failed"]), (&json!(1), &json!(1)));
    assert_eq!(result["by_status"], json!({"503": 1}));
    assert_eq!(result["by_flag"], json!({"URX": 1}), "{result}");
    assert_eq!(result["attempts"], 3);
    let expected = format!("HTTP 503 Service Unavailable (from {})", bad.address);
    assert_eq!(result["last_error"], expected);
}

#[tokio::test]
async fn a_timeout_is_the_status_and_flag_of_a_sidecar() {
    let slow = echo(&["--delay", "30s"]).await;
    let folder = service("http", &[slow.address], "");
    let result = call(&folder, &["--timeout", "100ms", "http://one/"]).await;
    assert_eq!(result["by_status"], json!({"504": 1}));
    assert_eq!(result["by_flag"], json!({"UT": 1}));
    let error = result["last_error"].as_str().expect("a text");
    assert!(error.contains("caller's deadline of 100ms"), "{error}");
    assert!(error.contains(&slow.address.to_string()), "{error}");
    let max = result["latency_us"]["max"].as_u64().expect("a number");
    assert!((100_000..5_000_000).contains(&max), "{max}");
}

#[tokio::test]
async fn grpc_calls_bring_a_message_and_count_by_grpc_status() {
    let good = echo(&["--name", "g"]).await;
    let folder = service("grpc", &[good.address], "");
    let args = [
        "--grpc",
        "any.Service/Method",
        "--data-hex",
        "0a0178",
        "-n",
        "3",
        "http://one",
    ];
    let result = call(&folder, &args).await;
    assert_eq!(result["by_grpc_status"], json!({"0": 3}), "{result}");
    assert_eq!(result["by_name"], json!({"g": 3}));
    assert_eq!(result["by_status"], json!({}));

    let bad = echo(&["--grpc-status", "7"]).await;
    let folder = service("grpc", &[bad.address], "");
    let result = call(&folder, &["--grpc", "any.Service/Method", "http://one"]).await;
    assert_eq!(result["by_grpc_status"], json!({"7": 1}), "{result}");
    let error = result["last_error"].as_str().expect("a text");
    assert!(
        error.starts_with("gRPC status 7 (PermissionDenied): "),
        "{error}"
    );
}

#[tokio::test]
async fn the_deadline_of_a_grpc_call_is_its_status_four() {
    let slow = echo(&["--delay", "30s"]).await;
    let folder = service("grpc", &[slow.address], "");
    let args = ["--grpc", "a.B/C", "--timeout", "100ms", "http://one"];
    let result = call(&folder, &args).await;
    assert_eq!(result["by_grpc_status"], json!({"4": 1}), "{result}");
}
