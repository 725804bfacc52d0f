//! Hashes in their order, and whose they are, in versions that share.
//!
//! A ring of ten thousand members has as many entries or more, of which one member's are a few. A
//! sorted array of them is found in fast and rebuilt slowly. This is a trie over the bits of the
//! hashes, highest first, whose copies share what a change leaves alone: an entry more or less copies
//! one path. Hashes spread evenly, so the trie is level without anybody levelling it; equal hashes
//! make one deep leaf, which is slow and right.

use std::sync::Arc;

use smallvec::SmallVec;

/// How many bits of a hash one branch looks at.
const BITS: u32 = 4;
const WIDTH: usize = 1 << BITS;
/// More entries than these split a leaf, while there are bits left that could tell them apart.
const LEAF: usize = 32;
/// A branch with no more than these becomes a leaf. Fewer than what splits one, so that a change to
/// and fro does not do both each time.
const MERGE: usize = 12;

/// A hash and whose it is.
pub(super) type Entry = (u64, u32);

/// A multiset of entries, in order.
#[derive(Clone, Debug)]
pub(super) struct Sorted {
    root: Node,
    len: usize,
}

#[derive(Clone, Debug)]
enum Node {
    Branch(Arc<[Node; WIDTH]>),
    Leaf(Arc<[Entry]>),
}

impl Sorted {
    pub(super) fn new(mut entries: Vec<Entry>) -> Self {
        entries.sort_unstable();
        Self {
            root: Node::new(&entries, 0),
            len: entries.len(),
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.len
    }

    pub(super) fn insert(&mut self, entry: Entry) {
        self.root.insert(entry, 0);
        self.len += 1;
    }

    /// Takes out one such entry, if there is one.
    pub(super) fn remove(&mut self, entry: Entry) {
        self.len -= usize::from(self.root.remove(entry, 0));
    }

    /// All entries, once round: from the first whose hash is not below `hash`, and behind the last
    /// one from the first one.
    pub(super) fn walk(&self, hash: u64) -> Walk<'_> {
        let mut walk = Walk {
            root: &self.root,
            ahead: SmallVec::new(),
            leaf: &[],
            left: self.len,
        };
        walk.descend(&self.root, Some(hash));
        walk
    }

    /// Those whose the entries with this hash are.
    pub(super) fn of(&self, hash: u64) -> impl Iterator<Item = u32> {
        self.walk(hash)
            .take_while(move |(own, _)| *own == hash)
            .map(|(_, owner)| owner)
    }
}

/// Which part of a branch at this depth a hash falls into.
fn way(hash: u64, depth: u32) -> usize {
    let shift = u64::BITS - BITS * (depth + 1);
    (hash >> shift) as usize % WIDTH
}

fn can_split(depth: u32) -> bool {
    BITS * (depth + 1) <= u64::BITS
}

impl Node {
    /// `entries` are sorted and agree in the bits above `depth`.
    fn new(entries: &[Entry], depth: u32) -> Self {
        if entries.len() <= LEAF || !can_split(depth) {
            return Self::Leaf(entries.into());
        }
        let mut rest = entries;
        let parts = std::array::from_fn(|at| {
            let end = rest.partition_point(|(hash, _)| way(*hash, depth) <= at);
            let (own, others) = rest.split_at(end);
            rest = others;
            Self::new(own, depth + 1)
        });
        Self::Branch(Arc::new(parts))
    }

    fn insert(&mut self, entry: Entry, depth: u32) {
        match self {
            Self::Branch(parts) => {
                Arc::make_mut(parts)[way(entry.0, depth)].insert(entry, depth + 1);
            }
            Self::Leaf(entries) => {
                let (before, after) = entries.split_at(entries.partition_point(|one| *one < entry));
                let all: SmallVec<[Entry; LEAF + 1]> = before
                    .iter()
                    .chain(&[entry])
                    .chain(after)
                    .copied()
                    .collect();
                *self = Self::new(&all, depth);
            }
        }
    }

    /// Whether there was such an entry.
    fn remove(&mut self, entry: Entry, depth: u32) -> bool {
        match self {
            Self::Branch(parts) => {
                let part = &mut Arc::make_mut(parts)[way(entry.0, depth)];
                let found = part.remove(entry, depth + 1);
                if found && let Some(few) = few(parts) {
                    *self = Self::Leaf(few);
                }
                found
            }
            Self::Leaf(entries) => {
                let Ok(at) = entries.binary_search(&entry) else {
                    return false;
                };
                let (before, from) = entries.split_at(at);
                *entries = before.iter().chain(&from[1..]).copied().collect();
                true
            }
        }
    }
}

/// The entries of a branch, if all its parts are leaves and hold few together.
fn few(parts: &[Node; WIDTH]) -> Option<Arc<[Entry]>> {
    let mut all: SmallVec<[Entry; MERGE]> = SmallVec::new();
    for part in parts {
        let Node::Leaf(entries) = part else {
            return None;
        };
        if all.len() + entries.len() > MERGE {
            return None;
        }
        all.extend_from_slice(entries);
    }
    Some(all.as_slice().into())
}

/// A walk once round.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    root: &'a Node,
    /// The parts that come after those that it is in, of each branch above. As many levels as ten
    /// thousand million entries need; equal hashes need more, on the heap.
    ahead: SmallVec<[&'a [Node]; 8]>,
    leaf: &'a [Entry],
    /// How many entries are still to come.
    left: usize,
}

impl<'a> Walk<'a> {
    /// Goes down to the first entry that is not below `hash`, or to the very first.
    fn descend(&mut self, mut node: &'a Node, hash: Option<u64>) {
        let mut depth = 0;
        loop {
            match node {
                Node::Branch(parts) => {
                    let at = hash.map_or(0, |hash| way(hash, depth));
                    self.ahead.push(&parts[at + 1..]);
                    node = &parts[at];
                    depth += 1;
                }
                Node::Leaf(entries) => {
                    let at = hash.map_or(0, |hash| entries.partition_point(|(own, _)| *own < hash));
                    self.leaf = &entries[at..];
                    return;
                }
            }
        }
    }
}

impl Iterator for Walk<'_> {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        self.left = self.left.checked_sub(1)?;
        loop {
            if let Some((first, rest)) = self.leaf.split_first() {
                self.leaf = rest;
                return Some(*first);
            }
            match self.ahead.last_mut() {
                // Behind the last entry comes the first one. There is one, or none were left.
                None => self.descend(self.root, None),
                Some(parts) => match parts.split_first() {
                    Some((next, rest)) => {
                        *parts = rest;
                        self.descend(next, None);
                    }
                    None => drop(self.ahead.pop()),
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Hashes that crowd, so that leaves split deep and merge again.
    fn entry() -> impl Strategy<Value = Entry> {
        let hash = prop_oneof![
            any::<u64>(),
            (0_u64..3).prop_map(|low| 0xabcd_0000_0000_0000 + low),
            any::<u8>().prop_map(|high| u64::from(high) << 56),
        ];
        (hash, 0_u32..4)
    }

    proptest! {
        #![proptest_config(crate::random::properties(256))]

        #[test]
        fn it_is_a_sorted_list(
            begin in prop::collection::vec(entry(), 0..400),
            steps in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>(), entry()), 0..300),
            from in entry(),
        ) {
            let mut list = begin.clone();
            let mut sorted = Sorted::new(begin.clone());
            let before = sorted.clone();
            for (insert, at, entry) in steps {
                if insert {
                    sorted.insert(entry);
                    list.push(entry);
                } else if list.is_empty() {
                    sorted.remove(entry);
                } else {
                    sorted.remove(list.swap_remove(at.index(list.len())));
                }
            }
            list.sort_unstable();
            prop_assert_eq!(sorted.len(), list.len());
            for hash in list.iter().map(|entry| entry.0).chain([from.0, 0, u64::MAX]) {
                let start = list.partition_point(|entry| entry.0 < hash);
                let round = list[start..].iter().chain(&list[..start]).copied();
                prop_assert!(sorted.walk(hash).eq(round));
                let own = list[start..].iter().take_while(|entry| entry.0 == hash);
                prop_assert!(sorted.of(hash).eq(own.map(|entry| entry.1)));
            }
            let mut begin = begin;
            begin.sort_unstable();
            prop_assert!(before.walk(0).eq(begin), "what others hold is left alone");
        }
    }

    #[test]
    fn what_is_not_there_is_not_removed_and_nobody_walks_round_nothing() {
        let mut sorted = Sorted::new(vec![(1, 1), (1, 2)]);
        sorted.remove((1, 3));
        sorted.remove((2, 1));
        assert_eq!(sorted.len(), 2);
        sorted.remove((1, 1));
        sorted.remove((1, 2));
        assert_eq!(sorted.walk(0).count(), 0);
    }

    /// Entries that come and go leave nothing behind.
    #[test]
    fn a_trie_shrinks_with_its_entries() {
        let hash = |number: u32| super::super::hash::hash(&number.to_string(), 0);
        let mut sorted = Sorted::new(Vec::new());
        (0..5_000).for_each(|number| sorted.insert((hash(number), number)));
        (0..5_000).for_each(|number| sorted.remove((hash(number), number)));
        assert!(matches!(&sorted.root, Node::Leaf(entries) if entries.is_empty()));
    }
}
