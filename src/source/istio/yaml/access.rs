//! The parts of a node that serde asks for one by one: items, fields, and a place.

use std::borrow::Cow;

use serde::de::{DeserializeSeed, Error, IntoDeserializer, MapAccess, SeqAccess};

use super::decode::{At, Context, DecodeError, Dialect};
use super::node::{Entry, Node, Segment, Value, lower_camel};

/// The items of a list.
pub(super) struct Items<'a, I> {
    pub(super) items: I,
    pub(super) context: &'a Context,
}

impl<'de, 'a, I: Iterator<Item = (usize, &'a Node)>> SeqAccess<'de> for Items<'a, I> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DecodeError> {
        let mut kept = self
            .items
            .by_ref()
            .filter(|(_, node)| !matches!(node.value, Value::Pruned));
        let Some((index, node)) = kept.next() else {
            return Ok(None);
        };
        let context = self.context;
        let at = At { node, context };
        context
            .within(Segment::Index(index), || at.place(seed.deserialize(at)))
            .map(Some)
    }
}

/// Which keys a mapping may have.
#[derive(Clone, Copy)]
pub(super) enum Known {
    /// The user's own.
    Any,
    /// These fields.
    Fields(&'static [&'static str]),
}

/// The entries of a mapping.
pub(super) struct Fields<'a> {
    entries: std::slice::Iter<'a, Entry>,
    known: Known,
    /// Fields that were given already, in either spelling.
    given: Vec<&'static str>,
    next: Option<(Segment, &'a Node)>,
    context: &'a Context,
}

impl<'a> Fields<'a> {
    pub(super) fn new(entries: &'a [Entry], known: Known, context: &'a Context) -> Self {
        Self {
            entries: entries.iter(),
            known,
            given: Vec::new(),
            next: None,
            context,
        }
    }

    /// The next entry that is to be decoded, with its name.
    fn advance(&mut self) -> Option<(Segment, &'a Node)> {
        for entry in self.entries.by_ref() {
            if matches!(entry.value.value, Value::Pruned) {
                continue;
            }
            let fields = match self.known {
                Known::Any => return Some((Segment::Key(entry.key.clone()), &entry.value)),
                Known::Fields(fields) => fields,
            };
            let Some(field) = known_field(&entry.key, fields, self.context.dialect) else {
                self.context.unknown_field(entry, fields);
                continue;
            };
            if self.given.contains(&field) {
                self.context.repeated_field(entry, field);
                continue;
            }
            self.given.push(field);
            if !entry.value.is_null() {
                return Some((Segment::Field(Cow::Borrowed(field)), &entry.value));
            }
        }
        None
    }
}

/// The field that a key names, in the spellings that the dialect allows.
fn known_field(
    key: &str,
    fields: &'static [&'static str],
    dialect: Dialect,
) -> Option<&'static str> {
    let key = match dialect {
        Dialect::Kubernetes | Dialect::Strict => Cow::Borrowed(key),
        Dialect::Proto => lower_camel(key),
    };
    fields.iter().copied().find(|field| *field == key)
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, DecodeError> {
        let Some((segment, node)) = self.advance() else {
            return Ok(None);
        };
        let name: &str = match &segment {
            Segment::Field(field) => field,
            Segment::Index(_) => return Err(DecodeError::custom("a mapping has no index")),
            Segment::Key(key) => key,
        };
        let name: serde::de::value::StrDeserializer<'_, DecodeError> = name.into_deserializer();
        let key = seed.deserialize(name)?;
        self.next = Some((segment, node));
        Ok(Some(key))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, DecodeError> {
        let Some((segment, node)) = self.next.take() else {
            return Err(DecodeError::custom("a value was asked for before its key"));
        };
        let context = self.context;
        let at = At { node, context };
        context.within(segment, || at.place(seed.deserialize(at)))
    }
}

/// Answers a request for a [`Located`](super::Located): line, column, value.
pub(super) struct Place<'a> {
    pub(super) at: At<'a>,
    pub(super) asked: u8,
}

impl<'de> SeqAccess<'de> for Place<'_> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DecodeError> {
        self.asked += 1;
        let number = |number: u32| -> serde::de::value::U32Deserializer<DecodeError> {
            number.into_deserializer()
        };
        match self.asked {
            1 => seed.deserialize(number(self.at.node.line)).map(Some),
            2 => seed.deserialize(number(self.at.node.column)).map(Some),
            3 => self.at.place(seed.deserialize(self.at)).map(Some),
            _ => Ok(None),
        }
    }
}
