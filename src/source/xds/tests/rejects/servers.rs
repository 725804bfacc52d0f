//! Listeners of servers, and RBAC.

use super::listeners::{ads, filter};
use super::{refused, told};
use crate::source::xds::Kind;
use crate::source::xds::extra::any;
use crate::source::xds::proto::{
    core, fault, hcm, listener, matcher, percent, rbac, rbac_filter, route, router, tls,
};

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
    tls_refused(|t| t.ocsp_staple_policy = 1, "ocsp_staple_policy: is not");
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

#[track_caller]
pub(super) fn rbac_refused(change: impl FnOnce(&mut rbac::Rbac), expected: &str) {
    let policy = rbac::Policy {
        permissions: vec![permission(rbac::permission::Rule::Any(true))],
        principals: vec![rbac::Principal {
            identifier: Some(rbac::principal::Identifier::Any(true)),
        }],
        ..rbac::Policy::default()
    };
    let mut rules = rbac::Rbac {
        policies: [("p".to_owned(), policy)].into(),
        ..rbac::Rbac::default()
    };
    change(&mut rules);
    let config = rbac_filter::Rbac {
        rules: Some(rules),
        ..rbac_filter::Rbac::default()
    };
    let mut manager = manager();
    manager.http_filters.insert(0, filter("rbac", any(&config)));
    let mut message = good();
    message.filter_chains[0] = chain_of(&manager);
    match expected {
        "" => assert_eq!(told(Kind::Listener, &message), ""),
        expected => refused(Kind::Listener, &message, expected),
    }
}

pub(super) fn permission(rule: rbac::permission::Rule) -> rbac::Permission {
    rbac::Permission { rule: Some(rule) }
}

fn segment(key: &str) -> matcher::metadata_matcher::PathSegment {
    use matcher::metadata_matcher::{PathSegment, path_segment::Segment};
    PathSegment {
        segment: Some(Segment::Key(key.to_owned())),
    }
}

type Asked = (
    &'static [&'static str],
    Option<matcher::ValueMatcher>,
    &'static str,
);

/// What is asked of the metadata of tokens, and what is said of it.
fn metadata() -> Vec<Asked> {
    use matcher::value_matcher::{MatchPattern as Pattern, NullMatch};
    let value = |pattern: Pattern| {
        Some(matcher::ValueMatcher {
            match_pattern: Some(pattern),
        })
    };
    let in_list = |pattern: Pattern| {
        let one = matcher::list_matcher::MatchPattern::OneOf(Box::new(matcher::ValueMatcher {
            match_pattern: Some(pattern),
        }));
        value(Pattern::ListMatch(Box::new(matcher::ListMatcher {
            match_pattern: Some(one),
        })))
    };
    let text = |text: &str| {
        Pattern::StringMatch(matcher::StringMatcher {
            match_pattern: Some(matcher::string_matcher::MatchPattern::Exact(
                text.to_owned(),
            )),
            ignore_case: false,
        })
    };
    let unsupported = "value: asks for null, a number or an absence, which is not supported";
    vec![
        (&["payload", "group"], in_list(text("admin")), ""),
        (&["payload", "group"], value(Pattern::BoolMatch(true)), ""),
        (
            &["payload", "group"],
            None,
            "permissions[0].metadata.value: is missing",
        ),
        (
            &["payload", "group"],
            Some(Default::default()),
            "metadata.value: says nothing",
        ),
        (
            &["payload"],
            value(text("a")),
            "metadata.path: leads to no claim",
        ),
        (&[], value(text("a")), "metadata.path: leads to no claim"),
        (
            &["payload", "a"],
            value(Pattern::NullMatch(NullMatch {})),
            unsupported,
        ),
        (
            &["payload", "a"],
            value(Pattern::DoubleMatch(Default::default())),
            unsupported,
        ),
        (
            &["payload", "a"],
            value(Pattern::PresentMatch(false)),
            unsupported,
        ),
        (
            &["payload", "a"],
            in_list(Pattern::BoolMatch(true)),
            "list_match.one_of: is no string_match",
        ),
    ]
}

#[test]
fn d5_rbac_that_is_refused() {
    use rbac::permission::Rule;
    let permits = |rule: Rule| {
        move |rules: &mut rbac::Rbac| {
            if let Some(policy) = rules.policies.get_mut("p") {
                policy.permissions = vec![permission(rule)];
            }
        }
    };
    rbac_refused(|_| {}, "");
    rbac_refused(|r| r.action = 9, "rules.action: 9 is unknown");
    rbac_refused(
        |r| r.policies = [("p".to_owned(), rbac::Policy::default())].into(),
        "rules.policies[\"p\"]: has no permissions or no principals",
    );
    let header = |name: &str| {
        Rule::Header(route::HeaderMatcher {
            name: name.to_owned(),
            header_match_specifier: Some(
                route::header_matcher::HeaderMatchSpecifier::PresentMatch(true),
            ),
            ..route::HeaderMatcher::default()
        })
    };
    for name in [":scheme", "grpc-timeout", "GRPC-status"] {
        rbac_refused(permits(header(name)), "may not be matched by RBAC");
        // Also where it is nested.
        let nested = Rule::NotRule(Box::new(permission(header(name))));
        rbac_refused(permits(nested), "not_rule.header.name");
    }
    let broken = matcher::PathMatcher {
        rule: Some(matcher::path_matcher::Rule::Path(matcher::StringMatcher {
            match_pattern: Some(matcher::string_matcher::MatchPattern::SafeRegex(
                matcher::RegexMatcher {
                    regex: "(".to_owned(),
                    ..matcher::RegexMatcher::default()
                },
            )),
            ignore_case: false,
        })),
    };
    rbac_refused(permits(Rule::UrlPath(broken)), "url_path.path.safe_regex");
    rbac_refused(permits(Rule::DestinationPort(70_000)), "70000 is no port");
    let backwards = percent::Int32Range { start: 10, end: 5 };
    rbac_refused(
        permits(Rule::DestinationPortRange(backwards)),
        "10 to 5 is no range of ports",
    );
    let mut deep = Rule::Any(true);
    for _ in 0..40 {
        deep = Rule::NotRule(Box::new(permission(deep)));
    }
    rbac_refused(permits(deep), "is nested deeper than 32 conditions");
    rbac_refused(
        |r| {
            if let Some(policy) = r.policies.get_mut("p") {
                policy.condition = Some(Default::default());
            }
        },
        "condition: is an expression of CEL",
    );
    for (path, value, expected) in metadata() {
        let message = matcher::MetadataMatcher {
            filter: "envoy.filters.http.jwt_authn".to_owned(),
            path: path.iter().map(|key| segment(key)).collect(),
            value,
            invert: false,
        };
        rbac_refused(permits(Rule::Metadata(message)), expected);
    }
}
