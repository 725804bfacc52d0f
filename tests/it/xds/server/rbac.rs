//! RBAC on a server, and what streams learn of it.

use std::collections::HashMap;

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::rbac::v3 as rbac;
use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::envoy::extensions::filters::http::rbac::v3 as rbac_filter;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::envoy::r#type::matcher::v3 as matcher;
use envoy_types::pb::envoy::r#type::v3 as percent;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::{PATIENCE, Serving, start, start_built, start_under};
use crate::xds::custom::{Tempt, tempted};
use crate::xds::messages::{chain, filter, packed, served};

/// An RBAC filter of which one policy says who may do what.
fn rules(action: i32, permission: rbac::permission::Rule) -> rbac_filter::Rbac {
    rbac_filter::Rbac {
        rules: Some(rbac::Rbac {
            action,
            policies: HashMap::from([(
                "policy".to_owned(),
                rbac::Policy {
                    permissions: vec![rbac::Permission {
                        rule: Some(permission),
                    }],
                    principals: vec![rbac::Principal {
                        identifier: Some(rbac::principal::Identifier::Any(true)),
                    }],
                    ..rbac::Policy::default()
                },
            )]),
            ..rbac::Rbac::default()
        }),
        ..rbac_filter::Rbac::default()
    }
}

fn path(prefix: &str) -> rbac::permission::Rule {
    rbac::permission::Rule::UrlPath(matcher::PathMatcher {
        rule: Some(matcher::path_matcher::Rule::Path(matcher::StringMatcher {
            match_pattern: Some(matcher::string_matcher::MatchPattern::Prefix(prefix.into())),
            ignore_case: false,
        })),
    })
}

fn header(name: &str, value: &str) -> rbac::permission::Rule {
    use route::header_matcher::HeaderMatchSpecifier;
    rbac::permission::Rule::Header(route::HeaderMatcher {
        name: name.into(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(matcher::StringMatcher {
            match_pattern: Some(matcher::string_matcher::MatchPattern::Exact(value.into())),
            ignore_case: false,
        })),
        ..route::HeaderMatcher::default()
    })
}

#[tokio::test]
async fn every_rbac_filter_of_the_chain_is_asked_and_routes_override_them_by_name() {
    let serving = start().await;
    let filters: Vec<hcm::HttpFilter> = vec![
        filter("allow", &rules(0, path("/a"))),
        filter("deny", &rules(1, header("x-evil", "yes"))),
    ];
    serving.plane.put([serving.listener(|message| {
        message.filter_chains = vec![chain(filters, Some("served"))];
    })]);
    serving
        .plane
        .put([served(&["/a/free", "/a", "/b"], |message| {
            let none = packed(&rbac_filter::RbacPerRoute::default());
            let route = &mut message.virtual_hosts[0].routes[0];
            route.typed_per_filter_config = HashMap::from([("deny".to_owned(), none)]);
        })]);
    serving.until("/a", Some(200)).await;
    let evil = "x-evil: yes\r\n";
    for (path, headers, expected) in [
        ("/a", "", 200),
        ("/a", evil, 403),
        ("/a/free", evil, 200),
        ("/b", "", 403),
        // Filters are asked before it is said that no route takes it.
        ("/c", "", 403),
        ("/a%2fb", "", 400),
    ] {
        assert_eq!(
            serving.get(path, headers).await,
            Some(expected),
            "{path} {headers}"
        );
    }
}

/// What picks its cluster in a way that nobody knows here.
fn unknown() -> Option<route::route::Action> {
    use route::route_action::ClusterSpecifier;
    Some(route::route::Action::Route(route::RouteAction {
        cluster_specifier: Some(ClusterSpecifier::ClusterHeader("x-cluster".into())),
        ..route::RouteAction::default()
    }))
}

#[tokio::test]
async fn a_route_whose_action_is_unknown_keeps_its_requests_from_the_routes_behind_it() {
    let serving = start().await;
    let filters = vec![filter("deny", &rules(1, header("x-evil", "yes")))];
    serving.plane.put([serving.listener(|message| {
        message.filter_chains = vec![chain(filters, Some("served"))];
    })]);
    serving
        .plane
        .put([served(&["/locked", "/admin", "/"], |message| {
            let routes = &mut message.virtual_hosts[0].routes;
            routes[0].action = unknown();
            let all = rbac_filter::RbacPerRoute {
                rbac: Some(rules(1, path("/"))),
            };
            routes[0].typed_per_filter_config = HashMap::from([("deny".to_owned(), packed(&all))]);
            routes[1].action = unknown();
        })]);
    serving.until("/items", Some(200)).await;
    // What it says of filters counts, and what they let pass is not served.
    assert_eq!(serving.get("/locked", "").await, Some(403));
    assert_eq!(serving.get("/admin", "").await, Some(503));
    assert_eq!(serving.get("/admin", "x-evil: yes\r\n").await, Some(403));
    assert_eq!(serving.get("/items", "").await, Some(200));
}

#[tokio::test]
async fn c23_a_refused_policy_leaves_the_one_before_in_force_and_a_first_one_lets_nobody_in() {
    let good = |serving: &Serving| {
        serving.listener(|message| message.filter_chains = vec![chain(Vec::new(), None)])
    };
    let bad = |serving: &Serving| {
        let unknown = filter("allow", &rules(0, header("grpc-timeout", "1S")));
        serving.listener(|message| message.filter_chains = vec![chain(vec![unknown], None)])
    };
    let refused = async |serving: &Serving| {
        let refusal = tokio::time::timeout(PATIENCE, serving.plane.refusal());
        let refusal = refusal.await.unwrap();
        assert!(refusal.contains("may not be matched by RBAC"), "{refusal}");
    };
    let serving = start_under("", "", |builder| builder).await;
    serving.plane.put([good(&serving)]);
    serving.until("/", Some(200)).await;
    serving.plane.asked();
    serving.plane.put([bad(&serving)]);
    refused(&serving).await;
    assert_eq!(serving.get("/", "").await, Some(200));

    let first = start_under("", "", |builder| builder).await;
    first.plane.put([bad(&first)]);
    refused(&first).await;
    assert_eq!(first.get("/", "").await, None, "there is no good one yet");
    first.plane.put([good(&first)]);
    first.until("/", Some(200)).await;
}

#[tokio::test]
async fn c24_a_stream_ends_when_its_route_denies_it_and_the_connection_stays() {
    let serving = start().await;
    let filters = vec![filter("deny", &rules(1, header("x-evil", "yes")))];
    serving.plane.put([serving.listener(|message| {
        message.filter_chains = vec![chain(filters, Some("served"))];
    })]);
    serving.plane.put([served(&["/"], |_| {})]);
    serving.until("/", Some(200)).await;
    let open = async || {
        let mut stream = TcpStream::connect(serving.address).await.unwrap();
        let request = b"GET /endless HTTP/1.1\r\nhost: catalog\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"begun\r\n") {
            seen.push(stream.read_u8().await.unwrap());
        }
        stream
    };
    let mut denied = open().await;
    // Only the routes change: the listener and its connections are the same.
    serving.plane.put([served(&["/"], |message| {
        let all = rbac_filter::RbacPerRoute {
            rbac: Some(rules(1, path("/endless"))),
        };
        let route = &mut message.virtual_hosts[0].routes[0];
        route.typed_per_filter_config = HashMap::from([("deny".to_owned(), packed(&all))]);
    })]);
    let ended = tokio::time::timeout(PATIENCE, async {
        let mut rest = Vec::new();
        let _ = denied.read_to_end(&mut rest).await;
        rest
    });
    let rest = ended.await.expect("it ends");
    // Without its last chunk: broken off, not complete.
    assert!(!rest.ends_with(b"0\r\n\r\n"), "{rest:?}");
    assert_eq!(serving.mesh.stats().inbound.cut, 1);
    assert_eq!(serving.get("/", "").await, Some(200));
    assert_eq!(serving.get("/endless", "").await, Some(403));
}

/// A request whose body comes back piece by piece.
struct Echo(TcpStream);

impl Echo {
    /// Its status and the request, which has begun.
    async fn open(serving: &Serving) -> (u16, Self) {
        let mut stream = TcpStream::connect(serving.address).await.unwrap();
        let head = b"POST /echo HTTP/1.1\r\nhost: catalog\r\ntransfer-encoding: chunked\r\n\r\n";
        stream.write_all(head).await.unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"\r\n\r\n") {
            seen.push(stream.read_u8().await.unwrap());
        }
        let text = String::from_utf8(seen).unwrap();
        (
            text.split(' ').nth(1).unwrap().parse().unwrap(),
            Self(stream),
        )
    }

    /// Whether a piece comes back; if not, the stream has ended.
    async fn goes_on(&mut self) -> bool {
        let piece = b"5\r\npiece\r\n";
        if self.0.write_all(piece).await.is_err() {
            return false;
        }
        let mut back = vec![0; piece.len()];
        let read = tokio::time::timeout(PATIENCE, self.0.read_exact(&mut back));
        read.await.expect("an end or a piece").is_ok() && back == piece
    }
}

#[tokio::test]
async fn c24_a_stream_is_judged_again_by_the_head_that_was_judged_at_first() {
    let serving = start_built("", |builder| builder.filter(Tempt)).await;
    let filters = vec![
        filter("deny", &rules(1, header("x-evil", "yes"))),
        tempted("x-evil", "yes"),
    ];
    serving.plane.put([serving.listener(|message| {
        message.filter_chains = vec![chain(filters, Some("served"))];
    })]);
    serving.plane.put([served(&["/"], |_| {})]);
    serving.until("/", Some(200)).await;
    // The filter writes the header for the handler: the caller has not.
    let (status, mut stream) = Echo::open(&serving).await;
    assert_eq!(status, 200);
    assert!(stream.goes_on().await);
    serving.plane.put([served(&["/items", "/echo"], |_| {})]);
    serving.until("/", Some(503)).await;
    assert!(stream.goes_on().await, "nothing has changed for it");
    serving.plane.put([served(&["/echo"], |message| {
        let all = rbac_filter::RbacPerRoute {
            rbac: Some(rules(1, path("/echo"))),
        };
        let route = &mut message.virtual_hosts[0].routes[0];
        route.typed_per_filter_config = HashMap::from([("deny".to_owned(), packed(&all))]);
    })]);
    serving.until("/echo", Some(403)).await;
    assert!(!stream.goes_on().await, "its route denies it");
}

#[tokio::test]
async fn c24_a_stream_keeps_the_share_of_the_route_that_it_drew() {
    let serving = start().await;
    let filters = vec![filter("deny", &rules(1, header("x-evil", "yes")))];
    serving.plane.put([serving.listener(|message| {
        message.filter_chains = vec![chain(filters, Some("served"))];
    })]);
    // Half of the requests are denied, by a route of their own.
    let edition = |number: usize| {
        let own = format!("/{number}");
        served(&["/echo", "/echo", &own], |message| {
            let route = &mut message.virtual_hosts[0].routes[0];
            let share = percent::FractionalPercent {
                numerator: 50,
                denominator: 0,
            };
            let matched = route.r#match.as_mut().unwrap();
            matched.runtime_fraction = Some(core::RuntimeFractionalPercent {
                default_value: Some(share),
                runtime_key: String::new(),
            });
            let all = rbac_filter::RbacPerRoute {
                rbac: Some(rules(1, path("/echo"))),
            };
            route.typed_per_filter_config = HashMap::from([("deny".to_owned(), packed(&all))]);
        })
    };
    serving.plane.put([edition(0)]);
    serving.until("/0", Some(200)).await;
    let mut streams = Vec::new();
    while streams.len() < 4 {
        let (status, stream) = Echo::open(&serving).await;
        if status == 200 {
            streams.push(stream);
        }
    }
    for number in 1..=10 {
        serving.plane.put([edition(number)]);
        serving.until(&format!("/{number}"), Some(200)).await;
        for stream in &mut streams {
            assert!(stream.goes_on().await, "edition {number}");
        }
    }
}
