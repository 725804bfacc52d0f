//! What happened to one call, for whoever asks.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::Flag;
use crate::layer::retry::Summary;

/// Asks the mesh to say what it did with a call.
///
/// Put a clone into the request's extensions and read it after the response. A call without one
/// pays nothing for it. The report is complete when the response has arrived, also if the call
/// was abandoned: then it tells how far it came.
///
/// ```
/// use meshwork::CallReport;
///
/// let report = CallReport::default();
/// let mut request = http::Request::get("http://catalog/items").body(()).unwrap();
/// request.extensions_mut().insert(report.clone());
/// // ... send it through a mesh ...
/// for attempt in report.attempts() {
///     println!("{} {}", attempt.endpoint, attempt.outcome);
/// }
/// ```
#[derive(Clone, Default)]
pub struct CallReport {
    // Locked for a few assignments by the one task that serves the call, and by its reader.
    inner: Arc<Mutex<Inner>>,
}

#[derive(Clone, Debug, Default)]
struct Inner {
    route: Option<Arc<str>>,
    cluster: Option<Arc<str>>,
    generation: u64,
    attempts: Vec<Attempt>,
    flags: Vec<Flag>,
    retries: u32,
    retries_denied: u32,
}

/// One try of a call.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Attempt {
    /// The address that it went to.
    pub endpoint: Arc<str>,
    /// The status that came back, or what went wrong.
    pub outcome: String,
}

impl CallReport {
    /// The name of the route that was taken.
    #[must_use]
    pub fn route(&self) -> Option<Arc<str>> {
        self.read(|inner| inner.route.clone())
    }

    /// The name of the cluster that was chosen.
    #[must_use]
    pub fn cluster(&self) -> Option<Arc<str>> {
        self.read(|inner| inner.cluster.clone())
    }

    /// The generation of the configuration that decided.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.read(|inner| inner.generation)
    }

    /// The tries that reached an endpoint, in order.
    #[must_use]
    pub fn attempts(&self) -> Vec<Attempt> {
        self.read(|inner| inner.attempts.clone())
    }

    /// Envoy's response flags, in the order they were raised, each once.
    #[must_use]
    pub fn flags(&self) -> Vec<Flag> {
        self.read(|inner| inner.flags.clone())
    }

    /// How many tries the retry policy made beyond the first. [`attempts`](Self::attempts) may hold
    /// more: a request that no peer has looked at is sent again without being a retry.
    #[must_use]
    pub fn retries(&self) -> u32 {
        self.read(|inner| inner.retries)
    }

    /// How many retries the policy wanted and the budget or a limit denied.
    #[must_use]
    pub fn retries_denied(&self) -> u32 {
        self.read(|inner| inner.retries_denied)
    }

    pub(crate) fn decided(&self, generation: u64, route: &Arc<str>, cluster: Option<&Arc<str>>) {
        self.write(|inner| {
            inner.generation = generation;
            inner.route = Some(route.clone());
            inner.cluster = cluster.cloned();
        });
    }

    pub(crate) fn tried(&self, endpoint: &Arc<str>, outcome: String) {
        self.write(|inner| {
            inner.attempts.push(Attempt {
                endpoint: endpoint.clone(),
                outcome,
            });
        });
    }

    pub(crate) fn raise(&self, flag: Flag) {
        self.write(|inner| {
            if !inner.flags.contains(&flag) {
                inner.flags.push(flag);
            }
        });
    }

    pub(crate) fn ended(&self, summary: &Summary) {
        self.write(|inner| {
            inner.retries += summary.retries;
            inner.retries_denied += u32::from(summary.denied);
        });
        if let Some(flag) = summary.flag() {
            self.raise(flag);
        }
    }

    fn read<T>(&self, read: impl FnOnce(&Inner) -> T) -> T {
        read(&self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn write(&self, write: impl FnOnce(&mut Inner)) {
        write(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl fmt::Debug for CallReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.read(|inner| inner.fmt(f))
    }
}
