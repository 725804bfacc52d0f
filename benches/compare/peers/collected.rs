//! What both stacks made by hand have: a request that can be repeated, since its body is read first
//! (neither crate has a part for that), and the less loaded of two channels.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use tonic::body::Body;
use tonic::transport::Channel;
use tower::balance::p2c::Balance;
use tower::discover::ServiceList;
use tower::load::{CompleteOnResponse, PendingRequestsDiscover};
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

/// The less loaded of two channels, by requests under way.
pub(crate) fn balanced(
    channels: Vec<Channel>,
) -> impl Service<Repeatable, Response = Response<Body>, Error = BoxError, Future: Send> + Send + 'static
{
    let channels = channels
        .into_iter()
        .map(|channel| channel.map_request(|request: Repeatable| request.map(Body::new)));
    let discover = ServiceList::new::<Repeatable>(channels);
    Balance::new(PendingRequestsDiscover::new(
        discover,
        CompleteOnResponse::default(),
    ))
}
