//! Which endpoints differ between two sets of them.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;
use std::sync::Arc;

use http::uri::Authority;

use super::endpoint::Member;
use crate::layer::balance::Placement;
use crate::model;
use crate::model::endpoint::{Address, Health};

/// What a member is made of: all that the registry says of an endpoint and that matters here.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Entry<'a> {
    pub(super) placement: Placement,
    pub(super) address: &'a Address,
    pub(super) weight: NonZeroU32,
    pub(super) health: Health,
    pub(super) meshed: bool,
    pub(super) hostname: Option<&'a Arc<Authority>>,
    pub(super) labels: &'a Arc<BTreeMap<Box<str>, Box<str>>>,
}

impl<'a> Entry<'a> {
    /// `None` for those that take no requests.
    fn new(placement: Placement, endpoint: &'a model::endpoint::Endpoint) -> Option<Self> {
        let takes_requests = endpoint.health != Health::Draining;
        takes_requests.then_some(Self {
            placement,
            address: &endpoint.address,
            weight: endpoint.weight,
            health: endpoint.health,
            meshed: endpoint.meshed,
            hostname: endpoint.hostname.as_ref(),
            labels: &endpoint.labels,
        })
    }

    pub(super) fn is(&self, member: &Member) -> bool {
        self.placement == member.placement
            && self.weight == member.weight
            && self.health == member.health
    }
}

fn placement(number: usize, locality: &model::endpoint::LocalityEndpoints) -> Placement {
    Placement {
        priority: locality.priority,
        // Nobody has more localities than endpoints.
        locality: u32::try_from(number).unwrap_or(u32::MAX),
        weight: locality.weight.map_or(0, NonZeroU32::get),
    }
}

/// All entries, with their localities in order.
pub(super) fn entries(endpoints: Option<&model::Endpoints>) -> impl Iterator<Item = Entry<'_>> {
    let localities = endpoints.map_or(&[][..], |endpoints| &endpoints.localities);
    localities
        .iter()
        .enumerate()
        .flat_map(|(number, locality)| {
            let placement = placement(number, locality);
            let entry = move |endpoint| Entry::new(placement, endpoint);
            locality.endpoints.iter().filter_map(entry)
        })
}

/// What is only in one of two, each as often as it is there more often.
pub(super) fn difference<'a>(
    before: Option<&'a model::Endpoints>,
    after: Option<&'a model::Endpoints>,
) -> (Vec<Entry<'a>>, Vec<Entry<'a>>) {
    let localities = |all: Option<&'a model::Endpoints>| all.map_or(&[][..], |all| &all.localities);
    let (before, after) = (localities(before), localities(after));
    let (mut left, mut joined) = (Vec::new(), Vec::new());
    for number in 0..before.len().max(after.len()) {
        let (was, is) = (before.get(number), after.get(number));
        let place = |locality: Option<_>| locality.map(|one| placement(number, one));
        let (there, here) = (place(was), place(is));
        match (was, is) {
            (Some(was), Some(is)) if there == here => {
                was.endpoints.differences(&is.endpoints, |was, is| {
                    left.extend(was.zip(there).and_then(|(one, at)| Entry::new(at, one)));
                    joined.extend(is.zip(here).and_then(|(one, at)| Entry::new(at, one)));
                });
            }
            (was, is) => {
                let all = |one: &'a model::endpoint::LocalityEndpoints| {
                    let at = placement(number, one);
                    one.endpoints
                        .iter()
                        .filter_map(move |one| Entry::new(at, one))
                };
                left.extend(was.into_iter().flat_map(all));
                joined.extend(is.into_iter().flat_map(all));
            }
        }
    }
    // Lists are compared place by place, so who has moved is in both.
    let mut surplus: HashMap<Entry<'_>, i64> = HashMap::new();
    left.iter()
        .for_each(|entry| *surplus.entry(*entry).or_default() += 1);
    joined.retain(|entry| match surplus.get_mut(entry) {
        Some(count) if *count > 0 => {
            *count -= 1;
            false
        }
        Some(_) | None => true,
    });
    left.retain(|entry| match surplus.get_mut(entry) {
        Some(count) if *count > 0 => {
            *count -= 1;
            true
        }
        Some(_) | None => false,
    });
    (left, joined)
}
