//! A request's body on its way out: held back until the peer wants it, ended when nobody does.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use sync_wrapper::SyncWrapper;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use super::Http;
use crate::body::Body;
use crate::error::{Error, Kind};

/// How long a body waits for the peer to ask for it (`Expect: 100-continue`); curl's default.
const PATIENCE: Duration = Duration::from_secs(1);

/// A request body that waits until the peer wants it (RFC 9110 §10.1.1).
#[derive(Debug)]
pub(super) struct Held {
    wanted: Arc<Notify>,
}

impl Held {
    /// Of a request that expects 100 (Continue), where this side hears of it.
    pub(super) fn of<B: HttpBody>(request: &Request<B>, http: Http) -> Option<Self> {
        let expects = request
            .headers()
            .get(header::EXPECT)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        (expects && http == Http::One && !request.body().is_end_stream()).then(|| Self {
            wanted: Arc::new(Notify::new()),
        })
    }

    /// Lets the answer 100 to `request` release the body.
    pub(super) fn listen<B>(&self, request: &mut Request<B>) {
        let wanted = self.wanted.clone();
        hyper::ext::on_informational(request, move |response| {
            if response.status() == StatusCode::CONTINUE {
                wanted.notify_one();
            }
        });
    }

    fn released(&self) -> Release {
        let wanted = self.wanted.clone();
        let released = async move {
            // Silence is consent: who knows nothing of 100 waits for the body.
            let _ = timeout(PATIENCE, wanted.notified()).await;
        };
        SyncWrapper::new(Box::pin(released))
    }
}

type Release = SyncWrapper<Pin<Box<dyn Future<Output = ()> + Send>>>;

/// The caller's half of an [`Outgoing`] body: dropping it ends the upload.
pub(super) type Upload = oneshot::Sender<Infallible>;

/// A request body whose upload ends when the response is no longer wanted.
///
/// hyper goes on sending the body of a request whose response was dropped after its head: a
/// caller that forgets a stream half-way would leave a stream and a task behind for as long as
/// the body stays silent. A body whose bytes are all known needs no such leash, unless it is held
/// back.
#[derive(Debug)]
pub(super) struct Outgoing {
    body: Body,
    leash: Option<oneshot::Receiver<Infallible>>,
    release: Option<Release>,
}

impl Outgoing {
    pub(super) fn new(body: Body, held: Option<&Held>) -> (Self, Option<Upload>) {
        let release = held.map(Held::released);
        if body.whole().is_some() && release.is_none() {
            let leash = None;
            return (
                Self {
                    body,
                    leash,
                    release,
                },
                None,
            );
        }
        let (upload, leash) = oneshot::channel();
        let leash = Some(leash);
        let outgoing = Self {
            body,
            leash,
            release,
        };
        (outgoing, Some(upload))
    }

    pub(super) fn into_body(self) -> Body {
        self.body
    }
}

impl HttpBody for Outgoing {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Some(leash) = &mut self.leash
            && Pin::new(leash).poll(cx).is_ready()
        {
            self.leash = None;
            self.body = Body::empty();
            let gone = Error::new(Kind::Body).caused_by("the response is no longer wanted");
            return Poll::Ready(Some(Err(gone)));
        }
        if let Some(release) = &mut self.release {
            ready!(release.get_mut().as_mut().poll(cx));
            self.release = None;
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    struct Silent;

    impl HttpBody for Silent {
        type Data = Bytes;
        type Error = Error;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
            Poll::Pending
        }
    }

    #[tokio::test]
    async fn an_upload_ends_with_its_response() {
        let (whole, upload) = Outgoing::new(Body::from("x"), None);
        assert!(upload.is_none());
        assert_eq!(whole.collect().await.unwrap().to_bytes(), "x");

        let (mut silent, upload) = Outgoing::new(Body::new(Silent), None);
        assert!(tokio_test::task::spawn(silent.frame()).poll().is_pending());
        drop(upload);
        assert!(silent.frame().await.unwrap().unwrap_err().is_body());
    }
}
