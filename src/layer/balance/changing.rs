//! Members that come, go, are ejected and come back.
//!
//! Whoever changes something makes the next state from the one in force and swaps it in. They take
//! turns by a lock, which picks never wait for: a pick that finds an ejected member while another
//! one is at work leaves word (`stale`), and whoever is at work looks again before it ends.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError, TryLockError};

use super::state::State;
use super::{Balancer, Candidate};

impl<E: Candidate> Balancer<E> {
    /// Takes out members and puts in others, at once: the next pick sees both. Who is not there is
    /// not taken out.
    ///
    /// O(change x log members), where members have [keys](Candidate::key). It is O(members) where
    /// that is in the nature of the rules: for a Maglev table, a ring whose members have other
    /// numbers of entries after it, an order (who joins stands last), a subset, a locality that comes
    /// or goes.
    ///
    /// A lock is taken, that picks do not wait for.
    pub fn change(&self, left: &[Arc<E>], joined: Vec<Arc<E>>) {
        let guard = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self
            .state
            .load()
            .changed(left, joined, &self.rules, self.seed);
        self.store(state, guard);
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

    /// As [`refresh`](Balancer::refresh), for all members with one of these keys: O(log members)
    /// each.
    pub fn refresh_named<'a>(&self, keys: impl IntoIterator<Item = &'a str>) {
        let state = self.state.load();
        let mut all = Vec::new();
        for key in keys {
            all.extend(state.members.named(key).map(|(_, member)| member.clone()));
        }
        drop(state);
        self.look_at(&all);
    }

    /// Looks at the health of these members, or leaves that to whoever is at work.
    pub(super) fn look_at(&self, members: &[Arc<E>]) {
        if members.is_empty() {
            return;
        }
        let Some(guard) = self.try_change() else {
            // Told first and tried again: the holder may have looked for the last time before.
            return self.refresh();
        };
        match self
            .state
            .load()
            .reconsidered(members, &self.rules, self.seed)
        {
            Some(state) => self.store(state, guard),
            None => drop(guard),
        }
        self.renew();
    }

    fn try_change(&self) -> Option<MutexGuard<'_, ()>> {
        match self.changing.try_lock() {
            Ok(guard) => Some(guard),
            // The lock protects no data: a panic of its holder broke nothing.
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    pub(super) fn store(&self, state: State<E>, guard: MutexGuard<'_, ()>) {
        self.state.store(Arc::new(state));
        drop(guard);
        self.renew();
    }

    /// Makes a new state if one is wanted, unless somebody is at it.
    pub(super) fn renew(&self) {
        while self.stale.load(Ordering::SeqCst) || self.state.load().is_due() {
            let Some(_guard) = self.try_change() else {
                return;
            };
            while self.stale.swap(false, Ordering::SeqCst) || self.state.load().is_due() {
                let state = self.state.load().refreshed(&self.rules, self.seed);
                self.state.store(Arc::new(state));
            }
        }
    }
}
