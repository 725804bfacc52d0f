//! How an endpoint is picked: the older `lb_policy` with its settings, and `load_balancing_policy`,
//! a list of policies by type of which the first known one is taken (gRFC A52).

use std::num::NonZeroU32;
use std::time::Duration;

use super::place::{Place, Quoted};
use super::{hashing, value};
use crate::model::balancing::{
    LocalityWeights, PeakEwma, PickFirst, Ratio, SlowStart, Spread, WeightedRoundRobin,
};
use crate::model::cluster::Balancing;
use crate::model::reported::ReportedMetric;
use crate::source::xds::extra::PeakEwmaExtra;
use crate::source::xds::proto::{Any, Duration as WireDuration, balancing as lb, cluster as wire};
use crate::source::xds::proto::{UInt32Value, percent};

/// How deep policies may be nested (gRFC A52).
const MAX_DEPTH: usize = 16;

pub(super) fn balancing(
    place: &Place<'_>,
    message: &wire::Cluster,
    spread: &mut Spread,
) -> Option<Balancing> {
    if let Some(policy) = &message.load_balancing_policy {
        return listed(&place.field("load_balancing_policy"), policy, spread, 0);
    }
    legacy(place, message, spread)
}

/// `lb_policy`.
///
/// Localities are weighed where they have weights, also if `locality_weighted_lb_config` does not
/// say so: that is what gRPC does (A28), and a set without weights is the same for both.
fn legacy(place: &Place<'_>, message: &wire::Cluster, spread: &mut Spread) -> Option<Balancing> {
    use wire::cluster::LbConfig as Config;
    use wire::cluster::LbPolicy as Policy;
    spread.localities = LocalityWeights::InForce;
    let config = message.lb_config.as_ref();
    match Policy::try_from(message.lb_policy) {
        Ok(Policy::RoundRobin) => {
            if let Some(Config::RoundRobinLbConfig(config)) = config {
                let place = place.field("round_robin_lb_config");
                spread.slow_start = warmed(&place, config.slow_start_config.as_ref())?;
            }
            Some(Balancing::RoundRobin)
        }
        Ok(Policy::LeastRequest) => {
            if let Some(Config::LeastRequestLbConfig(config)) = config {
                let place = place.field("least_request_lb_config");
                choices(&place, config.choice_count)?;
                spread.slow_start = warmed(&place, config.slow_start_config.as_ref())?;
            }
            Some(Balancing::LeastRequest)
        }
        Ok(Policy::Random) => Some(Balancing::Random),
        Ok(Policy::RingHash) => {
            let outer = place;
            let place = place.field("ring_hash_lb_config");
            let config = match config {
                Some(Config::RingHashLbConfig(config)) => *config,
                _ => wire::cluster::RingHashLbConfig::default(),
            };
            if config.hash_function != 0 {
                return place.field("hash_function").fault(format_args!(
                    "is {}; only XX_HASH (0) is allowed",
                    config.hash_function
                ));
            }
            hashing::ring(
                &place,
                config.minimum_ring_size,
                config.maximum_ring_size,
                hashing::common_bound(outer, message),
            )
        }
        Ok(Policy::Maglev) => {
            let size = match config {
                Some(Config::MaglevLbConfig(config)) => config.table_size,
                _ => None,
            };
            hashing::maglev(
                &place.field("maglev_lb_config"),
                size,
                hashing::common_bound(place, message),
            )
        }
        // Where the request's authority is the endpoint there is nothing to pick.
        Ok(Policy::ClusterProvided) => Some(Balancing::LeastRequest),
        Ok(Policy::LoadBalancingPolicyConfig) => place
            .field("load_balancing_policy")
            .fault("is missing, and lb_policy says LOAD_BALANCING_POLICY_CONFIG"),
        Err(_) => place.field("lb_policy").fault(format_args!(
            "{} is unknown; ROUND_ROBIN (0), LEAST_REQUEST (1), RING_HASH (2), RANDOM (3), MAGLEV \
             (5) and CLUSTER_PROVIDED (6) are allowed",
            message.lb_policy
        )),
    }
}

/// The first policy of the list that is known.
fn listed(
    place: &Place<'_>,
    message: &wire::LoadBalancingPolicy,
    spread: &mut Spread,
    depth: usize,
) -> Option<Balancing> {
    if depth >= MAX_DEPTH {
        return place.fault(format_args!("is nested deeper than {MAX_DEPTH} policies"));
    }
    let policies = place.field("policies");
    for (index, policy) in message.policies.iter().enumerate() {
        let place = policies.index(index);
        let place = place.field("typed_extension_config.typed_config");
        let config = policy.typed_extension_config.as_ref();
        let Some(any) = config.and_then(|config| config.typed_config.as_ref()) else {
            return place.fault("is missing");
        };
        if let Some(known) = known(&place, any, spread, depth) {
            return known;
        }
    }
    let first = message.policies.first().and_then(|policy| {
        let config = policy.typed_extension_config.as_ref()?;
        config.typed_config.as_ref()
    });
    place.fault(format_args!(
        "has no policy that is known here (the first is {}); round_robin, least_request, random, \
         ring_hash, maglev, pick_first, client_side_weighted_round_robin, wrr_locality and \
         random_subsetting are",
        Quoted(first.map_or("missing", value::type_name))
    ))
}

/// `None`: a policy that is not known. `Some(None)`: known and faulty.
fn known(
    place: &Place<'_>,
    any: &Any,
    spread: &mut Spread,
    depth: usize,
) -> Option<Option<Balancing>> {
    Some(if value::is::<lb::wrr_locality::v3::WrrLocality>(any) {
        value::unpack(place, any).and_then(|message| wrr_locality(place, &message, spread, depth))
    } else if value::is::<lb::random_subsetting::v3::RandomSubsetting>(any) {
        value::unpack(place, any).and_then(|message| subsetting(place, &message, spread, depth))
    } else if value::is::<lb::round_robin::v3::RoundRobin>(any) {
        value::unpack(place, any).and_then(|message| round_robin(place, &message, spread))
    } else if value::is::<lb::least_request::v3::LeastRequest>(any) {
        value::unpack(place, any).and_then(|message| least_request(place, &message, spread))
    } else if value::is::<lb::random::v3::Random>(any) {
        value::unpack(place, any).map(|message: lb::random::v3::Random| {
            weighed(message.locality_lb_config.as_ref(), spread);
            Balancing::Random
        })
    } else if value::is::<lb::ring_hash::v3::RingHash>(any) {
        value::unpack(place, any).and_then(|message| hashing::ring_hash(place, &message, spread))
    } else if value::is::<lb::maglev::v3::Maglev>(any) {
        value::unpack(place, any)
            .and_then(|message| hashing::maglev_policy(place, &message, spread))
    } else if value::is::<lb::client_side_weighted_round_robin::v3::ClientSideWeightedRoundRobin>(
        any,
    ) {
        value::unpack(place, any).and_then(|message| weighted(place, &message, spread))
    } else if value::is::<lb::pick_first::v3::PickFirst>(any) {
        value::unpack(place, any).map(|message: lb::pick_first::v3::PickFirst| {
            Balancing::PickFirst(PickFirst {
                shuffle: message.shuffle_address_list,
            })
        })
    } else if value::is::<lb::cluster_provided::v3::ClusterProvided>(any) {
        value::unpack(place, any)
            .map(|_: lb::cluster_provided::v3::ClusterProvided| Balancing::LeastRequest)
    } else if value::is::<PeakEwmaExtra>(any) {
        value::unpack(place, any).and_then(|message| peak_ewma(place, &message))
    } else {
        return None;
    })
}

fn wrr_locality(
    place: &Place<'_>,
    message: &lb::wrr_locality::v3::WrrLocality,
    spread: &mut Spread,
    depth: usize,
) -> Option<Balancing> {
    spread.localities = LocalityWeights::InForce;
    let place = place.field("endpoint_picking_policy");
    let child = place.required(message.endpoint_picking_policy.as_ref())?;
    listed(&place, child, spread, depth + 1)
}

fn subsetting(
    place: &Place<'_>,
    message: &lb::random_subsetting::v3::RandomSubsetting,
    spread: &mut Spread,
    depth: usize,
) -> Option<Balancing> {
    let size_place = place.field("subset_size");
    let size = size_place.required(message.subset_size)?;
    spread.subset = NonZeroU32::new(size.value);
    if spread.subset.is_none() {
        return size_place.fault("is 0; 1 or more is allowed");
    }
    let place = place.field("child_policy");
    let child = place.required(message.child_policy.as_ref())?;
    listed(&place, child, spread, depth + 1)
}

fn round_robin(
    place: &Place<'_>,
    message: &lb::round_robin::v3::RoundRobin,
    spread: &mut Spread,
) -> Option<Balancing> {
    weighed(message.locality_lb_config.as_ref(), spread);
    spread.slow_start = common_warmed(place, message.slow_start_config.as_ref())?;
    Some(Balancing::RoundRobin)
}

fn least_request(
    place: &Place<'_>,
    message: &lb::least_request::v3::LeastRequest,
    spread: &mut Spread,
) -> Option<Balancing> {
    weighed(message.locality_lb_config.as_ref(), spread);
    choices(place, message.choice_count)?;
    spread.slow_start = common_warmed(place, message.slow_start_config.as_ref())?;
    Some(Balancing::LeastRequest)
}

/// Two are drawn whatever larger number is said: more choices are worth little and gRPC bounds the
/// number too (A48).
fn choices(place: &Place<'_>, count: Option<UInt32Value>) -> Option<()> {
    match count {
        Some(count) if count.value < 2 => place
            .field("choice_count")
            .fault(format_args!("is {}; 2 or more is allowed", count.value)),
        _ => Some(()),
    }
}

/// gRFC A58 and A114. Names of metrics that no report has are left alone, as in Envoy.
fn weighted(
    place: &Place<'_>,
    message: &lb::client_side_weighted_round_robin::v3::ClientSideWeightedRoundRobin,
    spread: &mut Spread,
) -> Option<Balancing> {
    let standard = WeightedRoundRobin::default();
    let time = |field: &str, value: Option<WireDuration>, default: Duration| {
        value::duration_or(&place.field(field), value, default)
    };
    let blackout = time(
        "blackout_period",
        message.blackout_period,
        standard.blackout,
    );
    let expiration = time(
        "weight_expiration_period",
        message.weight_expiration_period,
        standard.expiration,
    );
    let update = time(
        "weight_update_period",
        message.weight_update_period,
        standard.update,
    );
    let penalty = message
        .error_utilization_penalty
        .map_or(1.0, |value| value.value);
    let Some(error_penalty) = Ratio::new(f64::from(penalty)) else {
        return place
            .field("error_utilization_penalty")
            .fault(format_args!("is {penalty}; 0 or more is allowed"));
    };
    let period = time(
        "oob_reporting_period",
        message.oob_reporting_period,
        Duration::from_secs(10),
    );
    let aside = message
        .enable_oob_load_report
        .is_some_and(|enabled| enabled.value);
    spread.slow_start = common_warmed(place, message.slow_start_config.as_ref())?;
    let asked = message.metric_names_for_computing_utilization.iter();
    Some(Balancing::WeightedRoundRobin(WeightedRoundRobin {
        utilization: asked
            .filter_map(|name| ReportedMetric::parse(name))
            .collect(),
        out_of_band: Some(period?).filter(|_| aside),
        blackout: blackout?,
        expiration: expiration?,
        update: update?,
        error_penalty,
    }))
}

fn peak_ewma(place: &Place<'_>, message: &PeakEwmaExtra) -> Option<Balancing> {
    let standard = PeakEwma::default();
    let default_latency = value::duration_or(
        &place.field("default_latency"),
        message.default_latency,
        standard.default_latency,
    );
    let decay = value::duration_or(&place.field("decay"), message.decay, standard.decay);
    Some(Balancing::PeakEwma(PeakEwma {
        default_latency: default_latency?,
        decay: decay?,
    }))
}

/// Only an explicit "by weight" changes what stands around the policy.
fn weighed(config: Option<&lb::common::v3::LocalityLbConfig>, spread: &mut Spread) {
    use lb::common::v3::locality_lb_config::LocalityConfigSpecifier as Specifier;
    let specifier = config.and_then(|config| config.locality_config_specifier.as_ref());
    if let Some(Specifier::LocalityWeightedLbConfig(_)) = specifier {
        spread.localities = LocalityWeights::InForce;
    }
}

fn warmed(
    place: &Place<'_>,
    config: Option<&wire::cluster::SlowStartConfig>,
) -> Option<Option<SlowStart>> {
    match config {
        None => Some(None),
        Some(config) => slow_start(&place.field("slow_start_config"), config).map(Some),
    }
}

fn common_warmed(
    place: &Place<'_>,
    config: Option<&lb::common::v3::SlowStartConfig>,
) -> Option<Option<SlowStart>> {
    let config = config.map(|config| wire::cluster::SlowStartConfig {
        slow_start_window: config.slow_start_window,
        aggression: config.aggression.clone(),
        min_weight_percent: config.min_weight_percent,
    });
    warmed(place, config.as_ref())
}

pub(super) fn slow_start(
    place: &Place<'_>,
    message: &wire::cluster::SlowStartConfig,
) -> Option<SlowStart> {
    let standard = SlowStart::over(Duration::ZERO);
    let window_place = place.field("slow_start_window");
    let window = window_place
        .required(message.slow_start_window)
        .and_then(|window| value::duration(&window_place, window));
    let aggression = message
        .aggression
        .as_ref()
        .map_or(1.0, |value| value.default_value);
    let aggression_place = place.field("aggression.default_value");
    let aggression = match Ratio::new(aggression).filter(|ratio| ratio.value() > 0.0) {
        Some(ratio) => Some(ratio),
        None => aggression_place.fault(format_args!("is {aggression}; more than 0 is allowed")),
    };
    let minimum = match message.min_weight_percent {
        None => Some(standard.minimum),
        Some(percent::Percent { value }) => {
            value::percent_f64(&place.field("min_weight_percent"), value)
        }
    };
    Some(SlowStart {
        window: window?,
        minimum: minimum?,
        aggression: aggression?,
    })
}
