//! The rules that hold inside of one object.
//!
//! Istio's webhook and the schema of its resources reject an object before a proxy ever sees it.
//! Files have no API server in front of them, so the same rules are here, rule by rule after
//! `pkg/config/validation`, with Istio's literal words where people search for them.
//!
//! What a kind may say and this client does not do yet stands in one place per kind, the module
//! `support`: nothing that was decoded is ignored in silence. Rules between objects (a subset that
//! no rule defines, a host that nobody serves) are not here; they need the whole set.

mod access;
mod checker;
mod destination_rule;
mod gateway;
mod gateway_api;
mod http_action;
mod http_match;
mod kubernetes;
mod load_balancer;
mod mesh;
mod metadata;
mod names;
mod peer_authentication;
mod rate_limit;
mod reachable;
mod service_entry;
mod support;
mod telemetry;
#[cfg(test)]
mod tests;
mod token;
mod virtual_service;

pub(crate) use access::{DRY_RUN, annotations, dry_run};
pub(crate) use checker::{Checker, Finding};
pub(crate) use metadata::metadata;
pub(crate) use telemetry::{LabelExpression, label_value};

use crate::source::istio::kinds::Kind;

/// All rules for an object of its kind.
pub(crate) fn rules(check: &mut Checker<'_>, kind: &Kind, namespace: &str) {
    match kind {
        Kind::AuthorizationPolicy(policy) => access::authorization_policy(check, policy),
        Kind::BackendTlsPolicy(policy) => gateway_api::backend_tls_policy(check, policy),
        Kind::BackendTrafficPolicy(policy) => gateway_api::backend_traffic_policy(check, policy),
        Kind::DestinationRule(rule) => {
            destination_rule::rules(check, rule, namespace);
            support::destination_rule(check, rule);
        }
        Kind::EndpointSlice(slice) => {
            kubernetes::endpoint_slice(check, slice);
            support::endpoint_slice(check, slice);
        }
        Kind::Endpoints(endpoints) => kubernetes::endpoints(check, endpoints),
        Kind::Gateway(gateway) => gateway::rules(check, gateway),
        Kind::MeshConfig(config) => mesh::mesh_config(check, config),
        Kind::GrpcRoute(route) => gateway_api::grpc_route(check, route),
        Kind::HttpRoute(route) => gateway_api::http_route(check, route),
        Kind::PeerAuthentication(policy) => peer_authentication::rules(check, policy),
        Kind::Pod(pod) => kubernetes::pod(check, pod),
        Kind::ReferenceGrant(grant) => gateway_api::reference_grant(check, grant),
        Kind::RequestAuthentication(policy) => token::request_authentication(check, policy),
        Kind::Service(service) => {
            kubernetes::service(check, service);
            support::service(check, service);
        }
        Kind::ServiceEntry(entry) => {
            service_entry::rules(check, entry);
            support::service_entry(check, entry);
        }
        Kind::Sidecar(sidecar) => mesh::sidecar(check, sidecar),
        Kind::HttpLocalRateLimitPolicy(policy) => rate_limit::policy(check, policy),
        Kind::LinkerdServer(server) => rate_limit::server(check, server),
        Kind::Telemetry(told) => telemetry::rules(check, told),
        Kind::VirtualService(service) => {
            virtual_service::rules(check, service);
            support::virtual_service(check, service);
        }
        Kind::Workload(workload) => kubernetes::workload(check, workload),
        Kind::WorkloadEntry(entry) => {
            service_entry::workload_entry(check, entry);
        }
        Kind::WorkloadGroup(group) => mesh::workload_group(check, group),
        // All that these say is their metadata.
        Kind::Namespace(_) | Kind::ServiceAccount(_) => {}
    }
}
