//! Names to addresses, for as long as somebody needs them.
//!
//! A mesh meets names in three places: clusters whose members are all the addresses of a name
//! (Envoy's `STRICT_DNS`), clusters that are one name however many addresses it has
//! (`LOGICAL_DNS`), and hosts that are known only when a request asks for them. All three go
//! through one table, owned by one task of the mesh: a name is asked for once, however
//! many clusters and connections use it, and ten thousand names are one timer.
//!
//! # Rules
//!
//! - **The last good answer stays.** A server that fails, an empty answer and a name that is gone
//!   change nothing; the name is asked for again after a growing pause. A cluster whose DNS is down
//!   is as good as it was.
//! - **The answer's TTL counts**, between [`MIN_TTL`] and [`MAX_TTL`]: a TTL of zero would make each
//!   connection a question, one of a year would never see a move. Where a resolver tells no TTL
//!   the cluster's refresh rate is used (`MeshConfig.dnsRefreshRate`, 60 s).
//! - **Jitter**: a refresh is up to a tenth later than the TTL, so that a fleet that was started
//!   together does not ask together. It is never earlier.
//! - **Nothing is kept twice.** The resolver's own cache is off: it would run on another clock.
//!
//! The times and states are `schedule`, a machine without IO that is tested with a clock of
//! numbers; `names` is the task around it. The module ranks directly above `transport`: its
//! connector dials what it resolved, and no cluster, snapshot or request is known here.
//!
//! # Rejected
//!
//! A lookup for each new connection (`getaddrinfo` in the connector): it puts a thread pool and
//! the DNS server's worst second into the first request after each idle time, sees no TTL, and
//! cannot tell a cluster that its members have changed.
//!
//! ```
//! use meshwork::dns::Question;
//!
//! assert_eq!(Question::of("api.example.com"), Question::Addresses("api.example.com".into()));
//! assert_eq!(Question::of("_grpc._tcp.example.com"), Question::Services("_grpc._tcp.example.com".into()));
//! ```

mod connector;
mod expand;
#[cfg(feature = "dns")]
mod hickory;
mod names;
mod pairs;
mod schedule;
mod system;

use std::fmt;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use connector::Resolving;
pub(crate) use expand::{expand, questions, resolved};
#[cfg(feature = "dns")]
pub use hickory::HickoryResolver;
pub(crate) use names::Names;
pub use system::SystemResolver;

/// The shortest time that an answer is used for.
pub const MIN_TTL: Duration = Duration::from_secs(5);
/// The longest time that an answer is used for.
pub const MAX_TTL: Duration = Duration::from_secs(3_600);
/// How long an answer without a TTL is used where nobody said otherwise
/// (`MeshConfig.dnsRefreshRate`).
pub const DEFAULT_REFRESH: Duration = Duration::from_secs(60);
/// How many addresses of one answer are used; the rest of a larger one is left out.
pub const MAX_ADDRESSES: usize = 1_024;

/// What a name server is asked.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Question {
    /// All addresses of a host, A and AAAA.
    Addresses(Arc<str>),
    /// The hosts and ports of a service (SRV), with the addresses of each.
    Services(Arc<str>),
}

impl Question {
    /// The question that a name in an endpoint stands for: SRV if its first two labels begin with
    /// an underscore, as RFC 2782 names services, otherwise its addresses.
    #[must_use]
    pub fn of(host: &str) -> Self {
        let mut labels = host.split('.');
        let service = [labels.next(), labels.next()]
            .iter()
            .all(|label| label.is_some_and(|label| label.starts_with('_')));
        let name = host.to_ascii_lowercase().into();
        if service {
            Self::Services(name)
        } else {
            Self::Addresses(name)
        }
    }

    /// The name that is asked for.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Addresses(name) | Self::Services(name) => name,
        }
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addresses(name) => f.write_str(name),
            Self::Services(name) => write!(f, "SRV {name}"),
        }
    }
}

/// What a name server said.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Answer {
    /// The addresses, in any order. None is taken for a failure: the last good answer stays.
    pub targets: Vec<Target>,
    /// How long the answer may be used; `None`: the resolver does not know.
    pub ttl: Option<Duration>,
}

/// One address behind a name.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Target {
    /// SRV's priority: 0 is used first. 0 for a host's addresses.
    pub priority: u16,
    /// The address.
    pub address: IpAddr,
    /// The port, where the answer names one (SRV).
    pub port: Option<u16>,
    /// SRV's weight; 1 for a host's addresses.
    pub weight: NonZeroU32,
}

impl From<IpAddr> for Target {
    fn from(address: IpAddr) -> Self {
        Self {
            priority: 0,
            address,
            port: None,
            weight: NonZeroU32::MIN,
        }
    }
}

/// What [`Resolve::resolve`] returns.
pub type Resolution = Pin<Box<dyn Future<Output = io::Result<Answer>> + Send>>;

/// Asks name servers. Tests bring their own.
///
/// The mesh does everything else: it asks each name once at a time, remembers, repeats and bounds;
/// an implementation must not cache. A question that takes longer than 10 s is given up.
///
/// ```
/// use std::io;
/// use meshwork::dns::{Answer, Question, Resolution, Resolve, Target};
///
/// /// Every name is this machine.
/// #[derive(Debug)]
/// struct Here;
///
/// impl Resolve for Here {
///     fn resolve(&self, _question: &Question) -> Resolution {
///         let targets = vec![Target::from(std::net::IpAddr::from([127, 0, 0, 1]))];
///         Box::pin(async move { io::Result::Ok(Answer { targets, ttl: None }) })
///     }
/// }
///
/// let _mesh = meshwork::Mesh::builder().resolver(Here);
/// ```
pub trait Resolve: fmt::Debug + Send + Sync + 'static {
    /// Asks once. The future may be dropped at any time.
    ///
    /// # Errors
    ///
    /// Whatever kept the answer away; it becomes the cause of the request's error where no earlier
    /// answer is known.
    fn resolve(&self, question: &Question) -> Resolution;
}

/// The resolver that a mesh uses unless it is given another: [`HickoryResolver`] with the feature
/// `dns`, otherwise [`SystemResolver`].
pub(crate) fn default_resolver() -> Arc<dyn Resolve> {
    #[cfg(feature = "dns")]
    return Arc::new(HickoryResolver::default());
    #[cfg(not(feature = "dns"))]
    return Arc::new(SystemResolver);
}
