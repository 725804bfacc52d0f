//! The wish of a user or a supervisor that the process end.

use anyhow::Context as _;

/// Ends with the first SIGTERM or SIGINT after this returns.
///
/// Listening begins here and not with the first poll: a future that is made anew for every wait would
/// lose what comes between two of them, since the process no longer ends by itself.
///
/// # Errors
///
/// The system does not let the process listen.
#[cfg(unix)]
pub(crate) fn end() -> anyhow::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut terminate = signal(SignalKind::terminate()).context("cannot await SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot await SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Ends with the first Ctrl-C.
///
/// # Errors
///
/// The system does not let the process listen.
#[cfg(windows)]
pub(crate) fn end() -> anyhow::Result<impl Future<Output = ()>> {
    let mut interrupt = tokio::signal::windows::ctrl_c().context("cannot await Ctrl-C")?;
    Ok(async move {
        interrupt.recv().await;
    })
}
