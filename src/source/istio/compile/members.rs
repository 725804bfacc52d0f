//! The endpoints of one cluster, by locality and priority.
//!
//! Priorities exist only where Istio's failover is on: there is outlier detection, the client
//! knows where it runs, and `localityLbSetting` was not turned off. Without outlier detection a
//! failing near endpoint would never hand over to a far one, so Istio sends no priorities then.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use super::policy::Blocks;
use crate::model::Origin;
use crate::model::endpoint::{Endpoint, Endpoints, Locality, LocalityEndpoints};
use crate::source::istio::registry::Member;

/// The endpoints resource of a cluster; members are in the order of their addresses.
pub(super) fn endpoints(
    name: Arc<str>,
    members: &[&Member],
    client: Option<&Locality>,
    blocks: &Blocks<'_>,
    origin: Origin,
) -> Endpoints {
    let mut by_locality: BTreeMap<&Locality, Vec<Endpoint>> = BTreeMap::new();
    for member in members {
        let endpoints = by_locality.entry(&member.locality).or_default();
        endpoints.push(Endpoint {
            address: member.address.clone(),
            weight: member.weight,
            health: member.health,
            labels: member.labels.clone(),
        });
    }
    let near = client.filter(|client| !client.region.is_empty() && fails_over(blocks));
    let mut localities: Vec<LocalityEndpoints> = by_locality
        .into_iter()
        .map(|(locality, endpoints)| LocalityEndpoints {
            locality: locality.clone(),
            priority: near.map_or(0, |client| distance(client, locality)),
            weight: sum(&endpoints),
            endpoints,
        })
        .collect();
    compact(&mut localities);
    Endpoints {
        name,
        localities,
        origin,
    }
}

fn fails_over(blocks: &Blocks<'_>) -> bool {
    let setting = blocks
        .balancer
        .and_then(|balancer| balancer.locality_lb_setting.as_ref());
    blocks.outlier.is_some() && setting.is_none_or(|setting| setting.enabled != Some(false))
}

/// How far an endpoint is: 0 in the same sub-zone, 1 zone, 2 region, 3 elsewhere.
fn distance(client: &Locality, endpoint: &Locality) -> u32 {
    if client.region != endpoint.region {
        3
    } else if client.zone != endpoint.zone {
        2
    } else if client.sub_zone != endpoint.sub_zone {
        1
    } else {
        0
    }
}

/// Closes the gaps, since a priority that nobody has would fail over for ever.
fn compact(localities: &mut [LocalityEndpoints]) {
    let mut used: Vec<u32> = localities.iter().map(|one| one.priority).collect();
    used.sort_unstable();
    used.dedup();
    for (priority, distance) in (0..).zip(used) {
        // Ascending, and never above the distance that it replaces, so none is replaced twice.
        for locality in localities.iter_mut().filter(|one| one.priority == distance) {
            locality.priority = priority;
        }
    }
}

fn sum(endpoints: &[Endpoint]) -> Option<NonZeroU32> {
    let weights = endpoints.iter().map(|endpoint| endpoint.weight.get());
    NonZeroU32::new(weights.fold(0, u32::saturating_add))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(region: &str, zone: &str) -> Locality {
        Locality {
            region: region.into(),
            zone: zone.into(),
            sub_zone: "".into(),
        }
    }

    #[test]
    fn distance_counts_the_first_part_that_differs() {
        let client = at("eu", "a");
        let rows = [(at("eu", "a"), 0), (at("eu", "b"), 2), (at("us", "a"), 3)];
        for (endpoint, expected) in rows {
            assert_eq!(distance(&client, &endpoint), expected);
        }
    }

    #[test]
    fn priorities_have_no_gaps() {
        let mut localities: Vec<LocalityEndpoints> = [3, 2, 3]
            .map(|priority| LocalityEndpoints {
                locality: at("eu", "a"),
                priority,
                weight: None,
                endpoints: Vec::new(),
            })
            .into();
        compact(&mut localities);
        let priorities: Vec<u32> = localities.iter().map(|one| one.priority).collect();
        assert_eq!(priorities, [1, 0, 1]);
    }
}
