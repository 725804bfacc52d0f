//! The path of a request.
//!
//! `base` follows what Envoy's `normalize_path` does (RFC 3986 6.2.2 and the WHATWG rules for `\`
//! and encoded dots), `merged` adds `merge_slashes`, `decoded` begins with
//! `path_with_escaped_slashes_action: UNESCAPE_AND_FORWARD`; that is the order in which Envoy does
//! them. All return `None` where there is nothing to change.

use super::Ambiguous;

/// What is refused in every mode.
pub(super) fn check_always(path: &str) -> Result<(), Ambiguous> {
    if path.contains("%00") {
        return Err(Ambiguous::new("the path has %00"));
    }
    Ok(())
}

/// Refuses a path with more than one reading.
pub(super) fn reject(path: &str) -> Result<(), Ambiguous> {
    let bytes = path.as_bytes();
    let mut at = 1;
    for segment in path.split('/').skip(1) {
        let last = at + segment.len() == bytes.len();
        at += segment.len() + 1;
        if segment.is_empty() && !last {
            return Err(Ambiguous::new("the path has an empty segment"));
        }
        if matches!(segment.split(';').next(), Some("." | "..")) {
            return Err(Ambiguous::new("the path has the segment . or .."));
        }
        if segment.contains(';') {
            return Err(Ambiguous::new("the path has ;"));
        }
        if segment.contains('\\') {
            return Err(Ambiguous::new("the path has \\"));
        }
        if segment.contains('%') {
            reject_encoded(segment)?;
        }
    }
    Ok(())
}

/// Refuses a segment in which something is encoded that need not be, or must not be.
fn reject_encoded(segment: &str) -> Result<(), Ambiguous> {
    let mut decoded = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let [byte, tail @ ..] = rest {
        rest = tail;
        if *byte != b'%' {
            decoded.push(*byte);
            continue;
        }
        let Some((value, tail)) = hex(rest) else {
            return Err(Ambiguous::new("the path has % without two digits"));
        };
        rest = tail;
        if is_unreserved(value) {
            return Err(Ambiguous::new("the path has an encoded letter or digit"));
        }
        if value < b' ' || value == 0x7f || b"/\\;?#%".contains(&value) {
            return Err(Ambiguous::new(
                "the path has an encoded separator or control character",
            ));
        }
        decoded.push(value);
    }
    if std::str::from_utf8(&decoded).is_err() {
        return Err(Ambiguous::new("the path is no UTF-8 when it is decoded"));
    }
    Ok(())
}

/// Two digits of base sixteen, and what follows them.
fn hex(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let [high, low, rest @ ..] = bytes else {
        return None;
    };
    let value = digit(*high)? * 16 + digit(*low)?;
    Some((u8::try_from(value).ok()?, rest))
}

/// RFC 3986 2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// `BASE`.
pub(super) fn base(path: &str) -> Option<String> {
    let plain = plain(path);
    let resolved = resolve(&plain);
    (resolved != path).then_some(resolved)
}

/// `MERGE_SLASHES`.
pub(super) fn merged(path: &str) -> Option<String> {
    let merged = merge(&resolve(&plain(path)));
    (merged != path).then_some(merged)
}

/// `DECODE_AND_MERGE_SLASHES`.
pub(super) fn decoded(path: &str) -> Option<String> {
    let slashes = slashes(path);
    let merged = merge(&resolve(&plain(&slashes)));
    (merged != path).then_some(merged)
}

/// `\` as `/`, and unreserved characters decoded.
fn plain(path: &str) -> String {
    rewrite(path, |value| is_unreserved(value).then_some(value)).replace('\\', "/")
}

/// `%2f` and `%5c` decoded.
fn slashes(path: &str) -> String {
    rewrite(path, |value| matches!(value, b'/' | b'\\').then_some(value))
}

/// Decodes what `wanted` takes; the values are ASCII.
fn rewrite(path: &str, wanted: impl Fn(u8) -> Option<u8>) -> String {
    let mut text = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, behind)) = rest.split_once('%') {
        text.push_str(before);
        let decoded = hex(behind.as_bytes()).and_then(|(value, _)| wanted(value));
        match (decoded, behind.get(2..)) {
            (Some(value), Some(tail)) => {
                text.push(char::from(value));
                rest = tail;
            }
            (Some(_), None) | (None, _) => {
                text.push('%');
                rest = behind;
            }
        }
    }
    text.push_str(rest);
    text
}

/// `.` and `..` resolved (RFC 3986 5.2.4); empty segments are segments.
fn resolve(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." => {}
            ".." => {
                kept.pop();
            }
            other => {
                kept.push(other);
                continue;
            }
        }
        // `/a/..` is `/`, not nothing.
        if last {
            kept.push("");
        }
    }
    let mut text = String::with_capacity(path.len());
    for segment in kept {
        text.push('/');
        text.push_str(segment);
    }
    if text.is_empty() {
        text.push('/');
    }
    text
}

fn merge(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for character in path.chars() {
        if character != '/' || !text.ends_with('/') {
            text.push(character);
        }
    }
    text
}
