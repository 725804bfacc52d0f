//! Conditions over what is known of a request that has ended, in the words of CEL.
//!
//! Istio's `accessLogging[].filter.expression` is an expression of the Common Expression Language over
//! [Envoy's attributes](https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/advanced/attributes).
//! What people write there is small: `response.code >= 400 || connection.mtls`. So the part of CEL
//! that such conditions are made of is here (comparisons, `&&`, `||`, `!`, `in`, `has`, and the four
//! methods of texts), checked for types when it is read, and everything else is refused by name: a
//! filter that is only half understood would drop the very lines that somebody looks for. A whole
//! implementation of CEL was rejected: its values are allocated for each request, and its time is
//! not bounded by the text.
//!
//! An attribute may be absent (`response.grpc_status` of a plain request). As in CEL, what is said of it is
//! then neither true nor false, `||` and `&&` ask their other side, and a whole that stays undecided
//! counts as false, as it does in Envoy.

mod parse;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use regex::Regex;
use thiserror::Error;

/// The longest expression, in bytes.
pub const LONGEST: usize = 4_096;

/// A condition that was read and whose types hold.
///
/// ```
/// use meshwork::model::expression::Expression;
///
/// assert!(Expression::parse("response.code >= 400 || has(response.grpc_status)").is_ok());
/// let error = Expression::parse("response.kode >= 400").unwrap_err();
/// assert!(error.to_string().contains("response.kode"));
/// ```
#[derive(Clone)]
pub struct Expression {
    text: Arc<str>,
    root: Arc<Node>,
}

/// Why a text is no condition.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{text} (at character {at})")]
pub struct Unreadable {
    /// What was found and what is allowed.
    pub text: String,
    /// Where, counted from 1.
    pub at: usize,
}

/// Something that is known of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Attribute {
    /// `connection.mtls`: whether the caller has proved who it is.
    ConnectionMtls,
    /// `connection.requested_server_name`: the SNI of the caller.
    ConnectionServerName,
    /// `destination.address`: where the request arrived, `ip:port`.
    DestinationAddress,
    /// `request.duration`: until the last byte of the response.
    RequestDuration,
    /// `request.headers['name']`.
    RequestHeader(http::HeaderName),
    /// `request.host`.
    RequestHost,
    /// `request.method`.
    RequestMethod,
    /// `request.path`, with its query.
    RequestPath,
    /// `request.protocol`, such as `HTTP/1.1`.
    RequestProtocol,
    /// `request.scheme`.
    RequestScheme,
    /// `request.size`: bytes of the body.
    RequestSize,
    /// `request.url_path`: the path without its query.
    RequestUrlPath,
    /// `response.code`.
    ResponseCode,
    /// `response.code_details`.
    ResponseDetails,
    /// `response.grpc_status`; absent unless the request is gRPC.
    ResponseGrpcStatus,
    /// `response.headers['name']`.
    ResponseHeader(http::HeaderName),
    /// `response.size`: bytes of the body.
    ResponseSize,
    /// `source.address`: where the request came from, `ip:port`.
    SourceAddress,
    /// `upstream.address`: who served it, `ip:port`.
    UpstreamAddress,
    /// `xds.cluster_name`.
    ClusterName,
    /// `xds.route_name`.
    RouteName,
}

/// The names of attributes, in the order of the alphabet; those of headers are followed by `['name']`.
static NAMES: [(&str, Attribute, Type); 22] = [
    ("connection.mtls", Attribute::ConnectionMtls, Type::Bool),
    (
        "connection.requested_server_name",
        Attribute::ConnectionServerName,
        Type::Text,
    ),
    (
        "destination.address",
        Attribute::DestinationAddress,
        Type::Text,
    ),
    (
        "request.duration",
        Attribute::RequestDuration,
        Type::Duration,
    ),
    ("request.host", Attribute::RequestHost, Type::Text),
    (
        "request.id",
        Attribute::RequestHeader(http::HeaderName::from_static("x-request-id")),
        Type::Text,
    ),
    ("request.method", Attribute::RequestMethod, Type::Text),
    ("request.path", Attribute::RequestPath, Type::Text),
    ("request.protocol", Attribute::RequestProtocol, Type::Text),
    (
        "request.referer",
        Attribute::RequestHeader(http::header::REFERER),
        Type::Text,
    ),
    ("request.scheme", Attribute::RequestScheme, Type::Text),
    ("request.size", Attribute::RequestSize, Type::Int),
    ("request.url_path", Attribute::RequestUrlPath, Type::Text),
    (
        "request.useragent",
        Attribute::RequestHeader(http::header::USER_AGENT),
        Type::Text,
    ),
    ("response.code", Attribute::ResponseCode, Type::Int),
    (
        "response.code_details",
        Attribute::ResponseDetails,
        Type::Text,
    ),
    (
        "response.grpc_status",
        Attribute::ResponseGrpcStatus,
        Type::Int,
    ),
    ("response.size", Attribute::ResponseSize, Type::Int),
    ("source.address", Attribute::SourceAddress, Type::Text),
    ("upstream.address", Attribute::UpstreamAddress, Type::Text),
    ("xds.cluster_name", Attribute::ClusterName, Type::Text),
    ("xds.route_name", Attribute::RouteName, Type::Text),
];

/// What an attribute or a part of an expression is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    Bool,
    Duration,
    Int,
    Text,
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bool => "a boolean",
            Self::Duration => "a duration",
            Self::Int => "a number",
            Self::Text => "a text",
        })
    }
}

/// A value at one moment.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value<'a> {
    /// True or false.
    Bool(bool),
    /// A time that passed.
    Duration(Duration),
    /// A whole number.
    Int(i64),
    /// A text.
    Text(Cow<'a, str>),
}

/// Who knows the attributes of a request.
pub trait Attributes {
    /// The value of one; `None`: it is absent.
    fn value(&self, of: &Attribute) -> Option<Value<'_>>;
}

/// A part of an expression.
#[derive(Clone, Debug)]
enum Node {
    And(Box<Node>, Box<Node>),
    Attribute(Attribute),
    Compare(Comparison, Box<Node>, Box<Node>),
    Has(Attribute),
    In(Box<Node>, Vec<Node>),
    Literal(Value<'static>),
    Matches(Box<Node>, Regex),
    Not(Box<Node>),
    Or(Box<Node>, Box<Node>),
    Text(Method, Box<Node>, Box<Node>),
}

/// How two values of one type are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    NotEqual,
}

/// What is asked of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Contains,
    EndsWith,
    StartsWith,
}

impl Expression {
    /// Reads a condition.
    ///
    /// # Errors
    /// If it is longer than [`LONGEST`], no condition, or uses something of CEL or of Envoy's attributes
    /// that is not known here: what, where, and what is.
    pub fn parse(text: &str) -> Result<Self, Unreadable> {
        Ok(Self {
            root: Arc::new(parse::condition(text)?),
            text: text.into(),
        })
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it holds for a request. Time: linear in the expression, and in the texts that it asks
    /// about.
    #[must_use]
    pub fn holds(&self, request: &dyn Attributes) -> bool {
        self.root.truth(request) == Some(true)
    }
}

impl Node {
    fn truth(&self, request: &dyn Attributes) -> Option<bool> {
        match self.value(request)? {
            Value::Bool(value) => Some(value),
            // Types were checked when it was read.
            Value::Duration(_) | Value::Int(_) | Value::Text(_) => None,
        }
    }

    fn value<'a>(&'a self, request: &'a dyn Attributes) -> Option<Value<'a>> {
        let truth = match self {
            Self::Literal(value) => return Some(value.clone()),
            Self::Attribute(attribute) => return request.value(attribute),
            Self::And(one, other) => match (one.truth(request), other.truth(request)) {
                (Some(false), _) | (_, Some(false)) => false,
                (one, other) => one? && other?,
            },
            Self::Or(one, other) => match (one.truth(request), other.truth(request)) {
                (Some(true), _) | (_, Some(true)) => true,
                (one, other) => one? || other?,
            },
            Self::Not(inner) => !inner.truth(request)?,
            Self::Has(attribute) => request.value(attribute).is_some(),
            Self::In(needle, list) => {
                let needle = needle.value(request)?;
                let mut values = list.iter().filter_map(|item| item.value(request));
                values.any(|item| item == needle)
            }
            Self::Matches(text, regex) => regex.is_match(&text.text(request)?),
            Self::Text(method, text, part) => {
                let (text, part) = (text.text(request)?, part.text(request)?);
                match method {
                    Method::Contains => text.contains(&*part),
                    Method::EndsWith => text.ends_with(&*part),
                    Method::StartsWith => text.starts_with(&*part),
                }
            }
            Self::Compare(how, one, other) => {
                how.holds(order(&one.value(request)?, &other.value(request)?)?)
            }
        };
        Some(Value::Bool(truth))
    }

    fn text<'a>(&'a self, request: &'a dyn Attributes) -> Option<Cow<'a, str>> {
        match self.value(request)? {
            Value::Text(text) => Some(text),
            Value::Bool(_) | Value::Duration(_) | Value::Int(_) => None,
        }
    }
}

fn order(one: &Value<'_>, other: &Value<'_>) -> Option<Ordering> {
    match (one, other) {
        (Value::Bool(one), Value::Bool(other)) => Some(one.cmp(other)),
        (Value::Duration(one), Value::Duration(other)) => Some(one.cmp(other)),
        (Value::Int(one), Value::Int(other)) => Some(one.cmp(other)),
        (Value::Text(one), Value::Text(other)) => Some(one.cmp(other)),
        // Types were checked when it was read.
        (Value::Bool(_) | Value::Duration(_) | Value::Int(_) | Value::Text(_), _) => None,
    }
}

impl Comparison {
    fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Equal => order.is_eq(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::NotEqual => order.is_ne(),
        }
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Expression {}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.text).finish()
    }
}
