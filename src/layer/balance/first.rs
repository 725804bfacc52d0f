//! One for all (gRPC's `pick_first`, A62): in which order members are picked.
//!
//! Among others a member is drawn for each request; here all go to the first one that can be connected
//! to, for as long as it can be. So a pool is put in order, and a pick is its first place:
//!
//! 1. who has been reached, the longest first: an edit that puts somebody before it moves nobody;
//! 2. who has not been tried, in the order of the list, or of this client if it is shuffled;
//! 3. who could not be connected to, the one that was tried the longest ago first. So all get their
//!    turn where nobody can be reached.
//!
//! When the one that was in use is lost, the others are as if they had not been tried: the search begins
//! at the top of the list again, as gRPC's does.
//!
//! What is known of a member is in its [`Signals`], which outlive an edit. An order is made anew when
//! somebody is reached who was not, and each time that somebody is lost: O(members), beside which stands the
//! dial that failed.

use std::ptr;
use std::sync::PoisonError;

use tokio::time::Instant;

use super::hash::hash;
use super::signals::Standing;
use super::slots::Slots;
use super::state::State;
use super::{Balancer, Candidate, Rules, Signals};
use crate::model::balancing::PickFirst;
use crate::model::cluster::Balancing;

/// Puts members in the order in which they are picked; their numbers are their places in the list.
pub(super) fn arrange<E: Candidate>(
    numbers: &mut [u32],
    members: &Slots<E>,
    rules: PickFirst,
    seed: u64,
) {
    let standing = |member: &E| {
        member
            .signals()
            .map_or(Standing::Unknown, Signals::standing)
    };
    numbers.sort_by_cached_key(|number| {
        let Some(member) = members.get(*number) else {
            return (Standing::Unknown, u64::MAX, *number);
        };
        let rank = match rules.shuffle {
            true => shuffled(*number, &**member, seed),
            false => 0,
        };
        (standing(member), rank, *number)
    });
}

/// The rank of a member in the order of this client. The smallest of exponential draws at the rates of
/// weights is each one's by its weight, which is what the roots of gRPC A113 come to.
fn shuffled<E: Candidate>(number: u32, member: &E, seed: u64) -> u64 {
    let hash = match member.key() {
        "" => hash(&number.to_string(), seed),
        key => hash(key, seed),
    };
    // Above zero and at most one, in the 53 bits that a float tells apart.
    let unit = ((hash >> 11) + 1) as f64 / (1_u64 << 53) as f64;
    let drawn = -unit.ln() / f64::from(member.weight().get());
    // Numbers that are not negative are ordered as their bits are; the logarithm of one is minus zero.
    (drawn + 0.0).to_bits()
}

impl Rules {
    /// Whether one member is used for all requests.
    pub(super) fn is_ordered(&self) -> bool {
        matches!(self.balancing, Balancing::PickFirst(_))
    }
}

impl<E: Candidate> Balancer<E> {
    /// Whether one member is used for all requests; then it is of use to say who was
    /// [reached](Self::reached) and who was [lost](Self::lost).
    #[must_use]
    pub fn is_ordered(&self) -> bool {
        self.rules.is_ordered()
    }

    /// There is a connection to the member with these signals. O(members) where that is news, and
    /// nothing but for [`PickFirst`](Balancing::PickFirst).
    pub fn reached(&self, signals: &Signals, now: Instant) {
        if self.is_ordered() && signals.reach(now) {
            self.refresh();
        }
    }

    /// Who `began` a request then could not connect to the member with these signals: another one is used.
    /// O(members). Nothing but for [`PickFirst`](Balancing::PickFirst), or if the member was found lost since `began`
    /// and not reached again.
    pub fn lost(&self, signals: &Signals, began: Instant, now: Instant) {
        if !self.is_ordered() || signals.was_lost_since(began) {
            return;
        }
        if signals.lose(now) {
            let state = self.state.load();
            let all = state.members.iter().filter_map(|(_, one)| one.signals());
            all.filter(|one| !ptr::eq(*one, signals))
                .for_each(Signals::forgive);
        }
        self.refresh();
    }

    /// Whether the member with these signals was found lost: O(1). Those that were are picked behind all others, so
    /// that nobody better is left where the next pick was; `false` but for [`PickFirst`](Balancing::PickFirst).
    #[must_use]
    pub fn was_lost(&self, signals: &Signals) -> bool {
        self.is_ordered() && matches!(signals.standing(), Standing::Lost(_))
    }

    /// Puts the members in the order of these places: O(members). Of use for
    /// [`PickFirst`](Balancing::PickFirst), where who joins stands behind the others otherwise.
    pub fn arrange(&self, place: impl Fn(&E) -> usize) {
        let guard = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut members = self.members();
        members.sort_by_cached_key(|member| place(member));
        let state = State::new(members.into_iter(), &self.rules, self.seed);
        self.store(state, guard);
    }
}
