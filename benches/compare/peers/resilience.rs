//! The same of tower-resilience's parts, with a circuit breaker in front of tonic's balanced channel.

use std::time::Duration;

use http::Response;
use tonic::body::Body;
use tonic::transport::Channel;
use tower::{BoxError, Service, ServiceBuilder, ServiceExt as _};
use tower_resilience::bulkhead::BulkheadLayer;
use tower_resilience::circuitbreaker::CircuitBreakerLayer;
use tower_resilience::retry::RetryLayer;
use tower_resilience::timelimiter::TimeLimiterLayer;

use crate::collected::{Collected, Repeatable, balanced};

type Answer = Response<Body>;

pub(crate) fn stack(
    channels: Vec<Channel>,
) -> Result<
    impl Service<http::Request<Body>, Response = Answer, Error = BoxError, Future: Send>
    + Clone
    + Send
    + 'static,
    String,
> {
    let bulkhead = BulkheadLayer::builder().max_concurrent_calls(4_096).build();
    let breaker = CircuitBreakerLayer::builder()
        .failure_rate_threshold(0.5)
        .build();
    let (bulkhead, breaker) = (
        bulkhead.map_err(|error| error.to_string())?,
        breaker.map_err(|error| error.to_string())?,
    );
    let limited = |seconds| {
        TimeLimiterLayer::builder()
            .timeout_duration(Duration::from_secs(seconds))
            .build()
    };
    let tries = ServiceBuilder::new()
        .layer(limited(2))
        .map_err(BoxError::from)
        .layer(bulkhead)
        .map_err(BoxError::from)
        .layer(breaker)
        .buffer(1_024)
        .service(balanced(channels))
        .map_err(BoxError::from);
    let retry = RetryLayer::<Repeatable, Answer, BoxError>::builder()
        .max_attempts(4)
        .exponential_backoff(Duration::from_millis(25))
        .build();
    let stack = ServiceBuilder::new()
        .layer(limited(5))
        .layer(retry)
        .service(tries);
    Ok(Collected(stack.map_err(BoxError::from)))
}
