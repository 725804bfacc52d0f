//! Tries again what is worth it, within a budget.
//!
//! Four questions are kept apart, because they are answered by different people:
//!
//! - *Is this result worth another try?* The route's author says so in a [`Policy`].
//! - *Can the callee bear more?* The cluster's [`Quota`] says so; by default it is a [`Budget`]
//!   which lets retries be a fifth of the requests, so that a retry storm cannot happen.
//! - *Can the request be made again?* Its body says so. Bodies are kept up to 64 KiB (and 64 MiB for
//!   all requests of a layer); larger ones stream on and are sent once.
//! - *Is there time?* The deadline says so; a try that could not finish is not begun.
//!
//! Retrying inside of the transport was rejected (it knows no policy), and so was retrying in the
//! caller's code (it knows no budget, and has given the body away).
//!
//! [`Retry`] is the layer for stacks without a mesh. Envoy's and gRPC's rules that it follows are
//! listed at [`Policy`]; `5xx` repeats POST as in Istio, so name narrower conditions for what is not
//! idempotent.
//!
//! ```
//! use meshwork::{Body, Error, layer::retry::RetryLayer};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use std::sync::atomic::{AtomicU32, Ordering};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Error> {
//! static CALLS: AtomicU32 = AtomicU32::new(0);
//! let service = ServiceBuilder::new()
//!     .layer(RetryLayer::standard())
//!     .service(service_fn(|_: http::Request<Body>| async {
//!         let status = if CALLS.fetch_add(1, Ordering::Relaxed) == 0 { 503 } else { 200 };
//!         Ok::<_, Error>(http::Response::builder().status(status).body(Body::empty()).unwrap())
//!     }));
//! let response = service.oneshot(http::Request::new(Body::from("twice"))).await?;
//! assert_eq!((response.status().as_u16(), CALLS.load(Ordering::Relaxed)), (200, 2));
//! # Ok(()) }
//! ```

mod backoff;
pub mod budget;
mod future;
mod layer;
mod policy;
mod pushback;
mod quota;
mod recent;
mod run;
mod service;
mod source;

pub(crate) use backoff::longest_pause;
pub use budget::{Allowance, Budget};
pub use future::ResponseFuture;
pub use layer::RetryLayer;
pub use policy::{Policy, Verdict};
pub use quota::{Quota, RetryPermit};
pub(crate) use run::{Call, Failed, Summary, Tries, Try, run};
pub use service::Retry;
