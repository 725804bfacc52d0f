//! What the mesh logs, as the program's subscriber has it.
//!
//! A library has no levels of its own to show or to set: it tells events, and the subscriber of the
//! program takes those that it wants. So Envoy's `/logging` is answered by asking that subscriber, and
//! levels are changed where they are kept (`tracing_subscriber::reload`), not here: this endpoint
//! changes nothing.

use tracing::{Level, enabled};

/// The least important level that the subscriber takes of a target.
macro_rules! level {
    ($target:literal) => {
        if enabled!(target: $target, Level::TRACE) {
            "trace"
        } else if enabled!(target: $target, Level::DEBUG) {
            "debug"
        } else if enabled!(target: $target, Level::INFO) {
            "info"
        } else if enabled!(target: $target, Level::WARN) {
            "warn"
        } else if enabled!(target: $target, Level::ERROR) {
            "error"
        } else {
            "off"
        }
    };
}

/// One macro for each target: levels of a call site are constants.
macro_rules! levels {
    ($($target:literal),* $(,)?) => {
        [$(($target, level!($target))),*]
    };
}

/// A line for each target.
pub(super) fn logging() -> String {
    let levels = levels![
        "meshwork",
        "meshwork::audit",
        "meshwork::control",
        "meshwork::dns",
        "meshwork::inbound",
        "meshwork::mesh",
        "meshwork::outbound",
        "meshwork::snapshot",
        "meshwork::source",
        "meshwork::telemetry",
        "meshwork::tls",
        "meshwork::transport",
    ];
    let lines = levels.map(|(target, level)| format!("{target}: {level}\n"));
    lines.concat()
}
