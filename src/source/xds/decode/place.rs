//! Where in a message the decoder stands, and what it found wrong there.
//!
//! A path costs nothing until there is a fault: places are links on the stack. Faults are collected
//! and the decoder goes on behind each of them, so that a NACK names all of them at once. Their
//! number and the length of what they quote are bounded: the text goes back to the control plane in
//! each NACK.

use std::cell::RefCell;
use std::fmt::{self, Display, Write};

use crate::source::xds::Fault;

/// So many faults of one resource are told.
const MAX_FAULTS: usize = 32;
/// So many characters of a value are quoted.
const MAX_QUOTE: usize = 80;

/// A field of a message.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    parent: Option<&'a Self>,
    step: Step<'a>,
    faults: &'a RefCell<Faults>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Field(&'a str),
    Index(usize),
    Key(&'a str),
    Root,
}

/// What was found wrong so far.
#[derive(Debug, Default)]
pub(super) struct Faults {
    told: Vec<Fault>,
    more: usize,
}

impl Faults {
    pub(super) fn is_empty(&self) -> bool {
        self.told.is_empty()
    }

    pub(super) fn into_list(mut self) -> Vec<Fault> {
        if self.more > 0 {
            self.told.push(Fault {
                path: String::new(),
                text: format!("and {} more faults", self.more),
            });
        }
        self.told
    }
}

impl<'a> Place<'a> {
    pub(super) fn root(faults: &'a RefCell<Faults>) -> Self {
        Self {
            parent: None,
            step: Step::Root,
            faults,
        }
    }

    fn at<'b>(&'b self, step: Step<'b>) -> Place<'b>
    where
        'a: 'b,
    {
        Place {
            parent: Some(self),
            step,
            faults: self.faults,
        }
    }

    /// A field of the message at this place; `a.b` for a field of a field.
    pub(super) fn field<'b>(&'b self, name: &'b str) -> Place<'b>
    where
        'a: 'b,
    {
        self.at(Step::Field(name))
    }

    /// An entry of the list at this place.
    pub(super) fn index<'b>(&'b self, index: usize) -> Place<'b>
    where
        'a: 'b,
    {
        self.at(Step::Index(index))
    }

    /// An entry of the map at this place.
    pub(super) fn key<'b>(&'b self, key: &'b str) -> Place<'b>
    where
        'a: 'b,
    {
        self.at(Step::Key(key))
    }

    /// Tells a fault. `None`, so that a decoder can end with it.
    pub(super) fn fault<T>(&self, text: impl Display) -> Option<T> {
        let mut faults = self.faults.borrow_mut();
        if faults.told.len() < MAX_FAULTS {
            let fault = Fault {
                path: self.to_string(),
                text: text.to_string(),
            };
            faults.told.push(fault);
        } else {
            faults.more += 1;
        }
        None
    }

    /// The value, or the fault that it is missing.
    pub(super) fn required<T>(&self, value: Option<T>) -> Option<T> {
        value.or_else(|| self.fault("is missing"))
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.step {
            Step::Field(name) => {
                let first = self
                    .parent
                    .is_none_or(|parent| matches!(parent.step, Step::Root));
                if !first {
                    f.write_char('.')?;
                }
                f.write_str(name)
            }
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Key(key) => write!(f, "[{}]", Quoted(key)),
            Step::Root => Ok(()),
        }
    }
}

/// A text of the message, in quotes, with its control characters escaped and its end cut off if it
/// is long.
pub(super) struct Quoted<'a>(pub(super) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(MAX_QUOTE) {
            Some((end, _)) => write!(f, "{:?}...", &self.0[..end]),
            None => write!(f, "{:?}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_read_from_the_root_and_quotes_are_bounded() {
        let faults = RefCell::default();
        let root = Place::root(&faults);
        let hosts = root.field("virtual_hosts");
        let host = hosts.index(3);
        let filters = host.field("typed_per_filter_config");
        let long = "x".repeat(1_000);
        let _: Option<()> = filters.key("a\n").fault("is wrong");
        let _: Option<()> = filters.key(&long).fault(Quoted(&long));
        let told = faults.into_inner().into_list();
        assert_eq!(
            told[0].to_string(),
            r#"virtual_hosts[3].typed_per_filter_config["a\n"]: is wrong"#
        );
        assert!(told[1].to_string().len() < 300);
    }

    #[test]
    fn the_number_of_faults_is_bounded_and_the_rest_is_counted() {
        let faults = RefCell::default();
        for _ in 0..100 {
            let _: Option<()> = Place::root(&faults).fault("wrong");
        }
        let told = faults.into_inner().into_list();
        assert_eq!(told.len(), MAX_FAULTS + 1);
        assert_eq!(told[MAX_FAULTS].to_string(), "and 68 more faults");
    }
}
