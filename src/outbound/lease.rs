//! What a try holds until the last byte of its response.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};

use crate::error::{Error, Kind};
use crate::layer::deadline::Deadline;
use crate::layer::limit::Permit;
use crate::snapshot::{Endpoint, InFlight};
use crate::transport::Guard;

use super::drain::Work;

pin_project! {
    /// The permit, the counts and the timers of one try. It travels with the response's body and
    /// gives everything back when that ends or is dropped.
    pub(super) struct Lease {
        in_flight: InFlight,
        permit: Permit,
        work: Work,
        cut: Cut,
        moved: Option<Instant>,
        #[pin]
        timer: Option<Sleep>,
    }
}

/// When the body of a response is cut off.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    deadline: Deadline,
    idle: Option<Duration>,
}

impl Cut {
    pub(super) fn new(deadline: Deadline, idle: Option<Duration>) -> Self {
        Self { deadline, idle }
    }

    fn next(&self, moved: Instant) -> Option<Instant> {
        let idle = self.idle.and_then(|idle| moved.checked_add(idle));
        match (self.deadline.at(), idle) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }

    fn error(&self, now: Instant) -> Error {
        match (self.deadline.at(), self.idle) {
            (Some(at), _) if at <= now => self.deadline.error(),
            (_, Some(after)) => Error::new(Kind::Idle { after }),
            (_, None) => self.deadline.error(),
        }
    }
}

impl Lease {
    pub(super) fn new(in_flight: InFlight, permit: Permit, work: Work, cut: Cut) -> Self {
        Self {
            in_flight,
            permit,
            work,
            cut,
            moved: None,
            timer: None,
        }
    }

    pub(super) fn endpoint(&self) -> &Arc<Endpoint> {
        self.in_flight.endpoint()
    }
}

impl Guard for Lease {
    /// From here on the body is what is under way; up to here it was the call.
    fn answered(&mut self) {
        self.work.count();
    }

    fn moved(self: Pin<&mut Self>) {
        let this = self.project();
        if this.cut.idle.is_some() {
            *this.moved = Some(Instant::now());
        }
    }

    /// Called while the body waits for its next frame. The timer is made on the first wait: the
    /// body of a unary call is mostly there when its head is.
    fn poll_cut(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Error> {
        let mut this = self.project();
        loop {
            let moved = *this.moved.get_or_insert_with(Instant::now);
            let Some(at) = this.cut.next(moved) else {
                return Poll::Pending;
            };
            match this.timer.as_mut().as_pin_mut() {
                None => this.timer.set(Some(tokio::time::sleep_until(at))),
                Some(timer) if timer.deadline() != at => timer.reset(at),
                Some(timer) => {
                    std::task::ready!(timer.poll(cx));
                    return Poll::Ready(this.cut.error(Instant::now()));
                }
            }
        }
    }
}
