//! The layer around a service; how it keeps tower's contract is told in `tests/it/layer`.

use std::convert::Infallible;
use std::sync::Arc;

use tower::{Layer, ServiceExt, service_fn};

use super::*;

#[tokio::test]
async fn who_is_not_allowed_or_is_for_somebody_else_to_decide_about_does_not_pass_the_layer() {
    let admin = || path(exact("/admin"));
    let elsewhere = Authorization {
        external: vec![External {
            provider: "elsewhere".into(),
            policies: vec![Policy::new("p", admin())],
        }],
        ..Authorization::default()
    };
    let closed = Authorization {
        external: elsewhere.external.clone(),
        ..Authorization::closed()
    };
    for (row, policies, target, passes) in [
        ("allowed", one(Action::Allow, admin()), "/admin", true),
        ("not allowed", one(Action::Allow, admin()), "/public", false),
        ("denied", one(Action::Deny, admin()), "/admin", false),
        ("not denied", one(Action::Deny, admin()), "/public", true),
        ("asked about", elsewhere.clone(), "/admin", false),
        ("not asked about", elsewhere, "/public", true),
        ("neither", closed, "/admin", false),
    ] {
        let layer = AuthorizationLayer::new(Arc::new(policies));
        let service = layer.layer(service_fn(async |_| Ok::<_, Infallible>("passed")));
        let found = service
            .oneshot(request(&format!("http://catalog{target}")))
            .await;
        match found {
            Ok(answer) => assert!(passes && answer == "passed", "{row}"),
            Err(error) => assert!(!passes && error.is_denied(), "{row}: {error}"),
        }
    }
}

#[tokio::test]
async fn readiness_is_that_of_the_inner_service_and_so_is_its_error() {
    let layer = AuthorizationLayer::new(Arc::default());
    let (mut service, mut inner) = tower_test::mock::spawn_layer::<Request<()>, (), _>(layer);
    inner.allow(0);
    assert!(service.poll_ready().is_pending());
    inner.send_error("gone");
    let error = match service.poll_ready() {
        std::task::Poll::Ready(Err(error)) => error,
        other => panic!("{other:?}"),
    };
    assert!(!error.is_denied() && !error.is_ambiguous(), "{error}");
}

#[test]
fn the_layer_shows_its_policies_and_the_service_what_it_protects() {
    let layer = AuthorizationLayer::new(Arc::new(one(Action::Deny, path(exact("/admin")))));
    let shown = format!("{layer:?}");
    assert!(
        shown.starts_with("AuthorizationLayer") && shown.contains("/admin"),
        "{shown}"
    );
    let shown = format!("{:?}", layer.layer("the inner one"));
    assert!(
        shown.starts_with("Authorized") && shown.contains("the inner one"),
        "{shown}"
    );
}
