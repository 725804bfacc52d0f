//! Sessions against their definition: a caller that brings its cookie is served where it was served
//! before, for as long as that endpoint is there.

use std::collections::BTreeSet;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::{COOKIE, SET_COOKIE};
use http_body_util::BodyExt;
use meshwork::Mesh;
use meshwork::model::Resources;
use meshwork::model::affinity::{Session, SessionCookie, SessionKey};
use meshwork::model::cluster::Protocol;
use meshwork::model::matcher::RouteMatcher;
use proptest::prelude::*;

use super::world::{Plan, World, cluster, forward, get, route, weighted};

/// What happens between and in calls.
#[derive(Clone, Debug)]
enum Step {
    /// The endpoint comes, or goes if it is there.
    Flip(u16),
    /// The caller of that number calls, with its cookie if it has one.
    Call(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        1 => (1_u16..=6).prop_map(Step::Flip),
        4 => (0_usize..4).prop_map(Step::Call),
    ];
    prop::collection::vec(step, 1..40)
}

/// Two clusters of three endpoints each, as far as they are there.
fn plan(ports: &BTreeSet<u16>, strict: bool) -> Resources {
    let mut all = forward(weighted(&[("v1", 50), ("v2", 50)]));
    let cookie = SessionCookie {
        cookie: "at".into(),
        path: None,
        ttl: Duration::ZERO,
    };
    all.affinity.session = Some(Session {
        key: SessionKey::Cookie(cookie),
        strict,
    });
    let of = |first: u16| -> Vec<u16> {
        let range = first..first + 3;
        ports
            .iter()
            .copied()
            .filter(|port| range.contains(port))
            .collect()
    };
    Plan::default()
        .cluster(cluster("v1", Protocol::Http1), &of(1))
        .cluster(cluster("v2", Protocol::Http1), &of(4))
        .host(
            "catalog",
            vec![route("all", RouteMatcher::everything(), all)],
        )
        .build()
}

/// Status, body and the cookie that was made.
async fn send(mesh: &Mesh, cookie: Option<&str>) -> (u16, String, Option<String>) {
    let mut request = get("http://catalog/");
    if let Some(cookie) = cookie {
        request
            .headers_mut()
            .insert(COOKIE, cookie.parse().unwrap());
    }
    let response = mesh.channel("catalog").unwrap();
    let response = tower::ServiceExt::oneshot(response, request).await.unwrap();
    let status = response.status().as_u16();
    let made = response.headers().get(SET_COOKIE).map(|made| {
        let text = made.to_str().unwrap();
        text.split(';').next().unwrap().to_owned()
    });
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap(), made)
}

async fn hold(steps: Vec<Step>, strict: bool) {
    let world = World::default();
    (1..=6).for_each(|port| world.named(port));
    let mut there: BTreeSet<u16> = (1..=6).collect();
    let (mesh, publisher) = world.mesh(plan(&there, strict)).await;
    // The cookie of each caller, and where it leads.
    let mut callers: [Option<(String, u16)>; 4] = Default::default();
    for step in steps {
        let caller = match step {
            Step::Flip(port) => {
                if !there.remove(&port) {
                    there.insert(port);
                }
                publisher.publish(plan(&there, strict)).await.unwrap();
                continue;
            }
            Step::Call(caller) => &mut callers[caller],
        };
        let known = caller.clone().filter(|(_, port)| there.contains(port));
        let cookie = caller.as_ref().map(|(cookie, _)| cookie.as_str());
        let (status, body, made) = send(&mesh, cookie).await;
        if let Some((_, port)) = known {
            assert_eq!((status, body, made), (200, port.to_string(), None));
        } else if strict && cookie.is_some() {
            assert_eq!((status, made), (503, None), "the endpoint is gone");
        } else if status == 200 {
            let port: u16 = body.parse().unwrap();
            assert!(there.contains(&port), "{port} of {there:?}");
            *caller = Some((made.expect("a new session has a cookie"), port));
        } else {
            // The draw fell on a cluster without endpoints.
            assert_eq!((status, made), (503, None));
            let empty = [1, 4].map(|first| there.range(first..first + 3).next().is_none());
            assert!(empty.contains(&true), "{there:?}");
        }
    }
}

proptest! {
    #![proptest_config(crate::properties(24))]

    #[test]
    fn a_caller_with_a_cookie_is_served_by_its_endpoint_while_that_is_there(
        steps in steps(),
        strict in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().start_paused(true).build().unwrap();
        runtime.block_on(hold(steps, strict));
    }
}

/// Envoy's `strict`: where the endpoint of a session is out, or its cluster is none of the route's, the
/// request fails; one without a session is balanced.
#[tokio::test(start_paused = true)]
async fn a_strict_session_goes_nowhere_else() {
    let world = World::default();
    (1..=6).for_each(|port| world.named(port));
    let all: BTreeSet<u16> = (1..=6).collect();
    let (mesh, publisher) = world.mesh(plan(&all, true)).await;
    let (status, body, made) = send(&mesh, None).await;
    let (cookie, port) = (made.unwrap(), body.parse::<u16>().unwrap());
    assert_eq!(status, 200);
    assert_eq!(send(&mesh, Some(&cookie)).await, (200, body, None));
    let value = |text: &str| format!("at={}", BASE64_STANDARD.encode(text));
    for lost in ["10.0.0.1:9;v1", "10.0.0.1:1;other"] {
        let (status, _, made) = send(&mesh, Some(&value(lost))).await;
        assert_eq!((status, made), (503, None), "{lost}");
    }
    let error = mesh.client().request({
        let mut request = get("http://catalog/");
        let lost = value("10.0.0.1:9;v1").parse().unwrap();
        request.headers_mut().insert(COOKIE, lost);
        request
    });
    assert!(error.await.unwrap_err().is_no_endpoint());
    // What is no session at all is one of nobody.
    assert_eq!(send(&mesh, Some("at=nonsense")).await.0, 200);
    let mut fewer = all.clone();
    fewer.remove(&port);
    publisher.publish(plan(&fewer, true)).await.unwrap();
    assert_eq!(send(&mesh, Some(&cookie)).await.0, 503);
    publisher.publish(plan(&fewer, false)).await.unwrap();
    assert_eq!(send(&mesh, Some(&cookie)).await.0, 200);
}
