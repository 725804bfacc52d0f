//! JSON, written.
//!
//! What is written here is numbers, texts and lists of them; types of files and their serializers
//! stay in the sources that read files.

use std::fmt;

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Json {
    Bool(bool),
    List(Vec<Self>),
    Null,
    Number(f64),
    Object(Vec<(&'static str, Self)>),
    Text(String),
}

impl From<&str> for Json {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Json {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<bool> for Json {
    fn from(bool: bool) -> Self {
        Self::Bool(bool)
    }
}

impl From<u32> for Json {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<u64> for Json {
    /// Beyond 2^53 digits are lost, as in every reader of JSON.
    fn from(number: u64) -> Self {
        Self::Number(number as f64)
    }
}

impl<T: Into<Self>> From<Option<T>> for Json {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl FromIterator<Self> for Json {
    fn from_iter<I: IntoIterator<Item = Self>>(items: I) -> Self {
        Self::List(items.into_iter().collect())
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(bool) => bool.fmt(f),
            Self::Null => f.write_str("null"),
            Self::Number(number) if number.is_finite() => number.fmt(f),
            Self::Number(_) => f.write_str("null"),
            Self::Text(text) => quoted(text, f),
            Self::List(items) => {
                f.write_str("[")?;
                for (index, item) in items.iter().enumerate() {
                    f.write_str(if index > 0 { "," } else { "" })?;
                    item.fmt(f)?;
                }
                f.write_str("]")
            }
            Self::Object(fields) => {
                f.write_str("{")?;
                for (index, (name, value)) in fields.iter().enumerate() {
                    f.write_str(if index > 0 { "," } else { "" })?;
                    quoted(name, f)?;
                    write!(f, ":{value}")?;
                }
                f.write_str("}")
            }
        }
    }
}

fn quoted(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str("\"")?;
    for character in text.chars() {
        match character {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            // `<` as well: nothing of it may end a script where a page holds it.
            '\0'..='\x1f' | '\x7f' | '<' => write!(f, "\\u{:04x}", u32::from(character))?,
            other => write!(f, "{other}")?,
        }
    }
    f.write_str("\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_json_has_them() {
        let value = Json::Object(vec![
            ("a", "x\"\\\n<\u{1F600}".into()),
            (
                "b",
                [1_u32.into(), Json::Number(0.5), Json::Number(f64::NAN)]
                    .into_iter()
                    .collect(),
            ),
            ("c", None::<bool>.into()),
            ("d", true.into()),
        ]);
        let text = value.to_string();
        assert_eq!(
            text,
            "{\"a\":\"x\\\"\\\\\\u000a\\u003c\u{1F600}\",\"b\":[1,0.5,null],\"c\":null,\"d\":true}"
        );
    }
}
