//! Limits what is under way at once.
//!
//! Envoy calls these limits "circuit breaker thresholds", a name that everybody else uses for
//! something different; here they are limits. One [`Limits`] belongs to one cluster in one process.
//! It counts connections, requests that wait for one, and requests in flight, and hands out a
//! [`Permit`] for each. Whoever is over the limit is refused at once: a queue in front of an
//! overloaded cluster only adds latency to requests that will be given up anyway, so there is
//! none but the bounded one of requests that wait for a connection.
//!
//! Three properties carry the design:
//!
//! - **Never above the cap.** A permit is taken with a compare-and-swap, not by adding first and
//!   repenting later, so that no observer ever sees more than the cap. A `tokio::sync::Semaphore`
//!   was rejected: its size cannot be lowered below what is out, it has no "unlimited", and its
//!   queue is of no use here.
//! - **Always counted.** A cap of `u32::MAX` (Istio's "no limit") still counts, because the number of
//!   requests in flight is what retry shares and statistics are made of.
//! - **Edits change caps, never counts.** [`Limits::set`] swaps the caps in place. Lowering one
//!   below what is under way ends nothing; it refuses until enough has ended.
//!
//! The same limits as a tower layer: [`LimitLayer`]. Its permit is held until the response *body*
//! has ended, as in Envoy, because an endpoint that is still sending is still busy.
//!
//! ```
//! use std::sync::Arc;
//!
//! use meshwork::layer::limit::Limits;
//! use meshwork::model;
//!
//! let limits = Arc::new(Limits::new(&model::limit::Limits { requests: 1, ..Default::default() }));
//! let permit = limits.request()?;
//! let error = meshwork::Error::from(limits.request().unwrap_err());
//! assert_eq!(error.limit(), Some(meshwork::Limit::Requests));
//! drop(permit);
//! assert_eq!(limits.active_requests(), 0);
//! # Ok::<(), meshwork::layer::limit::Overloaded>(())
//! ```

mod future;
mod gauge;
mod layer;
mod service;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::error::{Error, Kind, Limit};
use crate::model;
use gauge::Gauge;

pub use future::ResponseFuture;
pub use layer::LimitLayer;
pub use service::Limited;

/// The limits of one cluster, and how much of them is in use.
///
/// Shared by `Arc`; the gauges survive edits of the configuration (see [`Limits::set`]). The module
/// documentation has an example.
#[derive(Debug)]
// Every request writes the last gauge, and the count of references before the first field; the
// others are written when a connection comes or goes, so they may stand on the same cache line.
pub struct Limits {
    connections: Gauge,
    pending: Gauge,
    requests: Gauge,
    /// Wakes one waiter for each connection permit that comes back.
    released: Notify,
}

/// Leave to have one connection, one waiting or one active request; given back on drop.
pub struct Permit {
    limits: Arc<Limits>,
    counted: Counted,
}

/// A limit of the cluster was reached: the request is refused at once.
///
/// Becomes a [`meshwork::Error`](Error) that [`is_overloaded`](Error::is_overloaded), with Envoy's
/// flag `UO`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("overloaded: the limit of {limit:?} is reached")]
pub struct Overloaded {
    limit: Limit,
}

/// What a permit counts as.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Counted {
    Connection,
    Pending,
    Request,
}

impl Limits {
    /// Limits with nothing in use. The `retries` of the model are not looked at: they are the
    /// retry layer's.
    #[must_use]
    pub fn new(limits: &model::limit::Limits) -> Self {
        let model::limit::Limits {
            connections,
            pending,
            requests,
            retries: _,
        } = *limits;
        Self {
            connections: Gauge::new(connections),
            pending: Gauge::new(pending),
            requests: Gauge::new(requests),
            released: Notify::new(),
        }
    }

    /// Changes the caps in place; what is in use stays counted.
    ///
    /// A cap below what is in use ends nothing: it refuses until enough has ended.
    pub fn set(&self, limits: &model::limit::Limits) {
        let model::limit::Limits {
            connections,
            pending,
            requests,
            retries: _,
        } = *limits;
        self.connections.set(connections);
        self.pending.set(pending);
        self.requests.set(requests);
        // A raised cap may have room for several waiters; each looks for itself.
        self.released.notify_waiters();
    }

    /// Takes a permit for a request in flight (`http2MaxRequests`).
    ///
    /// # Errors
    /// If the cap is reached.
    pub fn request(self: &Arc<Self>) -> Result<Permit, Overloaded> {
        self.acquire(Counted::Request)
    }

    /// Takes a permit for a request that waits for a connection (`http1MaxPendingRequests`).
    ///
    /// # Errors
    /// If the cap is reached.
    pub fn pending(self: &Arc<Self>) -> Result<Permit, Overloaded> {
        self.acquire(Counted::Pending)
    }

    /// Takes a permit for a connection (`connectionPool.tcp.maxConnections`).
    ///
    /// # Errors
    /// If the cap is reached. [`Limits::connection_released`] tells when to try again.
    pub fn connection(self: &Arc<Self>) -> Result<Permit, Overloaded> {
        self.acquire(Counted::Connection)
    }

    /// Takes a permit for the first connection to an endpoint that has none: always granted, also
    /// above the cap, as in Envoy. Otherwise an endpoint could starve for ever behind others that
    /// keep their connections.
    ///
    /// The excess is at most one connection for each endpoint.
    #[must_use]
    pub fn connection_for_empty_endpoint(self: &Arc<Self>) -> Permit {
        self.connections.force();
        self.permit(Counted::Connection)
    }

    /// Waits until a connection permit can be taken, and takes it. Waiters are woken in the order in
    /// which they came; a caller of [`Limits::connection`] may still be faster, and then the waiter
    /// goes to the end of the line.
    ///
    /// Bounding the number of waiters is up to the caller, who holds a [`Limits::pending`] permit
    /// for each of them.
    ///
    /// Cancel-safe: a wake-up that a dropped waiter had received goes to the next one.
    pub async fn connection_when_free(self: &Arc<Self>) -> Permit {
        loop {
            // In line before looking, so that no release between the two is missed.
            let released = self.connection_released();
            if let Some(permit) = self.try_acquire(Counted::Connection) {
                return permit;
            }
            released.await;
        }
    }

    /// Ends when a connection permit has come back or the caps have changed since this was called;
    /// for those who wait for a connection of their own as well as for a new one.
    ///
    /// The caller is in line at once, before the first poll: call this, try to take a permit, then
    /// wait, and no release is missed. Each release wakes one waiter, in the order in which they
    /// came. Cancel-safe, as [`Limits::connection_when_free`]. Boxed, because a place in line has an
    /// address; only those who were refused pay for it.
    pub fn connection_released(&self) -> Pin<Box<Notified<'_>>> {
        let mut released = Box::pin(self.released.notified());
        released.as_mut().enable();
        released
    }

    /// Requests in flight now.
    #[must_use]
    pub fn active_requests(&self) -> u32 {
        self.requests.active()
    }

    /// Requests that wait for a connection now.
    #[must_use]
    pub fn pending_requests(&self) -> u32 {
        self.pending.active()
    }

    /// Connections that are open or being opened now; see
    /// [`Limits::connection_for_empty_endpoint`] for when they are more than the cap.
    #[must_use]
    pub fn connections(&self) -> u32 {
        self.connections.active()
    }

    /// How often each limit has refused so far: connections, pending, requests.
    #[must_use]
    pub fn refused(&self, limit: Limit) -> u64 {
        match limit {
            Limit::Connections => self.connections.refused(),
            Limit::Pending => self.pending.refused(),
            Limit::Requests => self.requests.refused(),
            // Counted where retries are decided.
            Limit::Retries => 0,
        }
    }

    fn acquire(self: &Arc<Self>, counted: Counted) -> Result<Permit, Overloaded> {
        self.try_acquire(counted).ok_or_else(|| {
            self.gauge(counted).refuse();
            Overloaded {
                limit: counted.limit(),
            }
        })
    }

    fn try_acquire(self: &Arc<Self>, counted: Counted) -> Option<Permit> {
        self.gauge(counted).acquire().then(|| self.permit(counted))
    }

    fn permit(self: &Arc<Self>, counted: Counted) -> Permit {
        Permit {
            limits: self.clone(),
            counted,
        }
    }

    fn gauge(&self, counted: Counted) -> &Gauge {
        match counted {
            Counted::Connection => &self.connections,
            Counted::Pending => &self.pending,
            Counted::Request => &self.requests,
        }
    }
}

impl Default for Limits {
    /// No limit, as Istio's default.
    fn default() -> Self {
        Self::new(&model::limit::Limits::default())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.limits.gauge(self.counted).release();
        if self.counted == Counted::Connection {
            self.limits.released.notify_one();
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Permit").field(&self.counted).finish()
    }
}

impl Counted {
    fn limit(self) -> Limit {
        match self {
            Self::Connection => Limit::Connections,
            Self::Pending => Limit::Pending,
            Self::Request => Limit::Requests,
        }
    }
}

impl Overloaded {
    /// Which limit was reached.
    #[must_use]
    pub fn limit(self) -> Limit {
        self.limit
    }
}

impl From<Overloaded> for Error {
    fn from(overloaded: Overloaded) -> Self {
        Self::new(Kind::Overflow {
            limit: overloaded.limit,
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio_test::{assert_pending, assert_ready, task};

    use super::*;

    fn limits(connections: u32, requests: u32) -> Arc<Limits> {
        Arc::new(Limits::new(&model::limit::Limits {
            connections,
            requests,
            ..Default::default()
        }))
    }

    #[test]
    fn every_limit_refuses_above_its_cap_and_says_which() {
        let limits = Arc::new(Limits::new(&model::limit::Limits {
            connections: 1,
            pending: 2,
            requests: 3,
            ..Default::default()
        }));
        let mut held = Vec::new();
        let mut fill = |take: &dyn Fn() -> Result<Permit, Overloaded>| {
            loop {
                match take() {
                    Ok(permit) => held.push(permit),
                    Err(overloaded) => break overloaded.limit(),
                }
            }
        };
        assert_eq!(fill(&|| limits.connection()), Limit::Connections);
        assert_eq!(fill(&|| limits.pending()), Limit::Pending);
        assert_eq!(fill(&|| limits.request()), Limit::Requests);
        let gauges = |limits: &Limits| {
            [
                limits.connections(),
                limits.pending_requests(),
                limits.active_requests(),
            ]
        };
        assert_eq!(gauges(&limits), [1, 2, 3]);
        assert_eq!(limits.refused(Limit::Pending), 1);
        held.clear();
        assert_eq!(gauges(&limits), [0, 0, 0]);
    }

    #[test]
    fn no_limit_still_counts() {
        let limits = Arc::new(Limits::default());
        let permits: Vec<_> = (0..5).map(|_| limits.request().unwrap()).collect();
        assert_eq!(limits.active_requests(), 5);
        drop(permits);
        assert_eq!(limits.active_requests(), 0);
    }

    #[test]
    fn a_lowered_cap_ends_nothing_and_refuses_until_enough_has_ended() {
        let limits = limits(u32::MAX, 3);
        let mut permits: Vec<_> = (0..3).map(|_| limits.request().unwrap()).collect();
        limits.set(&model::limit::Limits {
            requests: 1,
            ..Default::default()
        });
        permits.truncate(2);
        assert_eq!(limits.active_requests(), 2);
        assert!(limits.request().is_err());
        permits.clear();
        assert!(limits.request().is_ok());
    }

    #[test]
    fn an_endpoint_without_connections_gets_its_first_above_the_cap() {
        let limits = limits(1, u32::MAX);
        let first = limits.connection().unwrap();
        let extra = limits.connection_for_empty_endpoint();
        assert_eq!(limits.connections(), 2);
        drop(first);
        assert!(limits.connection().is_err(), "the extra one fills the cap");
        drop(extra);
        assert!(limits.connection().is_ok());
    }

    #[test]
    fn one_release_wakes_one_waiter_in_order() {
        let limits = limits(1, u32::MAX);
        let held = limits.connection().unwrap();
        let mut first = task::spawn(limits.connection_when_free());
        let mut second = task::spawn(limits.connection_when_free());
        assert_pending!(first.poll());
        assert_pending!(second.poll());
        drop(held);
        assert!(first.is_woken() && !second.is_woken());
        let permit = assert_ready!(first.poll());
        assert_pending!(second.poll());
        drop(permit);
        assert!(second.is_woken());
        assert_ready!(second.poll());
    }

    #[test]
    fn a_dropped_waiter_passes_its_wake_up_on() {
        let limits = limits(1, u32::MAX);
        let held = limits.connection().unwrap();
        let mut first = task::spawn(limits.connection_when_free());
        let mut second = task::spawn(limits.connection_when_free());
        assert_pending!(first.poll());
        assert_pending!(second.poll());
        drop(held);
        drop(first);
        assert!(second.is_woken());
        assert_ready!(second.poll());
    }

    /// Two who are in line but have not been polled, two releases: neither is lost.
    #[test]
    fn whoever_asked_before_a_release_is_woken_by_it() {
        let limits = limits(2, u32::MAX);
        let held = [limits.connection().unwrap(), limits.connection().unwrap()];
        let waiters = [limits.connection_released(), limits.connection_released()];
        drop(held);
        for waiter in waiters {
            assert_ready!(task::spawn(waiter).poll());
        }
    }

    #[test]
    fn a_raised_cap_wakes_all_who_wait() {
        let limits = limits(0, u32::MAX);
        let mut waiters: Vec<_> = (0..3)
            .map(|_| task::spawn(limits.connection_when_free()))
            .collect();
        for waiter in &mut waiters {
            assert_pending!(waiter.poll());
        }
        limits.set(&model::limit::Limits {
            connections: 2,
            ..Default::default()
        });
        let polled: Vec<_> = waiters.iter_mut().map(task::Spawn::poll).collect();
        let granted = polled.iter().filter(|polled| polled.is_ready()).count();
        assert_eq!(granted, 2);
    }

    /// Threads instead of tasks: the compare-and-swap is what is tested.
    #[test]
    fn g15_a_thousand_callers_never_exceed_the_cap() {
        let limits = limits(u32::MAX, 100);
        std::thread::scope(|scope| {
            for caller in 0..8_u64 {
                let limits = &limits;
                scope.spawn(move || {
                    let random = crate::random::Random::seeded(caller);
                    let mut held = Vec::new();
                    for _ in 0..5_000 {
                        match random.below(64) {
                            0 => held.clear(),
                            _ => held.extend(limits.request().ok()),
                        }
                        assert!(limits.active_requests() <= 100);
                    }
                });
            }
        });
        assert_eq!(limits.active_requests(), 0);
        assert!(limits.refused(Limit::Requests) > 0);
    }
}
