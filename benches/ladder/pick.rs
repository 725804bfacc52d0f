//! The balancer's choice alone, before a call that costs nothing.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use http::{Request, Response};
use meshwork::layer::balance::{Balancer, Candidate};
use meshwork::model::cluster::Balancing;
use meshwork::{Body, Random};

use crate::bare::NoOp;
use crate::call::{Client, RequestBody, Tower};
use crate::scenario;

/// Picks an endpoint and answers.
pub(crate) struct Picking {
    balancer: Balancer<Member>,
    random: Random,
    inner: Tower<NoOp>,
}

/// As small as an endpoint can be: what it costs to look at a big one that is not in the cache
/// shows on the rungs of the mesh.
struct Member {
    active: AtomicU32,
    admitted: AtomicBool,
}

impl Candidate for Member {
    fn weight(&self) -> NonZeroU32 {
        NonZeroU32::MIN
    }

    fn active(&self) -> u32 {
        self.active.load(Ordering::Relaxed)
    }

    fn admitted(&self) -> bool {
        self.admitted.load(Ordering::Relaxed)
    }
}

impl Picking {
    pub(crate) fn new(endpoints: usize) -> Self {
        let random = Random::seeded(scenario::SEED);
        let member = || {
            Arc::new(Member {
                active: AtomicU32::new(0),
                admitted: AtomicBool::new(true),
            })
        };
        let members = (0..endpoints).map(|_| member()).collect();
        Self {
            balancer: Balancer::new(Balancing::LeastRequest, members, &random),
            random,
            inner: Tower(NoOp),
        }
    }
}

impl Client for Picking {
    type Body = Body;

    async fn call(&mut self, request: Request<RequestBody>) -> Response<Body> {
        let member = self
            .balancer
            .pick(&self.random, |_| false)
            .expect("all are admitted");
        member.active.fetch_add(1, Ordering::Relaxed);
        let response = self.inner.call(request).await;
        member.active.fetch_sub(1, Ordering::Relaxed);
        response
    }
}
