//! A ring of hashes (Envoy's RING_HASH, gRPC A42).
//!
//! Each member has entries in proportion to its weight, and the ring as many as make that a whole
//! number for the lightest. While the others' numbers are whole too, and the lightest's number stays,
//! a member that comes or goes changes no number but its own: the ring of ten thousand gets a few
//! entries or loses them. Where numbers change (a small ring whose minimum is shared by fewer or
//! more), where weights are no multiples of the lightest, or localities have weights of their own,
//! every member's entries change, and the ring is made anew.

use std::fmt::Write as _;

use super::super::sorted::Sorted;
use super::{Part, hash};

/// A ring grows beyond its minimum so that the smallest weight gets whole entries. Beyond this
/// size, or one entry for each member, it does not: a weight of one among millions would otherwise
/// cost the maximum of Envoy, 100 MB, for each cluster.
const ENOUGH: usize = 65_536;

/// Rings of more different weights than these are made anew with each change.
const KINDS: usize = 64;

/// Entries in the order of their hashes, and whose they are.
#[derive(Clone, Debug)]
pub(super) struct Ring {
    entries: Sorted,
    /// How entries are given out, if by whole numbers.
    plan: Option<Plan>,
}

/// Whole numbers of entries by weight.
#[derive(Clone, Debug)]
struct Plan {
    minimum: u32,
    maximum: u32,
    /// How many members have which weight, lightest first.
    kinds: Vec<(u32, u32)>,
    /// How many entries the lightest has.
    least: usize,
}

impl Ring {
    /// `parts` are in the order of their keys and their shares' sum is 1; `alone` if they are of
    /// one locality.
    pub(super) fn new(parts: &[Part<'_>], minimum: u32, maximum: u32, alone: bool) -> Self {
        let mut plan = Plan {
            minimum,
            maximum,
            kinds: Vec::new(),
            least: 0,
        };
        let by_plan =
            alone && parts.iter().all(|part| plan.count(part.weight, 1)) && plan.settle().is_some();
        if !by_plan {
            return Self {
                entries: Sorted::new(by_fractions(parts, minimum, maximum)),
                plan: None,
            };
        }
        let mut entries = Vec::new();
        for part in parts {
            each(part, plan.entries(part), |entry| entries.push(entry));
        }
        Self {
            entries: Sorted::new(entries),
            plan: Some(plan),
        }
    }

    /// The ring after members have come and gone, and the sum of all weights; `None` if it has to be
    /// made anew.
    pub(super) fn changed(&self, left: &[Part<'_>], joined: &[Part<'_>]) -> Option<(Self, f64)> {
        let before = self.plan.as_ref()?;
        let mut plan = before.clone();
        let counted = joined.iter().all(|part| plan.count(part.weight, 1))
            && left.iter().all(|part| plan.count(part.weight, -1));
        let lightest = |plan: &Plan| plan.kinds.first().map(|kind| kind.0);
        let whole = plan.settle().filter(|_| counted)?;
        if plan.least != before.least || lightest(&plan) != lightest(before) {
            return None;
        }
        let mut entries = self.entries.clone();
        for part in left {
            each(part, plan.entries(part), |entry| entries.remove(entry));
        }
        for part in joined {
            each(part, plan.entries(part), |entry| entries.insert(entry));
        }
        let plan = Some(plan);
        Some((Self { entries, plan }, whole as f64))
    }

    /// The owners from a key's first one on, once round: O(log entries) to the first.
    pub(super) fn walk(&self, key: u64) -> impl Iterator<Item = u32> {
        self.entries.walk(key).map(|(_, owner)| owner)
    }
}

impl Plan {
    /// One member more or less of this weight; whether that can be counted.
    fn count(&mut self, weight: u32, by: i32) -> bool {
        match self.kinds.binary_search_by_key(&weight, |kind| kind.0) {
            Ok(at) => {
                let Some(count) = self.kinds[at].1.checked_add_signed(by) else {
                    return false;
                };
                self.kinds[at].1 = count;
                if count == 0 {
                    self.kinds.remove(at);
                }
                true
            }
            Err(at) if by > 0 && self.kinds.len() < KINDS => {
                self.kinds.insert(at, (weight, 1));
                true
            }
            Err(_) => false,
        }
    }

    /// Computes how many entries the lightest has, and returns the sum of all weights; `None` if
    /// not everybody has a whole number of entries.
    fn settle(&mut self) -> Option<u64> {
        let (lightest, _) = *self.kinds.first()?;
        let all = || {
            self.kinds
                .iter()
                .map(|(weight, count)| (u64::from(*weight), u64::from(*count)))
        };
        let whole: u64 = all().map(|(weight, count)| weight * count).sum();
        let members: u64 = all().map(|(_, count)| count).sum();
        let lightest = u64::from(lightest);
        let least = lightest.checked_mul(self.minimum.into())?.div_ceil(whole);
        let entries = (whole / lightest).checked_mul(least)?;
        let most = u64::from(self.maximum).min(members.max(ENOUGH as u64).max(self.minimum.into()));
        let multiples = all().all(|(weight, _)| weight.is_multiple_of(lightest));
        if !multiples || least == 0 || entries > most {
            return None;
        }
        self.least = usize::try_from(least).ok()?;
        Some(whole)
    }

    /// How many entries a member has.
    fn entries(&self, part: &Part<'_>) -> usize {
        let lightest = self.kinds.first().map_or(1, |kind| kind.0);
        self.least * (part.weight / lightest) as usize
    }
}

/// Visits the entries of a member.
fn each(part: &Part<'_>, count: usize, mut visit: impl FnMut((u64, u32))) {
    let mut text = String::new();
    part.key.write(&mut text);
    text.push('_');
    let stem = text.len();
    for number in 0..count {
        text.truncate(stem);
        // Writing to a string does not fail.
        let _ = write!(text, "{number}");
        visit((hash(&text, 0), part.member));
    }
}

/// The entries where not everybody has a whole number of them.
fn by_fractions(parts: &[Part<'_>], minimum: u32, maximum: u32) -> Vec<(u64, u32)> {
    let smallest = parts.iter().map(|part| part.share).fold(1.0, f64::min);
    let enough = ENOUGH.max(minimum as usize).max(parts.len());
    let most = (maximum as usize).min(enough) as f64;
    // So many entries that the smallest share is a whole number of them.
    let scale = ((smallest * f64::from(minimum)).ceil() / smallest).min(most);
    // At most 8 Mi by the bound of the maximum.
    let mut ring: Vec<(u64, u32)> = Vec::with_capacity(scale.ceil() as usize);
    let mut target = 0.0;
    for part in parts {
        target += scale * part.share;
        // The count of entries is a sum of whole numbers, exact as a double. The fraction that one
        // member leaves is the next one's, so that the ring has its size.
        let own = (target - ring.len() as f64).ceil().max(0.0) as usize;
        each(part, own, |entry| ring.push(entry));
    }
    ring
}
