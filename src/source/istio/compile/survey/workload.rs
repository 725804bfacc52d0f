//! Who runs, as far as the set says.

use std::collections::BTreeMap;

use crate::source::istio::kinds::{Container, Kind, Object, PodSpec, Probe, Service, TargetPort};
use crate::source::istio::registry::{chooses, selects};

/// The annotation and label of pods that are not to be a part of the mesh.
pub(super) const INJECT: &str = "sidecar.istio.io/inject";

/// A pod, what makes pods, or a machine.
pub(super) struct Runs<'a> {
    pub(super) object: &'a Object,
    pub(super) namespace: &'a str,
    pub(super) labels: &'a BTreeMap<String, String>,
    /// `ns/my-app/sa/order-sa`; `None`: not known.
    pub(super) account: Option<String>,
    /// How many there are of it.
    pub(super) count: u32,
    /// Whether it is a part of the mesh.
    pub(super) meshed: bool,
    containers: &'a [Container],
}

/// Everybody, and the services before them.
pub(super) struct Census<'a> {
    pub(super) all: Vec<Runs<'a>>,
    pub(super) services: Vec<(&'a Object, &'a Service)>,
}

/// A probe by HTTP of a container.
pub(super) struct HttpProbe<'a> {
    pub(super) port: u16,
    pub(super) path: &'a str,
    /// Where it is written.
    pub(super) place: (u32, u32),
}

impl<'a> Census<'a> {
    pub(super) fn of(objects: &[&'a Object]) -> Self {
        let mut census = Self {
            all: Vec::new(),
            services: Vec::new(),
        };
        for &object in objects {
            if let Kind::Service(service) = &object.kind {
                census.services.push((object, service));
            }
            census.all.extend(Runs::of(object));
        }
        census
    }

    /// Those of a namespace that labels select; no namespace: those of all.
    pub(super) fn selected(
        &self,
        namespace: Option<&str>,
        labels: Option<&BTreeMap<String, String>>,
    ) -> impl Iterator<Item = &Runs<'a>> {
        self.all.iter().filter(move |one| {
            namespace.is_none_or(|namespace| one.namespace == namespace)
                && labels.is_none_or(|labels| selects(labels, one.labels))
        })
    }

    /// The services before a workload.
    pub(super) fn before(
        &self,
        one: &Runs<'_>,
    ) -> impl Iterator<Item = &(&'a Object, &'a Service)> {
        self.services.iter().filter(move |(object, service)| {
            *object.meta.namespace == *one.namespace && chooses(&service.selector, one.labels)
        })
    }

    /// How many stand behind a service: those of controllers, else the pods themselves.
    pub(super) fn behind(&self, object: &Object, service: &Service) -> u32 {
        let namespace = Some(&*object.meta.namespace);
        let all = || self.selected(namespace, Some(&service.selector));
        let made = all().filter(|one| matches!(one.object.kind, Kind::Workload(_)));
        let made: u32 = made.map(|one| one.count).sum();
        let pods = all().filter(|one| !matches!(one.object.kind, Kind::Workload(_)));
        made.max(u32::try_from(pods.count()).unwrap_or(u32::MAX))
    }
}

impl<'a> Runs<'a> {
    fn of(object: &'a Object) -> Option<Self> {
        let out =
            |map: &BTreeMap<String, String>| map.get(INJECT).is_some_and(|value| value == "false");
        match &object.kind {
            Kind::Pod(pod) => {
                let meta = &object.meta;
                let meshed = !out(&meta.annotations) && !out(&meta.labels);
                Some(Self::pods(object, &meta.labels, &pod.spec, 1, meshed))
            }
            Kind::Workload(workload) => {
                let template = &workload.template;
                let meta = &template.metadata;
                let meshed = !out(&meta.annotations) && !out(&meta.labels);
                let count = workload.replicas.unwrap_or(1);
                let pods = Self::pods(object, &meta.labels, &template.spec, count, meshed);
                Some(pods)
            }
            Kind::WorkloadEntry(entry) => {
                let account = entry.service_account.as_ref();
                let namespace = &*object.meta.namespace;
                Some(Self {
                    object,
                    namespace,
                    labels: &entry.labels,
                    account: account.map(|account| format!("ns/{namespace}/sa/{account}")),
                    count: 1,
                    meshed: account.is_some(),
                    containers: &[],
                })
            }
            _other_kinds => None,
        }
    }

    fn pods(
        object: &'a Object,
        labels: &'a BTreeMap<String, String>,
        spec: &'a PodSpec,
        count: u32,
        meshed: bool,
    ) -> Self {
        let namespace = &*object.meta.namespace;
        let account = spec.service_account_name.as_deref().unwrap_or("default");
        Self {
            object,
            namespace,
            labels,
            account: Some(format!("ns/{namespace}/sa/{account}")),
            count,
            meshed,
            containers: &spec.containers,
        }
    }

    /// Whether it says that it listens on a port.
    pub(super) fn listens(&self, port: u16) -> bool {
        let mut ports = self.containers.iter().flat_map(|one| &one.ports);
        ports.any(|one| one.container_port == port)
    }

    /// The probes that come by HTTP, each port and path once.
    pub(super) fn probes(&self) -> Vec<HttpProbe<'a>> {
        let mut found: Vec<HttpProbe<'a>> = Vec::new();
        for container in self.containers {
            let all = [
                &container.readiness_probe,
                &container.liveness_probe,
                &container.startup_probe,
            ];
            for probe in all.into_iter().flatten() {
                if let Some(probe) = http(container, probe)
                    && !found
                        .iter()
                        .any(|one| (one.port, one.path) == (probe.port, probe.path))
                {
                    found.push(probe);
                }
            }
        }
        found
    }

    /// The number of one of its ports; `None` if its containers have none of that name.
    pub(super) fn port(&self, port: &TargetPort) -> Option<u16> {
        match port {
            TargetPort::Number(number) => Some(*number),
            TargetPort::Name(_) => {
                let mut containers = self.containers.iter();
                containers.find_map(|container| number(container, port))
            }
        }
    }
}

/// The number of a port of a container.
fn number(container: &Container, port: &TargetPort) -> Option<u16> {
    match port {
        TargetPort::Number(number) => Some(*number),
        TargetPort::Name(name) => {
            let mut ports = container.ports.iter();
            let named = ports.find(|port| port.name.as_deref() == Some(name));
            Some(named?.container_port)
        }
    }
}

fn http<'a>(container: &Container, probe: &'a Probe) -> Option<HttpProbe<'a>> {
    let get = probe.http_get.as_ref()?;
    let port = number(container, get.port.as_ref()?)?;
    Some(HttpProbe {
        port,
        path: get.path.as_deref().unwrap_or("/"),
        place: (get.line, get.column),
    })
}
