//! Linkerd's limits of requests, at a port of the mesh.

use std::time::Duration;

use super::*;

/// The policies of two ports: `one` has a limit for each caller, but for `order`; the other has one for all.
fn policies(one: u16, other: u16) -> String {
    let server = |name: &str, port: u16| {
        format!(
            "
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {{name: {name}, namespace: my-app}}
spec:
  podSelector: {{matchLabels: {{app: catalog}}}}
  port: {port}
  accessPolicy: all-unauthenticated
"
        )
    };
    let policy = |name: &str, spec: &str| {
        format!(
            "
apiVersion: policy.linkerd.io/v1alpha1
kind: HTTPLocalRateLimitPolicy
metadata: {{name: {name}, namespace: my-app}}
spec:
  targetRef: {{group: policy.linkerd.io, kind: Server, name: {name}}}
{spec}
"
        )
    };
    let each = "
  total: {requestsPerSecond: 100000}
  identity: {requestsPerSecond: 1}
  overrides:
  - requestsPerSecond: 100000
    clientRefs: [{kind: ServiceAccount, name: order}]
";
    let all = "  total: {requestsPerSecond: 1}";
    [
        server("one", one),
        policy("one", each),
        server("other", other),
        policy("other", all),
    ]
    .join("---")
}

/// As fast as calls go, one of them finds no token: a second has one.
async fn refused<T: PartialEq + std::fmt::Debug>(
    mut call: impl AsyncFnMut() -> T,
    allowed: T,
) -> T {
    let refused = async {
        loop {
            let outcome = call().await;
            if outcome != allowed {
                return outcome;
            }
        }
    };
    let patience = Duration::from_secs(60);
    let refused = tokio::time::timeout(patience, refused).await;
    refused.expect("a call is refused")
}

#[tokio::test]
async fn linkerds_limits_count_for_their_port_all_callers_and_each() {
    let mut domain = Domain::new();
    let server = server(&mut domain, STRICT).await;
    let (one, two) = (server.http, server.grpc);
    let order = client(domain.credentials(ORDER), one, Protocol::Http2, true).await;
    let other = client(domain.credentials(OTHER), one, Protocol::Http1, true).await;
    let items = || Request::get("http://catalog/items");
    // The system has chosen the ports, so their policies come afterwards.
    let file = server.folder.path().join("limits.yaml");
    std::fs::write(file, policies(one.port(), two.port())).unwrap();
    let text = |text: &str| text.to_owned();
    let found = refused(
        async || ask(&other, items()).await,
        (StatusCode::OK, text(OTHER)),
    );
    let limited = (StatusCode::TOO_MANY_REQUESTS, text("local_rate_limited"));
    assert_eq!(found.await, limited);
    for _ in 0..100 {
        let found = ask(&order, items()).await;
        assert_eq!(found, (StatusCode::OK, text(ORDER)), "it has its own");
    }
    let order = client(domain.credentials(ORDER), two, Protocol::Http2, true).await;
    let found = refused(async || check(&order, &[]).await, Ok(1)).await;
    let limited = Err((Code::ResourceExhausted, text("local_rate_limited")));
    assert_eq!(found, limited, "all together");
    assert!(server.mesh.stats().inbound.limited >= 2);
}
