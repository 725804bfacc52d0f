//! The choice.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, TryLockError};

use arc_swap::ArcSwap;

use super::Candidate;
use super::index::{Index, Place};
use crate::model::Percent;
use crate::model::cluster::Balancing;
use crate::random::Random;

/// How often a pick draws again when it meets members that the caller wants to avoid.
const DRAWS: usize = 4;

/// How many places a pick looks at, one by one, when drawing did not help. A bound, so that a pick
/// costs the same in a cluster of any size.
const LOOKS: usize = 32;

/// Picks one of its members for each request.
///
/// Members never change: an edit makes a new balancer with [`Balancer::succeed`], and requests that
/// hold the old one finish with it. Only their health and load change, underneath.
///
/// The module documentation has an example.
pub struct Balancer<E> {
    members: Box<[Arc<E>]>,
    balancing: Balancing,
    threshold: Percent,
    /// Whose turn it is (round robin); shared with the successors, so that an edit does not start
    /// all over with the first member.
    position: Arc<AtomicU64>,
    index: ArcSwap<Index>,
    /// Whether health has changed since the index was made.
    stale: AtomicBool,
    /// Held by the one who makes a new index. Others do not wait for it: `stale` tells the holder
    /// to look again.
    refreshing: Mutex<()>,
}

impl<E: Candidate> Balancer<E> {
    /// A balancer over `members`, of which there may be none.
    ///
    /// `panic_threshold` is the share of admitted members below which health is ignored; zero turns
    /// that off. `random` says where round robin starts.
    ///
    /// Members beyond 2^32 are not picked; memory ends before that.
    #[must_use]
    pub fn new(
        balancing: Balancing,
        panic_threshold: Percent,
        members: Vec<Arc<E>>,
        random: &Random,
    ) -> Self {
        // Half the range is left, so that the position does not wrap in the middle of a round.
        let position = Arc::new(AtomicU64::new(random.draw() >> 1));
        Self::build(balancing, panic_threshold, members, position)
    }

    /// The balancer after an edit. Round robin goes on where this one is.
    ///
    /// O(members): nothing of a member is copied but its `Arc`.
    #[must_use]
    pub fn succeed(
        &self,
        balancing: Balancing,
        panic_threshold: Percent,
        members: Vec<Arc<E>>,
    ) -> Self {
        Self::build(balancing, panic_threshold, members, self.position.clone())
    }

    fn build(
        balancing: Balancing,
        threshold: Percent,
        mut members: Vec<Arc<E>>,
        position: Arc<AtomicU64>,
    ) -> Self {
        members.truncate(u32::MAX as usize);
        let members = members.into_boxed_slice();
        Self {
            index: ArcSwap::from_pointee(Index::new(&members, threshold)),
            members,
            balancing,
            threshold,
            position,
            stale: AtomicBool::new(false),
            refreshing: Mutex::new(()),
        }
    }

    /// Picks a member, preferably one that `avoid` is false for.
    ///
    /// `None` if there is no member, or none is admitted and the panic threshold is off. `avoid` is
    /// a wish (Envoy's `previous_hosts`): a few draws, then a look at a few neighbours; if all those
    /// are to be avoided, one of them is picked.
    ///
    /// Constant time, no lock, no allocation; except that a pick that meets a member which has been
    /// ejected since the last [`refresh`](Balancer::refresh) does that first.
    pub fn pick(&self, random: &Random, avoid: impl Fn(&E) -> bool) -> Option<&Arc<E>> {
        // Each refresh takes at least one ejected member out, so a second round is rare and a third
        // needs ejections between two lines of this loop.
        for _ in 0..3 {
            let index = self.index.load();
            let place = self.choose(&index, random, &avoid)?;
            let member = &self.members[index.member(place)];
            if index.panic() || member.admitted() {
                return Some(member);
            }
            drop(index);
            self.refresh();
        }
        // Somebody else is refreshing just now. What an index made now would give is found by
        // looking at all members, which as often as this happens costs nothing.
        let start = random.below(self.members.len() as u32) as usize;
        let (before, from) = self.members.split_at(start);
        let admitted = from.iter().chain(before).find(|member| member.admitted());
        admitted.or_else(|| {
            self.members
                .get(start)
                .filter(|_| self.threshold > Percent::ZERO)
        })
    }

    /// Looks at the health of every member anew: to be called after one was ejected or readmitted,
    /// once for a whole batch.
    ///
    /// O(members). Calls that come while another is at work return at once, and that one looks
    /// again.
    pub fn refresh(&self) {
        self.stale.store(true, Ordering::SeqCst);
        while self.stale.load(Ordering::SeqCst) {
            let _guard = match self.refreshing.try_lock() {
                Ok(guard) => guard,
                // The lock protects no data: a panic of its holder broke nothing.
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return,
            };
            while self.stale.swap(false, Ordering::SeqCst) {
                let index = Index::new(&self.members, self.threshold);
                self.index.store(Arc::new(index));
            }
        }
    }

    /// All members, admitted or not.
    #[must_use]
    pub fn members(&self) -> &[Arc<E>] {
        &self.members
    }

    /// How many members were admitted at the last [`refresh`](Balancer::refresh).
    #[must_use]
    pub fn admitted(&self) -> usize {
        self.index.load().admitted()
    }

    /// Whether health is ignored because too few members are admitted.
    #[must_use]
    pub fn panicking(&self) -> bool {
        self.index.load().panic()
    }

    /// A place in the pool, avoiding what is to be avoided; `None` if the pool is empty.
    fn choose(&self, index: &Index, random: &Random, avoid: &impl Fn(&E) -> bool) -> Option<Place> {
        if index.len() == 0 {
            return None;
        }
        let avoided = |place| avoid(&self.members[index.member(place)]);
        let mut place = self.draw(index, random, &avoided);
        for _ in 1..DRAWS {
            if !avoided(place) {
                return Some(place);
            }
            place = self.draw(index, random, &avoided);
        }
        self.neighbour(index, place, avoid).or(Some(place))
    }

    /// One draw, by the way of balancing.
    fn draw(&self, index: &Index, random: &Random, avoided: &impl Fn(Place) -> bool) -> Place {
        match self.balancing {
            Balancing::RoundRobin => index.turn(self.position.fetch_add(1, Ordering::Relaxed)),
            Balancing::Random => index.draw(random),
            Balancing::LeastRequest => {
                let first = index.draw(random);
                if index.len() == 1 {
                    return first;
                }
                let second = index.draw_other(first, random);
                match (avoided(first), avoided(second)) {
                    (true, false) => second,
                    (false, true) => first,
                    (true, true) | (false, false) => self.less_busy(index, first, second),
                }
            }
        }
    }

    /// The one with fewer requests in flight per weight; the first of equals.
    fn less_busy(&self, index: &Index, first: Place, second: Place) -> Place {
        let (one, other) = (
            &self.members[index.member(first)],
            &self.members[index.member(second)],
        );
        // one.active / one.weight <= other.active / other.weight, without dividing.
        let load = u64::from(one.active()) * u64::from(other.weight().get());
        let other_load = u64::from(other.active()) * u64::from(one.weight().get());
        if load <= other_load { first } else { second }
    }

    /// The first of a few places from `start` on whose member is not to be avoided.
    fn neighbour(&self, index: &Index, start: Place, avoid: &impl Fn(&E) -> bool) -> Option<Place> {
        std::iter::successors(Some(start), |place| Some(index.after(*place)))
            .take(index.len().min(LOOKS))
            .find(|place| !avoid(&self.members[index.member(*place)]))
    }
}

impl<E> fmt::Debug for Balancer<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Balancer")
            .field("balancing", &self.balancing)
            .field("members", &self.members.len())
            .field("panic_threshold", &self.threshold)
            .finish_non_exhaustive()
    }
}
