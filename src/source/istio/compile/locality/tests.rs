use std::num::NonZeroU32;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::model::endpoint::Health;
use crate::source::istio::kinds::{ConnectionPool, Failover, LoadBalancer, OutlierDetection};

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
fn patterns_cover_what_they_leave_open() {
    let here = at("eu", "a");
    for pattern in ["*", "eu", "eu/*", "eu/a", "eu/a/*", "", "*/a"] {
        assert!(covers(pattern, &here), "{pattern}");
    }
    for pattern in ["us", "eu/b", "eu/a/x", "e"] {
        assert!(!covers(pattern, &here), "{pattern}");
    }
}

// === Against the definitions ===

const REGIONS: [&str; 3] = ["eu", "us", "ap"];
const ZONES: [&str; 3] = ["a", "b", "c"];
const KEYS: [&str; 4] = ["version", "rack", REGION, ZONE];

fn localities() -> impl Strategy<Value = Locality> {
    let parts = (0..3_usize, 0..3_usize, 0..2_usize);
    parts.prop_map(|(region, zone, sub_zone)| Locality {
        region: REGIONS[region].into(),
        zone: ZONES[zone].into(),
        sub_zone: ["1", "2"][sub_zone].into(),
    })
}

/// Values of `version` and `rack`, which may be missing.
fn labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    let value = || prop::option::of(prop::sample::select(vec!["x", "y"]));
    (value(), value()).prop_map(|(version, rack)| {
        let both = [("version", version), ("rack", rack)].into_iter();
        both.filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned())))
            .collect()
    })
}

fn member(locality: &Locality, labels: &BTreeMap<String, String>) -> Member {
    let labels = labels.iter();
    let labels = labels.map(|(key, value)| (key.as_str().into(), value.as_str().into()));
    Member {
        address: std::net::SocketAddr::from(([10, 0, 0, 1], 80)).into(),
        weight: NonZeroU32::MIN,
        health: Health::Healthy,
        labels: Arc::new(labels.collect()),
        locality: locality.clone(),
        namespace: "my-app".into(),
        account: None,
        is_machine: false,
    }
}

fn client(locality: &Locality, labels: &BTreeMap<String, String>) -> Workload {
    let client = Workload::new("my-app", "order-sa").with_locality(locality.clone());
    let labels = labels.iter();
    labels.fold(client, |client, (key, value)| client.label(key, value))
}

/// What `look` says under a setting, with outlier detection.
fn under<R>(client: &Workload, setting: LocalitySetting, look: impl FnOnce(Outlook<'_>) -> R) -> R {
    let balancer = Located::from(LoadBalancer {
        locality_lb_setting: Some(setting.into()),
        ..LoadBalancer::default()
    });
    let outlier = Located::from(OutlierDetection::default());
    let pool = Located::from(ConnectionPool::default());
    let blocks = Blocks {
        balancer: Some(&balancer),
        outlier: Some(&outlier),
        pool: Some(&pool),
        ..Blocks::default()
    };
    look(Outlook::new(client, &blocks, None, None))
}

/// The value of a label of a workload, among them those that Istio derives of its locality.
fn value(labels: &BTreeMap<String, String>, locality: &Locality, key: &str) -> String {
    match key {
        REGION => locality.region.to_string(),
        ZONE => locality.zone.to_string(),
        key => labels.get(key).cloned().unwrap_or_default(),
    }
}

proptest! {
    #![proptest_config(crate::random::properties(256))]

    /// Istio's `failover`: near endpoints first, by how much of the locality is the client's own; of
    /// those in another region the one that is written for the own region before the others.
    #[test]
    fn failover_is_by_distance_and_the_written_region_comes_first(
        own in localities(),
        theirs in localities(),
        pairs in prop::collection::vec((0..3_usize, 0..3_usize), 0..3),
    ) {
        let failover = pairs.iter().map(|(from, to)| Failover {
            from: REGIONS[*from].to_owned(),
            to: REGIONS[*to].to_owned(),
        });
        let failover: Vec<Failover> = failover.collect();
        let written = failover.iter().find(|pair| *pair.from == *own.region);
        let expected = if theirs.region == own.region {
            match (theirs.zone == own.zone, theirs.sub_zone == own.sub_zone) {
                (true, true) => 0,
                (true, false) => 1,
                (false, _) => 2,
            }
        } else {
            match written {
                Some(pair) if *pair.to != *theirs.region => 4,
                Some(_) | None => 3,
            }
        };
        let setting = LocalitySetting { failover, ..LocalitySetting::default() };
        let none = BTreeMap::new();
        let found = under(&client(&own, &none), setting, |look| look.priority(&member(&theirs, &none)));
        prop_assert_eq!(found, expected);
    }

    /// Istio's `failoverPriority`: of N labels an endpoint that has the first k as the client has them
    /// is in priority N - k. So a longer prefix always comes first, whatever the labels after it.
    #[test]
    fn failover_priority_is_the_number_of_labels_behind_the_prefix_that_matches(
        own in (localities(), labels()),
        theirs in (localities(), labels()),
        names in prop::sample::subsequence(KEYS.to_vec(), 1..=4).prop_shuffle(),
        fixed in prop::option::of((0..4_usize, prop::sample::select(vec!["x", "eu", "a"]))),
    ) {
        let mut written: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let fixed = fixed.filter(|(at, _)| *at < written.len());
        if let Some((at, wanted)) = fixed {
            written[at] = format!("{}={wanted}", written[at]);
        }
        let matching = (0..names.len()).take_while(|at| {
            let wanted = match fixed {
                Some((fixed, wanted)) if fixed == *at => wanted.to_owned(),
                Some(_) | None => value(&own.1, &own.0, names[*at]),
            };
            wanted == value(&theirs.1, &theirs.0, names[*at])
        });
        let expected = names.len() - matching.count();
        let setting = LocalitySetting { failover_priority: written, ..LocalitySetting::default() };
        let found = under(&client(&own.0, &own.1), setting, |look| {
            look.priority(&member(&theirs.0, &theirs.1))
        });
        prop_assert_eq!(found as usize, expected);
    }

    /// Istio's `distribute`: what a name covers shares its percentage by weight, the more precise name
    /// first; what no name covers gets nothing. Shares are rounded up, so that none that is covered is
    /// left without.
    #[test]
    fn distributed_shares_are_the_percentages_by_weight(
        own in localities(),
        all in prop::collection::btree_map(localities(), 1..50_u64, 1..10),
        percent in 1..100_u32,
    ) {
        // Of the own zone, of the rest of its region, and of one other region.
        let zone = format!("{}/{}", own.region, own.zone);
        let region = format!("{}/*", own.region);
        let other = REGIONS.into_iter().find(|one| *one != &*own.region).unwrap();
        let rest = (100 - percent) / 2;
        let shares = [(zone, percent), (region, rest), (other.to_owned(), 100 - percent - rest)];
        let to: BTreeMap<String, u32> = shares.into_iter().collect();
        // Which name covers a locality, and its percentage.
        let class = |one: &Locality| match () {
            () if one.region == own.region && one.zone == own.zone => Some((0, percent)),
            () if one.region == own.region => Some((1, rest)),
            () if &*one.region == other => Some((2, 100 - percent - rest)),
            () => None,
        };
        let distribute = vec![Distribute { from: "*".to_owned(), to }];
        let setting = LocalitySetting { distribute, ..LocalitySetting::default() };
        let listed: Vec<(&Locality, u64)> = all.iter().map(|(one, weight)| (one, *weight)).collect();
        let none = BTreeMap::new();
        let client = client(&own, &none);
        let (found, priority) = under(&client, setting, |look| {
            let priority = look.priority(&member(listed[0].0, &none));
            (look.shares(&listed).unwrap(), priority)
        });
        prop_assert_eq!(priority, 0, "there are shares and no priorities");
        for ((one, weight), share) in listed.iter().zip(&found) {
            let Some((name, whole)) = class(one) else {
                prop_assert_eq!(*share, 0, "{:?}", one);
                continue;
            };
            let covered = listed.iter().filter(|(other, _)| {
                class(other).is_some_and(|(other, _)| other == name)
            });
            let together: u64 = covered.map(|(_, weight)| weight).sum();
            let exact = u64::from(whole) * weight;
            prop_assert!(u64::from(*share) * together >= exact, "{:?} {} of {}", one, share, whole);
            prop_assert!(u64::from(*share) * together < exact + together);
        }
    }
}
