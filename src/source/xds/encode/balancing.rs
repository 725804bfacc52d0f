//! How an endpoint is picked.
//!
//! The Meshwork dialect always writes `load_balancing_policy`, where every setting has a place;
//! Envoy gets the older fields, which all its versions read; gRPC a list whose first policies its
//! newer clients know and whose last one all do (gRFC A52).

use super::loss::Loss;
use super::{Dialect, Pen, value};
use crate::model::balancing::{
    LoadBound, LocalityWeights, Maglev, PeakEwma, PickFirst, RingHash, SlowStart, Spread,
    WeightedRoundRobin,
};
use crate::model::cluster::Balancing;
use crate::source::xds::extra::{ClusterExtra, PeakEwmaExtra, any};
use crate::source::xds::proto::{
    Any, BoolValue, FloatValue, balancing as lb, cluster as wire, core,
};

pub(super) fn balancing(
    pen: &mut Pen<'_>,
    message: &mut wire::Cluster,
    policy: &Balancing,
    spread: &Spread,
    extra: &mut ClusterExtra,
) {
    match pen.dialect {
        Dialect::Envoy => envoy(pen, message, policy, spread),
        Dialect::Grpc => grpc(pen, message, policy, spread),
        Dialect::Meshwork => meshwork(message, policy, spread, extra),
    }
}

fn meshwork(
    message: &mut wire::Cluster,
    policy: &Balancing,
    spread: &Spread,
    extra: &mut ClusterExtra,
) {
    let (name, config) = typed(policy, spread);
    if let Some(warming) = spread.slow_start
        && !warms(policy)
    {
        extra.slow_start = Some(slow_start(warming));
    }
    let mut policies = vec![entry(name, config)];
    if matches!(policy, Balancing::PeakEwma(_)) {
        let (name, config) = typed(&Balancing::LeastRequest, &Spread::default());
        policies.push(entry(name, config));
    }
    let mut listed = wire::LoadBalancingPolicy { policies };
    if spread.localities == LocalityWeights::InForce {
        listed = one(entry(
            "envoy.load_balancing_policies.wrr_locality",
            wrr_locality(listed),
        ));
    }
    if let Some(size) = spread.subset {
        listed = one(entry(
            "envoy.load_balancing_policies.random_subsetting",
            any(&lb::random_subsetting::v3::RandomSubsetting {
                subset_size: Some(value::number(size.get())),
                child_policy: Some(listed),
            }),
        ));
    }
    message.load_balancing_policy = Some(listed);
}

fn one(entry: wire::load_balancing_policy::Policy) -> wire::LoadBalancingPolicy {
    wire::LoadBalancingPolicy {
        policies: vec![entry],
    }
}

fn entry(name: &str, config: Any) -> wire::load_balancing_policy::Policy {
    wire::load_balancing_policy::Policy {
        typed_extension_config: Some(core::TypedExtensionConfig {
            name: name.to_owned(),
            typed_config: Some(config),
        }),
    }
}

fn wrr_locality(child: wire::LoadBalancingPolicy) -> Any {
    any(&lb::wrr_locality::v3::WrrLocality {
        endpoint_picking_policy: Some(child),
    })
}

/// Policies whose messages have a place for warming.
fn warms(policy: &Balancing) -> bool {
    matches!(policy, Balancing::LeastRequest | Balancing::RoundRobin)
}

/// A policy as an extension.
fn typed(policy: &Balancing, spread: &Spread) -> (&'static str, Any) {
    let warming = spread.slow_start.map(|warming| {
        let wire::cluster::SlowStartConfig {
            slow_start_window,
            aggression,
            min_weight_percent,
        } = slow_start(warming);
        lb::common::v3::SlowStartConfig {
            slow_start_window,
            aggression,
            min_weight_percent,
        }
    });
    match policy {
        Balancing::LeastRequest => (
            "envoy.load_balancing_policies.least_request",
            any(&lb::least_request::v3::LeastRequest {
                choice_count: Some(value::number(2)),
                slow_start_config: warming,
                ..Default::default()
            }),
        ),
        Balancing::Maglev(table) => ("envoy.load_balancing_policies.maglev", maglev(*table)),
        Balancing::PeakEwma(settings) => ("meshwork.peak_ewma", peak_ewma(*settings)),
        Balancing::PickFirst(PickFirst { shuffle }) => (
            "envoy.load_balancing_policies.pick_first",
            any(&lb::pick_first::v3::PickFirst {
                shuffle_address_list: *shuffle,
            }),
        ),
        Balancing::Random => (
            "envoy.load_balancing_policies.random",
            any(&lb::random::v3::Random::default()),
        ),
        Balancing::RingHash(ring) => ("envoy.load_balancing_policies.ring_hash", ring_hash(*ring)),
        Balancing::RoundRobin => (
            "envoy.load_balancing_policies.round_robin",
            any(&lb::round_robin::v3::RoundRobin {
                slow_start_config: warming,
                ..Default::default()
            }),
        ),
        Balancing::WeightedRoundRobin(settings) => (
            "envoy.load_balancing_policies.client_side_weighted_round_robin",
            weighted(settings),
        ),
    }
}

fn consistent(bound: Option<LoadBound>) -> Option<lb::common::v3::ConsistentHashingLbConfig> {
    bound.map(|bound| lb::common::v3::ConsistentHashingLbConfig {
        hash_balance_factor: Some(value::number(bound.percent())),
        ..Default::default()
    })
}

fn maglev(table: Maglev) -> Any {
    any(&lb::maglev::v3::Maglev {
        table_size: Some(value::long(table.table_size())),
        consistent_hashing_lb_config: consistent(table.bound()),
        locality_weighted_lb_config: None,
    })
}

fn ring_hash(ring: RingHash) -> Any {
    any(&lb::ring_hash::v3::RingHash {
        hash_function: lb::ring_hash::v3::ring_hash::HashFunction::XxHash.into(),
        minimum_ring_size: Some(value::long(ring.minimum())),
        maximum_ring_size: Some(value::long(ring.maximum())),
        consistent_hashing_lb_config: consistent(ring.bound()),
        ..Default::default()
    })
}

fn peak_ewma(settings: PeakEwma) -> Any {
    let PeakEwma {
        default_latency,
        decay,
    } = settings;
    any(&PeakEwmaExtra {
        default_latency: Some(value::duration(default_latency)),
        decay: Some(value::duration(decay)),
    })
}

fn weighted(settings: &WeightedRoundRobin) -> Any {
    let WeightedRoundRobin {
        blackout,
        expiration,
        update,
        error_penalty,
        out_of_band,
        utilization,
    } = settings;
    any(
        &lb::client_side_weighted_round_robin::v3::ClientSideWeightedRoundRobin {
            enable_oob_load_report: out_of_band.map(|_| BoolValue { value: true }),
            oob_reporting_period: out_of_band.map(value::duration),
            blackout_period: Some(value::duration(*blackout)),
            weight_expiration_period: Some(value::duration(*expiration)),
            weight_update_period: Some(value::duration(*update)),
            // The message has the half of the digits.
            error_utilization_penalty: Some(FloatValue {
                value: error_penalty.value() as f32,
            }),
            metric_names_for_computing_utilization: utilization
                .iter()
                .map(ToString::to_string)
                .collect(),
            ..Default::default()
        },
    )
}

pub(super) fn slow_start(model: SlowStart) -> wire::cluster::SlowStartConfig {
    let SlowStart {
        window,
        minimum,
        aggression,
    } = model;
    wire::cluster::SlowStartConfig {
        slow_start_window: Some(value::duration(window)),
        aggression: Some(core::RuntimeDouble {
            default_value: aggression.value(),
            // Envoy refuses an empty key.
            runtime_key: "meshwork.aggression".to_owned(),
        }),
        min_weight_percent: Some(value::percent(minimum)),
    }
}

fn envoy(pen: &mut Pen<'_>, message: &mut wire::Cluster, policy: &Balancing, spread: &Spread) {
    use wire::cluster::{LbConfig, LbPolicy as Policy};
    if let Some(wire::cluster::ClusterDiscoveryType::Type(kind)) = message.cluster_discovery_type
        && kind == i32::from(wire::cluster::DiscoveryType::OriginalDst)
    {
        message.lb_policy = Policy::ClusterProvided.into();
        return;
    }
    let warming = spread.slow_start.map(slow_start);
    pen.lose_if(warming.is_some() && !warms(policy), Loss::SlowStart);
    pen.lose_if(spread.subset.is_some(), Loss::Subset);
    if spread.localities == LocalityWeights::InForce
        && let Some(common) = &mut message.common_lb_config
    {
        use wire::cluster::common_lb_config::{LocalityConfigSpecifier, LocalityWeightedLbConfig};
        common.locality_config_specifier = Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(
            LocalityWeightedLbConfig::default(),
        ));
    }
    let (lb_policy, config) = match policy {
        Balancing::LeastRequest | Balancing::PeakEwma(_) | Balancing::PickFirst(_) => {
            pen.lose_if(*policy != Balancing::LeastRequest, Loss::BalancingPolicy);
            let config = wire::cluster::LeastRequestLbConfig {
                slow_start_config: warming,
                ..Default::default()
            };
            (
                Policy::LeastRequest,
                Some(LbConfig::LeastRequestLbConfig(config)),
            )
        }
        Balancing::Maglev(table) => {
            bounded(message, table.bound());
            let config = wire::cluster::MaglevLbConfig {
                table_size: Some(value::long(table.table_size())),
            };
            (Policy::Maglev, Some(LbConfig::MaglevLbConfig(config)))
        }
        Balancing::Random => (Policy::Random, None),
        Balancing::RingHash(ring) => {
            bounded(message, ring.bound());
            (Policy::RingHash, Some(ring_config(*ring, ring.maximum())))
        }
        Balancing::RoundRobin => {
            let config = wire::cluster::RoundRobinLbConfig {
                slow_start_config: warming,
            };
            (
                Policy::RoundRobin,
                Some(LbConfig::RoundRobinLbConfig(config)),
            )
        }
        Balancing::WeightedRoundRobin(settings) => {
            let name = "envoy.load_balancing_policies.client_side_weighted_round_robin";
            message.load_balancing_policy = Some(one(entry(name, weighted(settings))));
            (Policy::LoadBalancingPolicyConfig, None)
        }
    };
    message.lb_policy = lb_policy.into();
    message.lb_config = config;
}

fn ring_config(ring: RingHash, maximum: u32) -> wire::cluster::LbConfig {
    wire::cluster::LbConfig::RingHashLbConfig(wire::cluster::RingHashLbConfig {
        minimum_ring_size: Some(value::long(ring.minimum().min(maximum))),
        maximum_ring_size: Some(value::long(maximum)),
        hash_function: wire::cluster::ring_hash_lb_config::HashFunction::XxHash.into(),
    })
}

fn bounded(message: &mut wire::Cluster, bound: Option<LoadBound>) {
    if let (Some(bound), Some(common)) = (bound, &mut message.common_lb_config) {
        common.consistent_hashing_lb_config =
            Some(wire::cluster::common_lb_config::ConsistentHashingLbConfig {
                hash_balance_factor: Some(value::number(bound.percent())),
                ..Default::default()
            });
    }
}

/// Ring hash in the older field, which every gRPC client reads. The others as a list that ends with
/// round robin, which every client has; those older than A52 read `lb_policy`, round robin too.
fn grpc(pen: &mut Pen<'_>, message: &mut wire::Cluster, policy: &Balancing, spread: &Spread) {
    use wire::cluster::LbPolicy as Policy;
    pen.lose_if(spread.slow_start.is_some(), Loss::SlowStart);
    let ring = match policy {
        Balancing::RingHash(ring) => Some(*ring),
        Balancing::Maglev(_) => Some(RingHash::default()),
        Balancing::LeastRequest
        | Balancing::PeakEwma(_)
        | Balancing::PickFirst(_)
        | Balancing::Random
        | Balancing::RoundRobin
        | Balancing::WeightedRoundRobin(_) => None,
    };
    if let Some(ring) = ring {
        let exact = *policy == Balancing::RingHash(ring) && ring.bound().is_none();
        pen.lose_if(!exact, Loss::BalancingPolicy);
        message.lb_policy = Policy::RingHash.into();
        message.lb_config = Some(ring_config(ring, ring.maximum()));
        return;
    }
    message.lb_policy = Policy::RoundRobin.into();
    let first = match policy {
        Balancing::PickFirst(_)
        | Balancing::RoundRobin
        | Balancing::WeightedRoundRobin(_)
        | Balancing::LeastRequest => policy,
        Balancing::Maglev(_)
        | Balancing::PeakEwma(_)
        | Balancing::Random
        | Balancing::RingHash(_) => {
            pen.lose(Loss::BalancingPolicy);
            &Balancing::LeastRequest
        }
    };
    let plain = Spread::default();
    let (name, config) = typed(first, &plain);
    let mut policies = vec![entry(name, config)];
    if *first != Balancing::RoundRobin {
        let (name, config) = typed(&Balancing::RoundRobin, &plain);
        policies.push(entry(name, config));
    }
    let mut listed = wire::LoadBalancingPolicy { policies };
    // gRPC weighs localities in any case; where nobody gave weights, all have what their endpoints
    // weigh, so that each endpoint gets the same. What has one endpoint for all is not shared out.
    let whole = matches!(first, Balancing::PickFirst(_));
    if !whole || spread.localities == LocalityWeights::InForce {
        listed = one(entry(
            "envoy.load_balancing_policies.wrr_locality",
            wrr_locality(listed),
        ));
    }
    if let Some(size) = spread.subset {
        let inner = any(&lb::random_subsetting::v3::RandomSubsetting {
            subset_size: Some(value::number(size.get())),
            child_policy: Some(listed.clone()),
        });
        let name = "envoy.load_balancing_policies.random_subsetting";
        listed.policies.insert(0, entry(name, inner));
    }
    message.load_balancing_policy = Some(listed);
}
