//! A request that can be repeated: its body is read first. Neither crate has a part for that.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use tonic::body::Body;
use tower::{BoxError, Service, ServiceExt as _};

pub(crate) type Repeatable = Request<Full<Bytes>>;

/// Reads the body, then calls.
#[derive(Clone, Debug)]
pub(crate) struct Collected<S>(pub(crate) S);

impl<S> Service<Request<Body>> for Collected<S>
where
    S: Service<Repeatable, Response = Response<Body>, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let inner = self.0.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            inner
                .oneshot(Request::from_parts(head, Full::new(body)))
                .await
        })
    }
}
