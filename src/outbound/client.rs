//! A plain HTTP client: any host, by the authority of each request.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use tower_service::Service;

use crate::body::Body;
use crate::error::{BoxError, Error};

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
}

impl Client {
    pub(crate) fn new(owner: Arc<dyn Owner>) -> Self {
        Self { owner }
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
        let owner = self.owner.clone();
        let request = request.map(Body::new);
        ResponseFuture::new(
            async move { super::send(owner.core(), Scope::Authority, request).await },
        )
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
