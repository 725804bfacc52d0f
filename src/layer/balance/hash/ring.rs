//! A ring of hashes (Envoy's RING_HASH, gRPC A42).

use std::fmt::Write as _;

use super::{Part, hash};

/// A ring grows beyond its minimum so that the smallest weight gets whole entries. Beyond this
/// size, or one entry for each member, it does not: a weight of one among millions would otherwise
/// cost the maximum of Envoy, 100 MB, for each cluster.
const ENOUGH: usize = 65_536;

/// Entries in the order of their hashes, and whose they are.
#[derive(Debug)]
pub(super) struct Ring {
    hashes: Box<[u64]>,
    owners: Box<[u32]>,
}

impl Ring {
    /// `parts` are in the order of their keys and their shares' sum is 1.
    pub(super) fn new(parts: &[Part<'_>], minimum: u32, maximum: u32) -> Self {
        let smallest = parts.iter().map(|part| part.share).fold(1.0, f64::min);
        let enough = ENOUGH.max(minimum as usize).max(parts.len());
        let most = (maximum as usize).min(enough) as f64;
        // So many entries that the smallest share is a whole number of them.
        let scale = ((smallest * f64::from(minimum)).ceil() / smallest).min(most);
        // At most 8 Mi by the bound of the maximum.
        let mut ring: Vec<(u64, u32)> = Vec::with_capacity(scale.ceil() as usize);
        let mut text = String::new();
        let mut target = 0.0;
        for part in parts {
            target += scale * part.share;
            text.clear();
            part.key.write(&mut text);
            text.push('_');
            let stem = text.len();
            let mut number = 0_u32;
            // The count of entries is a sum of whole numbers, exact as a double. The fraction that
            // one member leaves is the next one's, so that the ring has its size.
            while (ring.len() as f64) < target {
                text.truncate(stem);
                // Writing to a string does not fail.
                let _ = write!(text, "{number}");
                ring.push((hash(&text, 0), part.member));
                number += 1;
            }
        }
        ring.sort_unstable();
        let (hashes, owners): (Vec<_>, Vec<_>) = ring.into_iter().unzip();
        Self {
            hashes: hashes.into(),
            owners: owners.into(),
        }
    }

    /// The owners and where a key's first one stands: O(log entries).
    pub(super) fn start(&self, key: u64) -> (&[u32], usize) {
        let at = self.hashes.partition_point(|hash| *hash < key);
        // Behind the last entry comes the first one.
        let at = if at == self.hashes.len() { 0 } else { at };
        (&self.owners, at)
    }
}
