//! The listener of a server, as a control plane configures it (gRFC A36).
//!
//! YAML says of servers what holds for the whole process ([`Inbound`]); a control plane says it of
//! each address, and of callers by where they come from: a listener has chains, a connection belongs
//! to one of them for as long as it lives, and the chain says whether it is encrypted, who may call,
//! and which requests are served at all.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::authorization::Network;
use super::matcher::StringMatcher;
use super::security::Material;
use super::{Inbound, Origin, RouteConfiguration};

/// The listener of one address.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServerListener {
    /// The name by which the server asks for it.
    pub name: Arc<str>,
    /// The address that it is meant for; port 0 and unspecified addresses stand for any.
    pub address: SocketAddr,
    /// Its chains. No two of them match the same connections.
    pub chains: Vec<Arc<FilterChain>>,
    /// The chain of connections that no other matches; `None`: they are closed.
    pub default_chain: Option<Arc<FilterChain>>,
    /// Counts the changes of the listener itself. Connections that were accepted under another one
    /// are drained; routes may change without that.
    pub edition: u64,
    /// Who wrote it.
    pub origin: Origin,
}

/// What holds for the connections of one chain.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FilterChain {
    /// Its name; may be empty.
    pub name: Arc<str>,
    /// Which connections belong to it.
    pub matches: ChainMatch,
    /// How its connections are encrypted; `None`: plaintext.
    pub tls: Option<ServerTls>,
    /// Which requests are served; `None`: nobody knows yet, so none is.
    pub routes: Option<ServedRoutes>,
    /// What is asked of requests that no route takes, before they are refused.
    pub otherwise: Arc<Inbound>,
}

/// TLS as a server (Envoy's `DownstreamTlsContext`, gRFC A29).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServerTls {
    /// Where the certificate is that callers are shown.
    pub identity: Material,
    /// What is asked of callers; `None`: no certificate, so that nobody is known.
    pub callers: Option<CallerTls>,
}

/// What the certificates of callers are asked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CallerTls {
    /// Where the roots are that have to vouch for them.
    pub trust: Material,
    /// Names of which a certificate must have one; without any, all names will do.
    pub names: Vec<StringMatcher>,
    /// Whether a caller has to show one (`require_client_certificate`). One that is shown has to be
    /// believed in either case.
    pub required: bool,
}

/// Routes of a server, and what is asked of the requests of each.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServedRoutes {
    /// The routes; those whose action is [`Serve`](super::route::Action::Serve) are served.
    pub routes: Arc<RouteConfiguration>,
    /// By virtual host and route, in their order.
    pub rules: Vec<Vec<Arc<Inbound>>>,
}

/// Which connections belong to a chain; what is empty matches all.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct ChainMatch {
    /// Addresses that were connected to.
    pub destinations: Vec<Network>,
    /// From how far away.
    pub distance: Distance,
    /// Addresses that callers connect from.
    pub sources: Vec<Network>,
    /// Ports that callers connect from.
    pub source_ports: Vec<u16>,
}

/// How far away a caller is (Envoy's `source_type`).
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Distance {
    /// Anywhere.
    #[default]
    Any,
    /// On another machine.
    External,
    /// At the same address, or on loopback.
    Same,
}

impl Distance {
    fn rank(self, local: IpAddr, remote: IpAddr) -> Option<u8> {
        let same = remote.is_loopback() || local == remote;
        match self {
            Self::Any => Some(0),
            Self::External => (!same).then_some(1),
            Self::Same => same.then_some(1),
        }
    }
}

/// The longest range that has the address; 0 where there is no range, `None` where none has it.
fn rank(ranges: &[Network], address: IpAddr) -> Option<u8> {
    if ranges.is_empty() {
        return Some(0);
    }
    let matching = ranges.iter().filter(|range| range.contains(address));
    // One more, since a range of all addresses is still more than none.
    matching.map(|range| range.bits() + 1).max()
}

impl ServerListener {
    /// The chain of a connection: by the longest range of its own address, then by the distance of
    /// the caller, the longest range of the caller's address, and its port. Each step leaves out what
    /// ranks lower, and there is no way back (gRFC A36, as Envoy).
    ///
    /// ```
    /// use meshwork::model::Origin;
    /// use meshwork::model::server::ServerListener;
    ///
    /// let listener = ServerListener {
    ///     name: "inbound".into(),
    ///     address: ([0, 0, 0, 0], 8_080).into(),
    ///     chains: Vec::new(),
    ///     default_chain: None,
    ///     edition: 1,
    ///     origin: Origin::built_in(),
    /// };
    /// let (local, remote) = (([10, 0, 0, 1], 8_080).into(), ([10, 0, 0, 2], 40_000).into());
    /// assert!(listener.chain(local, remote).is_none());
    /// ```
    #[must_use]
    pub fn chain(&self, local: SocketAddr, remote: SocketAddr) -> Option<&Arc<FilterChain>> {
        let (here, there) = (local.ip().to_canonical(), remote.ip().to_canonical());
        let mut left: Vec<&Arc<FilterChain>> = self.chains.iter().collect();
        best(&mut left, |chain| rank(&chain.matches.destinations, here));
        best(&mut left, |chain| chain.matches.distance.rank(here, there));
        best(&mut left, |chain| rank(&chain.matches.sources, there));
        best(&mut left, |chain| {
            let ports = &chain.matches.source_ports;
            match ports.contains(&remote.port()) {
                true => Some(1),
                false => ports.is_empty().then_some(0),
            }
        });
        left.first().copied().or(self.default_chain.as_ref())
    }

    /// Whether it is meant for a server at this address.
    #[must_use]
    pub fn is_for(&self, local: SocketAddr) -> bool {
        let port = self.address.port() == 0 || self.address.port() == local.port();
        let ip = self.address.ip();
        port && (ip.is_unspecified() || ip.to_canonical() == local.ip().to_canonical())
    }
}

/// Leaves those of the highest rank.
fn best(left: &mut Vec<&Arc<FilterChain>>, rank: impl Fn(&FilterChain) -> Option<u8>) {
    let highest = left.iter().filter_map(|chain| rank(chain)).max();
    left.retain(|chain| rank(chain).is_some() && rank(chain) == highest);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        let (address, bits) = text.split_once('/').unwrap();
        Network::new(address.parse().unwrap(), bits.parse().unwrap())
    }

    fn chain(name: &str, matches: ChainMatch) -> Arc<FilterChain> {
        Arc::new(FilterChain {
            name: name.into(),
            matches,
            tls: None,
            routes: None,
            otherwise: Arc::default(),
        })
    }

    #[test]
    fn a_connection_belongs_to_the_chain_that_says_most_of_it() {
        let ranges = |all: &[&str]| all.iter().map(|text| network(text)).collect::<Vec<_>>();
        let listener = ServerListener {
            name: "l".into(),
            address: ([0, 0, 0, 0], 0).into(),
            chains: vec![
                chain("all", ChainMatch::default()),
                chain(
                    "to ten",
                    ChainMatch {
                        destinations: ranges(&["10.0.0.0/8"]),
                        ..ChainMatch::default()
                    },
                ),
                chain(
                    "to one",
                    ChainMatch {
                        destinations: ranges(&["10.0.0.1/32"]),
                        ..ChainMatch::default()
                    },
                ),
                chain(
                    "near",
                    ChainMatch {
                        distance: Distance::Same,
                        ..ChainMatch::default()
                    },
                ),
                chain(
                    "from",
                    ChainMatch {
                        sources: ranges(&["192.168.0.0/16"]),
                        ..ChainMatch::default()
                    },
                ),
                chain(
                    "from and port",
                    ChainMatch {
                        sources: ranges(&["192.168.0.0/16"]),
                        source_ports: vec![7],
                        ..ChainMatch::default()
                    },
                ),
            ],
            default_chain: None,
            edition: 1,
            origin: Origin::built_in(),
        };
        for (local, remote, expected) in [
            ("10.0.0.1:80", "192.168.0.1:7", "to one"),
            ("10.9.0.1:80", "192.168.0.1:7", "to ten"),
            ("11.0.0.1:80", "11.0.0.1:9", "near"),
            ("11.0.0.1:80", "127.0.0.1:9", "near"),
            ("11.0.0.1:80", "192.168.3.1:9", "from"),
            ("11.0.0.1:80", "192.168.3.1:7", "from and port"),
            ("11.0.0.1:80", "[::ffff:192.168.3.1]:7", "from and port"),
            ("11.0.0.1:80", "12.0.0.1:7", "all"),
        ] {
            let found = listener.chain(local.parse().unwrap(), remote.parse().unwrap());
            assert_eq!(&*found.unwrap().name, expected, "{local} {remote}");
        }
    }

    #[test]
    fn there_is_no_way_back_and_the_default_takes_the_rest() {
        let ranges = |text| vec![network(text)];
        let mut listener = ServerListener {
            name: "l".into(),
            address: ([10, 0, 0, 1], 80).into(),
            chains: vec![
                chain(
                    "one",
                    ChainMatch {
                        destinations: ranges("10.0.0.1/32"),
                        sources: ranges("1.0.0.0/8"),
                        ..ChainMatch::default()
                    },
                ),
                chain("all", ChainMatch::default()),
            ],
            default_chain: None,
            edition: 1,
            origin: Origin::built_in(),
        };
        let (local, remote) = ("10.0.0.1:80".parse().unwrap(), "2.0.0.1:9".parse().unwrap());
        assert!(listener.chain(local, remote).is_none());
        listener.default_chain = Some(chain("rest", ChainMatch::default()));
        assert_eq!(&*listener.chain(local, remote).unwrap().name, "rest");
        assert!(listener.is_for(local) && !listener.is_for(remote));
    }
}
