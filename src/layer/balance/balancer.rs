//! The choice.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, TryLockError};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::HeaderMap;
use tokio::time::Instant;

use super::draw::Draw;
use super::hash::{Table, hash};
use super::index::Index;
use super::layout::Layout;
use super::{Ask, Candidate, Report, Rules, Signals};
use crate::model::cluster::Balancing;
use crate::random::Random;

/// How many pools have a position of their own; more share them.
pub(super) const POSITIONS: usize = 16;

/// Picks one of its members for each request.
///
/// Members never change: an edit makes a new balancer with [`Balancer::succeed`], and requests that
/// hold the old one finish with it. Only their health, load and [signals](super::Signals) change,
/// underneath.
///
/// The module documentation has an example.
pub struct Balancer<E> {
    pub(super) members: Box<[Arc<E>]>,
    pub(super) rules: Rules,
    layout: Layout,
    /// One for each priority, if picks are by hash.
    pub(super) tables: Arc<[Table]>,
    /// Whose turn it is (round robin); shared with the successors, so that an edit does not start
    /// all over with the first member.
    pub(super) positions: Arc<[AtomicU64; POSITIONS]>,
    /// What makes this client's subset another than the next one's.
    seed: u64,
    index: ArcSwap<Index>,
    /// Members by the hash of their key, made when the first session asks for one.
    named: OnceLock<Box<[(u64, u32)]>>,
    /// Whether health has changed since the index was made.
    stale: AtomicBool,
    /// Held by the one who makes a new index. Others do not wait for it: `stale` tells the holder
    /// to look again.
    refreshing: Mutex<()>,
}

impl<E: Candidate> Balancer<E> {
    /// A balancer over `members`, of which there may be none.
    ///
    /// `random` says where round robin starts and which subset is this client's.
    ///
    /// Members beyond 2^32 are not picked; memory ends before that.
    #[must_use]
    pub fn new(rules: impl Into<Rules>, members: Vec<Arc<E>>, random: &Random) -> Self {
        let seed = random.draw();
        // Half the range is left, so that the position does not wrap in the middle of a round.
        let positions = std::array::from_fn(|_| AtomicU64::new(seed >> 1));
        Self::build(rules.into(), members, Arc::new(positions), seed, None)
    }

    /// The balancer after an edit. Round robin goes on where this one is.
    ///
    /// O(members), where nothing of a member is copied but its `Arc`; and what a hash table costs,
    /// unless keys, weights and places of all members are the same.
    #[must_use]
    pub fn succeed(&self, rules: impl Into<Rules>, members: Vec<Arc<E>>) -> Self {
        let positions = self.positions.clone();
        Self::build(rules.into(), members, positions, self.seed, Some(self))
    }

    fn build(
        rules: Rules,
        mut members: Vec<Arc<E>>,
        positions: Arc<[AtomicU64; POSITIONS]>,
        seed: u64,
        before: Option<&Self>,
    ) -> Self {
        members.truncate(u32::MAX as usize);
        let members = members.into_boxed_slice();
        let layout = Layout::new(&members, &rules.spread, seed);
        let tables = match before.filter(|before| before.hashes_as(&rules, &members)) {
            Some(before) => before.tables.clone(),
            None => layout
                .priorities
                .iter()
                .filter_map(|priority| Table::new(rules.balancing, &members, priority))
                .collect(),
        };
        Self {
            index: ArcSwap::from_pointee(Index::new(&members, &layout, &rules, None)),
            members,
            rules,
            layout,
            tables,
            positions,
            seed,
            named: OnceLock::new(),
            stale: AtomicBool::new(false),
            refreshing: Mutex::new(()),
        }
    }

    /// Whether the hash tables are those of other rules and members too.
    fn hashes_as(&self, rules: &Rules, members: &[Arc<E>]) -> bool {
        let same = |(one, other): (&Arc<E>, &Arc<E>)| {
            one.weight() == other.weight()
                && one.placement() == other.placement()
                && one.key() == other.key()
        };
        !self.tables.is_empty()
            && self.rules.balancing == rules.balancing
            && self.rules.spread == rules.spread
            && self.members.len() == members.len()
            && self.members.iter().zip(members).all(same)
    }

    /// Picks a member for a request of which nothing is known; see [`Balancer::pick_for`].
    pub fn pick(&self, random: &Random, avoid: impl Fn(&E) -> bool) -> Option<&Arc<E>> {
        self.pick_for(Ask::default(), random, avoid)
    }

    /// Picks a member, preferably one that `avoid` is false for.
    ///
    /// `None` if there is no member, or none is admitted and the panic threshold is off. `avoid` is
    /// a wish (Envoy's `previous_hosts`): a few draws, then a look at a few neighbours in the same
    /// priority; if all those are to be avoided, one of them is picked.
    ///
    /// Constant time (by hash: the logarithm of the ring), no lock, no allocation; except that a
    /// pick that meets a member which has been ejected since the last
    /// [`refresh`](Balancer::refresh), or reported weights that are due, does that first.
    pub fn pick_for(
        &self,
        ask: Ask,
        random: &Random,
        avoid: impl Fn(&E) -> bool,
    ) -> Option<&Arc<E>> {
        // Each refresh takes at least one ejected member out, so a second round is rare and a third
        // needs ejections between two lines of this loop.
        for _ in 0..3 {
            let index = self.index.load();
            if index.due.is_some_and(|due| due <= Instant::now()) {
                self.renew();
            }
            let draw = Draw {
                balancer: self,
                index: &index,
                random,
                avoid: &avoid,
            };
            let picked = draw.pick(ask)?;
            let member = &self.members[picked.member];
            if picked.panic || member.admitted() {
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
                .filter(|_| self.rules.panic_threshold.value() > 0)
        })
    }

    /// The admitted member with this [key](Candidate::key), if there is one.
    ///
    /// The first call looks at all members, the next ones are O(log members).
    pub fn named(&self, key: &str) -> Option<&Arc<E>> {
        let hashed = |(place, member): (u32, &Arc<E>)| (hash(member.key(), 0), place);
        let named = self.named.get_or_init(|| {
            let mut all: Box<[_]> = (0..).zip(&self.members).map(hashed).collect();
            all.sort_unstable();
            all
        });
        let wanted = hash(key, 0);
        let first = named.partition_point(|(hash, _)| *hash < wanted);
        named[first..]
            .iter()
            .take_while(|(hash, _)| *hash == wanted)
            .map(|(_, place)| &self.members[*place as usize])
            .find(|member| member.key() == key && member.admitted())
    }

    /// Looks at the health of every member anew: to be called after one was ejected or readmitted,
    /// once for a whole batch. Who is back begins anew: see [`Signals::restart`](super::Signals).
    ///
    /// O(members). Calls that come while another is at work return at once, and that one looks
    /// again.
    pub fn refresh(&self) {
        self.stale.store(true, Ordering::SeqCst);
        self.renew();
    }

    /// Makes a new index if one is wanted, unless somebody is at it.
    fn renew(&self) {
        loop {
            let guard = match self.refreshing.try_lock() {
                Ok(guard) => guard,
                // The lock protects no data: a panic of its holder broke nothing.
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return,
            };
            while self.stale.swap(false, Ordering::SeqCst) || self.is_due() {
                let before = self.index.load();
                let index = Index::new(&self.members, &self.layout, &self.rules, Some(&before));
                drop(before);
                self.index.store(Arc::new(index));
            }
            drop(guard);
            if !self.stale.load(Ordering::SeqCst) {
                return;
            }
        }
    }

    fn is_due(&self) -> bool {
        let due = self.index.load().due;
        due.is_some_and(|due| due <= Instant::now())
    }

    // === What members tell ===

    /// Whether picks need to know how long members take: [`observe`](Balancer::observe).
    #[must_use]
    pub fn watches_latency(&self) -> bool {
        matches!(self.rules.balancing, Balancing::PeakEwma(_))
    }

    /// A member answered, or failed, after this time. Of use for peak EWMA only.
    pub fn observe(&self, signals: &Signals, took: Duration, failed: bool, now: Instant) {
        if let Balancing::PeakEwma(rules) = &self.rules.balancing {
            signals.observe(took, failed, rules, now);
        }
    }

    /// Whether picks need to know what members report: [`report`](Balancer::report).
    #[must_use]
    pub fn watches_reports(&self) -> bool {
        matches!(self.rules.balancing, Balancing::WeightedRoundRobin(_))
    }

    /// The head or the trailers of a member's response. Of use for weighted round robin only.
    pub fn report(&self, signals: &Signals, headers: &HeaderMap, now: Instant) {
        if let Balancing::WeightedRoundRobin(rules) = &self.rules.balancing
            && let Some(report) = Report::read(headers)
        {
            signals.report(&report, rules, now);
        }
    }

    /// Whether picks look at [`Ask::key`].
    #[must_use]
    pub fn hashes(&self) -> bool {
        matches!(
            self.rules.balancing,
            Balancing::Maglev(_) | Balancing::RingHash(_)
        )
    }

    // === What there is ===

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

    /// Whether health is ignored in some priority because too few members are admitted.
    #[must_use]
    pub fn panicking(&self) -> bool {
        self.index.load().panic()
    }
}

impl<E> fmt::Debug for Balancer<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Balancer")
            .field("rules", &self.rules)
            .field("members", &self.members.len())
            .finish_non_exhaustive()
    }
}
