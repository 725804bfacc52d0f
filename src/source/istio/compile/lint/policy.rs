//! Lints of the policies and subsets of a DestinationRule.

use super::super::policy::Blocks;
use super::found;
use crate::model::Cluster;
use crate::model::cluster::Protocol;
use crate::source::istio::fault::{Code, Fault, Faults};
use crate::source::istio::kinds::{Object, Subset};
use crate::source::istio::registry::{Port, Service, place, warning};
use crate::source::istio::yaml::Located;

/// Lints of the policy of one cluster.
pub(in super::super) fn policy(
    object: &Object,
    cluster: &Cluster,
    blocks: &Blocks<'_>,
    endpoints: usize,
    faults: &mut Faults,
) {
    found(never_ejects(object, cluster, blocks, endpoints), faults);
    found(short_http2_connections(object, cluster, blocks), faults);
    found(rounded_budget(object, blocks), faults);
}

/// With Envoy's rule a small cluster never ejects anybody.
fn never_ejects(
    object: &Object,
    cluster: &Cluster,
    blocks: &Blocks<'_>,
    endpoints: usize,
) -> Option<Fault> {
    let outlier = cluster.outlier.as_ref()?;
    let percent = outlier.max_ejection.value() as usize;
    let some = endpoints == 0 || endpoints.saturating_mul(percent) >= 100;
    if outlier.always_eject_one || some {
        return None;
    }
    let text = format!(
        "never ejects: {percent} % of {endpoints} endpoints is less than one in the cluster {}",
        cluster.name
    );
    let at = blocks.outlier.map_or((0, 0), place);
    let fault = warning(object, Code::Suspicious, at, text).field("outlierDetection");
    Some(fault.hinted("raise maxEjectionPercent"))
}

/// HTTP/2 exists to share a connection.
fn short_http2_connections(
    object: &Object,
    cluster: &Cluster,
    blocks: &Blocks<'_>,
) -> Option<Fault> {
    let most = cluster.connection.max_requests?;
    if cluster.protocol != Protocol::Http2 {
        return None;
    }
    let text =
        format!("renews an HTTP/2 connection after {most} requests, streams in flight finish");
    let at = blocks.pool.map_or((0, 0), place);
    let path = "connectionPool.http.maxRequestsPerConnection";
    Some(warning(object, Code::ShortConnections, at, text).field(path))
}

/// The model has whole percentages.
fn rounded_budget(object: &Object, blocks: &Blocks<'_>) -> Option<Fault> {
    let budget = blocks.budget?;
    let percent = budget.percent.filter(|percent| percent.fract() != 0.0)?;
    let text = format!("{percent} % is rounded to {} %", percent.round());
    let fault = warning(object, Code::NoEffect, place(budget), text);
    Some(fault.field("retryBudget.percent"))
}

/// IST0173: the labels of a subset are on nobody, so its requests are answered with 503.
pub(in super::super) fn empty_subset(
    object: &Object,
    subset: &Located<Subset>,
    service: &Service<'_>,
    port: &Port,
    selected: usize,
    faults: &mut Faults,
) {
    if selected > 0 || port.members.is_empty() {
        return;
    }
    let labels = subset.labels.iter();
    let labels: Vec<String> = labels
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let text = format!(
        "the labels {} select no endpoint of {}; its requests are answered with 503",
        labels.join(","),
        service.host
    );
    let fault = warning(object, Code::SubsetEmpty, place(&subset.name), text);
    faults.push(fault.field(format!("subsets[name={}]", subset.name.value)));
}

/// A policy of ejections for a service whose requests go to the host that they ask for.
pub(in super::super) fn nobody_to_eject(object: &Object, service: &Service<'_>) -> Fault {
    let text = format!(
        "outlierDetection has no effect for the host {}: its requests go to the host that they ask \
         for (resolution NONE or DYNAMIC_DNS), which has no substitute",
        service.host
    );
    warning(object, Code::NoEffect, (0, 0), text).field("trafficPolicy.outlierDetection")
}
