//! Consistent hashing: the same key goes to the same member.
//!
//! Rings and tables are made as Envoy and gRPC make them (XXH64 of `address_0`, `address_1`, ...;
//! Maglev's permutations with the seeds 0 and 1), so that a key goes to the endpoint that a sidecar
//! with the same endpoints would send it to.
//!
//! A table is made of *all* members, whether they are admitted or not, and a pick goes on to the
//! next entry while it meets somebody who is out. Making it of the admitted ones, as Envoy does,
//! was rejected: it costs milliseconds for each ejection, and ejections come when there is least
//! time. What moves is the same: the keys of the ejected, to the owners of the next entries.

mod maglev;
mod ring;

use std::sync::Arc;

use twox_hash::XxHash64;

use super::Candidate;
use super::layout::Priority;
use crate::model::balancing::{LoadBound, Maglev, RingHash};
use crate::model::cluster::Balancing;
use maglev::Entries;
use ring::Ring;

/// XXH64 of a text.
pub(super) fn hash(text: &str, seed: u64) -> u64 {
    XxHash64::oneshot(seed, text.as_bytes())
}

/// What leads from keys to the members of one priority.
#[derive(Debug)]
pub(super) struct Table {
    slots: Slots,
    bound: Option<LoadBound>,
    /// The share of each member of the balancer in this priority, if there is a bound.
    shares: Box<[f32]>,
}

#[derive(Debug)]
enum Slots {
    Entries(Entries),
    Ring(Ring),
}

/// A member of a priority with its part of the whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part<'a> {
    member: u32,
    key: Key<'a>,
    /// All together are 1.
    share: f64,
}

/// What a member is known by.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Key<'a> {
    Text(&'a str),
    /// For those that have no text: their place in the list.
    Place(u32),
}

impl Table {
    /// `None` for ways of balancing that need none.
    pub(super) fn new<E: Candidate>(
        balancing: Balancing,
        members: &[Arc<E>],
        priority: &Priority,
    ) -> Option<Self> {
        let made = |slots: fn(&[Part<'_>], u32, u32) -> Slots, sizes: (u32, u32), bound| {
            let parts = parts(members, priority);
            let shares = match bound {
                None => Vec::new(),
                Some(_) => {
                    let mut shares = vec![0.0; members.len()];
                    for part in &parts {
                        shares[part.member as usize] = part.share as f32;
                    }
                    shares
                }
            };
            Some(Self {
                slots: slots(&parts, sizes.0, sizes.1),
                bound,
                shares: shares.into(),
            })
        };
        match balancing {
            Balancing::Maglev(rules) => {
                made(entries, (rules.table_size(), 0), Maglev::bound(rules))
            }
            Balancing::RingHash(rules) => {
                let sizes = (rules.minimum(), rules.maximum());
                made(ring, sizes, RingHash::bound(rules))
            }
            Balancing::LeastRequest
            | Balancing::PeakEwma(_)
            | Balancing::Random
            | Balancing::RoundRobin
            | Balancing::WeightedRoundRobin(_) => None,
        }
    }

    /// The members in the order in which a key asks them, some of them often.
    pub(super) fn walk(&self, key: u64) -> impl Iterator<Item = u32> {
        let (owners, start) = match &self.slots {
            Slots::Entries(entries) => entries.start(key),
            Slots::Ring(ring) => ring.start(key),
        };
        let (before, from) = owners.split_at(start);
        from.iter().chain(before).copied()
    }

    /// Whether a member with `active` requests is to be spared while all together have `total`.
    ///
    /// Each has as many slots as its share of `bound` percent of all requests, this one included;
    /// so there is always one with a free slot ("consistent hashing with bounded loads").
    pub(super) fn full(&self, member: u32, active: u32, total: u32) -> bool {
        let Some(bound) = self.bound else {
            return false;
        };
        let slots = (u64::from(total) + 1) * u64::from(bound.percent());
        let share = self.shares.get(member as usize).copied().unwrap_or(0.0);
        let own = (slots.div_ceil(100) as f64 * f64::from(share)).ceil();
        f64::from(active) >= own.max(1.0)
    }
}

fn entries(parts: &[Part<'_>], size: u32, _: u32) -> Slots {
    Slots::Entries(Entries::new(parts, size))
}

fn ring(parts: &[Part<'_>], minimum: u32, maximum: u32) -> Slots {
    Slots::Ring(Ring::new(parts, minimum, maximum))
}

/// All members of a priority with their shares, in the order of their keys, so that the order in
/// which a registry lists them changes nothing.
fn parts<'a, E: Candidate>(members: &'a [Arc<E>], priority: &Priority) -> Vec<Part<'a>> {
    let weight = |member: &u32| f64::from(members[*member as usize].weight().get());
    let groups: f64 = priority
        .groups
        .iter()
        .map(|one| f64::from(one.weight))
        .sum();
    let mut parts: Vec<_> = priority
        .groups
        .iter()
        .flat_map(|group| {
            let whole: f64 = group.members.iter().map(weight).sum();
            let factor = f64::from(group.weight) / groups / whole;
            group.members.iter().map(move |member| Part {
                member: *member,
                key: match members[*member as usize].key() {
                    "" => Key::Place(*member),
                    text => Key::Text(text),
                },
                share: factor * weight(member),
            })
        })
        .collect();
    parts.sort_by(|one, other| one.key.cmp(&other.key));
    parts
}

impl Key<'_> {
    /// Writes itself to the end of `text`.
    fn write(self, text: &mut String) {
        use std::fmt::Write as _;
        match self {
            Self::Text(key) => text.push_str(key),
            // Writing to a string does not fail.
            Self::Place(place) => drop(write!(text, "{place}")),
        }
    }
}
