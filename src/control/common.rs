//! What all views of all contents have in common: resources that are equal, what was told, and the processors
//! that make views.
//!
//! Two clients that differ in a label have views of their own, and most of what is in these is equal. Each view
//! is compiled and encoded by itself; what comes out of it is then exchanged for what another view has already.

use std::collections::{BTreeSet, HashMap};
use std::num::NonZero;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::resource::Encoded;

/// It outlives contents.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) told: Told,
    pub(super) interned: Interned,
    /// How many views are made at a time: it is work for processors, and each takes the memory of a mesh.
    makers: Arc<Semaphore>,
}

impl Default for Common {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self {
            told: Told::default(),
            interned: Interned::default(),
            makers: Arc::new(Semaphore::new(processors)),
        }
    }
}

impl Common {
    /// Waits for a processor to make a view. It is cancel safe.
    pub(super) async fn maker(&self) -> OwnedSemaphorePermit {
        let maker = self.makers.clone().acquire_owned().await;
        maker.expect("nobody closes the semaphore")
    }
}

/// All resources that are in some view.
#[derive(Debug, Default)]
pub(super) struct Interned {
    // Held for one view's exchange.
    by_hash: Mutex<HashMap<u64, Weak<Encoded>>>,
}

impl Interned {
    /// These resources, each as the allocation that others have of it, if any has.
    pub(super) fn share(&self, mut resources: Vec<Arc<Encoded>>) -> Vec<Arc<Encoded>> {
        let mut known = lock(&self.by_hash);
        if known.len() + resources.len() > known.capacity() {
            known.retain(|_, resource| resource.strong_count() > 0);
        }
        for resource in &mut resources {
            match known.get(&resource.hash()).and_then(Weak::upgrade) {
                Some(same) if same.is_same(resource) => *resource = same,
                // Of two that have one hash, or one content and two labels, the first is shared.
                Some(_) => {}
                None => drop(known.insert(resource.hash(), Arc::downgrade(resource))),
            }
        }
        resources
    }
}

/// What was logged already, so that nothing is told twice.
#[derive(Debug, Default)]
pub(super) struct Told {
    // Held for a look.
    texts: Mutex<BTreeSet<String>>,
}

/// The most texts that are remembered; beyond it, nothing more is told.
const TOLD: usize = 10_000;

impl Told {
    /// Whether a text is new.
    pub(super) fn is_new(&self, text: &str) -> bool {
        let mut texts = lock(&self.texts);
        texts.len() < TOLD && texts.insert(text.into())
    }
}

impl Told {
    /// All that was told.
    #[cfg(test)]
    pub(super) fn all(&self) -> BTreeSet<String> {
        lock(&self.texts).clone()
    }
}

/// Held for a look or an exchange, and never while something else is waited for.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::kind::Kind;
    use super::super::resource::Parts;
    use super::*;

    fn resource(body: &[u8], label: Option<&str>) -> Arc<Encoded> {
        let mut parts = Parts::new(Kind::Cluster, "a".into(), body);
        parts.label = label.map(Into::into);
        Arc::new(parts.finish())
    }

    #[test]
    fn equal_resources_are_one_allocation_and_others_are_what_they_were() {
        let interned = Interned::default();
        let one = interned.share(vec![resource(b"1", None)]);
        let same = interned.share(vec![resource(b"1", None)]);
        assert!(Arc::ptr_eq(&one[0], &same[0]));
        let labelled = interned.share(vec![resource(b"1", Some("v7"))]);
        assert_eq!(&**labelled[0].version(), "v7");
        let other = interned.share(vec![resource(b"2", None)]);
        assert_eq!(other[0].body(), b"2");
    }

    #[test]
    fn what_nobody_has_any_more_is_forgotten() {
        let interned = Interned::default();
        for at in 0..10_000_u32 {
            interned.share(vec![resource(&at.to_le_bytes(), None)]);
        }
        let known = interned.by_hash.lock().expect("nobody panicked").len();
        assert!(known < 100, "{known}");
    }

    #[test]
    fn what_is_told_is_bounded() {
        let told = Told::default();
        for at in 0..TOLD {
            assert!(told.is_new(&at.to_string()));
            assert!(!told.is_new(&at.to_string()));
        }
        assert!(!told.is_new("one more"));
        assert_eq!(told.all().len(), TOLD);
    }
}
