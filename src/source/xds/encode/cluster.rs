//! Clusters.

use std::sync::Arc;
use std::time::Duration;

use super::loss::Loss;
use super::{Dialect, Pen, balancing, connection, endpoints, health, outlier, security, value};
use crate::model::balancing::Spread;
use crate::model::cluster::{Connection, Discovery, Dns, Families, Lookup};
use crate::model::endpoint::Address;
use crate::model::limit::{Limits, RetryLimit};
use crate::model::{Cluster, Endpoints, Percent};
use crate::source::xds::extra::{self, ClusterExtra, any};
use crate::source::xds::proto::{aggregate, cluster as wire, core, dns, dns_common};

/// What the mesh's own budget comes to as a share of requests in flight.
const BUDGET: (u32, u32) = (20, 3);

/// Whether the cluster's message holds its endpoints.
///
/// Names are resolved in clusters of DNS, whose endpoints are in their message. Other clients
/// resolve none in endpoints that come by themselves, so such a cluster becomes one of DNS.
pub(super) fn contains_endpoints(
    model: &Cluster,
    endpoints: Option<&Arc<Endpoints>>,
    dialect: Dialect,
) -> bool {
    match &model.discovery {
        Discovery::Dns(_) if dialect == Dialect::Grpc => has_names(endpoints),
        Discovery::Dns(_) => true,
        Discovery::Endpoints(_) => dialect != Dialect::Meshwork && has_names(endpoints),
        Discovery::Aggregate(_) | Discovery::OnDemand { .. } | Discovery::Passthrough => false,
    }
}

fn has_names(endpoints: Option<&Arc<Endpoints>>) -> bool {
    let localities = endpoints.map_or(&[][..], |endpoints| &endpoints.localities);
    let mut all = localities.iter().flat_map(|locality| &locality.endpoints);
    all.any(|endpoint| matches!(endpoint.address, Address::Name { .. }))
}

/// Unix sockets, which are no names that could be looked up.
fn has_sockets(endpoints: Option<&Arc<Endpoints>>) -> bool {
    let localities = endpoints.map_or(&[][..], |endpoints| &endpoints.localities);
    let mut all = localities.iter().flat_map(|locality| &locality.endpoints);
    all.any(|endpoint| matches!(endpoint.address, Address::Unix(_)))
}

/// `None`: the dialect has no such cluster.
pub(super) fn cluster(
    pen: &mut Pen<'_>,
    model: &Cluster,
    members: Option<&Arc<Endpoints>>,
) -> Option<wire::Cluster> {
    let Cluster {
        name,
        discovery,
        balancing: policy,
        spread,
        panic_threshold,
        connect_timeout,
        protocol,
        connection,
        limits,
        outlier,
        health_check,
        load_metrics,
        security,
        origin: _,
    } = model;
    let mut extra = ClusterExtra::default();
    let mut message = wire::Cluster {
        name: name.to_string(),
        connect_timeout: Some(value::limit(*connect_timeout)),
        common_lb_config: common(pen, *panic_threshold),
        // grpc-java counts requests for its limit only where loads are reported.
        lrs_server: pen.is_grpc().then(value::own_server),
        lrs_report_endpoint_metrics: load_metrics.iter().map(ToString::to_string).collect(),
        ..wire::Cluster::default()
    };
    pen.lose_if(pen.is_grpc(), Loss::ConnectTimeout);
    match health_check {
        Some(_) if pen.is_grpc() => pen.lose(Loss::HealthCheck),
        Some(model) => message.health_checks = vec![health::check(pen, model, &mut extra)],
        None => {}
    }
    discovered(pen, &mut message, discovery, members, &mut extra)?;
    match discovery {
        // Members balance, so the policies of an aggregate are nothing that could be lost.
        Discovery::Aggregate(_) => {
            message.lb_policy = wire::cluster::LbPolicy::ClusterProvided.into();
        }
        Discovery::Dns(_)
        | Discovery::Endpoints(_)
        | Discovery::OnDemand { .. }
        | Discovery::Passthrough => {
            balancing::balancing(pen, &mut message, policy, spread, &mut extra);
        }
    }
    connection::connection(pen, &mut message, *protocol, connection, &mut extra);
    security::security(pen, &mut message, security, members, &mut extra)?;
    message.circuit_breakers = Some(breakers(pen, limits, connection, &mut extra));
    message.outlier_detection = outlier
        .as_ref()
        .map(|model| outlier::outlier(pen, model, &mut extra));
    let factor = spread.overprovisioning;
    let standard = factor == Spread::default().overprovisioning;
    match pen.is_meshwork() {
        true if !standard => extra.overprovisioning = factor.get(),
        true => {}
        false => pen.lose_if(!standard, Loss::Overprovisioning),
    }
    if pen.is_meshwork() {
        message.metadata = extra::metadata(&extra);
    }
    Some(message)
}

fn common(pen: &mut Pen<'_>, panic: Percent) -> Option<wire::cluster::CommonLbConfig> {
    if pen.is_grpc() {
        pen.lose_if(panic != Percent::ZERO, Loss::PanicThreshold);
        return None;
    }
    Some(wire::cluster::CommonLbConfig {
        healthy_panic_threshold: Some(value::percent(panic)),
        ..wire::cluster::CommonLbConfig::default()
    })
}

fn discovered(
    pen: &mut Pen<'_>,
    message: &mut wire::Cluster,
    discovery: &Discovery,
    members: Option<&Arc<Endpoints>>,
    extra: &mut ClusterExtra,
) -> Option<()> {
    use wire::cluster::{DiscoveryType as Type, LbConfig};
    let kind = match discovery {
        Discovery::Aggregate(members) => {
            aggregated(message, members);
            return Some(());
        }
        Discovery::Endpoints(name) if !pen.is_meshwork() && has_names(members) => {
            pen.lose(Loss::DnsNames);
            named(pen, message, Lookup::Each, name, members, extra)?
        }
        Discovery::Endpoints(name) => eds(message, name),
        Discovery::Dns(dns) if pen.is_grpc() && !has_names(members) => eds(message, &dns.endpoints),
        Discovery::Dns(Dns {
            endpoints,
            lookup,
            families,
            refresh,
        }) => {
            message.dns_lookup_family = self::families(*families).into();
            // gRPC has no such field.
            pen.lose_if(pen.is_grpc() && *families != Families::Both, Loss::DnsNames);
            message.dns_refresh_rate = Some(value::limit(*refresh));
            named(pen, message, *lookup, endpoints, members, extra)?
        }
        Discovery::OnDemand { .. } | Discovery::Passthrough if pen.is_grpc() => {
            pen.lose(Loss::OnDemand);
            return None;
        }
        Discovery::OnDemand { port } => {
            message.lb_config = Some(LbConfig::OriginalDstLbConfig(
                wire::cluster::OriginalDstLbConfig {
                    upstream_port_override: Some(value::number(u32::from(*port))),
                    ..wire::cluster::OriginalDstLbConfig::default()
                },
            ));
            Type::OriginalDst
        }
        Discovery::Passthrough => Type::OriginalDst,
    };
    if message.cluster_discovery_type.is_none() {
        message.cluster_discovery_type =
            Some(wire::cluster::ClusterDiscoveryType::Type(kind.into()));
    }
    Some(())
}

fn aggregated(message: &mut wire::Cluster, members: &[Arc<str>]) {
    use wire::cluster::{ClusterDiscoveryType, CustomClusterType};
    let config = aggregate::ClusterConfig {
        clusters: members.iter().map(ToString::to_string).collect(),
    };
    message.cluster_discovery_type = Some(ClusterDiscoveryType::ClusterType(CustomClusterType {
        name: "envoy.clusters.aggregate".to_owned(),
        typed_config: Some(any(&config)),
    }));
}

fn eds(message: &mut wire::Cluster, name: &Arc<str>) -> wire::cluster::DiscoveryType {
    message.eds_cluster_config = Some(wire::cluster::EdsClusterConfig {
        eds_config: Some(value::own_stream()),
        service_name: name.to_string(),
    });
    wire::cluster::DiscoveryType::Eds
}

fn families(model: Families) -> wire::cluster::DnsLookupFamily {
    use wire::cluster::DnsLookupFamily as Wire;
    match model {
        Families::Both => Wire::Auto,
        Families::V4 => Wire::V4Only,
        Families::V6 => Wire::V6Only,
        Families::PreferV4 => Wire::V4Preferred,
    }
}

/// The same family in the words of `DnsCluster`, whose numbers are others.
fn of_extension(family: i32) -> dns_common::DnsLookupFamily {
    use dns_common::DnsLookupFamily as Wire;
    use wire::cluster::DnsLookupFamily as Family;
    match Family::try_from(family) {
        Ok(Family::V4Only) => Wire::V4Only,
        Ok(Family::V6Only) => Wire::V6Only,
        Ok(Family::V4Preferred) => Wire::V4Preferred,
        Ok(Family::All) => Wire::All,
        Ok(Family::Auto) | Err(_) => Wire::Unspecified,
    }
}

/// A cluster of DNS. `LOGICAL_DNS` is exactly one name, and the only kind that gRPC has.
fn named(
    pen: &mut Pen<'_>,
    message: &mut wire::Cluster,
    lookup: Lookup,
    name: &Arc<str>,
    members: Option<&Arc<Endpoints>>,
    extra: &mut ClusterExtra,
) -> Option<wire::cluster::DiscoveryType> {
    use wire::cluster::{ClusterDiscoveryType, CustomClusterType, DiscoveryType as Type};
    let assignment = members.map(|members| match pen.is_grpc() {
        true => endpoints::single_name(pen, members),
        false => endpoints::assignment(pen, members),
    });
    let single = assignment.as_ref().is_some_and(|assignment| {
        matches!(assignment.endpoints.as_slice(), [one] if one.lb_endpoints.len() == 1)
    }) && !has_sockets(members);
    message.load_assignment = assignment;
    if pen.is_meshwork() {
        extra.endpoints = Some(name.to_string());
        extra.no_endpoints = members.is_none();
        if lookup == Lookup::One && !single {
            let config = dns::DnsCluster {
                dns_refresh_rate: message.dns_refresh_rate.take(),
                dns_lookup_family: of_extension(std::mem::take(&mut message.dns_lookup_family))
                    .into(),
                all_addresses_in_single_endpoint: true,
                ..dns::DnsCluster::default()
            };
            message.cluster_discovery_type =
                Some(ClusterDiscoveryType::ClusterType(CustomClusterType {
                    name: "envoy.cluster.dns".to_owned(),
                    typed_config: Some(any(&config)),
                }));
        }
    } else if message.load_assignment.is_none() {
        message.load_assignment = Some(Default::default());
    }
    let logical = single && (lookup == Lookup::One || pen.is_grpc());
    let other = match pen.dialect {
        Dialect::Grpc => lookup == Lookup::Each,
        Dialect::Envoy => lookup == Lookup::One && !single,
        Dialect::Meshwork => false,
    };
    pen.lose_if(other, Loss::DnsNames);
    if pen.is_grpc() && !single {
        return None;
    }
    Some(if logical {
        Type::LogicalDns
    } else {
        Type::StrictDns
    })
}

fn breakers(
    pen: &mut Pen<'_>,
    model: &Limits,
    connection: &Connection,
    extra: &mut ClusterExtra,
) -> wire::CircuitBreakers {
    let Limits {
        connections,
        pending,
        requests,
        retries,
    } = model;
    let mut thresholds = wire::circuit_breakers::Thresholds {
        priority: core::RoutingPriority::Default.into(),
        max_requests: Some(value::number(*requests)),
        ..wire::circuit_breakers::Thresholds::default()
    };
    if pen.is_grpc() {
        let limited = [*connections, *pending]
            .iter()
            .any(|limit| *limit != u32::MAX);
        pen.lose_if(limited, Loss::Limits);
        pen.lose(Loss::RetryBudget);
    } else {
        thresholds.max_connections = Some(value::number(*connections));
        thresholds.max_pending_requests = Some(value::number(*pending));
        let budget = |percent: u32, minimum: u32, interval: Duration| {
            Some(wire::circuit_breakers::thresholds::RetryBudget {
                budget_percent: Some(crate::source::xds::proto::percent::Percent {
                    value: f64::from(percent),
                }),
                min_retry_concurrency: Some(value::number(minimum)),
                budget_interval: (!interval.is_zero()).then(|| value::duration(interval)),
            })
        };
        match *retries {
            RetryLimit::Budget => {
                thresholds.retry_budget = budget(BUDGET.0, BUDGET.1, Duration::ZERO);
                extra.retry_budget = true;
                pen.lose_if(pen.dialect == Dialect::Envoy, Loss::RetryBudget);
            }
            RetryLimit::Concurrent(max) => thresholds.max_retries = Some(value::number(max)),
            RetryLimit::Share {
                percent,
                minimum,
                interval,
            } => {
                thresholds.retry_budget = budget(percent.value(), minimum, interval);
            }
        }
    }
    wire::CircuitBreakers {
        thresholds: vec![thresholds],
        per_host_thresholds: connection
            .max_per_endpoint
            .map(|max| wire::circuit_breakers::Thresholds {
                max_connections: Some(value::number(max.get())),
                ..wire::circuit_breakers::Thresholds::default()
            })
            .into_iter()
            .collect(),
    }
}
