//! Without the feature `otel`: contexts are carried on, and there are no spans.

use http::{HeaderMap, Request};

use super::Parent;
use crate::model::telemetry::Tracing as Said;

/// Makes no spans.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tracing;

/// Nothing was entered.
#[cfg(feature = "inbound")]
pub(crate) struct Entered;

/// Enters nothing.
#[cfg(feature = "inbound")]
pub(crate) fn enter(_: Option<&Span>) -> Entered {
    Entered
}

/// There is none.
#[derive(Clone, Debug)]
pub(crate) enum Span {}

impl Tracing {
    pub(crate) fn is_on(&self) -> bool {
        false
    }

    pub(crate) fn reports(&self, _: &Said) -> bool {
        false
    }

    pub(crate) fn call<B>(&self, _: &Request<B>, _: Option<&Parent>, _: &Said) -> Option<Span> {
        None
    }

    #[cfg(feature = "inbound")]
    pub(crate) fn arrived<B>(&self, _: &Request<B>, _: &Said) -> Option<Span> {
        None
    }
}

impl Span {
    pub(crate) fn parent(&self) -> Option<Parent> {
        match *self {}
    }

    pub(crate) fn attempt(&self, _: u32) -> Self {
        match *self {}
    }

    pub(crate) fn write(&self, _: &mut HeaderMap) {
        match *self {}
    }

    pub(crate) fn note(&self, _: impl Into<String>, _: impl Into<String>) {
        match *self {}
    }

    pub(crate) fn is_recording(&self) -> bool {
        match *self {}
    }

    pub(crate) fn end(&self, _: Option<&str>) {
        match *self {}
    }
}
