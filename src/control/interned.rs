//! Resources that are equal, held once.
//!
//! Two clients that differ in a label have views of their own, and most of what is in these is equal. Each view
//! is compiled and encoded by itself; what comes out of it is then exchanged for what another view has already.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};

use super::lock::lock;
use super::resource::Encoded;

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
}
