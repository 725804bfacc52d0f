//! Listeners of servers that gRPC configures by xDS (gRFC A36), with what is asked of callers.
//!
//! The form is istiod's: one chain, the routes inline, an RBAC filter for each action (gRFC A41).
//! The rule is not istiod's, which leaves out what gRPC cannot say: here **what cannot be said
//! denies**. A token that nobody verifies does not let its bearer pass, a request for an external
//! authorizer is denied, and a condition that gRPC knows nothing of holds where it denies and does
//! not where it allows (the [lean](crate::layer::authz::Lean) of the door, written down). Each such
//! place is a [`Loss`].
//!
//! A server with credentials of its own ignores the TLS of a listener (gRFC A29 leaves the choice
//! to the program), so `STRICT` is said twice: as a `DownstreamTlsContext`, and as an RBAC filter
//! that denies every caller whose connection is not encrypted with a certificate. A server that has no
//! certificate, as far as anybody knows, gets the filter alone and so lets nobody in: the context would
//! make it refuse the listener, and a server that refuses one stays with the one before.

mod authorizer;
mod rbac;
mod rule;
#[cfg(test)]
pub(crate) mod tests;
mod text;

use std::collections::BTreeSet;
use std::sync::Arc;

use prost::{Message, Name};

use super::loss::Loss;
use super::{Dialect, Lost, Pen, canonical, value};
use crate::model::Inbound;
use crate::model::capacity::Capacity;
use crate::model::security::{MutualTls, PeerPolicy};
use crate::source::xds::Kind;
use crate::source::xds::extra::any;
use crate::source::xds::proto::{Any, core, hcm, listener as wire, route, router, tls};

/// The provider of certificates in the bootstrap file that istiod's agent writes.
const PROVIDER: &str = "default";
/// What istiod calls the certificates of that provider which are believed.
const ROOTS: &str = "ROOTCA";

/// What becomes of requests that an external authorizer decides about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Authorizers {
    /// It is asked.
    Asked,
    /// They are denied: who is configured has no way to ask.
    Denied,
}

/// A port of a server, and what is asked of those who call it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Port<'a> {
    /// The port that it listens on.
    pub(crate) number: u16,
    /// What is asked of requests.
    pub(crate) inbound: &'a Inbound,
    /// What is asked of connections.
    pub(crate) peers: &'a PeerPolicy,
    /// How much it takes at once, which no listener of gRPC says.
    pub(crate) capacity: Capacity,
    /// Whether the workload says that it takes mutual TLS (`security.istio.io/tlsMode: istio`).
    pub(crate) meshed: bool,
    /// Whether there is reason to believe that it has a certificate.
    pub(crate) certified: bool,
}

impl Port<'_> {
    /// Mutual TLS or nothing: gRPC cannot take both on one port, so `PERMISSIVE` is what the
    /// workload's label says, as in istiod.
    fn is_strict(self, pen: &mut Pen<'_>) -> bool {
        match self.peers.on(self.number) {
            MutualTls::Disable => false,
            MutualTls::Permissive => {
                pen.lose(Loss::Permissive);
                self.meshed
            }
            MutualTls::Strict => true,
        }
    }
}

/// The listener of a port, without name and address, which are the client's to say. `name` is what
/// losses are told of.
pub(crate) fn inbound(
    port: Port<'_>,
    name: &Arc<str>,
    lost: &mut BTreeSet<Lost>,
) -> wire::Listener {
    let mut pen = Pen {
        dialect: Dialect::Grpc,
        kind: Kind::Listener,
        name,
        lost,
    };
    let strict = port.is_strict(&mut pen);
    pen.lose_if(port.capacity != Capacity::default(), Loss::Capacity);
    let mut filters = rbac::filters(&mut pen, port, strict, Authorizers::Denied);
    filters.push(filter(
        "envoy.filters.http.router",
        any(&router::Router::default()),
    ));
    let manager = hcm::HttpConnectionManager {
        stat_prefix: "inbound".to_owned(),
        route_specifier: Some(hcm::http_connection_manager::RouteSpecifier::RouteConfig(
            everything(),
        )),
        http_filters: filters,
        ..hcm::HttpConnectionManager::default()
    };
    let network = wire::Filter {
        name: "inbound-hcm".to_owned(),
        config_type: Some(wire::filter::ConfigType::TypedConfig(Any {
            type_url: hcm::HttpConnectionManager::type_url(),
            value: canonical::sorted(manager.encode_to_vec(), &canonical::MANAGER),
        })),
    };
    let chain = if strict {
        "inbound-mtls"
    } else {
        "inbound-plaintext"
    };
    wire::Listener {
        filter_chains: vec![wire::FilterChain {
            name: chain.to_owned(),
            filters: vec![network],
            transport_socket: (strict && port.certified).then(mutual_tls),
            ..wire::FilterChain::default()
        }],
        traffic_direction: core::TrafficDirection::Inbound.into(),
        ..wire::Listener::default()
    }
}

/// The filters in front of the routes of an Envoy at the edge: what is asked of the requests there. Who a
/// caller is, the listener's own TLS decides.
///
/// They are said in the words of gRPC, which Envoy knows all of, and Envoy asks authorizers besides; `name` is what losses are told of.
pub(crate) fn gates(
    number: u16,
    inbound: &Inbound,
    name: &Arc<str>,
    lost: &mut BTreeSet<Lost>,
) -> Vec<hcm::HttpFilter> {
    let mut pen = Pen {
        dialect: Dialect::Grpc,
        kind: Kind::Listener,
        name,
        lost,
    };
    let port = Port {
        number,
        inbound,
        peers: &PeerPolicy::default(),
        capacity: Capacity::default(),
        meshed: false,
        certified: false,
    };
    rbac::filters(&mut pen, port, false, Authorizers::Asked)
}

fn filter(name: &str, config: Any) -> hcm::HttpFilter {
    hcm::HttpFilter {
        name: name.to_owned(),
        config_type: Some(hcm::http_filter::ConfigType::TypedConfig(config)),
        ..hcm::HttpFilter::default()
    }
}

/// Every request is the application's.
fn everything() -> route::RouteConfiguration {
    let all = route::Route {
        r#match: Some(route::RouteMatch {
            path_specifier: Some(route::route_match::PathSpecifier::Prefix("/".to_owned())),
            ..route::RouteMatch::default()
        }),
        action: Some(route::route::Action::NonForwardingAction(
            route::NonForwardingAction::default(),
        )),
        ..route::Route::default()
    };
    route::RouteConfiguration {
        name: "inbound".to_owned(),
        virtual_hosts: vec![route::VirtualHost {
            name: "inbound".to_owned(),
            domains: vec!["*".to_owned()],
            routes: vec![all],
            ..route::VirtualHost::default()
        }],
        ..route::RouteConfiguration::default()
    }
}

/// Certificates of the bootstrap's provider, and of callers. A bootstrap without that provider
/// makes gRPC refuse the listener: the server does not serve. The older fields say the same for
/// clients of before gRFC A29 was amended.
fn mutual_tls() -> core::TransportSocket {
    use tls::common_tls_context::{
        CertificateProviderInstance, CombinedCertificateValidationContext, ValidationContextType,
    };
    let plugin = |certificate: &str| tls::CertificateProviderPluginInstance {
        instance_name: PROVIDER.to_owned(),
        certificate_name: certificate.to_owned(),
    };
    let older = |certificate: &str| CertificateProviderInstance {
        instance_name: PROVIDER.to_owned(),
        certificate_name: certificate.to_owned(),
    };
    let combined = CombinedCertificateValidationContext {
        default_validation_context: Some(tls::CertificateValidationContext {
            ca_certificate_provider_instance: Some(plugin(ROOTS)),
            ..tls::CertificateValidationContext::default()
        }),
        validation_context_certificate_provider_instance: Some(older(ROOTS)),
        ..CombinedCertificateValidationContext::default()
    };
    let context = tls::DownstreamTlsContext {
        common_tls_context: Some(tls::CommonTlsContext {
            tls_certificate_provider_instance: Some(plugin(PROVIDER)),
            tls_certificate_certificate_provider_instance: Some(older(PROVIDER)),
            validation_context_type: Some(ValidationContextType::CombinedValidationContext(
                combined,
            )),
            ..tls::CommonTlsContext::default()
        }),
        require_client_certificate: Some(value::flag(true)),
        ..tls::DownstreamTlsContext::default()
    };
    core::TransportSocket {
        name: "envoy.transport_sockets.tls".to_owned(),
        config_type: Some(core::transport_socket::ConfigType::TypedConfig(any(
            &context,
        ))),
    }
}
