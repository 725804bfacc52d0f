//! Lines as records of OpenTelemetry; the SDK, its queue and its exporter are the application's.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use opentelemetry::logs::{LogRecord as _, Logger, Severity};
use opentelemetry::{SpanId, TraceFlags, TraceId};

use super::entry::{Entry, Facts};
use super::format::Format;
use crate::model::telemetry::LineFormat;

/// Hands a record to a logger, whose type is not known here.
pub(crate) type Emit = Arc<dyn Fn(Record<'_>) + Send + Sync>;

/// One request, as a record.
#[derive(Debug)]
pub(crate) struct Record<'a> {
    entry: &'a Entry,
    code: u16,
    body: String,
    attributes: Vec<(String, String)>,
}

/// How records are made, and who takes them.
pub(super) struct Records {
    emit: Emit,
    body: Format,
    attributes: Format,
}

/// How records come to this logger.
pub(crate) fn emit<L>(logger: L) -> Emit
where
    L: Logger + Send + Sync + 'static,
{
    Arc::new(move |told: Record<'_>| {
        let mut record = logger.create_log_record();
        record.set_timestamp(told.entry.began);
        let (severity, text) = match told.code {
            0 | 500.. => (Severity::Error, "ERROR"),
            _ => (Severity::Info, "INFO"),
        };
        record.set_severity_number(severity);
        record.set_severity_text(text);
        record.set_body(told.body.into());
        record.add_attributes(told.attributes);
        if let Some((trace, span, sampled)) = told.entry.trace {
            let flags = if sampled {
                TraceFlags::SAMPLED
            } else {
                TraceFlags::default()
            };
            record.set_trace_context(
                TraceId::from_bytes(trace.to_be_bytes()),
                SpanId::from_bytes(span.to_be_bytes()),
                Some(flags),
            );
        }
        logger.emit(record);
    })
}

impl Records {
    pub(super) fn new(
        emit: Emit,
        body: &LineFormat,
        attributes: &BTreeMap<Arc<str>, Arc<str>>,
    ) -> Self {
        Self {
            emit,
            body: Format::of(body),
            attributes: Format::of(&LineFormat::Labels(attributes.clone())),
        }
    }

    pub(super) fn has_trailers(&self) -> bool {
        self.body.has_trailers() || self.attributes.has_trailers()
    }

    pub(super) fn tell(&self, entry: &Entry, facts: &Facts<'_>) {
        let body = self.body.values(entry, facts);
        (self.emit)(Record {
            entry,
            code: facts.code,
            body: body.into_iter().map(|(_, text)| text).collect(),
            attributes: self.attributes.values(entry, facts),
        });
    }
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records")
            .field("body", &self.body)
            .field("attributes", &self.attributes)
            .finish_non_exhaustive()
    }
}
