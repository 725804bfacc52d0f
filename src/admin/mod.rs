//! A running process, asked over HTTP.
//!
//! The paths are those of Envoy's admin interface, so that what people know of sidecars and what
//! their tools scrape goes on working: `/ready`, `/stats`, `/stats/prometheus`, `/clusters`,
//! `/config_dump`, `/certs`, `/logging`; beside them `/explain`. With the feature `xds` the port answers
//! gRPC too: client status (CSDS) and health, so that `grpcdebug` works as with a server of gRPC.
//!
//! It is opt-in, and but for levels of events it changes nothing, which is why it needs no authentication
//! of its own on the loopback interface; what guards it there is in [`operator`](crate::operator). It shows
//! no secrets: header values that a route sets are shown unless the header is one that carries
//! credentials.

mod answer;
mod certs;
mod dump;
mod json;

use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use tokio::net::TcpListener;

use crate::body::Body;
use crate::operator::{self, Answering, From, Levels, Operated};
use crate::outbound::Core;
#[cfg(feature = "xds")]
use crate::source::xds;
use crate::workload::Workload;

/// What is asked. It holds nothing alive: each question is answered by whoever is there then.
pub(crate) trait Inspect: Send + Sync + 'static {
    /// The mesh; `None` when it is gone.
    fn core(&self) -> Option<Arc<Core>>;
    /// Its metrics in Prometheus' text.
    fn metrics(&self) -> Option<String>;
    /// What would become of a request, for people.
    fn explain(&self, request: &Request<()>) -> Option<String>;
    /// What it was sent; `None` if no control plane is its source.
    #[cfg(feature = "xds")]
    fn client_status(&self) -> Option<xds::ClientStatus>;
}

/// What does not change as long as the endpoint is there.
#[derive(Debug)]
pub(crate) struct Standing {
    /// Who the process is.
    #[cfg_attr(not(feature = "xds"), allow(dead_code, reason = "only CSDS says it"))]
    pub(crate) workload: Workload,
    /// How its levels are changed.
    pub(crate) levels: Option<Arc<Levels>>,
}

/// Answers until it is dropped.
pub(crate) async fn serve(listener: TcpListener, inspect: Arc<dyn Inspect>, standing: Standing) {
    let desk = Desk {
        #[cfg(feature = "xds")]
        services: services(&inspect, &standing.workload),
        inspect,
        standing,
    };
    operator::serve(listener, Arc::new(desk)).await;
}

/// What the operator's port hands requests to.
struct Desk {
    inspect: Arc<dyn Inspect>,
    standing: Standing,
    #[cfg(feature = "xds")]
    services: xds::Services,
}

impl Operated for Desk {
    fn answer(&self, request: &Request<()>, from: From) -> Response<Body> {
        answer::answer(
            &*self.inspect,
            self.standing.levels.as_deref(),
            request,
            from,
        )
    }

    #[cfg(feature = "xds")]
    fn call(&self, request: Request<Incoming>) -> Answering {
        self.services.answer(request)
    }

    #[cfg(not(feature = "xds"))]
    fn call(&self, _: Request<Incoming>) -> Answering {
        // UNIMPLEMENTED.
        let answer = operator::grpc_refusal("12", "meshwork was built without the feature xds");
        Box::pin(async move { answer })
    }
}

#[cfg(feature = "xds")]
fn services(inspect: &Arc<dyn Inspect>, workload: &Workload) -> xds::Services {
    let asked = inspect.clone();
    let in_force: xds::InForce = Arc::new(move || asked.core().map(|core| answer::in_force(&core)));
    let status = inspect.client_status();
    let status = status.unwrap_or_else(|| xds::ClientStatus::of_model(workload, in_force));
    let asked = inspect.clone();
    let serves: xds::Serves =
        Arc::new(move || asked.core().is_some_and(|core| answer::is_ready(&core)));
    xds::Services::new(status, serves)
}
