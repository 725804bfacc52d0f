//! Maglev's table (Eisenbud et al., NSDI 2016, §3.4), with weights as Envoy has them.

use std::sync::Arc;

use super::{Part, hash};

/// The owners of the table's entries; empty if there is nobody.
#[derive(Clone, Debug)]
pub(super) struct Entries(Arc<[u32]>);

/// One member while the table is made.
struct Builder {
    member: u32,
    share: f64,
    target: f64,
    offset: u64,
    skip: u64,
    next: u64,
}

const FREE: u32 = u32::MAX;

impl Entries {
    /// `size` is a prime number, `parts` are in the order of their keys.
    pub(super) fn new(parts: &[Part<'_>], size: u32) -> Self {
        let size = u64::from(size);
        let largest = parts.iter().map(|part| part.share).fold(0.0, f64::max);
        let mut text = String::new();
        let mut builders: Vec<_> = parts
            .iter()
            .map(|part| {
                text.clear();
                part.key.write(&mut text);
                Builder {
                    member: part.member,
                    share: part.share,
                    target: 0.0,
                    offset: hash(&text, 0) % size,
                    // The smallest table has two entries.
                    skip: hash(&text, 1) % (size - 1).max(1) + 1,
                    next: 0,
                }
            })
            .collect();
        if builders.is_empty() {
            return Self(Arc::default());
        }
        let mut entries = vec![FREE; size as usize];
        let mut taken = 0;
        // In each round everybody takes its next free entry; who has half of the largest share
        // takes part in every other round.
        for round in 1_u64.. {
            for builder in &mut builders {
                if round as f64 * builder.share < builder.target {
                    continue;
                }
                builder.target += largest;
                builder.take(&mut entries);
                taken += 1;
                if taken == size {
                    return Self(entries.into());
                }
            }
        }
        Self(entries.into())
    }

    /// The owners from a key's first one on, once round.
    pub(super) fn walk(&self, key: u64) -> impl Iterator<Item = u32> {
        let start = key.checked_rem(self.0.len() as u64).unwrap_or(0);
        let (before, from) = self.0.split_at(start as usize);
        from.iter().chain(before).copied()
    }
}

impl Builder {
    /// Takes the next free entry of the own permutation. There is one, or the table were ready; and
    /// since the size is a prime number, the permutation meets it.
    fn take(&mut self, entries: &mut [u32]) {
        let size = entries.len() as u64;
        loop {
            let at = (self.offset + self.skip * self.next) % size;
            self.next += 1;
            let entry = &mut entries[at as usize];
            if *entry == FREE {
                *entry = self.member;
                return;
            }
        }
    }
}
