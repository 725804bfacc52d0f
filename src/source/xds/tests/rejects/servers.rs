//! Listeners of servers.

use super::listeners::{ads, filter};
use super::{refused, told};
use crate::source::xds::Kind;
use crate::source::xds::extra::any;
use crate::source::xds::proto::{core, fault, hcm, listener, router, tls};

pub(super) fn manager() -> hcm::HttpConnectionManager {
    use hcm::http_connection_manager::RouteSpecifier;
    hcm::HttpConnectionManager {
        http_filters: vec![filter("router", any(&router::Router::default()))],
        route_specifier: Some(RouteSpecifier::Rds(hcm::Rds {
            config_source: Some(ads()),
            route_config_name: "routes".to_owned(),
        })),
        ..hcm::HttpConnectionManager::default()
    }
}

pub(super) fn chain_of(manager: &hcm::HttpConnectionManager) -> listener::FilterChain {
    listener::FilterChain {
        filters: vec![listener::Filter {
            name: "http".to_owned(),
            config_type: Some(listener::filter::ConfigType::TypedConfig(any(manager))),
        }],
        ..listener::FilterChain::default()
    }
}

pub(super) fn good() -> listener::Listener {
    let socket = core::SocketAddress {
        address: "10.0.0.1".to_owned(),
        port_specifier: Some(core::socket_address::PortSpecifier::PortValue(8_080)),
        ..core::SocketAddress::default()
    };
    listener::Listener {
        name: "inbound".to_owned(),
        address: Some(core::Address {
            address: Some(core::address::Address::SocketAddress(socket)),
        }),
        filter_chains: vec![chain_of(&manager())],
        ..listener::Listener::default()
    }
}

#[track_caller]
fn server_refused(change: impl FnOnce(&mut listener::Listener), expected: &str) {
    let mut message = good();
    change(&mut message);
    refused(Kind::Listener, &message, expected);
}

#[test]
fn d11_listeners_of_servers_that_are_refused() {
    assert_eq!(told(Kind::Listener, &good()), "");
    server_refused(
        |l| l.listener_filters = vec![listener::ListenerFilter::default()],
        "listener_filters: is not supported",
    );
    server_refused(
        |l| l.use_original_dst = Some(crate::source::xds::proto::BoolValue { value: true }),
        "use_original_dst: is not supported",
    );
    server_refused(
        |l| l.address = Some(core::Address::default()),
        "address: is no socket_address",
    );
    server_refused(
        |l| l.filter_chains.clear(),
        "filter_chains: has no chain that could match",
    );
    server_refused(
        |l| l.filter_chains.push(chain_of(&manager())),
        "filter_chains[1].filter_chain_match: matches what another chain matches too",
    );
    server_refused(
        |l| l.filter_chains[0].filters.clear(),
        "filter_chains[0].filters: has 0 entries; exactly one HttpConnectionManager",
    );
    server_refused(
        |l| l.additional_addresses = vec![Default::default()],
        "additional_addresses: is not supported; leave it out",
    );
    let range = core::CidrRange {
        address_prefix: "10.0.0".to_owned(),
        prefix_len: None,
    };
    server_refused(
        |l| {
            l.filter_chains[0].filter_chain_match = Some(listener::FilterChainMatch {
                prefix_ranges: vec![range],
                ..listener::FilterChainMatch::default()
            });
        },
        "filter_chain_match.prefix_ranges[0].address_prefix: \"10.0.0\" is no IP address",
    );
    // A chain without its condition would be one for everybody.
    let near = core::CidrRange {
        address_prefix: "10.0.0.0".to_owned(),
        prefix_len: Some(crate::source::xds::proto::UInt32Value { value: 8 }),
    };
    for (matched, field) in [
        (
            listener::FilterChainMatch {
                direct_source_prefix_ranges: vec![near],
                ..listener::FilterChainMatch::default()
            },
            "direct_source_prefix_ranges",
        ),
        (
            listener::FilterChainMatch {
                address_suffix: "1".to_owned(),
                ..listener::FilterChainMatch::default()
            },
            "address_suffix",
        ),
    ] {
        server_refused(
            |l| l.filter_chains[0].filter_chain_match = Some(matched),
            &format!("filter_chains[0].filter_chain_match.{field}: is not supported"),
        );
    }
    // A chain that no connection has here is no chain.
    server_refused(
        |l| {
            l.filter_chains[0].filter_chain_match = Some(listener::FilterChainMatch {
                server_names: vec!["catalog".to_owned()],
                ..listener::FilterChainMatch::default()
            });
        },
        "has no chain that could match",
    );
    let mut trusting = manager();
    trusting.xff_num_trusted_hops = 1;
    server_refused(
        |l| l.filter_chains[0] = chain_of(&trusting),
        "xff_num_trusted_hops: is 1; only 0 is supported",
    );
}

#[test]
fn d11_addresses_of_servers_that_are_refused() {
    use core::address::Address as Kind;
    use core::socket_address::PortSpecifier;
    let other = "address: is no socket_address; only that is supported";
    let socket = |address: &str, port_specifier| {
        Kind::SocketAddress(core::SocketAddress {
            address: address.to_owned(),
            port_specifier,
            ..core::SocketAddress::default()
        })
    };
    let rows = [
        (Kind::Pipe(Default::default()), other),
        (Kind::EnvoyInternalAddress(Default::default()), other),
        (
            socket("order.example", Some(PortSpecifier::PortValue(80))),
            "address.socket_address.address: \"order.example\" is no IP address",
        ),
        (
            socket("10.0.0.1", Some(PortSpecifier::PortValue(65_536))),
            "address.socket_address.port_value: 65536 is no port; 0 to 65535 is allowed",
        ),
        (
            socket(
                "10.0.0.1",
                Some(PortSpecifier::NamedPort("http".to_owned())),
            ),
            "address.socket_address: has no port_value; a server has one",
        ),
        (
            socket("10.0.0.1", None),
            "address.socket_address: has no port_value; a server has one",
        ),
    ];
    for (address, expected) in rows {
        server_refused(
            |l| {
                l.address = Some(core::Address {
                    address: Some(address),
                });
            },
            expected,
        );
    }
}

#[test]
fn d11_chains_of_servers_that_are_refused() {
    use listener::FilterChainMatch;
    let matching = |change: fn(&mut FilterChainMatch)| {
        move |l: &mut listener::Listener| {
            let mut matches = FilterChainMatch::default();
            change(&mut matches);
            l.filter_chains[0].filter_chain_match = Some(matches);
        }
    };
    type Change = fn(&mut FilterChainMatch);
    let rows: [(Change, &str); 4] = [
        (
            |m| m.source_type = 3,
            "source_type: 3 is unknown; 0 to 2 are allowed",
        ),
        (
            |m| m.source_ports = vec![80, 70_000],
            "source_ports[1]: 70000 is no port",
        ),
        (
            |m| {
                m.source_prefix_ranges = vec![core::CidrRange {
                    address_prefix: "here".to_owned(),
                    prefix_len: None,
                }];
            },
            "source_prefix_ranges[0].address_prefix: \"here\" is no IP address",
        ),
        (
            |m| m.suffix_len = Some(crate::source::xds::proto::UInt32Value { value: 8 }),
            "suffix_len: is not supported",
        ),
    ];
    for (change, expected) in rows {
        server_refused(
            matching(change),
            &format!("filter_chains[0].filter_chain_match.{expected}"),
        );
    }
    server_refused(
        |l| l.filter_chains[0].filters[0].config_type = None,
        "filter_chains[0].filters[0].typed_config: is missing",
    );
    server_refused(
        |l| {
            let router = any(&router::Router::default());
            l.filter_chains[0].filters[0].config_type =
                Some(listener::filter::ConfigType::TypedConfig(router));
        },
        "filter_chains[0].filters[0].typed_config: is of type",
    );
    server_refused(
        |l| {
            let twice = l.filter_chains[0].filters[0].clone();
            l.filter_chains[0].filters.push(twice);
        },
        "filter_chains[0].filters: has 2 entries; exactly one HttpConnectionManager is supported",
    );
    server_refused(
        |l| {
            l.filter_chains[0].transport_socket = Some(core::TransportSocket::default());
        },
        "filter_chains[0].transport_socket.typed_config: is missing",
    );
    server_refused(
        |l| {
            l.filter_chains[0].transport_socket = Some(core::TransportSocket {
                name: "tls".to_owned(),
                config_type: Some(core::transport_socket::ConfigType::TypedConfig(any(
                    &router::Router::default(),
                ))),
            });
        },
        "filter_chains[0].transport_socket.typed_config: \
         \"envoy.extensions.filters.http.router.v3.Router\" is no transport that is known here; \
         DownstreamTlsContext and RawBuffer are",
    );
    server_refused(
        |l| l.default_filter_chain = Some(listener::FilterChain::default()),
        "default_filter_chain.filters: has 0 entries",
    );
}

#[test]
fn d7_filters_of_clients_are_refused_on_servers_unless_optional() {
    let mut manager = manager();
    let fault = filter("fault", any(&fault::HttpFault::default()));
    manager.http_filters.insert(0, fault);
    server_refused(
        |l| l.filter_chains[0] = chain_of(&manager),
        "HTTPFault\" is no filter that is known here",
    );
    manager.http_filters[0].is_optional = true;
    let mut message = good();
    message.filter_chains[0] = chain_of(&manager);
    assert_eq!(told(Kind::Listener, &message), "");
}

#[track_caller]
fn tls_refused(change: impl FnOnce(&mut tls::DownstreamTlsContext), expected: &str) {
    let instance = || {
        Some(tls::CertificateProviderPluginInstance {
            instance_name: "default".to_owned(),
            certificate_name: String::new(),
        })
    };
    let validation = tls::CertificateValidationContext {
        ca_certificate_provider_instance: instance(),
        ..tls::CertificateValidationContext::default()
    };
    let mut context = tls::DownstreamTlsContext {
        require_client_certificate: Some(crate::source::xds::proto::BoolValue { value: true }),
        common_tls_context: Some(tls::CommonTlsContext {
            tls_certificate_provider_instance: instance(),
            validation_context_type: Some(
                tls::common_tls_context::ValidationContextType::ValidationContext(validation),
            ),
            ..tls::CommonTlsContext::default()
        }),
        ..tls::DownstreamTlsContext::default()
    };
    change(&mut context);
    let mut message = good();
    message.filter_chains[0].transport_socket = Some(core::TransportSocket {
        name: "tls".to_owned(),
        config_type: Some(core::transport_socket::ConfigType::TypedConfig(any(
            &context,
        ))),
    });
    match expected {
        "" => assert_eq!(told(Kind::Listener, &message), ""),
        expected => refused(Kind::Listener, &message, expected),
    }
}

#[test]
fn d8_tls_of_servers_that_is_refused() {
    tls_refused(|_| {}, "");
    tls_refused(|t| t.require_client_certificate = None, "");
    tls_refused(
        |t| t.require_sni = Some(crate::source::xds::proto::BoolValue { value: true }),
        "require_sni: is not supported",
    );
    tls_refused(
        |t| t.ocsp_staple_policy = 1,
        "ocsp_staple_policy: is not LENIENT_STAPLING, which alone is supported",
    );
    tls_refused(
        |t| t.common_tls_context = None,
        "common_tls_context: is missing",
    );
    tls_refused(
        |t| {
            if let Some(common) = &mut t.common_tls_context {
                common.tls_certificate_provider_instance = None;
            }
        },
        "presents no certificate",
    );
    tls_refused(
        |t| {
            if let Some(common) = &mut t.common_tls_context {
                common.validation_context_type = None;
            }
        },
        "validation_context: is missing, and require_client_certificate is true",
    );
    let validation = |change: fn(&mut tls::CertificateValidationContext)| {
        move |t: &mut tls::DownstreamTlsContext| {
            let mut context = tls::CertificateValidationContext::default();
            change(&mut context);
            if let Some(common) = &mut t.common_tls_context {
                common.validation_context_type = Some(
                    tls::common_tls_context::ValidationContextType::ValidationContext(context),
                );
            }
        }
    };
    tls_refused(validation(|_| {}), "trusts nobody");
    tls_refused(
        validation(|c| c.system_root_certs = Some(Default::default())),
        "system_root_certs: is for clients",
    );
}
