//! The tree under a list, and sums over its parts.
//!
//! A part knows what its elements add up to ([`Total`]): weights, so that a point on their line is
//! found in O(log n), and whatever else is wanted of a whole that changes one element at a time.
//! Totals stand beside the pointers to the parts, in the parent, so a search reads one node for each
//! level.

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

    pub(crate) fn differences<'a>(
        &'a self,
        after: &'a Self,
        mut visit: impl FnMut(Option<&'a T>, Option<&'a T>),
    ) where
        T: PartialEq,
    {
        let (one, other) = (
            (&self.part.node, self.height),
            (&after.part.node, after.height),
        );
        differences(Some(one), Some(other), &mut visit);
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

impl<T, S> Node<T, S> {
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Branch(one), Self::Branch(other)) => Arc::ptr_eq(one, other),
            (Self::Leaf(one), Self::Leaf(other)) => Arc::ptr_eq(one, other),
            (Self::Branch(_), Self::Leaf(_)) | (Self::Leaf(_), Self::Branch(_)) => false,
        }
    }

    /// The parts of a node that stands at `height` or below, as a branch at `height` has them.
    fn part_at(&self, own: u32, height: u32, at: usize) -> Option<(&Self, u32)> {
        match self {
            // Lower trees are the first part of higher ones.
            node if own < height => (at == 0).then_some((node, own)),
            Self::Branch(parts) => Some((&parts.get(at)?.node, own.saturating_sub(1))),
            Self::Leaf(_) => None,
        }
    }
}

type Placed<'a, T, S> = Option<(&'a Node<T, S>, u32)>;

/// Both nodes begin at the same index.
fn differences<'a, T: PartialEq, S>(
    one: Placed<'a, T, S>,
    other: Placed<'a, T, S>,
    visit: &mut impl FnMut(Option<&'a T>, Option<&'a T>),
) {
    let same = matches!((one, other), (Some((one, _)), Some((other, _))) if one.is(other));
    if same {
        return;
    }
    let height = |placed: Placed<'_, T, S>| placed.map_or(0, |(_, height)| height);
    let highest = height(one).max(height(other));
    if highest > 0 {
        for at in 0..WIDTH {
            let part = |placed: Placed<'a, T, S>| {
                placed.and_then(|(node, own)| node.part_at(own, highest, at))
            };
            let (one, other) = (part(one), part(other));
            if one.is_none() && other.is_none() {
                return;
            }
            differences(one, other, visit);
        }
        return;
    }
    let elements = |placed: Placed<'a, T, S>| match placed {
        Some((Node::Leaf(elements), _)) => &**elements,
        Some((Node::Branch(_), _)) | None => &[],
    };
    let (one, other) = (elements(one), elements(other));
    for at in 0..one.len().max(other.len()) {
        if one.get(at) != other.get(at) {
            visit(one.get(at), other.get(at));
        }
    }
}

impl<T: Clone + PartialEq, S: Total<T>> PartialEq for Tree<T, S> {
    fn eq(&self, other: &Self) -> bool {
        // Lists of one length have one shape.
        self.len == other.len && same(&self.part.node, &other.part.node)
    }
}

fn same<T: PartialEq, S>(one: &Node<T, S>, other: &Node<T, S>) -> bool {
    one.is(other)
        || match (one, other) {
            (Node::Branch(one), Node::Branch(other)) => {
                one.len() == other.len()
                    && one
                        .iter()
                        .zip(&**other)
                        .all(|(one, other)| same(&one.node, &other.node))
            }
            (Node::Leaf(one), Node::Leaf(other)) => one == other,
            (Node::Branch(_), Node::Leaf(_)) | (Node::Leaf(_), Node::Branch(_)) => false,
        }
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug, PartialEq)]
    struct Sum(u64);

    impl Total<u32> for Sum {
        const NONE: Self = Self(0);

        fn of(element: &u32) -> Self {
            Self(u64::from(*element))
        }

        fn and(&self, other: &Self) -> Self {
            Self(self.0 + other.0)
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Pop,
        Push(u32),
        Set(usize, u32),
        SwapRemove(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            Just(Step::Pop),
            any::<u16>().prop_map(|one| Step::Push(one.into())),
            (any::<usize>(), any::<u16>()).prop_map(|(at, one)| Step::Set(at, one.into())),
            any::<usize>().prop_map(Step::SwapRemove),
        ];
        prop::collection::vec(step, 0..80)
    }

    /// Does the same to a tree and to a vector.
    fn walk(tree: &mut Tree<u32, Sum>, vector: &mut Vec<u32>, step: &Step) {
        let place = |at: usize| at % vector.len().max(1);
        match *step {
            Step::Pop => assert_eq!(tree.pop(), vector.pop()),
            Step::Push(one) => {
                tree.push(one);
                vector.push(one);
            }
            Step::Set(at, one) => {
                let at = place(at);
                let old = vector.get_mut(at).map(|place| replace(place, one));
                assert_eq!(tree.set(at, one), old);
            }
            Step::SwapRemove(at) => {
                let at = place(at);
                let old = (at < vector.len()).then(|| vector.swap_remove(at));
                assert_eq!(tree.swap_remove(at), old);
            }
        }
    }

    proptest! {
        #[test]
        fn a_tree_is_a_vector_with_sums(length in 0_usize..2_100, steps in steps()) {
            let mut vector: Vec<u32> = (0..length as u32).map(|one| one % 7).collect();
            let mut tree: Tree<u32, Sum> = vector.iter().copied().collect();
            let before = tree.clone();
            for step in &steps {
                walk(&mut tree, &mut vector, step);
                prop_assert_eq!(tree.len(), vector.len());
            }
            prop_assert!(tree.iter().eq(&vector));
            prop_assert!((0..vector.len()).all(|at| tree.get(at) == vector.get(at)));
            prop_assert_eq!(tree.get(vector.len()), None);
            prop_assert_eq!(tree.total().0, vector.iter().map(|one| u64::from(*one)).sum::<u64>());
            // What others hold is left alone.
            prop_assert!(before.iter().copied().eq((0..length as u32).map(|one| one % 7)));
            prop_assert_eq!(&tree, &vector.iter().copied().collect::<Tree<u32, Sum>>());
        }

        #[test]
        fn a_point_is_sought_and_found(weights in prop::collection::vec(0_u32..5, 1..1_200)) {
            let tree: Tree<u32, Sum> = weights.iter().copied().collect();
            let mut point = 0;
            for (index, weight) in weights.iter().enumerate() {
                let mut before = 0;
                tree.before(index, |stretch| before += stretch.0);
                prop_assert_eq!(before, point);
                for offset in 0..u64::from(*weight) {
                    let mut left = point + offset;
                    let found = tree.seek(|stretch| {
                        let passes = left >= stretch.0;
                        left -= if passes { stretch.0 } else { 0 };
                        passes
                    });
                    prop_assert_eq!(found, Some((index, weight)));
                }
                point += u64::from(*weight);
            }
        }

        #[test]
        fn what_differs_is_visited_and_nothing_else(
            length in 0_usize..2_100,
            other_length in 0_usize..2_100,
            shares in any::<bool>(),
            steps in steps(),
        ) {
            let mut vector: Vec<u32> = (0..length as u32).collect();
            let one: Tree<u32, Sum> = vector.iter().copied().collect();
            let mut other = one.clone();
            if !shares {
                vector.truncate(other_length);
                other = vector.iter().copied().collect();
            }
            steps.iter().for_each(|step| walk(&mut other, &mut vector, step));
            let mut found = Vec::new();
            one.differences(&other, |one, other| found.push((one.copied(), other.copied())));
            let both = (0..length.max(vector.len())).map(|at| {
                ((at < length).then_some(at as u32), vector.get(at).copied())
            });
            let expected: Vec<_> = both.filter(|(one, other)| one != other).collect();
            prop_assert_eq!(found, expected);
        }
    }

    /// What two versions share is not looked at: the cost of a change is that of the change.
    #[test]
    fn versions_are_compared_where_they_do_not_share() {
        #[derive(Clone, Debug)]
        struct Counted(u32, std::rc::Rc<std::cell::Cell<usize>>);
        impl PartialEq for Counted {
            fn eq(&self, other: &Self) -> bool {
                self.1.set(self.1.get() + 1);
                self.0 == other.0
            }
        }
        let looks = std::rc::Rc::default();
        let element = |number| Counted(number, std::rc::Rc::clone(&looks));
        let before: Tree<Counted, ()> = (0..100_000).map(element).collect();
        let mut after = before.clone();
        after.set(77_777, element(1));
        let mut seen = Vec::new();
        before.differences(&after, |one, other| {
            seen.push((one.unwrap().0, other.unwrap().0))
        });
        assert_eq!(seen, [(77_777, 1)]);
        assert!(looks.get() <= 2 * WIDTH, "{} looks", looks.get());
    }
}
