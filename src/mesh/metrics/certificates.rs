//! Metrics of identities and handshakes.

use crate::telemetry::prometheus::{Kind, Text};
use crate::tls::Credentials;

/// What is presented and believed on connections.
pub(super) fn tell(credentials: &Credentials, text: &mut Text) {
    if let Some(identity) = credentials.identity() {
        let (name, help) = (
            "meshwork_certificate_expiration_timestamp_seconds",
            "When the certificate of this process expires, as seconds since 1970.",
        );
        text.family(name, Kind::Gauge, help);
        text.sample(name, &[], identity.not_after().as_secs());
    }
    let counts = credentials.counts();
    let single = [
        (
            "meshwork_certificate_rotations_total",
            "Certificates that came into force after the first.",
            counts.rotations,
        ),
        (
            "meshwork_certificate_renewal_failures_total",
            "Times that no next certificate could be had.",
            counts.renewal_failures,
        ),
        (
            "meshwork_trust_changes_total",
            "Times that other roots came into force.",
            counts.trust_changes,
        ),
        (
            "meshwork_tls_handshakes_accepted_total",
            "Handshakes with callers that succeeded.",
            counts.accepted,
        ),
        (
            "meshwork_tls_handshakes_connected_total",
            "Handshakes with callees that succeeded.",
            counts.connected,
        ),
        (
            "meshwork_tls_handshakes_refused_total",
            "Handshakes that one side refused.",
            counts.refused,
        ),
    ];
    for (name, help, value) in single {
        text.family(name, Kind::Counter, help);
        text.sample(name, &[], value);
    }
}
