//! The workloads behind endpoints: pods, templates of pods, `WorkloadEntry`s.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::{Labels, NODE, chooses};
use crate::model::endpoint::{Health, Locality};
use crate::source::istio::kinds::{Kind, Object, Pod, PodSpec, TargetRef, Workload, WorkloadEntry};

/// All workloads, by the ways in which endpoints refer to them.
#[derive(Debug, Default)]
pub(super) struct Workloads<'a> {
    pods: Vec<(&'a Object, &'a Pod)>,
    by_name: BTreeMap<(&'a str, &'a str), &'a Object>,
    /// `None` where two pods have one address (host network), so that neither can be told.
    by_address: BTreeMap<IpAddr, Option<&'a Object>>,
    templates: Vec<(&'a Object, &'a Workload)>,
    entries: Vec<Entry<'a>>,
}

/// A `WorkloadEntry` with all of its labels.
#[derive(Debug)]
struct Entry<'a> {
    namespace: &'a str,
    spec: &'a WorkloadEntry,
    labels: BTreeMap<String, String>,
}

/// What is known of the workload behind an endpoint.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) labels: Labels,
    pub(super) locality: Locality,
    /// As [`Member::account`](super::Member::account).
    pub(super) account: Option<Arc<str>>,
}

impl<'a> Workloads<'a> {
    pub(super) fn new(objects: &[&'a Object]) -> Self {
        let mut all = Self::default();
        for &object in objects {
            match &object.kind {
                Kind::Pod(pod) => all.add_pod(object, pod),
                Kind::Workload(template) => all.templates.push((object, template)),
                Kind::WorkloadEntry(entry) => {
                    let mut labels = entry.labels.clone();
                    labels.extend(object.meta.labels.clone());
                    all.entries.push(Entry {
                        namespace: &object.meta.namespace,
                        spec: entry,
                        labels,
                    });
                }
                Kind::AuthorizationPolicy(_)
                | Kind::DestinationRule(_)
                | Kind::EndpointSlice(_)
                | Kind::Endpoints(_)
                | Kind::MeshConfig(_)
                | Kind::GrpcRoute(_)
                | Kind::HttpRoute(_)
                | Kind::HttpLocalRateLimitPolicy(_)
                | Kind::LinkerdServer(_)
                | Kind::Namespace(_)
                | Kind::PeerAuthentication(_)
                | Kind::BackendTlsPolicy(_)
                | Kind::BackendTrafficPolicy(_)
                | Kind::ReferenceGrant(_)
                | Kind::RequestAuthentication(_)
                | Kind::Service(_)
                | Kind::ServiceAccount(_)
                | Kind::ServiceEntry(_)
                | Kind::Gateway(_)
                | Kind::Sidecar(_)
                | Kind::Telemetry(_)
                | Kind::WorkloadGroup(_)
                | Kind::VirtualService(_) => {}
            }
        }
        all
    }

    fn add_pod(&mut self, object: &'a Object, pod: &'a Pod) {
        let key = (&*object.meta.namespace, &*object.meta.name);
        self.by_name.entry(key).or_insert(object);
        if let Some(address) = &pod.status.pod_ip {
            self.by_address
                .entry(address.value.0)
                .and_modify(|known| *known = None)
                .or_insert(Some(object));
        }
        self.pods.push((object, pod));
    }

    /// The workload of an endpoint of a service in `namespace`.
    ///
    /// A `targetRef` names the pod. If the pod is not among the objects (people check in the
    /// Deployment, not its pods), the labels of a template count, provided that the service's
    /// selector takes it and the pod's name begins with its name, and that it is the only one.
    /// Without a `targetRef` the pod with the address is taken, as Istio does.
    pub(super) fn behind(
        &self,
        namespace: &str,
        target: Option<&TargetRef>,
        address: IpAddr,
        selector: &BTreeMap<String, String>,
    ) -> Known {
        let Some(target) = target.filter(|target| target.kind.as_deref() == Some("Pod")) else {
            return match self.by_address.get(&address) {
                Some(Some(pod)) => pod_known(pod),
                Some(None) | None => Known::default(),
            };
        };
        let name = target.name.as_deref().unwrap_or_default();
        let namespace = target.namespace.as_deref().unwrap_or(namespace);
        if let Some(pod) = self.by_name.get(&(namespace, name)) {
            return pod_known(pod);
        }
        let mut templates = self.templates.iter().filter(|(object, workload)| {
            &*object.meta.namespace == namespace
                && name
                    .strip_prefix(&*object.meta.name)
                    .is_some_and(|rest| rest.starts_with('-'))
                && chooses(selector, &workload.template.metadata.labels)
        });
        match (templates.next(), templates.next()) {
            (Some((_, only)), None) => Known {
                labels: shared(&only.template.metadata.labels),
                locality: label_locality(&only.template.metadata.labels),
                account: Some(pod_account(namespace, &only.template.spec)),
            },
            (None, _) | (Some(_), Some(_)) => Known::default(),
        }
    }

    /// `WorkloadEntry`s of a namespace with these labels. As in Istio the labels of the metadata
    /// are added to those of the spec and have priority.
    pub(super) fn entries(
        &self,
        namespace: &str,
        selector: &BTreeMap<String, String>,
    ) -> impl Iterator<Item = (&'a WorkloadEntry, &BTreeMap<String, String>)> {
        self.entries
            .iter()
            .filter(move |entry| entry.namespace == namespace && chooses(selector, &entry.labels))
            .map(|entry| (entry.spec, &entry.labels))
    }

    /// Pods of a namespace with these labels, that have an address and have not ended.
    pub(super) fn pods(
        &self,
        namespace: &str,
        selector: &BTreeMap<String, String>,
    ) -> impl Iterator<Item = (IpAddr, Health, Known)> {
        self.pods
            .iter()
            .filter(move |(object, _)| {
                &*object.meta.namespace == namespace && chooses(selector, &object.meta.labels)
            })
            .filter(|(_, pod)| !matches!(pod.status.phase.as_deref(), Some("Succeeded" | "Failed")))
            .filter_map(|&(object, pod)| {
                let address = pod.status.pod_ip.as_ref()?.value.0;
                Some((address, pod_health(pod), pod_known(object)))
            })
    }
}

fn pod_health(pod: &Pod) -> Health {
    let unready = pod
        .status
        .conditions
        .iter()
        .any(|condition| condition.condition == "Ready" && condition.status != "True");
    if unready {
        Health::Unhealthy
    } else {
        Health::Healthy
    }
}

fn pod_known(pod: &Object) -> Known {
    let node = match &pod.kind {
        Kind::Pod(pod) => pod.spec.node_name.as_deref(),
        _only_pods_are_asked => None,
    };
    let namespace = &*pod.meta.namespace;
    Known {
        labels: labelled(shared(&pod.meta.labels), NODE, node),
        locality: label_locality(&pod.meta.labels),
        account: match &pod.kind {
            Kind::Pod(pod) => Some(pod_account(namespace, &pod.spec)),
            _other_kinds => None,
        },
    }
}

/// Kubernetes runs a pod as the account `default` unless it is told another.
fn pod_account(namespace: &str, spec: &PodSpec) -> Arc<str> {
    let name = spec.service_account_name.as_deref();
    account(
        namespace,
        name.filter(|name| !name.is_empty()).unwrap_or("default"),
    )
}

/// A service account as identities write it.
pub(super) fn account(namespace: &str, name: &str) -> Arc<str> {
    format!("ns/{namespace}/sa/{name}").into()
}

/// The locality that the labels of a pod tell: `istio-locality` (`region.zone.subzone`), else the
/// topology labels that Kubernetes copies from the node.
fn label_locality(labels: &BTreeMap<String, String>) -> Locality {
    if let Some(text) = labels.get("istio-locality") {
        return locality(text, '.');
    }
    let label = |key: &str| labels.get(key).map_or("", String::as_str).into();
    Locality {
        region: label("topology.kubernetes.io/region"),
        zone: label("topology.kubernetes.io/zone"),
        sub_zone: label("topology.istio.io/subzone"),
    }
}

/// Reads `region/zone/subzone`, of which the later parts may be absent.
pub(super) fn locality(text: &str, separator: char) -> Locality {
    let mut parts = text.splitn(3, separator).map(Box::from);
    Locality {
        region: parts.next().unwrap_or_default(),
        zone: parts.next().unwrap_or_default(),
        sub_zone: parts.next().unwrap_or_default(),
    }
}

/// Labels with one more, as Istio adds where a workload runs to the labels that it has; one that was
/// written stays.
pub(super) fn labelled(labels: Labels, key: &str, value: Option<&str>) -> Labels {
    match value.filter(|value| !value.is_empty()) {
        Some(value) if !labels.contains_key(key) => {
            let mut all = BTreeMap::clone(&labels);
            all.insert(key.into(), value.into());
            Arc::new(all)
        }
        Some(_) | None => labels,
    }
}

pub(super) fn shared(labels: &BTreeMap<String, String>) -> Labels {
    Arc::new(
        labels
            .iter()
            .map(|(key, value)| (key.as_str().into(), value.as_str().into()))
            .collect(),
    )
}
