//! The table of losses is what really is lost: every pair of loss and dialect in it happens, and
//! none that is not in it. The docs have the same table.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;

use super::models;
use crate::model::authorization::{Action, Condition, External, Policy, Stage};
use crate::model::cluster::Discovery;
use crate::model::endpoint::{Address, Endpoint, Health, Locality, LocalityEndpoints};
use crate::model::health::{GrpcQuestion, HealthCheck, Question};
use crate::model::matcher::StringMatcher;
use crate::model::security::{Alpn, ClientTls, Material, PeerPolicy, Security, Sni, Verification};
use crate::model::token::{Keys, Location, TokenRule};
use crate::model::{Endpoints, Inbound, Origin, Resources};
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
    seen.extend(of_health_checks());
    seen.extend(of_tls());
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

/// The generator of configurations that come through makes no health checks.
fn of_health_checks() -> Vec<(Loss, Dialect)> {
    let mut model = Resources::default();
    let mut cluster = models::cluster(&mut models::Chance::new(7), "checked".into());
    cluster.discovery = Discovery::Endpoints("checked".into());
    let question = Question::Grpc(GrpcQuestion::default());
    cluster.health_check = Some(HealthCheck::new(question));
    model.insert_cluster(cluster);
    let all = [Dialect::Envoy, Dialect::Grpc, Dialect::Meshwork];
    let lost = all.iter().flat_map(|dialect| {
        let lost = encode(&model, *dialect).lost.into_iter();
        lost.map(|lost| (lost.loss, *dialect))
    });
    lost.collect()
}

/// Nor clusters with TLS.
fn of_tls() -> Vec<(Loss, Dialect)> {
    let tls = Arc::new(ClientTls {
        identity: Some(Material::Mesh),
        trust: Material::Mesh,
        verification: Verification::Svid,
        names: Vec::new(),
        sni: Sni::Nobody,
        alpn: Alpn::Istio,
    });
    let address = Address::Socket(([10, 0, 0, 1], 80).into());
    let mut model = Resources::default();
    for (name, security, meshed) in [
        ("tls", Security::Tls(tls.clone()), false),
        ("automatic", Security::Automatic(tls.clone()), true),
        ("automatic, to nobody", Security::Automatic(tls), false),
    ] {
        let mut cluster = models::cluster(&mut models::Chance::new(7), name.into());
        cluster.discovery = Discovery::Endpoints(name.into());
        cluster.security = security;
        model.insert_cluster(cluster);
        let endpoint = Endpoint {
            address: address.clone(),
            weight: NonZeroU32::MIN,
            health: Health::Healthy,
            labels: Arc::default(),
            meshed,
        };
        model.insert_endpoints(Endpoints {
            name: name.into(),
            localities: vec![LocalityEndpoints {
                locality: Locality::default(),
                priority: 0,
                weight: None,
                endpoints: vec![endpoint].into(),
            }],
            origin: Origin::built_in(),
        });
    }
    let all = [Dialect::Envoy, Dialect::Grpc, Dialect::Meshwork];
    let lost = all.iter().flat_map(|dialect| {
        let lost = encode(&model, *dialect).lost.into_iter();
        let of_tls = lost.filter(|lost| matches!(lost.loss, Loss::Tls | Loss::AutomaticTls));
        of_tls.map(|lost| {
            assert_ne!(&*lost.name, "automatic, to nobody");
            (lost.loss, *dialect)
        })
    });
    lost.collect()
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
        origin: Origin::built_in(),
    });
    let mut lost = BTreeSet::new();
    let port = Port {
        number: 80,
        inbound: &inbound,
        peers: &PeerPolicy::default(),
        meshed: false,
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
            [_, _, _] => "all",
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
