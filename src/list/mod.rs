//! A list that shares with its copies what an edit leaves alone.
//!
//! Endpoints come by the ten thousand and change one at a time. With a `Vec` each change costs as
//! much as all of them: the copy that is edited, the comparison that finds out what was edited, and
//! the copy that is handed on. A [`List`] is a tree of fixed width whose parts are shared by
//! reference: a copy is one count, an edit copies the one path that leads to what it changes, and
//! two versions of a list differ at most where they do not share, so that what differs is found in
//! a time that grows with the change and not with the list.
//!
//! The elements lie in their order without gaps, 32 to a leaf, so an index is a path: no search, and
//! nothing to balance. That is why elements are taken out by [`swap_remove`](List::swap_remove):
//! who wants a hole closed pays for all behind it. A crate for it (`imbl`, `rpds`) was rejected:
//! weighted draws need the sum of the weights of every part (see [`tree`]), which none of them keeps.

pub(crate) mod tree;

use std::fmt;
use std::ops::{Index, IndexMut};

use tree::Tree;

/// A list whose copies share their elements: a copy costs nothing, a change O(log n).
///
/// Equal parts that two lists share are not looked at when the lists are compared.
///
/// ```
/// use meshwork::model::List;
///
/// let before: List<_> = (0..10_000).collect();
/// let mut after = before.clone();
/// after.push(7);
/// assert_eq!(after.swap_remove(3), Some(3));
/// assert_eq!((before[3], after[3]), (3, 7));
/// assert_eq!(after.len(), before.len());
/// ```
#[derive(Clone)]
pub struct List<T>(Tree<T, ()>);

impl<T: Clone> List<T> {
    /// An empty list.
    #[must_use]
    pub fn new() -> Self {
        Self(Tree::new())
    }

    /// How many elements there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.len() == 0
    }

    /// The element at a place, counted from zero.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&T> {
        self.0.get(index)
    }

    /// The element at a place, to be changed: copies those near it if they are shared.
    pub fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.0.get_mut(index)
    }

    /// Puts an element at the end.
    pub fn push(&mut self, element: T) {
        self.0.push(element);
    }

    /// Takes out the last element.
    pub fn pop(&mut self) -> Option<T> {
        self.0.pop()
    }

    /// Takes out an element and puts the last one in its place; `None` if there is none at `index`.
    pub fn swap_remove(&mut self, index: usize) -> Option<T> {
        self.0.swap_remove(index)
    }

    /// The elements in their order.
    pub fn iter(&self) -> Iter<'_, T> {
        Iter(self.0.iter())
    }
}

impl<T: Clone + PartialEq> List<T> {
    /// Visits each place at which `after` differs, with what was and what is there; `None` behind
    /// the end of the shorter one.
    pub(crate) fn differences<'a>(
        &'a self,
        after: &'a Self,
        visit: impl FnMut(Option<&'a T>, Option<&'a T>),
    ) {
        self.0.differences(&after.0, visit);
    }
}

impl<T: Clone> Default for List<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Clone> FromIterator<T> for List<T> {
    fn from_iter<I: IntoIterator<Item = T>>(elements: I) -> Self {
        Self(elements.into_iter().collect())
    }
}

impl<T: Clone> From<Vec<T>> for List<T> {
    fn from(elements: Vec<T>) -> Self {
        elements.into_iter().collect()
    }
}

impl<T: Clone, const N: usize> From<[T; N]> for List<T> {
    fn from(elements: [T; N]) -> Self {
        elements.into_iter().collect()
    }
}

impl<T: Clone> Extend<T> for List<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, elements: I) {
        elements.into_iter().for_each(|element| self.push(element));
    }
}

impl<'a, T: Clone> IntoIterator for &'a List<T> {
    type Item = &'a T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Copies of the elements, since others may share them.
impl<T: Clone> IntoIterator for List<T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        let elements: Vec<T> = self.iter().cloned().collect();
        elements.into_iter()
    }
}

/// The elements of a [`List`] in their order.
#[derive(Debug)]
pub struct Iter<'a, T>(tree::Iter<'a, T, ()>);

impl<T> Clone for Iter<'_, T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<'a, T: Clone> Iterator for Iter<'a, T> {
    type Item = &'a T;

    fn next(&mut self) -> Option<&'a T> {
        self.0.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl<T: Clone> ExactSizeIterator for Iter<'_, T> {}

/// Panics behind the end, as a slice does.
impl<T: Clone> Index<usize> for List<T> {
    type Output = T;

    fn index(&self, index: usize) -> &T {
        self.get(index).expect("the index is below the length")
    }
}

/// Panics behind the end, as a slice does.
impl<T: Clone> IndexMut<usize> for List<T> {
    fn index_mut(&mut self, index: usize) -> &mut T {
        self.get_mut(index).expect("the index is below the length")
    }
}

impl<T: Clone + PartialEq> PartialEq for List<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<T: Clone + Eq> Eq for List<T> {}

impl<T: Clone + fmt::Debug> fmt::Debug for List<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self).finish()
    }
}
