//! Listeners of servers.

use std::net::SocketAddr;
use std::sync::Arc;

use super::{filter, forwarding, resource, socket};
use crate::source::xds::Kind;
use crate::source::xds::extra::any;
use crate::source::xds::filters::Config;
use crate::source::xds::proto::{
    BoolValue, core, hcm, listener, rbac, rbac_filter, route, router, tls,
};
use crate::source::xds::resource::Resource;
use crate::source::xds::server::{RoutesOf, Template};

fn inbound(mtls: bool, filters: Vec<hcm::HttpFilter>) -> Arc<Template> {
    use hcm::http_connection_manager::RouteSpecifier;
    let serving = route::RouteConfiguration {
        name: "inbound".to_owned(),
        virtual_hosts: vec![route::VirtualHost {
            domains: vec!["*".to_owned()],
            routes: vec![route::Route {
                action: Some(route::route::Action::NonForwardingAction(Default::default())),
                ..forwarding(|_| {})
            }],
            ..route::VirtualHost::default()
        }],
        ..route::RouteConfiguration::default()
    };
    let mut http_filters = filters;
    http_filters.push(filter(
        "envoy.filters.http.router",
        any(&router::Router::default()),
    ));
    let manager = hcm::HttpConnectionManager {
        http_filters,
        route_specifier: Some(RouteSpecifier::RouteConfig(serving)),
        ..hcm::HttpConnectionManager::default()
    };
    let provider = |name: &str| {
        Some(tls::CertificateProviderPluginInstance {
            instance_name: "default".to_owned(),
            certificate_name: name.to_owned(),
        })
    };
    #[allow(deprecated, reason = "istiod writes the older spelling too")]
    let context = tls::DownstreamTlsContext {
        require_client_certificate: Some(BoolValue { value: true }),
        common_tls_context: Some(tls::CommonTlsContext {
            tls_certificate_provider_instance: provider("default"),
            validation_context_type: Some(
                tls::common_tls_context::ValidationContextType::CombinedValidationContext(
                    tls::common_tls_context::CombinedCertificateValidationContext {
                        default_validation_context: Some(tls::CertificateValidationContext {
                            ca_certificate_provider_instance: provider("ROOTCA"),
                            ..tls::CertificateValidationContext::default()
                        }),
                        ..Default::default()
                    },
                ),
            ),
            ..tls::CommonTlsContext::default()
        }),
        ..tls::DownstreamTlsContext::default()
    };
    let message = listener::Listener {
        name: "xds.istio.io/grpc/lds/inbound/0.0.0.0:8080".to_owned(),
        address: socket("0.0.0.0", 8080),
        filter_chains: vec![listener::FilterChain {
            name: if mtls {
                "inbound-mtls"
            } else {
                "inbound-plaintext"
            }
            .to_owned(),
            filters: vec![listener::Filter {
                name: "inbound-hcm".to_owned(),
                config_type: Some(listener::filter::ConfigType::TypedConfig(any(&manager))),
            }],
            transport_socket: mtls.then(|| core::TransportSocket {
                name: "envoy.transport_sockets.tls".to_owned(),
                config_type: Some(core::transport_socket::ConfigType::TypedConfig(any(
                    &context,
                ))),
            }),
            ..listener::FilterChain::default()
        }],
        ..listener::Listener::default()
    };
    match resource(Kind::Listener, &message) {
        Resource::Server(template) => template,
        other => panic!("{other:?}"),
    }
}

/// One chain, with TLS or without, inline routes that serve, and an RBAC filter for each action.
#[test]
fn istio_3_8_a_listener_of_a_server_has_one_chain_with_inline_routes_and_filters_of_rbac() {
    let policy = rbac::Policy {
        permissions: vec![rbac::Permission {
            rule: Some(rbac::permission::Rule::Any(true)),
        }],
        principals: vec![rbac::Principal {
            identifier: Some(rbac::principal::Identifier::Any(true)),
        }],
        ..rbac::Policy::default()
    };
    let rules = |action: rbac::rbac::Action| rbac_filter::Rbac {
        rules: Some(rbac::Rbac {
            action: action.into(),
            policies: [("ns[my-app]-policy[p]-rule[0]".to_owned(), policy.clone())].into(),
            ..rbac::Rbac::default()
        }),
        ..rbac_filter::Rbac::default()
    };
    for mtls in [false, true] {
        let template = inbound(
            mtls,
            vec![
                filter(
                    "envoy.filters.http.rbac.DENY",
                    any(&rules(rbac::rbac::Action::Deny)),
                ),
                filter(
                    "envoy.filters.http.rbac",
                    any(&rules(rbac::rbac::Action::Allow)),
                ),
            ],
        );
        let expected: SocketAddr = ([0, 0, 0, 0], 8080).into();
        assert_eq!(template.address, expected);
        let [chain] = &*template.chains else {
            panic!("{} chains", template.chains.len());
        };
        assert_eq!(chain.tls.is_some(), mtls);
        assert!(matches!(chain.routes, RoutesOf::Inline(..)));
        let stages = chain.filters.filters.iter();
        let stages = stages.filter(|one| matches!(one.config, Config::Rbac(Some(_))));
        assert_eq!(stages.count(), 2);
    }
}
