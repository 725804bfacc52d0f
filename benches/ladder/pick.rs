//! The choice among endpoints, by itself.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use http::{Request, Response};
use meshwork::layer::balance::{Ask, Balancer, Candidate, Signals};
use meshwork::model::balancing::{Maglev, PeakEwma, RingHash, WeightedRoundRobin};
use meshwork::model::cluster::Balancing;
use meshwork::{Body, Random};
use tokio::time::Instant;

use crate::bare::NoOp;
use crate::call::{Client, RequestBody, Tower};
use crate::scenario;

/// The ways to choose, with their names. The ring has an entry for each of ten thousand.
pub(crate) fn ways() -> [(&'static str, Balancing); 7] {
    let ring = RingHash::new(1_024, 65_536).expect("the minimum is below the maximum");
    [
        ("least request", Balancing::LeastRequest),
        ("round robin", Balancing::RoundRobin),
        ("random", Balancing::Random),
        ("peak ewma", Balancing::PeakEwma(PeakEwma::default())),
        (
            "reported weights",
            Balancing::WeightedRoundRobin(WeightedRoundRobin::default()),
        ),
        ("ring hash", Balancing::RingHash(ring)),
        ("maglev", Balancing::Maglev(Maglev::default())),
    ]
}

/// Picks one of many before each call, and counts the request at the picked one.
pub(crate) struct Picking {
    balancer: Balancer<Member>,
    random: Random,
    /// Of the next request, for picks by hash.
    key: u64,
    inner: Tower<NoOp>,
}

/// As small as an endpoint can be: what it costs to look at a big one that is not in the cache
/// shows on the rungs of the mesh.
struct Member {
    active: AtomicU32,
    admitted: AtomicBool,
    key: String,
    signals: Signals,
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

    fn key(&self) -> &str {
        &self.key
    }

    fn signals(&self) -> Option<&Signals> {
        Some(&self.signals)
    }
}

/// Takes any one of a plain list, without a rule: what every choice among so many costs, because the
/// one that is chosen is in no cache.
pub(crate) struct Blind {
    members: Vec<Arc<Member>>,
    random: Random,
    inner: Tower<NoOp>,
}

impl Blind {
    pub(crate) fn new(endpoints: usize) -> Self {
        Self {
            members: members(endpoints),
            random: Random::seeded(scenario::SEED),
            inner: Tower(NoOp),
        }
    }
}

impl Client for Blind {
    type Body = Body;

    async fn call(&mut self, request: Request<RequestBody>) -> Response<Body> {
        let drawn = self.random.below(self.members.len() as u32) as usize;
        let member = self.members[drawn].clone();
        member.active.fetch_add(1, Ordering::Relaxed);
        let response = self.inner.call(request).await;
        member.active.fetch_sub(1, Ordering::Relaxed);
        response
    }
}

fn members(endpoints: usize) -> Vec<Arc<Member>> {
    let member = |number: usize| {
        Arc::new(Member {
            active: AtomicU32::new(0),
            admitted: AtomicBool::new(true),
            key: format!("10.0.{}.{}:80", number / 256, number % 256),
            signals: Signals::new(Instant::now()),
        })
    };
    (0..endpoints).map(member).collect()
}

impl Picking {
    pub(crate) fn new(balancing: Balancing, endpoints: usize) -> Self {
        let random = Random::seeded(scenario::SEED);
        Self {
            balancer: Balancer::new(balancing, members(endpoints), &random),
            random,
            key: 0,
            inner: Tower(NoOp),
        }
    }
}

impl Client for Picking {
    type Body = Body;

    async fn call(&mut self, request: Request<RequestBody>) -> Response<Body> {
        // A multiplicative hash, which costs next to nothing.
        self.key = self.key.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let ask = Ask {
            key: Some(self.key),
            ..Ask::default()
        };
        let picked = self.balancer.pick_for(ask, &self.random, |_| false);
        let member = picked.expect("all are admitted");
        member.active.fetch_add(1, Ordering::Relaxed);
        let response = self.inner.call(request).await;
        member.active.fetch_sub(1, Ordering::Relaxed);
        response
    }
}
