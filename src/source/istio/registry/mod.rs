//! The services of the mesh and what stands behind them, from every kind of object that says so.
//!
//! Istio calls this the registry: Kubernetes `Service`s with their `EndpointSlice`s, and
//! `ServiceEntry`s with theirs, become one list of [`Service`]s. Everything later works on that
//! list and never looks at a Kubernetes object again; a new source of services (DNS, say) is a new
//! file here and nothing else.
//!
//! Endpoints are resolved per service port when the registry is built, not when a cluster asks
//! for them: which container port belongs to a service port depends on the kind of the service,
//! and that is the one thing that must not leak.
//!
//! Health, labels and locality follow Istio: unready endpoints are kept and marked, since panic
//! routing needs them; labels are those of the workload (a pod, a `WorkloadEntry`), since a slice's
//! own labels describe the slice.

mod endpoint;
mod entry;
mod families;
mod kubernetes;
mod protocol;
mod view;
mod visibility;
mod workload;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use super::defaults::Defaults;
use super::fault::{Code, Fault, Faults, Severity};
use super::kinds::{Kind, Object};
use super::yaml::Located;
use crate::model::Origin;
use crate::model::cluster::Lookup;
use crate::model::endpoint::{Address, Health, Locality};

pub(super) use protocol::PortProtocol;
pub(super) use view::View;
pub(super) use visibility::Visibility;

/// Labels in the form in which endpoints share them.
pub(super) type Labels = Arc<BTreeMap<Box<str>, Box<str>>>;

/// A host that can be called.
#[derive(Clone, Debug)]
pub(super) struct Service<'a> {
    /// Its full name in lower case; `*.suffix` for some `ServiceEntry`s.
    pub(super) host: Arc<str>,
    /// The namespace of the object that declares it.
    pub(super) namespace: Arc<str>,
    /// Where it was declared.
    pub(super) home: Home,
    /// Its ports; numbers are unique.
    pub(super) ports: Vec<Port>,
    /// Addresses by which it may be called.
    pub(super) addresses: Vec<IpAddr>,
    /// Which namespaces see it.
    pub(super) visibility: Visibility,
    /// Which of its endpoints a client prefers.
    pub(super) distribution: Option<Distribution>,
    /// Whether a client uses only the endpoints of its own node (`internalTrafficPolicy: Local`).
    pub(super) node_local: bool,
    /// The object that declares it.
    pub(super) object: &'a Object,
}

/// The kind of object that declares a service, in the order of precedence.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Home {
    /// A Kubernetes `Service`.
    Kubernetes,
    /// A Kubernetes `Service` of type `ExternalName`: another name for this host.
    Alias(Arc<str>),
    /// A `ServiceEntry`.
    Entry,
}

/// What a service says of near and far endpoints (`trafficDistribution`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Distribution {
    /// `PreferClose`, `PreferSameZone`: the same network, region, zone and sub-zone first.
    Close,
    /// `PreferSameNode`: the same node before that.
    Node,
}

impl Distribution {
    /// The annotation, which has priority where the field has no value, and the only place where a
    /// ServiceEntry can say it.
    const ANNOTATION: &'static str = "networking.istio.io/traffic-distribution";

    /// What an object says; unknown values say nothing, as in Istio.
    fn of(object: &Object, field: Option<&str>) -> Option<Self> {
        let annotation = object.meta.annotations.get(Self::ANNOTATION);
        match field.or(annotation.map(String::as_str))? {
            "PreferClose" | "PreferSameZone" => Some(Self::Close),
            "PreferSameNode" => Some(Self::Node),
            _unknown => None,
        }
    }
}

/// The label of the node that a workload runs on.
pub(super) const NODE: &str = "kubernetes.io/hostname";
/// The label of the network that a workload is in.
pub(super) const NETWORK: &str = "topology.istio.io/network";

/// A port of a service.
#[derive(Clone, Debug)]
pub(super) struct Port {
    /// The number that clients call.
    pub(super) number: u16,
    /// Its name; empty if it has none.
    pub(super) name: Arc<str>,
    /// What is spoken there.
    pub(super) protocol: PortProtocol,
    /// How its members are found.
    pub(super) reach: Reach,
    /// Who answers.
    pub(super) members: Vec<Member>,
    /// The line where it was written.
    pub(super) line: u32,
}

/// How the endpoints of a port are found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Reach {
    /// The host that the request asks for, at this port; there are no members.
    AsAsked(u16),
    /// The members, whose addresses are known.
    Listed,
    /// The members, among whose addresses are names.
    Named(Lookup),
}

impl Reach {
    /// How members that somebody listed are found.
    fn of(members: &[Member]) -> Self {
        let named = |member: &Member| matches!(member.address, Address::Name { .. });
        if members.iter().any(named) {
            Self::Named(Lookup::Each)
        } else {
            Self::Listed
        }
    }
}

/// One endpoint of a port.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Member {
    /// Where it listens.
    pub(super) address: Address,
    /// Its share.
    pub(super) weight: NonZeroU32,
    /// Whether it serves.
    pub(super) health: Health,
    /// The labels of its workload.
    pub(super) labels: Labels,
    /// Where it runs.
    pub(super) locality: Locality,
    /// The namespace of its workload.
    pub(super) namespace: Arc<str>,
    /// Its service account as identities write it (`ns/my-app/sa/order-sa`), if it is known.
    pub(super) account: Option<Arc<str>>,
    /// Whether it is no pod.
    pub(super) is_machine: bool,
}

impl Member {
    /// Whether it runs on this node; where either is not known it does not.
    pub(super) fn is_on(&self, node: Option<&str>) -> bool {
        let own = self.labels.get(NODE).map(|own| &**own);
        own.is_some() && own == node
    }
}

/// All services of a set of objects, whoever may see them.
#[derive(Debug)]
pub(super) struct Registry<'a> {
    services: Vec<Service<'a>>,
}

impl<'a> Registry<'a> {
    /// Reads the services; `objects` are in the order of age, `domain` is the cluster's.
    pub(super) fn build(
        objects: &[&'a Object],
        domain: &str,
        defaults: Defaults<'_>,
        faults: &mut Faults,
    ) -> Self {
        let workloads = workload::Workloads::new(objects);
        let slices = endpoint::Slices::new(objects);
        let mut services = Vec::new();
        for &object in objects {
            match &object.kind {
                Kind::Service(spec) => services.push(kubernetes::service(
                    object, spec, domain, defaults, &slices, &workloads, faults,
                )),
                Kind::ServiceEntry(spec) => {
                    services.extend(entry::services(object, spec, defaults, &workloads, faults));
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
                | Kind::BackendTlsPolicy(_)
                | Kind::BackendTrafficPolicy(_)
                | Kind::ReferenceGrant(_)
                | Kind::PeerAuthentication(_)
                | Kind::Pod(_)
                | Kind::RequestAuthentication(_)
                | Kind::ServiceAccount(_)
                | Kind::Gateway(_)
                | Kind::Sidecar(_)
                | Kind::Telemetry(_)
                | Kind::WorkloadGroup(_)
                | Kind::VirtualService(_)
                | Kind::Workload(_)
                | Kind::WorkloadEntry(_) => {}
            }
        }
        Self { services }
    }
}

/// The origin of an object as a whole.
pub(super) fn origin(object: &Object) -> Origin {
    object.origin.clone()
}

/// A warning about an object at a place in its file; line 0 stands for the object's first line.
pub(super) fn warning(
    object: &Object,
    code: Code,
    place: (u32, u32),
    text: impl Into<String>,
) -> Fault {
    let (line, column) = if place.0 == 0 {
        (object.line, 1)
    } else {
        place
    };
    Fault::new(Severity::Warning, code, text)
        .at(&object.file, line, column)
        .object_ref(object.reference())
}

/// Where a value was written.
pub(super) fn place<T>(value: &Located<T>) -> (u32, u32) {
    (value.line, value.column)
}

/// Whether `labels` have everything that `wanted` asks for.
pub(super) fn selects<K, V>(wanted: &BTreeMap<String, String>, labels: &BTreeMap<K, V>) -> bool
where
    K: std::borrow::Borrow<str> + Ord,
    V: AsRef<str>,
{
    wanted.iter().all(|(key, value)| {
        labels
            .get(key.as_str())
            .is_some_and(|found| found.as_ref() == value)
    })
}

/// The same of a service's selector: an empty one takes nobody, since the endpoints of such a service are
/// listed elsewhere.
pub(crate) fn chooses<K, V>(selector: &BTreeMap<String, String>, labels: &BTreeMap<K, V>) -> bool
where
    K: std::borrow::Borrow<str> + Ord,
    V: AsRef<str>,
{
    !selector.is_empty() && selects(selector, labels)
}

/// In the order of addresses, each once: the same endpoint may stand in two slices while
/// Kubernetes moves it from one to the other. Of two, the healthier counts.
fn settle(mut members: Vec<Member>) -> Vec<Member> {
    members.sort_by(|a, b| {
        let rank = |health: Health| match health {
            Health::Healthy => 0,
            Health::Draining => 1,
            Health::Unhealthy => 2,
        };
        a.address
            .cmp(&b.address)
            .then(rank(a.health).cmp(&rank(b.health)))
            .then_with(|| b.labels.cmp(&a.labels))
            .then_with(|| b.locality.cmp(&a.locality))
            .then(b.weight.cmp(&a.weight))
    });
    members.dedup_by(|later, first| later.address == first.address);
    members
}
