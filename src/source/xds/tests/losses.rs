//! The table of losses is what really is lost: every pair of loss and dialect in it happens, and
//! none that is not in it. The docs have the same table.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;

use super::models;
use crate::model::authorization::{Action, Condition, External, Policy, Stage};
use crate::model::capacity::Capacity;
use crate::model::matcher::StringMatcher;
use crate::model::rate::{LocalLimit, Refusal};
use crate::model::security::PeerPolicy;
use crate::model::token::{Keys, Location, TokenRule};
use crate::model::{Fraction, Inbound, Origin};
use crate::source::xds::Dialect;
use crate::source::xds::encode::{self, Loss, Port, encode};

#[test]
fn what_each_dialect_loses_is_the_table_and_nothing_else() {
    let mut seen: BTreeSet<(Loss, Dialect)> = BTreeSet::new();
    for seed in 0..400 {
        let model = models::resources(seed);
        for dialect in [Dialect::Envoy, Dialect::Grpc, Dialect::Meshwork] {
            let lost = encode(&model, dialect).lost;
            seen.extend(lost.into_iter().map(|lost| (lost.loss, dialect)));
        }
    }
    seen.extend(of_servers());
    let table: BTreeSet<(Loss, Dialect)> = Loss::ALL
        .iter()
        .flat_map(|loss| loss.row().0.iter().map(|dialect| (*loss, *dialect)))
        .collect();
    let unseen: Vec<_> = table.difference(&seen).collect();
    let unsaid: Vec<_> = seen.difference(&table).collect();
    assert!(
        unseen.is_empty() && unsaid.is_empty(),
        "never seen: {unseen:?}; not in the table: {unsaid:?}"
    );
}

/// Listeners of servers, which are no part of a set.
fn of_servers() -> Vec<(Loss, Dialect)> {
    let mut inbound = Inbound::default();
    let policy = || Policy::new("p", Condition::Sni(StringMatcher::Prefix("".into())));
    inbound.authorization.external.push(External {
        provider: "opa".into(),
        policies: vec![policy()],
    });
    let audit = Stage::enforced(Action::Audit, vec![policy()]);
    inbound.authorization.stages.push(audit);
    inbound.tokens.push(TokenRule {
        issuer: None,
        audiences: Vec::new(),
        keys: Keys::Inline("{}".into()),
        locations: vec![Location::Cookie("session".into())],
        forward: false,
        payload_header: None,
        claim_headers: Vec::new(),
        spaced: Vec::new(),
        metadata: None,
        origin: Origin::built_in(),
    });
    inbound.limits.push(LocalLimit {
        scope: "limit".into(),
        port: None,
        total: None,
        per_caller: None,
        callers: Vec::new(),
        enabled: Fraction::ONE,
        enforced: Fraction::ONE,
        refusal: Refusal::default(),
        origin: Origin::built_in(),
    });
    let mut lost = BTreeSet::new();
    let port = Port {
        number: 80,
        inbound: &inbound,
        peers: &PeerPolicy::default(),
        capacity: Capacity {
            requests: NonZeroU32::new(1),
            ..Capacity::default()
        },
        meshed: false,
        certified: false,
    };
    encode::inbound(port, &Arc::from("a port"), &mut lost);
    lost.into_iter()
        .map(|lost| (lost.loss, Dialect::Grpc))
        .collect()
}

#[test]
fn the_docs_have_the_table_of_losses() {
    let docs = include_str!("../../../../docs/XDS-FIELDS.md");
    for loss in Loss::ALL {
        let (dialects, text) = loss.row();
        let who = match dialects {
            [Dialect::Envoy] => "Envoy",
            [Dialect::Grpc] => "gRPC",
            _ => "Envoy, gRPC",
        };
        let row = format!("| {who} | {text} |");
        assert!(
            docs.contains(&row),
            "docs/XDS-FIELDS.md wants the row\n{row}"
        );
    }
}
