//! The certificates of a mesh: names and times, never a key.

use super::json::Json;
use crate::outbound::Core;

/// Those that its connections present and believe.
#[cfg(feature = "tls-core")]
pub(super) fn certs(core: &Core) -> Json {
    let credentials = core.environment.materials.mesh();
    let now = crate::tls::Clock::system().now();
    let own = credentials.and_then(crate::tls::Credentials::identity);
    let own = own.map(|identity| {
        let left = |until: std::time::Duration| until.as_secs() as f64 - now.as_secs() as f64;
        Json::Object(vec![
            ("whose", "this process".into()),
            ("identity", identity.id().map(ToString::to_string).into()),
            ("serial", identity.serial().into()),
            ("valid_from_unix", identity.not_before().as_secs().into()),
            ("valid_until_unix", identity.not_after().as_secs().into()),
            ("expires_s", Json::Number(left(identity.not_after()))),
            ("certificates", (identity.chain().count() as u64).into()),
        ])
    });
    let counts = credentials.map(|credentials| {
        let counts = credentials.counts();
        Json::Object(vec![
            ("generation", credentials.generation().into()),
            ("rotations", counts.rotations.into()),
            ("renewal_failures", counts.renewal_failures.into()),
            ("trust_changes", counts.trust_changes.into()),
            ("handshakes_accepted", counts.accepted.into()),
            ("handshakes_connected", counts.connected.into()),
            ("handshakes_refused", counts.refused.into()),
        ])
    });
    Json::Object(vec![
        ("certificates", own.into_iter().collect()),
        ("credentials", counts.unwrap_or(Json::Null)),
    ])
}

/// There are none without TLS.
#[cfg(not(feature = "tls-core"))]
pub(super) fn certs(_: &Core) -> Json {
    Json::Object(vec![
        ("certificates", Json::List(Vec::new())),
        ("credentials", Json::Null),
    ])
}
