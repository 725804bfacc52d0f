//! Why no response came.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::Request;

use super::secure::Unprepared;
use crate::body::Body;
use crate::error::{Error, Kind, Limit};

/// A request without a response.
#[derive(Debug)]
pub struct Unanswered {
    /// What happened.
    pub error: Error,
    /// The request, if no byte of it left this process and nothing of its body was read. It can
    /// be sent to any endpoint. `None` does not mean that it was processed: see
    /// [`Error::is_unprocessed`].
    pub unsent: Option<Request<Body>>,
}

/// Whether connecting failed for want of something on this side (file descriptors, memory, ports, an
/// [identity](Unprepared) to show), which says nothing about the endpoint: an outlier detector must
/// not count it.
///
/// ```
/// # fn outcome(error: &meshwork::Error) {
/// if meshwork::transport::is_exhausted(error) {
///     // wait and try again; no endpoint is to blame
/// }
/// # }
/// ```
#[must_use]
pub fn is_exhausted(error: &Error) -> bool {
    causes(error)
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| {
            matches!(
                cause.kind(),
                io::ErrorKind::AddrNotAvailable | io::ErrorKind::OutOfMemory
            ) || unprepared(cause).is_some()
                || cause
                    .raw_os_error()
                    .is_some_and(|code| EXHAUSTED.contains(&code))
        })
}

/// ENFILE, EMFILE, ENOBUFS: std has no [`io::ErrorKind`] for them.
#[cfg(any(target_os = "android", target_os = "linux"))]
const EXHAUSTED: &[i32] = &[23, 24, 105];
#[cfg(all(unix, not(any(target_os = "android", target_os = "linux"))))]
const EXHAUSTED: &[i32] = &[23, 24, 55];
/// WSAEMFILE, WSAENOBUFS.
#[cfg(not(unix))]
const EXHAUSTED: &[i32] = &[10_024, 10_055];

/// What this side had not to show, if that is why.
fn unprepared(error: &io::Error) -> Option<&Unprepared> {
    error.get_ref()?.downcast_ref()
}

fn causes<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

/// Why a request got no connection. It is cloned for each request that waited.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    Dial(Arc<DialFailure>),
    Overflow(Limit),
    Closed,
}

/// Why a connection could not be made.
#[derive(Debug)]
pub(super) enum DialFailure {
    /// The task of the connection ended before its time.
    Abandoned,
    /// The connection, or the peer's first HTTP/2 frame, took too long.
    Elapsed(Duration),
    Handshake(NoSettings),
    Io(io::Error),
    /// The stream could not be made secure.
    Secure(io::Error),
}

/// The connection ended before the peer had said that it speaks HTTP/2.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the connection ended before the peer's HTTP/2 SETTINGS; perhaps it speaks HTTP/1.1 only")]
pub(super) struct NoSettings {
    #[source]
    pub(super) cause: Option<Arc<hyper::Error>>,
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Dial(failure) => failure.error(),
            Failure::Overflow(limit) => Self::new(Kind::Overflow { limit }),
            Failure::Closed => Self::new(Kind::Draining),
        }
    }
}

impl DialFailure {
    fn error(&self) -> Error {
        match self {
            Self::Abandoned => Error::new(Kind::Connect)
                .caused_by("the connection's task panicked, or its runtime has ended"),
            Self::Elapsed(after) => Error::new(Kind::ConnectTimeout { after: *after }),
            Self::Handshake(cause) => Error::new(Kind::Connect).caused_by(cause.clone()),
            Self::Io(cause) => Error::new(Kind::Connect).caused_by(again(cause)),
            Self::Secure(cause) => Error::new(Kind::Secure).caused_by(again(cause)),
        }
    }
}

/// An error of the same kind, number and text: io errors cannot be cloned, and each request that
/// waited for the dial gets its own.
fn again(error: &io::Error) -> io::Error {
    match (error.raw_os_error(), unprepared(error)) {
        (Some(code), _) => io::Error::from_raw_os_error(code),
        (None, Some(lack)) => io::Error::new(error.kind(), lack.clone()),
        (None, None) => io::Error::new(error.kind(), error.to_string()),
    }
}

/// What a failed exchange means. hyper gives a request back if nothing of it was
/// [`sent`](Sent).
pub(super) fn classify(error: hyper::Error, sent: Sent) -> Error {
    let kind = match sent {
        Sent::No => Kind::Refused,
        Sent::Perhaps => kind_of(&error),
    };
    Error::new(kind).caused_by(error)
}

/// Whether anything of a request left this process.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Sent {
    No,
    Perhaps,
}

fn kind_of(error: &hyper::Error) -> Kind {
    for cause in causes(error) {
        if let Some(error) = cause.downcast_ref::<h2::Error>() {
            // GOAWAY reaches a stream only if its id is above the last one that the peer looked
            // at (RFC 9113 §6.8), so the request was not processed whatever the code says.
            let refused = error.is_go_away() && error.is_remote()
                || error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
            // hyper resets a stream itself when the caller's body fails.
            let own = error.is_reset() && !error.is_remote() && !error.is_library();
            return match (refused, own) {
                (true, _) => Kind::Refused,
                (false, true) => Kind::Body,
                (false, false) => Kind::Reset,
            };
        }
        if let Some(error) = cause.downcast_ref::<Error>() {
            return match error.is_body() {
                true => Kind::Body,
                false => Kind::Reset,
            };
        }
    }
    Kind::Reset
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn want_of_an_identity_is_no_fault_of_the_endpoint() {
        let lack = Unprepared::new("this side has no identity yet");
        let cause = io::Error::new(io::ErrorKind::PermissionDenied, lack);
        let error = Error::from(Failure::Dial(Arc::new(DialFailure::Secure(cause))));
        assert!(is_exhausted(&error) && error.is_tls());
        let other = io::Error::new(io::ErrorKind::PermissionDenied, "no trusted root");
        let error = Error::from(Failure::Dial(Arc::new(DialFailure::Secure(other))));
        assert!(!is_exhausted(&error) && error.is_tls());
    }

    #[test]
    fn i5_want_of_local_resources_is_told_from_an_endpoint_that_refuses() {
        let dial = |cause| Error::from(Failure::Dial(Arc::new(DialFailure::Io(cause))));
        for (row, cause, exhausted) in [
            ("EMFILE", io::Error::from_raw_os_error(EXHAUSTED[0]), true),
            ("no port", io::ErrorKind::AddrNotAvailable.into(), true),
            ("ENOMEM", io::ErrorKind::OutOfMemory.into(), true),
            ("refused", io::ErrorKind::ConnectionRefused.into(), false),
        ] {
            let text = cause.to_string();
            let error = dial(cause);
            assert_eq!(is_exhausted(&error), exhausted, "{row}");
            assert!(error.is_connect(), "{row}");
            assert_eq!(error.source().unwrap().to_string(), text, "{row}");
        }
        assert!(!is_exhausted(&Failure::Closed.into()));
    }
}
