//! A tree against a vector.

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
    #![proptest_config(crate::random::properties(256))]

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
