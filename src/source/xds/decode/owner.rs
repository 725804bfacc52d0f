//! What the buckets of an override are known by.
//!
//! A bucket outlives an update, so that a control plane that changes something else gives nobody a new
//! burst. So an override is known by the names around it and not by its place in a list, which moves with
//! each route that is put before it. Names that are empty or that a list has twice have their place besides.
//! Like a [place](super::place), an owner is links on the stack.

use std::collections::HashSet;
use std::fmt;

/// Where an override stands, by names.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner<'a> {
    around: Option<&'a Self>,
    name: &'a str,
    /// Where the name alone would not do.
    index: Option<usize>,
}

impl<'a> Owner<'a> {
    pub(super) fn root(name: &'a str) -> Self {
        Self {
            around: None,
            name,
            index: None,
        }
    }
}

impl fmt::Display for Owner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(around) = self.around {
            write!(f, "{around} ")?;
        }
        // Quoted, so that no name looks like two.
        write!(f, "{:?}", self.name)?;
        match self.index {
            Some(index) => write!(f, "[{index}]"),
            None => Ok(()),
        }
    }
}

/// The names of one list.
pub(super) struct Names<'m> {
    repeated: HashSet<&'m str>,
}

impl<'m> Names<'m> {
    pub(super) fn of(all: impl Iterator<Item = &'m str>) -> Self {
        let mut seen = HashSet::new();
        Self {
            repeated: all.filter(|name| !seen.insert(*name)).collect(),
        }
    }

    /// The owner of this name at this place of the list.
    pub(super) fn owner<'a>(
        &self,
        around: &'a Owner<'a>,
        index: usize,
        name: &'a str,
    ) -> Owner<'a> {
        let alone = !name.is_empty() && !self.repeated.contains(name);
        Owner {
            around: Some(around),
            name,
            index: (!alone).then_some(index),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_has_its_place_where_names_do_not_tell_it_apart() {
        let all = ["a", "", "b", "a"];
        let names = Names::of(all.into_iter());
        let root = Owner::root("r");
        let told = all.iter().enumerate();
        let told: Vec<String> = told
            .map(|(index, name)| names.owner(&root, index, name).to_string())
            .collect();
        assert_eq!(
            told,
            [
                r#""r" "a"[0]"#,
                r#""r" ""[1]"#,
                r#""r" "b""#,
                r#""r" "a"[3]"#
            ]
        );
    }
}
