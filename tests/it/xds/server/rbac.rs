//! RBAC on a server, and what streams learn of it.

use std::collections::HashMap;

use envoy_types::pb::envoy::config::rbac::v3 as rbac;
use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::envoy::extensions::filters::http::rbac::v3 as rbac_filter;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::envoy::r#type::matcher::v3 as matcher;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::{PATIENCE, start};
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

#[tokio::test]
async fn a_refused_listener_leaves_the_one_before_in_force() {
    let serving = start().await;
    serving.plane.put([serving.listener(|message| {
        message.filter_chains = vec![chain(Vec::new(), None)];
    })]);
    serving.until("/", Some(200)).await;
    serving.plane.asked();
    let bad = filter("allow", &rules(0, header("grpc-timeout", "1S")));
    serving.plane.put([serving.listener(|message| {
        message.filter_chains = vec![chain(vec![bad], None)];
    })]);
    let refusal = tokio::time::timeout(PATIENCE, serving.plane.refusal());
    let refusal = refusal.await.unwrap();
    assert!(refusal.contains("may not be matched by RBAC"), "{refusal}");
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
