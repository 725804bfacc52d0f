//! Certificates that a control plane sends (SDS), on both sides of a connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::listener::v3 as listener;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
use envoy_types::pb::google::protobuf::BoolValue;
use http_body_util::BodyExt as _;
use meshwork::inbound::Serving as State;
use meshwork::source::xds::Kind;
use meshwork::{Error, Mesh};

use super::{PATIENCE, start};
use crate::mesh::world::World;
use crate::tls::authority::{Authority, Issued, leaf};
use crate::xds::calls::get;
use crate::xds::messages::{self, Made, ads, chain, cluster_with, endpoints, packed, routes};
use crate::xds::plane::{Plane, bootstrap};
use crate::xds::security::Both;

/// Held against the real calendar: until 2036.
fn issued(root: &mut Authority, id: &str) -> Issued {
    let mut params = leaf(id);
    params.not_after = rcgen::date_time_ymd(2036, 1, 1);
    root.sign(params)
}

fn inline(text: &str) -> Option<core::DataSource> {
    Some(core::DataSource {
        specifier: Some(core::data_source::Specifier::InlineString(text.to_owned())),
        ..core::DataSource::default()
    })
}

fn secret(name: &str, kind: tls::secret::Type) -> Made {
    let message = tls::Secret {
        name: name.into(),
        r#type: Some(kind),
    };
    Made {
        kind: Kind::Secret,
        name: name.into(),
        any: packed(&message),
    }
}

fn own(name: &str, issued: &Issued) -> Made {
    let certificate = tls::TlsCertificate {
        certificate_chain: inline(&issued.chain),
        private_key: inline(&issued.key),
        ..tls::TlsCertificate::default()
    };
    secret(name, tls::secret::Type::TlsCertificate(certificate))
}

fn roots(name: &str, pem: &str) -> Made {
    let context = tls::CertificateValidationContext {
        trusted_ca: inline(pem),
        ..tls::CertificateValidationContext::default()
    };
    secret(name, tls::secret::Type::ValidationContext(context))
}

/// Takes both from secrets.
fn context(name: &str) -> tls::CommonTlsContext {
    use tls::common_tls_context::ValidationContextType;
    let config = |name: &str| tls::SdsSecretConfig {
        name: name.into(),
        sds_config: Some(ads()),
    };
    tls::CommonTlsContext {
        tls_certificate_sds_secret_configs: vec![config(name)],
        validation_context_type: Some(ValidationContextType::ValidationContextSdsSecretConfig(
            config("roots"),
        )),
        ..tls::CommonTlsContext::default()
    }
}

fn socket(message: &impl prost::Name) -> Option<core::TransportSocket> {
    Some(core::TransportSocket {
        name: "envoy.transport_sockets.tls".into(),
        config_type: Some(core::transport_socket::ConfigType::TypedConfig(packed(
            message,
        ))),
    })
}

async fn asked(mesh: &Mesh) -> Result<String, Error> {
    let response = mesh.client().request(get("http://catalog/")).await?;
    let body = response.into_body().collect().await?.to_bytes();
    Ok(String::from_utf8_lossy(&body).into_owned())
}

/// A server and a client whose certificates are secrets of their control planes.
#[tokio::test]
async fn secrets_rotate_on_both_sides_without_a_lost_request() {
    let mut root = Authority::new("root");
    let serving = start().await;
    let downstream = tls::DownstreamTlsContext {
        common_tls_context: Some(context("server")),
        require_client_certificate: Some(BoolValue { value: true }),
        ..tls::DownstreamTlsContext::default()
    };
    serving.plane.put([serving.listener(|message| {
        message.filter_chains = vec![listener::FilterChain {
            transport_socket: socket(&downstream),
            ..chain(Vec::new(), None)
        }];
    })]);
    // The listener waits for the secrets that it names.
    serving.not_serving("secret \"").await;
    let server = issued(&mut root, "spiffe://td/server");
    serving
        .plane
        .put([own("server", &server), roots("roots", root.pem())]);
    serving.state(|state| *state == State::Serving).await;

    let world = World::default();
    let plane = Plane::new(&world);
    let upstream = tls::UpstreamTlsContext {
        common_tls_context: Some(context("client")),
        ..tls::UpstreamTlsContext::default()
    };
    plane.put([
        own("client", &issued(&mut root, "spiffe://td/client-0")),
        roots("roots", root.pem()),
        messages::listener("catalog:80", "r"),
        routes("r", &[("c", 1)]),
        cluster_with("c", |message| message.transport_socket = socket(&upstream)),
        endpoints("c", &[serving.address.port()]),
    ]);
    let mesh = Mesh::builder().xds(bootstrap()).connector(Both(world));
    let mesh = mesh.start().await.unwrap();
    assert_eq!(asked(&mesh).await.unwrap(), "served spiffe://td/client-0");
    let (over, answered) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let caller = tokio::spawn({
        let (mesh, over, answered) = (mesh.clone(), over.clone(), answered.clone());
        async move {
            while !over.load(SeqCst) {
                asked(&mesh).await.expect("no request is lost");
                answered.fetch_add(1, SeqCst);
            }
        }
    });
    for number in 1..=20 {
        let id = format!("spiffe://td/client-{number}");
        plane.put([own("client", &issued(&mut root, &id))]);
        let seen = tokio::time::timeout(PATIENCE, async {
            // A server that shows another certificate has its connections replaced, which show the
            // client's new one if that has arrived.
            while asked(&mesh).await.unwrap() != format!("served {id}") {
                let server = issued(&mut root, "spiffe://td/server");
                serving.plane.put([own("server", &server)]);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        seen.await.expect("the new certificate is shown");
    }
    over.store(true, SeqCst);
    caller.await.unwrap();
    assert!(answered.load(SeqCst) > 0);
    // A key is nowhere in what is told.
    let dump = format!("{:?} {:?}", mesh.xds(), serving.mesh.xds());
    let key = server.key.lines().nth(1).unwrap();
    assert!(dump.contains("server") && !dump.contains(key) && !dump.contains("PRIVATE KEY"));
}

#[tokio::test]
async fn a_refused_secret_leaves_the_one_before_in_force() {
    let mut root = Authority::new("root");
    let serving = start().await;
    let downstream = tls::DownstreamTlsContext {
        common_tls_context: Some(context("server")),
        ..tls::DownstreamTlsContext::default()
    };
    let server = issued(&mut root, "spiffe://td/server");
    serving
        .plane
        .put([own("server", &server), roots("roots", root.pem())]);
    serving.plane.put([serving.listener(|message| {
        message.filter_chains = vec![listener::FilterChain {
            transport_socket: socket(&downstream),
            ..chain(Vec::new(), None)
        }];
    })]);
    serving.state(|state| *state == State::Serving).await;
    serving.plane.asked();
    // The key of another certificate.
    let torn = Issued {
        chain: server.chain.clone(),
        ..issued(&mut root, "spiffe://td/server")
    };
    serving.plane.put([own("server", &torn)]);
    let refusal = tokio::time::timeout(PATIENCE, serving.plane.refusal());
    let refusal = refusal.await.expect("it is refused");
    assert!(
        refusal.contains("does not belong to the first certificate"),
        "{refusal}"
    );
    assert!(
        !refusal.contains(torn.key.lines().nth(1).unwrap()),
        "{refusal}"
    );
    serving.state(|state| *state == State::Serving).await;
}
