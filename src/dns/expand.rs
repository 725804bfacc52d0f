//! From clusters of names to clusters of addresses.
//!
//! A cluster with [`Lookup::Each`] has an endpoint for every address of its names. The names are
//! put in place of their addresses before a configuration is linked, so that linking, balancing
//! and draining know nothing of DNS: an address that is gone is an endpoint that was removed, its
//! connections finish what they carry.
//!
//! A name that has no answer yet stays a name, which the connector resolves: the first call waits
//! for the answer within its own deadline, and if there is none its error says why. So neither
//! starting nor an edit has to wait for DNS.

use std::collections::{BTreeMap, HashSet};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use http::uri::Authority;

use super::pairs::{Service, members};
use super::{Question, Target};
use crate::model::cluster::{Discovery, Dns, Families, Lookup};
use crate::model::endpoint::{Address, Endpoint, LocalityEndpoints};
use crate::model::{Endpoints, Resources};

/// The clusters whose members come from DNS, with their endpoints.
fn watched(resources: &Resources) -> impl Iterator<Item = (&Dns, &Arc<Endpoints>)> {
    resources.clusters.values().filter_map(|cluster| {
        let Discovery::Dns(dns) = &cluster.discovery else {
            return None;
        };
        match dns.lookup {
            Lookup::Each => Some((dns, resources.endpoints.get(&dns.endpoints)?)),
            Lookup::One => None,
        }
    })
}

/// The endpoints in which names are resolved.
pub(crate) fn resolved(resources: &Resources) -> HashSet<Arc<str>> {
    watched(resources)
        .map(|(dns, _)| dns.endpoints.clone())
        .collect()
}

fn names(endpoints: &Endpoints) -> impl Iterator<Item = &Arc<str>> {
    let all = endpoints.localities.iter().flat_map(|one| &one.endpoints);
    all.filter_map(|endpoint| match &endpoint.address {
        Address::Name { host, .. } => Some(host),
        Address::Several(_) | Address::Socket(_) | Address::Unix(_) => None,
    })
}

/// The questions whose answers are members of clusters, each with its shortest refresh rate.
pub(crate) fn questions(resources: &Resources) -> BTreeMap<Question, Duration> {
    let mut all = BTreeMap::new();
    for (dns, endpoints) in watched(resources) {
        for host in names(endpoints) {
            all.entry(Question::of(host))
                .and_modify(|refresh: &mut Duration| *refresh = dns.refresh.min(*refresh))
                .or_insert(dns.refresh);
        }
    }
    all
}

/// The resources with addresses in place of the names that are `known`.
pub(crate) fn expand(
    resources: &Arc<Resources>,
    known: impl Fn(&Question) -> Option<Arc<[Target]>>,
) -> Arc<Resources> {
    let expanded: Vec<Endpoints> = watched(resources)
        .filter(|(_, endpoints)| names(endpoints).next().is_some())
        .map(|(dns, endpoints)| each(endpoints, dns.families, &known))
        .collect();
    if expanded.is_empty() {
        return resources.clone();
    }
    let mut resources = Resources::clone(resources);
    for endpoints in expanded {
        resources.insert_endpoints(endpoints);
    }
    Arc::new(resources)
}

fn each(
    endpoints: &Endpoints,
    families: Families,
    known: &impl Fn(&Question) -> Option<Arc<[Target]>>,
) -> Endpoints {
    // Two names may lead to one address, which then is one endpoint.
    let mut seen = HashSet::new();
    let mut localities = Vec::with_capacity(endpoints.localities.len());
    for locality in &endpoints.localities {
        // SRV priorities come after that of the locality, in their order.
        let mut by_rank: BTreeMap<u32, Vec<Endpoint>> = BTreeMap::from([(0, Vec::new())]);
        for endpoint in &locality.endpoints {
            for (rank, endpoint) in addresses(endpoint, families, known, &mut seen) {
                by_rank.entry(rank).or_default().push(endpoint);
            }
        }
        localities.extend(
            by_rank
                .into_iter()
                .map(|(rank, endpoints)| LocalityEndpoints {
                    priority: locality.priority.saturating_add(rank),
                    endpoints: endpoints.into(),
                    ..locality.clone()
                }),
        );
    }
    Endpoints {
        localities,
        ..endpoints.clone()
    }
}

/// The endpoints behind one, each with the rank of its SRV priority; those that were `seen` are left
/// out, and those of `families` that are not used.
fn addresses(
    endpoint: &Endpoint,
    families: Families,
    known: &impl Fn(&Question) -> Option<Arc<[Target]>>,
    seen: &mut HashSet<Address>,
) -> Vec<(u32, Endpoint)> {
    let alone = |seen: &mut HashSet<Address>| {
        let new = seen.insert(endpoint.address.clone());
        new.then(|| (0, endpoint.clone())).into_iter().collect()
    };
    let Address::Name { host, port } = &endpoint.address else {
        return alone(seen);
    };
    let Some(targets) = known(&Question::of(host)) else {
        return alone(seen);
    };
    // What is said of an address holds for the other family's of the same host too.
    let mut services: BTreeMap<Service, Vec<_>> = BTreeMap::new();
    let targets = families.of(targets.to_vec(), |target| target.address);
    for target in &targets {
        let service = Service::of(target, *port);
        let address = service.at(target.address);
        if seen.insert(address.into()) {
            services.entry(service).or_default().push(address);
        }
    }
    let priorities: Vec<u16> = {
        let mut all: Vec<u16> = targets.iter().map(|target| target.priority).collect();
        all.sort_unstable();
        all.dedup();
        all
    };
    // The addresses go on being known by the name that led to them (Envoy's STRICT_DNS).
    let hostname = endpoint.hostname.clone().or_else(|| name_of(host, *port));
    let rank = |priority: u16| priorities.iter().take_while(|one| **one < priority).count();
    let mut found = Vec::with_capacity(targets.len());
    for (service, addresses) in services {
        let weight = endpoint.weight.saturating_mul(service.weight);
        found.extend(members(&addresses).into_iter().map(|address| {
            let endpoint = Endpoint {
                address,
                hostname: hostname.clone(),
                weight: weight.min(NonZeroU32::MAX),
                ..endpoint.clone()
            };
            // As many ranks as priorities, of which there are 65,536.
            (rank(service.priority) as u32, endpoint)
        }));
    }
    found
}

/// A name with its port, as gRPC knows the endpoints of a name by (A81). That of a service (SRV) is the name of
/// no host.
fn name_of(host: &str, port: u16) -> Option<Arc<Authority>> {
    if host.starts_with('_') {
        return None;
    }
    let authority = Authority::try_from(format!("{host}:{port}")).ok()?;
    Some(Arc::new(authority))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Origin;
    use crate::model::endpoint::{Health, Locality};

    fn named(hosts: &[&str]) -> Endpoints {
        let endpoint = |host: &&str| Endpoint {
            address: Address::Name {
                host: (*host).into(),
                port: 80,
            },
            weight: NonZeroU32::MIN,
            health: Health::Healthy,
            labels: Arc::default(),
            meshed: false,
            hostname: None,
        };
        Endpoints {
            name: "e".into(),
            localities: vec![LocalityEndpoints {
                locality: Locality::default(),
                priority: 0,
                weight: None,
                endpoints: hosts.iter().map(endpoint).collect(),
            }],
            overloads: Vec::new(),
            origin: Origin::built_in(),
        }
    }

    fn shown(endpoints: &Endpoints) -> Vec<(u32, Vec<String>)> {
        let show = |one: &LocalityEndpoints| {
            let all = one
                .endpoints
                .iter()
                .map(|one| format!("{}*{}", one.address, one.weight));
            (one.priority, all.collect())
        };
        endpoints.localities.iter().map(show).collect()
    }

    #[test]
    fn every_address_is_an_endpoint_once_and_an_unknown_name_stays() {
        let known = |question: &Question| {
            let addresses: &[&str] = match question.name() {
                "a" => &["10.0.0.1", "10.0.0.2", "::1"],
                "b" => &["10.0.0.2"],
                "six" => &["::2"],
                _ => return None,
            };
            let targets = addresses
                .iter()
                .map(|text| Target::from(text.parse::<std::net::IpAddr>().unwrap()));
            Some(targets.collect())
        };
        let expanded = each(
            &named(&["a", "b", "six", "unknown"]),
            Families::Both,
            &known,
        );
        let all = &shown(&expanded)[0].1;
        // Which of the two `::1` is put beside is for `pairs`; of `b` the only address is there already.
        let single = ["10.0.0.1:80*1", "10.0.0.2:80*1"];
        let paired = ["[::1]:80,10.0.0.1:80*1", "[::1]:80,10.0.0.2:80*1"];
        assert_eq!(all.len(), 4, "{all:?}");
        assert!(
            (0..2).any(|n| all[n] == paired[n] && all[1 - n] == single[1 - n]),
            "{all:?}"
        );
        assert_eq!(all[2..], ["[::2]:80*1", "unknown:80*1"]);
    }

    #[test]
    fn only_the_families_that_are_wanted_become_endpoints() {
        let known = |question: &Question| {
            let addresses: &[&str] = match question.name() {
                "both" => &["10.0.0.1", "::1"],
                "four" => &["10.0.0.4"],
                _ => &["::6"],
            };
            let targets = addresses
                .iter()
                .map(|text| Target::from(text.parse::<std::net::IpAddr>().unwrap()));
            Some(targets.collect())
        };
        for (families, expected) in [
            (
                Families::Both,
                &["[::1]:80,10.0.0.1:80*1", "10.0.0.4:80*1", "[::6]:80*1"][..],
            ),
            (Families::V4, &["10.0.0.1:80*1", "10.0.0.4:80*1"]),
            (Families::V6, &["[::1]:80*1", "[::6]:80*1"]),
            (
                Families::PreferV4,
                &["10.0.0.1:80*1", "10.0.0.4:80*1", "[::6]:80*1"],
            ),
        ] {
            let expanded = each(&named(&["both", "four", "six"]), families, &known);
            assert_eq!(shown(&expanded)[0].1, expected, "{families:?}");
        }
        let nothing = each(&named(&["six"]), Families::V4, &known);
        assert_eq!(shown(&nothing), [(0, Vec::new())]);
    }

    #[test]
    fn an_address_is_known_by_the_name_that_led_to_it_unless_it_has_one() {
        let known =
            |_: &Question| Some([Target::from(std::net::IpAddr::from([10, 0, 0, 1]))].into());
        let names = |host: &str, own: Option<&str>| {
            let mut all = named(&[host]);
            let own = own.map(|text| Arc::new(text.parse().unwrap()));
            let endpoints = &mut all.localities[0].endpoints;
            let one = endpoints.iter().map(|one| Endpoint {
                hostname: own.clone(),
                ..one.clone()
            });
            *endpoints = one.collect();
            let expanded = each(&all, Families::Both, &known);
            let mut endpoints = expanded.localities[0].endpoints.iter();
            let name = endpoints.next().and_then(|one| one.hostname.clone());
            name.map(|name: Arc<Authority>| name.to_string())
        };
        assert_eq!(names("a.example", None).as_deref(), Some("a.example:80"));
        assert_eq!(names("a.example", Some("b")).as_deref(), Some("b"));
        assert_eq!(names("_http._tcp.a.example", None), None);
    }

    #[test]
    fn srv_gives_ports_weights_and_priorities() {
        let target = |last: u8, port, priority, weight| Target {
            priority,
            address: [10, 0, 0, last].into(),
            port: Some(port),
            weight: NonZeroU32::new(weight).unwrap(),
        };
        let targets: Arc<[Target]> = Arc::new([
            target(1, 81, 10, 5),
            target(2, 82, 20, 1),
            target(3, 83, 10, 6),
        ]);
        let known = |_: &Question| Some(targets.clone());
        let expanded = each(&named(&["_http._tcp.a"]), Families::Both, &known);
        let expected = [
            (
                0,
                vec!["10.0.0.1:81*5".to_owned(), "10.0.0.3:83*6".to_owned()],
            ),
            (1, vec!["10.0.0.2:82*1".to_owned()]),
        ];
        assert_eq!(shown(&expanded), expected);
    }
}
