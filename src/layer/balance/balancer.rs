//! The choice.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::HeaderMap;
use tokio::time::Instant;

use super::draw::Draw;
use super::report::{Reading, written};
use super::state::State;
use super::{Ask, Candidate, Report, Rules, Signals};
use crate::model::cluster::Balancing;
use crate::random::Random;

/// How many pools have a position of their own; more share them.
pub(super) const POSITIONS: usize = 16;

/// Picks one of its members for each request.
///
/// Members come and go with [`Balancer::change`], which costs what the change costs and not what
/// there is: the next pick sees it, and one that is under way finishes on what it began with. Other
/// rules are another balancer ([`Balancer::succeed`]).
///
/// The module documentation has an example.
pub struct Balancer<E> {
    pub(super) rules: Rules,
    /// Whose turn it is in each pool, if there are turns; shared with the successors, so that an edit
    /// does not start all over with the first member.
    pub(super) positions: Arc<[AtomicU64]>,
    /// What makes this client's subset another than the next one's.
    pub(super) seed: u64,
    pub(super) state: ArcSwap<State<E>>,
    /// Whether health has changed since the state was made.
    pub(super) stale: AtomicBool,
    /// Held by the one who makes a new state. Picks do not wait for it: `stale` tells the holder to
    /// look again.
    pub(super) changing: Mutex<()>,
}

impl<E: Candidate> Balancer<E> {
    /// A balancer over `members`, of which there may be none.
    ///
    /// `random` says where round robin starts and which subset is this client's.
    ///
    /// Members beyond 2^32 are not picked; memory ends before that.
    #[must_use]
    pub fn new(rules: impl Into<Rules>, members: Vec<Arc<E>>, random: &Random) -> Self {
        let rules = rules.into();
        let seed = random.draw();
        let state = State::new(members.into_iter(), &rules, seed);
        let positions = positions(&rules, seed);
        Self::with(rules, positions, seed, Arc::new(state))
    }

    /// The balancer after an edit of the rules, or of more members than it keeps. Round robin goes
    /// on where this one is.
    ///
    /// O(members), and what a hash table costs. Where the rules stay, [`Balancer::fork`] and
    /// [`Balancer::change`] cost less.
    #[must_use]
    pub fn succeed(&self, rules: impl Into<Rules>, members: Vec<Arc<E>>) -> Self {
        let rules = rules.into();
        if self.is_ordered() != rules.is_ordered() {
            let signals = members.iter().filter_map(|member| member.signals());
            signals.for_each(Signals::forget);
        }
        let state = State::new(members.into_iter(), &rules, self.seed);
        let positions = match self.positions.is_empty() {
            true => positions(&rules, self.seed),
            false => self.positions.clone(),
        };
        Self::with(rules, positions, self.seed, Arc::new(state))
    }

    /// A balancer that begins with what this one has at this moment and goes its own way from there:
    /// O(1). Round robin goes on where this one is, for both.
    #[must_use]
    pub fn fork(&self) -> Self {
        let state = self.state.load_full();
        Self::with(self.rules.clone(), self.positions.clone(), self.seed, state)
    }

    fn with(rules: Rules, positions: Arc<[AtomicU64]>, seed: u64, state: Arc<State<E>>) -> Self {
        Self {
            rules,
            positions,
            seed,
            state: ArcSwap::new(state),
            stale: AtomicBool::new(false),
            changing: Mutex::new(()),
        }
    }

    /// How it picks.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    // === Picks ===

    /// Picks a member for a request of which nothing is known; see [`Balancer::pick_for`].
    pub fn pick(&self, random: &Random, avoid: impl Fn(&E) -> bool) -> Option<Arc<E>> {
        self.pick_for(Ask::default(), random, avoid)
    }

    /// Picks a member, preferably one that `avoid` is false for.
    ///
    /// `None` if there is no member, or none is admitted and the panic threshold is off. `avoid` is
    /// a wish (Envoy's `previous_hosts`): a few draws, then a look at a few neighbours in the same
    /// priority; if all those are to be avoided, one of them is picked.
    ///
    /// O(log members) with a base of 32, which among ten thousand is three steps; no lock, no
    /// allocation; except that a pick that meets a member which has been ejected since anybody
    /// [looked](Balancer::refresh), or reported weights that are due, does that first.
    pub fn pick_for(
        &self,
        ask: Ask,
        random: &Random,
        avoid: impl Fn(&E) -> bool,
    ) -> Option<Arc<E>> {
        // Each look takes at least one ejected member out, so a second round is rare and a third
        // needs ejections between two lines of this loop.
        for _ in 0..3 {
            let state = self.state.load();
            if state.is_due() {
                self.renew();
            }
            let draw = Draw {
                balancer: self,
                state: &state,
                random,
                avoid: &avoid,
            };
            let picked = draw.pick(ask)?;
            let member = state.members.get(picked.member)?;
            if picked.panic || member.admitted() {
                return Some(member.clone());
            }
            let member = member.clone();
            drop(state);
            self.look_at(&[member]);
        }
        // Somebody else is at it just now. What a state made now would give is found by looking at
        // all members, which as often as this happens costs nothing.
        let state = self.state.load();
        let start = random.below(state.members.len() as u32) as usize;
        let all = || state.members.iter().map(|(_, member)| member);
        let (from, before) = (all().skip(start), all().take(start));
        let admitted = from.chain(before).find(|member| member.admitted());
        let anybody = || {
            all()
                .nth(start)
                .filter(|_| self.rules.panic_threshold.value() > 0)
        };
        admitted.or_else(anybody).cloned()
    }

    /// The admitted member with this [key](Candidate::key), if there is one: O(log members).
    pub fn named(&self, key: &str) -> Option<Arc<E>> {
        let state = self.state.load();
        let mut named = state.members.named(key).map(|(_, member)| member);
        named.find(|member| member.admitted()).cloned()
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
        self.reading().is_some()
    }

    /// The head or the trailers of a member's response. Of use for weighted round robin only, and
    /// not where reports come [out of band](crate::model::balancing::WeightedRoundRobin::out_of_band).
    pub fn report(&self, signals: &Signals, headers: &HeaderMap, now: Instant) {
        if let Some(mut reading) = self.reading() {
            let whole = written(headers, &mut |metric, value| reading.take(metric, value));
            if let Some(report) = reading.end(whole) {
                self.weigh(signals, &report, now);
            }
        }
    }

    /// What to read the report of a response with, if picks need to know it.
    pub(crate) fn reading(&self) -> Option<Reading<'_>> {
        match &self.rules.balancing {
            Balancing::WeightedRoundRobin(rules) if rules.out_of_band.is_none() => {
                Some(Reading::of(&rules.utilization))
            }
            _ => None,
        }
    }

    /// A member's report that was read with [`reading`](Self::reading).
    pub(crate) fn weigh(&self, signals: &Signals, report: &Report, now: Instant) {
        if let Balancing::WeightedRoundRobin(rules) = &self.rules.balancing {
            signals.report(report, rules, now);
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

    /// All members at this moment, admitted or not: O(members). Those that it was made with are in
    /// their order, as long as nobody has left.
    #[must_use]
    pub fn members(&self) -> Vec<Arc<E>> {
        let state = self.state.load();
        state
            .members
            .iter()
            .map(|(_, member)| member.clone())
            .collect()
    }

    /// All members with this [key](Candidate::key), admitted or not: O(log members).
    #[must_use]
    pub fn all_named(&self, key: &str) -> Vec<Arc<E>> {
        let state = self.state.load();
        state
            .members
            .named(key)
            .map(|(_, member)| member.clone())
            .collect()
    }

    /// Whether a member is one for which this is true: O(members).
    pub fn any(&self, is: impl Fn(&E) -> bool) -> bool {
        let state = self.state.load();
        state.members.iter().any(|(_, member)| is(member))
    }

    /// How many members there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.state.load().members.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many members were admitted when anybody [looked](Balancer::refresh) last.
    #[must_use]
    pub fn admitted(&self) -> usize {
        self.state.load().index.admitted()
    }

    /// Whether health is ignored in some priority because too few members are admitted.
    #[must_use]
    pub fn panicking(&self) -> bool {
        self.state.load().index.panic()
    }
}

/// Where each pool's turns begin; none where nobody takes turns.
fn positions(rules: &Rules, seed: u64) -> Arc<[AtomicU64]> {
    let pools = match rules.balancing {
        Balancing::RoundRobin | Balancing::WeightedRoundRobin(_) => POSITIONS,
        Balancing::LeastRequest
        | Balancing::Maglev(_)
        | Balancing::PeakEwma(_)
        | Balancing::PickFirst(_)
        | Balancing::Random
        | Balancing::RingHash(_) => 0,
    };
    if pools == 0 {
        // Without turns there is nothing to allocate.
        return Arc::default();
    }
    // Half the range is left, so that the position does not wrap in the middle of a round.
    (0..pools).map(|_| AtomicU64::new(seed >> 1)).collect()
}

impl<E> fmt::Debug for Balancer<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Balancer")
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}
