//! Spans through OpenTelemetry's interface; the SDK and its exporters are the application's.

use std::sync::Arc;

use http::{HeaderMap, Request};
use opentelemetry::global::BoxedTracer;
use opentelemetry::trace::{
    SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags, TraceId,
    TraceState, Tracer as _,
};
use opentelemetry::{Context, ContextGuard, Key, KeyValue};

use super::Parent;
use crate::model::Fraction;
use crate::model::telemetry::{TagValue, Tracing as Said};
use crate::random::Random;

/// Makes spans, if it was given a tracer.
#[derive(Clone, Debug)]
pub(crate) struct Tracing {
    tracer: Option<Arc<BoxedTracer>>,
    /// Which share of the traces that begin here is sampled.
    share: Fraction,
    own: Arc<[KeyValue]>,
    random: Random,
}

/// Makes a span the active one of this thread, until what is returned is dropped: spans that the service
/// makes are its children.
#[cfg(feature = "inbound")]
pub(crate) fn enter(span: Option<&Span>) -> Option<ContextGuard> {
    span.map(|span| span.context.clone().attach())
}

/// A span that is under way. Clones are the same span.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    tracer: Arc<BoxedTracer>,
    context: Context,
    /// In whose words it is told.
    before: Option<Parent>,
    /// Whether the callee is told of it.
    propagates: bool,
}

impl Tracing {
    /// `own`: what every span says of this process.
    pub(crate) fn new(
        tracer: Option<BoxedTracer>,
        share: Fraction,
        own: Vec<KeyValue>,
        random: Random,
    ) -> Self {
        Self {
            tracer: tracer.map(Arc::new),
            share,
            own: own.into(),
            random,
        }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.tracer.is_some()
    }

    /// Whether there are spans, as the configuration says.
    pub(crate) fn reports(&self, said: &Said) -> bool {
        self.is_on() && said.reporting
    }

    /// The client span of a call.
    pub(crate) fn call<B>(
        &self,
        request: &Request<B>,
        inherited: Option<&Parent>,
        said: &Said,
    ) -> Option<Span> {
        self.reports(said).then_some(())?;
        let told = Parent::of(request.headers());
        let active = Context::current();
        let active = active.has_active_span().then_some(active);
        let before = told.as_ref().or(inherited).cloned();
        let context = match (told, active) {
            (None, Some(active)) if active.span().span_context().is_valid() => active,
            (told, _) => remote(told.as_ref().or(inherited)),
        };
        self.span(SpanKind::Client, request, (context, before), said)
    }

    /// The server span of a request that arrives.
    #[cfg(feature = "inbound")]
    pub(crate) fn arrived<B>(&self, request: &Request<B>, said: &Said) -> Option<Span> {
        self.reports(said).then_some(())?;
        let before = Parent::of(request.headers());
        let context = remote(before.as_ref());
        self.span(SpanKind::Server, request, (context, before), said)
    }

    fn span<B>(
        &self,
        kind: SpanKind,
        request: &Request<B>,
        (parent, before): (Context, Option<Parent>),
        said: &Said,
    ) -> Option<Span> {
        let tracer = self.tracer.as_ref()?;
        let known = parent.span().span_context().is_valid();
        let undecided = match &before {
            Some(before) => before.sampled.is_none(),
            None => !known,
        };
        let share = said.sampling.unwrap_or(self.share);
        if undecided && !share.includes(self.random.below(1_000_000)) {
            return None;
        }
        let method = request.method().as_str().to_owned();
        let own: &[KeyValue] = if said.istio_tags { &self.own } else { &[] };
        let mut attributes = own.to_vec();
        attributes.extend([
            KeyValue::new("component", "proxy"),
            KeyValue::new("http.method", method.clone()),
            KeyValue::new("http.url", request.uri().to_string()),
        ]);
        attributes.extend(tags(said, request.headers()));
        let host = request.uri().host().unwrap_or_default();
        let builder = SpanBuilder::from_name(format!("{method} {host}"))
            .with_kind(kind)
            .with_attributes(attributes);
        let span = tracer.build_with_context(builder, &parent);
        Some(Span {
            tracer: tracer.clone(),
            context: parent.with_span(span),
            before,
            propagates: said.propagation,
        })
    }
}

/// The longest value of a tag that a caller writes, in characters (Istio's `max_path_tag_length`).
const LONGEST: usize = 256;

/// The tags that a configuration asks for.
fn tags<'a>(said: &'a Said, headers: &'a HeaderMap) -> impl Iterator<Item = KeyValue> + 'a {
    said.tags.iter().filter_map(|(name, value)| {
        let value = match value {
            // Made when the request is over.
            TagValue::Line(_) => return None,
            TagValue::Literal(text) => text.to_string(),
            TagValue::Environment { name, default } => std::env::var(&**name)
                .ok()
                .or_else(|| default.as_deref().map(str::to_owned))?,
            TagValue::Header { name, default } => {
                let found = headers.get(name).and_then(|value| value.to_str().ok());
                found
                    .map(|text| text.chars().take(LONGEST).collect())
                    .or_else(|| default.as_deref().map(str::to_owned))?
            }
        };
        Some(KeyValue::new(name.to_string(), value))
    })
}

fn remote(parent: Option<&Parent>) -> Context {
    let Some(parent) = parent else {
        return Context::new();
    };
    let state = parent
        .state()
        .and_then(|text| text.parse::<TraceState>().ok());
    let flags = match parent.sampled {
        Some(false) => TraceFlags::default(),
        // Who has not decided leaves it to this one, and that was decided before.
        Some(true) | None => TraceFlags::SAMPLED,
    };
    Context::new().with_remote_span_context(SpanContext::new(
        TraceId::from_bytes(parent.trace.to_be_bytes()),
        SpanId::from_bytes(parent.span.to_be_bytes()),
        flags,
        true,
        state.unwrap_or_default(),
    ))
}

impl Span {
    /// A child for one try.
    pub(crate) fn attempt(&self, number: u32) -> Self {
        let builder = SpanBuilder::from_name(format!("attempt {number}"))
            .with_kind(SpanKind::Client)
            .with_attributes([KeyValue::new("http.resend_count", i64::from(number) - 1)]);
        let span = self.tracer.build_with_context(builder, &self.context);
        Self {
            tracer: self.tracer.clone(),
            context: self.context.with_span(span),
            before: self.before.clone(),
            propagates: self.propagates,
        }
    }

    /// Tells the callee under which span it works.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        if let (Some(parent), true) = (self.parent(), self.propagates) {
            parent.write(headers);
        }
    }

    /// The span as the parent of others.
    pub(crate) fn parent(&self) -> Option<Parent> {
        let span = self.context.span();
        let context = span.span_context();
        context.is_valid().then(|| {
            Parent::new(
                u128::from_be_bytes(context.trace_id().to_bytes()),
                u64::from_be_bytes(context.span_id().to_bytes()),
                context.is_sampled(),
                self.before.as_ref(),
            )
        })
    }

    /// Adds an attribute.
    pub(crate) fn note(&self, name: impl Into<Key>, value: impl Into<String>) {
        let span = self.context.span();
        if span.is_recording() {
            span.set_attribute(KeyValue::new(name, value.into()));
        }
    }

    /// Whether somebody keeps what it is told; who does not sample it need not be told.
    pub(crate) fn is_recording(&self) -> bool {
        self.context.span().is_recording()
    }

    /// Ends it, with what went wrong if something did.
    pub(crate) fn end(&self, failure: Option<&str>) {
        let span = self.context.span();
        if let Some(failure) = failure {
            span.set_status(Status::error(failure.to_owned()));
        }
        span.end();
    }
}
