//! The tower service.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};

use http::{HeaderMap, Request, Response};
use tokio::time::Instant;
use tower_service::Service;

use super::{Ask, BalanceLayer, Balancer, Candidate, HashKey, ResponseFuture, Signals};
use crate::error::{BoxError, Error};
use crate::layer::classify::{Local, Outcome};
use crate::layer::held::HeldBody;
use crate::layer::outlier::{Event, Host, Sweeper};
use crate::random::Random;

/// Sends each request to one of a fixed list of services.
///
/// Always ready: a service is picked when the request is made, by the load of that moment, and the
/// request waits in the response future until *that* service is ready. So the picked service is the
/// called one, always, and one that is not ready delays only the requests that fell on it (which
/// count as its load). Picking in `poll_ready` was rejected: the choice could be arbitrarily old at
/// the time of the call.
///
/// Services are cloned for each request; clones must share what they reserve in `poll_ready`, as
/// clones of a channel or of a hyper client do.
///
/// A request counts as load until its response body has ended. Without any service, or with all
/// ejected, calls fail with an [`Error`] with Envoy's flag `UH`. Ejections end at the first
/// call after the interval in which their time is over; there is no task.
pub struct Balance<S> {
    shared: Arc<Shared<S>>,
}

/// What all clones share.
pub(super) struct Shared<S> {
    balancer: Balancer<Member<S>>,
    /// The services, which never change.
    members: Box<[Arc<Member<S>>]>,
    random: Random,
    sweeper: Option<Sweeper>,
}

/// One of the services.
pub(super) struct Member<S> {
    service: S,
    weight: NonZeroU32,
    active: Arc<AtomicU32>,
    host: Host,
    signals: Signals,
}

/// One request that a service is working on; counts until it is dropped.
#[derive(Debug)]
pub struct Active(Arc<AtomicU32>);

impl<S> Balance<S> {
    pub(super) fn new(services: Vec<(S, NonZeroU32)>, options: BalanceLayer) -> Self {
        let BalanceLayer {
            rules,
            outlier,
            random,
        } = options;
        let now = Instant::now();
        let members: Vec<_> = services
            .into_iter()
            .map(|(service, weight)| {
                Arc::new(Member {
                    service,
                    weight,
                    active: Arc::default(),
                    host: Host::new(),
                    signals: Signals::new(now),
                })
            })
            .collect();
        let sweeper = outlier.map(|policy| Sweeper::new(policy, random.clone()));
        if let Some(sweeper) = &sweeper {
            members
                .iter()
                .for_each(|member| sweeper.detector.join(&member.host));
        }
        Self {
            shared: Arc::new(Shared {
                balancer: Balancer::new(rules, members.clone(), &random),
                members: members.into(),
                random,
                sweeper,
            }),
        }
    }

    /// How many of the services are admitted.
    #[must_use]
    pub fn admitted(&self) -> usize {
        self.shared.balancer.admitted()
    }
}

impl<S> Clone for Balance<S> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
        }
    }
}

impl<S, B, R> Service<Request<B>> for Balance<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone,
    S::Error: Into<BoxError>,
    R: http_body::Body,
{
    type Response = Response<HeldBody<R, Active>>;
    type Error = Error;
    type Future = ResponseFuture<S, Request<B>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        match self.shared.pick(request.extensions().get()) {
            Some(member) => {
                let service = member.service.clone();
                ResponseFuture::picked(self.shared.clone(), member, service, request)
            }
            None => ResponseFuture::nobody(),
        }
    }
}

impl<S> Shared<S> {
    fn pick(&self, key: Option<&HashKey>) -> Option<Arc<Member<S>>> {
        if let Some(sweeper) = &self.sweeper {
            let hosts = self.members.iter().map(|member| &member.host);
            if sweeper.look(hosts, false, Instant::now()) {
                self.balancer.refresh();
            }
        }
        let ask = Ask {
            key: key.map(|key| key.0),
            // A list of services is short, and only a bounded hash asks.
            in_flight: match self.balancer.hashes() {
                true => self.members.iter().map(|one| one.active()).sum(),
                false => 0,
            },
            leave: 0,
        };
        self.balancer.pick_for(ask, &self.random, |_| false)
    }

    pub(super) fn record(
        &self,
        member: &Member<S>,
        outcome: Option<Outcome>,
        began: Instant,
        headers: Option<&HeaderMap>,
    ) {
        let now = Instant::now();
        if let Some(headers) = headers {
            self.balancer.report(&member.signals, headers, now);
        }
        let Some(outcome) = outcome else {
            return;
        };
        let failed = !matches!(outcome, Outcome::Success | Outcome::Failure(..500));
        let took = now.saturating_duration_since(began);
        match outcome {
            // A service without an answer is passed over, where one is used for all.
            Outcome::Local(Local::Connect | Local::Reset) => {
                self.balancer.lost(&member.signals, began, now);
            }
            Outcome::Local(Local::Timeout) => {}
            Outcome::Failure(_) | Outcome::Success => self.balancer.reached(&member.signals, now),
        }
        self.balancer.observe(&member.signals, took, failed, now);
        let Some(sweeper) = &self.sweeper else {
            return;
        };
        let event = sweeper.detector.record(&member.host, outcome, now);
        if let Some(Event::Ejected { .. }) = event {
            self.balancer.refresh();
        }
    }
}

impl<S> Member<S> {
    /// One more request.
    pub(super) fn begin(&self) -> Active {
        self.active.fetch_add(1, Ordering::Relaxed);
        Active(self.active.clone())
    }
}

impl<S> Candidate for Member<S> {
    fn weight(&self) -> NonZeroU32 {
        self.weight
    }

    fn active(&self) -> u32 {
        self.active.load(Ordering::Relaxed)
    }

    fn admitted(&self) -> bool {
        self.host.admitted()
    }

    fn signals(&self) -> Option<&Signals> {
        Some(&self.signals)
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<S> fmt::Debug for Balance<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Balance")
            .field("balancer", &self.shared.balancer)
            .finish_non_exhaustive()
    }
}
