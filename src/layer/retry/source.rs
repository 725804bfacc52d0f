use http::Request;
use http::request::Parts;

use crate::body::Body;
use crate::body::replay::{Buffers, Replay, Upload};

/// Makes a request again.
pub(super) struct Source {
    parts: Parts,
    replay: Replay,
}

impl Source {
    /// The request for the first try, and what makes those for later ones; `None` if the body is
    /// known to be too large, so that nothing is cloned in vain.
    pub(super) fn new(request: Request<Body>, buffers: &Buffers) -> (Request<Body>, Option<Self>) {
        let (parts, body) = request.into_parts();
        match Replay::tee(body, buffers) {
            (first, Some(replay)) => {
                let copy = parts.clone();
                (
                    // The copy is kept, the original goes: it has room for the headers of a try.
                    Request::from_parts(parts, first),
                    Some(Self {
                        parts: copy,
                        replay,
                    }),
                )
            }
            (only, None) => (Request::from_parts(parts, only), None),
        }
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
        Some(Request::from_parts(self.parts.clone(), body))
    }

    /// The request for the last time: nothing is cloned, and nothing kept any more.
    pub(super) fn last(self) -> Option<Request<Body>> {
        let body = self.replay.last()?;
        Some(Request::from_parts(self.parts, body))
    }
}
