//! Filters of servers that secure: rules of a newer API, limits.

use super::listeners::filter;
use super::rbac::{lax, permission, rbac_refused};
use super::servers::{chain_of, good, manager};
use super::told;
use crate::source::xds::Kind;
use crate::source::xds::extra::any;
use crate::source::xds::proto::{
    Any, Duration, core, listener, local_rate, percent, rbac, rbac_filter,
};

/// A message with the field 9,999 behind it.
fn newer(message: &impl prost::Message) -> Vec<u8> {
    let mut bytes = message.encode_to_vec();
    prost::encoding::uint32::encode(9_999, &1, &mut bytes);
    bytes
}

#[test]
fn c22_a_rule_that_says_nothing_known_is_refused_wherever_it_stands() {
    use rbac::permission::{Rule, Set};
    // A rule of a newer API is an empty message to an older reader.
    let nothing = || rbac::Permission { rule: None };
    let known = || permission(Rule::Any(true));
    let set = |rules| Set { rules };
    for (rule, path) in [
        (
            Rule::AndRules(set(vec![known(), nothing()])),
            "permissions[0].and_rules.rules[1]",
        ),
        (
            Rule::OrRules(set(vec![nothing(), known()])),
            "permissions[0].or_rules.rules[0]",
        ),
        (
            Rule::NotRule(Box::new(nothing())),
            "permissions[0].not_rule",
        ),
    ] {
        let expected = format!("{path}: says nothing");
        rbac_refused(
            |rules| {
                if let Some(policy) = rules.policies.get_mut("p") {
                    policy.permissions = vec![permission(rule)];
                }
            },
            &expected,
        );
    }
    let nobody = rbac::Principal { identifier: None };
    let not = rbac::principal::Identifier::NotId(Box::new(nobody));
    rbac_refused(
        |rules| {
            if let Some(policy) = rules.policies.get_mut("p") {
                policy.principals = vec![rbac::Principal {
                    identifier: Some(not),
                }];
            }
        },
        "principals[0].not_id: says nothing",
    );
}

#[test]
fn c27_fields_of_a_newer_api_refuse_what_secures() {
    let rules = rbac::Rbac {
        policies: [("p".to_owned(), lax())].into(),
        ..rbac::Rbac::default()
    };
    let config = rbac_filter::Rbac {
        rules: Some(rules.clone()),
        ..rbac_filter::Rbac::default()
    };
    let told_of = |value: Vec<u8>| {
        let mut config = any(&config);
        config.value = value;
        let mut manager = manager();
        manager.http_filters.insert(0, filter("rbac", config));
        let mut message = good();
        message.filter_chains[0] = chain_of(&manager);
        told(Kind::Listener, &message)
    };
    assert_eq!(told_of(prost::Message::encode_to_vec(&config)), "");
    let outer = told_of(newer(&config));
    assert!(
        outer.contains("has the field 9999 of a newer API"),
        "{outer}"
    );
    // In the rules, which are its field 1.
    let mut nested = Vec::new();
    prost::encoding::bytes::encode(1, &newer(&rules), &mut nested);
    let nested = told_of(nested);
    assert!(
        nested.contains("typed_config.rules: has the field 9999 of a newer API"),
        "{nested}"
    );
    // Of a connection manager they are harmless (gRFC A27).
    let mut message = good();
    let mut chain = chain_of(&manager());
    if let Some(listener::filter::ConfigType::TypedConfig(any)) = &mut chain.filters[0].config_type
    {
        any.value = newer(&manager());
    }
    message.filter_chains[0] = chain;
    assert_eq!(told(Kind::Listener, &message), "");
}

/// What is told of a server with this filter.
pub(super) fn told_of(config: Any) -> String {
    let mut manager = manager();
    manager.http_filters.insert(0, filter("the filter", config));
    let mut message = good();
    message.filter_chains[0] = chain_of(&manager);
    told(Kind::Listener, &message)
}

#[cfg(feature = "rate-limit")]
#[test]
fn d7_limits_that_cannot_be_counted_are_refused() {
    let refused = |change: fn(&mut local_rate::LocalRateLimit), expected: &str| {
        let all = core::RuntimeFractionalPercent {
            default_value: Some(percent::FractionalPercent {
                numerator: 100,
                denominator: 0,
            }),
            runtime_key: String::new(),
        };
        let mut message = local_rate::LocalRateLimit {
            stat_prefix: "limit".to_owned(),
            token_bucket: Some(percent::TokenBucket {
                max_tokens: 10,
                tokens_per_fill: None,
                fill_interval: Some(Duration {
                    seconds: 1,
                    nanos: 0,
                }),
            }),
            filter_enabled: Some(all.clone()),
            filter_enforced: Some(all),
            ..local_rate::LocalRateLimit::default()
        };
        change(&mut message);
        let told = told_of(any(&message));
        assert!(
            told.contains(expected) && told.is_empty() == expected.is_empty(),
            "{expected:?} is not in {told:?}"
        );
    };
    refused(|_| {}, "");
    refused(
        |limit| limit.token_bucket.get_or_insert_default().max_tokens = 0,
        "token_bucket: max_tokens is 0: 1 or more is allowed",
    );
    refused(
        |limit| limit.token_bucket.get_or_insert_default().fill_interval = None,
        "token_bucket.fill_interval: is missing",
    );
    refused(
        |limit| {
            limit.token_bucket.get_or_insert_default().fill_interval = Some(Duration {
                seconds: 0,
                nanos: 1_000_000,
            });
        },
        "fill_interval: is 1ms; 50ms and more is allowed",
    );
    refused(
        |limit| limit.local_rate_limit_per_downstream_connection = true,
        "local_rate_limit_per_downstream_connection: is not supported",
    );
    refused(
        |limit| limit.descriptors.push(Default::default()),
        "descriptors: is not supported",
    );
}
