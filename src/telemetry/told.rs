//! What is told of requests by the configuration in force, ready to be used.
//!
//! It is loaded by each request on its own, beside the snapshot that decides what becomes of it: what is
//! told does not change what happens, and a request must be told of also where no route is found. Logs
//! that two configurations have in common go on; one that nobody names any more ends when its last line is
//! written.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::Span;
use super::access::{AccessLog, Entry, Log, Tags, Wanted};
use crate::model;
use crate::model::telemetry::{LineFormat, Sink};

/// What is told on both sides.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) client: Side,
    #[cfg_attr(
        not(feature = "inbound"),
        allow(dead_code, reason = "nothing arrives without it")
    )]
    pub(crate) server: Side,
    /// As it was configured.
    pub(crate) model: Arc<model::Telemetry>,
    /// Whether some metric has the method as a label.
    pub(crate) methods: bool,
}

/// What is told on one side.
#[derive(Debug, Default)]
pub(crate) struct Side {
    pub(crate) logs: Arc<[Wanted]>,
    pub(crate) tracing: model::telemetry::Tracing,
    /// What spans are told when their requests are over.
    tags: Tags,
}

impl Side {
    /// What is kept of a request for logs and for the end of its span, if something is wanted.
    pub(crate) fn entry(
        &self,
        span: Option<&Span>,
        make: impl FnOnce(&Arc<[Wanted]>) -> Box<Entry>,
    ) -> Option<Box<Entry>> {
        let tags = !self.tags.is_empty() && span.is_some_and(Span::is_recording);
        if self.logs.is_empty() && !tags {
            return None;
        }
        let mut entry = make(&self.logs);
        if tags {
            entry.tags = self.tags.clone();
        }
        Some(entry)
    }
}

impl Told {
    /// Whether there are logs, tags that are lines, or metrics by method.
    pub(super) fn has_more(&self) -> bool {
        let more = |side: &Side| !side.logs.is_empty() || !side.tags.is_empty();
        more(&self.client) || more(&self.server) || self.methods
    }
}

/// The logs that configurations name.
#[derive(Debug, Default)]
pub(super) struct Logs {
    /// That of the program.
    pub(super) program: Option<Arc<Log>>,
    #[cfg(feature = "otel")]
    pub(super) emit: Option<ToLogger>,
    // Locked while a configuration is put in force.
    pub(super) open: Mutex<BTreeMap<Sink, Weak<Log>>>,
}

/// A logger of the program; its type has no `Debug`.
#[cfg(feature = "otel")]
pub(crate) struct ToLogger(pub(crate) super::access::Emit);

#[cfg(feature = "otel")]
impl std::fmt::Debug for ToLogger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Logger")
    }
}

impl Logs {
    /// What a configuration says, with its logs opened.
    pub(super) fn told(&self, model: &Arc<model::Telemetry>) -> Told {
        let mut told = Told {
            client: self.side(&model.client),
            server: self.side(&model.server),
            methods: model.asks_for_methods(),
            model: model.clone(),
        };
        // A program that logs means its calls.
        if let (None, Some(program)) = (&model.client.access_logs, &self.program) {
            told.client.logs = Arc::new([Wanted {
                log: program.clone(),
                filter: None,
            }]);
        }
        told
    }

    fn side(&self, model: &model::telemetry::Side) -> Side {
        let logs = model.access_logs.iter().flatten();
        let wanted = logs.filter_map(|logging| {
            Some(Wanted {
                log: self.log(&logging.sink)?,
                filter: logging.filter.clone(),
            })
        });
        Side {
            logs: wanted.collect(),
            tracing: model.tracing.clone(),
            tags: Tags::of(&model.tracing.tags),
        }
    }

    /// The log of a sink; `None`: it cannot be opened, which is told.
    fn log(&self, sink: &Sink) -> Option<Arc<Log>> {
        if let Sink::Program(other) = sink {
            return self.program.clone().or_else(|| self.log(other));
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, log| log.strong_count() > 0);
        if let Some(log) = open.get(sink).and_then(Weak::upgrade) {
            return Some(log);
        }
        let log = Arc::new(self.begin(sink)?);
        open.insert(sink.clone(), Arc::downgrade(&log));
        Some(log)
    }

    fn begin(&self, sink: &Sink) -> Option<Log> {
        match sink {
            Sink::File { path, format } => match AccessLog::file(path, format) {
                Ok(log) => Some(log.start()),
                Err(error) => {
                    tracing::error!(%error, %path, "the access log cannot be opened");
                    None
                }
            },
            Sink::OpenTelemetry { body, labels } => {
                let body = body.clone().map_or(LineFormat::Text, LineFormat::Words);
                self.records(&body, labels)
            }
            Sink::Program(other) => self.begin(other),
        }
    }

    #[cfg(feature = "otel")]
    fn records(&self, body: &LineFormat, labels: &BTreeMap<Arc<str>, Arc<str>>) -> Option<Log> {
        let Some(ToLogger(emit)) = &self.emit else {
            tracing::error!(
                "the configuration has an access log for OpenTelemetry, and the program gave no logger \
                 (Builder::logger)"
            );
            return None;
        };
        Some(Log::records(emit.clone(), body, labels))
    }

    #[cfg(not(feature = "otel"))]
    fn records(&self, _: &LineFormat, _: &BTreeMap<Arc<str>, Arc<str>>) -> Option<Log> {
        tracing::error!(
            "the configuration has an access log for OpenTelemetry, which needs the feature otel"
        );
        None
    }

    /// All that are open.
    pub(super) fn all(&self) -> Vec<Arc<Log>> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let open = open.values().filter_map(Weak::upgrade);
        self.program.iter().cloned().chain(open).collect()
    }
}
