//! Asks endpoints whether they are well.
//!
//! Passive detection ([`outlier`](super::outlier)) learns from the failures of real requests, so
//! somebody has to fail first, and an endpoint that gets no traffic is never found well again.
//! Active checks ask on their own account. The rules are Envoy's `health_checks`:
//!
//! - An endpoint begins unhealthy, and the first check that passes makes it healthy at once; after
//!   that it takes `healthy_threshold` passes in a row.
//! - An *answer* that says no ([`Verdict::Unhealthy`]) makes it unhealthy at once: it knows best.
//!   *No answer* ([`Verdict::Unanswered`]: a connection refused, a reset, the timeout, a status that
//!   is declared retriable) may be the network's fault and takes `unhealthy_threshold` in a row.
//! - The next check begins an interval after the last one has ended, so a slow endpoint is never
//!   asked twice at a time and a process that was asleep does not catch up.
//!
//! # The parts
//!
//! [`Checker`] is the state machine: `(verdict, now) -> change, next`. It has no IO, no timer, and
//! draws its jitter from an injected [`Random`](crate::Random). A [`Probe`] is one question:
//! [`TcpProbe`], [`ExchangeProbe`], [`HttpProbe`] or [`GrpcProbe`], each over a tower service that the caller brings,
//! so probes use the same connector, TLS and identity as requests do. [`run`] puts them together into
//! a future that never ends. Nothing here spawns a task: whoever owns the endpoint drives the future
//! and drops it with the endpoint, and with it goes the probe under way.
//!
//! A single task that checks all endpoints was rejected: one that hangs would need to be watched by
//! the task, which `timeout` around a future of its own does for nothing.
//!
//! ```
//! use std::time::Duration;
//!
//! use http::{Request, Response};
//! use meshwork::{Body, Random};
//! use meshwork::layer::health::{Checker, HttpProbe, Settings, run};
//! use tokio::time::Instant;
//! use tower::service_fn;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let endpoint = service_fn(|_: Request<Body>| async { Ok::<_, meshwork::Error>(Response::new(Body::empty())) });
//! let probe = HttpProbe::new(endpoint, Request::get("http://catalog/healthz").body(())?);
//! let checker = Checker::new(Settings::default(), Instant::now(), Random::from_entropy())?;
//!
//! let (changes, mut changed) = tokio::sync::mpsc::unbounded_channel();
//! let checking = run(checker, probe, move |health| { let _ = changes.send(health); });
//! tokio::select! {
//!     health = changed.recv() => assert_eq!(health, Some(meshwork::layer::health::Health::Healthy)),
//!     never = checking => match never {},
//! }
//! # Ok(()) }
//! ```

mod checker;
mod exchange;
mod grpc;
mod http_probe;
mod tcp;

use std::convert::Infallible;
use std::future::Future;
use std::num::NonZeroU32;
use std::time::Duration;

use http_body::Body as HttpBody;
use http_body_util::BodyExt;
use thiserror::Error;
use tokio::time::Instant;

pub use checker::Checker;
pub use exchange::ExchangeProbe;
pub(crate) use grpc::LONGEST_NAME;
pub use grpc::{GrpcProbe, InvalidServiceName};
pub use http_probe::HttpProbe;
pub use tcp::TcpProbe;

/// Whether an endpoint may get requests, as far as checks tell.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Health {
    /// It may.
    Healthy,
    /// It should not.
    Unhealthy,
}

/// What one probe found.
///
/// Exhaustive on purpose: each means something else to a [`Checker`].
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Verdict {
    /// The endpoint answered that it is well.
    Healthy,
    /// The endpoint did not answer, or in a way that is to be taken with patience.
    Unanswered,
    /// The endpoint answered that it is not well.
    Unhealthy,
}

/// One question to one endpoint.
///
/// ```
/// use meshwork::layer::health::{Probe, Verdict};
///
/// struct Disk;
///
/// impl Probe for Disk {
///     async fn probe(&mut self) -> Verdict {
///         match tokio::fs::metadata("/data/ready").await {
///             Ok(_) => Verdict::Healthy,
///             Err(_) => Verdict::Unhealthy,
///         }
///     }
/// }
/// ```
pub trait Probe {
    /// Asks once. [`run`] drops the future when the timeout is over.
    fn probe(&mut self) -> impl Future<Output = Verdict> + Send;
}

/// When to ask, and how often one answer must be repeated to be believed.
///
/// A plain value; [`Checker::new`] checks it. Each duration is 1 ms to 24 h, the jitters 0 to 24 h.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Settings {
    /// From the end of a check to the next while the endpoint is healthy. Default 10 s.
    pub interval: Duration,
    /// The same while it is unhealthy. Default: `interval`.
    pub unhealthy_interval: Option<Duration>,
    /// The interval after the check that made it healthy. Default: `interval`.
    pub healthy_edge_interval: Option<Duration>,
    /// The interval after the check that made it unhealthy. Default: as `unhealthy_interval`.
    pub unhealthy_edge_interval: Option<Duration>,
    /// The interval while the checker is told that nobody uses the endpoint, whatever its health (see
    /// [`Checker::set_quiet`]). Default: as if it were used; Envoy's is 60 s.
    pub no_traffic_interval: Option<Duration>,
    /// Up to so much is added to each interval, at random. Default 1 s, so that a thousand clients
    /// do not ask in step.
    pub jitter: Duration,
    /// The first check comes after up to so much, at random. Default 0.
    pub initial_jitter: Duration,
    /// How long a probe may take. Default 5 s.
    pub timeout: Duration,
    /// Passes in a row that make an unhealthy endpoint healthy, but for the very first check.
    /// Default 2.
    pub healthy_threshold: NonZeroU32,
    /// Checks in a row without an answer that make a healthy endpoint unhealthy. Default 3.
    pub unhealthy_threshold: NonZeroU32,
    /// What it is until a check says otherwise. Default unhealthy, as in Envoy; healthy for an
    /// endpoint that is in use already when its checks begin.
    pub initial: Health,
}

/// What is wrong with [`Settings`].
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("the {field} of a health check is {found:?}: {least:?} to 86400s is allowed")]
pub struct InvalidSettings {
    field: &'static str,
    found: Duration,
    least: Duration,
}

pub(crate) const LEAST: Duration = Duration::from_millis(1);
pub(crate) const MOST: Duration = Duration::from_secs(24 * 60 * 60);

impl Settings {
    fn check(self) -> Result<Self, InvalidSettings> {
        let Self {
            interval,
            unhealthy_interval,
            healthy_edge_interval,
            unhealthy_edge_interval,
            no_traffic_interval,
            jitter,
            initial_jitter,
            timeout,
            healthy_threshold: _,
            unhealthy_threshold: _,
            initial: _,
        } = self;
        let or = |optional: Option<Duration>| optional.unwrap_or(interval);
        for (field, found, least) in [
            ("interval", interval, LEAST),
            ("unhealthy_interval", or(unhealthy_interval), LEAST),
            ("healthy_edge_interval", or(healthy_edge_interval), LEAST),
            (
                "unhealthy_edge_interval",
                or(unhealthy_edge_interval),
                LEAST,
            ),
            ("no_traffic_interval", or(no_traffic_interval), LEAST),
            ("jitter", jitter, Duration::ZERO),
            ("initial_jitter", initial_jitter, Duration::ZERO),
            ("timeout", timeout, LEAST),
        ] {
            if !(least..=MOST).contains(&found) {
                return Err(InvalidSettings {
                    field,
                    found,
                    least,
                });
            }
        }
        Ok(self)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(10),
            unhealthy_interval: None,
            healthy_edge_interval: None,
            unhealthy_edge_interval: None,
            no_traffic_interval: None,
            jitter: Duration::from_secs(1),
            initial_jitter: Duration::ZERO,
            timeout: Duration::from_secs(5),
            healthy_threshold: NonZeroU32::MIN.saturating_add(1),
            unhealthy_threshold: NonZeroU32::MIN.saturating_add(2),
            initial: Health::Unhealthy,
        }
    }
}

/// Probes one endpoint for ever and tells each change of its health.
///
/// A probe that takes longer than the timeout is dropped and counts as unanswered. `on_change` is
/// called between probes and should not block; the initial health is not announced.
///
/// Cancel-safe: the future holds nothing but its arguments, and dropping it ends the probe under
/// way.
pub async fn run<P, F>(checker: Checker, probe: P, mut on_change: F) -> Infallible
where
    P: Probe,
    F: FnMut(Health),
{
    watch(checker, probe, |checker, verdict| {
        if let Some(health) = checker.record(verdict, Instant::now()) {
            on_change(health);
        }
    })
    .await
}

/// As [`run`], and leaves it to `judge` to record each verdict.
pub(crate) async fn watch<P, F>(mut checker: Checker, mut probe: P, mut judge: F) -> Infallible
where
    P: Probe,
    F: FnMut(&mut Checker, Verdict),
{
    loop {
        tokio::time::sleep_until(checker.next_probe()).await;
        let verdict = tokio::time::timeout(checker.timeout(), probe.probe())
            .await
            .unwrap_or(Verdict::Unanswered);
        judge(&mut checker, verdict);
    }
}

/// The most bytes of an answer's body that are read. More says nothing about health.
const BODY_LIMIT: usize = 64 * 1024;

/// The end of an answer's body.
enum Ending {
    /// It ended, perhaps with trailers.
    Complete {
        bytes: Vec<u8>,
        trailers: Option<http::HeaderMap>,
    },
    /// It broke off.
    Broken,
    /// It is longer than is read.
    TooLong,
}

/// Reads a body to its end, so that its connection can be used again.
async fn read<B: HttpBody>(body: B) -> Ending {
    let mut body = std::pin::pin!(body);
    let (mut bytes, mut trailers) = (Vec::new(), None);
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return Ending::Broken;
        };
        match frame.into_data() {
            Ok(mut data) => {
                while bytes::Buf::has_remaining(&data) {
                    let chunk = bytes::Buf::chunk(&data);
                    if bytes.len() + chunk.len() > BODY_LIMIT {
                        return Ending::TooLong;
                    }
                    bytes.extend_from_slice(chunk);
                    let length = chunk.len();
                    bytes::Buf::advance(&mut data, length);
                }
            }
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    Ending::Complete { bytes, trailers }
}
