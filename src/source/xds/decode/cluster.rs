//! Clusters.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::place::Place;
use super::{Scope, balancing, connection, discovery, health, outlier, security, value};
use crate::model::balancing::Spread;
use crate::model::cluster::{Balancing, Connection, LoadMetric};
use crate::model::limit::{Limits, RetryLimit};
use crate::model::{Cluster, Percent};
use crate::source::xds::extra::{self, ClusterExtra};
use crate::source::xds::proto::{cluster as wire, upstream};
use crate::source::xds::resource::Resource;

/// Envoy's default.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Envoy's default, per priority.
const PANIC: f64 = 50.0;
/// Envoy's default of each threshold but that of retries, and gRPC's of requests (A32).
const THRESHOLD: u32 = 1_024;
/// Envoy's retry budget, where the block does not say it.
const BUDGET: (f64, u32) = (20.0, 3);

pub(super) fn cluster(
    scope: Scope<'_>,
    place: &Place<'_>,
    message: &wire::Cluster,
) -> Option<Resource> {
    let extra: ClusterExtra = extra::of(message.metadata.as_ref());
    let discovery = discovery::discovery(scope, place, message, &extra);
    let (policy, mut spread) = policy(place, message, &extra);
    let common = message.common_lb_config.clone().unwrap_or_default();
    let panic_threshold = value::percent_f64(
        &place.field("common_lb_config.healthy_panic_threshold"),
        common
            .healthy_panic_threshold
            .map_or(PANIC, |percent| percent.value),
    );
    let connect_timeout = value::positive_or(
        &place.field("connect_timeout"),
        message.connect_timeout,
        CONNECT_TIMEOUT,
    );
    let http = connection::http(place, message, &extra);
    let limits = limits(&place.field("circuit_breakers"), message, &extra);
    let outlier = match &message.outlier_detection {
        None => Some(None),
        Some(message) => outlier::outlier(&place.field("outlier_detection"), message, &extra),
    };
    let check = health::check(
        &place.field("health_checks"),
        &message.health_checks,
        &extra,
    );
    let security = security::security(scope, place, message, &extra);
    let fine = [
        restrictions(place, message),
        reports(place, message),
        upstream_config(place, message),
    ];
    spread.overprovisioning =
        NonZeroU32::new(extra.overprovisioning).unwrap_or(Spread::default().overprovisioning);
    let [(), (), ()] = [fine[0]?, fine[1]?, fine[2]?];
    let (discovery, endpoints) = discovery?;
    let http = http?;
    Some(Resource::Cluster {
        cluster: Arc::new(Cluster {
            name: message.name.as_str().into(),
            discovery,
            balancing: policy?,
            spread,
            panic_threshold: panic_threshold?,
            connect_timeout: connect_timeout?,
            protocol: http.protocol,
            connection: Connection {
                max_per_endpoint: per_host(message),
                ..http.connection
            },
            limits: limits?,
            outlier: outlier?.map(Arc::new),
            health_check: check?.map(Arc::new),
            load_metrics: load_metrics(message),
            security: security?,
            origin: scope.origin(&message.name),
        }),
        endpoints: endpoints.map(Arc::new),
        reports: message.lrs_server.is_some(),
    })
}

fn policy(
    place: &Place<'_>,
    message: &wire::Cluster,
    extra: &ClusterExtra,
) -> (Option<Balancing>, Spread) {
    let mut spread = Spread::default();
    if discovery::is_aggregate(message) {
        // Each member has its own (gRFC A75).
        return (Some(Balancing::default()), spread);
    }
    let policy = balancing::balancing(place, message, &mut spread);
    if let Some(warming) = &extra.slow_start {
        spread.slow_start = balancing::slow_start(&place.field("metadata"), warming);
    }
    (policy, spread)
}

/// What would send requests elsewhere or unsecured if it were left out.
fn restrictions(place: &Place<'_>, message: &wire::Cluster) -> Option<()> {
    let subsets = message
        .lb_subset_config
        .as_ref()
        .is_some_and(|config| !config.subset_selectors.is_empty());
    let refused = [
        (
            "lb_subset_config",
            subsets,
            "chooses endpoints by metadata, which is not supported; make a cluster for each subset",
        ),
        (
            "filters",
            !message.filters.is_empty(),
            "are network filters, which are not supported; leave them out",
        ),
    ];
    let mut fine = Some(());
    for (field, set, text) in refused {
        if set {
            fine = place.field(field).fault(text);
        }
    }
    fine
}

/// Reports go to the server that the cluster came from, or to none (gRFC A27).
fn reports(place: &Place<'_>, message: &wire::Cluster) -> Option<()> {
    use crate::source::xds::proto::core::config_source::ConfigSourceSpecifier as Specifier;
    let Some(server) = &message.lrs_server else {
        return Some(());
    };
    match server.config_source_specifier {
        Some(Specifier::Self_(_)) => Some(()),
        _ => place
            .field("lrs_server")
            .fault("names another server; only \"self\" is allowed"),
    }
}

/// What load reports carry on; words that are not known are left alone (gRFC A85).
fn load_metrics(message: &wire::Cluster) -> Vec<LoadMetric> {
    let words = message.lrs_report_endpoint_metrics.iter();
    words.filter_map(|word| LoadMetric::parse(word)).collect()
}

/// gRFC A75: only the type is looked at, since sessions keep no connection that idles here.
fn upstream_config(place: &Place<'_>, message: &wire::Cluster) -> Option<()> {
    let Some(config) = &message.upstream_config else {
        return Some(());
    };
    let place = place.field("upstream_config.typed_config");
    let any = place.required(config.typed_config.as_ref())?;
    let options: upstream::HttpProtocolOptions = value::unpack(&place, any)?;
    let common = options.common_http_protocol_options.unwrap_or_default();
    value::limit(
        &place.field("common_http_protocol_options.idle_timeout"),
        common.idle_timeout,
    )
    .map(|_| ())
}

/// The first thresholds of the default priority (gRFC A32); those of HIGH have no requests here.
fn limits(place: &Place<'_>, message: &wire::Cluster, extra: &ClusterExtra) -> Option<Limits> {
    let breakers = message.circuit_breakers.clone().unwrap_or_default();
    let per_host = place.field("per_host_thresholds");
    let mut fine = Some(());
    for (index, thresholds) in breakers.per_host_thresholds.iter().enumerate() {
        let place = per_host.index(index);
        if thresholds.max_connections.is_some_and(|max| max.value == 0) {
            fine = place
                .field("max_connections")
                .fault("is 0; 1 or more is allowed");
        }
    }
    let found = breakers.thresholds.iter().position(|one| one.priority == 0);
    let index = found.unwrap_or(0);
    let thresholds = found.and_then(|index| breakers.thresholds.get(index).cloned());
    let thresholds = thresholds.unwrap_or_default();
    let list = place.field("thresholds");
    let retries = retries(&list.index(index), &thresholds, extra);
    fine?;
    Some(Limits {
        connections: value::number_or(thresholds.max_connections, THRESHOLD),
        pending: value::number_or(thresholds.max_pending_requests, THRESHOLD),
        requests: value::number_or(thresholds.max_requests, THRESHOLD),
        retries: retries?,
    })
}

/// How many connections there may be to one endpoint: the first thresholds of the default priority
/// (gRFC A105).
fn per_host(message: &wire::Cluster) -> Option<NonZeroU32> {
    let breakers = message.circuit_breakers.as_ref()?;
    let mut all = breakers.per_host_thresholds.iter();
    let found = all.find(|one| one.priority == 0)?;
    NonZeroU32::new(found.max_connections?.value)
}

/// Where nothing is said of retries, the mesh's own budget holds: Envoy's default of three at once
/// is no number that anybody chose, and gRPC has none.
fn retries(
    place: &Place<'_>,
    message: &wire::circuit_breakers::Thresholds,
    extra: &ClusterExtra,
) -> Option<RetryLimit> {
    if extra.retry_budget {
        return Some(RetryLimit::Budget);
    }
    if let Some(budget) = &message.retry_budget {
        let place = place.field("retry_budget");
        let percent = budget
            .budget_percent
            .map_or(BUDGET.0, |percent| percent.value);
        let percent: Option<Percent> = value::percent_f64(&place.field("budget_percent"), percent);
        let interval = budget.budget_interval;
        let interval = interval.map_or(Some(Duration::ZERO), |interval| {
            value::duration(&place.field("budget_interval"), interval)
        });
        return Some(RetryLimit::Share {
            percent: percent?,
            minimum: value::number_or(budget.min_retry_concurrency, BUDGET.1),
            interval: interval?,
        });
    }
    Some(match message.max_retries {
        Some(max) => RetryLimit::Concurrent(max.value),
        None => RetryLimit::Budget,
    })
}
