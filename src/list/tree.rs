//! The tree under a list, and sums over its parts.
//!
//! A part knows what its elements add up to ([`Total`]): weights, so that a point on their line is
//! found in O(log n), and whatever else is wanted of a whole that changes one element at a time.
//! Totals stand beside the pointers to the parts, in the parent, so a search reads one node for each
//! level.

mod compare;

use std::iter::once;
use std::mem::replace;
use std::sync::Arc;

/// Each level of the tree is an index of so many bits.
const BITS: u32 = 5;
/// How many elements a leaf holds, and how many parts a branch.
const WIDTH: usize = 1 << BITS;

/// What elements add up to.
pub(crate) trait Total<T>: Clone {
    /// No element.
    const NONE: Self;

    /// One element.
    fn of(element: &T) -> Self;

    /// Both.
    fn and(&self, other: &Self) -> Self;
}

impl<T> Total<T> for () {
    const NONE: Self = ();

    fn of(_: &T) -> Self {}

    fn and(&self, (): &Self) -> Self {}
}

/// A list with the total of each of its parts.
#[derive(Debug)]
pub(crate) struct Tree<T, S> {
    part: Part<T, S>,
    /// How many levels of branches there are.
    height: u32,
    len: usize,
}

/// A node and what stands in it.
#[derive(Debug)]
struct Part<T, S> {
    total: S,
    node: Node<T, S>,
}

/// All but the last path are full, so an index leads to its element.
#[derive(Debug)]
enum Node<T, S> {
    Branch(Arc<[Part<T, S>]>),
    Leaf(Arc<[T]>),
}

impl<T, S: Clone> Clone for Tree<T, S> {
    fn clone(&self) -> Self {
        let Self { part, height, len } = self;
        Self {
            part: part.clone(),
            height: *height,
            len: *len,
        }
    }
}

impl<T, S: Clone> Clone for Part<T, S> {
    fn clone(&self) -> Self {
        Self {
            total: self.total.clone(),
            node: match &self.node {
                Node::Branch(parts) => Node::Branch(parts.clone()),
                Node::Leaf(elements) => Node::Leaf(elements.clone()),
            },
        }
    }
}

impl<T: Clone, S: Total<T>> Tree<T, S> {
    pub(crate) fn new() -> Self {
        Self {
            part: Part::leaf(Arc::default()),
            height: 0,
            len: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// What all elements add up to.
    pub(crate) fn total(&self) -> &S {
        &self.part.total
    }

    pub(crate) fn get(&self, index: usize) -> Option<&T> {
        self.leaf(index)?.get(index % WIDTH)
    }

    /// The leaf that an index falls into.
    fn leaf(&self, index: usize) -> Option<&[T]> {
        let (mut node, mut height) = (&self.part.node, self.height);
        // An index behind the end would lead astray in a tree that is lower than it is long.
        if index >= self.len {
            return None;
        }
        loop {
            match node {
                Node::Branch(parts) => node = &parts.get(way(index, height))?.node,
                Node::Leaf(elements) => return Some(elements),
            }
            height = height.saturating_sub(1);
        }
    }

    /// Puts another element in the place of the one at `index`, which is returned.
    pub(crate) fn set(&mut self, index: usize, element: T) -> Option<T> {
        if index >= self.len {
            return None;
        }
        self.part.set(self.height, index, element)
    }

    /// Puts an element at the end.
    pub(crate) fn push(&mut self, element: T) {
        let full = WIDTH.checked_shl(BITS * self.height);
        if full == Some(self.len) {
            let whole = replace(&mut self.part, Part::leaf(Arc::default()));
            self.part = Part::branch(Arc::new([whole]));
            self.height += 1;
        }
        self.part.push(self.height, self.len, element);
        self.len += 1;
    }

    /// Takes the last element.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let last = self.part.pop()?;
        self.len -= 1;
        // A branch with one part is that part.
        while let Node::Branch(parts) = &self.part.node
            && let [only] = &**parts
        {
            self.part = only.clone();
            self.height -= 1;
        }
        Some(last)
    }

    /// Takes out an element and puts the last one in its place.
    pub(crate) fn swap_remove(&mut self, index: usize) -> Option<T> {
        if index >= self.len {
            return None;
        }
        let last = self.pop()?;
        if index == self.len {
            return Some(last);
        }
        self.set(index, last)
    }

    /// The first element of whose stretch `passes` is false, and its index. It is asked of
    /// stretches in their order, of whole parts first; where it is true the stretch is left behind.
    pub(crate) fn seek(&self, mut passes: impl FnMut(&S) -> bool) -> Option<(usize, &T)> {
        let (mut node, mut height, mut index) = (&self.part.node, self.height, 0);
        loop {
            match node {
                Node::Branch(parts) => {
                    let at = parts.iter().position(|part| !passes(&part.total))?;
                    index += at << (BITS * height);
                    height = height.saturating_sub(1);
                    node = &parts[at].node;
                }
                Node::Leaf(elements) => {
                    let at = elements.iter().position(|one| !passes(&S::of(one)))?;
                    return Some((index + at, &elements[at]));
                }
            }
        }
    }

    /// Visits the totals of the stretches that make up all before `index`.
    pub(crate) fn before(&self, index: usize, mut visit: impl FnMut(&S)) {
        let (mut node, mut height) = (&self.part.node, self.height);
        loop {
            match node {
                Node::Branch(parts) => {
                    let at = way(index, height);
                    parts.iter().take(at).for_each(|part| visit(&part.total));
                    let Some(next) = parts.get(at) else { return };
                    node = &next.node;
                    height = height.saturating_sub(1);
                }
                Node::Leaf(elements) => {
                    let before = elements.iter().take(index % WIDTH);
                    return before.for_each(|one| visit(&S::of(one)));
                }
            }
        }
    }

    pub(crate) fn iter(&self) -> Iter<'_, T, S> {
        Iter {
            tree: self,
            next: 0,
            leaf: [].iter(),
        }
    }
}

impl<T: Clone> Tree<T, ()> {
    pub(crate) fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        if index >= self.len {
            return None;
        }
        let (mut node, mut height) = (&mut self.part.node, self.height);
        loop {
            match node {
                Node::Branch(parts) => {
                    let parts = Arc::make_mut(parts);
                    node = &mut parts.get_mut(way(index, height))?.node;
                }
                Node::Leaf(elements) => return Arc::make_mut(elements).get_mut(index % WIDTH),
            }
            height = height.saturating_sub(1);
        }
    }
}

impl<T: Clone, S: Total<T>> Part<T, S> {
    fn leaf(elements: Arc<[T]>) -> Self {
        Self {
            total: sum(elements.iter().map(S::of)),
            node: Node::Leaf(elements),
        }
    }

    fn branch(parts: Arc<[Self]>) -> Self {
        Self {
            total: sum(parts.iter().map(|part| part.total.clone())),
            node: Node::Branch(parts),
        }
    }

    fn set(&mut self, height: u32, index: usize, element: T) -> Option<T> {
        let old = match &mut self.node {
            Node::Branch(parts) => {
                let part = Arc::make_mut(parts).get_mut(way(index, height))?;
                part.set(height.saturating_sub(1), index, element)?
            }
            Node::Leaf(elements) => {
                let place = Arc::make_mut(elements).get_mut(index % WIDTH)?;
                replace(place, element)
            }
        };
        self.add_up();
        Some(old)
    }

    /// `index` is that of the new element: the first one behind the end.
    fn push(&mut self, height: u32, index: usize, element: T) {
        match &mut self.node {
            Node::Branch(parts) => {
                let below = height.saturating_sub(1);
                if let Some(part) = Arc::make_mut(parts).get_mut(way(index, height)) {
                    part.push(below, index, element);
                } else {
                    let part = Self::path(below, element);
                    *parts = parts.iter().cloned().chain(once(part)).collect();
                }
            }
            Node::Leaf(elements) => {
                *elements = elements.iter().cloned().chain(once(element)).collect();
            }
        }
        self.add_up();
    }

    /// The branches that lead to a first element.
    fn path(height: u32, element: T) -> Self {
        let leaf = Self::leaf(Arc::new([element]));
        (0..height).fold(leaf, |part, _| Self::branch(Arc::new([part])))
    }

    /// Takes the last element; a part below that it leaves empty goes with it.
    fn pop(&mut self) -> Option<T> {
        let last = match &mut self.node {
            Node::Branch(parts) => {
                let part = Arc::make_mut(parts).last_mut()?;
                let last = part.pop()?;
                if part.is_empty() {
                    let (_, kept) = parts.split_last()?;
                    *parts = kept.into();
                }
                last
            }
            Node::Leaf(elements) => {
                let (last, kept) = elements.split_last()?;
                let last = last.clone();
                *elements = kept.into();
                last
            }
        };
        self.add_up();
        Some(last)
    }

    fn is_empty(&self) -> bool {
        match &self.node {
            Node::Branch(parts) => parts.is_empty(),
            Node::Leaf(elements) => elements.is_empty(),
        }
    }

    fn add_up(&mut self) {
        self.total = match &self.node {
            Node::Branch(parts) => sum(parts.iter().map(|part| part.total.clone())),
            Node::Leaf(elements) => sum(elements.iter().map(S::of)),
        };
    }
}

fn sum<T, S: Total<T>>(totals: impl Iterator<Item = S>) -> S {
    totals.fold(S::NONE, |sum, one| sum.and(&one))
}

/// Which part of a branch at this height an index falls into.
fn way(index: usize, height: u32) -> usize {
    index.checked_shr(BITS * height).unwrap_or(0) % WIDTH
}

impl<T: Clone, S: Total<T>> FromIterator<T> for Tree<T, S> {
    fn from_iter<I: IntoIterator<Item = T>>(elements: I) -> Self {
        let elements: Vec<T> = elements.into_iter().collect();
        let len = elements.len();
        let leaves = elements.chunks(WIDTH).map(|leaf| Part::leaf(leaf.into()));
        let mut parts: Vec<Part<T, S>> = leaves.collect();
        let mut height = 0;
        while parts.len() > 1 {
            let branches = parts.chunks(WIDTH).map(|below| Part::branch(below.into()));
            parts = branches.collect();
            height += 1;
        }
        let part = parts.pop().unwrap_or_else(|| Part::leaf(Arc::default()));
        Self { part, height, len }
    }
}

/// The elements of a list in their order.
#[derive(Debug)]
pub(crate) struct Iter<'a, T, S> {
    tree: &'a Tree<T, S>,
    next: usize,
    leaf: std::slice::Iter<'a, T>,
}

impl<'a, T: Clone, S: Total<T>> Iterator for Iter<'a, T, S> {
    type Item = &'a T;

    fn next(&mut self) -> Option<&'a T> {
        if self.leaf.len() == 0 {
            self.leaf = self.tree.leaf(self.next)?.iter();
        }
        self.next += 1;
        self.leaf.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.tree.len - self.next;
        (left, Some(left))
    }
}

impl<T: Clone, S: Total<T>> ExactSizeIterator for Iter<'_, T, S> {}

impl<T, S> Clone for Iter<'_, T, S> {
    fn clone(&self) -> Self {
        Self {
            tree: self.tree,
            next: self.next,
            leaf: self.leaf.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
