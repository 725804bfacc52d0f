//! What was logged: many views have the same losses and faults, and each is told once.

use std::collections::BTreeSet;
use std::sync::Mutex;

use super::lock::lock;

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

    /// All that was told.
    #[cfg(test)]
    pub(super) fn all(&self) -> BTreeSet<String> {
        lock(&self.texts).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
