//! Copies of requests for other clusters.
//!
//! A copy must never be felt by the call: it is a task of its own, which the call neither awaits
//! nor hears of, and everything about it is bounded (how many, for how long, how many bytes). What
//! exceeds a bound is dropped and counted. Copies are the mesh's: they end with it, and a shutdown
//! does not wait for them.
//!
//! A copy is sent once. It takes a permit of its cluster's limits and its result counts for its
//! endpoint's ejection, as in Envoy; it is not retried, since nobody waits for the answer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{Request, Response};
use http_body_util::BodyExt;
use tokio::task::JoinSet;

use crate::body::Body;
use crate::body::replay::Buffers;
use crate::body::tee::tee;
use crate::error::{Error, Kind};
use crate::layer::classify::Outcome;
use crate::layer::limit::Permit;
use crate::model::route::Forward;
use crate::random::Random;
use crate::snapshot::{Cluster, Endpoint, InFlight};
use crate::transport::Guard;

use super::{Chosen, Core};

/// How many copies may be under way in a mesh.
const MAX_RUNNING: usize = 256;
/// How many bytes of its body a copy may lag behind the original.
const MAX_LAG: usize = 64 << 10;
/// How many bytes all copies may lag together.
const MAX_BYTES: usize = 16 << 20;
/// How long a copy may take where the route has no timeout.
const MAX_TIME: Duration = Duration::from_secs(15);

/// The copies that are under way.
pub(crate) struct Mirrors {
    // Locked by requests of routes that mirror, to start a copy, after their own way is decided.
    running: Mutex<JoinSet<()>>,
    buffers: Buffers,
}

impl Default for Mirrors {
    fn default() -> Self {
        Self {
            running: Mutex::default(),
            buffers: Buffers::new(MAX_LAG, MAX_BYTES),
        }
    }
}

impl Mirrors {
    /// Sends copies of a request that is ready to be sent.
    pub(super) fn copy(
        &self,
        core: &Core,
        chosen: &Chosen,
        to: &Forward,
        request: &mut Request<Body>,
    ) {
        let rolled = |share: u32| share > 0 && core.random().below(1_000_000) < share;
        let clusters: Vec<Arc<Cluster>> = to
            .mirrors
            .iter()
            .zip(&chosen.route.mirrors)
            .filter(|(mirror, _)| rolled(mirror.share.parts_per_million()))
            .filter_map(|(_, cluster)| cluster.as_ref())
            .map(|cluster| chosen.toward(cluster, core))
            .collect();
        if clusters.is_empty() {
            return;
        }
        let whole = std::mem::take(request.body_mut());
        let (body, copies) = tee(whole, clusters.len(), &self.buffers);
        *request.body_mut() = body;
        let mut copies = copies.into_iter();
        for cluster in clusters {
            let copy = copies.next().map(|body| {
                let mut copy = Request::new(body);
                *copy.method_mut() = request.method().clone();
                *copy.uri_mut() = request.uri().clone();
                *copy.version_mut() = request.version();
                *copy.headers_mut() = request.headers().clone();
                copy
            });
            let limit = to.timeout.unwrap_or(MAX_TIME);
            let started = copy.is_some_and(|copy| self.start(&cluster, core, copy, limit));
            let counters = &cluster.running.counters;
            match started {
                true => count(&counters.mirrored),
                false => count(&counters.mirrors_dropped),
            }
        }
    }

    /// Starts a copy, unless a bound or a limit is reached.
    fn start(
        &self,
        cluster: &Arc<Cluster>,
        core: &Core,
        copy: Request<Body>,
        limit: Duration,
    ) -> bool {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        while running.try_join_next().is_some() {}
        if running.len() >= MAX_RUNNING {
            return false;
        }
        let Ok(permit) = cluster.running.limits.request() else {
            count(&cluster.running.counters.overflows);
            return false;
        };
        let (cluster, random) = (cluster.clone(), core.random().clone());
        running.spawn(async move { send(&cluster, &random, permit, copy, limit).await });
        true
    }

    /// Ends all copies.
    pub(super) fn end(&self) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.abort_all();
    }
}

/// Sends a copy and throws its answer away.
async fn send(
    cluster: &Cluster,
    random: &Random,
    permit: Permit,
    copy: Request<Body>,
    limit: Duration,
) {
    let counters = &cluster.running.counters;
    count(&counters.requests);
    let Some(member) = cluster.balancer.pick(random, |_| false) else {
        count(&counters.failures);
        return;
    };
    let endpoint = member.endpoint.clone();
    count(&counters.attempts);
    let held = Held {
        in_flight: InFlight::new(endpoint.clone()),
        permit,
    };
    let outcome = match tokio::time::timeout(limit, exchange(&endpoint, copy, held)).await {
        Ok(Ok(outcome)) => Some(outcome),
        Ok(Err(error)) => Outcome::of_error(&error),
        Err(_) => Outcome::of_error(&Error::new(Kind::PerTryTimeout { after: limit })),
    };
    if let Some(outcome) = outcome {
        if matches!(outcome, Outcome::Failure(500..) | Outcome::Local(_)) {
            count(&counters.failures);
        }
        cluster.record(&endpoint, outcome);
    }
}

async fn exchange(endpoint: &Endpoint, copy: Request<Body>, held: Held) -> Result<Outcome, Error> {
    let response: Response<Body> = endpoint
        .connections
        .send(copy, held)
        .await
        .map_err(|unanswered| unanswered.error)?;
    let outcome = Outcome::of_response(&response);
    let mut body = response.into_body();
    // Read and dropped frame by frame, so that a large answer costs no memory.
    while let Some(frame) = body.frame().await {
        frame?;
    }
    Ok(outcome)
}

/// What a copy holds until its answer has ended.
struct Held {
    #[expect(dead_code, reason = "it counts until it is dropped")]
    in_flight: InFlight,
    #[expect(dead_code, reason = "it counts until it is dropped")]
    permit: Permit,
}

impl Guard for Held {}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
