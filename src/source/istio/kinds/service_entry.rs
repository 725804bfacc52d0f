//! `ServiceEntry` and `WorkloadEntry`: services that Kubernetes does not know
//! (`networking.istio.io`).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::source::istio::yaml::Located;

/// A service with its hosts, ports and endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ServiceEntry {
    /// Full names, or `*.suffix`; never completed with a namespace.
    pub hosts: Vec<Located<String>>,
    /// Addresses and networks by which the service may be called too.
    pub addresses: Vec<Located<String>>,
    /// The ports of the service.
    pub ports: Vec<Located<ServiceEntryPort>>,
    /// Whether the service is part of the mesh; absent means MESH_EXTERNAL.
    pub location: Location,
    /// How endpoints are found; absent means NONE.
    pub resolution: Resolution,
    /// The endpoints.
    pub endpoints: Vec<Located<WorkloadEntry>>,
    /// Labels of WorkloadEntries and Pods of the same namespace that are the endpoints.
    pub workload_selector: Option<Located<WorkloadLabels>>,
    /// Namespaces that see this service: `.` (own), `*` (all), `~` (none) or names; empty means all.
    pub export_to: Vec<Located<String>>,
    /// Names, of which the server's certificate must have one.
    pub subject_alt_names: Vec<Located<String>>,
}

/// A port of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ServiceEntryPort {
    /// The number that clients address.
    pub number: u16,
    /// HTTP, HTTPS, HTTP2, GRPC, GRPC-WEB, TLS, TCP, MONGO, ..., in any case.
    pub protocol: Option<Located<String>>,
    /// Its name.
    pub name: Located<String>,
    /// The port of the endpoints; absent means `number`.
    pub target_port: Option<u16>,
}

impl ServiceEntryPort {
    /// The port of the endpoints: `targetPort`, else the service's own number.
    pub(crate) fn target(&self) -> u16 {
        self.target_port.unwrap_or(self.number)
    }
}

/// Whether a service is part of the mesh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum Location {
    /// Outside: no automatic mTLS.
    #[default]
    MeshExternal,
    /// Inside.
    MeshInternal,
}

/// How the endpoints of a ServiceEntry are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum Resolution {
    /// The address that the caller asked for.
    #[default]
    None,
    /// The endpoints as written.
    Static,
    /// All addresses that DNS gives.
    Dns,
    /// One address at a time that DNS gives.
    DnsRoundRobin,
    /// Addresses that DNS gives for the name that the caller asked for.
    DynamicDns,
}

/// Workloads by their labels, as a ServiceEntry selects them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct WorkloadLabels {
    /// Labels that a workload must have.
    pub labels: BTreeMap<String, String>,
}

/// One endpoint, either inside of a ServiceEntry or as an object of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct WorkloadEntry {
    /// An IP address, a DNS name, or `unix:///path`.
    pub address: Located<String>,
    /// Port numbers by the port names of the service.
    pub ports: BTreeMap<String, u16>,
    /// Labels, which subsets and selectors look at.
    pub labels: BTreeMap<String, String>,
    /// Network, for meshes that span several.
    pub network: Option<Located<String>>,
    /// `region/zone/subzone`.
    pub locality: Option<Located<String>>,
    /// Share relative to the other endpoints; absent or 0 means 1.
    pub weight: Option<u32>,
    /// Service account that the endpoint runs as.
    pub service_account: Option<String>,
}
