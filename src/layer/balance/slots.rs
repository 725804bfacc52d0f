//! The members, each under a number that it keeps.
//!
//! Pools, rings and sessions name members by number, so that they neither count references nor move
//! when others come and go. A number that is free goes to the next who comes; the free ones are a
//! list through their own places.

use std::sync::Arc;

use super::Candidate;
use super::hash::hash;
use super::sorted::Sorted;
use crate::list::tree::Tree;

/// No number: the end of the list of free ones.
const NONE: u32 = u32::MAX;

/// Members by number and by key.
#[derive(Debug)]
pub(super) struct Slots<E> {
    slots: Tree<Slot<E>, ()>,
    /// The first free number.
    free: u32,
    taken: usize,
    /// Who has a key, by its hash.
    names: Sorted,
}

#[derive(Debug)]
enum Slot<E> {
    /// The next free number.
    Free(u32),
    Taken(Arc<E>),
}

impl<E> Clone for Slots<E> {
    fn clone(&self) -> Self {
        Self {
            slots: self.slots.clone(),
            free: self.free,
            taken: self.taken,
            names: self.names.clone(),
        }
    }
}

impl<E> Clone for Slot<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Free(next) => Self::Free(*next),
            Self::Taken(member) => Self::Taken(member.clone()),
        }
    }
}

fn name<E: Candidate>(number: u32, member: &E) -> Option<(u64, u32)> {
    match member.key() {
        "" => None,
        key => Some((hash(key, 0), number)),
    }
}

impl<E: Candidate> Slots<E> {
    /// Numbers in the order of the list.
    pub(super) fn new(members: impl Iterator<Item = Arc<E>>) -> Self {
        // The last number is no number.
        let members = members.take(NONE as usize);
        let slots: Tree<_, ()> = members.map(Slot::Taken).collect();
        let mut all = Self {
            taken: slots.len(),
            slots,
            free: NONE,
            names: Sorted::new(Vec::new()),
        };
        let names = all
            .iter()
            .filter_map(|(number, member)| name(number, &**member));
        all.names = Sorted::new(names.collect());
        all
    }

    pub(super) fn len(&self) -> usize {
        self.taken
    }

    /// Whether so many numbers are free that counting anew is worth its price.
    pub(super) fn is_sparse(&self) -> bool {
        self.slots.len() > 2 * self.taken + 64
    }

    pub(super) fn get(&self, number: u32) -> Option<&Arc<E>> {
        match self.slots.get(number as usize)? {
            Slot::Free(_) => None,
            Slot::Taken(member) => Some(member),
        }
    }

    /// In the order of numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Arc<E>)> + Clone {
        (0..)
            .zip(self.slots.iter())
            .filter_map(|(number, slot)| match slot {
                Slot::Free(_) => None,
                Slot::Taken(member) => Some((number, member)),
            })
    }

    /// Gives a member a number; `None` if there are no more numbers.
    pub(super) fn insert(&mut self, member: Arc<E>) -> Option<u32> {
        let number = match self.slots.get(self.free as usize) {
            Some(Slot::Free(next)) => {
                let number = self.free;
                self.free = *next;
                number
            }
            Some(Slot::Taken(_)) | None => u32::try_from(self.slots.len())
                .ok()
                .filter(|number| *number < NONE)?,
        };
        if let Some(name) = name(number, &*member) {
            self.names.insert(name);
        }
        if number as usize == self.slots.len() {
            self.slots.push(Slot::Taken(member));
        } else {
            self.slots.set(number as usize, Slot::Taken(member));
        }
        self.taken += 1;
        Some(number)
    }

    /// Takes back a number.
    pub(super) fn remove(&mut self, number: u32) {
        let Some(member) = self.get(number) else {
            return;
        };
        if let Some(name) = name(number, &**member) {
            self.names.remove(name);
        }
        self.slots.set(number as usize, Slot::Free(self.free));
        self.free = number;
        self.taken -= 1;
    }

    /// The number of a member: O(log members) if it has a key.
    pub(super) fn number(&self, member: &Arc<E>) -> Option<u32> {
        let is = |found: &Arc<E>| Arc::ptr_eq(found, member);
        match member.key() {
            "" => self
                .iter()
                .find(|(_, found)| is(found))
                .map(|(number, _)| number),
            key => self
                .named(key)
                .find(|(_, found)| is(found))
                .map(|(number, _)| number),
        }
    }

    /// All members with this key.
    pub(super) fn named<'a>(&'a self, key: &'a str) -> impl Iterator<Item = (u32, &'a Arc<E>)> {
        let numbers = self.names.of(hash(key, 0));
        let member = |number| Some((number, self.get(number)?));
        numbers
            .filter_map(member)
            .filter(move |(_, member)| member.key() == key)
    }
}

#[cfg(test)]
impl<E> Slots<E> {
    pub(super) fn numbers(&self) -> usize
    where
        E: Candidate,
    {
        self.slots.len()
    }
}
