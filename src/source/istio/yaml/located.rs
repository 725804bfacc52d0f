//! A decoded value that remembers where it was written.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};

/// The struct name by which our deserializer recognises a request for a location.
pub(crate) const LOCATED: &str = "$meshwork::Located";
/// The fields that are asked for with it, in the order in which they are answered.
pub(crate) const LOCATED_FIELDS: &[&str] = &["line", "column", "value"];

/// A value together with the line and column at which it starts in its file.
///
/// Semantic checks happen long after parsing ("no such subset", "this regex does not compile"), so
/// everything that such a check can complain about keeps its place. Equality, order and hashing
/// ignore the place: moving a block in a file does not change the configuration.
///
/// Values that were never written, such as defaults and values decoded by another format's
/// deserializer, are at line 0.
///
/// ```
/// use meshwork::source::istio::Located;
///
/// let host = Located { value: "catalog".to_owned(), line: 7, column: 11 };
/// assert_eq!(host, Located::from("catalog".to_owned()));
/// assert_eq!(host.len(), 7);
/// ```
#[derive(Clone, Copy, Default)]
pub struct Located<T> {
    /// The value itself.
    pub value: T,
    /// Line in the file, counted from 1; 0 when the value was not written in a file.
    pub line: u32,
    /// Column in characters, counted from 1; 0 when the value was not written in a file.
    pub column: u32,
}

impl<T> Located<T> {
    /// Another value at the same place, such as what the text was parsed into.
    pub fn map<U>(self, with: impl FnOnce(T) -> U) -> Located<U> {
        Located {
            value: with(self.value),
            line: self.line,
            column: self.column,
        }
    }
}

impl<T> From<T> for Located<T> {
    fn from(value: T) -> Self {
        Self {
            value,
            line: 0,
            column: 0,
        }
    }
}

impl<T> std::ops::Deref for Located<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: fmt::Debug> fmt::Debug for Located<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)?;
        write!(f, "@{}:{}", self.line, self.column)
    }
}

impl<T: fmt::Display> fmt::Display for Located<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl<T: PartialEq> PartialEq for Located<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T: Eq> Eq for Located<T> {}

impl<T: PartialOrd> PartialOrd for Located<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        self.value.partial_cmp(&other.value)
    }
}

impl<T: Ord> Ord for Located<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.value.cmp(&other.value)
    }
}

impl<T: std::hash::Hash> std::hash::Hash for Located<T> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.value.hash(state);
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Located<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_struct(LOCATED, LOCATED_FIELDS, LocatedVisitor(PhantomData))
    }
}

/// Takes the three answers of our deserializer; no other format knows the question.
struct LocatedVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for LocatedVisitor<T> {
    type Value = Located<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value with its line and column")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Self::Value, A::Error> {
        let missing = || A::Error::custom("the deserializer does not tell locations");
        let line = parts.next_element()?.ok_or_else(missing)?;
        let column = parts.next_element()?.ok_or_else(missing)?;
        let value = parts.next_element()?.ok_or_else(missing)?;
        Ok(Located {
            value,
            line,
            column,
        })
    }
}

impl<T: JsonSchema> JsonSchema for Located<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}
