//! Flags and addresses that cannot be served.

use super::super::process::{Echo, run};

#[tokio::test]
async fn wrong_flags_are_refused_with_what_is_allowed() {
    for (flags, why) in [
        (
            &["--status", "700"],
            "expected an HTTP status from 200 to 599",
        ),
        (
            &["--grpc-status", "17"],
            "expected a gRPC status from 1 to 16",
        ),
        (
            &["--fail-rate", "30"],
            "expected a share from 0 (none) to 1 (all)",
        ),
        (&["--delay", "20"], "\"20\" has no unit"),
        (&["--listen", "localhost"], "invalid socket address"),
    ] {
        let mut args = vec!["echo"];
        if flags[0] != "--listen" {
            args.extend(["--listen", "127.0.0.1:0"]);
        }
        args.extend(flags);
        let output = run(&args).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {said}");
        assert!(said.contains(why), "{flags:?}: {said}");
    }
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let echo = Echo::start(&[]).await;
    let output = run(&["echo", "--listen", &echo.address.to_string()]).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let start = format!(
        "meshwork: cannot listen on {}; choose another",
        echo.address
    );
    assert!(said.starts_with(&start), "{said}");
}
