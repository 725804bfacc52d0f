//! A line for each request, as Envoy writes it.
//!
//! People grep these lines for response flags and feed them to tools that know Istio's fields, so
//! formats and operators are Envoy's. A line is made when a request is over; what it needs of the
//! request (its head) is copied only where a log is wanted. Nobody waits for the disk or a pipe: lines go
//! through a bounded queue to one thread that writes, and what does not fit is dropped and counted.

mod entry;
mod format;
#[cfg(feature = "otel")]
mod records;
mod time;

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use super::series::Counter;
use crate::error::Error;
use crate::model::expression::Expression;
use crate::model::telemetry::{LineFormat, TagValue};
pub(crate) use entry::{Entry, Facts};
use format::Format;
#[cfg(feature = "otel")]
pub(crate) use records::{Emit, emit};

/// How many lines may wait to be written.
const QUEUE: usize = 1_024;

/// A log with a line for each call, in Envoy's words; given to
/// [`Builder::access_log`](crate::Builder::access_log).
///
/// ```
/// use meshwork::AccessLog;
///
/// let text = AccessLog::text();           // Istio's default, to stdout
/// let json = AccessLog::json();           // the same fields as JSON
/// let own = AccessLog::format("%REQ(:METHOD)% %RESPONSE_CODE% %RESPONSE_FLAGS%")?;
/// assert!(AccessLog::format("%RESPONSE_COD%").is_err());
/// # Ok::<(), meshwork::Error>(())
/// ```
pub struct AccessLog {
    format: Format,
    to: Box<dyn Write + Send>,
}

impl AccessLog {
    /// Istio's default text format, to stdout.
    #[must_use]
    pub fn text() -> Self {
        Self::of(Format::text())
    }

    /// Istio's default JSON format, to stdout.
    #[must_use]
    pub fn json() -> Self {
        Self::of(Format::json())
    }

    /// A format of Envoy's operators, to stdout; a line feed is added.
    ///
    /// # Errors
    /// If an operator is not known or not closed; all of those that are known are named.
    pub fn format(format: &str) -> Result<Self, Error> {
        Ok(Self::of(Format::parse(format)?))
    }

    /// Writes somewhere else. It is written from a thread of its own, a line at a time.
    #[must_use]
    pub fn to(self, to: impl Write + Send + 'static) -> Self {
        Self {
            to: Box::new(to),
            ..self
        }
    }

    fn of(format: Format) -> Self {
        Self {
            format,
            to: Box::new(std::io::stdout()),
        }
    }

    /// A file of a configuration, which is opened to append to it.
    ///
    /// # Errors
    /// That of the system.
    pub(crate) fn file(path: &str, format: &LineFormat) -> std::io::Result<Self> {
        let to: Box<dyn Write + Send> = match path {
            "/dev/stdout" => Box::new(std::io::stdout()),
            "/dev/stderr" => Box::new(std::io::stderr()),
            path => {
                let mut options = std::fs::OpenOptions::new();
                Box::new(options.create(true).append(true).open(path)?)
            }
        };
        Ok(Self {
            format: Format::of(format),
            to,
        })
    }

    /// Begins to write; the thread ends when the log is dropped.
    pub(crate) fn start(self) -> Log {
        let (sender, lines) = sync_channel::<String>(QUEUE);
        let mut to = self.to;
        let writer = std::thread::Builder::new()
            .name("meshwork-access-log".to_owned())
            .spawn(move || {
                for line in lines {
                    // Who reads the log sees that it ends; requests go on.
                    if to
                        .write_all(line.as_bytes())
                        .and_then(|()| to.flush())
                        .is_err()
                    {
                        return;
                    }
                }
            });
        if let Err(error) = &writer {
            tracing::error!(%error, "the access log cannot be written: no thread for it");
        }
        Log {
            out: Out::Lines(Lines {
                format: self.format,
                sender: Mutex::new(Some(sender)),
                writer: Mutex::new(writer.ok()),
            }),
            dropped: Counter::default(),
        }
    }
}

impl fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessLog")
            .field("format", &self.format)
            .finish_non_exhaustive()
    }
}

/// A log that is being written.
#[derive(Debug)]
pub(crate) struct Log {
    out: Out,
    pub(crate) dropped: Counter,
}

/// Where lines go.
#[derive(Debug)]
enum Out {
    Lines(Lines),
    #[cfg(feature = "otel")]
    Records(records::Records),
}

/// Lines for a thread that writes them.
#[derive(Debug)]
struct Lines {
    format: Format,
    // Locked to put a line into the queue, when its request is over.
    sender: Mutex<Option<SyncSender<String>>>,
    writer: Mutex<Option<std::thread::JoinHandle<()>>>,
}

/// A log, and which requests get a line in it.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) log: Arc<Log>,
    /// `None`: all.
    pub(crate) filter: Option<Expression>,
}

/// Tags of spans that are lines, by their names.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tags(Arc<[(String, Format)]>);

impl Tags {
    /// Those among the tags of a configuration, whose texts were read before.
    pub(crate) fn of(tags: &BTreeMap<Arc<str>, TagValue>) -> Self {
        let lines = tags.iter().filter_map(|(name, value)| match value {
            TagValue::Line(text) => Some((name.to_string(), Format::words(text))),
            TagValue::Environment { .. } | TagValue::Header { .. } | TagValue::Literal(_) => None,
        });
        Self(lines.collect())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Log {
    /// Records for a collector, with this body and these attributes.
    #[cfg(feature = "otel")]
    pub(crate) fn records(
        emit: Emit,
        body: &LineFormat,
        attributes: &BTreeMap<Arc<str>, Arc<str>>,
    ) -> Self {
        Self {
            out: Out::Records(records::Records::new(emit, body, attributes)),
            dropped: Counter::default(),
        }
    }

    fn has_trailers(&self) -> bool {
        match &self.out {
            Out::Lines(lines) => lines.format.has_trailers(),
            #[cfg(feature = "otel")]
            Out::Records(records) => records.has_trailers(),
        }
    }

    fn tell(&self, entry: &Entry, facts: &Facts<'_>) {
        match &self.out {
            Out::Lines(lines) => {
                if !lines.put(lines.format.line(entry, facts)) {
                    self.dropped.add(1);
                }
            }
            #[cfg(feature = "otel")]
            Out::Records(records) => records.tell(entry, facts),
        }
    }

    /// Ends it when all lines that wait are written.
    pub(crate) fn close(&self) {
        match &self.out {
            Out::Lines(lines) => lines.close(),
            // The exporter is the program's, and so is its end.
            #[cfg(feature = "otel")]
            Out::Records(_) => {}
        }
    }
}

impl Lines {
    /// Whether the line will be written.
    fn put(&self, line: String) -> bool {
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        sender.as_ref().is_some_and(|sender| {
            !matches!(
                sender.try_send(line),
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_))
            )
        })
    }

    fn close(&self) {
        drop(
            self.sender
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        let writer = self
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(writer) = writer {
            // A writer that panicked has said so.
            let _ = writer.join();
        }
    }
}
