//! How connections are secured.

use prost::Message;
use std::collections::HashMap;

use super::clusters::{cluster_refused, good_cluster};
use super::decode;
use crate::source::xds::Kind;
use crate::source::xds::extra::any;
use crate::source::xds::proto::{Any, cluster, core, matcher, raw_buffer, router, tls};

pub(super) fn provider(name: &str) -> Option<tls::CertificateProviderPluginInstance> {
    Some(tls::CertificateProviderPluginInstance {
        instance_name: name.to_owned(),
        certificate_name: "default".to_owned(),
    })
}

pub(super) fn trusting(context: tls::CertificateValidationContext) -> tls::UpstreamTlsContext {
    use tls::common_tls_context::ValidationContextType as Validation;
    tls::UpstreamTlsContext {
        common_tls_context: Some(tls::CommonTlsContext {
            tls_certificate_provider_instance: provider("default"),
            validation_context_type: Some(Validation::ValidationContext(context)),
            ..Default::default()
        }),
        ..Default::default()
    }
}

pub(super) fn good_trust() -> tls::CertificateValidationContext {
    tls::CertificateValidationContext {
        ca_certificate_provider_instance: provider("default"),
        ..Default::default()
    }
}

pub(super) fn socket(config: Any) -> Option<core::TransportSocket> {
    Some(core::TransportSocket {
        name: "envoy.transport_sockets.tls".to_owned(),
        config_type: Some(core::transport_socket::ConfigType::TypedConfig(config)),
    })
}

#[track_caller]
pub(super) fn tls_refused(context: &tls::UpstreamTlsContext, expected: &str) {
    let expected = format!("transport_socket.typed_config{expected}");
    cluster_refused(|c| c.transport_socket = socket(any(context)), &expected);
}

#[track_caller]
pub(super) fn trust_refused(
    change: impl FnOnce(&mut tls::CertificateValidationContext),
    expected: &str,
) {
    let mut trust = good_trust();
    change(&mut trust);
    let expected = format!(".common_tls_context.validation_context{expected}");
    tls_refused(&trusting(trust), &expected);
}

/// All of these at once, each below the common context.
#[track_caller]
pub(super) fn refused_in_all(context: &tls::UpstreamTlsContext, expected: &[&str]) {
    for one in expected {
        tls_refused(context, &format!(".common_tls_context{one}"));
    }
}

pub(super) fn good_cluster_with(change: impl FnOnce(&mut cluster::Cluster)) -> cluster::Cluster {
    let mut cluster = good_cluster();
    change(&mut cluster);
    cluster
}

/// Texts by their keys.
pub(super) fn texts(entries: &[(&str, &str)]) -> envoy_types::pb::google::protobuf::Struct {
    use envoy_types::pb::google::protobuf::{Struct, Value, value::Kind};
    let value = |text: &str| Value {
        kind: Some(Kind::StringValue(text.to_owned())),
    };
    let entries = entries.iter();
    Struct {
        fields: entries
            .map(|(key, text)| ((*key).to_owned(), value(text)))
            .collect(),
    }
}

#[test]
fn d8_security_that_is_refused() {
    let empty = tls::UpstreamTlsContext::default();
    tls_refused(&empty, ".common_tls_context: is missing");
    let mut nobody = trusting(good_trust());
    nobody
        .common_tls_context
        .as_mut()
        .unwrap()
        .validation_context_type = None;
    tls_refused(
        &nobody,
        ".common_tls_context.validation_context: is missing",
    );
    let mut params = trusting(good_trust());
    params.common_tls_context.as_mut().unwrap().tls_params = Some(Default::default());
    tls_refused(&params, ".common_tls_context.tls_params: is not supported");
    let mut unknown = trusting(good_trust());
    unknown
        .common_tls_context
        .as_mut()
        .unwrap()
        .tls_certificate_provider_instance = provider("x");
    tls_refused(
        &unknown,
        ".common_tls_context.tls_certificate_provider_instance.instance_name: \"x\" is none of the bootstrap's",
    );
    let long = tls::UpstreamTlsContext {
        sni: "a".repeat(256),
        ..trusting(good_trust())
    };
    tls_refused(&long, ".sni: has 256 bytes; at most 255 are allowed");
    trust_refused(
        |t| t.ca_certificate_provider_instance = None,
        ": trusts nobody",
    );
    trust_refused(
        |t| t.ca_certificate_provider_instance = provider("y"),
        ".ca_certificate_provider_instance.instance_name: \"y\" is none of",
    );
    trust_refused(
        |t| t.verify_certificate_hash = vec!["a".into()],
        ".verify_certificate_hash: is not supported",
    );
    trust_refused(
        |t| t.verify_certificate_spki = vec!["a".into()],
        ".verify_certificate_spki: is not supported",
    );
    trust_refused(
        |t| t.crl = Some(Default::default()),
        ".crl: is not supported",
    );
    trust_refused(
        |t| t.custom_validator_config = Some(Default::default()),
        ".custom_validator_config: is not supported",
    );
    trust_refused(
        |t| t.match_subject_alt_names = vec![Default::default()],
        ".match_subject_alt_names[0]: has no pattern",
    );
    let other = tls::SubjectAltNameMatcher {
        san_type: tls::subject_alt_name_matcher::SanType::OtherName.into(),
        matcher: Some(matcher::StringMatcher {
            match_pattern: Some(matcher::string_matcher::MatchPattern::Exact("a".into())),
            ignore_case: false,
        }),
        oid: String::new(),
    };
    trust_refused(
        |t| t.match_typed_subject_alt_names = vec![other],
        ".match_typed_subject_alt_names[0]: is of a type that is not supported",
    );
    cluster_refused(
        |c| c.transport_socket = socket(any(&router::Router::default())),
        "transport_socket.typed_config: \"envoy.extensions.filters.http.router.v3.Router\" is no transport",
    );
}

/// What istiod sends proxyless clients for `ISTIO_MUTUAL`, and Envoys for automatic mutual TLS.
#[test]
fn security_as_istiod_spells_it_is_understood() {
    use crate::model::security::{Alpn, Material, Security, Sni};
    use crate::source::xds::resource::Resource;
    let read = |cluster: &cluster::Cluster| {
        let decoded = decode(Kind::Cluster, &cluster.encode_to_vec()).unwrap();
        let Resource::Cluster { cluster, .. } = decoded.resource else {
            panic!("a cluster came back as another kind");
        };
        cluster.security.clone()
    };
    let mut istio = good_cluster();
    istio.name = "outbound|80|v1|catalog.my-app.svc.cluster.local".to_owned();
    istio.transport_socket = socket(any(&trusting(good_trust())));
    let Security::Tls(tls) = read(&istio) else {
        panic!("a cluster with a transport socket is not secured");
    };
    let sni = "outbound_.80_.v1_.catalog.my-app.svc.cluster.local";
    assert_eq!(tls.sni, Sni::Name(sni.into()));
    assert_eq!(tls.alpn, Alpn::Istio);
    assert_eq!(tls.identity, Some(Material::Named("default".into())));
    let mode = envoy_types::pb::google::protobuf::Value {
        kind: Some(envoy_types::pb::google::protobuf::value::Kind::StringValue(
            "istio".into(),
        )),
    };
    let meshed = cluster::cluster::TransportSocketMatch {
        name: "tlsMode-istio".to_owned(),
        r#match: Some(envoy_types::pb::google::protobuf::Struct {
            fields: HashMap::from([("tlsMode".to_owned(), mode)]),
        }),
        transport_socket: istio.transport_socket.take(),
    };
    let other = cluster::cluster::TransportSocketMatch {
        name: "tlsMode-disabled".to_owned(),
        r#match: Some(Default::default()),
        transport_socket: socket(any(&raw_buffer::RawBuffer::default())),
    };
    istio.transport_socket_matches = vec![meshed, other];
    assert_eq!(read(&istio), Security::Automatic(tls));
}
