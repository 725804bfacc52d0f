//! TLS of a server: certificates of the bootstrap's providers, and what callers have to show.

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::listener::v3 as listener;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
use envoy_types::pb::envoy::r#type::matcher::v3 as matcher;
use envoy_types::pb::google::protobuf::BoolValue;
use meshwork::inbound::Serving as State;
use meshwork::tls::{Connector, Credentials, Offer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Serving, start_with};
use crate::tls::authority::{Authority, bundle_map, clock, leaf, trust};
use crate::xds::messages::{chain, packed};

/// A server with certificates of a root in files, and callers.
struct Secured {
    serving: Serving,
    root: Authority,
    folder: tempfile::TempDir,
}

/// Real files are held against the real calendar: until 2036.
fn lasting(id: &str) -> rcgen::CertificateParams {
    let mut params = leaf(id);
    params.not_after = rcgen::date_time_ymd(2036, 1, 1);
    params
}

fn instance(name: &str) -> Option<tls::CertificateProviderPluginInstance> {
    Some(tls::CertificateProviderPluginInstance {
        instance_name: name.into(),
        certificate_name: String::new(),
    })
}

impl Secured {
    async fn start() -> Self {
        let mut root = Authority::new("root");
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        let own = root.sign(lasting("spiffe://td/server"));
        std::fs::write(at.join("tls.crt"), &own.chain).unwrap();
        std::fs::write(at.join("tls.key"), &own.key).unwrap();
        std::fs::write(at.join("ca.crt"), root.pem()).unwrap();
        let at = at.display();
        // Two providers: certificate and roots need not come from one.
        let providers = format!(
            r#", "certificate_providers": {{
                "own": {{"plugin_name": "file_watcher", "config": {{
                    "certificate_file": "{at}/tls.crt", "private_key_file": "{at}/tls.key"}}}},
                "roots": {{"plugin_name": "file_watcher", "config": {{
                    "ca_certificate_file": "{at}/ca.crt", "refresh_interval": "1s"}}}},
                "map": {{"plugin_name": "file_watcher", "config": {{
                    "spiffe_trust_bundle_map_file": "{at}/map.json",
                    "ca_certificate_file": "{at}/ca.crt", "refresh_interval": "1s"}}}}}}"#
        );
        Self {
            serving: start_with(&providers).await,
            root,
            folder,
        }
    }

    /// Puts a listener with this TLS in force.
    async fn put(&self, change: impl FnOnce(&mut tls::DownstreamTlsContext)) {
        let mut context = tls::DownstreamTlsContext {
            require_client_certificate: Some(BoolValue { value: true }),
            common_tls_context: Some(tls::CommonTlsContext {
                tls_certificate_provider_instance: instance("own"),
                validation_context_type: Some(
                    tls::common_tls_context::ValidationContextType::ValidationContext(
                        tls::CertificateValidationContext {
                            ca_certificate_provider_instance: instance("roots"),
                            ..tls::CertificateValidationContext::default()
                        },
                    ),
                ),
                ..tls::CommonTlsContext::default()
            }),
            ..tls::DownstreamTlsContext::default()
        };
        change(&mut context);
        self.serving.plane.put([self.serving.listener(|message| {
            message.filter_chains = vec![listener::FilterChain {
                transport_socket: Some(core::TransportSocket {
                    name: "envoy.transport_sockets.tls".into(),
                    config_type: Some(core::transport_socket::ConfigType::TypedConfig(packed(
                        &context,
                    ))),
                }),
                ..chain(Vec::new(), None)
            }];
        })]);
        self.serving.state(|state| *state == State::Serving).await;
    }

    fn caller(&mut self, id: &str) -> Credentials {
        Credentials::new(
            Some(self.root.sign(lasting(id)).identity()),
            trust(&self.root),
        )
    }

    /// The body of an answer on a connection of its own; `None`: not let in.
    async fn call(&self, own: &Credentials) -> Option<String> {
        let mut tls = crate::tls::handshakes::mesh_tls();
        if own.identity().is_none() {
            tls.identity = None;
        }
        let identity = own.identity().is_some().then(|| own.clone());
        let connector = Connector::new(&tls, identity, own.clone(), clock());
        let stream = TcpStream::connect(self.serving.address).await.unwrap();
        let stream = connector.connect(stream, "catalog", Offer::Http1).await;
        let mut stream = stream.ok()?;
        let request = b"GET / HTTP/1.1\r\nhost: catalog\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await.ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok()?;
        let text = String::from_utf8(answer).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        head.starts_with("HTTP/1.1 200").then(|| body.to_owned())
    }
}

#[tokio::test]
async fn a_chain_with_tls_takes_callers_that_its_roots_vouch_for() {
    let mut secured = Secured::start().await;
    secured.put(|_| {}).await;
    let believed = secured.caller("spiffe://td/client");
    let known = secured.call(&believed).await;
    assert_eq!(known.as_deref(), Some("served spiffe://td/client"));
    let mut foreign = Authority::new("other");
    let stranger = foreign.sign(lasting("spiffe://td/client")).identity();
    let stranger = Credentials::new(Some(stranger), trust(&secured.root));
    assert_eq!(secured.call(&stranger).await, None);
    let nobody = Credentials::new(None, trust(&secured.root));
    assert_eq!(secured.call(&nobody).await, None);
    let plain = secured.serving.get("/", "").await;
    assert_eq!(plain, None, "and nobody in plain text");
    // Another root in the same file: the one before is believed no more.
    std::fs::write(secured.folder.path().join("ca.crt"), foreign.pem()).unwrap();
    let replaced = tokio::time::timeout(super::PATIENCE, async {
        while secured.call(&stranger).await.is_none() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    });
    replaced.await.expect("the new roots are in force");
    assert_eq!(secured.call(&believed).await, None);
}

/// gRFC A87.
#[tokio::test]
async fn a12_a_bundle_map_chooses_the_roots_by_the_trust_domain_of_the_caller() {
    let mut secured = Secured::start().await;
    let mut other = Authority::new("other");
    let map = secured.folder.path().join("map.json");
    let put = |text: String| {
        let beside = secured.folder.path().join("map.new");
        std::fs::write(&beside, text).unwrap();
        std::fs::rename(&beside, &map).unwrap();
    };
    // The file of roots, which counts for everybody, is there as well and is not asked.
    let ca = format!("{}{}", secured.root.pem(), other.pem());
    std::fs::write(secured.folder.path().join("ca.crt"), ca).unwrap();
    secured
        .put(|context| {
            let common = context.common_tls_context.as_mut().unwrap();
            let Some(tls::common_tls_context::ValidationContextType::ValidationContext(validation)) =
                &mut common.validation_context_type
            else {
                panic!("it is made above");
            };
            validation.ca_certificate_provider_instance = instance("map");
        })
        .await;
    let server = trust(&secured.root);
    let shown = |by: &mut Authority, id: &str| {
        Credentials::new(Some(by.sign(lasting(id)).identity()), server.clone())
    };
    let own = shown(&mut secured.root, "spiffe://td/client");
    let partner = shown(&mut other, "spiffe://other/client");
    let forged = shown(&mut other, "spiffe://td/client");
    let unlisted = shown(&mut other, "spiffe://third/client");
    let mut params = lasting("spiffe://td/client");
    params.subject_alt_names = vec![crate::tls::authority::dns("client.example")];
    let unnamed = secured.root.sign(params).identity();
    let unnamed = Credentials::new(Some(unnamed), server.clone());
    assert_eq!(
        secured.call(&own).await,
        None,
        "without a map nobody is let in"
    );
    put(bundle_map(&[("td", &secured.root), ("other", &other)]));
    let in_force = tokio::time::timeout(super::PATIENCE, async {
        // Each of them is a handshake on a real socket.
        while secured.call(&own).await.is_none() {}
    });
    in_force.await.expect("the map is in force");
    let called = secured.call(&partner).await;
    assert_eq!(called.as_deref(), Some("served spiffe://other/client"));
    for (row, stranger) in [
        ("another domain's root", &forged),
        ("a domain that is not in the map", &unlisted),
        ("no SPIFFE ID", &unnamed),
    ] {
        assert_eq!(secured.call(stranger).await, None, "{row}");
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_required_is_believed_or_refused_but_never_ignored() {
    let mut secured = Secured::start().await;
    secured
        .put(|context| context.require_client_certificate = None)
        .await;
    let nobody = Credentials::new(None, trust(&secured.root));
    assert_eq!(
        secured.call(&nobody).await.as_deref(),
        Some("served nobody")
    );
    let known = secured.caller("spiffe://td/client");
    let known = secured.call(&known).await;
    assert_eq!(known.as_deref(), Some("served spiffe://td/client"));
    let mut foreign = Authority::new("other");
    let stranger = foreign.sign(lasting("spiffe://td/client")).identity();
    let stranger = Credentials::new(Some(stranger), trust(&secured.root));
    assert_eq!(secured.call(&stranger).await, None);
}

#[tokio::test]
async fn without_roots_nobody_is_asked_for_a_certificate() {
    let mut secured = Secured::start().await;
    secured
        .put(|context| {
            context.require_client_certificate = None;
            if let Some(common) = &mut context.common_tls_context {
                common.validation_context_type = None;
            }
        })
        .await;
    let caller = secured.caller("spiffe://td/client");
    assert_eq!(
        secured.call(&caller).await.as_deref(),
        Some("served nobody")
    );
}

#[tokio::test]
async fn callers_whose_certificates_have_no_name_of_the_list_are_refused() {
    let mut secured = Secured::start().await;
    secured
        .put(|context| {
            let common = context.common_tls_context.as_mut().unwrap();
            let Some(tls::common_tls_context::ValidationContextType::ValidationContext(validation)) =
                &mut common.validation_context_type
            else {
                panic!("it is made above");
            };
            #[allow(deprecated, reason = "gRPC reads the older field")]
            validation.match_subject_alt_names.push(matcher::StringMatcher {
                match_pattern: Some(matcher::string_matcher::MatchPattern::Exact(
                    "spiffe://td/client".into(),
                )),
                ignore_case: false,
            });
        })
        .await;
    let meant = secured.caller("spiffe://td/client");
    assert!(secured.call(&meant).await.is_some());
    let other = secured.caller("spiffe://td/another");
    assert_eq!(secured.call(&other).await, None);
}
