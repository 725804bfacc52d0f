//! RBAC of servers (gRFC A41, A59).

use rbac::permission::Rule;
use rbac::principal::Identifier as Id;

use super::listeners::filter;
use super::servers::{chain_of, good, manager};
use super::{refused, told};
use crate::source::xds::Kind;
use crate::source::xds::extra::any;
use crate::source::xds::proto::{Any, core, matcher, percent, rbac, rbac_filter, route, router};

/// A policy by which everybody may do everything.
pub(super) fn lax() -> rbac::Policy {
    rbac::Policy {
        permissions: vec![permission(rbac::permission::Rule::Any(true))],
        principals: vec![rbac::Principal {
            identifier: Some(rbac::principal::Identifier::Any(true)),
        }],
        ..rbac::Policy::default()
    }
}

#[track_caller]
pub(super) fn rbac_refused(change: impl FnOnce(&mut rbac::Rbac), expected: &str) {
    let mut rules = rbac::Rbac {
        policies: [("p".to_owned(), lax())].into(),
        ..rbac::Rbac::default()
    };
    change(&mut rules);
    let config = rbac_filter::Rbac {
        rules: Some(rules),
        ..rbac_filter::Rbac::default()
    };
    filter_refused(&config, expected);
}

#[track_caller]
fn filter_refused(config: &rbac_filter::Rbac, expected: &str) {
    let mut manager = manager();
    manager.http_filters.insert(0, filter("rbac", any(config)));
    let mut message = good();
    message.filter_chains[0] = chain_of(&manager);
    match expected {
        "" => assert_eq!(told(Kind::Listener, &message), ""),
        expected => refused(Kind::Listener, &message, expected),
    }
}

pub(super) fn permits(rule: Rule) -> impl FnOnce(&mut rbac::Rbac) {
    move |rules| {
        if let Some(policy) = rules.policies.get_mut("p") {
            policy.permissions = vec![permission(rule)];
        }
    }
}

fn means(identifier: Id) -> impl FnOnce(&mut rbac::Rbac) {
    move |rules| {
        if let Some(policy) = rules.policies.get_mut("p") {
            policy.principals = vec![rbac::Principal {
                identifier: Some(identifier),
            }];
        }
    }
}

pub(super) fn permission(rule: rbac::permission::Rule) -> rbac::Permission {
    rbac::Permission { rule: Some(rule) }
}

#[test]
fn d5_rbac_that_is_refused() {
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
}

#[test]
fn d5_what_the_filter_rbac_does_not_do_is_refused() {
    let with = |change: fn(&mut rbac_filter::Rbac)| {
        let mut config = rbac_filter::Rbac::default();
        change(&mut config);
        config
    };
    type Change = fn(&mut rbac_filter::Rbac);
    let rows: [(Change, &str); 3] = [
        (|c| c.matcher = Some(Default::default()), "matcher"),
        (
            |c| c.shadow_rules = Some(Default::default()),
            "shadow_rules",
        ),
        (
            |c| c.shadow_matcher = Some(Default::default()),
            "shadow_matcher",
        ),
    ];
    for (change, field) in rows {
        filter_refused(
            &with(change),
            &format!("http_filters[0].typed_config.{field}: is not supported; rules are"),
        );
    }
    // Without rules it does nothing (gRFC A41).
    filter_refused(&with(|_| {}), "");
    let expression = |change: fn(&mut rbac::Policy)| {
        move |rules: &mut rbac::Rbac| {
            if let Some(policy) = rules.policies.get_mut("p") {
                change(policy);
            }
        }
    };
    rbac_refused(
        expression(|policy| policy.checked_condition = Some(Default::default())),
        "rules.policies[\"p\"].checked_condition: is an expression of CEL, which is not supported",
    );
    rbac_refused(
        expression(|policy| policy.principals.clear()),
        "rules.policies[\"p\"]: has no permissions or no principals; one of each is needed",
    );
}

#[test]
fn d5_audit_logging_that_is_refused() {
    use rbac::rbac::audit_logging_options::AuditLoggerConfig;
    let logger = |config: Option<Any>, is_optional: bool| AuditLoggerConfig {
        audit_logger: Some(core::TypedExtensionConfig {
            name: "logger".to_owned(),
            typed_config: config,
        }),
        is_optional,
    };
    let audited = |condition: i32, loggers: Vec<AuditLoggerConfig>| {
        move |rules: &mut rbac::Rbac| {
            rules.audit_logging_options = Some(rbac::rbac::AuditLoggingOptions {
                audit_condition: condition,
                logger_configs: loggers,
            });
        }
    };
    let foreign = || Some(any(&router::Router::default()));
    let stdout = || {
        Some(Any {
            type_url:
                "type.googleapis.com/envoy.extensions.rbac.audit_loggers.stream.v3.StdoutAuditLog"
                    .to_owned(),
            value: Vec::new(),
        })
    };
    let at = "rules.audit_logging_options";
    for condition in 0..=3 {
        rbac_refused(audited(condition, vec![logger(stdout(), false)]), "");
    }
    rbac_refused(
        audited(4, Vec::new()),
        &format!("{at}.audit_condition: 4 is unknown; 0 to 3 are allowed"),
    );
    rbac_refused(
        audited(1, vec![logger(stdout(), false), logger(foreign(), false)]),
        &format!(
            "{at}.logger_configs[1].audit_logger: \"envoy.extensions.filters.http.router.v3.Router\" is \
             no audit logger that is known here; StdoutAuditLog is, or mark it as optional"
        ),
    );
    rbac_refused(audited(1, vec![logger(foreign(), true)]), "");
    rbac_refused(
        audited(1, vec![logger(None, false)]),
        &format!("{at}.logger_configs[0].audit_logger: is missing"),
    );
    // Faults of policies are told beside it.
    let both = |rules: &mut rbac::Rbac| {
        audited(9, Vec::new())(rules);
        permits(Rule::DestinationPort(65_536))(rules);
    };
    rbac_refused(both, "audit_condition: 9 is unknown");
    rbac_refused(
        both,
        "destination_port: 65536 is no port; 0 to 65535 is allowed",
    );
}

#[test]
fn d5_permissions_that_are_refused() {
    let extension = core::TypedExtensionConfig::default;
    let at = "rules.policies[\"p\"].permissions[0]";
    let nowhere = core::CidrRange {
        address_prefix: "10.0.0".to_owned(),
        prefix_len: None,
    };
    let header = |name: &str, specifier| {
        Rule::Header(route::HeaderMatcher {
            name: name.to_owned(),
            header_match_specifier: specifier,
            ..route::HeaderMatcher::default()
        })
    };
    use route::header_matcher::HeaderMatchSpecifier as Specifier;
    let keyless = matcher::MetadataMatcher {
        filter: "envoy.filters.http.jwt_authn".to_owned(),
        path: vec![Default::default()],
        ..matcher::MetadataMatcher::default()
    };
    let rows = [
        (
            Rule::Matcher(extension()),
            ".matcher: is an extension, which is not supported",
        ),
        (
            Rule::UriTemplate(extension()),
            ".uri_template: is an extension, which is not supported",
        ),
        (
            Rule::SourcedMetadata(Default::default()),
            ".sourced_metadata: is not supported",
        ),
        (
            Rule::DestinationIp(nowhere),
            ".destination_ip.address_prefix: \"10.0.0\" is no IP address",
        ),
        (
            Rule::DestinationPortRange(percent::Int32Range {
                start: 0,
                end: 65_537,
            }),
            ".destination_port_range: 0 to 65537 is no range of ports; 0 to 65536 is, without the end",
        ),
        (
            Rule::DestinationPortRange(percent::Int32Range { start: -1, end: 5 }),
            ".destination_port_range: -1 to 5 is no range of ports",
        ),
        (
            Rule::RequestedServerName(Default::default()),
            ".requested_server_name: has no pattern",
        ),
        (Rule::UrlPath(Default::default()), ".url_path: has no path"),
        (header("x-a", None), ".header: has no specifier"),
        (
            header("a b", Some(Specifier::PresentMatch(true))),
            ".header.name: ",
        ),
        (
            header(":path", Some(Specifier::PrefixMatch("/".to_owned()))),
            ".header: asks for :path in a way that is not supported; string_match, exact_match and \
             url_path are",
        ),
        (
            header(":path", Some(Specifier::StringMatch(Default::default()))),
            ".header.string_match: has no pattern",
        ),
        (Rule::Metadata(keyless), ".metadata.path[0]: has no key"),
    ];
    for (rule, expected) in rows {
        rbac_refused(permits(rule), &format!("{at}{expected}"));
    }
}

#[test]
fn d5_principals_that_are_refused() {
    let at = "rules.policies[\"p\"].principals[0]";
    let nowhere = || core::CidrRange {
        address_prefix: "nowhere".to_owned(),
        prefix_len: None,
    };
    let patternless = rbac::principal::Authenticated {
        principal_name: Some(Default::default()),
    };
    let header = |name: &str| {
        use route::header_matcher::HeaderMatchSpecifier as Specifier;
        Id::Header(route::HeaderMatcher {
            name: name.to_owned(),
            header_match_specifier: Some(Specifier::PresentMatch(true)),
            ..route::HeaderMatcher::default()
        })
    };
    let mut deep = Id::Any(true);
    for _ in 0..40 {
        deep = Id::NotId(Box::new(rbac::Principal {
            identifier: Some(deep),
        }));
    }
    let set = |identifier: Id| rbac::principal::Set {
        ids: vec![rbac::Principal {
            identifier: Some(identifier),
        }],
    };
    let foreign = "is of a kind that is not supported";
    let rows = [
        (
            Id::FilterState(Default::default()),
            format!(".filter_state: {foreign}"),
        ),
        (
            Id::SourcedMetadata(Default::default()),
            format!(".sourced_metadata: {foreign}"),
        ),
        (
            Id::Custom(Default::default()),
            format!(".custom: {foreign}"),
        ),
        (
            Id::SourceIp(nowhere()),
            ".source_ip.address_prefix: \"nowhere\" is no IP address".to_owned(),
        ),
        (
            Id::DirectRemoteIp(nowhere()),
            ".direct_remote_ip.address_prefix: \"nowhere\" is no IP address".to_owned(),
        ),
        (
            Id::RemoteIp(nowhere()),
            ".remote_ip.address_prefix: \"nowhere\" is no IP address".to_owned(),
        ),
        (
            Id::Authenticated(patternless),
            ".authenticated.principal_name: has no pattern".to_owned(),
        ),
        (
            header(":scheme"),
            ".header.name: \":scheme\" may not be matched by RBAC".to_owned(),
        ),
        (
            Id::AndIds(set(header("grpc-status"))),
            ".and_ids.ids[0].header.name: \"grpc-status\" may not be matched by RBAC".to_owned(),
        ),
        (
            Id::OrIds(set(Id::UrlPath(Default::default()))),
            ".or_ids.ids[0].url_path: has no path".to_owned(),
        ),
        (
            Id::Metadata(matcher::MetadataMatcher {
                filter: "envoy.filters.http.jwt_authn".to_owned(),
                ..matcher::MetadataMatcher::default()
            }),
            ".metadata.value: is missing".to_owned(),
        ),
        (deep, "is nested deeper than 32 conditions".to_owned()),
    ];
    for (identifier, expected) in rows {
        match expected.strip_prefix('.') {
            Some(_) => rbac_refused(means(identifier), &format!("{at}{expected}")),
            None => rbac_refused(means(identifier), &expected),
        }
    }
}
