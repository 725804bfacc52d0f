//! Lines of logs in Envoy's command operators, read once.
//!
//! A text such as `%REQ(:METHOD)% %RESPONSE_CODE%` becomes pieces, of which the logs of `telemetry` make
//! a line for each request. It is here, and not there, because a source of configuration must be able to
//! say that a text is none, also where nothing is ever sent.

use http::HeaderName;

/// A part of a line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Piece {
    Literal(String),
    Value(Value),
}

/// What an operator stands for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Value {
    AttemptCount,
    BytesReceived,
    BytesSent,
    Cluster,
    Code,
    Details,
    DownstreamLocal,
    DownstreamRemote,
    Duration,
    Flags,
    GrpcStatus,
    Host,
    Protocol,
    /// A header or pseudo-header of the request, else another; cut to a length.
    Request(String, Option<String>, Option<usize>),
    Response(HeaderName, Option<HeaderName>, Option<usize>),
    ResponseDuration,
    Route,
    ServerName,
    StartTime,
    /// In a form of its own.
    StartTimeAs(Vec<Stamp>),
    Trailer(HeaderName, Option<HeaderName>, Option<usize>),
    /// Why no connection to the endpoint came to be.
    TransportFailure,
    /// Known, and never there on the side of a caller: `-`.
    Absent,
}

/// A part of a point in time, in UTC.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Stamp {
    Literal(String),
    Day,
    /// So many digits of the second's fraction, at most nine.
    Fraction(usize),
    Hour,
    Minute,
    Month,
    Second,
    /// Since 1970.
    Seconds,
    Year,
}

/// Reads a form of a point in time, as C's `strftime` has it and Envoy's `%3f` beside.
fn stamps(form: &str) -> Result<Vec<Stamp>, String> {
    let mut found = Vec::new();
    let mut rest = form;
    while let Some((before, after)) = rest.split_once('%') {
        if !before.is_empty() {
            found.push(Stamp::Literal(before.to_owned()));
        }
        let literal = |text: &str| Stamp::Literal(text.to_owned());
        let mut letters = after.chars();
        match letters.next() {
            Some('%') => found.push(literal("%")),
            Some('d') => found.push(Stamp::Day),
            Some('F') => {
                let date = [
                    Stamp::Year,
                    literal("-"),
                    Stamp::Month,
                    literal("-"),
                    Stamp::Day,
                ];
                found.extend(date);
            }
            Some('f') => found.push(Stamp::Fraction(9)),
            Some('H') => found.push(Stamp::Hour),
            Some('M') => found.push(Stamp::Minute),
            Some('m') => found.push(Stamp::Month),
            Some('S') => found.push(Stamp::Second),
            Some('s') => found.push(Stamp::Seconds),
            Some('T') => {
                let time = [
                    Stamp::Hour,
                    literal(":"),
                    Stamp::Minute,
                    literal(":"),
                    Stamp::Second,
                ];
                found.extend(time);
            }
            Some('Y') => found.push(Stamp::Year),
            Some('Z') => found.push(literal("UTC")),
            Some('z') => found.push(literal("+0000")),
            Some(digit @ '1'..='9') if letters.next() == Some('f') => {
                found.push(Stamp::Fraction(digit as usize - '0' as usize));
            }
            _ => {
                return Err(format!(
                    "%START_TIME({form})% has a part that is not known; known are %Y %m %d %F %H %M %S %T %f %1f to \
                     %9f %s %z %Z %%"
                ));
            }
        }
        rest = letters.as_str();
    }
    if !rest.is_empty() {
        found.push(Stamp::Literal(rest.to_owned()));
    }
    Ok(found)
}

/// Reads a text.
///
/// # Errors
/// An operator that is not known, with those that are, or not closed.
pub(crate) fn pieces(text: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        if !before.is_empty() {
            pieces.push(Piece::Literal(before.to_owned()));
        }
        if let Some(after) = after.strip_prefix('%') {
            pieces.push(Piece::Literal("%".to_owned()));
            rest = after;
            continue;
        }
        // Of all operators this one has percent signs within.
        if let Some(form) = after.strip_prefix("START_TIME(") {
            let (form, after) = form
                .split_once(")%")
                .ok_or_else(|| format!("the operator %{after} is not closed"))?;
            pieces.push(Piece::Value(Value::StartTimeAs(stamps(form)?)));
            rest = after;
            continue;
        }
        let (operator, after) = after
            .split_once('%')
            .ok_or_else(|| format!("the operator %{after} is not closed; %% is a percent sign"))?;
        pieces.push(Piece::Value(value(operator)?));
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Literal(rest.to_owned()));
    }
    Ok(pieces)
}

/// The operators without an argument.
const PLAIN: [(&str, Value); 23] = [
    ("ATTEMPT_COUNT", Value::AttemptCount),
    ("BYTES_RECEIVED", Value::BytesReceived),
    ("BYTES_SENT", Value::BytesSent),
    ("CONNECTION_TERMINATION_DETAILS", Value::Absent),
    ("DOWNSTREAM_LOCAL_ADDRESS", Value::DownstreamLocal),
    ("DOWNSTREAM_REMOTE_ADDRESS", Value::DownstreamRemote),
    ("DURATION", Value::Duration),
    ("GRPC_STATUS", Value::GrpcStatus),
    ("PROTOCOL", Value::Protocol),
    ("REQUESTED_SERVER_NAME", Value::ServerName),
    ("RESPONSE_CODE", Value::Code),
    ("RESPONSE_CODE_DETAILS", Value::Details),
    ("RESPONSE_DURATION", Value::ResponseDuration),
    ("RESPONSE_FLAGS", Value::Flags),
    ("ROUTE_NAME", Value::Route),
    ("START_TIME", Value::StartTime),
    ("UPSTREAM_CLUSTER", Value::Cluster),
    ("UPSTREAM_CLUSTER_RAW", Value::Cluster),
    ("UPSTREAM_HOST", Value::Host),
    ("UPSTREAM_LOCAL_ADDRESS", Value::Absent),
    ("UPSTREAM_REMOTE_ADDRESS", Value::Host),
    ("UPSTREAM_REQUEST_ATTEMPT_COUNT", Value::AttemptCount),
    ("UPSTREAM_TRANSPORT_FAILURE_REASON", Value::TransportFailure),
];

fn value(operator: &str) -> Result<Value, String> {
    if let Some((_, value)) = PLAIN.iter().find(|(name, _)| *name == operator) {
        return Ok(value.clone());
    }
    let unknown = || {
        let names: Vec<&str> = PLAIN.iter().map(|(name, _)| *name).collect();
        format!(
            "unknown operator %{operator}%; known are {}, REQ(name?other):length, RESP(...), TRAILER(...) and \
             START_TIME(form)",
            names.join(", ")
        )
    };
    let (name, argument) = operator.split_once('(').ok_or_else(unknown)?;
    let (argument, length) = argument.split_once(')').ok_or_else(unknown)?;
    let length = match length.strip_prefix(':') {
        None if length.is_empty() => None,
        None => return Err(unknown()),
        Some(length) => Some(length.parse().map_err(|_| unknown())?),
    };
    let (first, other) = match argument.split_once('?') {
        Some((first, other)) => (first, Some(other)),
        None => (argument, None),
    };
    let header = |text: &str| {
        let name = text.to_ascii_lowercase().parse::<HeaderName>();
        name.map_err(|_| format!("{text:?} in %{operator}% is no header"))
    };
    match name {
        "REQ" => {
            for text in std::iter::once(first).chain(other) {
                if !matches!(text, ":METHOD" | ":PATH" | ":AUTHORITY") {
                    header(text)?;
                }
            }
            Ok(Value::Request(
                first.to_owned(),
                other.map(str::to_owned),
                length,
            ))
        }
        "RESP" => Ok(Value::Response(
            header(first)?,
            other.map(header).transpose()?,
            length,
        )),
        "TRAILER" => Ok(Value::Trailer(
            header(first)?,
            other.map(header).transpose()?,
            length,
        )),
        _ => Err(unknown()),
    }
}
