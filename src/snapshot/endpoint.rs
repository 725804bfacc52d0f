//! An endpoint that runs, in parts by how long they live.
//!
//! Of a large cluster there are ten thousand, so what is the same for all is kept once
//! ([`Commons`]), and what is there for each is few pieces. What a pick reads of the two members that
//! it compares stands together at the beginning of a [`Record`]: among ten thousand, each place in
//! memory that is looked at is in no cache.

use std::borrow::Cow;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use http::Request;
use http::uri::Authority;
use tokio::time::Instant;

use super::cluster::Running;
use super::gate::ClusterGate;
use super::health::Checked;
use super::link::Environment;
use super::series::EndpointLabels;
use crate::layer::balance::{Candidate, Placement, Signals};
use crate::layer::outlier::Host;
use crate::model;
use crate::model::endpoint::{Address, HASH_KEY, Health};
use crate::telemetry::Series;
use crate::transport::{Connections, Means, Reach, Secure, Settings, Stand};

/// An endpoint as one snapshot sees it: the running endpoint and what the registry says of it.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) endpoint: Arc<Endpoint>,
    /// That of the endpoint, one step nearer to a pick.
    record: Arc<Record>,
    pub(crate) weight: NonZeroU32,
    pub(crate) health: Health,
    pub(crate) placement: Placement,
    /// What requests to it count for.
    pub(crate) series: Arc<Series>,
    /// Shared with the configuration and with all endpoints that have the same.
    labels: Arc<EndpointLabels>,
}

/// An endpoint that runs; it keeps its identity as long as its address stays in the cluster and is
/// connected to in the same way.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) record: Arc<Record>,
    pub(crate) connections: Connections,
}

/// What is known of an address of a cluster; it outlives an edit of how it is connected to.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Record {
    pub(crate) active: AtomicU32,
    /// What active checks say of it.
    pub(crate) checked: Checked,
    pub(crate) host: Host,
    pub(crate) signals: Signals,
    pub(crate) requests: AtomicU64,
    pub(crate) failures: AtomicU64,
    /// Calls whose response was read to its end, and the microseconds that they took; they are timed only
    /// where requests are measured, and where there is a body whose end can be seen.
    pub(crate) timed: AtomicU64,
    pub(crate) micros: AtomicU64,
    /// The address as text, made once.
    pub(crate) label: Arc<str>,
}

/// The ways in which the endpoints of a cluster are connected to.
#[derive(Clone, Debug)]
pub(crate) struct Commons {
    plain: Reach,
    /// If the cluster can encrypt.
    secured: Option<Reach>,
}

impl Member {
    pub(super) fn new(
        endpoint: Arc<Endpoint>,
        (weight, health, placement): (NonZeroU32, Health, Placement),
        series: Arc<Series>,
        labels: &Arc<EndpointLabels>,
    ) -> Self {
        Self {
            labels: labels.clone(),
            record: endpoint.record.clone(),
            endpoint,
            weight,
            health,
            placement,
            series,
        }
    }
}

impl Candidate for Member {
    fn weight(&self) -> NonZeroU32 {
        self.weight
    }

    fn active(&self) -> u32 {
        self.record.active.load(Ordering::Relaxed)
    }

    fn admitted(&self) -> bool {
        self.health == Health::Healthy
            && self.record.host.admitted()
            && self.record.checked.admits()
    }

    fn key(&self) -> &str {
        &self.record.label
    }

    /// What a control plane says (gRPC A76), or the address.
    fn hash_key(&self) -> &str {
        let own = self.labels.get(HASH_KEY).filter(|own| !own.is_empty());
        own.map_or(&self.record.label, |own| own)
    }

    fn placement(&self) -> Placement {
        self.placement
    }

    fn signals(&self) -> Option<&Signals> {
        Some(&self.record.signals)
    }
}

impl Endpoint {
    /// One that runs from this moment on; what was known of the one `before` at this address is
    /// known of it.
    pub(super) fn new(address: &Address, reach: &Reach, before: Option<&Self>) -> Self {
        Self {
            record: match before {
                Some(before) => before.record.clone(),
                None => Arc::new(Record::new(address)),
            },
            connections: Connections::by(address.clone(), reach),
        }
    }

    pub(crate) fn address(&self) -> &Address {
        self.connections.address()
    }

    /// What the configuration says that it is known by.
    pub(crate) fn hostname(&self) -> Option<&Arc<Authority>> {
        self.connections.hostname()
    }

    /// What requests to it may carry as their authority: its host name, or that of its address with the port
    /// (gRFC A81). `None`: it has an IP address and nothing else.
    pub(crate) fn authority(&self) -> Option<Authority> {
        match (self.hostname(), self.address()) {
            (Some(name), _) => Some(Authority::clone(name)),
            (None, Address::Name { host, port }) => {
                Authority::try_from(format!("{host}:{port}")).ok()
            }
            (None, Address::Several(_) | Address::Socket(_) | Address::Unix(_)) => None,
        }
    }

    /// As text.
    pub(crate) fn label(&self) -> &Arc<str> {
        &self.record.label
    }

    pub(crate) fn secured(&self) -> bool {
        self.connections.are_secured()
    }

    /// The name of its cluster.
    pub(crate) fn cluster(&self) -> &Arc<str> {
        self.connections.cluster()
    }
}

impl Record {
    /// Of an address that nothing is known of.
    pub(crate) fn new(address: &Address) -> Self {
        Self {
            active: AtomicU32::new(0),
            checked: Checked::default(),
            host: Host::default(),
            signals: Signals::new(Instant::now()),
            requests: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            timed: AtomicU64::new(0),
            micros: AtomicU64::new(0),
            label: address.to_string().into(),
        }
    }

    /// Requests that were sent, that failed, and that are under way.
    #[cfg(feature = "xds")]
    pub(crate) fn counts(&self) -> (u64, u64, u64) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        // Read in this order, no request is under way that was not sent.
        let active = self.active.load(Ordering::Relaxed).into();
        (read(&self.requests), read(&self.failures), active)
    }

    /// Calls that were timed, and the microseconds that they took.
    pub(crate) fn timed(&self) -> (u64, u64) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (read(&self.timed), read(&self.micros))
    }
}

impl Commons {
    pub(super) fn new(
        model: &model::Cluster,
        secure: Option<&Arc<dyn Secure>>,
        running: &Running,
        environment: &Environment,
    ) -> Self {
        let settings = Arc::new(Settings::from(model));
        let gate = Arc::new(ClusterGate {
            limits: running.limits.clone(),
            counters: running.counters.clone(),
        });
        let reach = |security: Option<&Arc<dyn Secure>>| match &environment.answer {
            Some(answer) => Reach::Answer(Arc::new(Stand {
                cluster: model.name.clone(),
                hostname: None,
                secured: security.is_some(),
                answer: answer.clone(),
            })),
            None => Reach::Remote(Arc::new(Means {
                cluster: model.name.clone(),
                hostname: None,
                settings: settings.clone(),
                connector: environment.connector.clone(),
                gate: gate.clone(),
                security: security.cloned(),
            })),
        };
        Self {
            plain: reach(None),
            secured: secure.map(|secure| reach(Some(secure))),
        }
    }

    /// Whether an endpoint may say that it has not looked at `request`.
    pub(super) fn may_refuse<B>(&self, request: &Request<B>) -> bool {
        self.plain.may_refuse(request)
    }

    /// The way for endpoints that want their connections encrypted, or do not. One with a name has a way of its
    /// own, so that the others need not have a place for it.
    pub(super) fn of(&self, secured: bool, hostname: Option<&Arc<Authority>>) -> Cow<'_, Reach> {
        let common = match &self.secured {
            Some(common) if secured => common,
            Some(_) | None => &self.plain,
        };
        let Some(name) = hostname else {
            return Cow::Borrowed(common);
        };
        let hostname = Some(name.clone());
        Cow::Owned(match common {
            Reach::Answer(stand) => Reach::Answer(Arc::new(Stand {
                hostname,
                ..Stand::clone(stand)
            })),
            Reach::Remote(means) => Reach::Remote(Arc::new(Means {
                hostname,
                ..Means::clone(means)
            })),
        })
    }
}

/// Counts a request at its endpoint until it is dropped.
#[derive(Debug)]
pub(crate) struct InFlight {
    endpoint: Arc<Endpoint>,
}

impl InFlight {
    pub(crate) fn new(endpoint: Arc<Endpoint>) -> Self {
        endpoint.record.active.fetch_add(1, Ordering::Relaxed);
        endpoint.record.requests.fetch_add(1, Ordering::Relaxed);
        Self { endpoint }
    }

    pub(crate) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// The call has ended well, after this time.
    pub(crate) fn took(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let record = &self.endpoint.record;
        record.timed.fetch_add(1, Ordering::Relaxed);
        record.micros.fetch_add(micros, Ordering::Relaxed);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let active = &self.endpoint.record.active;
        active.fetch_sub(1, Ordering::Relaxed);
    }
}
