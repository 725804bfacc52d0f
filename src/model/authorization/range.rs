//! Addresses and ports.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;
use thiserror::Error;

/// A range of addresses: `10.0.0.0/8`, `fd00::/8`, or one address.
///
/// An IPv4 address that arrives in IPv6 form (`::ffff:10.1.2.3`, as a socket that listens on both
/// sees it) is the IPv4 address, on both sides of the comparison.
///
/// ```
/// use meshwork::model::authorization::Network;
///
/// let network: Network = "10.0.0.0/8".parse()?;
/// assert!(network.contains("::ffff:10.1.2.3".parse()?));
/// assert!(!network.contains("11.0.0.1".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct Network {
    net: IpNet,
}

/// Not a range of addresses.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("{found:?} is neither an IP address nor a network such as 10.0.0.0/8")]
pub struct InvalidNetwork {
    found: Box<str>,
}

/// A prefix this long of the mapped range is all of IPv4.
const MAPPED: u8 = 96;

impl Network {
    /// The range of addresses whose first `bits` bits are those of `address`. More bits than the
    /// address has count as all of them, and bits behind them are dropped, as in Envoy's
    /// `CidrRange`.
    #[must_use]
    pub fn new(address: IpAddr, bits: u8) -> Self {
        let (address, bits) = match address {
            IpAddr::V6(six) => match six.to_ipv4_mapped() {
                Some(four) if bits >= MAPPED => (IpAddr::V4(four), bits - MAPPED),
                Some(_) | None => (address, bits),
            },
            IpAddr::V4(_) => (address, bits),
        };
        let most = match address {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        };
        let net = IpNet::new(address, bits.min(most)).unwrap_or_else(|_| IpNet::from(address));
        Self { net: net.trunc() }
    }

    /// Whether the address is in the range.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.net.contains(&address.to_canonical())
    }

    /// The first address of the range.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.net.addr()
    }

    /// How many bits of the address are fixed.
    #[must_use]
    pub fn bits(&self) -> u8 {
        self.net.prefix_len()
    }
}

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let invalid = || InvalidNetwork { found: text.into() };
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => {
                let plain = !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit());
                let bits = plain.then(|| bits.parse::<u8>().ok()).flatten();
                (address, Some(bits.ok_or_else(invalid)?))
            }
            None => (text, None),
        };
        let address = address.parse::<IpAddr>().map_err(|_| invalid())?;
        let most = match address {
            IpAddr::V4(Ipv4Addr { .. }) => 32,
            IpAddr::V6(Ipv6Addr { .. }) => 128,
        };
        match bits {
            Some(bits) if bits > most => Err(invalid()),
            bits => Ok(Self::new(address, bits.unwrap_or(most))),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.net.fmt(f)
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Network({})", self.net)
    }
}

/// Ports from the first to the last, both included.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct PortRange {
    /// The first.
    pub first: u16,
    /// The last; a range whose last is before its first has no port.
    pub last: u16,
}

impl PortRange {
    /// One port.
    #[must_use]
    pub const fn one(port: u16) -> Self {
        Self {
            first: port,
            last: port,
        }
    }

    /// Whether the port is in the range.
    #[must_use]
    pub fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c16_an_ipv4_address_in_ipv6_form_is_the_ipv4_address() {
        let ten: Network = "10.0.0.0/8".parse().unwrap();
        let mapped: Network = "::ffff:10.0.0.0/104".parse().unwrap();
        assert_eq!(ten, mapped);
        for inside in ["10.1.2.3", "::ffff:10.1.2.3"] {
            assert!(ten.contains(inside.parse().unwrap()), "{inside}");
        }
        for outside in ["11.1.2.3", "::10.1.2.3", "fe80::1", "::ffff:11.0.0.1"] {
            assert!(!ten.contains(outside.parse().unwrap()), "{outside}");
        }
        let all_six: Network = "::/0".parse().unwrap();
        assert!(all_six.contains("fe80::1".parse().unwrap()));
        assert!(!all_six.contains("::ffff:10.1.2.3".parse().unwrap()));
    }

    #[test]
    fn a_network_is_an_address_or_has_few_enough_bits() {
        for (text, shown) in [
            ("10.1.2.3", "10.1.2.3/32"),
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("fd00::1/8", "fd00::/8"),
            ("0.0.0.0/0", "0.0.0.0/0"),
        ] {
            let network: Network = text.parse().unwrap();
            assert_eq!(network.to_string(), shown);
        }
        for bad in [
            "",
            "10.0.0",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "fe80::1%eth0",
            "::/129",
            "a/8",
        ] {
            let error = bad.parse::<Network>().unwrap_err();
            assert!(error.to_string().starts_with(&format!("{bad:?}")), "{bad}");
        }
    }

    #[test]
    fn a_range_of_ports_includes_both_ends() {
        let range = PortRange {
            first: 80,
            last: 81,
        };
        assert!(range.contains(80) && range.contains(81));
        assert!(!range.contains(79) && !range.contains(82));
        assert!(PortRange::one(0).contains(0) && !PortRange::one(1).contains(0));
    }
}
