//! The two address families of one service.
//!
//! A dual-stack service has slices of both families with the same pods. A pod is one endpoint with one
//! share of the requests, and its two addresses are two ways to it: the one of the service's first family
//! is dialled first, the other 250 ms behind it or when the first has failed (RFC 8305, gRFC A61). The two are
//! found by the pod that both slices name. An address of the second family whose pod has none of the first
//! is an endpoint of its own; one that names no pod may be anybody's, also that of an endpoint which is
//! there already, and is left out so that nobody gets a double share.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use crate::model::endpoint::{Address, Several};
use crate::source::istio::kinds::{self, TargetRef};

/// One of the two.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Family {
    Four,
    Six,
}

impl Family {
    pub(super) fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::Four,
            IpAddr::V6(_) => Self::Six,
        }
    }

    /// The first of a service: of its `ipFamilies`, else that of its first cluster address, else IPv4.
    pub(super) fn first(service: &kinds::Service) -> Self {
        let said = service.ip_families.first().map(|family| {
            let six = family.eq_ignore_ascii_case("IPv6");
            if six { Self::Six } else { Self::Four }
        });
        let address = || {
            let written = service.cluster_ip.iter().chain(&service.cluster_ips);
            let mut addresses = written.filter_map(|text| text.parse().ok());
            addresses.next().map(Self::of)
        };
        said.or_else(address).unwrap_or(Self::Four)
    }
}

/// A pod, by its kind, namespace and name.
type Pod<'a> = (&'a str, &'a str, &'a str);

/// Where the endpoints of a port listen, in the order in which their addresses and pods are given;
/// `None`: the address is left out, or that of an endpoint which has another.
pub(super) fn places(
    all: &[(SocketAddr, Option<&TargetRef>)],
    first: Family,
) -> Vec<Option<Address>> {
    let is_first = |address: &SocketAddr| Family::of(address.ip()) == first;
    let mut of_first: BTreeSet<Pod<'_>> = BTreeSet::new();
    let mut seconds: BTreeMap<Pod<'_>, SocketAddr> = BTreeMap::new();
    for (address, target) in all {
        let Some(pod) = target.and_then(pod) else {
            continue;
        };
        if is_first(address) {
            of_first.insert(pod);
        } else {
            // Whatever the order of the slices is.
            let known = seconds.entry(pod).or_insert(*address);
            *known = (*known).min(*address);
        }
    }
    // By address: the same endpoint may stand in a second slice that does not name its pod, and pods of a
    // node's network have the addresses of the node.
    let mut pairs: BTreeMap<SocketAddr, SocketAddr> = BTreeMap::new();
    for (address, target) in all.iter().filter(|(address, _)| is_first(address)) {
        if let Some(second) = target.and_then(pod).and_then(|pod| seconds.get(&pod)) {
            let known = pairs.entry(*address).or_insert(*second);
            *known = (*known).min(*second);
        }
    }
    let paired: BTreeSet<SocketAddr> = pairs.values().copied().collect();
    let alone = !all.iter().any(|(address, _)| is_first(address));
    let place = |(address, target): &(SocketAddr, Option<&TargetRef>)| {
        if is_first(address) {
            return Some(match pairs.get(address) {
                Some(second) => Address::Several(Several::new(*address, [*second])),
                None => (*address).into(),
            });
        }
        let pod = target.and_then(pod);
        let another = pod.is_some_and(|pod| !of_first.contains(&pod)) && !paired.contains(address);
        (alone || another).then(|| (*address).into())
    };
    all.iter().map(place).collect()
}

fn pod(target: &TargetRef) -> Option<Pod<'_>> {
    let name = target.name.as_deref().filter(|name| !name.is_empty())?;
    let kind = target.kind.as_deref().unwrap_or_default();
    Some((kind, target.namespace.as_deref().unwrap_or_default(), name))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn target(name: &str) -> TargetRef {
        TargetRef {
            kind: Some("Pod".to_owned()),
            name: Some(name.to_owned()),
            namespace: None,
        }
    }

    /// Rows of an address and a pod; `-`: none is named.
    fn places_of(rows: &[(&str, &str)], first: Family) -> Vec<String> {
        let targets: Vec<_> = rows
            .iter()
            .map(|(_, pod)| (*pod != "-").then(|| target(pod)))
            .collect();
        let all: Vec<_> = rows
            .iter()
            .zip(&targets)
            .map(|((address, _), target)| (address.parse().unwrap(), target.as_ref()))
            .collect();
        let places = places(&all, first).into_iter();
        places
            .map(|place| place.map_or_else(|| "-".to_owned(), |place| place.to_string()))
            .collect()
    }

    const BOTH: [(&str, &str); 6] = [
        ("10.0.0.1:80", "a"),
        ("10.0.0.2:80", "b"),
        ("10.0.0.3:80", "-"),
        ("[fd00::1]:80", "a"),
        ("[fd00::3]:80", "-"),
        ("[fd00::4]:80", "d"),
    ];

    #[test]
    fn a_pod_of_both_families_is_one_endpoint() {
        let expected = [
            "10.0.0.1:80,[fd00::1]:80",
            "10.0.0.2:80",
            "10.0.0.3:80",
            "-",
            "-",
            "[fd00::4]:80",
        ];
        assert_eq!(places_of(&BOTH, Family::Four), expected);
        let expected = [
            "-",
            "10.0.0.2:80",
            "-",
            "[fd00::1]:80,10.0.0.1:80",
            "[fd00::3]:80",
            "[fd00::4]:80",
        ];
        assert_eq!(places_of(&BOTH, Family::Six), expected);
    }

    #[test]
    fn one_family_is_read_as_it_is_whatever_the_service_prefers() {
        let (four, six) = BOTH.split_at(3);
        for (rows, first) in [(four, Family::Six), (six, Family::Four)] {
            let addresses: Vec<_> = rows.iter().map(|(address, _)| *address).collect();
            assert_eq!(places_of(rows, first), addresses);
        }
    }

    #[test]
    fn an_endpoint_in_two_slices_is_the_same_in_both() {
        let rows = [
            ("10.0.0.1:80", "-"),
            ("10.0.0.1:80", "a"),
            ("[fd00::1]:80", "a"),
        ];
        let pair = "10.0.0.1:80,[fd00::1]:80";
        assert_eq!(places_of(&rows, Family::Four), [pair, pair, "-"]);
    }

    #[test]
    fn the_first_family_is_the_services() {
        let service = |families: &[&str], addresses: &[&str]| kinds::Service {
            ip_families: families.iter().map(|&one| one.to_owned()).collect(),
            cluster_ip: addresses.first().map(|&one| one.to_owned()),
            cluster_ips: addresses.iter().map(|&one| one.to_owned()).collect(),
            ..kinds::Service::default()
        };
        for (families, addresses, expected) in [
            (&[][..], &[][..], Family::Four),
            (&["IPv6", "IPv4"], &["10.96.0.7", "fd00::7"], Family::Six),
            (&["IPv4", "IPv6"], &[], Family::Four),
            (&[], &["fd00::7", "10.96.0.7"], Family::Six),
            (&["IPv6"], &["None"], Family::Six),
            (&[], &["None"], Family::Four),
        ] {
            let found = Family::first(&service(families, addresses));
            assert_eq!(found, expected, "{families:?} {addresses:?}");
        }
    }

    proptest! {
        #![proptest_config(crate::random::properties(256))]

        /// No address is called under two names, none of the first family is lost, and the order of the
        /// slices does not matter.
        #[test]
        fn every_address_is_in_one_endpoint_at_most(
            rows in prop::collection::vec((any::<bool>(), 0..6_u16, 0..4_usize), 0..16),
            turn in 0..16_usize,
        ) {
            let pods = [None, Some(target("a")), Some(target("b")), Some(target("c"))];
            let mut all: Vec<_> = rows
                .iter()
                .map(|&(six, host, pod)| {
                    let ip = match six {
                        true => IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, host]),
                        false => IpAddr::from([10, 0, 0, host as u8]),
                    };
                    (SocketAddr::new(ip, 80), pods[pod].as_ref())
                })
                .collect();
            let set = |places: Vec<Option<Address>>| -> BTreeSet<Address> {
                places.into_iter().flatten().collect()
            };
            let found = set(places(&all, Family::Four));
            let firsts: BTreeSet<_> = all.iter().map(|(one, _)| *one).filter(SocketAddr::is_ipv4).collect();
            let called: Vec<SocketAddr> = found
                .iter()
                .map(|place| match place {
                    Address::Several(several) => several.first(),
                    Address::Socket(address) => *address,
                    other => panic!("{other} was never given"),
                })
                .collect();
            // A second address may be that of several, where pods share the network of their node.
            let seconds = found.iter().filter_map(|place| match place {
                Address::Several(several) => several.all().nth(1),
                _ => None,
            });
            for second in seconds {
                prop_assert!(!called.contains(&second), "{second} twice");
            }
            let distinct: BTreeSet<_> = called.iter().copied().collect();
            prop_assert_eq!(distinct.len(), called.len());
            prop_assert!(firsts.is_subset(&distinct));
            let turn = turn.min(all.len());
            all.rotate_left(turn);
            prop_assert_eq!(set(places(&all, Family::Four)), found);
        }
    }
}
