//! TLS as a control plane says it, with the bootstrap's certificate providers, on real sockets.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use envoy_types::pb::envoy::config::cluster::v3 as cluster_wire;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
use envoy_types::pb::envoy::r#type::matcher::v3 as matcher;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use meshwork::inbound::Peer;
use meshwork::model::Resources;
use meshwork::model::endpoint::Address;
use meshwork::model::security::{MutualTls, PeerPolicy};
use meshwork::source::feed;
use meshwork::source::xds::Bootstrap;
use meshwork::tls::Credentials;
use meshwork::transport::{Connect, Connecting, Settings, TcpConnector};
use meshwork::{Body, Error, Mesh};
use tower::service_fn;

use super::calls::get;
use super::messages::{Made, cluster_with, endpoints, listener, packed, routes};
use super::plane::{PORT, Plane};
use crate::mesh::world::World;
use crate::tls::authority::{Authority, Issued, clock, trust};

/// The plane is in memory, endpoints are real and on this machine.
#[derive(Debug)]
pub(super) struct Both(pub(super) World);

impl Connect for Both {
    fn connect(&self, address: &Address, settings: &Settings) -> Connecting {
        match address {
            Address::Socket(real) => {
                let local = SocketAddr::from(([127, 0, 0, 1], real.port()));
                TcpConnector.connect(&Address::Socket(local), settings)
            }
            other => self.0.connect(other, settings),
        }
    }
}

async fn whoami(request: Request<Body>) -> Result<Response<Body>, std::convert::Infallible> {
    let peer = request.extensions().get::<Peer>().cloned();
    let principal = peer.and_then(|peer| peer.principal);
    let text = principal.map_or("nobody".to_owned(), |id| id.to_string());
    Ok(Response::new(Body::from(text)))
}

/// A server that takes mutual TLS only.
pub(super) async fn server(own: Credentials) -> (Mesh, SocketAddr) {
    let resources = Resources {
        peers: PeerPolicy {
            mode: MutualTls::Strict,
            ..PeerPolicy::default()
        },
        ..Resources::default()
    };
    let (_publisher, source) = feed(resources);
    let builder = Mesh::builder().feed(source).identity(own).clock(clock());
    let mesh = builder.start().await.unwrap();
    let listener = mesh.listen("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr();
    tokio::spawn(listener.serve(service_fn(whoami)));
    (mesh, address)
}

fn instance(name: &str) -> Option<tls::CertificateProviderPluginInstance> {
    Some(tls::CertificateProviderPluginInstance {
        instance_name: name.into(),
        certificate_name: String::new(),
    })
}

/// The cluster `c` over TLS, to a server that has one of these names.
fn secured(names: &[&str]) -> Made {
    believing(names, |_| {})
}

/// The same, with another say about who is believed.
fn believing(names: &[&str], change: impl FnOnce(&mut tls::CertificateValidationContext)) -> Made {
    let exact = |name: &&str| matcher::StringMatcher {
        match_pattern: Some(matcher::string_matcher::MatchPattern::Exact((*name).into())),
        ignore_case: false,
    };
    #[allow(deprecated, reason = "the spelling of istiod and gRPC")]
    let mut validation = tls::CertificateValidationContext {
        ca_certificate_provider_instance: instance("roots"),
        match_subject_alt_names: names.iter().map(exact).collect(),
        ..tls::CertificateValidationContext::default()
    };
    change(&mut validation);
    let context = tls::UpstreamTlsContext {
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

pub(super) fn write(folder: &Path, issued: &Issued, roots: &str) {
    fs::write(folder.join("tls.crt"), &issued.chain).unwrap();
    fs::write(folder.join("tls.key"), &issued.key).unwrap();
    fs::write(folder.join("ca.crt"), roots).unwrap();
}

/// A mesh whose bootstrap has two providers over the files of a folder: `own` and `roots`.
pub(super) async fn client(world: &World, folder: &Path) -> Mesh {
    let folder = folder.display();
    let text = format!(
        r#"{{"xds_servers": [{{"server_uri": "plane:{PORT}", "channel_creds": [{{"type": "insecure"}}]}}],
            "certificate_providers": {{
              "own": {{"plugin_name": "file_watcher", "config": {{
                "certificate_file": "{folder}/tls.crt", "private_key_file": "{folder}/tls.key",
                "refresh_interval": "0.02s"}}}},
              "roots": {{"plugin_name": "file_watcher", "config": {{
                "ca_certificate_file": "{folder}/ca.crt", "refresh_interval": "0.02s"}}}}}}}}"#
    );
    Mesh::builder()
        .xds(Bootstrap::from_json(&text).unwrap())
        .connector(Both(world.clone()))
        .clock(clock())
        .start()
        .await
        .unwrap()
}

async fn asked(mesh: &Mesh) -> Result<String, Error> {
    let response = mesh.client().request(get("http://catalog/")).await?;
    let body = response.into_body().collect().await?.to_bytes();
    Ok(String::from_utf8(body.to_vec()).unwrap())
}

const SERVER: &str = "spiffe://td/ns/my-app/sa/catalog";
const CLIENT: &str = "spiffe://td/ns/my-app/sa/order";

#[tokio::test]
async fn c21_certificates_come_from_the_providers_of_the_bootstrap_and_rotate_with_their_files() {
    let mut root = Authority::new("root");
    let own = Credentials::new(Some(root.issue(SERVER).identity()), trust(&root));
    let (_server, address) = server(own).await;
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &root.issue(CLIENT), root.pem());
    let world = World::default();
    let plane = Plane::new(&world);
    plane.put([
        listener("catalog:80", "r"),
        routes("r", &[("c", 1)]),
        secured(&[SERVER]),
        endpoints("c", &[address.port()]),
    ]);
    let mesh = client(&world, folder.path()).await;
    assert_eq!(asked(&mesh).await.unwrap(), CLIENT);
    // The files change, and new connections show the new certificate.
    let other = "spiffe://td/ns/my-app/sa/renamed";
    write(folder.path(), &root.issue(other), root.pem());
    let renewed = tokio::time::timeout(std::time::Duration::from_secs(20), async {
        while asked(&mesh).await.unwrap() != other {
            plane.put([secured(&[SERVER, "spiffe://td/other"])]);
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            plane.put([secured(&[SERVER])]);
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    });
    renewed.await.expect("the new certificate is shown");
}

#[tokio::test]
async fn a_server_of_another_name_or_root_is_not_spoken_to_and_never_in_plain_text() {
    let mut root = Authority::new("root");
    let own = Credentials::new(Some(root.issue(SERVER).identity()), trust(&root));
    let (_server, address) = server(own).await;
    for (row, names, roots) in [
        ("another name", "spiffe://td/other", root.pem().to_owned()),
        (
            "another root",
            SERVER,
            Authority::new("other").pem().to_owned(),
        ),
        ("no root", SERVER, String::new()),
    ] {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &root.issue(CLIENT), &roots);
        let world = World::default();
        let plane = Plane::new(&world);
        plane.put([
            listener("catalog:80", "r"),
            routes("r", &[("c", 1)]),
            secured(&[names]),
            endpoints("c", &[address.port()]),
        ]);
        let mesh = client(&world, folder.path()).await;
        let error = asked(&mesh).await.expect_err(row);
        assert_eq!(error.status().as_u16(), 503, "{row}: {error}");
    }
}

/// Of the system's authorities none has issued the server's certificate, so that the call passes by the
/// roots of the file or not at all.
#[tokio::test]
async fn roots_of_a_file_stand_in_front_of_those_of_the_system() {
    let mut root = Authority::new("root");
    let own = Credentials::new(Some(root.issue(SERVER).identity()), trust(&root));
    let (_server, address) = server(own).await;
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &root.issue(CLIENT), root.pem());
    let file = folder.path().join("ca.crt").display().to_string();
    let world = World::default();
    let plane = Plane::new(&world);
    plane.put([
        listener("catalog:80", "r"),
        routes("r", &[("c", 1)]),
        believing(&[SERVER], |context| {
            context.ca_certificate_provider_instance = None;
            context.trusted_ca = Some(core::DataSource {
                specifier: Some(core::data_source::Specifier::Filename(file)),
                ..core::DataSource::default()
            });
            context.system_root_certs = Some(Default::default());
        }),
        endpoints("c", &[address.port()]),
    ]);
    let mesh = client(&world, folder.path()).await;
    assert_eq!(asked(&mesh).await.unwrap(), CLIENT);
}
