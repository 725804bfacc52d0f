//! The Kubernetes kinds, as far as a mesh reads them: unknown fields are left alone, since these
//! objects belong to Kubernetes.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

use crate::source::istio::yaml::Located;

/// The `spec` of a `Service`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Service {
    /// The ports that clients address.
    pub ports: Vec<Located<ServicePort>>,
    /// Labels of the pods behind it.
    pub selector: BTreeMap<String, String>,
    /// Its virtual address, or `None` for a headless service.
    #[serde(rename = "clusterIP")]
    pub cluster_ip: Option<String>,
    /// Its virtual addresses, when it has several.
    #[serde(rename = "clusterIPs")]
    pub cluster_ips: Vec<String>,
    /// IPv4, IPv6 or both, the preferred one first.
    pub ip_families: Vec<String>,
    /// ClusterIP, NodePort, LoadBalancer or ExternalName; absent means ClusterIP.
    #[serde(rename = "type")]
    pub service_type: Option<String>,
    /// The name that stands behind an ExternalName service.
    pub external_name: Option<Located<String>>,
    /// Cluster or Local.
    pub internal_traffic_policy: Option<String>,
    /// PreferClose, PreferSameZone or PreferSameNode.
    pub traffic_distribution: Option<String>,
}

/// A port of a `Service`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ServicePort {
    /// Its name, whose prefix tells the protocol: `http`, `grpc-api`.
    pub name: Option<Located<String>>,
    /// The number that clients address.
    pub port: u16,
    /// The port of the pods; absent means `port`.
    pub target_port: Option<TargetPort>,
    /// The application protocol; has priority over the name.
    pub app_protocol: Option<Located<String>>,
    /// TCP, UDP or SCTP; absent means TCP.
    pub protocol: Option<String>,
}

impl ServicePort {
    /// The port of the pods: `targetPort`, else the service's own number.
    pub(crate) fn target(&self) -> TargetPort {
        let own = || TargetPort::Number(self.port);
        self.target_port.clone().unwrap_or_else(own)
    }

    /// The number of that port; `None` where it is the name of a container's port, whose number only
    /// the pods know.
    pub(crate) fn target_number(&self) -> Option<u16> {
        match self.target_port {
            None => Some(self.port),
            Some(TargetPort::Number(number)) => Some(number),
            Some(TargetPort::Name(_)) => None,
        }
    }
}

/// The port of the pods: a number or the name of a container port.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TargetPort {
    /// The number.
    Number(u16),
    /// The name of a container port.
    Name(String),
}

impl fmt::Display for TargetPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl<'de> Deserialize<'de> for TargetPort {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PortVisitor;

        impl Visitor<'_> for PortVisitor {
            type Value = TargetPort;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port number or the name of a container port")
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<TargetPort, E> {
                u16::try_from(number)
                    .map(TargetPort::Number)
                    .map_err(|_| E::custom(format_args!("port {number} is above 65535")))
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<TargetPort, E> {
                Ok(match name.parse() {
                    Ok(number) => TargetPort::Number(number),
                    Err(_) => TargetPort::Name(name.to_owned()),
                })
            }
        }

        deserializer.deserialize_any(PortVisitor)
    }
}

impl JsonSchema for TargetPort {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "TargetPort".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["integer", "string"],
            "description": "A port number or the name of a container port.",
            "minimum": 0,
            "maximum": 65535,
        })
    }
}

/// An `EndpointSlice`: some of the addresses behind a service. The label
/// `kubernetes.io/service-name` names the service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointSlice {
    /// IPv4, IPv6 or FQDN.
    pub address_type: Option<Located<String>>,
    /// The endpoints.
    pub endpoints: Vec<Located<SliceEndpoint>>,
    /// The ports that all of these endpoints have.
    pub ports: Vec<Located<EndpointPort>>,
}

/// One endpoint of an `EndpointSlice`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SliceEndpoint {
    /// Its addresses, which stand for the same endpoint; the first is used.
    pub addresses: Vec<Located<String>>,
    /// Whether it takes traffic.
    pub conditions: EndpointConditions,
    /// The object behind it, usually a pod.
    pub target_ref: Option<TargetRef>,
    /// The node that it runs on.
    pub node_name: Option<String>,
    /// The zone of the node.
    pub zone: Option<String>,
}

/// Whether an endpoint takes traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointConditions {
    /// It is ready; absent means yes.
    pub ready: Option<bool>,
    /// It answers, even when it is about to end.
    pub serving: Option<bool>,
    /// It is about to end.
    pub terminating: Option<bool>,
}

/// A port of endpoints, which belongs to the service port of the same name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointPort {
    /// Its name; absent for a service with one unnamed port.
    pub name: Option<String>,
    /// The number.
    pub port: Option<u16>,
    /// TCP, UDP or SCTP; absent means TCP.
    pub protocol: Option<String>,
    /// The application protocol.
    pub app_protocol: Option<String>,
}

/// The object behind an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TargetRef {
    /// `Pod`.
    pub kind: Option<String>,
    /// Its name.
    pub name: Option<String>,
    /// Its namespace; absent means that of the slice.
    pub namespace: Option<String>,
}

/// The older form of endpoints, of the same name as its service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Endpoints {
    /// Groups of endpoints with the same ports.
    pub subsets: Vec<Located<EndpointGroup>>,
}

/// Endpoints with the same ports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointGroup {
    /// Ready endpoints.
    pub addresses: Vec<Located<EndpointAddress>>,
    /// Endpoints that are not ready.
    pub not_ready_addresses: Vec<Located<EndpointAddress>>,
    /// Their ports.
    pub ports: Vec<Located<EndpointPort>>,
}

/// One endpoint of `Endpoints`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointAddress {
    /// Its address.
    pub ip: Located<String>,
    /// The node that it runs on.
    pub node_name: Option<String>,
    /// The object behind it, usually a pod.
    pub target_ref: Option<TargetRef>,
}

/// A `Pod`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Pod {
    /// What it was asked to be.
    pub spec: PodSpec,
    /// What it is.
    pub status: PodStatus,
}

/// What a pod was asked to be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    /// Its service account; absent means `default`.
    pub service_account_name: Option<String>,
    /// The node that it runs on.
    pub node_name: Option<String>,
    /// Its containers.
    pub containers: Vec<Container>,
}

/// A container, of which only ports and probes are read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Container {
    /// Its name.
    pub name: Option<String>,
    /// Its ports.
    pub ports: Vec<ContainerPort>,
    /// Whether it gets requests.
    pub readiness_probe: Option<Located<Probe>>,
    /// Whether it is started anew.
    pub liveness_probe: Option<Located<Probe>>,
    /// Whether it has started.
    pub startup_probe: Option<Located<Probe>>,
}

/// How the kubelet finds out whether a container is well.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Probe {
    /// By a request.
    pub http_get: Option<Located<ProbeRequest>>,
}

/// The request of a probe.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ProbeRequest {
    /// Its path; absent means `/`.
    pub path: Option<String>,
    /// Where it goes.
    pub port: Option<TargetPort>,
}

/// A port of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerPort {
    /// The name that a service's `targetPort` may refer to.
    pub name: Option<String>,
    /// The number.
    pub container_port: u16,
    /// TCP, UDP or SCTP; absent means TCP.
    pub protocol: Option<String>,
}

/// What a pod is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatus {
    /// Its address.
    #[serde(rename = "podIP")]
    pub pod_ip: Option<Located<IpAddress>>,
    /// Pending, Running, Succeeded, Failed or Unknown.
    pub phase: Option<String>,
    /// Statements about it, of which `Ready` is read.
    pub conditions: Vec<PodCondition>,
}

/// A statement about a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PodCondition {
    /// What it is about, such as `Ready`.
    #[serde(rename = "type")]
    pub condition: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
}

/// An IP address that was checked when it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IpAddress(pub IpAddr);

impl<'de> Deserialize<'de> for IpAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AddressVisitor;

        impl Visitor<'_> for AddressVisitor {
            type Value = IpAddress;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an IP address such as 10.0.0.7 or fd00::7")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<IpAddress, E> {
                text.parse()
                    .map(IpAddress)
                    .map_err(|_| E::custom(format_args!("{text:?} is not an IP address")))
            }
        }

        deserializer.deserialize_str(AddressVisitor)
    }
}

impl JsonSchema for IpAddress {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "IpAddress".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

/// A `Deployment`, `StatefulSet`, `ReplicaSet` or `DaemonSet`: the template of its pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Workload {
    /// Which of the four.
    #[serde(skip)]
    pub controller: Controller,
    /// How many pods; absent means 1, and a DaemonSet has none.
    pub replicas: Option<u32>,
    /// Labels of the pods that it owns.
    pub selector: PodSelector,
    /// What its pods are made from.
    pub template: PodTemplate,
}

/// Which object makes the pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Controller {
    /// One pod on each node.
    DaemonSet,
    /// Pods that are replaced step by step.
    #[default]
    Deployment,
    /// Equal pods.
    ReplicaSet,
    /// Pods with names of their own.
    StatefulSet,
}

impl Controller {
    /// The `kind` in its YAML.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Self::DaemonSet => "DaemonSet",
            Self::Deployment => "Deployment",
            Self::ReplicaSet => "ReplicaSet",
            Self::StatefulSet => "StatefulSet",
        }
    }
}

/// Pods by their labels, as Kubernetes selects them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSelector {
    /// Labels that a pod must have.
    pub match_labels: BTreeMap<String, String>,
}

/// What pods are made from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PodTemplate {
    /// Labels and annotations of the pods.
    pub metadata: PodMetadata,
    /// What the pods are asked to be.
    pub spec: PodSpec,
}

/// Labels and annotations of a template's pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PodMetadata {
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
}

/// A `Namespace`, of which only the metadata is read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Namespace {}

/// A `ServiceAccount`, of which only the metadata is read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceAccount {}
