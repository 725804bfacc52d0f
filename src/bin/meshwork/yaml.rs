//! JSON values as YAML, for results that people read and edit.
//!
//! Block style with two spaces; texts that YAML would read as something else are in JSON's quotes,
//! which YAML understands. A dependency for fifty lines was rejected.

use serde_json::Value;

/// The value as a YAML document.
pub(crate) fn text(value: &Value) -> String {
    let mut text = String::new();
    match value {
        Value::Array(_) | Value::Object(_) => block(value, 0, &mut text),
        scalar => {
            text.push_str(&plain(scalar));
            text.push('\n');
        }
    }
    text
}

/// A collection, whose first line is indented by the caller.
fn block(value: &Value, depth: usize, text: &mut String) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (index, (key, value)) in fields.iter().enumerate() {
                if index > 0 {
                    text.push_str(&indent);
                }
                text.push_str(&quoted(key));
                text.push(':');
                after_key(value, depth, text);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push_str(&indent);
                }
                text.push_str("- ");
                block(item, depth + 1, text);
            }
        }
        scalar => {
            text.push_str(&plain(scalar));
            text.push('\n');
        }
    }
}

fn after_key(value: &Value, depth: usize, text: &mut String) {
    let nested = match value {
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    };
    if nested {
        text.push('\n');
        text.push_str(&"  ".repeat(depth + 1));
        block(value, depth + 1, text);
    } else {
        text.push(' ');
        text.push_str(&plain(value));
        text.push('\n');
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Array(_) => "[]".to_owned(),
        Value::Object(_) => "{}".to_owned(),
        other => other.to_string(),
    }
}

/// Bare if it can be nothing but a text, else as JSON writes it.
fn quoted(text: &str) -> String {
    let bare = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c))
        && !matches!(
            text.to_ascii_lowercase().as_str(),
            "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "y" | "n"
        );
    if bare {
        text.to_owned()
    } else {
        Value::from(text).to_string()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nested_values_are_indented_and_doubtful_texts_quoted() {
        let value = json!({
            "a": [{"b": 1, "c": ["x", []]}, {}],
            "d": {"e": null, "f": "true", "g": "a: b", "h": "12"},
        });
        let expected = "a:\n  - b: 1\n    c:\n      - x\n      - []\n  - {}\nd:\n  e: null\n  f: \"true\"\n  g: \"a: b\"\n  h: \"12\"\n";
        assert_eq!(text(&value), expected);
        assert_eq!(text(&json!("a\nb")), "\"a\\nb\"\n");
    }
}
