//! The members of a cluster: addresses by locality and priority.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;

use http::uri::Authority;

use super::{Fraction, List, Origin};

/// The endpoints of one cluster (xDS's `ClusterLoadAssignment`).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Endpoints {
    /// The name that the cluster asks for.
    pub name: Arc<str>,
    /// The localities; an empty list is legal and means that nobody serves.
    pub localities: Vec<LocalityEndpoints>,
    /// The shares of all requests that are dropped before an endpoint is asked, drawn one after the
    /// other (xDS's `policy.drop_overloads`).
    pub overloads: Vec<Overload>,
    /// Who wrote it.
    pub origin: Origin,
}

/// A share of requests that is dropped.
///
/// A dropped request fails with [`Flag::DropOverload`](crate::Flag::DropOverload), 503 or
/// `UNAVAILABLE`, and is not tried again.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Overload {
    /// Why, in the words of who wants it; reported per category.
    pub category: Arc<str>,
    /// The share of the requests that get here.
    pub share: Fraction,
}

/// The endpoints of one locality at one priority.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LocalityEndpoints {
    /// Where they are.
    pub locality: Locality,
    /// 0 is used first.
    pub priority: u32,
    /// The locality's share among its priority, where the load balancer looks at it.
    pub weight: Option<NonZeroU32>,
    /// The endpoints. A set that differs from another one in a few shares the rest with it, and is
    /// put in force in a time that grows with the few.
    pub endpoints: List<Endpoint>,
}

/// Region, zone and sub-zone; an empty text is "not said".
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Locality {
    /// The region, such as `eu-west-1`.
    pub region: Box<str>,
    /// The zone within the region.
    pub zone: Box<str>,
    /// The sub-zone, such as a rack.
    pub sub_zone: Box<str>,
}

/// `region/zone/sub_zone`, without the parts behind the last one that is said.
impl fmt::Display for Locality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = format!("{}/{}/{}", self.region, self.zone, self.sub_zone);
        f.write_str(all.trim_end_matches('/'))
    }
}

/// The label that a ring or a Maglev table knows an endpoint by instead of its address (gRFC A76): `hash_key`
/// in the metadata `envoy.lb` of xDS. No label of a Kubernetes object can have this name.
pub const HASH_KEY: &str = "envoy.lb:hash_key";

/// One endpoint.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Endpoint {
    /// Where to connect to.
    pub address: Address,
    /// The name that it is known by, perhaps with a port (xDS's `Endpoint.hostname`): what
    /// [`Sni::Endpoint`](super::security::Sni::Endpoint) asks for, and what a route with
    /// [`Forward::endpoint_authority`](super::route::Forward::endpoint_authority) sends. `None`: the host of
    /// the address, if that is a name. Nothing is resolved or connected to by it.
    pub hostname: Option<Arc<Authority>>,
    /// Its share among the endpoints of its locality.
    pub weight: NonZeroU32,
    /// What the registry says of it.
    pub health: Health,
    /// Labels of the workload behind it, among them [`HASH_KEY`] if it has one.
    pub labels: Arc<BTreeMap<Box<str>, Box<str>>>,
    /// Whether it speaks the mutual TLS of a mesh, so that a cluster whose security is
    /// [automatic](super::security::Security::Automatic) does so with it (Istio's label
    /// `security.istio.io/tlsMode: istio`; xDS metadata `envoy.transport_socket_match`).
    pub meshed: bool,
}

/// What the registry says of an endpoint's health.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Health {
    /// Ends soon: requests in flight finish, new ones go elsewhere.
    Draining,
    /// Serves, or nothing is known.
    #[default]
    Healthy,
    /// Does not serve; used only in panic.
    Unhealthy,
}

/// Where an endpoint listens.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Address {
    /// A name that is resolved each time a connection is made.
    Name {
        /// The host name.
        host: Arc<str>,
        /// The port.
        port: u16,
    },
    /// Several IP addresses of one endpoint, with ports (gRFC A61, xDS's `additional_addresses`).
    /// They count as one: the first that answers gets the connection.
    Several(Several),
    /// An IP address and a port.
    Socket(SocketAddr),
    /// A Unix domain socket.
    Unix(Arc<Path>),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name { host, port } => write!(f, "{host}:{port}"),
            Self::Several(addresses) => addresses.fmt(f),
            Self::Socket(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The addresses of one endpoint that has more than one, in the order of preference.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Several(Arc<Addresses>);

/// Behind a pointer: most endpoints have one address, and there are many of those.
#[derive(Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
struct Addresses {
    first: SocketAddr,
    others: Box<[SocketAddr]>,
}

impl Several {
    /// One endpoint at these addresses. A single one is an [`Address::Socket`].
    #[must_use]
    pub fn new(first: SocketAddr, others: impl Into<Box<[SocketAddr]>>) -> Self {
        let others = others.into();
        Self(Arc::new(Addresses { first, others }))
    }

    /// The preferred address; TLS and health checks name the endpoint by it.
    #[must_use]
    pub fn first(&self) -> SocketAddr {
        self.0.first
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = SocketAddr> {
        std::iter::once(self.0.first).chain(self.0.others.iter().copied())
    }
}

impl fmt::Display for Several {
    /// Separated by commas, as in the cookies of sticky sessions (gRFC A75).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.first.fmt(f)?;
        self.0
            .others
            .iter()
            .try_for_each(|address| write!(f, ",{address}"))
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Socket(address)
    }
}
