//! All series of a mesh.

#[cfg(feature = "inbound")]
use std::collections::HashMap;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::{ArcSwap, Guard};

use super::Instruments;
use super::access::AccessLog;
use super::labels::{Labels, Party, UNKNOWN};
use super::meter::Reporter;
use super::method::Methods;
use super::series::{Common, Counter, Series};
use super::told::{Logs, Told};
use super::trace::Tracing;
use crate::model;
#[cfg(feature = "inbound")]
use crate::model::identity::SpiffeId;
use crate::workload::Workload;

/// How many series there may be at once; what comes after them is measured as `unknown`.
pub(crate) const SERIES: usize = 4_096;

/// How many callers are told apart.
#[cfg(feature = "inbound")]
const CALLERS: usize = 1_024;

/// What is measured, and as whom.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Whether requests are measured at all.
    pub(crate) metrics: bool,
    /// Who this process is.
    pub(crate) workload: Workload,
    /// Where a line is written for each call.
    pub(crate) log: Option<AccessLog>,
    /// Who takes records of OpenTelemetry.
    #[cfg(feature = "otel")]
    pub(crate) logger: Option<super::told::ToLogger>,
    pub(crate) tracing: Tracing,
    /// Who is told of each request besides.
    pub(crate) instruments: Option<Instruments>,
    /// Which methods of gRPC are told by name.
    pub(crate) methods: Methods,
}

/// What is told by the configuration in force.
pub(super) type Standing = Arc<ArcSwap<Told>>;

/// The series of a mesh. Clones are the same.
#[derive(Clone)]
pub(crate) struct Registry {
    inner: Arc<Inner>,
}

struct Inner {
    metrics: bool,
    logs: Logs,
    /// What the configuration in force says, shared with all series.
    told: Standing,
    /// Whether it says something of logs or of methods: what a request looks at first, since mostly it
    /// does not.
    besides: AtomicBool,
    tracing: Tracing,
    common: Arc<Common>,
    own: Arc<Party>,
    // Locked while a configuration is linked and while metrics are read, never by a request.
    known: Mutex<Known>,
    unknown: Arc<Series>,
    blocked: Arc<Series>,
    /// Requests that arrive, by the principal of their caller; replaced as a whole when a new one
    /// comes, so that requests read without a lock.
    #[cfg(feature = "inbound")]
    callers: ArcSwap<HashMap<Option<SpiffeId>, Arc<Series>>>,
    rejected: Counter,
}

/// What requests to endpoints count for.
#[derive(Default)]
struct Known {
    series: BTreeMap<Arc<Labels>, Arc<Series>>,
    /// The callees of them, each once: of a large configuration most clusters lead to workloads of which
    /// nothing is known, and the others have many endpoints.
    parties: BTreeSet<Arc<Party>>,
}

impl Known {
    /// The one that is equal, if there is one; it is known when a series of it is.
    fn party(&self, party: Party) -> Arc<Party> {
        let same = self.parties.get(&party).cloned();
        same.unwrap_or_else(|| Arc::new(party))
    }
}

impl Registry {
    pub(crate) fn new(settings: Settings) -> Self {
        let workload = &settings.workload;
        let label = |name: &str| workload.labels().get(name).map(String::as_str);
        let own = Party::of(label, workload.namespace(), workload.cluster());
        let own = Arc::new(own);
        let outbound = |service_name: &str| Labels {
            reporter: Reporter::Source,
            source: own.clone(),
            destination: Arc::new(Party::unknown()),
            service: "unknown".into(),
            service_name: service_name.into(),
            service_namespace: "unknown".into(),
            security: "unknown",
        };
        let logs = Logs {
            program: settings.log.map(|log| Arc::new(log.start())),
            #[cfg(feature = "otel")]
            emit: settings.logger,
            open: Mutex::default(),
        };
        let told: Standing = Arc::new(ArcSwap::from_pointee(logs.told(&Arc::default())));
        let common = Arc::new(Common {
            instruments: settings.instruments,
            told: told.clone(),
            methods: Arc::new(settings.methods),
        });
        let series = |labels| Arc::new(Series::new(Arc::new(labels), common.clone()));
        let inner = Inner {
            metrics: settings.metrics,
            tracing: settings.tracing,
            unknown: series(outbound("unknown")),
            blocked: series(outbound("BlackHoleCluster")),
            common,
            #[cfg(feature = "inbound")]
            callers: ArcSwap::default(),
            own,
            known: Mutex::default(),
            rejected: Counter::default(),
            logs,
            besides: AtomicBool::new(told.load().has_more()),
            told,
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Whether there are metrics.
    pub(crate) fn measures(&self) -> bool {
        self.inner.metrics
    }

    /// Which methods of gRPC are told by name.
    pub(crate) fn methods(&self) -> &Methods {
        &self.inner.common.methods
    }

    /// Whether anything is told of requests.
    pub(crate) fn is_on(&self) -> bool {
        self.inner.metrics
            || self.inner.tracing.is_on()
            || self.inner.besides.load(Ordering::Relaxed)
    }

    /// What is told besides metrics and spans; `None`: nothing.
    pub(crate) fn told_besides(&self) -> Option<Guard<Arc<Told>>> {
        let besides = self.inner.besides.load(Ordering::Relaxed);
        besides.then(|| self.told())
    }

    /// What is told of a request that begins at this moment.
    pub(crate) fn told(&self) -> Guard<Arc<Told>> {
        self.inner.told.load()
    }

    /// Puts in force what a configuration says.
    pub(crate) fn tell(&self, model: &Arc<model::Telemetry>) {
        if self.told().model == *model {
            return;
        }
        let told = self.inner.logs.told(model);
        let besides = told.has_more();
        self.inner.told.store(Arc::new(told));
        self.inner.besides.store(besides, Ordering::Relaxed);
        for series in self.all() {
            series.rebind();
        }
    }

    /// How many lines of logs were not written.
    pub(crate) fn dropped_lines(&self) -> u64 {
        let logs = self.inner.logs.all();
        logs.iter().map(|log| log.dropped.read()).sum()
    }

    pub(crate) fn tracing(&self) -> &Tracing {
        &self.inner.tracing
    }

    /// Writes what waits to be written.
    pub(crate) fn close(&self) {
        for log in self.inner.logs.all() {
            log.close();
        }
    }

    /// Requests that no cluster was found for.
    pub(crate) fn unknown(&self) -> &Arc<Series> {
        &self.inner.unknown
    }

    /// Requests to hosts that are refused.
    pub(crate) fn blocked(&self) -> &Arc<Series> {
        &self.inner.blocked
    }

    /// Requests that arrive from this caller; `None`: one without an identity.
    ///
    /// One look into a table that never changes; the first request of a caller replaces it. Callers
    /// beyond [`CALLERS`] count as one without a name: who can get a certificate signed for any name
    /// must not be able to fill memory.
    #[cfg(feature = "inbound")]
    pub(crate) fn from(&self, principal: Option<&SpiffeId>) -> Arc<Series> {
        let caller = principal.cloned();
        let known = self.inner.callers.load();
        if let Some(series) = known.get(&caller) {
            return series.clone();
        }
        let caller = caller.filter(|_| known.len() < CALLERS);
        let series = Arc::new(Series::new(
            Arc::new(self.arriving(caller.as_ref())),
            self.inner.common.clone(),
        ));
        self.inner.callers.rcu(|known| {
            let mut known = HashMap::clone(known);
            known
                .entry(caller.clone())
                .or_insert_with(|| series.clone());
            known
        });
        // Another request of the same caller may have been first.
        let known = self.inner.callers.load();
        known.get(&caller).cloned().unwrap_or(series)
    }

    #[cfg(feature = "inbound")]
    fn arriving(&self, principal: Option<&SpiffeId>) -> Labels {
        let own = &self.inner.own;
        let mut source = Party::unknown();
        if let Some(principal) = principal {
            source.principal = principal.as_str().into();
            source.namespace = principal.namespace().unwrap_or("unknown").into();
        }
        Labels {
            reporter: Reporter::Destination,
            source: Arc::new(source),
            destination: own.clone(),
            service: "unknown".into(),
            service_name: own.canonical_service.clone(),
            service_namespace: own.namespace.clone(),
            security: principal.map_or("none", |_| "mutual_tls"),
        }
    }

    /// The host that a cluster is of, which is its `grpc.target`.
    pub(crate) fn target(cluster: &str) -> &str {
        Service::of(cluster).host
    }

    /// Configurations that were rejected.
    pub(crate) fn rejected(&self) -> &Counter {
        &self.inner.rejected
    }

    /// The series of requests to an endpoint with these labels in this cluster; those with the same
    /// labels share one, also from cluster to cluster and from configuration to configuration.
    pub(crate) fn toward<'a>(
        &self,
        cluster: &str,
        label: impl Fn(&str) -> Option<&'a str>,
    ) -> Arc<Series> {
        let service = Service::of(cluster);
        // A host that nobody declared may be anywhere; one whose endpoints have a namespace is of this mesh.
        let place = match service.namespace {
            UNKNOWN => UNKNOWN,
            _ => &self.inner.own.cluster,
        };
        let callee = Party::of(label, service.namespace, place);
        let mut known = self.known();
        let labels = Labels {
            reporter: Reporter::Source,
            source: self.inner.own.clone(),
            destination: known.party(callee),
            service: service.host.into(),
            service_name: service.name.into(),
            service_namespace: service.namespace.into(),
            security: "unknown",
        };
        if let Some(series) = known.series.get(&labels) {
            return series.clone();
        }
        if known.series.len() >= SERIES {
            return self.inner.unknown.clone();
        }
        let labels = Arc::new(labels);
        let series = Arc::new(Series::new(labels.clone(), self.inner.common.clone()));
        known.parties.insert(labels.destination.clone());
        known.series.insert(labels, series.clone());
        series
    }

    /// Forgets the series that nobody holds any more.
    pub(crate) fn prune(&self) {
        let Known { series, parties } = &mut *self.known();
        series.retain(|_, series| Arc::strong_count(series) > 1);
        parties.retain(|party| Arc::strong_count(party) > 1);
    }

    /// All series, in the order of their labels.
    pub(crate) fn all(&self) -> Vec<Arc<Series>> {
        let mut all: Vec<_> = self.known().series.values().cloned().collect();
        let Inner {
            unknown, blocked, ..
        } = &*self.inner;
        all.extend([unknown, blocked].map(Arc::clone));
        #[cfg(feature = "inbound")]
        {
            let mut callers: Vec<_> = self.inner.callers.load().values().cloned().collect();
            callers.sort_by(|one, other| one.labels.cmp(&other.labels));
            all.extend(callers);
        }
        all
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.inner
            .known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("metrics", &self.inner.metrics)
            .field("series", &self.known().series.len())
            .finish_non_exhaustive()
    }
}

/// The service that a cluster's name tells of: `outbound|port|subset|host`, or a name of others.
struct Service<'a> {
    host: &'a str,
    name: &'a str,
    namespace: &'a str,
}

impl<'a> Service<'a> {
    fn of(cluster: &'a str) -> Self {
        let unknown = "unknown";
        let host = match cluster.splitn(4, '|').collect::<Vec<_>>()[..] {
            ["outbound", _, _, host] => host,
            _ => {
                return Self {
                    host: if cluster == "PassthroughCluster" {
                        unknown
                    } else {
                        cluster
                    },
                    name: cluster,
                    namespace: unknown,
                };
            }
        };
        let mut parts = host.splitn(4, '.');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(name), Some(namespace), Some("svc")) => Self {
                host,
                name,
                namespace,
            },
            _ => Self {
                host,
                name: host,
                namespace: unknown,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry() -> Registry {
        Registry::new(Settings {
            metrics: true,
            workload: Workload::new("shop", "order-sa").label("app", "order"),
            log: None,
            instruments: None,
            methods: Methods::default(),
            #[cfg(feature = "otel")]
            logger: None,
            #[cfg(feature = "otel")]
            tracing: Tracing::new(
                None,
                crate::model::Fraction::ZERO,
                Vec::new(),
                crate::random::Random::seeded(1),
            ),
            #[cfg(not(feature = "otel"))]
            tracing: Tracing,
        })
    }

    #[test]
    fn equal_labels_share_a_series_and_unused_ones_are_forgotten() {
        let registry = registry();
        let of = |cluster: &str, version: &'static str| {
            registry.toward(cluster, move |name| (name == "version").then_some(version))
        };
        let v1 = of("outbound|80|v1|catalog.shop.svc.cluster.local", "v1");
        let all = of("outbound|80||catalog.shop.svc.cluster.local", "v1");
        let v2 = of("outbound|80||catalog.shop.svc.cluster.local", "v2");
        assert!(Arc::ptr_eq(&v1, &all) && !Arc::ptr_eq(&v1, &v2));
        assert_eq!(&*v1.labels.service_name, "catalog");
        assert_eq!(&*v1.labels.service_namespace, "shop");
        assert_eq!(&*v1.labels.source.app, "order");
        let other = of("outbound|80||order.shop.svc.cluster.local", "v1");
        let party = |series: &Arc<Series>| series.labels.destination.clone();
        assert!(!Arc::ptr_eq(&v1, &other) && Arc::ptr_eq(&party(&v1), &party(&other)));
        drop((v1, all));
        registry.prune();
        let counts = || {
            let known = registry.known();
            (known.series.len(), known.parties.len())
        };
        assert_eq!(counts(), (2, 2));
        drop(other);
        registry.prune();
        assert_eq!(counts(), (1, 1));
    }

    #[test]
    fn there_are_never_more_series_than_the_bound() {
        let registry = registry();
        let held: Vec<_> = (0..SERIES + 10)
            .map(|number| registry.toward(&format!("c{number}"), |_| None))
            .collect();
        assert_eq!(registry.known().series.len(), SERIES);
        assert!(Arc::ptr_eq(&held[SERIES + 9], registry.unknown()));
    }

    #[test]
    fn services_are_read_from_names_of_clusters() {
        for (cluster, host, name, namespace) in [
            (
                "outbound|80|v1|a.b.svc.cluster.local",
                "a.b.svc.cluster.local",
                "a",
                "b",
            ),
            (
                "outbound|443||api.example.com",
                "api.example.com",
                "api.example.com",
                "unknown",
            ),
            (
                "PassthroughCluster",
                "unknown",
                "PassthroughCluster",
                "unknown",
            ),
            ("foreign", "foreign", "foreign", "unknown"),
        ] {
            let service = Service::of(cluster);
            assert_eq!(
                (service.host, service.name, service.namespace),
                (host, name, namespace)
            );
        }
    }
}
