//! A response body that holds something until it has ended.
//!
//! A request is not over when its response headers arrive: the endpoint is still sending. What
//! counts requests (a limit, a balancer that compares load) must therefore let go at the end of
//! the body, not at the end of the response future. One wrapper serves them all; it adds no
//! allocation and passes every frame on untouched.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

pin_project! {
    /// A body `B` that drops `H` as soon as it has ended, failed, or was dropped.
    ///
    /// A body that is known to be empty lets go at once.
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use http_body_util::{BodyExt, Full};
    /// use meshwork::layer::held::HeldBody;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let token = Arc::new(());
    /// let mut body = HeldBody::new(Full::new(bytes::Bytes::from("hi")), token.clone());
    /// assert_eq!(Arc::strong_count(&token), 2);
    /// body.frame().await;
    /// assert_eq!(Arc::strong_count(&token), 1);
    /// # }
    /// ```
    pub struct HeldBody<B, H> {
        #[pin]
        body: B,
        held: Option<H>,
    }
}

impl<B: Body, H> HeldBody<B, H> {
    /// Wraps `body`, which holds `held` from now on.
    pub fn new(body: B, held: H) -> Self {
        let held = (!body.is_end_stream()).then_some(held);
        Self { body, held }
    }
}

impl<B: Body, H> Body for HeldBody<B, H> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let frame = ready!(this.body.as_mut().poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) || this.body.is_end_stream() {
            *this.held = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B, H> fmt::Debug for HeldBody<B, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeldBody")
            .field("ended", &self.held.is_none())
            .finish_non_exhaustive()
    }
}
