//! What a team makes by hand of tower's own parts: a deadline, retries, a limit, a deadline for each try,
//! the less loaded of two channels. No routes, no outlier detection, no metrics: tower has none.

use std::time::Duration;

use http::Response;
use tonic::body::Body;
use tonic::transport::Channel;
use tower::retry::Policy;
use tower::{BoxError, Service, ServiceBuilder};

use crate::collected::{Collected, Repeatable, balanced};

type Answer = Response<Body>;

/// Three retries, of errors and of 5xx.
#[derive(Clone, Debug)]
struct Thrice(u32);

impl<E> Policy<Repeatable, Answer, E> for Thrice {
    type Future = std::future::Ready<()>;

    fn retry(
        &mut self,
        _: &mut Repeatable,
        result: &mut Result<Answer, E>,
    ) -> Option<Self::Future> {
        let failed = result
            .as_ref()
            .map_or(true, |answer| answer.status().is_server_error());
        (failed && self.0 > 0).then(|| {
            self.0 -= 1;
            std::future::ready(())
        })
    }

    fn clone_request(&mut self, request: &Repeatable) -> Option<Repeatable> {
        Some(request.clone())
    }
}

pub(crate) fn stack(
    channels: Vec<Channel>,
) -> impl Service<http::Request<Body>, Response = Answer, Error = BoxError, Future: Send>
+ Clone
+ Send
+ 'static {
    let stack = ServiceBuilder::new()
        .timeout(Duration::from_secs(5))
        .retry(Thrice(3))
        .concurrency_limit(4_096)
        .timeout(Duration::from_secs(2))
        .buffer(1_024)
        .service(balanced(channels));
    Collected(stack)
}
