//! Host names of endpoints: what TLS asks for and what requests carry as their authority (gRFC A81, A101).

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3 as cluster_wire;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::endpoint::v3 as endpoint;
use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
use envoy_types::pb::envoy::r#type::matcher::v3 as matcher;
use envoy_types::pb::google::protobuf::{BoolValue, UInt32Value};
use http::{Request, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use meshwork::tls::Credentials;
use meshwork::{Error, Mesh};

use super::calls::get;
use super::messages::{Made, cluster, cluster_with, endpoints_with, listener, packed, routes_with};
use super::plane::{Plane, bootstrap_with, mesh};
use super::security::{client, server, write};
use crate::mesh::world::{World, answer, text};
use crate::tls::authority::{Authority, dns, leaf, trust};

/// What a bootstrap says of a server that it trusts.
const TRUSTED: &str = r#""trusted_xds_server""#;

/// Endpoints at these ports that are known by these names.
fn named(ports: &[u16], names: &[&str]) -> Made {
    endpoints_with("c", &[("here", 0, 1, ports)], |message| {
        let all = message.endpoints[0].lb_endpoints.iter_mut();
        for (one, name) in all.zip(names) {
            use endpoint::lb_endpoint::HostIdentifier;
            if let Some(HostIdentifier::Endpoint(endpoint)) = &mut one.host_identifier {
                endpoint.hostname = (*name).to_owned();
            }
        }
    })
}

/// Everything goes to `c`, by the name of the endpoint.
fn by_name(change: impl FnOnce(&mut route::RouteAction)) -> Made {
    routes_with("r", &[("c", 1)], |message| {
        let route = &mut message.virtual_hosts[0].routes[0];
        if let Some(route::route::Action::Route(action)) = &mut route.action {
            action.host_rewrite_specifier =
                Some(route::route_action::HostRewriteSpecifier::AutoHostRewrite(
                    BoolValue { value: true },
                ));
            change(action);
        }
    })
}

/// What a request was addressed to.
fn authority(request: &Request<Incoming>) -> String {
    let host = request.headers().get(header::HOST);
    let host = host.map(|host| host.to_str().unwrap().to_owned());
    let uri = request.uri().authority().map(ToString::to_string);
    uri.or(host).unwrap_or_default()
}

async fn seen(mesh: &Mesh) -> Result<String, Error> {
    let response = mesh.client().request(get("http://catalog/")).await?;
    let body = response.into_body().collect().await?.to_bytes();
    Ok(String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a81_the_name_of_the_endpoint_is_the_authority_if_the_server_is_trusted() {
    for (row, features, name, expected) in [
        ("named", TRUSTED, "a.example", "a.example"),
        ("with a port", TRUSTED, "a.example:8443", "a.example:8443"),
        ("without a name", TRUSTED, "", "catalog"),
        ("not trusted", "", "a.example", "catalog"),
    ] {
        let world = World::default();
        world.serve(1, |request| {
            let authority = authority(&request);
            async move { text(authority) }
        });
        let plane = Plane::new(&world);
        plane.put([
            listener("catalog:80", "r"),
            by_name(|_| {}),
            cluster("c"),
            named(&[1], &[name]),
        ]);
        let mesh = mesh(&world, bootstrap_with(features)).await;
        assert_eq!(seen(&mesh).await.unwrap(), expected, "{row}");
    }
}

#[tokio::test(start_paused = true)]
async fn names_of_endpoints_are_explained() {
    let world = World::default();
    world.named(1);
    let plane = Plane::new(&world);
    plane.put([
        listener("catalog:80", "r"),
        by_name(|_| {}),
        cluster("c"),
        named(&[1], &["a.example"]),
    ]);
    let mesh = mesh(&world, bootstrap_with(TRUSTED)).await;
    seen(&mesh).await.unwrap();
    let request = Request::get("http://catalog/").body(()).unwrap();
    let told = mesh.explain(&request).to_string();
    for part in [
        "request     authority: the name of the endpoint, if it has one",
        "10.0.0.1:1  weight 1  named a.example",
    ] {
        assert!(told.contains(part), "{part:?} is not in\n{told}");
    }
}

/// The first endpoint of the two fails, whichever it is; the other one is asked by its own name.
#[tokio::test(start_paused = true)]
async fn a81_each_try_is_addressed_to_its_own_endpoint() {
    let world = World::default();
    let count = Arc::new(AtomicUsize::new(0));
    for port in [1, 2] {
        let count = count.clone();
        world.serve(port, move |request| {
            let first = count.fetch_add(1, Ordering::Relaxed) == 0;
            let said = format!("{port} {}", authority(&request));
            async move {
                match first {
                    true => answer(503),
                    false => text(said),
                }
            }
        });
    }
    let plane = Plane::new(&world);
    plane.put([
        listener("catalog:80", "r"),
        by_name(|action| {
            action.retry_policy = Some(route::RetryPolicy {
                retry_on: "5xx".to_owned(),
                num_retries: Some(UInt32Value { value: 1 }),
                retry_host_predicate: vec![route::retry_policy::RetryHostPredicate {
                    name: "envoy.retry_host_predicates.previous_hosts".to_owned(),
                    config_type: None,
                }],
                ..route::RetryPolicy::default()
            });
        }),
        cluster("c"),
        named(&[1, 2], &["one.example", "two.example"]),
    ]);
    let mesh = mesh(&world, bootstrap_with(TRUSTED)).await;
    let said = seen(&mesh).await.unwrap();
    assert_eq!(count.load(Ordering::Relaxed), 2);
    assert!(
        ["1 one.example", "2 two.example"].contains(&said.as_str()),
        "{said}"
    );
}

/// The endpoint stays, and is known by another name.
#[tokio::test(start_paused = true)]
async fn a81_an_edit_of_the_name_alone_comes_into_force() {
    let world = World::default();
    world.serve(1, |request| {
        let authority = authority(&request);
        async move { text(authority) }
    });
    let plane = Plane::new(&world);
    plane.put([
        listener("catalog:80", "r"),
        by_name(|_| {}),
        cluster("c"),
        named(&[1], &["a.example"]),
    ]);
    let mesh = mesh(&world, bootstrap_with(TRUSTED)).await;
    assert_eq!(seen(&mesh).await.unwrap(), "a.example");
    plane.put([named(&[1], &["b.example"])]);
    let renewed = async {
        while seen(&mesh).await.unwrap() != "b.example" {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let renewed = tokio::time::timeout(Duration::from_secs(10), renewed);
    renewed.await.expect("the edit is in force");
}

/// The cluster `c` over TLS to whoever has the name that is asked for, or one of these if there is none.
fn asking(sni: &str, names: &[&str]) -> Made {
    let exact = |name: &&str| matcher::StringMatcher {
        match_pattern: Some(matcher::string_matcher::MatchPattern::Exact((*name).into())),
        ignore_case: false,
    };
    #[allow(deprecated, reason = "the spelling of istiod and gRPC")]
    let context = tls::CertificateValidationContext {
        match_subject_alt_names: names.iter().map(exact).collect(),
        ..tls::CertificateValidationContext::default()
    };
    let instance = |name: &str| {
        Some(tls::CertificateProviderPluginInstance {
            instance_name: name.into(),
            certificate_name: String::new(),
        })
    };
    let validation = tls::CertificateValidationContext {
        ca_certificate_provider_instance: instance("roots"),
        ..context
    };
    let context = tls::UpstreamTlsContext {
        sni: sni.to_owned(),
        auto_host_sni: true,
        auto_sni_san_validation: true,
        common_tls_context: Some(tls::CommonTlsContext {
            tls_certificate_provider_instance: instance("own"),
            validation_context_type: Some(
                tls::common_tls_context::ValidationContextType::ValidationContext(validation),
            ),
            ..tls::CommonTlsContext::default()
        }),
        ..tls::UpstreamTlsContext::default()
    };
    cluster_with("c", |message: &mut cluster_wire::Cluster| {
        message.transport_socket = Some(core::TransportSocket {
            name: "envoy.transport_sockets.tls".into(),
            config_type: Some(core::transport_socket::ConfigType::TypedConfig(packed(
                &context,
            ))),
        });
    })
}

const SERVER: &str = "spiffe://td/ns/my-app/sa/catalog";
const CLIENT: &str = "spiffe://td/ns/my-app/sa/order";

/// A server whose certificate is for this name of DNS too.
async fn server_named(root: &mut Authority, name: &str) -> (Mesh, SocketAddr) {
    let mut params = leaf(SERVER);
    params.subject_alt_names.push(dns(name));
    let own = Credentials::new(Some(root.sign(params).identity()), trust(root));
    server(own).await
}

#[tokio::test]
async fn a101_the_name_of_the_endpoint_is_asked_for_and_checked() {
    let mut root = Authority::new("root");
    let (_server, address) = server_named(&mut root, "a.example").await;
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &root.issue(CLIENT), root.pem());
    for (row, sni, name, believed) in [
        ("its name", "", "a.example", true),
        ("its name, without the port", "", "a.example:443", true),
        ("another name", "", "b.example", false),
        (
            "its name stands before that of the cluster",
            "b.example",
            "a.example",
            true,
        ),
        (
            "another name stands before it too",
            "a.example",
            "b.example",
            false,
        ),
        ("without a name that of the cluster", "a.example", "", true),
        (
            "without any the address, which the certificate has not",
            "",
            "",
            false,
        ),
    ] {
        let plane = [asking(sni, &[]), named(&[address.port()], &[name])];
        believes(plane, folder.path(), (row, believed)).await;
    }
}

/// Asserts whether a client believes a server, as this cluster and its endpoints want it.
async fn believes(plane: [Made; 2], folder: &Path, (row, believed): (&str, bool)) {
    let world = World::default();
    let served = Plane::new(&world);
    served.put([
        listener("catalog:80", "r"),
        routes_with("r", &[("c", 1)], |_| {}),
    ]);
    served.put(plane);
    let mesh = client(&world, folder).await;
    match (seen(&mesh).await, believed) {
        (Ok(told), true) => assert_eq!(told, CLIENT, "{row}"),
        (Err(error), false) => assert_eq!(error.status().as_u16(), 503, "{row}: {error}"),
        (outcome, _) => panic!("{row}: {outcome:?}"),
    }
}

/// Names of certificates stand in where an endpoint has no name to ask for, and nowhere else.
#[tokio::test]
async fn a101_names_of_certificates_are_for_endpoints_without_a_name() {
    let mut root = Authority::new("root");
    let (_server, address) = server_named(&mut root, "a.example").await;
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &root.issue(CLIENT), root.pem());
    let other = "spiffe://td/other";
    for (row, sni, names, name, believed) in [
        ("without a name, one of the names", "", SERVER, "", true),
        ("without a name, none of the names", "", other, "", false),
        (
            "its name, and none of the names",
            "",
            other,
            "a.example",
            true,
        ),
        (
            "another name, and one of the names",
            "",
            SERVER,
            "b.example",
            false,
        ),
        (
            "the name of the cluster stands before them",
            "b.example",
            SERVER,
            "",
            false,
        ),
    ] {
        let plane = [asking(sni, &[names]), named(&[address.port()], &[name])];
        believes(plane, folder.path(), (row, believed)).await;
    }
}

/// Two endpoints of one cluster, each with a certificate for its own name.
#[tokio::test]
async fn a101_each_endpoint_is_asked_for_its_own_name() {
    let mut root = Authority::new("root");
    let (_one, first) = server_named(&mut root, "one.example").await;
    let (_two, second) = server_named(&mut root, "two.example").await;
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &root.issue(CLIENT), root.pem());
    let world = World::default();
    let plane = Plane::new(&world);
    let ports = [first.port(), second.port()];
    plane.put([
        listener("catalog:80", "r"),
        routes_with("r", &[("c", 1)], |_| {}),
        asking("", &[]),
        named(&ports, &["one.example", "two.example"]),
    ]);
    let mesh = client(&world, folder.path()).await;
    for call in 0..4 {
        assert_eq!(seen(&mesh).await.unwrap(), CLIENT, "call {call}");
    }
}
