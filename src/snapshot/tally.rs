//! What routes with a name for statistics have counted (Envoy's `stat_prefix`, Istio's `match[].statPrefix`).
//!
//! A route has none by default, as in Envoy: numbers for each route are many, and mostly nobody looks at
//! them. With one each answer costs one addition. Routes of one prefix count together, wherever they
//! stand, and go on counting over edits for as long as one of them is in force. A prefix becomes a label, so
//! that there are never more than [`PREFIXES`] of them: the last is `other`, for what comes after the rest.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use http::Response;

use crate::error::{Error, Kind};

/// How many prefixes there are at most, that of all others included.
const PREFIXES: usize = 1_024;
/// What routes with others count as.
const OTHER: &str = "other";

/// Answers of routes with one prefix at one moment: the mesh's own and those of endpoints, by the class of
/// their status, as Envoy's `vhost.*.route.<prefix>.upstream_rq_<class>`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct RouteStats {
    /// The prefix, or `other`.
    pub prefix: Arc<str>,
    /// Answers of 1xx to 5xx, in this order; an error is the status that a sidecar would answer with, also to gRPC.
    pub answers: [u64; 5],
    /// Those of them that were late: the caller's time or the route's was over. Envoy's `upstream_rq_timeout`.
    pub timeouts: u64,
}

impl RouteStats {
    /// What the classes are called.
    pub const CLASSES: [&'static str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
}

/// The prefixes in force. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Tallies {
    // Locked while a configuration is linked and while statistics are read, never by a request.
    all: Arc<Mutex<BTreeMap<Arc<str>, Weak<Tally>>>>,
}

/// What is counted of one prefix.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    answers: [AtomicU64; 5],
    timeouts: AtomicU64,
}

impl Tallies {
    /// That of a route.
    pub(super) fn of(&self, prefix: &Arc<str>) -> Arc<Tally> {
        let mut all = self.all();
        let known = |prefix: &str| all.get(prefix).and_then(Weak::upgrade);
        if let Some(tally) = known(prefix) {
            return tally;
        }
        // One place is that of all others.
        let full = all.len() >= PREFIXES - 1 && !all.contains_key(prefix);
        let (name, before) = match full {
            true => (OTHER.into(), known(OTHER)),
            false => (prefix.clone(), None),
        };
        before.unwrap_or_else(|| {
            let tally = Arc::default();
            all.insert(name, Arc::downgrade(&tally));
            tally
        })
    }

    /// Forgets prefixes that no route has any more: O(prefixes).
    pub(super) fn prune(&self) {
        self.all().retain(|_, tally| tally.strong_count() > 0);
    }

    /// What was counted, by prefix.
    pub(crate) fn read(&self) -> Vec<RouteStats> {
        let all = self.all();
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let each = all.iter().filter_map(|(prefix, tally)| {
            let tally = tally.upgrade()?;
            // Read first, so that no more were late than answered.
            let timeouts = read(&tally.timeouts);
            Some(RouteStats {
                prefix: prefix.clone(),
                answers: tally.answers.each_ref().map(read),
                timeouts,
            })
        });
        each.collect()
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Weak<Tally>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Tallies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefixes = self.all().len();
        f.debug_struct("Tallies")
            .field("prefixes", &prefixes)
            .finish()
    }
}

impl Tally {
    /// Counts how a request ended, by the head of its answer.
    pub(crate) fn count<B>(&self, result: &Result<Response<B>, Error>) {
        let status = match result {
            Ok(response) => response.status(),
            Err(error) => error.status(),
        };
        let class = usize::from(status.as_u16() / 100).wrapping_sub(1);
        if let Some(counter) = self.answers.get(class) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        // Of one try, or of connecting, the time may be over and the request go on.
        let late = |error: &Error| matches!(error.kind(), Kind::Timeout { .. });
        if result.as_ref().is_err_and(late) {
            self.timeouts.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(tally: &Tally, status: u16) {
        let response = Response::builder().status(status).body(()).unwrap();
        tally.count(&Ok(response));
    }

    #[test]
    fn routes_of_one_prefix_count_together_for_as_long_as_one_is_there() {
        let tallies = Tallies::default();
        let (one, other) = (tallies.of(&"a".into()), tallies.of(&"a".into()));
        answer(&one, 200);
        answer(&other, 404);
        drop(one);
        tallies.prune();
        answer(&tallies.of(&"a".into()), 204);
        let expected = RouteStats {
            prefix: "a".into(),
            answers: [0, 2, 0, 1, 0],
            timeouts: 0,
        };
        assert_eq!(tallies.read(), [expected]);
        drop(other);
        tallies.prune();
        assert_eq!(tallies.read(), []);
    }

    #[test]
    fn there_are_never_more_prefixes_than_the_bound() {
        let tallies = Tallies::default();
        let held: Vec<_> = (0..PREFIXES + 10)
            .map(|number| tallies.of(&format!("p{number:05}").into()))
            .collect();
        held.iter().for_each(|tally| answer(tally, 200));
        let read = tallies.read();
        assert_eq!(read.len(), PREFIXES);
        assert_eq!((&*read[0].prefix, read[0].answers[1]), (OTHER, 11));
        // Those that have a place keep it.
        assert!(Arc::ptr_eq(&held[0], &tallies.of(&"p00000".into())));
    }
}
