//! What lines tell of one request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, Method, Request, Version};

use super::{Tags, Wanted, format};
use crate::error::Error;
use crate::model::expression::{Attribute, Attributes, Value};

/// What a line needs of a request; the rest is known when it is over.
#[derive(Debug)]
pub(crate) struct Entry {
    logs: Arc<[Wanted]>,
    pub(super) began: SystemTime,
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) authority: String,
    pub(super) version: Version,
    pub(super) request: HeaderMap,
    pub(super) response: HeaderMap,
    pub(super) trailers: HeaderMap,
    scheme: Option<&'static str>,
    pub(crate) cluster: Option<Arc<str>>,
    pub(crate) route: Option<Arc<str>>,
    pub(crate) endpoint: Option<Arc<str>>,
    pub(crate) details: Option<String>,
    /// Why no connection to the endpoint came to be.
    pub(super) failure: Option<String>,
    pub(crate) attempts: u32,
    /// Who asks, of a request that arrives.
    pub(crate) remote: Option<SocketAddr>,
    pub(crate) local: Option<SocketAddr>,
    pub(crate) server_name: Option<Arc<str>>,
    /// Whether the caller has proved who it is.
    pub(crate) proved: bool,
    /// What its span is told besides.
    pub(crate) tags: Tags,
    /// Trace and span, for records.
    #[cfg_attr(
        not(feature = "otel"),
        allow(dead_code, reason = "only records of OpenTelemetry have them")
    )]
    pub(crate) trace: Option<(u128, u64, bool)>,
}

/// What is known of a request when it is over.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) code: u16,
    pub(crate) grpc: Option<u8>,
    pub(crate) flags: &'a str,
    pub(crate) request_bytes: u64,
    pub(crate) response_bytes: u64,
    pub(crate) took: Duration,
    /// Until the head of the response.
    pub(crate) waited: Option<Duration>,
}

impl Entry {
    pub(crate) fn new<B>(logs: &Arc<[Wanted]>, request: &Request<B>) -> Box<Self> {
        let uri = request.uri();
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let host = request.headers().get(http::header::HOST);
        let host = host.and_then(|host| host.to_str().ok()).unwrap_or_default();
        Box::new(Self {
            logs: logs.clone(),
            began: SystemTime::now(),
            method: request.method().clone(),
            path: path.to_owned(),
            authority: uri
                .authority()
                .map_or(host, |authority| authority.as_str())
                .to_owned(),
            version: request.version(),
            request: request.headers().clone(),
            response: HeaderMap::new(),
            scheme: match uri.scheme_str() {
                Some("http") => Some("http"),
                Some("https") => Some("https"),
                Some(_) | None => None,
            },
            cluster: None,
            route: None,
            endpoint: None,
            details: None,
            failure: None,
            trailers: HeaderMap::new(),
            attempts: 0,
            remote: None,
            local: None,
            server_name: None,
            proved: false,
            tags: Tags::default(),
            trace: None,
        })
    }

    /// The head of the response.
    pub(crate) fn answered(&mut self, headers: &HeaderMap) {
        self.response.clone_from(headers);
        self.details
            .get_or_insert_with(|| "via_upstream".to_owned());
    }

    /// The trailers of the response, which few lines tell: the others do not pay for a copy.
    pub(crate) fn ended(&mut self, trailers: &HeaderMap) {
        let mut tags = self.tags.0.iter();
        if self.logs.iter().any(|wanted| wanted.log.has_trailers())
            || tags.any(|(_, format)| format.has_trailers())
        {
            self.trailers.clone_from(trailers);
        }
    }

    /// The mesh fails the request, or its response breaks off.
    pub(crate) fn failed(&mut self, error: &Error) {
        self.details = Some(error.details().to_owned());
        self.failure = error.transport_failure();
    }

    /// The tags of its span that are lines.
    pub(crate) fn tags<'e>(
        &'e self,
        facts: &'e Facts<'_>,
    ) -> impl Iterator<Item = (String, String)> + 'e {
        let tags = self.tags.0.iter();
        tags.map(|(name, format)| (name.clone(), format.text_of(self, facts)))
    }

    /// Writes a line into each log that wants one.
    pub(crate) fn write(&self, facts: &Facts<'_>) {
        let known = Known { entry: self, facts };
        for Wanted { log, filter } in &*self.logs {
            if filter.as_ref().is_none_or(|filter| filter.holds(&known)) {
                log.tell(self, facts);
            }
        }
    }
}

/// All that a filter may ask about.
struct Known<'a> {
    entry: &'a Entry,
    facts: &'a Facts<'a>,
}

impl Attributes for Known<'_> {
    fn value(&self, of: &Attribute) -> Option<Value<'_>> {
        let Self { entry, facts } = self;
        let text = |text: &str| Value::Text(text.to_owned().into());
        let number = |number: u64| Value::Int(i64::try_from(number).unwrap_or(i64::MAX));
        let header = |headers: &HeaderMap, name: &http::HeaderName| {
            let value = headers.get(name)?;
            Some(text(&String::from_utf8_lossy(value.as_bytes())))
        };
        match of {
            Attribute::ConnectionMtls => Some(Value::Bool(entry.proved)),
            Attribute::ConnectionServerName => entry.server_name.as_deref().map(text),
            Attribute::DestinationAddress => entry.local.map(|one| text(&one.to_string())),
            Attribute::RequestDuration => Some(Value::Duration(facts.took)),
            Attribute::RequestHeader(name) => header(&entry.request, name),
            Attribute::RequestHost => Some(text(&entry.authority)),
            Attribute::RequestMethod => Some(text(entry.method.as_str())),
            Attribute::RequestPath => Some(text(&entry.path)),
            Attribute::RequestProtocol => Some(text(format::protocol(entry.version))),
            Attribute::RequestScheme => entry.scheme.map(text),
            Attribute::RequestSize => Some(number(facts.request_bytes)),
            Attribute::RequestUrlPath => {
                let path = entry.path.split('?').next();
                path.map(text)
            }
            Attribute::ResponseCode => Some(number(facts.code.into())),
            Attribute::ResponseDetails => entry.details.as_deref().map(text),
            Attribute::ResponseGrpcStatus => facts.grpc.map(|status| number(status.into())),
            Attribute::ResponseHeader(name) => header(&entry.response, name),
            Attribute::ResponseSize => Some(number(facts.response_bytes)),
            Attribute::SourceAddress => entry.remote.map(|one| text(&one.to_string())),
            Attribute::UpstreamAddress => entry.endpoint.as_deref().map(text),
            Attribute::ClusterName => entry.cluster.as_deref().map(text),
            Attribute::RouteName => entry.route.as_deref().map(text),
        }
    }
}
