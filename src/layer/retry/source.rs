use http::Request;

use crate::body::Body;
use crate::body::replay::{Buffers, Replay, Upload};

/// Makes a request again.
pub(super) struct Source {
    head: Request<()>,
    replay: Replay,
}

impl Source {
    /// Keeps what it takes to make `request` again; `None` if its body is known to be too large, so
    /// that nothing is cloned in vain.
    pub(super) fn of(request: &mut Request<Body>, buffers: &Buffers) -> Option<Self> {
        let body = std::mem::take(request.body_mut());
        let (first, replay) = Replay::tee(body, buffers);
        *request.body_mut() = first;
        // The copy is kept, the original goes: it has room for the headers of a try.
        replay.map(|replay| Self {
            head: head(request),
            replay,
        })
    }

    /// Whether the request can be made again after an answer, or after none.
    ///
    /// An answer that came while the upload was under way is final: the peer has decided without
    /// having seen the rest, and a repeat would upload what it did not want (linkerd's rule).
    pub(super) fn can_repeat(&self, answered: bool) -> bool {
        self.replay.can_repeat() && !(answered && self.replay.upload() == Upload::Running)
    }

    /// Whether the request can be made again while an earlier one is still under way: nothing of
    /// it may be left to read, since only the newest reads.
    pub(super) fn can_hedge(&self) -> bool {
        self.replay.can_repeat() && self.replay.upload() == Upload::Complete
    }

    /// The request once more.
    pub(super) fn again(&mut self) -> Option<Request<Body>> {
        let body = self.replay.attempt()?;
        Some(self.head.clone().map(|()| body))
    }

    /// The request for the last time: nothing is cloned, and nothing kept any more.
    pub(super) fn last(self) -> Option<Request<Body>> {
        let body = self.replay.last()?;
        Some(self.head.map(|()| body))
    }
}

/// A copy of all but the body.
fn head(request: &Request<Body>) -> Request<()> {
    let mut head = Request::new(());
    *head.method_mut() = request.method().clone();
    *head.uri_mut() = request.uri().clone();
    *head.version_mut() = request.version();
    *head.headers_mut() = request.headers().clone();
    *head.extensions_mut() = request.extensions().clone();
    head
}
