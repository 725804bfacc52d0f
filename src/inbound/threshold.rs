//! Where requests come out of a connection, and answers go back into it.
//!
//! What a port has to say to a request is said here, before the [door](super) and whatever else the program has put
//! around its handlers: whether the connection may still be spoken on, whether the port has room for it, and whether
//! it may [switch](super::switch) the connection.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;

use http::{HeaderValue, Method, Request, Response, header};
use http_body::Body as HttpBody;
use hyper::body::Incoming;
use tower_service::Service;

use super::answer::{self, Answer, without_mutual_tls};
use super::connection::{Connection, Standing};
use super::lasting::switches;
use super::listener::answer;
use super::switch::{Arming, Slot, Switching, lock};
use crate::body::Body;
use crate::error::BoxError;
use crate::layer::held::HeldBody;
use crate::layer::limit::Permit;
use crate::outbound::Dialect;

/// What hyper hands requests to.
pub(super) struct Threshold<S> {
    pub(super) connection: Connection,
    pub(super) service: S,
    /// The request that has switched, if one has.
    pub(super) switched: Slot,
    pub(super) arming: Arming,
}

type Answering = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

impl<S, B> hyper::service::Service<Request<Incoming>> for Threshold<S>
where
    S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: HttpBody<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Answering;

    fn call(&self, request: Request<Incoming>) -> Answering {
        self.connection.begun.tell();
        if self.connection.standing() == Standing::Refused {
            let refusal = refusal(&request);
            return Box::pin(async move { Ok(refusal) });
        }
        let Ok(permit) = self.connection.port.request() else {
            let overloaded = overloaded(&request);
            return Box::pin(async move { Ok(overloaded) });
        };
        let tunnel = request.method() == Method::CONNECT;
        let mut request = request.map(Body::new);
        let switching = Switching::of(&mut request, &self.connection);
        if switching.is_some() {
            self.arming.now();
        }
        request
            .extensions_mut()
            .insert(self.connection.peer.clone());
        if let Some(way) = &self.connection.way {
            request.extensions_mut().insert(way.clone());
        }
        let answering = answer(self.service.clone(), request);
        let leaving = self.connection.leaving.clone();
        let slot = self.switched.clone();
        Box::pin(async move {
            let response = answering.await?;
            if switches(tunnel, response.status()) {
                return Ok(switched(switching, response, permit, &slot));
            }
            Ok(finished(response, permit, leaving.load(Relaxed)))
        })
    }
}

/// An answer that switches nothing holds its place until its body has ended.
fn finished(mut response: Response<Body>, permit: Option<Permit>, leaving: bool) -> Response<Body> {
    if leaving {
        close(&mut response);
    }
    match permit {
        None => response,
        Some(permit) => response.map(|body| Body::new(HeldBody::new(body, permit))),
    }
}

/// An answer that switches, if the request asked for it and the connection stays.
fn switched(
    switching: Option<Box<Switching>>,
    mut response: Response<Body>,
    permit: Option<Permit>,
    slot: &Slot,
) -> Response<Body> {
    let Some(switching) = switching else {
        tracing::debug!(
            status = response.status().as_u16(),
            "the handler switches protocols, which the request did not ask for: answered with 502"
        );
        return respond(answer::unasked());
    };
    if switching.connection.is_ending() {
        let mut late = respond(answer::ending());
        close(&mut late);
        switching.refused(answer::ENDING, &late);
        return late;
    }
    *lock(slot) = Some(switching.switched(&mut response, permit));
    response.map(|_| Body::empty())
}

/// Says that no other request of HTTP/1.1 is answered behind this one.
fn close(response: &mut Response<Body>) {
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(header::CONNECTION, close);
}

/// The answer to a plaintext request where mutual TLS is demanded meanwhile.
fn refusal<B>(request: &Request<B>) -> Response<Body> {
    let mut response = respond(without_mutual_tls(Dialect::of(request.headers())));
    if request.version() <= http::Version::HTTP_11 {
        close(&mut response);
    }
    response
}

/// The answer to a request above what the port takes. The connection stays: the next may be served.
fn overloaded<B>(request: &Request<B>) -> Response<Body> {
    respond(answer::overloaded(Dialect::of(request.headers())))
}

fn respond(answer: Answer) -> Response<Body> {
    let mut response = Response::new(Body::from(answer.text));
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    response
}
