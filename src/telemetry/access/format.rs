//! Envoy's command operators.

use std::fmt::Write as _;
use std::time::Duration;

use http::{HeaderMap, HeaderName, Version};

use super::{Entry, Facts, time};
use crate::error::Error;
use crate::model::line::{Piece, Value, pieces};
use crate::model::telemetry::LineFormat;

/// The longest text of one header in a line; a caller must not be able to fill a disk with one.
const LONGEST: usize = 4_096;

/// Istio's default text.
const TEXT: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" \
    %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \
    \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% \
    %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \
    \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% \
    %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% \
    %REQUESTED_SERVER_NAME% %ROUTE_NAME%";

/// Istio's default JSON, by key.
const JSON: [(&str, &str); 24] = [
    ("start_time", "%START_TIME%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
    (
        "connection_termination_details",
        "%CONNECTION_TERMINATION_DETAILS%",
    ),
    (
        "upstream_transport_failure_reason",
        "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    ),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("duration", "%DURATION%"),
    (
        "upstream_service_time",
        "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
    ),
    ("x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"),
    ("user_agent", "%REQ(USER-AGENT)%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("authority", "%REQ(:AUTHORITY)%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER_RAW%"),
    ("upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"),
    ("downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("requested_server_name", "%REQUESTED_SERVER_NAME%"),
    ("route_name", "%ROUTE_NAME%"),
];

/// How a line is made.
#[derive(Clone, Debug)]
pub(super) enum Format {
    Json(Vec<(String, Vec<Piece>)>),
    Text(Vec<Piece>),
}

impl Format {
    pub(super) fn text() -> Self {
        Self::Text(built_in(TEXT))
    }

    pub(super) fn json() -> Self {
        Self::Json(
            JSON.map(|(key, text)| (key.to_owned(), built_in(text)))
                .into(),
        )
    }

    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        pieces(text)
            .map(Self::Text)
            .map_err(|why| Error::config(format!("access log format {text:?}: {why}")))
    }

    /// That of a configuration, whose texts were read before.
    pub(super) fn of(format: &LineFormat) -> Self {
        match format {
            LineFormat::Json => Self::json(),
            LineFormat::Labels(labels) => {
                let fields = labels.iter();
                Self::Json(
                    fields
                        .map(|(name, text)| (name.to_string(), built_in(text)))
                        .collect(),
                )
            }
            LineFormat::Text => Self::text(),
            LineFormat::Words(text) => Self::words(text),
        }
    }

    /// A line of these operators, which were read before.
    pub(super) fn words(text: &str) -> Self {
        Self::Text(built_in(text))
    }

    /// Whether it tells a trailer.
    pub(super) fn has_trailers(&self) -> bool {
        let has = |pieces: &[Piece]| {
            let mut pieces = pieces.iter();
            pieces.any(|piece| matches!(piece, Piece::Value(Value::Trailer(..))))
        };
        match self {
            Self::Json(fields) => fields.iter().any(|(_, pieces)| has(pieces)),
            Self::Text(pieces) => has(pieces),
        }
    }

    /// The values of its fields, or the whole as one.
    #[cfg(feature = "otel")]
    pub(super) fn values(&self, entry: &Entry, facts: &Facts<'_>) -> Vec<(String, String)> {
        let one = |pieces: &[Piece]| {
            let mut text = String::new();
            write(pieces, entry, facts, &mut text);
            text
        };
        match self {
            Self::Json(fields) => {
                let fields = fields.iter();
                fields
                    .map(|(name, pieces)| (name.clone(), one(pieces)))
                    .collect()
            }
            Self::Text(pieces) => vec![(String::new(), one(pieces))],
        }
    }

    /// The line, without its end; of JSON there is none.
    pub(super) fn text_of(&self, entry: &Entry, facts: &Facts<'_>) -> String {
        let mut text = String::new();
        if let Self::Text(pieces) = self {
            write(pieces, entry, facts, &mut text);
        }
        text
    }

    /// The line, with its end.
    pub(super) fn line(&self, entry: &Entry, facts: &Facts<'_>) -> String {
        let mut line = String::with_capacity(256);
        match self {
            Self::Text(pieces) => write(pieces, entry, facts, &mut line),
            Self::Json(fields) => {
                let mut between = '{';
                for (key, pieces) in fields {
                    let mut text = String::new();
                    write(pieces, entry, facts, &mut text);
                    let number = matches!(
                        pieces[..],
                        [Piece::Value(
                            Value::Code | Value::BytesReceived | Value::BytesSent | Value::Duration
                        )]
                    );
                    // Writing to a string cannot fail.
                    let _ = match (number, text.as_str()) {
                        (_, "-") => write!(line, "{between}\"{key}\":null"),
                        (true, number) => write!(line, "{between}\"{key}\":{number}"),
                        (false, text) => write!(line, "{between}\"{key}\":\"{}\"", escaped(text)),
                    };
                    between = ',';
                }
                line.push('}');
            }
        }
        line.push('\n');
        line
    }
}

fn built_in(text: &str) -> Vec<Piece> {
    pieces(text).unwrap_or_default()
}

fn write(pieces: &[Piece], entry: &Entry, facts: &Facts<'_>, line: &mut String) {
    for piece in pieces {
        match piece {
            Piece::Literal(text) => line.push_str(text),
            Piece::Value(value) => match told(value, entry, facts) {
                Some(text) if !text.is_empty() => line.push_str(&text),
                Some(_) | None => line.push('-'),
            },
        }
    }
}

fn told(value: &Value, entry: &Entry, facts: &Facts<'_>) -> Option<String> {
    let millis = |time: Duration| time.as_millis().to_string();
    match value {
        Value::Absent => None,
        Value::AttemptCount => Some(entry.attempts.to_string()),
        Value::BytesReceived => Some(facts.request_bytes.to_string()),
        Value::BytesSent => Some(facts.response_bytes.to_string()),
        Value::Cluster => entry.cluster.as_deref().map(str::to_owned),
        Value::Code => Some(facts.code.to_string()),
        Value::Details => entry.details.as_deref().map(one_word),
        Value::DownstreamLocal => entry.local.map(|address| address.to_string()),
        Value::DownstreamRemote => entry.remote.map(|address| address.to_string()),
        Value::Duration => Some(millis(facts.took)),
        Value::Flags => Some(facts.flags.to_owned()),
        Value::GrpcStatus => facts.grpc.map(|status| status.to_string()),
        Value::Host => entry.endpoint.as_deref().map(str::to_owned),
        Value::Protocol => Some(protocol(entry.version).to_owned()),
        Value::Request(first, other, length) => {
            let found = of_request(entry, first);
            let found = found.or_else(|| of_request(entry, other.as_deref()?));
            found.map(|text| cut(&text, *length))
        }
        Value::Response(first, other, length) => {
            let found = header(&entry.response, first);
            let found = found.or_else(|| header(&entry.response, other.as_ref()?));
            found.map(|text| cut(&text, *length))
        }
        Value::ResponseDuration => facts.waited.map(millis),
        Value::Route => entry.route.as_deref().map(str::to_owned),
        Value::ServerName => entry.server_name.as_deref().map(visible),
        Value::StartTime => Some(time::rfc3339(entry.began)),
        Value::StartTimeAs(stamps) => Some(time::stamped(entry.began, stamps)),
        Value::Trailer(first, other, length) => {
            let found = header(&entry.trailers, first);
            let found = found.or_else(|| header(&entry.trailers, other.as_ref()?));
            found.map(|text| cut(&text, *length))
        }
        Value::TransportFailure => entry.failure.as_deref().map(one_word),
    }
}

/// In Envoy's words.
pub(super) fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    }
}

fn of_request(entry: &Entry, name: &str) -> Option<String> {
    match name {
        ":METHOD" => Some(entry.method.to_string()),
        ":PATH" => Some(visible(&entry.path)),
        ":AUTHORITY" => Some(visible(&entry.authority)),
        name => header(&entry.request, &name.to_ascii_lowercase().parse().ok()?),
    }
}

fn header(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let value = headers.get(name)?;
    Some(visible(&String::from_utf8_lossy(value.as_bytes())))
}

/// What a caller writes must not be able to end a line or a quoted text.
fn visible(text: &str) -> String {
    let shown = |c: char| if c.is_control() || c == '"' { '_' } else { c };
    text.chars().take(LONGEST).map(shown).collect()
}

/// As Envoy writes details: without spaces.
fn one_word(text: &str) -> String {
    visible(text).replace(char::is_whitespace, "_")
}

fn cut(text: &str, length: Option<usize>) -> String {
    text.chars().take(length.unwrap_or(LONGEST)).collect()
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => escaped.push_str("\\\""),
            '\\' => escaped.push_str("\\\\"),
            c if c.is_control() => {
                let _ = write!(escaped, "\\u{:04x}", u32::from(c));
            }
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn istios_formats_are_read_whole() {
        let Format::Text(pieces) = Format::text() else {
            panic!("a text");
        };
        let values = pieces
            .iter()
            .filter(|piece| matches!(piece, Piece::Value(_)));
        assert_eq!(values.count(), 24);
        let Format::Json(fields) = Format::json() else {
            panic!("JSON");
        };
        assert!(fields.iter().all(|(_, pieces)| pieces.len() == 1));
    }

    #[test]
    fn slips_in_a_format_are_told_with_what_is_known() {
        for (text, why) in [
            (
                "%RESPONSE_COD%",
                "unknown operator %RESPONSE_COD%; known are ATTEMPT_COUNT",
            ),
            ("%REQ(X-A", "is not closed"),
            ("%REQ(a b)%", "is no header"),
            ("%REQ(:SCHEME)%", "is no header"),
            ("%REQ(a):x%", "unknown operator"),
            ("%RESP(%", "unknown operator"),
            ("100%", "is not closed"),
            ("%START_TIME(%Y", "is not closed"),
            (
                "%START_TIME(%Q)%",
                "%START_TIME(%Q)% has a part that is not known; known are %Y",
            ),
            ("%START_TIME(%10f)%", "has a part that is not known"),
            ("%TRAILER(a b)%", "is no header"),
        ] {
            let error = Format::parse(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
        assert!(
            Format::parse("100%% %REQ(X-A?:PATH):10% %START_TIME(%F %T.%3f%z)% %TRAILER(A?B):9%")
                .is_ok()
        );
    }
}
