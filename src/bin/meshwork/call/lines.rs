//! `--stdin`: one object per line in, one result per line out, over one mesh.

use std::io;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _};

use super::args::{check_concurrency, check_rate};
use super::load::Load;
use super::request::{Template, Wanted};
use crate::duration;

/// The most bytes of one line.
const LINE: u64 = 8 << 20;

/// What a line may say, for errors.
const FIELDS: &str = "url, grpc, n, c, rate, duration, method, headers, body, data_hex, timeout";

/// The next line without its end; `None` after the last one.
pub(super) async fn next<R: AsyncBufRead + Unpin>(from: &mut R) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    let read = (&mut *from)
        .take(LINE)
        .read_until(b'\n', &mut bytes)
        .await?;
    if read == 0 {
        return Ok(None);
    }
    if read as u64 == LINE && bytes.last() != Some(&b'\n') {
        let why = format!("a line is longer than {LINE} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    let text = String::from_utf8(bytes)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "a line is not UTF-8"))?;
    Ok(Some(text))
}

/// Reads one line on top of what the flags say.
pub(super) fn parse(line: &str, flags: &Wanted, load: Load) -> Result<(Template, Load), String> {
    let object: Map<String, Value> =
        serde_json::from_str(line).map_err(|error| format!("not an object of JSON: {error}"))?;
    let mut wanted = flags.clone();
    let mut load = load;
    // A line that names an HTTP URL alone is not a gRPC call because of a flag, and the reverse.
    if object.contains_key("grpc") {
        (wanted.method, wanted.body) = (None, None);
    } else if object.contains_key("url")
        && (object.contains_key("method") || object.contains_key("body"))
    {
        (wanted.grpc, wanted.data_hex) = (None, None);
    }
    for (field, value) in &object {
        field_of(&mut wanted, &mut load, field, value).map_err(|why| format!("{field}: {why}"))?;
    }
    Ok((wanted.parse()?, load))
}

fn field_of(
    wanted: &mut Wanted,
    load: &mut Load,
    field: &str,
    value: &Value,
) -> Result<(), String> {
    match field {
        "url" => wanted.url = Some(text(value)?),
        "grpc" => wanted.grpc = Some(text(value)?),
        "method" => wanted.method = Some(text(value)?),
        "body" => wanted.body = Some(text(value)?),
        "data_hex" => wanted.data_hex = Some(text(value)?),
        "headers" => wanted.headers.extend(headers(value)?),
        "timeout" => wanted.timeout = Some(time(value)?),
        "duration" => load.duration = Some(time(value)?),
        "n" => match number(value)? {
            0 => return Err("expected a number from 1".to_owned()),
            requests => load.requests = Some(requests),
        },
        "c" => load.concurrency = Some(check_concurrency(number(value)?)?),
        "rate" => load.rate = Some(check_rate(value.as_f64().unwrap_or(f64::NAN))?),
        _ => return Err(format!("unknown; allowed are {FIELDS}")),
    }
    Ok(())
}

fn text(value: &Value) -> Result<String, String> {
    let text = value.as_str().ok_or("expected a text")?;
    Ok(text.to_owned())
}

fn number(value: &Value) -> Result<u64, String> {
    value
        .as_u64()
        .ok_or_else(|| "expected a whole number".to_owned())
}

fn time(value: &Value) -> Result<Duration, String> {
    duration::parse(value.as_str().ok_or("expected a text such as \"2s\"")?)
}

/// `{"name": "value", "other": ["one", "two"]}` as `name: value` lines.
fn headers(value: &Value) -> Result<Vec<String>, String> {
    let expected = "expected an object of texts or lists of texts";
    let mut lines = Vec::new();
    for (name, value) in value.as_object().ok_or(expected)? {
        match value {
            Value::Array(values) => {
                for value in values {
                    lines.push(format!("{name}: {}", value.as_str().ok_or(expected)?));
                }
            }
            one => lines.push(format!("{name}: {}", one.as_str().ok_or(expected)?)),
        }
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use meshwork::CallReport;

    use super::*;

    fn flags() -> Wanted {
        Wanted {
            url: Some("http://catalog/a".to_owned()),
            headers: vec!["x-a: 1".to_owned()],
            ..Wanted::default()
        }
    }

    fn line(line: &str) -> Result<(Template, Load), String> {
        parse(line, &flags(), Load::default())
    }

    #[test]
    fn a_line_adds_to_what_the_flags_say() {
        let text = r#"{"n": 7, "c": 2, "rate": 10.5, "headers": {"x-b": ["1", "2"]}, "body": "b"}"#;
        let (template, load) = line(text).expect("valid");
        let request = template.request(&CallReport::default());
        assert_eq!(request.method(), http::Method::POST);
        assert_eq!(request.uri(), "http://catalog/a");
        assert_eq!(request.headers()["x-a"], "1");
        assert_eq!(request.headers().get_all("x-b").iter().count(), 2);
        assert_eq!((load.requests, load.concurrency), (Some(7), Some(2)));
        assert_eq!(load.rate, Some(10.5));
    }

    #[test]
    fn a_grpc_line_may_bring_its_host() {
        let (template, _) = line(r#"{"grpc": "other:1/a.B/C", "timeout": "2s"}"#).expect("valid");
        let request = template.request(&CallReport::default());
        assert_eq!(request.uri(), "http://other:1/a.B/C");
    }

    #[test]
    fn a_wrong_line_says_which_field_and_what_is_allowed() {
        for (text, why) in [
            ("", "not an object of JSON"),
            ("[1]", "not an object of JSON"),
            (r#"{"urls": "x"}"#, "urls: unknown; allowed are url, grpc"),
            (r#"{"n": 0}"#, "n: expected a number from 1"),
            (r#"{"n": "1"}"#, "n: expected a whole number"),
            (r#"{"c": 0}"#, "c: expected a number from 1 to 10000"),
            (r#"{"rate": -1}"#, "rate: expected calls per second"),
            (r#"{"timeout": 2}"#, "timeout: expected a text such as"),
            (r#"{"headers": ["a: b"]}"#, "headers: expected an object"),
            (r#"{"url": "https://a"}"#, "write http"),
        ] {
            let error = line(text).expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[tokio::test]
    async fn lines_are_bounded() {
        let mut short: &[u8] = b"one\ntwo";
        assert_eq!(
            next(&mut short).await.expect("text").as_deref(),
            Some("one\n")
        );
        assert_eq!(
            next(&mut short).await.expect("text").as_deref(),
            Some("two")
        );
        assert_eq!(next(&mut short).await.expect("the end"), None);
        let long = vec![b' '; LINE as usize + 1];
        assert!(next(&mut long.as_slice()).await.is_err());
        assert!(next(&mut &b"\xff\n"[..]).await.is_err());
    }
}
