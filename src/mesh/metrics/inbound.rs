//! What the door has refused, and which ports serve.
//!
//! A caller that is refused learns no reason; these do.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::snapshot::InboundStats;
use crate::telemetry::family::{Families, Kind};

pub(super) fn tell(
    stats: &InboundStats,
    ports: &BTreeMap<SocketAddr, bool>,
    all: &mut dyn Families,
) {
    const REFUSED: &str = "meshwork_inbound_refused_total";
    all.family(
        REFUSED,
        Kind::Counter,
        "Requests that were refused at the door.",
    );
    for (reason, value) in stats.refused() {
        all.sample(REFUSED, &[("reason", reason)], value);
    }
    for (name, help, value) in stats.told() {
        let name = format!("meshwork_inbound_{name}_total");
        all.family(&name, Kind::Counter, help);
        all.sample(&name, &[], value);
    }
    const SERVING: &str = "meshwork_inbound_serving";
    let help = "Whether a port that a control plane configures serves.";
    all.family(SERVING, Kind::Gauge, help);
    for (address, serves) in ports {
        let address = address.to_string();
        all.sample(SERVING, &[("address", &address)], u64::from(*serves));
    }
}
