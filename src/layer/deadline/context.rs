use tokio::task::futures::TaskLocalFuture;

use super::Deadline;

tokio::task_local! {
    static DEADLINE: Deadline;
}

/// What the current task knows of the inbound request that it serves.
///
/// The inbound side wraps the handler in [`Context::scope`]; the outbound side asks
/// [`Context::current`]. A task-local variable was chosen over a request extension because most
/// handlers build their outbound requests from nothing, and what has to be passed along by hand is
/// forgotten. It ends at `tokio::spawn`: a spawned task may outlive its request on purpose. One
/// that should not, wraps its future in a scope itself:
///
/// ```
/// use meshwork::layer::deadline::{Context, Deadline};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let deadline = Deadline::after(std::time::Duration::from_secs(1));
/// Context::scope(deadline, async {
///     let inherited = tokio::spawn(Context::scope(Context::current(), async {
///         Context::current()
///     }));
///     assert_eq!(inherited.await.unwrap(), deadline);
/// })
/// .await;
/// assert_eq!(Context::current(), Deadline::NONE);
/// # }
/// ```
#[derive(Debug)]
pub enum Context {}

impl Context {
    /// Runs `future` under `deadline`: calls made inside inherit it.
    ///
    /// The deadline is told, not enforced: `future` is not cut when it is over. An inner scope
    /// replaces the outer one; pass [`Deadline::min`] of both to keep the earlier. Cancel-safe:
    /// dropping the result drops `future`.
    pub fn scope<F: Future>(deadline: Deadline, future: F) -> TaskLocalFuture<Deadline, F> {
        DEADLINE.scope(deadline, future)
    }

    /// The deadline of the request being served; [`Deadline::NONE`] outside of any scope.
    #[must_use]
    pub fn current() -> Deadline {
        DEADLINE.try_with(|deadline| *deadline).unwrap_or_default()
    }
}
