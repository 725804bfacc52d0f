//! A line for each request, as Envoy writes it.
//!
//! People grep these lines for response flags and feed them to tools that know Istio's fields, so
//! formats and operators are Envoy's. A line is made when a request is over; what it needs of the
//! request (its head) is copied only where a log is wanted. Nobody waits for the disk or a pipe: lines go
//! through a bounded queue to one thread that writes, and what does not fit is dropped and counted.

mod format;
mod time;

use std::fmt;
use std::io::Write;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use http::{HeaderMap, Method, Request, Version};

use super::series::Counter;
use crate::error::Error;
use format::Format;

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
            format: self.format,
            sender: Mutex::new(Some(sender)),
            writer: Mutex::new(writer.ok()),
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
    format: Format,
    // Locked to put a line into the queue, when its request is over.
    sender: Mutex<Option<SyncSender<String>>>,
    writer: Mutex<Option<std::thread::JoinHandle<()>>>,
    pub(crate) dropped: Counter,
}

/// What a line needs of a request; the rest is known when it is over.
#[derive(Debug)]
pub(crate) struct Entry {
    log: Arc<Log>,
    began: SystemTime,
    method: Method,
    path: String,
    authority: String,
    version: Version,
    request: HeaderMap,
    response: HeaderMap,
    pub(crate) cluster: Option<Arc<str>>,
    pub(crate) route: Option<Arc<str>>,
    pub(crate) endpoint: Option<Arc<str>>,
    pub(crate) details: Option<String>,
    pub(crate) attempts: u32,
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
    pub(crate) fn new<B>(log: &Arc<Log>, request: &Request<B>) -> Box<Self> {
        let uri = request.uri();
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let host = request.headers().get(http::header::HOST);
        let host = host.and_then(|host| host.to_str().ok()).unwrap_or_default();
        Box::new(Self {
            log: log.clone(),
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
            cluster: None,
            route: None,
            endpoint: None,
            details: None,
            attempts: 0,
        })
    }

    /// The head of the response.
    pub(crate) fn answered(&mut self, headers: &HeaderMap) {
        self.response.clone_from(headers);
        self.details
            .get_or_insert_with(|| "via_upstream".to_owned());
    }

    /// Writes the line.
    pub(crate) fn write(&self, facts: &Facts<'_>) {
        let line = self.log.format.line(self, facts);
        self.log.put(line);
    }
}

impl Log {
    fn put(&self, line: String) {
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        let full = sender.as_ref().is_none_or(|sender| {
            matches!(
                sender.try_send(line),
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_))
            )
        });
        if full {
            self.dropped.add(1);
        }
    }

    /// Ends it when all lines that wait are written.
    pub(crate) fn close(&self) {
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
