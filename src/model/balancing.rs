//! What the ways of balancing need to be told.
//!
//! The values are those of Envoy's load balancer extensions and gRPC's policies. [`Ratio`] is the
//! one number here that is not whole: both protocols carry such settings as doubles, and a curve's
//! exponent has no natural smallest step.

use std::hash::{Hash, Hasher};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::Percent;
use super::reported::ReportedMetric;

/// A finite number that is not negative.
///
/// ```
/// use meshwork::model::balancing::Ratio;
///
/// assert_eq!(Ratio::new(1.5).unwrap().value(), 1.5);
/// assert!(Ratio::new(-1.0).is_none() && Ratio::new(f64::NAN).is_none());
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio(f64);

// Never NaN, and never negative zero, so that equality is one and agrees with the hash.
impl Eq for Ratio {}

impl Hash for Ratio {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

impl Ratio {
    /// One.
    pub const ONE: Self = Self(1.0);

    /// `None` for what is negative, infinite or not a number.
    #[must_use]
    pub fn new(value: f64) -> Option<Self> {
        // Adding zero makes negative zero positive.
        (value.is_finite() && value >= 0.0).then_some(Self(value + 0.0))
    }

    /// The number.
    #[must_use]
    pub const fn value(self) -> f64 {
        self.0
    }
}

/// A ring of hashes: the same key goes to the same endpoint (Envoy's RING_HASH, gRPC A42).
///
/// ```
/// use meshwork::model::balancing::RingHash;
///
/// assert_eq!(RingHash::default().minimum(), 1_024);
/// assert!(RingHash::new(10, 9).is_none());
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct RingHash {
    minimum: u32,
    maximum: u32,
    bound: Option<LoadBound>,
}

impl RingHash {
    /// The most entries that a ring may have (Envoy's and gRPC's bound: 8 Mi).
    pub const LIMIT: u32 = 8 << 20;

    /// A ring of at least `minimum` entries and at most `maximum`.
    ///
    /// `None` if the minimum is above the maximum, or one of them above [`RingHash::LIMIT`], or the
    /// maximum is zero.
    #[must_use]
    pub fn new(minimum: u32, maximum: u32) -> Option<Self> {
        (minimum <= maximum && maximum <= Self::LIMIT && maximum > 0).then_some(Self {
            minimum,
            maximum,
            bound: None,
        })
    }

    /// Lets requests leave an endpoint that is busier than the bound.
    #[must_use]
    pub fn bounded(mut self, bound: LoadBound) -> Self {
        self.bound = Some(bound);
        self
    }

    /// The smallest ring.
    #[must_use]
    pub const fn minimum(self) -> u32 {
        self.minimum
    }

    /// The largest ring.
    #[must_use]
    pub const fn maximum(self) -> u32 {
        self.maximum
    }

    /// How much busier than the average an endpoint may be.
    #[must_use]
    pub const fn bound(self) -> Option<LoadBound> {
        self.bound
    }
}

impl Default for RingHash {
    fn default() -> Self {
        Self {
            minimum: 1_024,
            maximum: Self::LIMIT,
            bound: None,
        }
    }
}

/// A table of hashes: faster and more even than a ring, moves a little more when an endpoint comes
/// or goes (Envoy's MAGLEV).
///
/// ```
/// use meshwork::model::balancing::Maglev;
///
/// assert_eq!(Maglev::default().table_size(), 65_537);
/// assert!(Maglev::new(65_536).is_none(), "not a prime number");
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Maglev {
    table_size: u32,
    bound: Option<LoadBound>,
}

impl Maglev {
    /// The largest table (Envoy's bound).
    pub const LIMIT: u32 = 5_000_011;

    /// A table of this many entries; `None` unless it is a prime number of at most
    /// [`Maglev::LIMIT`].
    #[must_use]
    pub fn new(table_size: u32) -> Option<Self> {
        (table_size <= Self::LIMIT && is_prime(table_size)).then_some(Self {
            table_size,
            bound: None,
        })
    }

    /// Lets requests leave an endpoint that is busier than the bound.
    #[must_use]
    pub fn bounded(mut self, bound: LoadBound) -> Self {
        self.bound = Some(bound);
        self
    }

    /// How many entries the table has.
    #[must_use]
    pub const fn table_size(self) -> u32 {
        self.table_size
    }

    /// How much busier than the average an endpoint may be.
    #[must_use]
    pub const fn bound(self) -> Option<LoadBound> {
        self.bound
    }
}

impl Default for Maglev {
    fn default() -> Self {
        Self {
            table_size: 65_537,
            bound: None,
        }
    }
}

/// For numbers up to [`Maglev::LIMIT`]: at most about 2,200 divisions.
fn is_prime(number: u32) -> bool {
    number >= 2
        && (2..)
            .take_while(|divisor| divisor * divisor <= number)
            .all(|divisor| !number.is_multiple_of(divisor))
}

/// How busy an endpoint may be before a hash goes to the next one: this many percent of its share
/// of all requests in flight (Envoy's `hash_balance_factor`).
///
/// ```
/// use meshwork::model::balancing::LoadBound;
///
/// assert_eq!(LoadBound::new(120).unwrap().percent(), 120);
/// assert!(LoadBound::new(99).is_none());
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct LoadBound(u32);

impl LoadBound {
    /// `None` below 100 percent, which could not place all requests.
    #[must_use]
    pub fn new(percent: u32) -> Option<Self> {
        (percent >= 100).then_some(Self(percent))
    }

    /// The percentage.
    #[must_use]
    pub const fn percent(self) -> u32 {
        self.0
    }
}

/// The less costly of two, where cost is the peak of the recent latency times the requests in
/// flight (Finagle's and Linkerd's peak EWMA).
///
/// Envoy and Istio have no such policy, so only a program can ask for it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct PeakEwma {
    /// What an endpoint is believed to take that has not answered yet. Linkerd's default: 1 s.
    pub default_latency: Duration,
    /// How fast old latencies are forgotten: after this time 1/e of one is left. Linkerd's default:
    /// 10 s.
    pub decay: Duration,
}

impl Default for PeakEwma {
    fn default() -> Self {
        Self {
            default_latency: Duration::from_secs(1),
            decay: Duration::from_secs(10),
        }
    }
}

/// One endpoint for all requests: the first that can be connected to, for as long as it can be (gRPC's
/// `pick_first`, A62). Then the next in the order is, from the top of it.
///
/// Envoy and Istio have no such policy; a control plane says it in `load_balancing_policy`.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct PickFirst {
    /// Whether each client has an order of its own, which stays the same across edits and in which
    /// heavier endpoints tend to stand before lighter ones (gRPC A113). Default: the order of the
    /// configuration, without a look at weights.
    pub shuffle: bool,
}

/// In turns by weights that the endpoints report: requests per second by utilization (gRPC A58).
///
/// The weights of the configuration are not looked at, as in gRPC.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct WeightedRoundRobin {
    /// How long reports must have come in before they count. Default 10 s.
    pub blackout: Duration,
    /// How old the last report may be. Default 3 min.
    pub expiration: Duration,
    /// How often weights are computed anew; less than 100 ms counts as that. Default 1 s.
    pub update: Duration,
    /// How much errors add to the utilization. Default 1.
    pub error_penalty: Ratio,
    /// How often endpoints shall report on a stream of their own
    /// (`xds.service.orca.v3.OpenRcaService`, gRPC A51); less than 100 ms counts as that, and servers
    /// may report less often. What responses say does not count then. Default: `None`, reports come
    /// with responses.
    pub out_of_band: Option<Duration>,
    /// The metrics of a report whose largest positive value is the utilization (Envoy's
    /// `metric_names_for_computing_utilization`, gRPC A114). A report without any of them counts by
    /// `application_utilization`, else by `cpu_utilization`, as all do by default, where this is empty.
    pub utilization: Arc<[ReportedMetric]>,
}

impl Default for WeightedRoundRobin {
    fn default() -> Self {
        Self {
            blackout: Duration::from_secs(10),
            expiration: Duration::from_secs(180),
            update: Duration::from_secs(1),
            error_penalty: Ratio::ONE,
            out_of_band: None,
            utilization: Arc::new([]),
        }
    }
}

/// How the share of an endpoint grows that has just come, or come back (Envoy's
/// `slow_start_config`, Istio's `warmup`).
///
/// At time `t` it is `max(minimum, (t / window)^(1 / aggression))` of the full share.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct SlowStart {
    /// How long it takes.
    pub window: Duration,
    /// The share at the start. Default 10 %.
    pub minimum: Percent,
    /// The shape: 1 is a straight line, more is steeper at the start.
    pub aggression: Ratio,
}

impl SlowStart {
    /// A straight line from 10 % on.
    #[must_use]
    pub const fn over(window: Duration) -> Self {
        Self {
            window,
            minimum: Percent::TEN,
            aggression: Ratio::ONE,
        }
    }
}

/// How requests are spread before one endpoint is picked: over priorities, localities, a subset.
///
/// ```
/// use meshwork::model::balancing::{LocalityWeights, Spread};
///
/// let spread = Spread { localities: LocalityWeights::InForce, ..Spread::default() };
/// assert_eq!(spread.overprovisioning.get(), 140);
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Spread {
    /// Whether localities get shares by their weights.
    pub localities: LocalityWeights,
    /// By how many percent a priority (or a locality) can serve more than its share, which is how
    /// many of its endpoints may be missing before the next one gets some. Envoy's default: 140.
    pub overprovisioning: NonZeroU32,
    /// How new endpoints are warmed up; `None`: they get their full share at once. In force for
    /// least request, round robin and random.
    pub slow_start: Option<SlowStart>,
    /// How many endpoints of each priority this client uses at most, chosen so that clients differ
    /// and one endpoint more or less changes one of the choice (gRPC A68).
    pub subset: Option<NonZeroU32>,
}

impl Default for Spread {
    fn default() -> Self {
        Self {
            localities: LocalityWeights::default(),
            // Above zero, so the other arm is never taken; `const` makes the compiler see to it.
            overprovisioning: const { NonZeroU32::new(140).expect("is not zero") },
            slow_start: None,
            subset: None,
        }
    }
}

/// Whether localities get shares by their weights.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum LocalityWeights {
    /// An endpoint's own weight is all that counts.
    #[default]
    Ignored,
    /// A locality is drawn by its weight and its health first, then an endpoint of it (Envoy's
    /// `locality_weighted_lb_config`, gRPC's `wrr_locality`). One without a weight gets nothing.
    InForce,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn primes_are_told_from_other_numbers() {
        for prime in [2, 3, 65_537, Maglev::LIMIT] {
            assert!(Maglev::new(prime).is_some(), "{prime}");
        }
        for other in [0, 1, 4, 65_536, 251 * 257, 5_000_077] {
            assert!(Maglev::new(other).is_none(), "{other}");
        }
    }

    #[test]
    fn rings_have_a_bound() {
        assert!(RingHash::new(1_024, RingHash::LIMIT).is_some());
        assert!(RingHash::new(1_024, RingHash::LIMIT + 1).is_none());
        assert!(RingHash::new(0, 0).is_none());
    }

    #[test]
    fn ratios_are_numbers_and_zero_is_one_number() {
        assert_eq!(Ratio::new(-0.0).unwrap().value().to_bits(), 0);
        assert!(Ratio::new(f64::INFINITY).is_none());
    }
}
