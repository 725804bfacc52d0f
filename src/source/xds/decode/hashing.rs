//! Policies that pick by a key: rings (gRFC A42) and Maglev tables.

use super::place::Place;
use crate::model::balancing::{LoadBound, LocalityWeights, Maglev, RingHash, Spread};
use crate::model::cluster::Balancing;
use crate::source::xds::proto::{UInt32Value, UInt64Value, balancing as lb, cluster as wire};

pub(super) fn ring_hash(
    place: &Place<'_>,
    message: &lb::ring_hash::v3::RingHash,
    spread: &mut Spread,
) -> Option<Balancing> {
    use lb::ring_hash::v3::ring_hash::HashFunction;
    match HashFunction::try_from(message.hash_function) {
        Ok(HashFunction::DefaultHash | HashFunction::XxHash) => {}
        _ => {
            return place.field("hash_function").fault(format_args!(
                "is {}; only XX_HASH (1) is allowed",
                message.hash_function
            ));
        }
    }
    if message.locality_weighted_lb_config.is_some() {
        spread.localities = LocalityWeights::InForce;
    }
    let bound = match &message.consistent_hashing_lb_config {
        Some(config) if config.hash_balance_factor.is_some() => bound(place, Some(config)),
        _ => load_bound(place, message.hash_balance_factor),
    };
    ring(
        place,
        message.minimum_ring_size,
        message.maximum_ring_size,
        bound,
    )
}

pub(super) fn ring(
    place: &Place<'_>,
    minimum: Option<UInt64Value>,
    maximum: Option<UInt64Value>,
    bound: Option<Option<LoadBound>>,
) -> Option<Balancing> {
    let standard = RingHash::default();
    let minimum = minimum.map_or(u64::from(standard.minimum()), |size| size.value);
    let maximum = maximum.map_or(u64::from(standard.maximum()), |size| size.value);
    let sizes = u32::try_from(minimum).ok().zip(u32::try_from(maximum).ok());
    let Some(ring) = sizes.and_then(|(minimum, maximum)| RingHash::new(minimum, maximum)) else {
        return place.fault(format_args!(
            "has a ring of {minimum} to {maximum} entries; at most {} are allowed, and the minimum \
             is not above the maximum",
            RingHash::LIMIT
        ));
    };
    Some(Balancing::RingHash(match bound? {
        Some(bound) => ring.bounded(bound),
        None => ring,
    }))
}

pub(super) fn maglev_policy(
    place: &Place<'_>,
    message: &lb::maglev::v3::Maglev,
    spread: &mut Spread,
) -> Option<Balancing> {
    if message.locality_weighted_lb_config.is_some() {
        spread.localities = LocalityWeights::InForce;
    }
    let bound = bound(place, message.consistent_hashing_lb_config.as_ref());
    maglev(place, message.table_size, bound)
}

pub(super) fn maglev(
    place: &Place<'_>,
    size: Option<UInt64Value>,
    bound: Option<Option<LoadBound>>,
) -> Option<Balancing> {
    let size = size.map_or(u64::from(Maglev::default().table_size()), |size| size.value);
    let Some(table) = u32::try_from(size).ok().and_then(Maglev::new) else {
        return place.field("table_size").fault(format_args!(
            "is {size}; a prime number of at most {} is allowed",
            Maglev::LIMIT
        ));
    };
    Some(Balancing::Maglev(match bound? {
        Some(bound) => table.bounded(bound),
        None => table,
    }))
}

/// How busy an endpoint may be, in the policy's own message.
fn bound(
    place: &Place<'_>,
    config: Option<&lb::common::v3::ConsistentHashingLbConfig>,
) -> Option<Option<LoadBound>> {
    load_bound(
        &place.field("consistent_hashing_lb_config"),
        config.and_then(|config| config.hash_balance_factor),
    )
}

/// The same beside `lb_policy`, for both policies by hash.
pub(super) fn common_bound(
    place: &Place<'_>,
    message: &wire::Cluster,
) -> Option<Option<LoadBound>> {
    let common = message.common_lb_config.as_ref();
    let config = common.and_then(|common| common.consistent_hashing_lb_config.as_ref());
    load_bound(
        &place.field("common_lb_config.consistent_hashing_lb_config"),
        config.and_then(|config| config.hash_balance_factor),
    )
}

fn load_bound(place: &Place<'_>, bound: Option<UInt32Value>) -> Option<Option<LoadBound>> {
    match bound {
        // Zero switches it off, as in Envoy.
        None | Some(UInt32Value { value: 0 }) => Some(None),
        Some(bound) => match LoadBound::new(bound.value) {
            Some(bound) => Some(Some(bound)),
            None => place.field("hash_balance_factor").fault(format_args!(
                "is {}; 100 or more is allowed, or 0 for none",
                bound.value
            )),
        },
    }
}
