//! From what is due to what shall be said: decided, without a change, and taken note of.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::time::Instant;

use super::holdings::Had;
use super::introduce::Step;
use super::order::{Gate, InUse};
use super::watch::Watch;
use super::{COPY_BYTES, Refusal, Response, Stream, Variant, earliest};
use crate::control::kind::Kind;
use crate::control::resource::Encoded;

/// What one kind has to say at one moment.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) send: Vec<(Arc<str>, Arc<Encoded>)>,
    /// Which of these introduce what comes next, and so stay due.
    pub(super) introduced: BTreeSet<Arc<str>>,
    pub(super) remove: Vec<Arc<str>>,
    pub(super) missing: Vec<Arc<str>>,
    pub(super) beats: Vec<(Arc<str>, Arc<Encoded>)>,
    /// Names that need no look any more.
    pub(super) settled: Vec<Arc<str>>,
    /// Gone, but still held: when that was so last.
    pub(super) gone: Vec<(Arc<str>, Instant)>,
    /// A resource waits for something else.
    pub(super) waits: bool,
    /// Something stays that cannot be repeated, since only the client has it.
    pub(super) keeps: bool,
    pub(super) wake: Option<Instant>,
    /// The stream would have more copies than it may.
    exceeds: bool,
}

impl Stream {
    pub(super) fn respond(&mut self, kind: Kind, now: Instant) -> Option<Response> {
        let watch = self.watch(kind)?;
        // One response at a time: what comes meanwhile is in the next one.
        if watch.outstanding.is_some() {
            return None;
        }
        let heartbeat = watch.beats.values().min().is_some_and(|at| *at <= now);
        if watch.due.is_empty() && !watch.owed && !heartbeat {
            self.wake = earliest(self.wake, watch.beats.values().min().copied());
            return None;
        }
        let plan = self.plan(kind, watch, now);
        if plan.exceeds {
            self.exceeded = Some(Refusal::exhausted(format!(
                "the names that are subscribed to stand for more than {COPY_BYTES} bytes of copies on one \
                 stream, which is the limit"
            )));
            return None;
        }
        self.wake = earliest(self.wake, plan.wake);
        self.note(kind, &plan);
        let whole = self.client.variant == Variant::Sotw && kind.is_whole();
        let owed = self.watch_mut(kind).owed && !plan.waits;
        let says = !plan.send.is_empty()
            || !plan.beats.is_empty()
            || !plan.missing.is_empty()
            || (!plan.remove.is_empty() && self.tells_removal(kind));
        // A whole state without it would take it away.
        if (!says && !owed) || (whole && plan.keeps) {
            return None;
        }
        Some(match self.client.variant {
            Variant::Sotw => self.sotw_response(kind, plan, whole, now),
            Variant::Delta => self.delta_response(kind, plan, now),
        })
    }

    /// Decides on everything that is due.
    fn plan(&self, kind: Kind, watch: &Watch, now: Instant) -> Plan {
        let mut plan = Plan::default();
        let mut in_use: Option<InUse<'_>> = None;
        let mut copies: Option<usize> = None;
        for (name, since) in &watch.due {
            let have = watch.have.get(name);
            let target = self.snapshot.get(kind, name);
            if let Some(copy) = target.as_ref().filter(|_| self.is_copy(kind, name)) {
                let bytes = copies.get_or_insert_with(|| self.copied(kind, watch));
                let before = have.and_then(|have| have.sent);
                *bytes += copy.size() - before.map_or(0, |before| before.size()).min(copy.size());
                if *bytes > COPY_BYTES {
                    plan.exceeds = true;
                    return plan;
                }
            }
            match (target, have) {
                (Some(target), Some(have)) if !have.force && is(&target, &have) => {
                    plan.settled.push(name.clone());
                }
                (Some(target), _) => self.plan_send(&mut plan, (name, *since), target, now),
                (None, Some(have)) if have.sent.is_some() || self.tells_removal(kind) => {
                    let in_use = in_use.get_or_insert_with(|| self.in_use(kind));
                    self.plan_removal(&mut plan, (kind, name), &have, in_use, now);
                }
                (None, _) => {
                    if self.is_unknown(kind, name) {
                        plan.missing.push(name.clone());
                    }
                    plan.settled.push(name.clone());
                }
            }
        }
        if self.client.variant == Variant::Delta {
            for (name, at) in &watch.beats {
                let known = watch.have.get(name).and_then(|have| have.sent);
                match known.filter(|_| !watch.due.contains_key(name)) {
                    Some(resource) if *at <= now => {
                        plan.beats.push((name.clone(), resource.clone()));
                    }
                    _ => plan.wake = earliest(plan.wake, Some(*at).filter(|at| *at > now)),
                }
            }
        }
        plan
    }

    /// Whether what a name stands for is made for that name.
    fn is_copy(&self, kind: Kind, name: &str) -> bool {
        kind == Kind::Listener && self.snapshot.set(kind).get(name).is_none()
    }

    /// The bytes of all copies that the client has of a kind.
    fn copied(&self, kind: Kind, watch: &Watch) -> usize {
        let had = watch
            .have
            .iter()
            .filter(|(name, _)| self.is_copy(kind, name));
        let sent = had.filter_map(|(_, have)| have.sent);
        sent.map(|copy| copy.size()).sum()
    }

    /// Whether a name that does not exist is one that the client is to be told of.
    fn is_unknown(&self, kind: Kind, name: &Arc<str>) -> bool {
        let told = self.client.variant == Variant::Delta || self.client.errors;
        told && self.watch(kind).is_some_and(|watch| {
            let collection = watch.globs.iter().any(|glob| glob.is(name));
            watch.named.contains(name) && !watch.told.contains(name) && !collection
        })
    }

    fn plan_send(
        &self,
        plan: &mut Plan,
        (name, since): (&Arc<str>, Instant),
        target: Arc<Encoded>,
        now: Instant,
    ) {
        match self.introduction(name, &target, now) {
            Step::None => {}
            Step::Introduce(routes) => {
                plan.introduced.insert(name.clone());
                return plan.send.push((name.clone(), routes));
            }
            Step::Until(at) => {
                plan.waits = true;
                plan.wake = earliest(plan.wake, Some(at));
                return;
            }
        }
        let gate = match target.kind() {
            Kind::Listener | Kind::Routes | Kind::ScopedRoutes | Kind::VirtualHost => {
                self.referents(&target, since, now)
            }
            _ => Gate::Go,
        };
        match gate {
            Gate::Go => plan.send.push((name.clone(), target)),
            Gate::Wait => plan.waits = true,
            Gate::Until(at) => {
                plan.waits = true;
                plan.wake = earliest(plan.wake, Some(at));
            }
        }
    }

    fn plan_removal(
        &self,
        plan: &mut Plan,
        (kind, name): (Kind, &Arc<str>),
        have: &Had<'_>,
        in_use: &InUse<'_>,
        now: Instant,
    ) {
        let hold = in_use.holds(name, have);
        let held = hold.is_some_and(|hold| self.is_held(hold, have));
        let gone = have.gone.filter(|_| !held).unwrap_or(now);
        plan.gone.push((name.clone(), gone));
        let gate = self.removal(kind, name, (in_use, have), gone, now);
        plan.keeps |= gate != Gate::Go && self.keeps_state(have);
        match gate {
            Gate::Go => {
                plan.remove.push(name.clone());
                // Whether the client has it is not known in this variant: it is told that too.
                if self.keeps_state(have) && self.is_unknown(kind, name) {
                    plan.missing.push(name.clone());
                }
            }
            Gate::Wait => {}
            Gate::Until(at) => plan.wake = earliest(plan.wake, Some(at)),
        }
    }

    /// Takes note of what was found out, whether there is a response or not.
    fn note(&mut self, kind: Kind, plan: &Plan) {
        let lasting = !self.tells_removal(kind);
        let snapshot = self.snapshot.clone();
        let watch = self.watch_mut(kind);
        for (name, at) in &plan.gone {
            if let Some(have) = watch.have.get_mut(name) {
                have.gone = Some(*at);
            }
        }
        for name in &plan.settled {
            watch.due.remove(name);
            let (have, target) = (watch.have.get(name), snapshot.set(kind).get(name));
            let back = have
                .zip(target)
                .is_some_and(|(have, target)| have.gone.is_some() && is(target, &have));
            if let Some(have) = watch.have.get_mut(name).filter(|_| back) {
                have.gone = None;
            }
        }
        if lasting {
            // These cannot be taken away; the client drops them when it wants no more of them.
            for name in &plan.remove {
                watch.due.remove(name);
                // Should they come back, that is another change.
                if let Some(have) = watch.have.get_mut(name) {
                    have.introduced = None;
                }
            }
        }
    }
}

/// Whether the client was sent that content.
pub(super) fn is(target: &Encoded, have: &Had<'_>) -> bool {
    have.sent.is_some_and(|sent| sent.hash() == target.hash())
}
