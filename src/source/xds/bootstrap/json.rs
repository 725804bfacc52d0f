//! A JSON value that knows where it stands, and the list that its faults go to.

use std::cell::RefCell;
use std::time::Duration;

use serde_json::{Map, Value};

/// All faults of a text, in the order in which they were found.
#[derive(Debug, Default)]
pub(super) struct Faults(RefCell<Vec<String>>);

impl Faults {
    pub(super) fn add(&self, path: &str, text: &str) {
        let place = if path.is_empty() { "the whole" } else { path };
        self.0.borrow_mut().push(format!("{place}: {text}"));
    }

    pub(super) fn into_list(self) -> Vec<String> {
        self.0.into_inner()
    }
}

/// A value and its path.
#[derive(Clone, Debug)]
pub(super) struct Json<'a> {
    value: &'a Value,
    path: String,
    faults: &'a Faults,
}

impl<'a> Json<'a> {
    pub(super) fn new(value: &'a Value, faults: &'a Faults) -> Self {
        Self {
            value,
            path: String::new(),
            faults,
        }
    }

    pub(super) fn value(&self) -> &'a Value {
        self.value
    }

    pub(super) fn fault(&self, text: impl AsRef<str>) {
        self.faults.add(&self.path, text.as_ref());
    }

    /// What was found, for the text of a fault.
    fn wrong(&self, allowed: &str) {
        let found = match self.value {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "a text",
            Value::Array(_) => "a list",
            Value::Object(_) => "an object",
        };
        self.fault(format!("found {found}, allowed is {allowed}"));
    }

    /// A field; `null` is absent, as in all of protobuf's JSON.
    pub(super) fn field(&self, name: &str) -> Option<Self> {
        let value = self.value.get(name).filter(|value| !value.is_null())?;
        let dot = if self.path.is_empty() { "" } else { "." };
        Some(Self {
            value,
            path: format!("{}{dot}{name}", self.path),
            faults: self.faults,
        })
    }

    /// A field that must be there.
    pub(super) fn required(&self, name: &str) -> Option<Self> {
        let field = self.field(name);
        if field.is_none() && self.value.is_object() {
            let dot = if self.path.is_empty() { "" } else { "." };
            let path = format!("{}{dot}{name}", self.path);
            self.faults.add(&path, "is missing");
        }
        field
    }

    pub(super) fn object(&self) -> Option<&'a Map<String, Value>> {
        let object = self.value.as_object();
        if object.is_none() {
            self.wrong("an object");
        }
        object
    }

    /// The members of an object with their names.
    pub(super) fn members(&self) -> Vec<(&'a str, Self)> {
        let members = self.object().into_iter().flatten();
        let member = |(name, value): (&'a String, &'a Value)| {
            let path = format!("{}[{name:?}]", self.path);
            let faults = self.faults;
            (
                name.as_str(),
                Self {
                    value,
                    path,
                    faults,
                },
            )
        };
        members.map(member).collect()
    }

    /// The entries of a list.
    pub(super) fn list(&self) -> Vec<Self> {
        let Some(list) = self.value.as_array() else {
            self.wrong("a list");
            return Vec::new();
        };
        let entry = |(index, value)| Self {
            value,
            path: format!("{}[{index}]", self.path),
            faults: self.faults,
        };
        list.iter().enumerate().map(entry).collect()
    }

    pub(super) fn text(&self) -> Option<&'a str> {
        let text = self.value.as_str();
        if text.is_none() {
            self.wrong("a text");
        }
        text
    }

    pub(super) fn boolean(&self) -> Option<bool> {
        let boolean = self.value.as_bool();
        if boolean.is_none() {
            self.wrong("true or false");
        }
        boolean
    }

    /// A duration as protobuf's JSON has it (`"1.5s"`), above zero.
    pub(super) fn duration(&self) -> Option<Duration> {
        let text = self.text()?;
        let seconds = text.strip_suffix('s').and_then(|number| {
            let plain = |c: char| c.is_ascii_digit() || c == '.';
            number
                .chars()
                .all(plain)
                .then(|| number.parse::<f64>())?
                .ok()
        });
        let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let duration = duration.filter(|duration| !duration.is_zero());
        if duration.is_none() {
            self.fault(format!(
                "found {text:?}, allowed are seconds above zero such as \"600s\""
            ));
        }
        duration
    }
}
