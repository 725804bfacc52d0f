//! What became of credentials: the mesh's own, and those that a configuration names.
//!
//! Samples of the mesh's own have no label `credentials`, so that they are the same whether or not there are
//! others. The values of the label come from the configuration alone.

use crate::telemetry::family::{Families, Kind};
use crate::tls::{Counts, Credentials, Materials};

type Of = fn(&Counts) -> u64;

/// Name, help, value.
const COUNTERS: [(&str, &str, Of); 5] = [
    (
        "meshwork_identity_rotations_total",
        "Identities that came into force.",
        |counts| counts.rotations,
    ),
    (
        "meshwork_identity_renewal_failures_total",
        "Tries to renew that failed.",
        |counts| counts.renewal_failures,
    ),
    (
        "meshwork_trust_changes_total",
        "Trusts that came into force.",
        |counts| counts.trust_changes,
    ),
    (
        "meshwork_connections_disbelieved_total",
        "Connections that had time to end, since their peer is not believed any more.",
        |counts| counts.disbelieved,
    ),
    (
        "meshwork_connections_cut_total",
        "Connections that were cut, since their peer is not believed any more.",
        |counts| counts.cut,
    ),
];

/// One pair of credentials, and how it is called; nothing: the mesh's own.
struct One {
    name: Option<String>,
    credentials: Credentials,
    counts: Counts,
}

impl One {
    fn new(name: Option<String>, credentials: Credentials) -> Self {
        Self {
            name,
            counts: credentials.counts(),
            credentials,
        }
    }

    fn sample(&self, all: &mut dyn Families, family: &str, labels: &[(&str, &str)], value: u64) {
        let own = self.name.as_ref().map(|name| ("credentials", &**name));
        let labels: Vec<(&str, &str)> = own.into_iter().chain(labels.iter().copied()).collect();
        all.sample(family, &labels, value);
    }
}

pub(super) fn tell(materials: &Materials, all: &mut dyn Families) {
    let own = materials.mesh();
    let others = materials.others().into_iter();
    // A provider may give the mesh's own under another name.
    let others = others.filter(|(_, other)| own.is_none_or(|own| !own.is_same(other)));
    let mut found: Vec<One> = own
        .cloned()
        .map(|own| One::new(None, own))
        .into_iter()
        .collect();
    found.extend(others.map(|(name, other)| One::new(Some(name), other)));
    const EXPIRES: &str = "meshwork_identity_not_after_seconds";
    all.family(
        EXPIRES,
        Kind::Gauge,
        "When the identity expires, since 1970.",
    );
    for one in &found {
        let expires = one
            .credentials
            .identity()
            .map(|own| own.not_after().as_secs());
        // Who has roots alone has nothing that expires.
        if let Some(expires) = expires.or(one.name.is_none().then_some(0)) {
            one.sample(all, EXPIRES, &[], expires);
        }
    }
    for (name, help, of) in COUNTERS {
        all.family(name, Kind::Counter, help);
        for one in &found {
            one.sample(all, name, &[], of(&one.counts));
        }
    }
    handshakes(&found, all);
}

fn handshakes(found: &[One], all: &mut dyn Families) {
    const OUTCOMES: &str = "meshwork_handshakes_total";
    all.family(OUTCOMES, Kind::Counter, "Handshakes of TLS.");
    for one in found {
        for (outcome, value) in [
            ("accepted", one.counts.accepted),
            ("connected", one.counts.connected),
            ("refused", one.counts.refused),
        ] {
            one.sample(all, OUTCOMES, &[("outcome", outcome)], value);
        }
    }
    const REFUSED: &str = "meshwork_handshakes_refused_total";
    all.family(REFUSED, Kind::Counter, "Handshakes of TLS that failed.");
    for one in found {
        for (reason, value) in one.credentials.refusals() {
            one.sample(all, REFUSED, &[("reason", reason)], value);
        }
    }
}
