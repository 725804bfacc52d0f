//! Two trees, compared where they do not share.

use std::sync::Arc;

use super::{Node, Total, Tree, WIDTH};

impl<T: Clone, S: Total<T>> Tree<T, S> {
    /// Visits each place at which `after` differs, with what was and what is there.
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
