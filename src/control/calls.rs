//! The calls of one connection: how many there are, and what must not last.
//!
//! A connection without calls keeps a place from others and says nothing; a call whose answer is large and
//! is not read keeps memory. Neither ends by itself, so the connection is told of both.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

/// The calls of a connection. Clones are of the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Calls(Arc<watch::Sender<State>>);

#[derive(Debug, Default)]
struct State {
    open: usize,
    /// By when those have to be over that must end.
    due: Vec<Instant>,
}

/// A call, until it is dropped.
#[derive(Debug)]
pub(super) struct Call {
    of: Calls,
    due: Option<Instant>,
}

/// Looks at the calls of a connection.
#[derive(Debug)]
pub(super) struct Watch(watch::Receiver<State>);

/// Why a connection is to end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Quiet {
    /// There has been no call for a while.
    Idle,
    /// A call has not ended in time.
    Overdue,
}

impl Calls {
    /// Another call.
    pub(super) fn begin(&self) -> Call {
        self.0.send_modify(|state| state.open += 1);
        Call {
            of: self.clone(),
            due: None,
        }
    }

    pub(super) fn watch(&self) -> Watch {
        Watch(self.0.subscribe())
    }
}

impl Call {
    /// From here on it is overdue after `time`.
    pub(super) fn must_end_within(&mut self, time: Duration) {
        // What is as far away as time goes is no deadline.
        let Some(due) = Instant::now().checked_add(time) else {
            return;
        };
        self.due = Some(due);
        self.of.0.send_modify(|state| state.due.push(due));
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.of.0.send_modify(|state| {
            state.open -= 1;
            if let Some(at) = state.due.iter().position(|due| Some(*due) == self.due) {
                state.due.swap_remove(at);
            }
        });
    }
}

impl Watch {
    /// Waits until there has been no call for `patience`, from now or from the end of the last one, or one
    /// is overdue. It is cancel safe.
    pub(super) async fn quiet(&mut self, patience: Duration) -> Quiet {
        loop {
            let (open, due) = {
                let state = self.0.borrow_and_update();
                (state.open, state.due.iter().min().copied())
            };
            let changed = self.0.changed();
            let (changed, quiet) = match (open, due) {
                (0, _) => (timeout(patience, changed).await, Quiet::Idle),
                (_, Some(due)) => (timeout_at(due, changed).await, Quiet::Overdue),
                (_, None) => (Ok(changed.await), Quiet::Idle),
            };
            match changed {
                Err(_) => return quiet,
                Ok(Ok(())) => {}
                // The connection is over.
                Ok(Err(_)) => std::future::pending().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;
    use tokio_test::{assert_pending, assert_ready_eq, task};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(300);

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_when_it_had_no_call_for_a_while() {
        let calls = Calls::default();
        let mut watch = calls.watch();
        let mut quiet = task::spawn(watch.quiet(PATIENCE));
        assert_pending!(quiet.poll());
        advance(PATIENCE / 2).await;
        let (one, other) = (calls.begin(), calls.begin());
        assert_pending!(quiet.poll());
        advance(PATIENCE * 10).await;
        assert_pending!(quiet.poll());
        drop(one);
        assert_pending!(quiet.poll());
        advance(PATIENCE * 10).await;
        assert_pending!(quiet.poll());
        drop(other);
        assert_pending!(quiet.poll());
        advance(PATIENCE / 2).await;
        // A short one, over before anybody looked.
        drop(calls.begin());
        assert_pending!(quiet.poll());
        advance(PATIENCE * 3 / 4).await;
        assert_pending!(quiet.poll());
        advance(PATIENCE / 4 + Duration::from_millis(2)).await;
        assert_ready_eq!(quiet.poll(), Quiet::Idle);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_is_overdue_when_it_must_end_and_does_not() {
        let calls = Calls::default();
        let mut watch = calls.watch();
        let mut quiet = task::spawn(watch.quiet(PATIENCE));
        let _lasts = calls.begin();
        let mut short = calls.begin();
        short.must_end_within(PATIENCE);
        assert_pending!(quiet.poll());
        drop(short);
        assert_pending!(quiet.poll());
        advance(PATIENCE * 2).await;
        assert_pending!(quiet.poll());
        let mut long = calls.begin();
        long.must_end_within(PATIENCE);
        assert_pending!(quiet.poll());
        advance(PATIENCE + Duration::from_millis(2)).await;
        assert_ready_eq!(quiet.poll(), Quiet::Overdue);
    }
}
