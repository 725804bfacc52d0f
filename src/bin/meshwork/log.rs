//! What the commands that run for long say on stderr, and how that is changed while they run.

use std::io::IsTerminal as _;

use meshwork::BoxError;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, reload};

/// Begins to log by `RUST_LOG`, or else from `least` on. Yields what `POST /logging` of an admin endpoint
/// changes: levels of the mesh's own targets, beside the filter that the process began with.
pub(crate) fn to_stderr(least: &str) -> impl Fn(&str) -> Result<(), BoxError> + use<> {
    let begun = std::env::var("RUST_LOG").ok();
    let begun = begun.filter(|text| !text.is_empty() && EnvFilter::try_new(text).is_ok());
    let begun = begun.unwrap_or_else(|| least.to_owned());
    let (filter, handle) = reload::Layer::new(EnvFilter::new(&begun));
    // Colours are for a terminal, and a file or a collector of logs is none.
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .init();
    move |wanted| {
        let text = match wanted {
            "" => begun.clone(),
            wanted => format!("{begun},{wanted}"),
        };
        handle.reload(EnvFilter::try_new(text)?)?;
        Ok(())
    }
}
