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
    /// Known, and never there on the side of a caller: `-`.
    Absent,
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
const PLAIN: [(&str, Value); 21] = [
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
    ("UPSTREAM_REQUEST_ATTEMPT_COUNT", Value::AttemptCount),
];

fn value(operator: &str) -> Result<Value, String> {
    if let Some((_, value)) = PLAIN.iter().find(|(name, _)| *name == operator) {
        return Ok(value.clone());
    }
    if matches!(operator, "UPSTREAM_REMOTE_ADDRESS") {
        return Ok(Value::Host);
    }
    if operator == "UPSTREAM_TRANSPORT_FAILURE_REASON" {
        return Ok(Value::Absent);
    }
    let unknown = || {
        let names: Vec<&str> = PLAIN.iter().map(|(name, _)| *name).collect();
        format!(
            "unknown operator %{operator}%; known are {}, REQ(name?other):length and RESP(...)",
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
        _ => Err(unknown()),
    }
}
