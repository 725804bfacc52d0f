//! What `grpcdebug` asks for, as services for a port that has other answers too: client status and health.
//!
//! Channelz is not among them: channels of this mesh are no tree of sockets, and what there is to
//! tell of endpoints and connections is in the other answers. Whoever asks for it is told `UNIMPLEMENTED`.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use futures_core::future::BoxFuture;
use http::{Request, Response};
use hyper::body::Incoming;
use tonic::body::Body as Answer;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic::{Status, async_trait};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tower_service::Service;

use crate::body::Body;

/// Whether requests are served.
pub(crate) type Serves = Arc<dyn Fn() -> bool + Send + Sync>;

/// The services.
#[derive(Clone)]
pub(crate) struct Services {
    routes: Routes,
}

impl Services {
    /// Client status by `status`, and health: the process as a whole, by the empty name, and client
    /// status, which is there as long as somebody answers.
    pub(crate) fn new<S>(status: S, serves: Serves) -> Self
    where
        S: Service<Request<Answer>, Response = Response<Answer>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        let known = S::NAME;
        let health = HealthServer::new(Told { serves, known });
        let routes = Routes::new(status).add_service(health).prepare();
        Self { routes }
    }

    /// Answers one request.
    pub(crate) fn answer(&self, request: Request<Incoming>) -> BoxFuture<'static, Response<Body>> {
        let mut routes = self.routes.clone();
        Box::pin(async move {
            let response = match routes.call(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            };
            response.map(Body::new)
        })
    }
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Services").finish_non_exhaustive()
    }
}

/// Health, as it is when somebody asks.
struct Told {
    serves: Serves,
    /// The other service.
    known: &'static str,
}

type Watching = tokio_stream::Empty<Result<HealthCheckResponse, Status>>;

#[async_trait]
impl Health for Told {
    type WatchStream = Watching;

    async fn check(
        &self,
        request: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<HealthCheckResponse>, Status> {
        let status = match request.get_ref().service.as_str() {
            "" if (self.serves)() => ServingStatus::Serving,
            "" => ServingStatus::NotServing,
            service if service == self.known => ServingStatus::Serving,
            other => {
                let known = self.known;
                return Err(Status::not_found(format!(
                    "no service {other:?} here: ask for \"\" or {known:?}"
                )));
            }
        };
        let mut answer = HealthCheckResponse::default();
        answer.set_status(status);
        Ok(tonic::Response::new(answer))
    }

    /// Clients of the protocol take this status for "ask with Check".
    async fn watch(
        &self,
        _: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<Watching>, Status> {
        Err(Status::unimplemented(
            "health is told by Check here; ask again instead of watching",
        ))
    }
}
