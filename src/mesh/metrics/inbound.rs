//! What the door has refused, and which ports serve.
//!
//! A caller that is refused learns no reason; these do.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::snapshot::InboundStats;
use crate::telemetry::prometheus::{Kind, Text};

pub(super) fn tell(stats: &InboundStats, ports: &BTreeMap<SocketAddr, bool>, text: &mut Text) {
    const REFUSED: &str = "meshwork_inbound_refused_total";
    text.family(
        REFUSED,
        Kind::Counter,
        "Requests that were refused at the door.",
    );
    for (reason, value) in stats.refused() {
        text.sample(REFUSED, &[("reason", reason)], value);
    }
    for (name, help, value) in stats.told() {
        let name = format!("meshwork_inbound_{name}_total");
        text.family(&name, Kind::Counter, help);
        text.sample(&name, &[], value);
    }
    if ports.is_empty() {
        return;
    }
    const SERVING: &str = "meshwork_inbound_serving";
    let help = "Whether a port that a control plane configures serves.";
    text.family(SERVING, Kind::Gauge, help);
    for (address, serves) in ports {
        let address = address.to_string();
        text.sample(SERVING, &[("address", &address)], u8::from(*serves));
    }
}
