//! The rules of a DestinationRule's load balancer.

use std::collections::BTreeSet;

use http::HeaderName;

use super::Checker;
use super::names::duration;
use crate::source::istio::fault::{Code, quoted};
use crate::source::istio::kinds::{
    ConsistentHash, Failover, LoadBalancer, LocalitySetting, SimpleBalancer, Warmup,
};

/// Envoy's largest Maglev table.
const MAGLEV_SIZE: u64 = 5_000_011;
/// Envoy's largest ring.
const RING_SIZE: u64 = 8 << 20;

pub(super) fn rules(check: &mut Checker<'_>, balancer: &LoadBalancer, outlier: bool) {
    let LoadBalancer {
        simple,
        consistent_hash: hash,
        locality_lb_setting,
        zone_aware_lb_setting,
        warmup_duration_secs,
        warmup: growth,
    } = balancer;
    if simple.is_some() && hash.is_some() {
        check.error("simple and consistentHash exclude each other");
    }
    let least_conn = *simple == Some(SimpleBalancer::LeastConn);
    check.deprecated(
        "simple",
        least_conn,
        "write LEAST_REQUEST, which is the same",
    );
    check.some("consistentHash", hash.as_ref(), |check, hash| {
        consistent_hash(check, hash)
    });
    check.some(
        "localityLbSetting",
        locality_lb_setting.as_ref(),
        |check, setting| {
            locality(check, setting, outlier);
        },
    );
    if locality_lb_setting.is_some() && zone_aware_lb_setting.is_some() {
        check.error("localityLbSetting and zoneAwareLbSetting exclude each other");
    }
    check.some(
        "zoneAwareLbSetting",
        zone_aware_lb_setting.as_ref(),
        |check, setting| {
            failover(check, &setting.failover);
        },
    );
    let given = warmup_duration_secs.is_some();
    check.deprecated("warmupDurationSecs", given, "write warmup: {duration: ...}");
    duration(check, "warmupDurationSecs", *warmup_duration_secs);
    if given && growth.is_some() {
        check.error("warmupDurationSecs and warmup exclude each other");
    }
    check.some("warmup", growth.as_ref(), |check, growth| {
        warmup(check, growth)
    });
}

fn warmup(check: &mut Checker<'_>, warmup: &Warmup) {
    match warmup.duration {
        None => check.error_at("duration", "duration is required"),
        Some(_) => duration(check, "duration", warmup.duration),
    }
    if warmup
        .minimum_percent
        .is_some_and(|percent| !(0.0..=100.0).contains(&percent))
    {
        check.error_at("minimumPercent", "minimumPercent must be from 0 to 100");
    }
    if warmup.aggression.is_some_and(|aggression| aggression < 1.0) {
        check.error_at("aggression", "aggression must be at least 1");
    }
}

fn consistent_hash(check: &mut Checker<'_>, hash: &ConsistentHash) {
    let keys = [
        hash.http_header_name.is_some(),
        hash.http_cookie.is_some(),
        hash.use_source_ip.is_some(),
        hash.http_query_parameter_name.is_some(),
    ];
    match keys.iter().filter(|given| **given).count() {
        0 => check.error(
            "consistentHash needs one of httpHeaderName, httpCookie, useSourceIp and \
             httpQueryParameterName",
        ),
        1 => {}
        _ => check.error("consistentHash takes one key only"),
    }
    if let Some(name) = &hash.http_header_name
        && HeaderName::from_bytes(name.as_bytes()).is_err()
    {
        let text = format!("{} is not a header name", quoted(name));
        check.error_at("httpHeaderName", text);
    }
    check.some("httpCookie", hash.http_cookie.as_ref(), |check, cookie| {
        if cookie.name.is_empty() {
            check.error_at("name", "name required for HttpCookie");
        }
    });
    if hash.ring_hash.is_some() && hash.maglev.is_some() {
        check.error("ringHash and maglev exclude each other");
    }
    let ring = hash
        .ring_hash
        .as_ref()
        .and_then(|ring| ring.minimum_ring_size);
    if ring
        .or(hash.minimum_ring_size)
        .is_some_and(|size| size > RING_SIZE)
    {
        check.error(format!("a ring has at most {RING_SIZE} entries"));
    }
    let given = hash.minimum_ring_size.is_some();
    check.deprecated(
        "minimumRingSize",
        given,
        "write ringHash: {minimumRingSize: ...}",
    );
    let table = hash.maglev.as_ref().and_then(|maglev| maglev.table_size);
    if let Some(size) = table.filter(|size| *size > MAGLEV_SIZE || !is_prime(*size)) {
        check.within("maglev", |check| {
            let text = format!("{size} is not a prime number of at most {MAGLEV_SIZE}");
            check.error_at("tableSize", text);
        });
    }
}

/// For numbers whose size was checked: at most about 2,200 divisions.
fn is_prime(number: u64) -> bool {
    number >= 2
        && (2..)
            .take_while(|divisor| divisor * divisor <= number)
            .all(|divisor| !number.is_multiple_of(divisor))
}

pub(super) fn locality(check: &mut Checker<'_>, setting: &LocalitySetting, outlier: bool) {
    let fails_over = !setting.failover.is_empty() || !setting.failover_priority.is_empty();
    if !setting.distribute.is_empty() && fails_over {
        check.error("distribute excludes failover and failoverPriority");
    }
    if fails_over && !outlier {
        let text = "failover has no effect without outlierDetection";
        check.warn(Code::NoEffect, text);
    }
    let mut origins = BTreeSet::new();
    check.each("distribute", &setting.distribute, |check, share| {
        if !origins.insert(share.from.clone()) {
            check.error_at("from", format!("{} stands twice", quoted(&share.from)));
        }
        let weights = || share.to.values().copied().map(u64::from);
        if weights().any(|weight| !(1..=100).contains(&weight)) {
            check.error_at("to", "a locality weight must be from 1 to 100");
        } else if weights().sum::<u64>() != 100 {
            let text = format!(
                "the locality weights sum up to {}, not 100",
                weights().sum::<u64>()
            );
            check.error_at("to", text);
        }
    });
    failover(check, &setting.failover);
}

fn failover(check: &mut Checker<'_>, pairs: &[Failover]) {
    check.each("failover", pairs, |check, pair| {
        for (field, region) in [("from", &pair.from), ("to", &pair.to)] {
            if region.contains(['/', '*']) {
                check.error_at(field, format!("{} is no region", quoted(region)));
            }
        }
        if pair.from == pair.to {
            check.error("from and to are the same region");
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn primes_are_told_from_other_numbers() {
        for prime in [2, 3, 65_537, MAGLEV_SIZE] {
            assert!(is_prime(prime), "{prime}");
        }
        for other in [0, 1, 4, 65_536, 65_539 * 3] {
            assert!(!is_prime(other), "{other}");
        }
    }
}
