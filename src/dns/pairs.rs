//! Which addresses of a name are one server.
//!
//! A server with both families has an A and an AAAA record, and nothing in DNS says which two belong
//! together. Taken as two endpoints it would get a double share and be ejected by halves; taken by one
//! family it could not be reached from a network that has only the other. So each address of the rarer
//! family is put beside one of the other, and the two are one endpoint that is dialled as RFC 8305 says:
//! IPv6 first, IPv4 a quarter of a second later or when IPv6 has failed.
//!
//! Of a family of more than 64 addresses the lowest 64 are paired; the others are endpoints of their own,
//! which have a share and failures of their own.
//!
//! A pair may be of two servers. That costs nothing while one family works: each address of it stands in
//! exactly one endpoint, so shares are those of the servers whichever family that is.
//!
//! Which two are a pair depends on the two alone and not on their places in the answer, so that an
//! address that comes or goes leaves most other endpoints, and their connections, as they are: the
//! pairs are the stable matching of hashes, the lowest first.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::num::NonZeroU32;

use twox_hash::XxHash64;

use super::Target;
use crate::model::endpoint::{Address, Several};

/// What a record says of an address besides the address; a pair has it in common.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Service {
    pub(super) priority: u16,
    pub(super) port: u16,
    pub(super) weight: NonZeroU32,
}

impl Service {
    /// `port` is that of the endpoint, where the record has none.
    pub(super) fn of(target: &Target, port: u16) -> Self {
        Self {
            priority: target.priority,
            port: target.port.unwrap_or(port),
            weight: target.weight,
        }
    }

    pub(super) fn at(&self, address: IpAddr) -> SocketAddr {
        SocketAddr::new(address, self.port)
    }
}

/// So many addresses of a family, the lowest, have partners.
const PAIRED: usize = 64;

/// The endpoints at these addresses, which are distinct: as many as the larger family has, if that is at
/// most [`PAIRED`].
///
/// In the order of the IPv4 addresses, those of IPv6 that have no partner behind them. The work grows
/// with the product of the families, which is why of larger ones the rest stays alone.
pub(super) fn members(addresses: &[SocketAddr]) -> Vec<Address> {
    let (mut four, mut six) = (Vec::new(), Vec::new());
    for address in addresses {
        match address {
            SocketAddr::V4(address) => four.push(*address),
            SocketAddr::V6(address) => six.push(*address),
        }
    }
    let (fourths, sixths) = (lowest(&four), lowest(&six));
    let mut partners: Vec<Option<SocketAddrV6>> = vec![None; four.len()];
    let mut free = vec![true; six.len()];
    for (_, fourth, sixth) in preferences(&four, &six, &fourths, &sixths) {
        if free[sixth] && partners[fourth].is_none() {
            free[sixth] = false;
            partners[fourth] = Some(six[sixth]);
        }
    }
    let paired = four.iter().zip(partners).map(|(four, six)| match six {
        Some(six) => Address::Several(Several::new(six.into(), [(*four).into()])),
        None => SocketAddr::from(*four).into(),
    });
    let alone = six.iter().zip(free).filter(|(_, free)| *free);
    let alone = alone.map(|(address, _)| SocketAddr::from(*address).into());
    paired.chain(alone).collect()
}

/// The places of those that may have partners: which they are depends on the addresses and not on their
/// order, and one that comes or goes changes one of them.
fn lowest<A: Ord>(addresses: &[A]) -> Vec<usize> {
    let mut places: Vec<usize> = (0..addresses.len()).collect();
    if places.len() > PAIRED {
        places.select_nth_unstable_by_key(PAIRED, |place| &addresses[*place]);
        places.truncate(PAIRED);
    }
    places
}

/// All possible pairs of those at these places, the best first; equal hashes are decided by the addresses.
fn preferences(
    four: &[SocketAddrV4],
    six: &[SocketAddrV6],
    fourths: &[usize],
    sixths: &[usize],
) -> Vec<(u64, usize, usize)> {
    let mut all: Vec<(u64, usize, usize)> = Vec::with_capacity(fourths.len() * sixths.len());
    for fourth in fourths {
        let score = |sixth: &usize| score(*four[*fourth].ip(), *six[*sixth].ip());
        all.extend(sixths.iter().map(|sixth| (score(sixth), *fourth, *sixth)));
    }
    all.sort_unstable_by_key(|&(score, fourth, sixth)| (score, four[fourth], six[sixth]));
    all
}

fn score(four: Ipv4Addr, six: Ipv6Addr) -> u64 {
    let mut bytes = [0; 20];
    bytes[..4].copy_from_slice(&four.octets());
    bytes[4..].copy_from_slice(&six.octets());
    XxHash64::oneshot(0, &bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn four(last: u8) -> SocketAddr {
        SocketAddr::new(IpAddr::from([10, 0, 0, last]), 80)
    }

    fn six(last: u8) -> SocketAddr {
        let address = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last.into());
        SocketAddr::new(address.into(), 80)
    }

    fn parts(member: &Address) -> Vec<SocketAddr> {
        match member {
            Address::Several(several) => several.all().collect(),
            Address::Socket(address) => vec![*address],
            other => panic!("{other}"),
        }
    }

    fn families(fours: &BTreeSet<u8>, sixes: &BTreeSet<u8>) -> Vec<SocketAddr> {
        let four = fours.iter().map(|last| four(*last));
        four.chain(sixes.iter().map(|last| six(*last))).collect()
    }

    #[test]
    fn one_family_is_left_as_it_is() {
        let all = [four(1), four(2)];
        assert_eq!(members(&all), all.map(Address::from));
        assert_eq!(members(&[six(1)]), [Address::from(six(1))]);
        assert!(members(&[]).is_empty());
    }

    #[test]
    fn ipv6_is_preferred_within_a_pair() {
        let pair = Several::new(six(1), [four(1)]);
        assert_eq!(members(&[four(1), six(1)]), [Address::Several(pair)]);
    }

    proptest! {
        #![proptest_config(crate::random::properties(64))]

        #[test]
        fn each_address_stands_in_one_endpoint_and_there_are_as_many_as_of_the_larger_family(
            fours in proptest::collection::btree_set(any::<u8>(), 0..24),
            sixes in proptest::collection::btree_set(any::<u8>(), 0..24),
        ) {
            let addresses = families(&fours, &sixes);
            let found = members(&addresses);
            prop_assert_eq!(found.len(), fours.len().max(sixes.len()));
            let mut all: Vec<_> = found.iter().flat_map(parts).collect();
            all.sort_unstable();
            let mut expected = addresses.clone();
            expected.sort_unstable();
            prop_assert_eq!(all, expected);
            // The order of the answer means nothing.
            let mut reversed = addresses;
            reversed.reverse();
            let other: BTreeSet<_> = members(&reversed).into_iter().collect();
            prop_assert_eq!(other, found.into_iter().collect());
        }
    }

    #[test]
    fn of_large_families_only_so_many_are_paired() {
        let large: Vec<_> = (0..200).flat_map(|last| [four(last), six(last)]).collect();
        let found = members(&large);
        let pairs = found.iter().filter(|member| parts(member).len() == 2);
        assert_eq!((pairs.count(), found.len()), (64, 400 - 64));
        let paired = found.iter().map(parts).filter(|parts| parts.len() == 2);
        let paired: BTreeSet<_> = paired.flatten().collect();
        let lowest: BTreeSet<_> = (0..64).flat_map(|last| [four(last), six(last)]).collect();
        assert_eq!(paired, lowest);
    }

    #[test]
    fn an_address_that_goes_leaves_most_pairs_as_they_are() {
        let all: BTreeSet<u8> = (1..=32).collect();
        let before: BTreeSet<_> = members(&families(&all, &all)).into_iter().collect();
        let changed = all.iter().map(|gone| {
            let mut left = all.clone();
            left.remove(gone);
            let after = members(&families(&left, &all));
            after
                .iter()
                .filter(|member| !before.contains(member))
                .count()
        });
        // At least its partner, which stands alone.
        let changed: usize = changed.sum();
        assert!((32..=32 * 8).contains(&changed), "{changed} of {}", 32 * 32);
    }
}
