//! `localityLbSetting`: which endpoints are near, and what share each locality gets.

use std::collections::BTreeMap;

use super::policy::Blocks;
use crate::model::balancing::LocalityWeights;
use crate::model::endpoint::Locality;
use crate::source::istio::kinds::{Distribute, LocalitySetting};
use crate::source::istio::registry::{Distribution, Member, NETWORK, NODE};
use crate::source::istio::yaml::Located;
use crate::workload::Workload;

const REGION: &str = "topology.kubernetes.io/region";
const ZONE: &str = "topology.kubernetes.io/zone";
const SUB_ZONE: &str = "topology.istio.io/subzone";

/// There are five distances: 0 to 4.
const DISTANCES: u32 = 5;

/// How a client looks at the localities of a cluster.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outlook<'a> {
    client: &'a Workload,
    setting: Option<&'a LocalitySetting>,
    fails_over: bool,
    /// Labels that a near endpoint shares with the client, where the service says so.
    near: Option<&'static [&'static str]>,
}

const CLOSE: &[&str] = &[NETWORK, REGION, ZONE, SUB_ZONE];
const NODE_FIRST: &[&str] = &[NETWORK, REGION, ZONE, SUB_ZONE, NODE];

impl<'a> Outlook<'a> {
    /// Nothing fails over without outlier detection: a failing near endpoint would never hand over
    /// to a far one, so Istio makes no priorities then. `enabled: false` turns all of it off. Where
    /// the host's rule has no setting, what the service says of distribution counts, with and without
    /// outlier detection; and where it says nothing, the mesh's setting.
    pub(super) fn new(
        client: &'a Workload,
        blocks: &Blocks<'a>,
        distribution: Option<Distribution>,
        mesh: Option<&'a Located<LocalitySetting>>,
    ) -> Self {
        let balancer = blocks.balancer.map(|balancer| &balancer.value);
        let setting = balancer.and_then(|balancer| balancer.locality_lb_setting.as_ref());
        let near = distribution
            .filter(|_| setting.is_none())
            .map(|said| match said {
                Distribution::Close => CLOSE,
                Distribution::Node => NODE_FIRST,
            });
        let setting = setting.or(mesh.filter(|_| near.is_none()));
        let enabled = setting.is_none_or(|setting| setting.enabled != Some(false));
        Self {
            client,
            setting: setting.map(|setting| &setting.value).filter(|_| enabled),
            fails_over: blocks.outlier.is_some() && enabled,
            near,
        }
    }

    /// Where the client runs, if it said at least the region.
    fn locality(&self) -> Option<&'a Locality> {
        let locality = self.client.locality();
        locality.filter(|locality| !locality.region.is_empty())
    }

    /// The shares that are written for this client.
    fn distribution(&self) -> Option<&'a BTreeMap<String, u32>> {
        let client = self.locality()?;
        let rows = self.setting?.distribute.iter();
        let mut rows = rows.filter(|Distribute { from, to: _ }| covers(from, client));
        Some(&rows.next()?.to)
    }

    /// Whether localities have shares.
    pub(super) fn weights(&self) -> LocalityWeights {
        match self.distribution() {
            Some(_) => LocalityWeights::InForce,
            None => LocalityWeights::Ignored,
        }
    }

    /// The share of each locality, whose own weights are given; `None` if none are written. A
    /// locality that is not named gets zero; those that one name covers share by their weights.
    pub(super) fn shares(&self, localities: &[(&Locality, u64)]) -> Option<Vec<u32>> {
        let distribution = self.distribution()?;
        let mut shares = vec![0; localities.len()];
        let mut taken = vec![false; localities.len()];
        for (pattern, percent) in by_precision(distribution) {
            let covered: Vec<usize> = (0..localities.len())
                .filter(|index| !taken[*index] && covers(pattern, localities[*index].0))
                .collect();
            let total: u64 = covered.iter().map(|index| localities[*index].1).sum();
            for index in covered {
                taken[index] = true;
                let share = (localities[index].1 * u64::from(percent)).div_ceil(total.max(1));
                // At most the percentage, which is a `u32`.
                shares[index] = u32::try_from(share).unwrap_or(percent);
            }
        }
        Some(shares)
    }

    /// The priority of an endpoint, with gaps.
    pub(super) fn priority(&self, member: &Member) -> u32 {
        if let Some(near) = self.near {
            return self.first_difference(near.iter().copied(), member);
        }
        if !self.fails_over || self.distribution().is_some() {
            return 0;
        }
        let failover = self.setting.map_or(&[][..], |setting| &setting.failover);
        let labels = self
            .setting
            .map_or(&[][..], |setting| &setting.failover_priority);
        let distance = self.locality().map_or(0, |client| {
            let distance = distance(client, &member.locality);
            let pair = failover.iter().find(|pair| *pair.from == *client.region);
            match pair {
                Some(pair) if distance == 3 && *pair.to != *member.locality.region => 4,
                Some(_) | None => distance,
            }
        });
        if labels.is_empty() {
            return distance;
        }
        let first = self.first_difference(labels.iter().map(String::as_str), member);
        // Labels first, then the written regions, as istiod has it.
        match failover {
            [] => first,
            _ => first.saturating_mul(DISTANCES) + distance,
        }
    }

    /// How many labels are left when the first one differs; 0 if none does.
    fn first_difference<'l>(
        &self,
        mut labels: impl ExactSizeIterator<Item = &'l str>,
        member: &Member,
    ) -> u32 {
        let count = labels.len();
        let differs = |label: &'l str| {
            // A slice tells the zone and not its region, which the zone decides.
            let place = &member.locality;
            if label == REGION && place.region.is_empty() && !place.zone.is_empty() {
                return false;
            }
            let (key, wanted) = match label.split_once('=') {
                Some((key, value)) => (key, value),
                None => (label, self.client_label(label)),
            };
            let own = member.labels.get(key).map(|value| &**value);
            wanted != own.unwrap_or(topology(key, Some(&member.locality)))
        };
        let first = labels.position(differs);
        let left = first.map_or(0, |first| count - first);
        u32::try_from(left).unwrap_or(u32::MAX)
    }

    fn client_label(&self, key: &str) -> &'a str {
        let own = self.client.labels().get(key).map(String::as_str);
        own.unwrap_or(topology(key, self.client.locality()))
    }
}

/// The parts of a locality under the names of Kubernetes' labels, which Istio adds to all workloads.
fn topology<'l>(key: &str, locality: Option<&'l Locality>) -> &'l str {
    let Some(locality) = locality else {
        return "";
    };
    match key {
        REGION => &locality.region,
        ZONE => &locality.zone,
        SUB_ZONE => &locality.sub_zone,
        _ => "",
    }
}

/// Longer patterns first, so that `eu/a` keeps its share beside `eu/*`.
fn by_precision(distribution: &BTreeMap<String, u32>) -> Vec<(&str, u32)> {
    let mut all: Vec<_> = distribution.iter().collect();
    let parts = |pattern: &str| pattern.split('/').filter(|part| *part != "*").count();
    all.sort_by_key(|(pattern, _)| std::cmp::Reverse(parts(pattern)));
    all.into_iter()
        .map(|(pattern, percent)| (pattern.as_str(), *percent))
        .collect()
}

/// Whether a pattern (`*`, `region`, `region/*`, `region/zone/sub-zone`) covers a locality.
fn covers(pattern: &str, locality: &Locality) -> bool {
    let parts = [&locality.region, &locality.zone, &locality.sub_zone];
    let mut written = pattern.splitn(3, '/');
    parts.iter().all(|part| {
        let wanted = written.next().unwrap_or("*");
        wanted.is_empty() || wanted == "*" || wanted == &***part
    })
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

#[cfg(test)]
mod tests;
