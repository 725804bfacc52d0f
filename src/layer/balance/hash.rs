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
//!
//! A member that comes or goes is a few entries of a ring, where that leaves everybody else as many
//! entries as before (see [`ring`]). A Maglev table is made anew: its rounds give each entry to
//! whoever comes to it first, so one member more moves entries everywhere. That is the price of its
//! even shares, some milliseconds for the table of 65,537 that Envoy has.

mod maglev;
mod ring;

use twox_hash::XxHash64;

use super::Candidate;
use super::layout::Group;
use super::slots::Slots;
use crate::model::balancing::LoadBound;
use crate::model::cluster::Balancing;
use maglev::Entries;
use ring::Ring;

/// XXH64 of a text.
pub(super) fn hash(text: &str, seed: u64) -> u64 {
    XxHash64::oneshot(seed, text.as_bytes())
}

/// What leads from keys to the members of one priority.
#[derive(Clone, Debug)]
pub(super) struct Table {
    leads: Leads,
    bound: Option<LoadBound>,
    /// For each locality, what a member's weight is to be multiplied with to get its share.
    factors: Vec<(u32, f64)>,
}

#[derive(Clone, Debug)]
enum Leads {
    Maglev(Entries),
    Ring(Ring),
}

/// A member of a priority with its part of the whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part<'a> {
    member: u32,
    key: Key<'a>,
    weight: u32,
    /// All together are 1.
    share: f64,
}

/// What a member is known by.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Key<'a> {
    Text(&'a str),
    /// For those that have no text: their number.
    Number(u32),
}

impl<'a> Part<'a> {
    fn new<E: Candidate>(number: u32, member: &'a E, factor: f64) -> Self {
        Self {
            member: number,
            key: match member.hash_key() {
                "" => Key::Number(number),
                text => Key::Text(text),
            },
            weight: member.weight().get(),
            share: factor * f64::from(member.weight().get()),
        }
    }
}

impl Table {
    /// `None` for ways of balancing that need none.
    pub(super) fn new<E: Candidate>(
        balancing: &Balancing,
        members: &Slots<E>,
        groups: &[Group],
    ) -> Option<Self> {
        let made = |leads: &dyn Fn(&[Part<'_>]) -> Leads, bound| {
            let factors = factors(members, groups);
            let parts = parts(members, groups, &factors);
            Some(Self {
                leads: leads(&parts),
                bound,
                factors,
            })
        };
        match balancing {
            Balancing::Maglev(rules) => {
                let leads =
                    |parts: &[Part<'_>]| Leads::Maglev(Entries::new(parts, rules.table_size()));
                made(&leads, rules.bound())
            }
            Balancing::RingHash(rules) => {
                let (minimum, maximum) = (rules.minimum(), rules.maximum());
                let alone = groups.len() == 1;
                let leads =
                    |parts: &[Part<'_>]| Leads::Ring(Ring::new(parts, minimum, maximum, alone));
                made(&leads, rules.bound())
            }
            Balancing::LeastRequest
            | Balancing::PeakEwma(_)
            | Balancing::PickFirst(_)
            | Balancing::Random
            | Balancing::RoundRobin
            | Balancing::WeightedRoundRobin(_) => None,
        }
    }

    /// The table after members have come and gone; `None` if it has to be made anew.
    pub(super) fn changed<E: Candidate>(
        &self,
        left: &[(u32, &E)],
        joined: &[(u32, &E)],
    ) -> Option<Self> {
        if left.is_empty() && joined.is_empty() {
            return Some(self.clone());
        }
        let Leads::Ring(ring) = &self.leads else {
            return None;
        };
        fn all<'a, E: Candidate>(members: &[(u32, &'a E)]) -> Vec<Part<'a>> {
            let part = |(number, member): &(u32, &'a E)| Part::new(*number, *member, 0.0);
            members.iter().map(part).collect()
        }
        let (ring, whole) = ring.changed(&all(left), &all(joined))?;
        Some(Self {
            leads: Leads::Ring(ring),
            bound: self.bound,
            // A ring that can be changed has one locality.
            factors: vec![(self.factors.first()?.0, 1.0 / whole)],
        })
    }

    /// The members in the order in which a key asks them, some of them often.
    pub(super) fn walk(&self, key: u64) -> impl Iterator<Item = u32> {
        let (entries, ring) = match &self.leads {
            Leads::Maglev(entries) => (Some(entries.walk(key)), None),
            Leads::Ring(ring) => (None, Some(ring.walk(key))),
        };
        entries
            .into_iter()
            .flatten()
            .chain(ring.into_iter().flatten())
    }

    /// Whether a member is to be spared while all together have `total` requests.
    ///
    /// Each has as many slots as its share of `bound` percent of all requests, this one included;
    /// so there is always one with a free slot ("consistent hashing with bounded loads").
    pub(super) fn full<E: Candidate>(&self, member: &E, total: u32) -> bool {
        let Some(bound) = self.bound else {
            return false;
        };
        let slots = (u64::from(total) + 1) * u64::from(bound.percent());
        let locality = member.placement().locality;
        let factor = match &*self.factors {
            [(_, only)] => *only,
            all => {
                let own = all.iter().find(|(own, _)| *own == locality);
                own.map_or(0.0, |(_, factor)| *factor)
            }
        };
        let share = factor * f64::from(member.weight().get());
        let own = (slots.div_ceil(100) as f64 * share).ceil();
        f64::from(member.active()) >= own.max(1.0)
    }
}

/// What the weight of a member of each group is to be multiplied with to get its share.
fn factors<E: Candidate>(members: &Slots<E>, groups: &[Group]) -> Vec<(u32, f64)> {
    let weight = |number: &u32| Some(f64::from(members.get(*number)?.weight().get()));
    let all: f64 = groups.iter().map(|one| f64::from(one.weight)).sum();
    let factor = |group: &Group| {
        let whole: f64 = group.members.iter().filter_map(weight).sum();
        (group.locality, f64::from(group.weight) / all / whole)
    };
    groups.iter().map(factor).collect()
}

/// All members of a priority with their shares, in the order of their keys, so that the order in
/// which a registry lists them changes nothing.
fn parts<'a, E: Candidate>(
    members: &'a Slots<E>,
    groups: &[Group],
    factors: &[(u32, f64)],
) -> Vec<Part<'a>> {
    let each = groups.iter().zip(factors).flat_map(|(group, (_, factor))| {
        group.members.iter().filter_map(move |number| {
            let member = members.get(*number)?;
            Some(Part::new(*number, &**member, *factor))
        })
    });
    let mut parts: Vec<_> = each.collect();
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
            Self::Number(number) => drop(write!(text, "{number}")),
        }
    }
}
