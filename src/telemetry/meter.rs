//! One request that is being measured.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{HeaderMap, Response};
use http_body::Body as _;
use tokio::time::Instant;

use super::access::{Entry, Facts};
use super::cells::{Key, Measured};
use super::method::Method;
use super::series::Series;
use super::shape::Verb;
use super::trace::Span;
use crate::body::Body;
use crate::error::{Error, Flag};
use crate::layer::classify::grpc_status;

/// Who measures.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) enum Reporter {
    /// The callee.
    #[cfg_attr(
        not(feature = "inbound"),
        allow(dead_code, reason = "nothing arrives without it")
    )]
    Destination,
    /// The caller.
    Source,
}

impl Reporter {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Destination => "destination",
            Self::Source => "source",
        }
    }
}

/// What a request speaks, in Istio's words.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Protocol {
    Grpc,
    #[default]
    Http,
}

impl Protocol {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Http => "http",
        }
    }
}

/// The response flags of a request: the first three, which is one more than it ever has.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Flags([Option<Flag>; 3]);

impl Flags {
    pub(crate) fn raise(&mut self, flag: Flag) {
        if self.0.contains(&Some(flag)) {
            return;
        }
        if let Some(free) = self.0.iter_mut().find(|place| place.is_none()) {
            *free = Some(flag);
        }
    }

    pub(super) fn bits(self) -> u32 {
        let flags = self.0.iter().flatten();
        flags.fold(0, |bits, flag| bits.rotate_left(5) ^ (*flag as u32 + 1))
    }

    /// Envoy's letters, joined with commas; `-` if there is none.
    pub(super) fn text(self) -> String {
        let mut letters: Vec<&str> = self.0.iter().flatten().map(|flag| flag.code()).collect();
        letters.sort_unstable();
        if letters.is_empty() {
            "-".to_owned()
        } else {
            letters.join(",")
        }
    }
}

/// Measures one request from its begin to the last byte of its response, and records it when it is
/// dropped: also one whose caller went away.
#[derive(Debug)]
pub(crate) struct Meter {
    series: Arc<Series>,
    /// Of gRPC.
    method: Method,
    began: Instant,
    key: Key,
    request_bytes: u64,
    /// Of a request's body whose length nobody knew.
    uploaded: Option<Arc<AtomicU64>>,
    response_bytes: u64,
    ended: bool,
    /// How long all of it took, once that is known.
    took: Option<Duration>,
    /// When the last try of a gRPC call began, if there was one before.
    tried_since: Option<Instant>,
    /// How long the head of the response took.
    waited: Option<Duration>,
    /// Whether it counts in the series.
    counts: bool,
    entry: Option<Box<Entry>>,
    span: Option<Span>,
}

impl Meter {
    /// Begins to measure. Until [`serves`](Self::serves) says better it counts for `series`.
    pub(crate) fn new(series: &Arc<Series>, began: Instant, protocol: Protocol) -> Self {
        Self {
            series: series.clone(),
            method: Method::OTHER,
            began,
            key: Key {
                protocol,
                ..Key::default()
            },
            request_bytes: 0,
            uploaded: None,
            response_bytes: 0,
            ended: false,
            took: None,
            tried_since: None,
            waited: None,
            counts: true,
            entry: None,
            span: None,
        }
    }

    /// Tells of it in a log and a span too, and perhaps there only.
    pub(crate) fn with(
        mut self,
        counts: bool,
        entry: Option<Box<Entry>>,
        span: Option<Span>,
    ) -> Self {
        self.counts = counts;
        self.entry = entry;
        self.span = span;
        self
    }

    /// It is a call of this method of gRPC.
    pub(crate) fn calls(&mut self, method: Method) {
        self.method = method;
    }

    /// Tells requests apart by their method, as the configuration wants it.
    pub(crate) fn by_method(&mut self, method: &http::Method) {
        self.key.verb = Verb::of(method);
    }

    /// The span of the whole.
    pub(crate) fn span(&self) -> Option<&Span> {
        self.span.as_ref()
    }

    /// The route was found, and perhaps a cluster.
    pub(crate) fn decided(&mut self, route: &Arc<str>, cluster: Option<&Arc<str>>) {
        if let Some(entry) = &mut self.entry {
            entry.route = Some(route.clone());
            entry.cluster = cluster.cloned();
        }
        if let (Some(span), Some(cluster)) = (&self.span, cluster) {
            span.note("upstream_cluster", &**cluster);
        }
    }

    /// The route answers by itself.
    pub(crate) fn direct(&mut self) {
        if let Some(entry) = &mut self.entry {
            entry.details = Some("direct_response".to_owned());
        }
    }

    /// The tries are over.
    pub(crate) fn tried(&mut self, attempts: u32, endpoint: Option<&Arc<str>>) {
        if let Some(entry) = &mut self.entry {
            entry.attempts = attempts;
            entry.endpoint = endpoint.cloned();
        }
        if let (Some(span), Some(endpoint)) = (&self.span, endpoint) {
            span.note("peer.address", &**endpoint);
        }
    }

    /// The call was tried more than once, and this is when the try that answered began.
    pub(crate) fn tried_since(&mut self, began: Instant) {
        self.tried_since = Some(began);
    }

    /// Who serves the request.
    pub(crate) fn serves(&mut self, series: &Arc<Series>) {
        self.series.clone_from(series);
    }

    pub(crate) fn raise(&mut self, flag: Flag) {
        self.key.flags.raise(flag);
    }

    /// Finds out how many bytes the request's body has: at once, or, if nobody knows yet, by counting
    /// them as they are read, which costs an allocation.
    pub(crate) fn watch(&mut self, body: &mut Body) {
        match body.size_hint().exact() {
            Some(bytes) => self.request_bytes = bytes,
            None => {
                let count = Arc::<AtomicU64>::default();
                body.count_into(&count);
                self.uploaded = Some(count);
            }
        }
    }

    /// Takes the length of the request's body from its head.
    #[cfg(feature = "inbound")]
    pub(crate) fn announced(&mut self, headers: &HeaderMap) {
        let length = headers.get(http::header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
        self.request_bytes = length.unwrap_or_default();
    }

    /// The service failed, or its response broke off: the caller sees a reset.
    #[cfg(feature = "inbound")]
    pub(crate) fn broke(&mut self) {
        self.raise(Flag::LocalReset);
        self.ended = true;
    }

    /// The service switched protocols and its answer is replaced, for a reason that logs tell.
    #[cfg(feature = "inbound")]
    pub(crate) fn refused(&mut self, why: &'static str) {
        self.raise(Flag::LocalReset);
        if let Some(entry) = &mut self.entry {
            entry.details = Some(why.to_owned());
        }
    }

    /// A part of the response's body was handed on.
    pub(crate) fn received(&mut self, bytes: u64) {
        self.response_bytes = self.response_bytes.saturating_add(bytes);
    }

    /// The head of the response is here.
    pub(crate) fn answered<B>(&mut self, response: &Response<B>) {
        self.key.code = response.status().as_u16();
        if let Some(entry) = &mut self.entry {
            // Only a log tells it, so only a log pays for a look at the clock.
            self.waited = Some(self.began.elapsed());
            entry.answered(response.headers());
        }
        self.trailers(response.headers());
    }

    /// The response's trailers, or a head that may be all there is.
    pub(crate) fn trailers(&mut self, headers: &HeaderMap) {
        if self.key.protocol == Protocol::Grpc
            && let Some(status) = grpc_status(headers)
        {
            self.key.grpc = Some(u8::try_from(status).unwrap_or(2));
        }
    }

    /// The mesh answers with an error.
    pub(crate) fn failed(&mut self, error: &Error) {
        match self.key.protocol {
            // gRPC failures travel in HTTP's success.
            Protocol::Grpc => self.key.code = 200,
            Protocol::Http => self.key.code = error.status().as_u16(),
        }
        self.cut(error);
    }

    /// The response breaks off after its head.
    pub(crate) fn cut(&mut self, error: &Error) {
        if let Some(flag) = error.flag() {
            self.raise(flag);
        }
        if let Some(entry) = &mut self.entry {
            entry.details = Some(error.details().to_owned());
        }
        if self.key.protocol == Protocol::Grpc {
            self.key.grpc = Some(u8::try_from(error.grpc_status()).unwrap_or(2));
        }
        self.ended = true;
    }

    /// The response was read to its end; returns how long all of it took.
    pub(crate) fn ended(&mut self) -> Duration {
        self.ended = true;
        *self.took.get_or_insert_with(|| self.began.elapsed())
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if !self.ended {
            self.raise(Flag::DownstreamConnectionTermination);
        }
        let measured = Measured {
            took: self.took.unwrap_or_else(|| self.began.elapsed()),
            request_bytes: self
                .uploaded
                .as_ref()
                .map_or(self.request_bytes, |count| count.load(Ordering::Relaxed)),
            response_bytes: self.response_bytes,
        };
        if self.counts {
            match self.tried_since {
                Some(since) => {
                    let before = since.saturating_duration_since(self.began);
                    let last = measured.took.saturating_sub(before);
                    self.series
                        .record_repeated(self.method, self.key, measured, last);
                }
                None => self.series.record(self.method, self.key, measured),
            }
        }
        if self.entry.is_some() || self.span.is_some() {
            self.tell(&measured);
        }
    }
}

impl Meter {
    /// The line of the log and the end of the span.
    fn tell(&self, measured: &Measured) {
        let flags = self.key.flags.text();
        let facts = Facts {
            code: self.key.code,
            grpc: self.key.grpc,
            flags: &flags,
            request_bytes: measured.request_bytes,
            response_bytes: measured.response_bytes,
            took: measured.took,
            waited: self.waited,
        };
        if let Some(entry) = &self.entry {
            entry.write(&facts);
        }
        let Some(span) = &self.span else { return };
        if !span.is_recording() {
            return span.end(None);
        }
        for (name, text) in self.entry.iter().flat_map(|entry| entry.tags(&facts)) {
            span.note(name, text);
        }
        span.note("http.status_code", self.key.code.to_string());
        span.note("response_flags", flags.clone());
        if let Some(status) = self.key.grpc {
            span.note("grpc.status_code", status.to_string());
        }
        let failed =
            matches!(self.key.code, 0 | 500..) || self.key.grpc.is_some_and(|code| code != 0);
        span.end(failed.then_some(flags.as_str()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_kept_once_and_told_in_order() {
        let mut flags = Flags::default();
        assert_eq!(flags.text(), "-");
        for flag in [
            Flag::UpstreamRequestTimeout,
            Flag::DelayInjected,
            Flag::DelayInjected,
        ] {
            flags.raise(flag);
        }
        assert_eq!(flags.text(), "DI,UT");
    }
}
