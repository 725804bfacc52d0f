//! Active health checks of a cluster's endpoints.
//!
//! Each endpoint of a cluster with checks has one task, which asks it over connections of its own
//! (Envoy's checks do not count against a cluster's limits either). The task belongs to the cluster's
//! [`Checks`], which live in what an edit does not restart: an edit ends the tasks of endpoints that
//! have left, begins those of endpoints that came, and leaves the others alone unless the check
//! itself or the connection settings are other ones; health is kept even then.
//!
//! # Before the first answer
//!
//! Envoy keeps a new cluster back until each endpoint was checked once. A mesh that starts must not
//! wait for a callee that is down, so here the endpoints that come together with the checks are used
//! until one of them has passed its first check; from then on only those that passed are. An
//! endpoint that joins later is not used before its first check, and an endpoint that was in use
//! when checks were added counts as healthy until they say otherwise.
//!
//! # How a verdict comes into force
//!
//! The task writes it down at the endpoint and marks the cluster as changed. A balancer belongs to a
//! snapshot, and a task that outlives many of them cannot know which is in force, so one task of the
//! mesh, which does, brings the balancers of marked clusters up to date.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::uri::{Authority, Scheme};
use http::{HeaderValue, Request, Response, Uri, Version, header};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tower_service::Service;

use super::cluster::Counters;
use super::endpoint::{Endpoint, Record};
use super::link::Environment;
use crate::body::Body;
use crate::error::Error;
use crate::event::{Announcer, Event};
use crate::layer::health::{
    self, Checker, ExchangeProbe, GrpcProbe, Health, HttpProbe, Probe, watch,
};
use crate::model;
use crate::model::cluster::Protocol;
use crate::model::endpoint::Address;
use crate::model::health::{GrpcQuestion, HealthCheck, HttpQuestion, Question, TcpQuestion};
use crate::transport::{
    Connect, Connections, Io, Means, Reach, Secure, Settings, Unlimited, known_as,
};

/// What active checks have found out about one endpoint.
#[derive(Debug, Default)]
pub(crate) struct Checked(AtomicU8);

/// Nobody asks.
const UNCHECKED: u8 = 0;
/// No check has ended; it is used for lack of a better one.
const PRESUMED: u8 = 1;
/// No check has ended; it is not used.
const UNKNOWN: u8 = 2;
const HEALTHY: u8 = 3;
const UNHEALTHY: u8 = 4;

impl Checked {
    fn get(&self) -> u8 {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self, state: u8) {
        self.0.store(state, Ordering::Relaxed);
    }

    /// Whether it may get requests.
    pub(crate) fn admits(&self) -> bool {
        !matches!(self.get(), UNKNOWN | UNHEALTHY)
    }

    /// What the last check said; `None` if there was none.
    pub(crate) fn health(&self) -> Option<Health> {
        match self.get() {
            HEALTHY => Some(Health::Healthy),
            UNHEALTHY => Some(Health::Unhealthy),
            _ => None,
        }
    }
}

/// The checks of one cluster. Dropping them ends their tasks.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    /// Made with the first check that a configuration asks for.
    begun: OnceLock<Box<Begun>>,
}

#[derive(Debug)]
struct Begun {
    board: Arc<Board>,
    // Locked by edits only.
    tasks: Mutex<HashMap<Address, Task>>,
    /// Whether a check is configured, also while there is no endpoint to ask.
    armed: AtomicBool,
}

/// What the tasks of a cluster share.
#[derive(Debug)]
struct Board {
    events: Announcer,
    /// Tells the mesh that a cluster is marked.
    changed: Arc<Notify>,
    marked: AtomicBool,
    /// Endpoints that are used although no check has ended. Locked when a first check ends.
    presumed: Mutex<Vec<Arc<Record>>>,
    checks: AtomicU64,
    failures: AtomicU64,
}

#[derive(Debug)]
struct Task {
    check: Arc<HealthCheck>,
    settings: Settings,
    secure: Option<Arc<dyn Secure>>,
    hostname: Option<Arc<Authority>>,
    record: Arc<Record>,
    running: Ended,
}

/// A task that ends when this is dropped.
#[derive(Debug)]
pub(super) struct Ended(JoinHandle<()>);

impl Ended {
    pub(super) fn new(task: JoinHandle<()>) -> Self {
        Self(task)
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What these hold is whole after each statement.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Checks {
    /// Ends all checks; what they found stays.
    pub(crate) fn end(&self) {
        if let Some(begun) = self.begun.get() {
            lock(&begun.tasks).clear();
        }
    }

    /// Whether a verdict has changed since this was asked for the last time.
    pub(crate) fn take_mark(&self) -> bool {
        let begun = self.begun.get();
        begun.is_some_and(|begun| begun.board.marked.swap(false, Ordering::SeqCst))
    }

    /// How many checks have ended, and how many of them did not pass.
    pub(crate) fn counted(&self) -> (u64, u64) {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        match self.begun.get() {
            Some(begun) => (read(&begun.board.checks), read(&begun.board.failures)),
            None => (0, 0),
        }
    }

    /// Checks these endpoints, and no others, as `model` says; `age` is the cluster's.
    pub(super) fn set<'a>(
        &self,
        model: &model::Cluster,
        endpoints: impl Iterator<Item = &'a Arc<Endpoint>>,
        counters: &Arc<Counters>,
        secure: Option<&Arc<dyn Secure>>,
        environment: &Environment,
        age: Age,
    ) {
        let Some(check) = &model.health_check else {
            self.end();
            if let Some(begun) = self.begun.get() {
                begun.armed.store(false, Ordering::Relaxed);
            }
            endpoints.for_each(|endpoint| endpoint.record.checked.set(UNCHECKED));
            return;
        };
        let Ok(runtime) = Handle::try_current() else {
            // The runtime is being torn down: nobody will be asked any more.
            return;
        };
        let begun = self.begun.get_or_init(|| Box::new(Begun::new(environment)));
        let mut tasks = lock(&begun.tasks);
        let settings = settings(model, &check.question);
        let added = !begun.armed.swap(true, Ordering::Relaxed);
        let begin = match (added, age, tasks.is_empty()) {
            (true, Age::Known, _) => Begin::Healthy,
            (_, _, true) => Begin::Presumed,
            (_, _, false) => Begin::Unknown,
        };
        let mut staying = HashSet::new();
        for endpoint in endpoints {
            staying.insert(endpoint.address().clone());
            // Checks go the way that requests go, encrypted or not.
            let secure = secure.filter(|_| endpoint.secured());
            let way = Way {
                address: endpoint.address(),
                hostname: endpoint.hostname(),
                settings: &settings,
                secure,
                environment,
            };
            let known = tasks.get(endpoint.address());
            if known.is_some_and(|task| task.serves(check, &way, endpoint)) {
                continue;
            }
            begun.begin(&endpoint.record, begin);
            let asking = Asking {
                board: begun.board.clone(),
                counters: counters.clone(),
                cluster: model.name.clone(),
                record: endpoint.record.clone(),
            };
            let running = asking.start(&runtime, check, &way);
            let task = Task {
                check: check.clone(),
                settings: settings.clone(),
                secure: secure.cloned(),
                hostname: endpoint.hostname().cloned(),
                record: endpoint.record.clone(),
                running: Ended::new(running),
            };
            tasks.insert(endpoint.address().clone(), task);
        }
        tasks.retain(|address, _| staying.contains(address));
    }
}

impl Begun {
    fn new(environment: &Environment) -> Self {
        Self {
            board: Arc::new(Board {
                events: environment.events.clone(),
                changed: environment.checked.clone(),
                marked: AtomicBool::new(false),
                presumed: Mutex::default(),
                checks: AtomicU64::new(0),
                failures: AtomicU64::new(0),
            }),
            tasks: Mutex::default(),
            armed: AtomicBool::new(false),
        }
    }

    /// What an endpoint counts as until its first check has ended.
    fn begin(&self, record: &Arc<Record>, begin: Begin) {
        let checked = &record.checked;
        if checked.get() != UNCHECKED {
            return;
        }
        checked.set(match begin {
            Begin::Healthy => HEALTHY,
            Begin::Presumed => {
                lock(&self.board.presumed).push(record.clone());
                PRESUMED
            }
            Begin::Unknown => UNKNOWN,
        });
    }
}

/// What endpoints count as until their first check has ended.
#[derive(Clone, Copy)]
enum Begin {
    /// As well: they were in use when the checks were added.
    Healthy,
    /// As a stand-in: there is nobody who is known to be well.
    Presumed,
    /// As nothing: others are asked already.
    Unknown,
}

/// Whether a cluster was there before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Age {
    Known,
    New,
}

impl Task {
    /// Whether it is what would be begun now.
    fn serves(&self, check: &HealthCheck, way: &Way<'_>, endpoint: &Endpoint) -> bool {
        let same = match (&self.secure, way.secure) {
            (Some(own), Some(other)) => Arc::ptr_eq(own, other),
            (own, other) => own.is_none() && other.is_none(),
        };
        same && *self.check == *check
            && self.settings == *way.settings
            && self.hostname.as_ref() == way.hostname
            && Arc::ptr_eq(&self.record, &endpoint.record)
            && !self.running.0.is_finished()
    }
}

/// How connections for checks are made: as those of requests, in the version that the check speaks.
fn settings(model: &model::Cluster, question: &Question) -> Settings {
    Settings {
        protocol: match question {
            Question::Grpc(_) => Protocol::Http2,
            Question::Http(http) if http.protocol == Protocol::Http2 => Protocol::Http2,
            Question::Http(_) | Question::Tcp(_) => Protocol::Http1,
        },
        ..Settings::from(model)
    }
}

/// How an endpoint is reached.
struct Way<'a> {
    address: &'a Address,
    hostname: Option<&'a Arc<Authority>>,
    settings: &'a Settings,
    secure: Option<&'a Arc<dyn Secure>>,
    environment: &'a Environment,
}

/// One endpoint that is asked.
struct Asking {
    board: Arc<Board>,
    counters: Arc<Counters>,
    cluster: Arc<str>,
    record: Arc<Record>,
}

impl Asking {
    fn start(self, runtime: &Handle, check: &HealthCheck, way: &Way<'_>) -> JoinHandle<()> {
        let initial = match self.record.checked.get() {
            HEALTHY => Health::Healthy,
            _ => Health::Unhealthy,
        };
        let timing = timing(check, initial);
        let checker = Checker::new(timing, Instant::now(), way.environment.random.clone());
        // `timing` has brought every duration within its bounds.
        let checker = checker.expect("durations were clamped to what a checker takes");
        let authority = authority(&self.cluster, &self.record.label);
        match &check.question {
            Question::Tcp(tcp) => {
                let dialler = Dialler {
                    connector: way.environment.connector.clone(),
                    settings: Arc::new(way.settings.clone()),
                    secure: way.secure.cloned(),
                    hostname: way.hostname.cloned(),
                };
                runtime.spawn(self.run(checker, exchange(tcp, dialler, way.address)))
            }
            Question::Http(http) => {
                let asked = Asked::new(check, way);
                runtime.spawn(self.run(checker, http_probe(http, asked, authority)))
            }
            Question::Grpc(grpc) => {
                let asked = Asked::new(check, way);
                runtime.spawn(self.run(checker, grpc_probe(grpc, asked, authority)))
            }
        }
    }

    async fn run<P: Probe + Send>(self, checker: Checker, probe: P) {
        match watch(checker, probe, |checker, verdict| {
            self.told(checker, verdict)
        })
        .await {}
    }

    /// A check has ended.
    fn told(&self, checker: &mut Checker, verdict: health::Verdict) {
        let quiet = self.counters.requests.load(Ordering::Relaxed) == 0;
        checker.set_quiet(quiet);
        checker.record(verdict, Instant::now());
        self.board.checks.fetch_add(1, Ordering::Relaxed);
        if verdict != health::Verdict::Healthy {
            self.board.failures.fetch_add(1, Ordering::Relaxed);
        }
        let (before, health) = (self.record.checked.get(), checker.health());
        let after = match health {
            Health::Healthy => HEALTHY,
            Health::Unhealthy => UNHEALTHY,
        };
        if before == after {
            return;
        }
        self.record.checked.set(after);
        if health == Health::Healthy {
            self.board.presume_no_more();
        }
        self.tell(health);
        self.board.marked.store(true, Ordering::SeqCst);
        self.board.changed.notify_one();
    }

    fn tell(&self, health: Health) {
        let (cluster, endpoint) = (self.cluster.clone(), self.record.label.clone());
        tracing::info!(
            cluster = &*cluster,
            endpoint = &*endpoint,
            ?health,
            "endpoint checked"
        );
        self.board.events.tell(|| match health {
            Health::Healthy => Event::Healthy { cluster, endpoint },
            Health::Unhealthy => Event::Unhealthy { cluster, endpoint },
        });
    }
}

impl Board {
    /// One endpoint is known to be well, so nobody has to stand in untried.
    fn presume_no_more(&self) {
        for record in lock(&self.presumed).drain(..) {
            let state = &record.checked.0;
            // One that was judged in the meantime keeps its verdict.
            let _ = state.compare_exchange(PRESUMED, UNKNOWN, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}

/// The checker's settings: those of the model, within the bounds of what it takes.
fn timing(check: &HealthCheck, initial: Health) -> health::Settings {
    let within = |time: Duration| time.clamp(health::LEAST, health::MOST);
    health::Settings {
        interval: within(check.interval),
        unhealthy_interval: check.unhealthy_interval.map(within),
        healthy_edge_interval: check.healthy_edge_interval.map(within),
        unhealthy_edge_interval: check.unhealthy_edge_interval.map(within),
        no_traffic_interval: check.no_traffic_interval.map(within),
        jitter: check.jitter.min(health::MOST),
        initial_jitter: check.initial_jitter.min(health::MOST),
        timeout: within(check.timeout),
        healthy_threshold: check.healthy_threshold,
        unhealthy_threshold: check.unhealthy_threshold,
        initial,
    }
}

/// What stands for the host where the check names none: names such as `outbound|80||catalog` are no
/// authorities.
pub(super) fn authority(cluster: &str, label: &str) -> Authority {
    Authority::try_from(cluster)
        .or_else(|_| Authority::try_from(label))
        .unwrap_or(Authority::from_static("localhost"))
}

fn exchange(
    question: &TcpQuestion,
    dialler: Dialler,
    address: &Address,
) -> ExchangeProbe<Dialler, Address> {
    ExchangeProbe::new(dialler, address.clone())
        .send(question.send.clone())
        .receive(question.receive.iter().cloned())
}

fn http_probe(question: &HttpQuestion, asked: Asked, authority: Authority) -> HttpProbe<Asked> {
    let mut request = Request::new(());
    *request.method_mut() = question.method.clone();
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(question.host.clone().unwrap_or(authority));
    parts.path_and_query = Some(question.path.clone());
    *request.uri_mut() = Uri::from_parts(parts).expect("scheme, authority and path are all there");
    let headers = request.headers_mut();
    headers.insert(header::USER_AGENT, HeaderValue::from_static("meshwork/HC"));
    for (name, value) in &question.headers {
        headers.append(name, value.clone());
    }
    let ranges = |pairs: &[(_, _)]| {
        pairs
            .iter()
            .map(|(from, to)| *from..=*to)
            .collect::<Vec<_>>()
    };
    let probe = HttpProbe::new(asked, request).retriable(ranges(&question.retriable));
    match question.expected.is_empty() {
        true => probe,
        false => probe.expected(ranges(&question.expected)),
    }
}

fn grpc_probe(question: &GrpcQuestion, asked: Asked, authority: Authority) -> GrpcProbe<Asked> {
    let authority = question.authority.clone().unwrap_or(authority);
    // A name that no server can have stays one when it is cut.
    let mut cuts = (0..=health::LONGEST_NAME.min(question.service.len())).rev();
    let end = cuts.find(|end| question.service.is_char_boundary(*end));
    let name = &question.service[..end.unwrap_or(0)];
    let probe = GrpcProbe::new(asked, Scheme::HTTP, authority, name);
    let probe = probe.expect("the name was cut to the longest that is taken");
    question
        .metadata
        .iter()
        .fold(probe, |probe, (name, value)| {
            probe.header(name.clone(), value.clone())
        })
}

/// An endpoint as a service: connections that serve checks alone.
#[derive(Clone)]
struct Asked(Arc<Connections>);

impl Asked {
    fn new(check: &HealthCheck, way: &Way<'_>) -> Self {
        let connections = match &way.environment.answer {
            Some(answer) => Connections::answering(answer.clone()),
            None => {
                let means = Means {
                    cluster: Arc::default(),
                    hostname: way.hostname.cloned(),
                    settings: Arc::new(way.settings.clone()),
                    connector: way.environment.connector.clone(),
                    gate: Arc::new(Unlimited),
                    security: way.secure.cloned(),
                };
                let reach = Reach::Remote(Arc::new(means));
                Arc::new(Connections::by(way.address.clone(), &reach))
            }
        };
        if !check.reuse_connection {
            // Each check has a connection of its own then.
            connections.retire();
        }
        Self(connections)
    }
}

impl Service<Request<Body>> for Asked {
    type Response = Response<Body>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let connections = self.0.clone();
        Box::pin(async move {
            let answered = connections.send(request, ()).await;
            answered.map_err(|unanswered| unanswered.error)
        })
    }
}

/// A connector as a service from an address to a stream.
struct Dialler {
    connector: Arc<dyn Connect>,
    settings: Arc<Settings>,
    secure: Option<Arc<dyn Secure>>,
    hostname: Option<Arc<Authority>>,
}

impl Service<Address> for Dialler {
    type Response = Io;
    type Error = std::io::Error;
    type Future = crate::transport::Connecting;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, address: Address) -> Self::Future {
        let connecting = self.connector.connect(&address, &self.settings);
        match self.secure.clone() {
            None => connecting,
            Some(secure) => {
                let known = known_as(&address, self.hostname.as_ref());
                Box::pin(async move {
                    let io = connecting.await?;
                    secure.secure(io, &known, Version::HTTP_11).await
                })
            }
        }
    }
}

impl fmt::Debug for Asking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Asking({})", self.record.label)
    }
}
