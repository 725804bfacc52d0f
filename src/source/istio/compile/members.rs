//! The endpoints of one cluster, by locality and priority.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use super::locality::Outlook;
use crate::model::Origin;
use crate::model::endpoint::{Endpoint, Endpoints, Locality, LocalityEndpoints};
use crate::source::istio::registry::Member;

/// The endpoints resource of a cluster; members are in the order of their addresses.
pub(super) fn endpoints(
    name: Arc<str>,
    members: &[&Member],
    outlook: Outlook<'_>,
    origin: Origin,
    meshed: impl Fn(&Member) -> bool,
) -> Endpoints {
    // By locality first, so that the order does not depend on who looks.
    let mut groups: BTreeMap<(&Locality, u32), Vec<Endpoint>> = BTreeMap::new();
    for member in members {
        let key = (&member.locality, outlook.priority(member));
        groups.entry(key).or_default().push(Endpoint {
            address: member.address.clone(),
            weight: member.weight,
            health: member.health,
            labels: member.labels.clone(),
            meshed: meshed(member),
            hostname: None,
        });
    }
    let weights: Vec<_> = groups
        .iter()
        .map(|((locality, _), endpoints)| (*locality, sum(endpoints)))
        .collect();
    let own = |weights: &[(&Locality, u64)]| {
        let weights = weights.iter();
        weights
            .map(|(_, sum)| u32::try_from(*sum).unwrap_or(u32::MAX))
            .collect()
    };
    let shares: Vec<u32> = outlook.shares(&weights).unwrap_or_else(|| own(&weights));
    let mut localities: Vec<LocalityEndpoints> = groups
        .into_iter()
        .zip(shares)
        .filter(|(_, share)| *share > 0)
        .map(
            |(((locality, priority), endpoints), share)| LocalityEndpoints {
                locality: locality.clone(),
                priority,
                weight: NonZeroU32::new(share),
                endpoints: endpoints.into(),
            },
        )
        .collect();
    compact(&mut localities);
    Endpoints {
        name,
        localities,
        overloads: Vec::new(),
        origin,
    }
}

/// Closes the gaps, since a priority that nobody has would fail over for ever.
fn compact(localities: &mut [LocalityEndpoints]) {
    let mut used: Vec<u32> = localities.iter().map(|one| one.priority).collect();
    used.sort_unstable();
    used.dedup();
    for locality in localities {
        // Each stands in the list that was made of them, and a list in memory is short enough.
        let place = used.partition_point(|priority| *priority < locality.priority);
        locality.priority = u32::try_from(place).unwrap_or(u32::MAX);
    }
}

fn sum(endpoints: &[Endpoint]) -> u64 {
    let weights = endpoints.iter().map(|endpoint| endpoint.weight.get());
    weights.map(u64::from).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priorities_have_no_gaps() {
        let mut localities: Vec<LocalityEndpoints> = [3, 2, 3]
            .map(|priority| LocalityEndpoints {
                locality: Locality::default(),
                priority,
                weight: None,
                endpoints: crate::model::List::new(),
            })
            .into();
        compact(&mut localities);
        let priorities: Vec<u32> = localities.iter().map(|one| one.priority).collect();
        assert_eq!(priorities, [1, 0, 1]);
    }
}
