//! Which kinds exist, in which API versions, and what is done with them.

use super::Controller;

/// What is done with an object of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Treatment {
    /// Known, and not acted upon; nobody takes harm from that.
    Idle,
    /// It configures a proxy that does not exist here.
    Never,
    /// It is read and takes effect.
    Read(Reads),
    /// A promise of security that is not kept, so that an object of it must not pass in silence.
    Unenforced,
}

/// The kinds that take effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reads {
    AuthorizationPolicy,
    BackendTlsPolicy,
    BackendTrafficPolicy,
    DestinationRule,
    EndpointSlice,
    Endpoints,
    Gateway,
    GrpcRoute,
    HttpRoute,
    HttpLocalRateLimitPolicy,
    LinkerdServer,
    Namespace,
    PeerAuthentication,
    Pod,
    ReferenceGrant,
    RequestAuthentication,
    Service,
    ServiceAccount,
    ServiceEntry,
    Sidecar,
    Telemetry,
    VirtualService,
    Workload(Controller),
    WorkloadEntry,
    WorkloadGroup,
}

/// One kind.
#[derive(Debug)]
pub(crate) struct CatalogEntry {
    pub(crate) kind: &'static str,
    /// Empty for Kubernetes' core group.
    pub(crate) group: &'static str,
    pub(crate) versions: &'static [&'static str],
    pub(crate) treatment: Treatment,
}

impl CatalogEntry {
    /// The values that `apiVersion` may have, for messages and the schema.
    pub(crate) fn api_versions(&self) -> Vec<String> {
        let full = |version: &&str| match self.group {
            "" => (*version).to_owned(),
            group => format!("{group}/{version}"),
        };
        self.versions.iter().map(full).collect()
    }
}

const NETWORKING: &str = "networking.istio.io";
const SECURITY: &str = "security.istio.io";
const TELEMETRY: &str = "telemetry.istio.io";
const EXTENSIONS: &str = "extensions.istio.io";
const GATEWAY_API: &str = "gateway.networking.k8s.io";
/// The group of the Gateway API's experiments.
const GATEWAY_API_EXPERIMENTS: &str = "gateway.networking.x-k8s.io";
/// The only kind of local rate limits that exists is Linkerd's.
const LINKERD: &str = "policy.linkerd.io";
const APPS: &str = "apps";
const DISCOVERY: &str = "discovery.k8s.io";

const V1: &[&str] = &["v1"];
/// Istio serves its networking kinds in three versions with one schema.
const THREE: &[&str] = &["v1", "v1beta1", "v1alpha3"];
const TWO: &[&str] = &["v1", "v1beta1"];
const ALPHA: &[&str] = &["v1alpha1"];

const fn entry(
    kind: &'static str,
    group: &'static str,
    versions: &'static [&'static str],
    treatment: Treatment,
) -> CatalogEntry {
    CatalogEntry {
        kind,
        group,
        versions,
        treatment,
    }
}

const fn workload(kind: &'static str, controller: Controller) -> CatalogEntry {
    let treatment = Treatment::Read(Reads::Workload(controller));
    entry(kind, APPS, V1, treatment)
}

/// Every kind that is known by name.
pub(crate) const CATALOG: &[CatalogEntry] = {
    use Treatment::{Idle, Never, Read, Unenforced};
    &[
        entry(
            "VirtualService",
            NETWORKING,
            THREE,
            Read(Reads::VirtualService),
        ),
        entry(
            "DestinationRule",
            NETWORKING,
            THREE,
            Read(Reads::DestinationRule),
        ),
        entry("ServiceEntry", NETWORKING, THREE, Read(Reads::ServiceEntry)),
        entry(
            "WorkloadEntry",
            NETWORKING,
            THREE,
            Read(Reads::WorkloadEntry),
        ),
        entry("Service", "", V1, Read(Reads::Service)),
        entry("EndpointSlice", DISCOVERY, TWO, Read(Reads::EndpointSlice)),
        entry("Endpoints", "", V1, Read(Reads::Endpoints)),
        entry("Pod", "", V1, Read(Reads::Pod)),
        workload("Deployment", Controller::Deployment),
        workload("StatefulSet", Controller::StatefulSet),
        workload("ReplicaSet", Controller::ReplicaSet),
        workload("DaemonSet", Controller::DaemonSet),
        entry("Namespace", "", V1, Read(Reads::Namespace)),
        entry("ServiceAccount", "", V1, Read(Reads::ServiceAccount)),
        entry("HTTPRoute", GATEWAY_API, TWO, Read(Reads::HttpRoute)),
        entry(
            "GRPCRoute",
            GATEWAY_API,
            &["v1", "v1alpha2"],
            Read(Reads::GrpcRoute),
        ),
        entry(
            "ReferenceGrant",
            GATEWAY_API,
            TWO,
            Read(Reads::ReferenceGrant),
        ),
        entry(
            "BackendTLSPolicy",
            GATEWAY_API,
            &["v1", "v1alpha3"],
            Read(Reads::BackendTlsPolicy),
        ),
        entry(
            "XBackendTrafficPolicy",
            GATEWAY_API_EXPERIMENTS,
            ALPHA,
            Read(Reads::BackendTrafficPolicy),
        ),
        entry(
            "PeerAuthentication",
            SECURITY,
            TWO,
            Read(Reads::PeerAuthentication),
        ),
        entry(
            "AuthorizationPolicy",
            SECURITY,
            TWO,
            Read(Reads::AuthorizationPolicy),
        ),
        entry(
            "RequestAuthentication",
            SECURITY,
            TWO,
            Read(Reads::RequestAuthentication),
        ),
        entry(
            "Telemetry",
            TELEMETRY,
            &["v1", "v1alpha1"],
            Read(Reads::Telemetry),
        ),
        entry("Gateway", NETWORKING, THREE, Read(Reads::Gateway)),
        entry("Sidecar", NETWORKING, THREE, Read(Reads::Sidecar)),
        entry(
            "WorkloadGroup",
            NETWORKING,
            THREE,
            Read(Reads::WorkloadGroup),
        ),
        entry("ProxyConfig", NETWORKING, &["v1beta1"], Idle),
        entry("Gateway", GATEWAY_API, TWO, Idle),
        entry(
            "HTTPLocalRateLimitPolicy",
            LINKERD,
            ALPHA,
            Read(Reads::HttpLocalRateLimitPolicy),
        ),
        entry(
            "Server",
            LINKERD,
            &["v1beta3", "v1beta2", "v1beta1"],
            Read(Reads::LinkerdServer),
        ),
        entry("AuthorizationPolicy", LINKERD, ALPHA, Unenforced),
        entry("ServerAuthorization", LINKERD, &["v1beta1"], Unenforced),
        entry("ConfigMap", "", V1, Idle),
        entry("EnvoyFilter", NETWORKING, &["v1alpha3"], Never),
        entry("WasmPlugin", EXTENSIONS, ALPHA, Never),
    ]
};

/// Splits `apiVersion` into group and version; the core group has the empty name.
pub(crate) fn split_api_version(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

/// The kind with this name in this group.
pub(crate) fn find(kind: &str, group: &str) -> Option<&'static CatalogEntry> {
    CATALOG
        .iter()
        .find(|entry| entry.kind == kind && entry.group == group)
}

/// Whether all kinds of a group concern a mesh, so that an unknown one is a slip.
pub(crate) fn is_mesh_group(group: &str) -> bool {
    group.ends_with(".istio.io") || group == GATEWAY_API
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_unique_in_their_group() {
        for (index, entry) in CATALOG.iter().enumerate() {
            let same =
                |other: &CatalogEntry| (other.kind, other.group) == (entry.kind, entry.group);
            assert!(!CATALOG[index + 1..].iter().any(same), "{}", entry.kind);
        }
    }

    #[test]
    fn api_versions_split() {
        assert_eq!(split_api_version("v1"), ("", "v1"));
        assert_eq!(split_api_version("apps/v1"), ("apps", "v1"));
        assert_eq!(
            find("Service", "").map(CatalogEntry::api_versions),
            Some(vec!["v1".to_owned()])
        );
    }
}
