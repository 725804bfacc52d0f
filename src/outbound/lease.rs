//! What a try holds until the last byte of its response.

use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::HeaderMap;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};

use crate::error::{Error, Kind};
use crate::layer::deadline::Deadline;
use crate::layer::limit::Permit;
use crate::snapshot::{Cluster, Endpoint, InFlight, Located};
use crate::telemetry::Meter;
use crate::transport::{End, Guard};

use super::answer;
use super::drain::Work;

pin_project! {
    /// The permit, the counts and the timers of one try. It travels with the response's body and
    /// gives everything back when that ends or is dropped.
    pub(super) struct Lease {
        admitted: Admitted,
        moved: Option<Instant>,
        // What is measured of the call, once this is the response that it gets.
        meter: Option<Meter>,
        #[pin]
        timer: Option<Sleep>,
    }
}

/// What a try holds from the moment that it may go.
pub(super) struct Admitted {
    pub(super) in_flight: InFlight,
    #[expect(dead_code, reason = "it counts until it is dropped")]
    pub(super) permit: Permit,
    pub(super) work: Work,
    pub(super) cut: Cut,
    /// Who wants to know what the endpoint reports in its trailers, and where it is.
    pub(super) reporter: Option<(Arc<Cluster>, Located)>,
}

impl Admitted {
    pub(super) fn endpoint(&self) -> Arc<Endpoint> {
        self.in_flight.endpoint().clone()
    }
}

/// When the body of a response is cut off.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    deadline: Deadline,
    idle: Option<Duration>,
    reader: Reader,
}

/// Who reads the body, and so how its early end is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Reader {
    /// A gRPC client behind a channel: by trailers, since it shows any error of a body as UNKNOWN.
    Grpc,
    /// Anybody else: by the error.
    Plain,
}

impl Cut {
    pub(super) fn new(deadline: Deadline, idle: Option<Duration>, reader: Reader) -> Self {
        Self {
            deadline,
            idle,
            reader,
        }
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
    pub(super) fn new(admitted: Admitted) -> Self {
        Self {
            admitted,
            moved: None,
            meter: None,
            timer: None,
        }
    }
}

impl Guard for Lease {
    /// From here on the body is what is under way; up to here it was the call.
    fn answered(&mut self) {
        self.admitted.work.count();
    }

    /// The timeouts of route and caller are for the switch; what lasts afterwards has an idle
    /// timeout only, as in Envoy.
    fn switched(&mut self) {
        self.admitted.cut.deadline = Deadline::NONE;
    }

    fn moved(self: Pin<&mut Self>) {
        let this = self.project();
        if this.admitted.cut.idle.is_some() {
            *this.moved = Some(Instant::now());
        }
    }

    fn received(self: Pin<&mut Self>, bytes: usize) {
        if let Some(meter) = self.project().meter {
            meter.received(bytes as u64);
        }
    }

    fn keep(self: Pin<&mut Self>, held: &mut dyn Any) {
        if let Some(held) = held.downcast_mut::<Option<Meter>>() {
            *self.project().meter = held.take();
        }
    }

    fn ended(self: Pin<&mut Self>, end: End) {
        let this = self.project();
        if let (Some(meter), End::Complete) = (this.meter, end) {
            this.admitted.in_flight.took(meter.ended());
        }
    }

    fn trailers(self: Pin<&mut Self>, trailers: &HeaderMap) {
        let this = self.project();
        if let Some(meter) = this.meter {
            meter.trailers(trailers);
        }
        if let Some((cluster, located)) = &this.admitted.reporter {
            let endpoint = this.admitted.in_flight.endpoint();
            cluster.take_report(endpoint, located, trailers);
        }
    }

    fn broken(self: Pin<&mut Self>, error: Error) -> Result<HeaderMap, Error> {
        let this = self.project();
        if let Some(meter) = this.meter {
            meter.cut(&error);
        }
        let endpoint = this.admitted.in_flight.endpoint();
        let error = error
            .at_cluster(endpoint.cluster())
            .at_endpoint(endpoint.label());
        match this.admitted.cut.reader {
            Reader::Grpc => Ok(answer::grpc_trailers(&error)),
            Reader::Plain => Err(error),
        }
    }

    /// Called while the body waits for its next frame. The timer is made on the first wait: the
    /// body of a unary call is mostly there when its head is.
    fn poll_cut(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Error> {
        let mut this = self.project();
        loop {
            let moved = *this.moved.get_or_insert_with(Instant::now);
            let Some(at) = this.admitted.cut.next(moved) else {
                return Poll::Pending;
            };
            match this.timer.as_mut().as_pin_mut() {
                None => this.timer.set(Some(tokio::time::sleep_until(at))),
                Some(timer) if timer.deadline() != at => timer.reset(at),
                Some(timer) => {
                    std::task::ready!(timer.poll(cx));
                    return Poll::Ready(this.admitted.cut.error(Instant::now()));
                }
            }
        }
    }
}
