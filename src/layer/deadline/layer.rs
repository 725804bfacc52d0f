use std::time::Duration;

use tower_layer::Layer;

use super::WithDeadline;

/// Makes [`WithDeadline`] services.
///
/// ```
/// use std::time::Duration;
/// use meshwork::{Body, Error, layer::deadline::DeadlineLayer};
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Error> {
/// let service = ServiceBuilder::new()
///     .layer(DeadlineLayer::new().at_most(Duration::from_secs(5)))
///     .service(service_fn(|request: http::Request<Body>| async move {
///         assert!(request.headers().contains_key("x-envoy-expected-rq-timeout-ms"));
///         Ok::<_, Error>(http::Response::new(Body::empty()))
///     }));
/// service.oneshot(http::Request::default()).await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct DeadlineLayer {
    at_most: Option<Duration>,
}

impl DeadlineLayer {
    /// Passes on the deadlines that a call inherits; adds none of its own.
    #[must_use]
    pub const fn new() -> Self {
        Self { at_most: None }
    }

    /// Allows each call no more than `after`, whatever it inherits.
    #[must_use]
    pub const fn at_most(self, after: Duration) -> Self {
        Self {
            at_most: Some(after),
        }
    }
}

impl<S> Layer<S> for DeadlineLayer {
    type Service = WithDeadline<S>;

    fn layer(&self, inner: S) -> WithDeadline<S> {
        WithDeadline::new(inner, self.at_most)
    }
}
