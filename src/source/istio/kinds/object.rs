//! One object of the configuration: what it is called, where it was written, what it says.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::gateway_api::{
    BackendTlsPolicySpec, BackendTrafficPolicySpec, GrpcRouteSpec, HttpRouteSpec,
    ReferenceGrantSpec,
};
use super::{
    AuthorizationPolicy, DestinationRule, EndpointSlice, Endpoints, Gateway,
    HttpLocalRateLimitPolicy, LinkerdServer, MeshConfig, Namespace, PeerAuthentication, Pod,
    RequestAuthentication, Service, ServiceAccount, ServiceEntry, Sidecar, Telemetry,
    VirtualService, Workload, WorkloadEntry, WorkloadGroup,
};
use crate::model::Origin;
use crate::source::istio::fault::ObjectRef;

/// One valid object. [`read`](crate::source::istio::read) makes them; there are none with faults.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Name, namespace, labels.
    pub meta: Meta,
    /// The file that it was written in, as its path was given.
    pub file: Arc<str>,
    /// Number of the document in the file, from 1; items of a `List` share that of the list.
    pub document: u32,
    /// Line of its first field, from 1.
    pub line: u32,
    /// File, line and name, as the model keeps them.
    pub origin: Origin,
    /// What it says.
    pub kind: Kind,
}

impl Object {
    /// Kind, namespace and name, for messages and for finding duplicates.
    #[must_use]
    pub fn reference(&self) -> ObjectRef {
        ObjectRef {
            kind: self.kind.name().into(),
            namespace: Arc::clone(&self.meta.namespace),
            name: Arc::clone(&self.meta.name),
        }
    }
}

/// The `metadata` of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Meta {
    /// Its name.
    pub name: Arc<str>,
    /// Its namespace; `default` when the file names none, empty for a `Namespace` itself.
    pub namespace: Arc<str>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// `creationTimestamp` in the form `2026-01-31T12:00:00Z`, whose order as text is its order in
    /// time; absent in most files.
    pub creation: Option<Arc<str>>,
}

/// What an object says.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Kind {
    /// `security.istio.io` AuthorizationPolicy.
    AuthorizationPolicy(Box<AuthorizationPolicy>),
    /// `gateway.networking.k8s.io` BackendTLSPolicy.
    BackendTlsPolicy(Box<BackendTlsPolicySpec>),
    /// `gateway.networking.x-k8s.io` XBackendTrafficPolicy.
    BackendTrafficPolicy(Box<BackendTrafficPolicySpec>),
    /// `networking.istio.io` DestinationRule.
    DestinationRule(Box<DestinationRule>),
    /// `discovery.k8s.io` EndpointSlice.
    EndpointSlice(Box<EndpointSlice>),
    /// Kubernetes Endpoints.
    Endpoints(Box<Endpoints>),
    /// The mesh configuration.
    MeshConfig(Box<MeshConfig>),
    /// `networking.istio.io` Gateway.
    Gateway(Box<Gateway>),
    /// `gateway.networking.k8s.io` GRPCRoute.
    GrpcRoute(Box<GrpcRouteSpec>),
    /// `gateway.networking.k8s.io` HTTPRoute.
    HttpRoute(Box<HttpRouteSpec>),
    /// `policy.linkerd.io` HTTPLocalRateLimitPolicy.
    HttpLocalRateLimitPolicy(Box<HttpLocalRateLimitPolicy>),
    /// `policy.linkerd.io` Server.
    LinkerdServer(Box<LinkerdServer>),
    /// Kubernetes Namespace.
    Namespace(Box<Namespace>),
    /// `security.istio.io` PeerAuthentication.
    PeerAuthentication(Box<PeerAuthentication>),
    /// Kubernetes Pod.
    Pod(Box<Pod>),
    /// `gateway.networking.k8s.io` ReferenceGrant.
    ReferenceGrant(Box<ReferenceGrantSpec>),
    /// `security.istio.io` RequestAuthentication.
    RequestAuthentication(Box<RequestAuthentication>),
    /// Kubernetes Service.
    Service(Box<Service>),
    /// Kubernetes ServiceAccount.
    ServiceAccount(Box<ServiceAccount>),
    /// `networking.istio.io` ServiceEntry.
    ServiceEntry(Box<ServiceEntry>),
    /// `networking.istio.io` Sidecar.
    Sidecar(Box<Sidecar>),
    /// `telemetry.istio.io` Telemetry.
    Telemetry(Box<Telemetry>),
    /// `networking.istio.io` VirtualService.
    VirtualService(Box<VirtualService>),
    /// `apps` Deployment, StatefulSet, ReplicaSet or DaemonSet.
    Workload(Box<Workload>),
    /// `networking.istio.io` WorkloadEntry.
    WorkloadEntry(Box<WorkloadEntry>),
    /// `networking.istio.io` WorkloadGroup.
    WorkloadGroup(Box<WorkloadGroup>),
}

impl Kind {
    /// The `kind` in its YAML.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::AuthorizationPolicy(_) => "AuthorizationPolicy",
            Self::BackendTlsPolicy(_) => "BackendTLSPolicy",
            Self::BackendTrafficPolicy(_) => "XBackendTrafficPolicy",
            Self::DestinationRule(_) => "DestinationRule",
            Self::EndpointSlice(_) => "EndpointSlice",
            Self::Endpoints(_) => "Endpoints",
            Self::Gateway(_) => "Gateway",
            Self::MeshConfig(_) => "MeshConfig",
            Self::GrpcRoute(_) => "GRPCRoute",
            Self::HttpRoute(_) => "HTTPRoute",
            Self::HttpLocalRateLimitPolicy(_) => "HTTPLocalRateLimitPolicy",
            Self::LinkerdServer(_) => "Server",
            Self::Namespace(_) => "Namespace",
            Self::PeerAuthentication(_) => "PeerAuthentication",
            Self::Pod(_) => "Pod",
            Self::ReferenceGrant(_) => "ReferenceGrant",
            Self::RequestAuthentication(_) => "RequestAuthentication",
            Self::Service(_) => "Service",
            Self::ServiceAccount(_) => "ServiceAccount",
            Self::ServiceEntry(_) => "ServiceEntry",
            Self::Sidecar(_) => "Sidecar",
            Self::Telemetry(_) => "Telemetry",
            Self::VirtualService(_) => "VirtualService",
            Self::Workload(workload) => workload.controller.kind(),
            Self::WorkloadEntry(_) => "WorkloadEntry",
            Self::WorkloadGroup(_) => "WorkloadGroup",
        }
    }
}
