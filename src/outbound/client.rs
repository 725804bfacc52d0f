//! A plain HTTP client: any host by the authority of each request, or one target for all.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use tower_service::Service;

use crate::body::Body;
use crate::error::{BoxError, Error};
use crate::name::Target;
use crate::snapshot::Held;

use super::answer::Dialect;
use super::route::Scope;
use super::{Owner, ResponseFuture};

/// Sends requests to whatever host they name.
///
/// Made by [`Mesh::client`](crate::Mesh::client). The authority of the request (host and port, 80
/// if it names none) decides about the virtual host, as in a sidecar; hosts that the mesh does not
/// know are passed through or refused, see [`OutboundTraffic`](crate::OutboundTraffic). Clones are
/// cheap and share everything.
///
/// What the mesh answers itself (no route, no endpoint, a limit, a timeout, a fault) is an
/// [`Error`]; what an endpoint answers is a response, whatever its status.
///
/// ```no_run
/// # async fn example(mesh: meshwork::Mesh) -> Result<(), meshwork::Error> {
/// let request = http::Request::get("http://catalog/items").body(meshwork::Body::empty()).unwrap();
/// let response = mesh.client().request(request).await?;
/// assert!(response.status().is_success());
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Client {
    owner: Arc<dyn Owner>,
    /// Whom all requests are for, whatever their authority.
    target: Option<Arc<Target>>,
    /// Keeps the target asked for, where a source is asked for names.
    _held: Option<Arc<Held>>,
}

impl Client {
    pub(crate) fn new(owner: Arc<dyn Owner>) -> Self {
        Self {
            owner,
            target: None,
            _held: None,
        }
    }

    pub(crate) fn to(owner: Arc<dyn Owner>, target: Target, held: Option<Held>) -> Self {
        Self {
            owner,
            target: Some(Arc::new(target)),
            _held: held.map(Arc::new),
        }
    }

    /// Sends one request.
    ///
    /// Cancel-safe: dropping the future cancels the call and gives back all that it held.
    ///
    /// # Errors
    /// What the mesh answers itself; see [`Error`]'s predicates.
    pub fn request<B>(&self, request: Request<B>) -> ResponseFuture
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let (owner, target) = (self.owner.clone(), self.target.clone());
        let mut request = request.map(Body::new);
        ResponseFuture::new(|| async move {
            let scope = match &target {
                None => Scope::Authority,
                Some(target) => Scope::Target(target),
            };
            let dialect = Dialect::of(request.headers());
            super::send(owner.core(), scope, dialect, &mut request).await
        })
    }
}

impl<B> Service<Request<B>> for Client
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Error;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        self.request(request)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}
