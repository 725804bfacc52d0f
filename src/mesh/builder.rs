//! How a mesh is put together.

use std::fmt;
use std::net::IpAddr;
#[cfg(feature = "yaml")]
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use crate::body::replay::Buffers;
use crate::dns::{self, Resolve};
use crate::error::Error;
use crate::event::Announcer;
#[cfg(feature = "yaml")]
use crate::event::Event;
use crate::filter::Filters;
use crate::layer::balance::HashKey;
use crate::layer::fault::ActiveFaults;
#[cfg(feature = "otel")]
use crate::model::Fraction;
use crate::model::OutboundTraffic;
#[cfg(feature = "xds")]
use crate::model::Resources;
use crate::outbound::{Core, Drain, Mirrors, Passthrough};
use crate::random::Random;
use crate::snapshot::{Demand, Environment, InboundCounts, Live, Rates, Tallies};
#[cfg(feature = "yaml")]
use crate::source::istio;
#[cfg(feature = "xds")]
use crate::source::xds;
use crate::source::{Feed, Published, What};
use crate::telemetry::access::AccessLog;
use crate::telemetry::trace::Tracing;
use crate::telemetry::{self, Registry};
use crate::transport::{Answer, Connect, Single, TcpConnector};
use crate::workload::Workload;

#[cfg(feature = "tls-core")]
use super::identities::Identities;
use super::tasks::{self, Applier, Tasks};
use super::{Mesh, Shared};

/// Builds a [`Mesh`].
///
/// Without a source of configuration the mesh knows nobody and every host is unknown to it.
#[must_use = "a builder does nothing until it is started"]
pub struct Builder {
    source: Source,
    workload: Workload,
    unknown: Option<OutboundTraffic>,
    answer: Option<Answer>,
    connector: Option<Arc<dyn Connect>>,
    resolver: Option<Arc<dyn Resolve>>,
    random: Random,
    address: Option<IpAddr>,
    metrics: bool,
    methods: Vec<String>,
    log: Option<AccessLog>,
    #[cfg(feature = "otel")]
    tracer: Option<opentelemetry::global::BoxedTracer>,
    #[cfg(feature = "otel")]
    logger: Option<telemetry::ToLogger>,
    #[cfg(feature = "otel")]
    sampled: Fraction,
    #[cfg(feature = "otel")]
    meter: Option<opentelemetry::metrics::Meter>,
    #[cfg(feature = "tls-core")]
    identity: Option<crate::tls::Source>,
    #[cfg(feature = "tls-core")]
    credentials: Vec<(Arc<str>, crate::tls::Source)>,
    #[cfg(feature = "tls-core")]
    clock: crate::tls::Clock,
    #[cfg(feature = "jwt")]
    key_networks: Vec<crate::model::authorization::Network>,
    #[cfg(feature = "inbound")]
    pub(super) levels: Option<Arc<crate::operator::Levels>>,
    filters: Filters,
}

enum Source {
    Nothing,
    #[cfg(feature = "xds")]
    Xds(Box<xds::Bootstrap>),
    Feed(Feed),
    #[cfg(feature = "yaml")]
    Yaml(PathBuf, istio::Options),
}

impl Builder {
    pub(super) fn new() -> Self {
        Self {
            source: Source::Nothing,
            workload: Workload::new("default", "default"),
            unknown: None,
            answer: None,
            connector: None,
            resolver: None,
            random: Random::from_entropy(),
            address: None,
            metrics: true,
            methods: Vec::new(),
            log: None,
            #[cfg(feature = "otel")]
            tracer: None,
            #[cfg(feature = "otel")]
            logger: None,
            #[cfg(feature = "otel")]
            sampled: Fraction::from_parts_per_million(10_000).unwrap_or(Fraction::ZERO),
            #[cfg(feature = "otel")]
            meter: None,
            #[cfg(feature = "tls-core")]
            identity: None,
            #[cfg(feature = "tls-core")]
            credentials: Vec::new(),
            filters: Filters::default(),
            #[cfg(feature = "tls-core")]
            clock: crate::tls::Clock::default(),
            #[cfg(feature = "jwt")]
            key_networks: Vec::new(),
            #[cfg(feature = "inbound")]
            levels: None,
        }
    }

    /// Reads Istio and Kubernetes YAML from a file or a folder, and watches it: a good edit is in
    /// force at most a second after it is complete, a bad one changes nothing and is logged.
    ///
    /// The last of `yaml` and `feed` wins.
    #[cfg(feature = "yaml")]
    pub fn yaml(self, path: impl Into<PathBuf>) -> Self {
        self.yaml_with(path, istio::Options::default())
    }

    /// As [`yaml`](Self::yaml), with other rules for what is accepted.
    #[cfg(feature = "yaml")]
    pub fn yaml_with(mut self, path: impl Into<PathBuf>, options: istio::Options) -> Self {
        self.source = Source::Yaml(path.into(), options);
        self
    }

    /// Asks control planes by xDS, as `bootstrap` says, for what channels and requests are for.
    ///
    /// [`start`](Self::start) waits for no server: nothing is asked for yet. A call waits for what it
    /// asks for, within its deadline, and fails at once while no server can be reached; what is known
    /// stays in force whatever becomes of the servers. The [`connector`](Self::connector) connects to
    /// them too.
    ///
    /// The last of `xds`, `yaml` and `feed` wins.
    #[cfg(feature = "xds")]
    pub fn xds(mut self, bootstrap: xds::Bootstrap) -> Self {
        self.source = Source::Xds(Box::new(bootstrap));
        self
    }

    /// Takes configuration from the program itself, see [`source::feed`](crate::source::feed).
    pub fn feed(mut self, feed: Feed) -> Self {
        self.source = Source::Feed(feed);
        self
    }

    /// Says who this client is; the default is service account `default` in namespace `default`.
    pub fn workload(mut self, workload: Workload) -> Self {
        self.workload = workload;
        self
    }

    /// Says what happens to requests for unknown hosts, whatever the configuration says of them
    /// (`outboundTrafficPolicy`). If neither says anything they are passed through.
    pub fn outbound_traffic(mut self, policy: OutboundTraffic) -> Self {
        self.unknown = Some(policy);
        self
    }

    /// Makes connections in another way than by TCP and Unix sockets: in memory, in a test.
    ///
    /// It is given names as they are ([`Address::Name`](crate::model::endpoint::Address::Name)) and
    /// nothing is resolved, unless there is a [`resolver`](Self::resolver) too. Of an endpoint with several
    /// addresses it is asked for one at a time.
    pub fn connector(mut self, connector: impl Connect) -> Self {
        self.connector = Some(Arc::new(connector));
        self
    }

    /// Asks for names in another way than by the system's name servers, see
    /// [`dns`](crate::dns).
    pub fn resolver(mut self, resolver: impl Resolve) -> Self {
        self.resolver = Some(Arc::new(resolver));
        self
    }

    /// Says which address this process has, for consistent hashes of it (Istio's `useSourceIp`).
    ///
    /// All requests of a process go to one endpoint then, as those of a pod do behind a sidecar.
    /// Without an address a number that is drawn at the start stands for it: an address that the
    /// process guessed would be wrong behind every second network, and says nothing more.
    pub fn address(mut self, address: IpAddr) -> Self {
        self.address = Some(address);
        self
    }

    /// Adds a filter of HTTP that a control plane may configure, see [`filter`](crate::filter). Of two
    /// for the same message the later one counts.
    pub fn filter(mut self, filter: impl crate::filter::Filter) -> Self {
        self.filters.add(filter);
        self
    }

    /// Says where this process has its identity from, and whom it trusts: credentials that the
    /// program renews ([`Credentials`](crate::tls::Credentials)), files
    /// ([`FileSource`](crate::tls::FileSource)), or an authority that signs requests, such as istiod or
    /// `meshwork serve --ca` ([`CsrSource`](crate::tls::CsrSource)).
    ///
    /// The mesh presents it to servers that a DestinationRule in mode ISTIO_MUTUAL or auto mTLS lead
    /// to, and to clients of its own listeners. Without one, connections that must present an identity
    /// fail, and auto mTLS is off. What cannot be used yet is tried again, see
    /// [`tls`](crate::tls); the mesh starts without it.
    #[cfg(feature = "tls-core")]
    pub fn identity(mut self, source: impl Into<crate::tls::Source>) -> Self {
        self.identity = Some(source.into());
        self
    }

    /// Says where the certificates are that a configuration calls by this name: a DestinationRule's
    /// `tls.credentialName`, or a provider of a control plane's that its bootstrap does not have.
    ///
    /// In mode MUTUAL the identity is presented and the roots
    /// ([`Trust::with_roots`](crate::tls::Trust::with_roots)) are trusted, in SIMPLE the roots alone count. A secret of Kubernetes that is mounted is a [`FileSource`](crate::tls::FileSource) over
    /// `tls.crt`, `tls.key` and `ca.crt`. A name that nobody says has no identity and trusts nobody:
    /// connections that need it fail, and never go in plaintext. Of two for one name the later counts.
    ///
    /// ```no_run
    /// use meshwork::model::security::Files;
    /// use meshwork::tls::FileSource;
    ///
    /// # async fn example() -> Result<(), meshwork::Error> {
    /// let at = |file: &str| Some(std::path::Path::new("/etc/partner").join(file).into());
    /// let partner = FileSource::new(Files {
    ///     certificate: at("tls.crt"),
    ///     key: at("tls.key"),
    ///     roots: at("ca.crt"),
    ///     revocations: None,
    /// });
    /// let mesh = meshwork::Mesh::builder().yaml("mesh/").credential("partner", partner).start().await?;
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "tls-core")]
    pub fn credential(
        mut self,
        name: impl Into<Arc<str>>,
        source: impl Into<crate::tls::Source>,
    ) -> Self {
        self.credentials.push((name.into(), source.into()));
        self
    }

    /// Judges certificates by this clock in place of the system's, those of peers and those that an authority issues
    /// to this process.
    ///
    /// In production it is the system's with a [skew](crate::tls::Clock::with_skew), where clocks of machines are
    /// apart and the authority does not date certificates back; the default is no skew. A test gives one
    /// that it [can move](crate::tls::Clock::starting_at).
    #[cfg(feature = "tls-core")]
    pub fn clock(mut self, clock: crate::tls::Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Lets the keys of tokens (`jwksUri`) be fetched from addresses of this network too. By default those
    /// of this machine, of its link and of its cloud's metadata are refused, whatever a name resolves to
    /// and wherever a redirect leads: who writes configuration must not be able to make this process ask
    /// them. May be called again for further networks.
    #[cfg(feature = "jwt")]
    pub fn token_keys_in(mut self, network: crate::model::authorization::Network) -> Self {
        self.key_networks.push(network);
        self
    }

    /// Lets `answer` stand in for every endpoint, without a connection: what is left is the cost of
    /// the mesh itself. Wins over [`connector`](Self::connector). See
    /// [`Connections::answering`](crate::transport::Connections::answering).
    #[cfg(feature = "test-util")]
    pub fn answering(mut self, answer: Answer) -> Self {
        self.answer = Some(answer);
        self
    }

    /// Whether requests are measured for [`Mesh::metrics`]; they are by default. What costs nothing
    /// on the way of a request (the counters of clusters) is there in any case.
    pub fn metrics(mut self, measured: bool) -> Self {
        self.metrics = measured;
        self
    }

    /// Tells these methods of gRPC by name in its metrics (gRFC A66's `grpc.method`), of calls that leave and
    /// of those that arrive, each as `package.Service/Method`. All others are `other`, but those of clients
    /// that tonic generated, which say themselves which they call (feature `tonic`). Adds to what was named
    /// before; at most 256 are told by name, those of generated clients included.
    ///
    /// ```
    /// let builder = meshwork::Mesh::builder().grpc_methods(["shop.Catalog/List", "shop.Catalog/Get"]);
    /// ```
    ///
    /// One that is no method, and more than 256, are faults when the mesh is [started](Self::start).
    pub fn grpc_methods(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.methods.extend(names.into_iter().map(Into::into));
        self
    }

    /// Writes a line for each call in Envoy's words, see [`AccessLog`]; by default none is written. What
    /// waits to be written is written when the mesh [shuts down](Mesh::shutdown).
    pub fn access_log(mut self, log: AccessLog) -> Self {
        self.log = Some(log);
        self
    }

    /// Makes spans of calls, their tries and inbound requests with this tracer, such as
    /// `opentelemetry::global::tracer("order")`; `docs/TRACES.md` tells which. Without one the mesh
    /// still carries the trace of an inbound request on to the calls that are made under it.
    #[cfg(feature = "otel")]
    pub fn traces(mut self, tracer: opentelemetry::global::BoxedTracer) -> Self {
        self.tracer = Some(tracer);
        self
    }

    /// Tells everything that [`Mesh::metrics`] tells to this meter too, such as
    /// `opentelemetry::global::meter("order")`: requests and calls of gRPC are recorded as they end (calls in
    /// gRPC's own names, units and buckets), what is counted elsewhere is observed when a reader asks. Its SDK must be built with the feature
    /// `experimental_metrics_bound_instruments`; without it nothing arrives.
    #[cfg(feature = "otel")]
    pub fn meter(mut self, meter: opentelemetry::metrics::Meter) -> Self {
        self.meter = Some(meter);
        self
    }

    /// Takes the records of access logs that the configuration has for OpenTelemetry (a provider
    /// `envoyOtelAls` that a Telemetry names), such as
    /// `provider.logger("order")`. Without one such a log is empty, and an event of level ERROR says so.
    #[cfg(feature = "otel")]
    pub fn logger<L>(mut self, logger: L) -> Self
    where
        L: opentelemetry::logs::Logger + Send + Sync + 'static,
    {
        self.logger = Some(telemetry::ToLogger(telemetry::access::emit(logger)));
        self
    }

    /// Which share of the traces that begin here is sampled; 1 % by default, as Istio has it. A parent's
    /// decision wins over it, and so does a Telemetry of the configuration.
    #[cfg(feature = "otel")]
    pub fn trace_sampling(mut self, share: Fraction) -> Self {
        self.sampled = share;
        self
    }

    /// Draws from this source of chance: a seeded one makes every decision repeatable.
    pub fn random(mut self, random: Random) -> Self {
        self.random = random;
        self
    }

    /// Starts the mesh. Must be called within a tokio runtime.
    ///
    /// Returns when the configuration is in force. Cancel-safe: nothing runs until it returns.
    ///
    /// # Errors
    /// All faults of the first configuration, each with file, line and field; or that it cannot be
    /// read; names of [`grpc_methods`](Self::grpc_methods) that are none; a `FileSource` that
    /// contradicts itself, whereas files that cannot be used yet are waited for.
    pub async fn start(self) -> Result<Mesh, Error> {
        let methods = telemetry::Methods::new(&self.methods)
            .map_err(|faults| Error::config(faults.to_string()))?;
        // Nothing is resolved for who connects in another way, or not at all, unless they ask.
        #[cfg(feature = "inbound")]
        let workload = self.workload.clone();
        let by_sockets = self.connector.is_none() && self.answer.is_none();
        let standard = || by_sockets.then(dns::default_resolver);
        let resolver = self.resolver.or_else(standard);
        let mut connector: Arc<dyn Connect> = match self.connector {
            None => Arc::new(TcpConnector),
            Some(own) => Arc::new(Single::over(own)),
        };
        #[cfg(feature = "xds")]
        let to_servers = connector.clone();
        let names = Arc::new(dns::Names::new(self.random.clone()));
        if resolver.is_some() {
            connector = Arc::new(dns::Resolving::new(connector, names.clone()));
        }
        let tasks = Tasks::default();
        #[cfg(feature = "tls-core")]
        let materials = Identities {
            own: self.identity,
            named: self.credentials,
        }
        .start(self.clock, &self.random, &tasks)?;
        let environment = Environment {
            active_faults: ActiveFaults::default(),
            answer: self.answer,
            checked: Arc::default(),
            connector,
            demand: self.source.demand(),
            source: match self.address {
                Some(address) => HashKey::of(address.to_string()),
                None => HashKey(self.random.draw()),
            },
            events: Announcer::default(),
            rates: Rates::default(),
            tallies: Tallies::default(),
            filters: self.filters,
            telemetry: Registry::new(telemetry::Settings {
                metrics: self.metrics,
                methods,
                workload: self.workload.clone(),
                log: self.log,
                #[cfg(feature = "otel")]
                logger: self.logger,
                #[cfg(feature = "otel")]
                instruments: self.meter.as_ref().map(telemetry::Instruments::new),
                #[cfg(not(feature = "otel"))]
                instruments: None,
                #[cfg(feature = "otel")]
                tracing: Tracing::new(
                    self.tracer,
                    self.sampled,
                    own_attributes(&self.workload),
                    self.random.clone(),
                ),
                #[cfg(not(feature = "otel"))]
                tracing: Tracing,
            }),
            #[cfg(feature = "tls-core")]
            materials,
            random: self.random,
        };
        let core = Arc::new(Core {
            live: Live::new(),
            passthrough: Passthrough::new(self.unknown, &environment),
            environment,
            drain: Arc::new(Drain::default()),
            generation: watch::Sender::new(0),
            buffers: Buffers::default(),
            mirrors: Mirrors::default(),
            inbound: InboundCounts::default(),
            #[cfg(feature = "jwt")]
            clock: self.clock,
            #[cfg(feature = "jwt")]
            key_networks: self.key_networks.into(),
            upkeep: Mutex::default(),
        });
        let applier = Arc::new(Applier::new(core.clone(), names.clone()));
        #[cfg(feature = "tls-core")]
        if let Some(own) = core.environment.materials.mesh().cloned() {
            tasks.spawn(tasks::renew(core.clone(), own));
        }
        #[cfg(feature = "xds")]
        let mut driver = None;
        match self.source {
            Source::Nothing => {
                applier.apply(Arc::default());
            }
            Source::Feed(feed) => {
                applier.apply(feed.initial.clone());
                tasks.spawn(follow_feed(applier.clone(), feed));
            }
            #[cfg(feature = "xds")]
            Source::Xds(bootstrap) => {
                let to_apply = applier.clone();
                let apply = Box::new(move |resources: &Arc<Resources>| {
                    to_apply.apply(resources.clone());
                });
                for (name, files) in bootstrap.certificates() {
                    let materials = &core.environment.materials;
                    tasks.spawn(materials.provide(name, files));
                }
                if let Some(demand) = core.environment.demand.clone() {
                    let loaded = core.clone();
                    let surroundings = xds::Surroundings {
                        loads: Box::new(move |names| tasks::loads(&loaded, names)),
                        random: core.environment.random.clone(),
                        connector: to_servers,
                        demand,
                        apply,
                        materials: core.environment.materials.clone(),
                        filters: core.environment.filters.clone(),
                    };
                    let running = xds::start(&bootstrap, surroundings).await;
                    applier.start();
                    driver = Some(running.clone());
                    tasks.spawn(running.run());
                }
            }
            #[cfg(feature = "yaml")]
            Source::Yaml(path, options) => {
                let (resources, updates) = istio::Istio::start(path, self.workload, options)
                    .await
                    .map_err(|faults| Error::config(faults.to_string()))?;
                applier.apply(resources);
                tasks.spawn(follow_yaml(applier.clone(), updates));
            }
        }
        if let Some(resolver) = resolver {
            tasks.spawn(async move { names.run(&*resolver, || applier.renew()).await });
        }
        tasks.spawn(tasks::sweep(core.clone()));
        tasks.spawn(tasks::heed_checks(core.clone()));
        let mesh = Mesh {
            shared: Arc::new(Shared {
                #[cfg(feature = "inbound")]
                inbound: crate::inbound::InboundLayer::new(core.clone()),
                core,
                tasks,
                #[cfg(feature = "xds")]
                driver,
                #[cfg(feature = "inbound")]
                workload,
                #[cfg(feature = "inbound")]
                levels: self.levels,
            }),
        };
        #[cfg(feature = "otel")]
        if let Some(meter) = &self.meter {
            mesh.observe(meter);
        }
        Ok(mesh)
    }
}

/// What every span says of this process, in Istio's words.
#[cfg(feature = "otel")]
fn own_attributes(workload: &Workload) -> Vec<opentelemetry::KeyValue> {
    let app = workload
        .labels()
        .get("app")
        .map_or("unknown", String::as_str);
    vec![
        opentelemetry::KeyValue::new("istio.canonical_service", app.to_owned()),
        opentelemetry::KeyValue::new("istio.namespace", workload.namespace().to_owned()),
    ]
}

impl Source {
    /// What a source that is asked for names is asked.
    fn demand(&self) -> Option<Arc<Demand>> {
        match self {
            #[cfg(feature = "xds")]
            Self::Xds(bootstrap) => {
                Some(Demand::new(bootstrap.naming(), bootstrap.server_naming()))
            }
            Self::Nothing | Self::Feed(_) => None,
            #[cfg(feature = "yaml")]
            Self::Yaml(..) => None,
        }
    }
}

async fn follow_feed(applier: Arc<Applier>, mut feed: Feed) {
    while let Some(Published { what, applied }) = feed.sets.recv().await {
        let generation = match what {
            What::Endpoints(endpoints) => applier.apply_endpoints(endpoints),
            What::Set(resources) => applier.apply(resources),
        };
        // Whoever published may have gone; it is in force all the same.
        let _ = applied.send(generation);
    }
}

#[cfg(feature = "yaml")]
async fn follow_yaml(applier: Arc<Applier>, mut updates: istio::Updates) {
    while let Some(update) = updates.next().await {
        match update {
            istio::Update::Resources(resources) => {
                applier.apply(resources);
            }
            istio::Update::Rejected(faults) => {
                applier.rejected();
                applier.events().tell(|| Event::ConfigRejected {
                    text: faults.to_string().into(),
                });
                tracing::error!(
                    "configuration rejected, the last good one stays in force\n{faults}"
                );
            }
        }
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("workload", &self.workload)
            .field("unknown", &self.unknown)
            .finish_non_exhaustive()
    }
}
