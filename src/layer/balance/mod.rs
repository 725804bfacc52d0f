//! Picks one of many endpoints.
//!
//! A [`Balancer`] is a list of [`Candidate`]s and a way to choose. It owns no connection and has no
//! readiness: it answers "which one, now?" in constant time, without a lock, an allocation or a
//! string, whether there are three members or ten thousand.
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
//!   gives each exactly its weight, evenly spread (see `Shares::turn`).
//! - [`Random`](Balancing::Random): by weight.
//! - [`LeastRequest`](Balancing::LeastRequest): two *distinct* members are drawn by weight; the one
//!   with fewer requests in flight per weight wins, the first of equals. So an idle cluster is
//!   shared by weight, and so is a busy one.
//!
//! # Health
//!
//! A member that is not [`admitted`](Candidate::admitted) is not picked, unless fewer than the
//! panic threshold are admitted: then health is ignored, because sending everything to the few that are
//! left would kill them too. Without a threshold and without anybody admitted the answer is `None`.
//!
//! The admitted ones are kept in an index that is swapped as a whole, so a pick costs the same
//! however many are out. [`Balancer::refresh`] makes a new one; whoever ejects or readmits calls
//! it. A pick that meets a member which is out all the same refreshes by itself, so a forgotten
//! call costs time, never a request; only readmission waits for it.
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
//! use meshwork::model::{Percent, cluster::Balancing};
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
//! let balancer = Balancer::new(Balancing::RoundRobin, Percent::ZERO, members, &random);
//! let mut turns: Vec<_> = (0..4).map(|_| balancer.pick(&random, |_| false).unwrap().0).collect();
//! turns.sort();
//! assert_eq!(turns, ["a", "a", "c", "c"]);
//! ```

mod balancer;
mod future;
mod index;
mod layer;
mod service;
mod shares;
#[cfg(test)]
mod tests;

use std::num::NonZeroU32;

#[cfg(doc)]
use crate::model::cluster::Balancing;

pub use balancer::Balancer;
pub use future::ResponseFuture;
pub use layer::BalanceLayer;
pub use service::{Active, Balance};

/// Somebody who can be picked.
///
/// All three are asked on the path of a request: they should be one load each. The module
/// documentation has an example.
pub trait Candidate {
    /// The share among its peers. Must not change while it is in a balancer; a change is a new
    /// balancer ([`Balancer::succeed`]).
    fn weight(&self) -> NonZeroU32;

    /// Requests in flight now.
    fn active(&self) -> u32;

    /// Whether it may be picked; see [`outlier::Host::admitted`](super::outlier::Host::admitted).
    fn admitted(&self) -> bool;
}
