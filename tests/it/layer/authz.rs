//! `AuthorizationLayer` from outside.

use std::net::SocketAddr;
use std::sync::Arc;

use http::Request;
use meshwork::layer::authz::{AuthorizationLayer, Caller};
use meshwork::model::authorization::{
    Action, Authorization, Condition, External, PathPattern, Policy, Stage,
};
use meshwork::model::matcher::StringMatcher;
use tower::{Layer, ServiceExt};

use super::contract;
use super::strict::Strict;

fn deny(condition: Condition) -> Arc<Authorization> {
    let policy = Policy::new("p", condition);
    Arc::new(Authorization {
        stages: vec![Stage::enforced(Action::Deny, vec![policy])],
        ..Authorization::default()
    })
}

fn admin() -> Condition {
    Condition::Path(PathPattern::Text(StringMatcher::Prefix("/admin".into())))
}

fn get(uri: &str) -> Request<()> {
    Request::get(uri).body(()).unwrap()
}

#[tokio::test]
async fn the_layer_keeps_the_contract() {
    contract::keep(AuthorizationLayer::new(deny(Condition::never()))).await;
}

#[tokio::test]
async fn a_denied_request_is_an_error_that_says_nothing_and_is_not_handed_on() {
    let inner = Strict::status(200, "ok");
    let service = AuthorizationLayer::new(deny(admin())).layer(inner.clone());
    let error = service
        .clone()
        .oneshot(get("http://a/admin/x"))
        .await
        .unwrap_err();
    assert!(error.is_denied() && error.is_unprocessed() && !error.is_ambiguous());
    assert_eq!(error.to_string(), "RBAC: access denied");
    assert_eq!((error.status().as_u16(), error.grpc_status()), (403, 7));
    assert_eq!(inner.calls(), 0);
    assert!(service.oneshot(get("http://a/public")).await.is_ok());
}

#[tokio::test]
async fn an_ambiguous_request_is_refused_before_it_is_judged() {
    let inner = Strict::status(200, "ok");
    let service = AuthorizationLayer::new(deny(admin())).layer(inner.clone());
    for uri in ["http://a/x/../admin", "http://a//admin", "/admin"] {
        let error = service.clone().oneshot(get(uri)).await.unwrap_err();
        assert!(error.is_ambiguous() && error.is_unprocessed(), "{uri}");
        assert_eq!((error.status().as_u16(), error.grpc_status()), (400, 13));
    }
    assert_eq!(inner.calls(), 0);
}

#[tokio::test]
async fn the_caller_is_who_the_server_says() {
    let from_ten = Condition::SourceIp("10.0.0.0/8".parse().unwrap());
    let layer = AuthorizationLayer::new(deny(from_ten)).caller(|extensions| Caller {
        source: extensions.get::<SocketAddr>().map(SocketAddr::ip),
        ..Caller::default()
    });
    for (from, passes) in [("10.0.0.1:1", false), ("11.0.0.1:1", true)] {
        let mut request = get("http://a/");
        let from: SocketAddr = from.parse().unwrap();
        request.extensions_mut().insert(from);
        let service = layer.layer(Strict::status(200, "ok"));
        assert_eq!(service.oneshot(request).await.is_ok(), passes, "{from}");
    }
}

#[tokio::test]
async fn what_somebody_else_should_decide_about_is_denied_without_them() {
    let policies = Authorization {
        external: vec![External {
            provider: "elsewhere".into(),
            policies: vec![Policy::new("p", admin())],
        }],
        ..Authorization::default()
    };
    let layer = AuthorizationLayer::new(Arc::new(policies));
    let send = async |uri| {
        let service = layer.layer(Strict::status(200, "ok"));
        service.oneshot(get(uri)).await
    };
    assert!(send("http://a/admin").await.unwrap_err().is_denied());
    assert!(send("http://a/public").await.is_ok());
}
