//! Listeners of Envoys at the edge, which Istio's `Gateway` declares.
//!
//! A connection finds its chain by the name that it asks for in the handshake; the chain ends the
//! encryption with certificates from files of the Envoy's own machine, or hands the bytes on. Nobody
//! in front of such a listener is believed: the caller's address is the connection's, and what callers
//! say of their certificates is taken away and written anew. What AuthorizationPolicy and
//! RequestAuthentication ask of the Envoy's workload stands in front of its routes, said as it is to
//! servers of gRPC: what cannot be said denies.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::listener::v3 as listener;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3 as tcp;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
use envoy_types::pb::envoy::r#type::matcher::v3 as matcher;
use envoy_types::pb::google::protobuf::BoolValue;
use prost::Message as _;

use super::egress::{ads, any, filter, http_filter, socket_address};
use super::kind::Kind;
use super::resource::Encoded;
use super::view::encoded;
use crate::model::Inbound;
use crate::model::inbound::Normalization;
use crate::model::route::Destinations;
use crate::source::istio::kinds::{ServerCertificate, ServerTls, ServerTlsMode, TlsVersion};
use crate::source::istio::{Chain, Leads};
use crate::source::xds::{Lost, gates};

/// The listener of an address, and what of the policies could not be said.
pub(super) fn listener(
    address: SocketAddr,
    chains: &[Chain],
    inbound: &Inbound,
    lost: &mut BTreeSet<Lost>,
) -> Encoded {
    let name: Arc<str> = format!("{}_{}", address.ip(), address.port()).into();
    let maker = Maker {
        name: &name,
        gates: gates(address.port(), inbound, &name, lost),
        normalization: inbound.normalization,
    };
    let inspected = chains.iter().any(|chain| !chain.names.is_empty());
    let message = listener::Listener {
        name: name.to_string(),
        address: Some(socket_address(address)),
        listener_filters: inspected.then(inspector).into_iter().collect(),
        filter_chains: chains.iter().map(|chain| maker.chain(chain)).collect(),
        traffic_direction: core::TrafficDirection::Outbound as i32,
        ..Default::default()
    };
    encoded(Kind::Listener, name.clone(), &message.encode_to_vec())
}

/// Reads the name that is asked for before a chain is chosen.
fn inspector() -> listener::ListenerFilter {
    listener::ListenerFilter {
        name: "envoy.filters.listener.tls_inspector".into(),
        config_type: Some(listener::listener_filter::ConfigType::TypedConfig(any(
            "filters.listener.tls_inspector.v3.TlsInspector",
            Vec::new(),
        ))),
        ..Default::default()
    }
}

/// What the chains of a listener have in common.
struct Maker<'a> {
    name: &'a Arc<str>,
    gates: Vec<hcm::HttpFilter>,
    normalization: Normalization,
}

impl Maker<'_> {
    fn chain(&self, chain: &Chain) -> listener::FilterChain {
        let Chain {
            names,
            tls,
            grpc_web,
            ports: _,
            leads,
        } = chain;
        let last = match leads {
            Leads::Clusters(to) => filter(
                "network.tcp_proxy.v3.TcpProxy",
                self.proxy(to).encode_to_vec(),
            ),
            Leads::Routes(routes) => filter(
                "network.http_connection_manager.v3.HttpConnectionManager",
                self.manager(routes, *grpc_web).encode_to_vec(),
            ),
        };
        let asked = listener::FilterChainMatch {
            server_names: names.iter().map(ToString::to_string).collect(),
            ..Default::default()
        };
        listener::FilterChain {
            filter_chain_match: (!names.is_empty()).then_some(asked),
            filters: vec![last],
            transport_socket: tls.as_ref().map(ending),
            ..Default::default()
        }
    }

    fn manager(&self, routes: &str, grpc_web: bool) -> hcm::HttpConnectionManager {
        use hcm::http_connection_manager::{
            ForwardClientCertDetails, PathWithEscapedSlashesAction as Escaped, RouteSpecifier,
            SetCurrentClientCertDetails, UpgradeConfig,
        };
        let yes = Some(BoolValue { value: true });
        let mut filters = self.gates.clone();
        if grpc_web {
            let name = "envoy.filters.http.grpc_web";
            filters.push(http_filter(name, "http.grpc_web.v3.GrpcWeb"));
        }
        filters.extend([
            http_filter("envoy.filters.http.fault", "http.fault.v3.HTTPFault"),
            http_filter("envoy.filters.http.router", "http.router.v3.Router"),
        ]);
        let (normal, merged, escaped) = match self.normalization {
            Normalization::Reject => (true, true, Escaped::RejectRequest),
            Normalization::None => (false, false, Escaped::KeepUnchanged),
            Normalization::Base => (true, false, Escaped::KeepUnchanged),
            Normalization::MergeSlashes => (true, true, Escaped::KeepUnchanged),
            Normalization::DecodeAndMergeSlashes => (true, true, Escaped::UnescapeAndForward),
        };
        hcm::HttpConnectionManager {
            stat_prefix: self.name.to_string(),
            route_specifier: Some(RouteSpecifier::Rds(hcm::Rds {
                config_source: Some(ads()),
                route_config_name: routes.into(),
            })),
            http_filters: filters,
            use_remote_address: yes,
            normalize_path: Some(BoolValue { value: normal }),
            merge_slashes: merged,
            path_with_escaped_slashes_action: escaped as i32,
            forward_client_cert_details: ForwardClientCertDetails::SanitizeSet as i32,
            set_current_client_cert_details: Some(SetCurrentClientCertDetails {
                subject: yes,
                cert: true,
                dns: true,
                uri: true,
                ..Default::default()
            }),
            upgrade_configs: vec![UpgradeConfig {
                upgrade_type: "websocket".into(),
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    fn proxy(&self, to: &Destinations) -> tcp::TcpProxy {
        use tcp::tcp_proxy::{ClusterSpecifier, WeightedCluster, weighted_cluster::ClusterWeight};
        let specifier = match to.all() {
            [only] => ClusterSpecifier::Cluster(only.cluster.to_string()),
            several => ClusterSpecifier::WeightedClusters(WeightedCluster {
                clusters: several
                    .iter()
                    .map(|one| ClusterWeight {
                        name: one.cluster.to_string(),
                        weight: one.weight,
                        ..Default::default()
                    })
                    .collect(),
            }),
        };
        tcp::TcpProxy {
            stat_prefix: self.name.to_string(),
            cluster_specifier: Some(specifier),
            ..Default::default()
        }
    }
}

// === TLS ===

/// The encryption that ends in the Envoy.
fn ending(model: &ServerTls) -> core::TransportSocket {
    use tls::common_tls_context::ValidationContextType;
    let asks = matches!(
        model.mode,
        ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual
    );
    let own = ServerCertificate {
        server_certificate: model.server_certificate.clone(),
        private_key: model.private_key.clone(),
        ca_certificates: None,
    };
    let several = model.tls_certificates.iter().map(|one| &one.value);
    let certificates = several.chain((model.tls_certificates.is_empty()).then_some(&own));
    let common = tls::CommonTlsContext {
        tls_params: parameters(model),
        tls_certificates: certificates.map(certificate).collect(),
        validation_context_type: asks
            .then(|| ValidationContextType::ValidationContext(validation(model))),
        alpn_protocols: vec!["h2".into(), "http/1.1".into()],
        ..Default::default()
    };
    let context = tls::DownstreamTlsContext {
        common_tls_context: Some(common),
        require_client_certificate: Some(BoolValue {
            value: model.mode == ServerTlsMode::Mutual,
        }),
        ..Default::default()
    };
    core::TransportSocket {
        name: "envoy.transport_sockets.tls".into(),
        config_type: Some(core::transport_socket::ConfigType::TypedConfig(any(
            "transport_sockets.tls.v3.DownstreamTlsContext",
            context.encode_to_vec(),
        ))),
    }
}

fn file(path: &Option<String>) -> Option<core::DataSource> {
    path.as_ref().map(|path| core::DataSource {
        specifier: Some(core::data_source::Specifier::Filename(path.clone())),
        ..Default::default()
    })
}

fn certificate(one: &ServerCertificate) -> tls::TlsCertificate {
    tls::TlsCertificate {
        certificate_chain: file(&one.server_certificate),
        private_key: file(&one.private_key),
        ..Default::default()
    }
}

/// What is asked of callers.
fn validation(model: &ServerTls) -> tls::CertificateValidationContext {
    use tls::subject_alt_name_matcher::SanType;
    // A name that is written with a scheme is a URI, such as a SPIFFE id.
    let names = model.subject_alt_names.iter();
    let names = names.map(|name| tls::SubjectAltNameMatcher {
        san_type: match name.contains("://") {
            true => SanType::Uri as i32,
            false => SanType::Dns as i32,
        },
        matcher: Some(matcher::StringMatcher {
            match_pattern: Some(matcher::string_matcher::MatchPattern::Exact(name.clone())),
            ..Default::default()
        }),
        ..Default::default()
    });
    tls::CertificateValidationContext {
        trusted_ca: file(&model.ca_certificates),
        crl: file(&model.ca_crl),
        match_typed_subject_alt_names: names.collect(),
        verify_certificate_spki: model.verify_certificate_spki.clone(),
        verify_certificate_hash: model.verify_certificate_hash.clone(),
        ..Default::default()
    }
}

fn parameters(model: &ServerTls) -> Option<tls::TlsParameters> {
    use tls::tls_parameters::TlsProtocol;
    let version = |version: TlsVersion| match version {
        TlsVersion::Auto => TlsProtocol::TlsAuto as i32,
        TlsVersion::V1_0 => TlsProtocol::TlSv10 as i32,
        TlsVersion::V1_1 => TlsProtocol::TlSv11 as i32,
        TlsVersion::V1_2 => TlsProtocol::TlSv12 as i32,
        TlsVersion::V1_3 => TlsProtocol::TlSv13 as i32,
    };
    let ciphers = model.cipher_suites.iter();
    let parameters = tls::TlsParameters {
        tls_minimum_protocol_version: version(model.min_protocol_version),
        tls_maximum_protocol_version: version(model.max_protocol_version),
        cipher_suites: ciphers.map(|cipher| cipher.value.clone()).collect(),
        ..Default::default()
    };
    (parameters != tls::TlsParameters::default()).then_some(parameters)
}

#[cfg(test)]
mod tests;
