//! The tree of a document, in which every node knows its place.

use std::borrow::Cow;
use std::fmt;

/// A node of the tree.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// From 1.
    pub(crate) line: u32,
    /// In characters, from 1.
    pub(crate) column: u32,
    pub(crate) value: Value,
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// In order of the text, keys unique.
    Mapping(Vec<Entry>),
    /// A value whose fault was recorded: decoding goes on as if it had not been written.
    Pruned,
    Scalar(Scalar),
    Sequence(Vec<Node>),
}

/// A key with its place, and its value.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) line: u32,
    pub(crate) column: u32,
    pub(crate) value: Node,
}

/// A text whose type is only known by looking at it, unless it was quoted.
#[derive(Clone, Debug)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    /// Written without quotes or as a block, so that it may be null, a bool or a number.
    pub(crate) plain: bool,
}

/// What a scalar is by YAML's core schema, with two differences: only `true` and `false` are
/// booleans in the way of YAML 1.2, and numbers with leading zeros are texts, because YAML 1.1 and
/// 1.2 disagree on their value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Resolved<'a> {
    Bool(bool),
    Float(f64),
    Integer(i128),
    Null,
    Text(&'a str),
}

impl Scalar {
    pub(crate) fn resolve(&self) -> Resolved<'_> {
        if !self.plain {
            return Resolved::Text(&self.text);
        }
        match &*self.text {
            "" | "~" | "null" | "Null" | "NULL" => Resolved::Null,
            "true" | "True" | "TRUE" => Resolved::Bool(true),
            "false" | "False" | "FALSE" => Resolved::Bool(false),
            text => match (integer(text), float(text)) {
                (Some(integer), _) => Resolved::Integer(integer),
                (None, Some(float)) => Resolved::Float(float),
                (None, None) => Resolved::Text(text),
            },
        }
    }
}

/// An integer in decimal, or with the prefix 0x or 0o.
pub(crate) fn integer(text: &str) -> Option<i128> {
    if let Some(digits) = text.strip_prefix("0x") {
        return unsigned(digits, 16);
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return unsigned(digits, 8);
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let leading_zero = digits.len() > 1 && digits.starts_with('0');
    if digits.is_empty() || leading_zero || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

fn unsigned(digits: &str, radix: u32) -> Option<i128> {
    let all_digits = digits.chars().all(|digit| digit.is_digit(radix));
    all_digits
        .then(|| i128::from_str_radix(digits, radix).ok())
        .flatten()
}

/// A finite number with a point or an exponent.
pub(crate) fn float(text: &str) -> Option<f64> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let starts = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    let known = |b: u8| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-');
    let marked = digits.contains(['.', 'e', 'E']);
    if !starts || !marked || !digits.bytes().all(known) {
        return None;
    }
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

impl Node {
    /// The value of a key of a mapping.
    /// Moves the whole tree down by some lines: it was read from a part of a file.
    pub(crate) fn shift(&mut self, lines: u32) {
        self.line = self.line.saturating_add(lines);
        match &mut self.value {
            Value::Mapping(entries) => {
                for entry in entries {
                    entry.line = entry.line.saturating_add(lines);
                    entry.value.shift(lines);
                }
            }
            Value::Sequence(items) => items.iter_mut().for_each(|item| item.shift(lines)),
            Value::Pruned | Value::Scalar(_) => {}
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.entries()
            .iter()
            .find(|entry| entry.key == key)
            .map(|entry| &entry.value)
    }

    /// The entries of a mapping; none of anything else.
    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Mapping(entries) => entries,
            Value::Pruned | Value::Scalar(_) | Value::Sequence(_) => &[],
        }
    }

    /// The items of a sequence; none of anything else.
    pub(crate) fn items(&self) -> &[Node] {
        match &self.value {
            Value::Sequence(items) => items,
            Value::Mapping(_) | Value::Pruned | Value::Scalar(_) => &[],
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        match &self.value {
            Value::Scalar(scalar) => scalar.resolve() == Resolved::Null,
            Value::Mapping(_) | Value::Pruned | Value::Sequence(_) => false,
        }
    }

    /// A text, if it is one.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(scalar) => match scalar.resolve() {
                Resolved::Text(text) => Some(text),
                Resolved::Bool(_) | Resolved::Float(_) | Resolved::Integer(_) | Resolved::Null => {
                    None
                }
            },
            Value::Mapping(_) | Value::Pruned | Value::Sequence(_) => None,
        }
    }

    /// What stands here, for "found ..." in a message.
    pub(crate) fn found(&self) -> String {
        use crate::source::istio::fault::quoted;
        match &self.value {
            Value::Mapping(_) => "a mapping".into(),
            Value::Pruned => "nothing".into(),
            Value::Sequence(_) => "a list".into(),
            Value::Scalar(scalar) => match scalar.resolve() {
                Resolved::Bool(_) => format!("the boolean {}", scalar.text),
                Resolved::Float(_) | Resolved::Integer(_) => {
                    format!("the number {}", quoted(&scalar.text).trim_matches('"'))
                }
                Resolved::Null => "nothing".into(),
                Resolved::Text(text) => format!("the text {}", quoted(text)),
            },
        }
    }
}

/// One step from a node to a node under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Segment {
    /// A field that the kind defines, in lowerCamel form.
    Field(Cow<'static, str>),
    /// An item of a list.
    Index(usize),
    /// A key that the user chose, such as a label.
    Key(String),
}

impl From<&'static str> for Segment {
    fn from(field: &'static str) -> Self {
        Self::Field(Cow::Borrowed(field))
    }
}

impl From<usize> for Segment {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

impl Segment {
    /// The node one step further down.
    pub(crate) fn step<'a>(&self, node: &'a Node) -> Option<&'a Node> {
        match self {
            Self::Field(field) => entry(node, field).map(|entry| &entry.value),
            Self::Index(index) => node.items().get(*index),
            Self::Key(key) => node.get(key),
        }
    }
}

/// A way through the tree, printed as `http[1].retries.retryOn` or `labels["a.b/c"]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Path(pub(crate) Vec<Segment>);

impl Path {
    /// The place of the node at the end of the way, or of the last one that exists.
    ///
    /// For a mapping or a list this is the place of its key, where a reader looks for it.
    pub(crate) fn locate(&self, root: &Node) -> (u32, u32) {
        let mut node = root;
        let mut place = (root.line, root.column);
        for segment in &self.0 {
            let (next, key_place) = match segment {
                Segment::Field(field) => match entry(node, field) {
                    Some(entry) => (&entry.value, (entry.line, entry.column)),
                    None => break,
                },
                Segment::Key(key) => match node.entries().iter().find(|e| e.key == *key) {
                    Some(entry) => (&entry.value, (entry.line, entry.column)),
                    None => break,
                },
                Segment::Index(index) => match node.items().get(*index) {
                    Some(item) => (item, (item.line, item.column)),
                    None => break,
                },
            };
            place = match &next.value {
                Value::Scalar(_) => (next.line, next.column),
                Value::Mapping(_) | Value::Pruned | Value::Sequence(_) => key_place,
            };
            node = next;
        }
        place
    }

    /// The node at the end of the way, to prune it.
    pub(crate) fn find_mut<'a>(&self, root: &'a mut Node) -> Option<&'a mut Node> {
        let mut node = root;
        for segment in &self.0 {
            node = match (segment, &mut node.value) {
                (Segment::Field(field), Value::Mapping(entries)) => {
                    let same = |e: &&mut Entry| e.key == *field || lower_camel(&e.key) == *field;
                    &mut entries.iter_mut().find(same)?.value
                }
                (Segment::Key(key), Value::Mapping(entries)) => {
                    &mut entries.iter_mut().find(|e| e.key == *key)?.value
                }
                (Segment::Index(index), Value::Sequence(items)) => items.get_mut(*index)?,
                (
                    Segment::Field(_) | Segment::Index(_) | Segment::Key(_),
                    Value::Mapping(_) | Value::Pruned | Value::Scalar(_) | Value::Sequence(_),
                ) => return None,
            };
        }
        Some(node)
    }
}

/// The entry of a field, in either spelling.
fn entry<'a>(node: &'a Node, field: &str) -> Option<&'a Entry> {
    let entries = node.entries();
    entries
        .iter()
        .find(|entry| entry.key == field || lower_camel(&entry.key) == field)
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, segment) in self.0.iter().enumerate() {
            let dot = if index == 0 { "" } else { "." };
            match segment {
                Segment::Field(field) => write!(f, "{dot}{field}")?,
                Segment::Index(index) => write!(f, "[{index}]")?,
                Segment::Key(key) if is_plain_key(key) => write!(f, "{dot}{key}")?,
                Segment::Key(key) => {
                    let quoted = crate::source::istio::fault::quoted(key);
                    write!(f, "[{quoted}]")?;
                }
            }
        }
        Ok(())
    }
}

fn is_plain_key(key: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    !key.is_empty() && key.len() < 64 && key.bytes().all(plain)
}

/// `retry_on` as `retryOn`, by the rule of proto3-JSON; other names stay as they are.
pub(crate) fn lower_camel(name: &str) -> Cow<'_, str> {
    if !name.contains('_') || name.starts_with('_') {
        return Cow::Borrowed(name);
    }
    let mut camel = String::with_capacity(name.len());
    let mut upper = false;
    for c in name.chars() {
        if c == '_' {
            upper = true;
        } else if upper {
            camel.push(c.to_ascii_uppercase());
            upper = false;
        } else {
            camel.push(c);
        }
    }
    Cow::Owned(camel)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> Scalar {
        Scalar {
            text: text.into(),
            plain: true,
        }
    }

    #[test]
    fn scalars_resolve_by_the_core_schema() {
        for (text, resolved) in [
            ("~", Resolved::Null),
            ("", Resolved::Null),
            ("true", Resolved::Bool(true)),
            ("yes", Resolved::Text("yes")),
            ("off", Resolved::Text("off")),
            ("80", Resolved::Integer(80)),
            ("-1", Resolved::Integer(-1)),
            ("0x1F", Resolved::Integer(31)),
            ("0o17", Resolved::Integer(15)),
            ("0x", Resolved::Text("0x")),
            ("0644", Resolved::Text("0644")),
            ("0.5", Resolved::Float(0.5)),
            ("1e3", Resolved::Float(1000.0)),
            ("1.2.3", Resolved::Text("1.2.3")),
            ("1e999", Resolved::Text("1e999")),
            (".inf", Resolved::Text(".inf")),
            ("-", Resolved::Text("-")),
            ("5s", Resolved::Text("5s")),
            ("2026-01-31", Resolved::Text("2026-01-31")),
        ] {
            assert_eq!(plain(text).resolve(), resolved, "{text}");
        }
    }

    #[test]
    fn snake_case_becomes_lower_camel() {
        for (snake, camel) in [
            ("retry_on", "retryOn"),
            ("consecutive_5xx_errors", "consecutive5xxErrors"),
            ("http1_max_pending_requests", "http1MaxPendingRequests"),
            ("retryOn", "retryOn"),
            ("_x", "_x"),
        ] {
            assert_eq!(lower_camel(snake), camel);
        }
    }

    #[test]
    fn paths_print_fields_indices_and_keys() {
        let path = Path(vec![
            "http".into(),
            1.into(),
            "headers".into(),
            Segment::Key("x-canary".into()),
            Segment::Key("a.b/c".into()),
        ]);
        assert_eq!(path.to_string(), r#"http[1].headers.x-canary["a.b/c"]"#);
    }
}
