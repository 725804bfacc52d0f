//! From a tree to a struct, with all faults of the document and not only the first.
//!
//! Serde stops at the first error. So a failed value is recorded with its path and place, pruned
//! from the tree, and the document decoded again, until nothing fails or enough was found. That
//! costs a pass per fault, for texts that are refused anyway, and nothing for good ones.
//!
//! Istio's kinds follow the rules of proto3-JSON: fields in lowerCamel or snake_case, enums by name
//! or number, integers also as texts, null as absence. Kubernetes' kinds are read in part, so their
//! unknown fields are not ours to judge; the Gateway API's are read whole, so theirs are.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeOwned, Deserializer, Error, IntoDeserializer, Visitor};

use super::access::{Fields, Items, Known, Place};
use super::located::LOCATED;
use super::node::{Entry, Node, Path, Resolved, Scalar, Segment, Value, integer, lower_camel};
use crate::source::istio::fault::{Code, did_you_mean, quoted};

/// Passes over one document; each finds at least one fault.
const PASSES: usize = 64;
/// Unknown fields that are recorded for one document.
const UNKNOWN_FIELDS: usize = 256;

/// The rules by which a kind is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Kubernetes JSON: exact names, unknown fields left alone.
    Kubernetes,
    /// proto3-JSON: two spellings of names, unknown fields are faults.
    Proto,
    /// Kubernetes JSON: exact names, unknown fields are faults.
    Strict,
}

/// A fault with its place inside of the document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FieldFault {
    pub(crate) code: Code,
    pub(crate) path: Path,
    pub(crate) line: u32,
    pub(crate) column: u32,
    pub(crate) text: String,
    pub(crate) hint: Option<String>,
}

/// What a document says, as far as it could be decoded, and what was wrong with it.
#[derive(Debug)]
pub(crate) struct Decoded<T> {
    /// Without the values at which there were faults; `None` when the last pass failed too.
    pub(crate) value: Option<T>,
    pub(crate) faults: Vec<FieldFault>,
}

/// Decodes the node; the tree loses the values that had faults.
pub(crate) fn decode<T: DeserializeOwned>(root: &mut Node, dialect: Dialect) -> Decoded<T> {
    let mut faults: Vec<FieldFault> = Vec::new();
    for _ in 0..PASSES {
        let context = Context {
            dialect,
            path: RefCell::default(),
            unknown: RefCell::default(),
        };
        let result = T::deserialize(At {
            node: root,
            context: &context,
        });
        for unknown in context.unknown.into_inner() {
            if !faults.contains(&unknown) {
                faults.push(unknown);
            }
        }
        let fault = match result {
            Ok(value) => {
                let value = Some(value);
                return Decoded { value, faults };
            }
            Err(DecodeError(fault)) => *fault,
        };
        let path = fault.path.clone();
        faults.push(fault);
        match path.find_mut(root) {
            Some(node) if !matches!(node.value, Value::Pruned) => node.value = Value::Pruned,
            Some(_) | None => break,
        }
    }
    let value = None;
    Decoded { value, faults }
}

/// What one pass over a document keeps.
pub(super) struct Context {
    pub(super) dialect: Dialect,
    path: RefCell<Vec<Segment>>,
    unknown: RefCell<Vec<FieldFault>>,
}

impl Context {
    fn path(&self) -> Path {
        Path(self.path.borrow().clone())
    }

    /// Does something one step further down.
    pub(super) fn within<R>(&self, segment: Segment, step: impl FnOnce() -> R) -> R {
        self.path.borrow_mut().push(segment);
        let result = step();
        self.path.borrow_mut().pop();
        result
    }

    pub(super) fn unknown_field(&self, entry: &Entry, fields: &[&str]) {
        if self.dialect == Dialect::Kubernetes || self.unknown.borrow().len() >= UNKNOWN_FIELDS {
            return;
        }
        let key = lower_camel(&entry.key);
        let hint = match did_you_mean(&key, fields.iter().copied()) {
            Some(near) => format!("did you mean {near:?}?"),
            None if fields.is_empty() => "no fields are allowed here".into(),
            None => format!("allowed here: {}", fields.join(", ")),
        };
        let path = self.within(Segment::Key(entry.key.clone()), || self.path());
        self.unknown.borrow_mut().push(FieldFault {
            code: Code::UnknownField,
            path,
            line: entry.line,
            column: entry.column,
            text: format!("unknown field {}", quoted(&entry.key)),
            hint: Some(hint),
        });
    }

    pub(super) fn repeated_field(&self, entry: &Entry, field: &'static str) {
        let text = format!("{} is written twice, as {field} too", quoted(&entry.key));
        let path = self.within(field.into(), || self.path());
        self.unknown.borrow_mut().push(FieldFault {
            code: Code::DuplicateKey,
            path,
            line: entry.line,
            column: entry.column,
            text,
            hint: None,
        });
    }
}

/// The first fault of a pass. Serde makes it without a place; the innermost node adds its own.
#[derive(Debug)]
pub(super) struct DecodeError(Box<FieldFault>);

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

impl std::error::Error for DecodeError {}

impl Error for DecodeError {
    fn custom<T: fmt::Display>(text: T) -> Self {
        Self(Box::new(FieldFault {
            code: Code::Value,
            path: Path::default(),
            line: 0,
            column: 0,
            text: text.to_string(),
            hint: None,
        }))
    }
}

/// A node that serde asks.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    pub(super) node: &'a Node,
    pub(super) context: &'a Context,
}

impl<'a> At<'a> {
    /// Adds this place to a fault that has none yet.
    pub(super) fn place<T>(&self, result: Result<T, DecodeError>) -> Result<T, DecodeError> {
        result.map_err(|mut error| {
            if error.0.line == 0 {
                error.0.path = self.context.path();
                error.0.line = self.node.line;
                error.0.column = self.node.column;
            }
            error
        })
    }

    /// "found a list, expected ...", with a hint where the reason is known.
    fn mismatch<T>(
        &self,
        expected: &dyn fmt::Display,
        hint: Option<String>,
    ) -> Result<T, DecodeError> {
        let text = format!("found {}, expected {expected}", self.node.found());
        let mut error = DecodeError::custom(text);
        error.0.hint = hint;
        self.place(Err(error))
    }

    fn scalar(&self) -> Option<&'a Scalar> {
        match &self.node.value {
            Value::Scalar(scalar) => Some(scalar),
            Value::Mapping(_) | Value::Pruned | Value::Sequence(_) => None,
        }
    }

    fn integer(&self, least: i128, most: i128) -> Result<i128, DecodeError> {
        let expected = format!("a whole number from {least} to {most}");
        let Some(scalar) = self.scalar() else {
            return self.mismatch(&expected, None);
        };
        let number = match scalar.resolve() {
            Resolved::Integer(number) => Some(number),
            // proto3-JSON writes 64-bit numbers as texts, and reads 80.0 as 80.
            Resolved::Text(text) if !scalar.plain => integer(text),
            #[expect(
                clippy::cast_possible_truncation,
                reason = "checked by the range before"
            )]
            Resolved::Float(number) if number.fract() == 0.0 && number.abs() < 1e15 => {
                Some(number as i128)
            }
            Resolved::Bool(_) | Resolved::Float(_) | Resolved::Null | Resolved::Text(_) => None,
        };
        match number {
            Some(number) if (least..=most).contains(&number) => Ok(number),
            Some(_) | None => self.mismatch(&expected, None),
        }
    }

    fn float(&self) -> Result<f64, DecodeError> {
        let number = match self.scalar().map(Scalar::resolve) {
            #[expect(clippy::cast_precision_loss, reason = "as every reader of JSON does")]
            Some(Resolved::Integer(number)) => Some(number as f64),
            Some(Resolved::Float(number)) => Some(number),
            Some(Resolved::Text(text)) => text.parse().ok().filter(|n: &f64| n.is_finite()),
            Some(Resolved::Bool(_) | Resolved::Null) | None => None,
        };
        match number {
            Some(number) => Ok(number),
            None => self.mismatch(&"a number", None),
        }
    }

    fn text<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let resolved = self.scalar().map(|scalar| (scalar, scalar.resolve()));
        match resolved {
            Some((_, Resolved::Text(text))) => self.place(visitor.visit_str(text)),
            other => {
                let expected = Expected(&visitor).to_string();
                let quote = |(scalar, resolved): (&Scalar, Resolved<'_>)| match resolved {
                    Resolved::Null => "write \"\" for an empty string".to_owned(),
                    Resolved::Bool(_)
                    | Resolved::Float(_)
                    | Resolved::Integer(_)
                    | Resolved::Text(_) => {
                        format!("quote it to make it a string: {}", quoted(&scalar.text))
                    }
                };
                // Only a plain string is helped by quotes; a duration needs a unit.
                let hint = other.filter(|_| expected == "a string").map(quote);
                self.mismatch(&expected, hint)
            }
        }
    }
}

/// What a visitor expects, as text.
struct Expected<'a, V>(&'a V);

impl<'de, V: Visitor<'de>> fmt::Display for Expected<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }
}

/// Forwards an integer type after a check of its range.
macro_rules! integers {
    ($($method:ident, $visit:ident, $type:ty;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
            let number = self.integer(i128::from(<$type>::MIN), i128::from(<$type>::MAX))?;
            match <$type>::try_from(number) {
                Ok(number) => self.place(visitor.$visit(number)),
                Err(_) => self.mismatch(&stringify!($type), None),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for At<'_> {
    type Error = DecodeError;

    integers! {
        deserialize_i8, visit_i8, i8;
        deserialize_i16, visit_i16, i16;
        deserialize_i32, visit_i32, i32;
        deserialize_i64, visit_i64, i64;
        deserialize_u8, visit_u8, u8;
        deserialize_u16, visit_u16, u16;
        deserialize_u32, visit_u32, u32;
        deserialize_u64, visit_u64, u64;
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let scalar = match &self.node.value {
            Value::Mapping(_) => return self.deserialize_map(visitor),
            Value::Sequence(_) => return self.deserialize_seq(visitor),
            Value::Pruned => return self.place(visitor.visit_unit()),
            Value::Scalar(scalar) => scalar,
        };
        let result = match scalar.resolve() {
            Resolved::Bool(value) => visitor.visit_bool(value),
            Resolved::Float(value) => visitor.visit_f64(value),
            Resolved::Integer(value) => match (u64::try_from(value), i64::try_from(value)) {
                (Ok(value), _) => visitor.visit_u64(value),
                (Err(_), Ok(value)) => visitor.visit_i64(value),
                (Err(_), Err(_)) => return self.mismatch(&Expected(&visitor), None),
            },
            Resolved::Null => visitor.visit_unit(),
            Resolved::Text(text) => visitor.visit_str(text),
        };
        self.place(result)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let scalar = self.scalar();
        if let Some(Resolved::Bool(value)) = scalar.map(Scalar::resolve) {
            return self.place(visitor.visit_bool(value));
        }
        let hint = scalar.and_then(|scalar| match scalar.text.to_lowercase().as_str() {
            "true" | "false" => Some("remove the quotes".to_owned()),
            "yes" | "on" | "y" => Some("write true".to_owned()),
            "no" | "off" | "n" => Some("write false".to_owned()),
            _ => None,
        });
        self.mismatch(&"true or false", hint)
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let number = self.float()?;
        self.place(visitor.visit_f64(number))
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.text(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.text(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.text(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.text(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.text(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        if self.node.is_null() || matches!(self.node.value, Value::Pruned) {
            return self.place(visitor.visit_none());
        }
        let result = visitor.visit_some(self);
        self.place(result)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        if self.node.is_null() {
            return self.place(visitor.visit_unit());
        }
        self.mismatch(&Expected(&visitor), None)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        let result = visitor.visit_newtype_struct(self);
        self.place(result)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let items = match &self.node.value {
            Value::Sequence(items) => &items[..],
            Value::Pruned => &[],
            Value::Scalar(_) if self.node.is_null() => &[],
            Value::Mapping(_) | Value::Scalar(_) => {
                let hint = "start each item with a hyphen: - item".to_owned();
                return self.mismatch(&"a list", Some(hint));
            }
        };
        let context = self.context;
        let items = items.iter().enumerate();
        let result = visitor.visit_seq(Items { items, context });
        self.place(result)
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let entries = self.mapping()?;
        let result = visitor.visit_map(Fields::new(entries, Known::Any, self.context));
        self.place(result)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        if name == LOCATED {
            let result = visitor.visit_seq(Place { at: self, asked: 0 });
            return self.place(result);
        }
        let entries = self.mapping()?;
        let result = visitor.visit_map(Fields::new(entries, Known::Fields(fields), self.context));
        self.place(result)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        let name = match self.scalar().map(Scalar::resolve) {
            Some(Resolved::Text(text)) => variants.iter().find(|name| **name == text),
            // The variants stand in the order of their numbers in the proto files, from 0.
            Some(Resolved::Integer(number)) if self.context.dialect == Dialect::Proto => {
                usize::try_from(number).ok().and_then(|n| variants.get(n))
            }
            Some(
                Resolved::Bool(_) | Resolved::Float(_) | Resolved::Integer(_) | Resolved::Null,
            )
            | None => None,
        };
        match name {
            Some(name) => {
                let name: serde::de::value::StrDeserializer<'_, DecodeError> =
                    (*name).into_deserializer();
                let result = visitor.visit_enum(name);
                self.place(result)
            }
            None => {
                let near = self.node.text();
                let near = near.and_then(|text| did_you_mean(text, variants.iter().copied()));
                let hint = near.map(|near| format!("did you mean {near:?}?"));
                self.mismatch(&format!("one of {}", variants.join(", ")), hint)
            }
        }
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.text(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.place(visitor.visit_unit())
    }
}

impl<'a> At<'a> {
    fn mapping(&self) -> Result<&'a [Entry], DecodeError> {
        match &self.node.value {
            Value::Mapping(entries) => Ok(entries),
            Value::Pruned => Ok(&[]),
            Value::Scalar(_) if self.node.is_null() => Ok(&[]),
            Value::Scalar(_) | Value::Sequence(_) => self.mismatch(&"a mapping", None),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;
    use crate::source::istio::yaml::{Located, parse};

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Sample {
        per_try: Option<Located<String>>,
        port: Option<u16>,
        share: f64,
        enabled: bool,
        color: Option<Color>,
        labels: BTreeMap<String, String>,
        inner: Vec<Located<Inner>>,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Inner {
        name: String,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "SCREAMING_SNAKE_CASE")]
    enum Color {
        Red,
        DarkBlue,
    }

    fn sample(text: &str, dialect: Dialect) -> Decoded<Sample> {
        let (mut documents, faults) = parse(&"test.yaml".into(), text);
        assert!(faults.is_empty(), "{faults}");
        decode(&mut documents[0].root, dialect)
    }

    fn good(text: &str) -> Sample {
        let decoded = sample(text, Dialect::Proto);
        assert_eq!(decoded.faults, [], "{text}");
        decoded.value.expect("a value without faults")
    }

    /// The faults as `path:line:column text (hint)`.
    fn faults(text: &str) -> Vec<String> {
        let decoded = sample(text, Dialect::Proto);
        let line = |fault: &FieldFault| {
            let FieldFault {
                path,
                line,
                column,
                text,
                ..
            } = fault;
            let hint = fault.hint.as_deref().unwrap_or("-");
            format!("{path}:{line}:{column} {text} ({hint})")
        };
        assert!(decoded.value.is_some(), "the rest is still decoded");
        decoded.faults.iter().map(line).collect()
    }

    #[test]
    fn both_spellings_of_a_field_are_read() {
        assert_eq!(good("perTry: x"), good("per_try: x"));
    }

    #[test]
    fn both_spellings_at_once_are_a_fault() {
        assert_eq!(
            faults("perTry: x\nper_try: y\n"),
            ["perTry:2:1 \"per_try\" is written twice, as perTry too (-)"]
        );
    }

    #[test]
    fn located_values_know_their_places() {
        let name = good("port: 1\nperTry: x\n").per_try.expect("given");
        assert_eq!((name.line, name.column), (2, 9));
        let inner = good("inner:\n- name: a\n- name: b\n").inner;
        assert_eq!((inner[1].line, inner[1].column), (3, 3));
    }

    #[test]
    fn null_is_absence() {
        let empty = good("{}");
        for text in [
            "perTry:",
            "port: null",
            "share: ~",
            "enabled:",
            "labels:",
            "inner:",
        ] {
            assert_eq!(good(text), empty, "{text}");
        }
    }

    #[test]
    fn integers_come_as_texts_and_whole_floats_too() {
        for text in ["port: 80", "port: \"80\"", "port: 80.0", "port: 8e1"] {
            assert_eq!(good(text).port, Some(80), "{text}");
        }
    }

    #[test]
    fn enums_come_by_name_and_number() {
        assert_eq!(good("color: RED").color, Some(Color::Red));
        assert_eq!(good("color: 1").color, Some(Color::DarkBlue));
        assert_eq!(
            faults("color: DARKBLUE"),
            [
                "color:1:8 found the text \"DARKBLUE\", expected one of RED, DARK_BLUE \
              (did you mean \"DARK_BLUE\"?)"
            ]
        );
        assert_eq!(
            faults("color: 7"),
            ["color:1:8 found the number 7, expected one of RED, DARK_BLUE (-)"]
        );
    }

    #[test]
    fn a_bool_or_number_in_place_of_a_string_is_to_be_quoted() {
        assert_eq!(
            faults("perTry: true\nlabels: {version: 1.0, a: }\n"),
            [
                "perTry:1:9 found the boolean true, expected a string \
                 (quote it to make it a string: \"true\")",
                "labels.version:2:19 found the number 1.0, expected a string \
                 (quote it to make it a string: \"1.0\")",
                "labels.a:2:24 found nothing, expected a string \
                 (write \"\" for an empty string)",
            ]
        );
    }

    #[test]
    fn all_faults_of_a_document_come_at_once() {
        let text = "port: 70000\nshare: many\nenabled: yes\ninner:\n- {name: 1}\n- {nam: x}\n- 5\n";
        assert_eq!(
            faults(text),
            [
                "port:1:7 found the number 70000, expected a whole number from 0 to 65535 (-)",
                "share:2:8 found the text \"many\", expected a number (-)",
                "enabled:3:10 found the text \"yes\", expected true or false (write true)",
                "inner[0].name:5:10 found the number 1, expected a string \
                 (quote it to make it a string: \"1\")",
                "inner[1].nam:6:4 unknown field \"nam\" (did you mean \"name\"?)",
                "inner[2]:7:3 found the number 5, expected a mapping (-)",
            ]
        );
    }

    #[test]
    fn a_list_is_asked_for_with_a_hyphen() {
        assert_eq!(
            faults("inner: {name: x}"),
            ["inner:1:8 found a mapping, expected a list (start each item with a hyphen: - item)"]
        );
    }

    #[test]
    fn kubernetes_tolerates_unknown_fields_and_has_one_spelling() {
        let decoded = sample("per_try: x\nother: y\nport: 1\n", Dialect::Kubernetes);
        assert_eq!(decoded.faults, []);
        let value = decoded.value.expect("decoded");
        assert_eq!((value.per_try, value.port), (None, Some(1)));
    }

    #[test]
    fn more_faults_than_passes_end() {
        let text = format!("inner: [{}]", vec!["5"; PASSES * 3].join(", "));
        let decoded = sample(&text, Dialect::Proto);
        assert_eq!(decoded.faults.len(), PASSES);
        assert!(decoded.value.is_none());
    }
}
