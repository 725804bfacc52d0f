//! The members, each under a number that it keeps.
//!
//! Pools, rings and sessions name members by number, so that they neither count references nor move
//! when others come and go. A number that is free goes to the next who comes.

use std::sync::Arc;

use super::Candidate;
use super::hash::hash;
use super::sorted::Sorted;
use crate::list::tree::Tree;

/// No number.
const NONE: u32 = u32::MAX;

/// Members by number and by key.
#[derive(Debug)]
pub(super) struct Slots<E> {
    /// As small as can be: every pick reads one of them, and among many that is in no cache.
    slots: Tree<Option<Arc<E>>, ()>,
    /// The numbers that nobody has; the last is given away first.
    free: Tree<u32, ()>,
    /// Who has a key, by its hash.
    names: Sorted,
}

impl<E> Clone for Slots<E> {
    fn clone(&self) -> Self {
        Self {
            slots: self.slots.clone(),
            free: self.free.clone(),
            names: self.names.clone(),
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
        let mut all = Self {
            slots: members.map(Some).collect(),
            free: Tree::new(),
            names: Sorted::new(Vec::new()),
        };
        let names = all
            .iter()
            .filter_map(|(number, member)| name(number, &**member));
        all.names = Sorted::new(names.collect());
        all
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether so many numbers are free that counting anew is worth its price.
    pub(super) fn is_sparse(&self) -> bool {
        self.slots.len() > 2 * self.len() + 64
    }

    pub(super) fn get(&self, number: u32) -> Option<&Arc<E>> {
        self.slots.get(number as usize)?.as_ref()
    }

    /// In the order of numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Arc<E>)> + Clone {
        let numbered = (0..).zip(self.slots.iter());
        numbered.filter_map(|(number, slot)| Some((number, slot.as_ref()?)))
    }

    /// Gives a member a number; `None` if there are no more numbers.
    pub(super) fn insert(&mut self, member: Arc<E>) -> Option<u32> {
        let number = match self.free.pop() {
            Some(free) => free,
            None => u32::try_from(self.slots.len())
                .ok()
                .filter(|number| *number < NONE)?,
        };
        if let Some(name) = name(number, &*member) {
            self.names.insert(name);
        }
        if number as usize == self.slots.len() {
            self.slots.push(Some(member));
        } else {
            self.slots.set(number as usize, Some(member));
        }
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
        self.slots.set(number as usize, None);
        self.free.push(number);
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
