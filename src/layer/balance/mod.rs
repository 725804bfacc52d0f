//! Picks one of many endpoints.
//!
//! A [`Balancer`] is a list of [`Candidate`]s and a way to choose. It owns no connection and has no
//! readiness: it answers "which one, now?" in a few steps, without a lock, an allocation or a
//! string, whether there are three members or ten thousand. Members come and go at the cost of
//! those that do ([`Balancer::change`]): all that is picked from are trees whose versions share what
//! a change leaves alone.
//!
//! tower's own p2c `Balance` was rejected as a base. It moves services in and out of a ready set
//! whose indices can go stale, so that a request can reach another endpoint than the picked one
//! (tower#856), and it polls pending endpoints only when a request comes (tower#824). Here the
//! picked member is returned, and what is returned is what the caller calls; getting connected is
//! the endpoint's own business.
//!
//! # Ways to choose
//!
//! - [`RoundRobin`](Balancing::RoundRobin): one after the other from a random start, so that a
//!   thousand clients that start at once do not all begin with the first. With weights, every round
//!   gives each exactly its weight, evenly spread (see `Pool::turn`).
//! - [`Random`](Balancing::Random): by weight.
//! - [`LeastRequest`](Balancing::LeastRequest): two *distinct* members are drawn by weight; the one
//!   with fewer requests in flight per weight wins, the first of equals. So an idle cluster is
//!   shared by weight, and so is a busy one.
//! - [`PeakEwma`](Balancing::PeakEwma): two are drawn as well; the one wins whose recent latency
//!   times its requests in flight is smaller. Latency rises at once and falls slowly, and an error
//!   never lowers it.
//! - [`PickFirst`](Balancing::PickFirst): all go to one member, the first of the list (or of an order
//!   of this client's own) that can be connected to, for as long as it can be.
//! - [`RingHash`](Balancing::RingHash) and [`Maglev`](Balancing::Maglev): the same
//!   [key](Ask::key) goes to the same member, and few keys move when members come and go. Without a
//!   key one is drawn.
//! - [`WeightedRoundRobin`](Balancing::WeightedRoundRobin): round robin by weights that members
//!   [report](Report).
//!
//! # Before one is chosen
//!
//! Members stand in priorities and localities ([`Placement`]). The first priority is used as far as
//! its health allows, the rest spills to the next (Envoy's formula and percents); within it a
//! locality can be drawn by weight and health. A client may use only a
//! [subset](Spread::subset) of many members. A member that has just come can be
//! [warmed up](Spread::slow_start): who is drawn while its share is growing is taken with that
//! probability, else another draw is made. So shares grow smoothly and nothing is computed for
//! members that nobody draws; a table of weights made anew every second was rejected.
//!
//! # Health
//!
//! A member that is not [`admitted`](Candidate::admitted) is not picked, unless fewer than the
//! panic threshold are admitted in its priority and all priorities together cannot serve
//! everything: then health is ignored, because sending everything to the few that are
//! left would kill them too. Without a threshold and without anybody admitted the answer is `None`.
//!
//! The admitted ones are kept apart, so a pick costs the same however many are out. Whoever ejects
//! or readmits says so ([`Balancer::refresh`], [`Balancer::refresh_named`]). A pick that meets a
//! member which is out all the same takes it out by itself, so a forgotten call costs time, never a
//! request; only readmission waits for it.
//!
//! # Fast failures
//!
//! An endpoint that answers every request with an instant error has few requests in flight, which
//! makes it look idle to least request: a sinkhole. The balancer does not guess at that. Draws are
//! by weight before load is compared, so with `n` members at most two picks in `n` fall on it; and
//! outlier detection takes it out after its fifth failure in a row (see
//! [`outlier`](super::outlier)). Both are tested. Lowering the weight of failing members instead
//! was rejected: it hides a broken endpoint from the panic threshold and from operators.
//!
//! ```
//! use std::num::NonZeroU32;
//! use std::sync::Arc;
//!
//! use meshwork::Random;
//! use meshwork::layer::balance::{Balancer, Candidate};
//! use meshwork::model::cluster::Balancing;
//!
//! struct Endpoint(&'static str);
//!
//! impl Candidate for Endpoint {
//!     fn weight(&self) -> NonZeroU32 { NonZeroU32::MIN }
//!     fn active(&self) -> u32 { 0 }
//!     fn admitted(&self) -> bool { self.0 != "b" }
//! }
//!
//! let random = Random::seeded(1);
//! let members = ["a", "b", "c"].map(|name| Arc::new(Endpoint(name))).to_vec();
//! let balancer = Balancer::new(Balancing::RoundRobin, members, &random);
//! let mut turns: Vec<_> = (0..4).map(|_| balancer.pick(&random, |_| false).unwrap().0).collect();
//! turns.sort();
//! assert_eq!(turns, ["a", "a", "c", "c"]);
//! ```

mod balancer;
mod changing;
mod draw;
mod first;
mod future;
mod hash;
mod index;
mod layer;
mod layout;
mod loads;
mod pool;
mod report;
mod service;
mod shares;
mod signals;
mod slots;
mod sorted;
mod state;
#[cfg(test)]
mod tests;
mod tier;

use std::num::NonZeroU32;

use smallvec::SmallVec;
use twox_hash::XxHash64;

use crate::model::Percent;
use crate::model::balancing::Spread;
use crate::model::cluster::Balancing;

pub use balancer::Balancer;
pub use future::ResponseFuture;
pub use layer::BalanceLayer;
pub use report::Report;
#[cfg(feature = "outbound")]
pub(crate) use report::{Metric, written};
pub use service::{Active, Balance};
pub use signals::Signals;

/// Somebody who can be picked.
///
/// All of it is asked on the path of a request: it should be one load each. The module
/// documentation has an example.
pub trait Candidate {
    /// The share among its peers. Must not change while it is in a balancer; a change is another
    /// member in its place ([`Balancer::change`]).
    fn weight(&self) -> NonZeroU32;

    /// Requests in flight now.
    fn active(&self) -> u32;

    /// Whether it may be picked; see [`outlier::Host::admitted`](super::outlier::Host::admitted).
    fn admitted(&self) -> bool;

    /// What it is known by to hashes and sessions: its address. Must not change. Without one, its
    /// place in the list is what hashes see.
    fn key(&self) -> &str {
        ""
    }

    /// What a hash knows it by, if that is another text than its [key](Self::key) (gRPC A76): an endpoint
    /// that moves to another address then keeps its requests. Must not change.
    fn hash_key(&self) -> &str {
        self.key()
    }

    /// Where it stands. Must not change.
    fn placement(&self) -> Placement {
        Placement::default()
    }

    /// What has been seen of it; needed for slow start, peak EWMA, pick first and weighted round
    /// robin, which without it take it for grown, not yet seen, not yet tried, and silent.
    fn signals(&self) -> Option<&Signals> {
        None
    }
}

/// Where a candidate stands.
///
/// ```
/// use meshwork::layer::balance::Placement;
///
/// let near = Placement { priority: 0, locality: 1, weight: 90 };
/// assert!(near != Placement::default());
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Placement {
    /// 0 is used first; numbers may be left out.
    pub priority: u32,
    /// Which locality of the priority.
    pub locality: u32,
    /// The share of that locality, the same for all of its members; zero is none.
    pub weight: u32,
}

impl Default for Placement {
    fn default() -> Self {
        Self {
            priority: 0,
            locality: 0,
            weight: 1,
        }
    }
}

/// How a [`Balancer`] picks.
///
/// ```
/// use meshwork::layer::balance::Rules;
/// use meshwork::model::{Percent, balancing::SlowStart, cluster::Balancing};
///
/// let mut rules = Rules::from(Balancing::RoundRobin);
/// rules.spread.slow_start = Some(SlowStart::over(std::time::Duration::from_secs(30)));
/// rules.panic_threshold = Percent::new(50)?;
/// # Ok::<(), meshwork::model::InvalidPercent>(())
/// ```
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Rules {
    /// How one of the members of a locality is picked.
    pub balancing: Balancing,
    /// How requests are spread before that.
    pub spread: Spread,
    /// The share of admitted members below which health is ignored; zero turns that off.
    pub panic_threshold: Percent,
}

impl From<Balancing> for Rules {
    fn from(balancing: Balancing) -> Self {
        Self {
            balancing,
            ..Self::default()
        }
    }
}

/// What is known of the request that a member is picked for.
///
/// ```
/// use meshwork::layer::balance::{Ask, HashKey};
///
/// let ask = Ask { key: Some(HashKey::of("user 7").0), ..Ask::default() };
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Ask {
    /// What picks by hash are made by; `None`: one is drawn.
    pub key: Option<u64>,
    /// Requests in flight at all members together, which only a bounded hash looks at.
    pub in_flight: u32,
    /// Priorities that are left out while another has somebody to pick, one bit each, the lowest for
    /// priority 0; those from 63 on share the last. Of those that are left the first one counts.
    pub leave: u64,
}

/// The key of a request for picks by hash: put it into the request's extensions for a
/// [`Balance`]. (Through a mesh, `CallOptions::hash_key` does that.)
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct HashKey(
    /// The key.
    pub u64,
);

impl HashKey {
    /// The key that Envoy and gRPC make of a header with this value (XXH64).
    #[must_use]
    pub fn of(value: impl AsRef<[u8]>) -> Self {
        Self(XxHash64::oneshot(0, value.as_ref()))
    }

    /// The key of several values, in whatever order they come.
    #[must_use]
    pub fn of_all<'a>(values: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut values: SmallVec<[&[u8]; 4]> = values.collect();
        values.sort_unstable();
        let join = |seed, value: &&[u8]| XxHash64::oneshot(seed, value);
        Self(values.iter().fold(0, join))
    }

    /// One key of several, in Envoy's way.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0.rotate_left(1) ^ other.0)
    }
}
