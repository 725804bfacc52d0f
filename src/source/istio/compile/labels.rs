//! Which labels of a client its view can depend on.
//!
//! A pod has labels that no other pod has, and that nobody selects by: `pod-template-hash`, the name of a
//! StatefulSet's pod. Whoever shares views between clients that are alike must know which labels these may
//! differ in. It is everything that a selector of the set names, and what the compiler reads by itself.

use std::collections::{BTreeMap, BTreeSet};

use crate::source::istio::kinds::{Kind, LoadBalancer, LocalitySetting, Object, TrafficPolicy};
use crate::source::istio::yaml::Located;

/// How labels begin that the compiler reads whatever the objects say: where a workload runs, and how it
/// takes connections.
const READ: &[&str] = &["kubernetes.io/", "security.istio.io/", "topology."];

/// The keys of a client's labels that the compilation of a set may look at.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct ReadLabels(BTreeSet<String>);

impl ReadLabels {
    pub(crate) fn of(objects: &[Object]) -> Self {
        let mut keys = Keys(BTreeSet::new());
        objects.iter().for_each(|object| keys.object(&object.kind));
        Self(keys.0)
    }

    /// Whether a view can depend on a label of that name.
    pub(crate) fn contains(&self, key: &str) -> bool {
        self.0.contains(key) || READ.iter().any(|begin| key.starts_with(begin))
    }
}

struct Keys(BTreeSet<String>);

impl Keys {
    fn of(&mut self, labels: &BTreeMap<String, String>) {
        self.0.extend(labels.keys().cloned());
    }

    fn object(&mut self, kind: &Kind) {
        match kind {
            Kind::AuthorizationPolicy(policy) => {
                policy
                    .selector
                    .iter()
                    .for_each(|of| self.of(&of.match_labels));
            }
            Kind::DestinationRule(rule) => {
                let selector = rule.workload_selector.iter();
                selector.for_each(|of| self.of(&of.match_labels));
                let subsets = rule.subsets.iter().map(|subset| &subset.traffic_policy);
                let policies = subsets.chain([&rule.traffic_policy]).flatten();
                policies.for_each(|policy| self.policy(policy));
            }
            Kind::Gateway(gateway) => self.of(&gateway.selector),
            Kind::LinkerdServer(server) => {
                let selector = server.pod_selector.iter();
                selector.for_each(|of| self.of(&of.match_labels));
            }
            Kind::MeshConfig(mesh) => {
                let policy = mesh.default_traffic_policy.iter();
                policy.for_each(|policy| self.policy(policy));
                self.locality(mesh.locality_lb_setting.as_ref());
            }
            Kind::PeerAuthentication(policy) => {
                policy
                    .selector
                    .iter()
                    .for_each(|of| self.of(&of.match_labels));
            }
            Kind::RequestAuthentication(policy) => {
                policy
                    .selector
                    .iter()
                    .for_each(|of| self.of(&of.match_labels));
            }
            Kind::Service(service) => self.of(&service.selector),
            Kind::ServiceEntry(entry) => {
                entry
                    .workload_selector
                    .iter()
                    .for_each(|of| self.of(&of.labels));
            }
            Kind::Sidecar(sidecar) => {
                sidecar
                    .workload_selector
                    .iter()
                    .for_each(|of| self.of(&of.labels));
            }
            Kind::Telemetry(telemetry) => {
                telemetry
                    .selector
                    .iter()
                    .for_each(|of| self.of(&of.match_labels));
            }
            Kind::VirtualService(service) => {
                let http = service.http.iter().flat_map(|rule| &rule.matches);
                http.for_each(|block| self.of(&block.source_labels));
                let tls = service.tls.iter().flat_map(|rule| &rule.matches);
                tls.for_each(|block| self.of(&block.source_labels));
                let tcp = service.tcp.iter().flat_map(|rule| &rule.matches);
                tcp.for_each(|block| self.of(&block.source_labels));
            }
            // These name services, routes and workloads, and no clients.
            Kind::BackendTlsPolicy(_)
            | Kind::BackendTrafficPolicy(_)
            | Kind::EndpointSlice(_)
            | Kind::Endpoints(_)
            | Kind::GrpcRoute(_)
            | Kind::HttpLocalRateLimitPolicy(_)
            | Kind::HttpRoute(_)
            | Kind::Namespace(_)
            | Kind::Pod(_)
            | Kind::ReferenceGrant(_)
            | Kind::ServiceAccount(_)
            | Kind::Workload(_)
            | Kind::WorkloadEntry(_)
            | Kind::WorkloadGroup(_) => {}
        }
    }

    fn policy(&mut self, policy: &TrafficPolicy) {
        let ports = policy.port_level_settings.iter();
        let balancers = ports.map(|port| &port.load_balancer);
        let balancers = balancers.chain([&policy.load_balancer]).flatten();
        balancers.for_each(|balancer| self.balancer(balancer));
    }

    fn balancer(&mut self, balancer: &LoadBalancer) {
        self.locality(balancer.locality_lb_setting.as_ref());
        let zones = balancer.zone_aware_lb_setting.iter();
        zones.for_each(|setting| self.priorities(&setting.failover_priority));
    }

    fn locality(&mut self, setting: Option<&Located<LocalitySetting>>) {
        setting
            .into_iter()
            .for_each(|setting| self.priorities(&setting.failover_priority));
    }

    /// A label, or a label and the value that stands in place of the client's.
    fn priorities(&mut self, labels: &[String]) {
        let keys = labels
            .iter()
            .map(|label| label.split('=').next().unwrap_or(label));
        self.0.extend(keys.map(str::to_owned));
    }
}
