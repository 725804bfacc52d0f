//! Which request goes to which cluster, and on what terms.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::{Authority, Scheme};
use http::{HeaderName, HeaderValue, StatusCode};

use super::Fraction;
use super::Origin;
use super::affinity::Affinity;
use super::custom::CustomFilter;
use super::fault::Fault;
use super::matcher::{Regex, RouteMatcher};
use super::rate::LocalLimit;
use super::retry::RetryPolicy;
use super::upgrade::Upgrades;

/// A set of virtual hosts (xDS's `RouteConfiguration`).
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct RouteConfiguration {
    /// Its name, such as `outbound|80||catalog.my-app.svc.cluster.local`.
    pub name: Arc<str>,
    /// The virtual hosts; no domain stands in two of them.
    pub virtual_hosts: Vec<Arc<VirtualHost>>,
    /// Who wrote it.
    pub origin: Origin,
}

/// The routes of a set of authorities.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct VirtualHost {
    /// Its name, `host:port`.
    pub name: Arc<str>,
    /// The authorities it answers for.
    pub domains: Vec<Domain>,
    /// The routes; the first that matches is taken.
    pub routes: Vec<Arc<Route>>,
    /// Who wrote it.
    pub origin: Origin,
}

/// An authority, or a pattern of authorities, in lower case.
///
/// The order is the order of precedence: exact, longest suffix, longest prefix, any.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Domain {
    /// This authority.
    Exact(Box<str>),
    /// `*.example.com`: ends with `.example.com`. At least one character stands for the star.
    Suffix(Box<str>),
    /// `example.*`: begins with `example.`. At least one character stands for the star.
    Prefix(Box<str>),
    /// `*`.
    Any,
}

impl Domain {
    /// Reads `*`, `*.suffix`, `prefix.*` or an exact authority.
    ///
    /// ```
    /// use meshwork::model::route::Domain;
    ///
    /// assert_eq!(Domain::parse("*.Example.com"), Domain::Suffix(".example.com".into()));
    /// ```
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let text = text.to_ascii_lowercase();
        if text == "*" {
            Self::Any
        } else if let Some(suffix) = text.strip_prefix('*') {
            Self::Suffix(suffix.into())
        } else if let Some(prefix) = text.strip_suffix('*') {
            Self::Prefix(prefix.into())
        } else {
            Self::Exact(text.into())
        }
    }
}

/// One route.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Route {
    /// What access logs and `explain` call it.
    pub name: Arc<str>,
    /// Which requests it takes.
    pub matcher: RouteMatcher,
    /// What is done with them.
    pub action: Action,
    /// Headers that are changed on the way.
    pub headers: HeaderChanges,
    /// Faults that are injected.
    pub fault: Option<Fault>,
    /// Limits of requests in a time, which stand behind the fault; a request takes a token of each. They need
    /// the feature `rate-limit`: without it requests to a route with limits fail. Default: none.
    pub limits: Vec<LocalLimit>,
    /// The program's own filters, in the order in which requests meet them; they stand behind the limits.
    pub filters: Vec<CustomFilter>,
    /// What its answers are counted under (Istio's `match[].statPrefix`, xDS's `stat_prefix`). Default: they
    /// are not counted by route.
    pub stat_prefix: Option<Arc<str>>,
    /// Who wrote it.
    pub origin: Origin,
}

/// What is done with a request.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Action {
    /// Answered here.
    Direct(DirectResponse),
    /// Sent to a cluster.
    Forward(Box<Forward>),
    /// Answered with a redirect.
    Redirect(Redirect),
    /// Served by the server whose routes these are (xDS's `NonForwardingAction`, gRFC A36). A
    /// client has nowhere to send such a request and answers 503.
    Serve,
    /// Sent to a cluster that is chosen in a way which is not known here (xDS's `cluster_header`, or a
    /// plugin). A client leaves such a route out and asks the next one (gRFC A28). A server cannot:
    /// the next one may ask less of callers, so that the request ends here and is not served.
    Unknown,
}

/// How a request is sent on.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Forward {
    /// Where to.
    pub destinations: Destinations,
    /// The time for all tries and pauses together; `None`: no limit.
    pub timeout: Option<Duration>,
    /// No byte in either direction for this long ends the request; `None`: no limit.
    pub idle_timeout: Option<Duration>,
    /// What is tried again; `None`: nothing.
    pub retry: Option<RetryPolicy>,
    /// How the path is rewritten.
    pub path_rewrite: Option<PathRewrite>,
    /// The authority that is sent instead of the caller's.
    pub authority_rewrite: Option<Authority>,
    /// Whether each try sends the [host name](super::endpoint::Endpoint::hostname) of its endpoint as the
    /// authority, or host and port where the endpoint's address is a name (Envoy's `auto_host_rewrite`,
    /// gRFC A81). Where the endpoint has neither, what would be sent otherwise stays.
    pub endpoint_authority: bool,
    /// Who gets copies of the requests; the answers are thrown away.
    pub mirrors: Vec<Mirror>,
    /// Which requests go to the same endpoint.
    pub affinity: Affinity,
    /// Which protocols requests may switch to; others are answered with 403, as Envoy does.
    pub upgrades: Upgrades,
}

/// A cluster that gets copies of requests (Envoy's `RequestMirrorPolicy`, Istio's `mirrors`).
///
/// A copy is sent once, as the first try would be, with the host unchanged. It neither delays nor
/// fails the call: what cannot be copied within the mesh's bounds (256 copies under way; 64 KiB of
/// a body that the copy's endpoint has not read yet, 16 MiB of all) is not, and is counted in
/// `ClusterStats::mirrors_dropped`.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Mirror {
    /// The cluster's name.
    pub cluster: Arc<str>,
    /// The share of requests that is copied.
    pub share: Fraction,
}

/// Where a request may go: never empty, and the weights' sum is never zero.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Destinations {
    all: Vec<Destination>,
    total: NonZeroU32,
}

/// One destination.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Destination {
    /// The cluster's name.
    pub cluster: Arc<str>,
    /// Its share of the sum of all weights.
    pub weight: u32,
    /// Headers that are changed when it is chosen, before those of the route.
    pub headers: HeaderChanges,
    /// The authority that is sent when it is chosen, unless the route rewrites it too (Envoy's
    /// order: the route is applied last).
    pub authority_rewrite: Option<Authority>,
    /// Faults that are injected when it is chosen, in place of the route's.
    pub fault: OwnFault,
}

/// The faults of one destination (Envoy's `typed_per_filter_config` of a weighted cluster).
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub enum OwnFault {
    /// Those of the route.
    #[default]
    AsRoute,
    /// None, whatever the route says.
    Nothing,
    /// These; they inject something.
    This(Fault),
}

impl Destinations {
    /// A single destination.
    #[must_use]
    pub fn single(cluster: impl Into<Arc<str>>) -> Self {
        Self {
            all: vec![Destination {
                cluster: cluster.into(),
                weight: 1,
                headers: HeaderChanges::default(),
                authority_rewrite: None,
                fault: OwnFault::AsRoute,
            }],
            total: NonZeroU32::MIN,
        }
    }

    /// Weighted destinations; those of weight zero are dropped.
    ///
    /// `None` if nothing is left, or the sum exceeds `u32::MAX`.
    #[must_use]
    pub fn weighted(destinations: Vec<Destination>) -> Option<Self> {
        let mut all = destinations;
        all.retain(|destination| destination.weight > 0);
        let total = all
            .iter()
            .try_fold(0u32, |sum, one| sum.checked_add(one.weight))
            .and_then(NonZeroU32::new)?;
        Some(Self { all, total })
    }

    /// All destinations, in the order they were given.
    #[must_use]
    pub fn all(&self) -> &[Destination] {
        &self.all
    }

    /// Changes the header changes of each destination.
    #[cfg(feature = "xds")]
    pub(crate) fn map_headers(&mut self, change: impl Fn(HeaderChanges) -> HeaderChanges) {
        for destination in &mut self.all {
            destination.headers = change(std::mem::take(&mut destination.headers));
        }
    }

    /// Changes the faults of each destination, in their order.
    #[cfg(feature = "xds")]
    pub(crate) fn map_faults(&mut self, mut change: impl FnMut(OwnFault) -> OwnFault) {
        for destination in &mut self.all {
            destination.fault = change(std::mem::take(&mut destination.fault));
        }
    }

    /// The sum of all weights.
    #[must_use]
    pub fn total(&self) -> NonZeroU32 {
        self.total
    }

    /// The index of the destination for a draw from `0..total`; a larger draw gets the last one.
    #[must_use]
    pub fn index(&self, draw: u32) -> usize {
        let mut rest = draw;
        self.all
            .iter()
            .position(|one| {
                let hit = rest < one.weight;
                rest = rest.saturating_sub(one.weight);
                hit
            })
            .unwrap_or(self.all.len() - 1)
    }
}

/// How a path is rewritten; the query stays.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum PathRewrite {
    /// The whole path.
    Full(Box<str>),
    /// The prefix of this many bytes that the route matched.
    Prefix {
        /// The matched prefix, as the route has it.
        from: Box<str>,
        /// What stands there instead.
        to: Box<str>,
    },
    /// Every match of the expression; `\1` stands for the first group.
    Regex {
        /// What is looked for. It need not match the whole path.
        pattern: RewritePattern,
        /// What stands there instead, with `\0` to `\9`.
        to: Box<str>,
    },
}

/// An expression that is looked for anywhere in a path.
#[derive(Clone, Debug)]
pub struct RewritePattern {
    compiled: regex::Regex,
}

impl RewritePattern {
    /// Compiles a pattern in RE2 syntax.
    ///
    /// # Errors
    /// As [`Regex::new`].
    pub fn new(pattern: &str) -> Result<Self, super::matcher::InvalidRegex> {
        Regex::new(pattern)?;
        regex::RegexBuilder::new(pattern)
            .size_limit(1 << 18)
            .dfa_size_limit(1 << 20)
            .build()
            .map(|compiled| Self { compiled })
            .map_err(|error| super::matcher::InvalidRegex::Syntax(error.to_string()))
    }

    /// The compiled expression.
    #[must_use]
    pub fn compiled(&self) -> &regex::Regex {
        &self.compiled
    }
}

impl PartialEq for RewritePattern {
    fn eq(&self, other: &Self) -> bool {
        self.compiled.as_str() == other.compiled.as_str()
    }
}

impl Eq for RewritePattern {}

impl std::hash::Hash for RewritePattern {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.compiled.as_str().hash(state);
    }
}

/// Headers that are changed on the way to the endpoint and back.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct HeaderChanges {
    /// Of the request.
    pub request: Vec<HeaderChange>,
    /// Of the response.
    pub response: Vec<HeaderChange>,
}

/// One change.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum HeaderChange {
    /// One more value.
    Add(HeaderName, HeaderValue),
    /// This value, if there is none.
    AddIfAbsent(HeaderName, HeaderValue),
    /// No value.
    Remove(HeaderName),
    /// This value alone.
    Set(HeaderName, HeaderValue),
    /// This value alone, if there is one.
    SetIfPresent(HeaderName, HeaderValue),
}

/// An answer that the mesh gives itself.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct DirectResponse {
    /// The status.
    pub status: StatusCode,
    /// The body, at most 1 MiB.
    pub body: Bytes,
}

/// An answer that sends the caller elsewhere; what is `None` stays as the request has it.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: StatusCode,
    /// The scheme.
    pub scheme: Option<Scheme>,
    /// The host, without a port.
    pub host: Option<Box<str>>,
    /// The port.
    pub port: RedirectPort,
    /// The path.
    pub path: Option<PathRewrite>,
}

/// The port of a redirect; 80 of `http` and 443 of `https` are never written.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum RedirectPort {
    /// The request's, unless host or scheme change.
    #[default]
    Unchanged,
    /// The request's in any case (`FROM_REQUEST_PORT`).
    FromRequest,
    /// The scheme's default (`FROM_PROTOCOL_DEFAULT`).
    FromScheme,
    /// This one.
    Fixed(u16),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn destination(cluster: &str, weight: u32) -> Destination {
        Destination {
            cluster: cluster.into(),
            weight,
            headers: HeaderChanges::default(),
            authority_rewrite: None,
            fault: OwnFault::AsRoute,
        }
    }

    #[test]
    fn destinations_refuse_no_weight_and_overflow_and_drop_zeros() {
        assert!(Destinations::weighted(vec![]).is_none());
        assert!(Destinations::weighted(vec![destination("a", 0)]).is_none());
        let huge = vec![destination("a", u32::MAX), destination("b", 1)];
        assert!(Destinations::weighted(huge).is_none());
        let two = vec![
            destination("a", 90),
            destination("z", 0),
            destination("b", 10),
        ];
        let two = Destinations::weighted(two).unwrap();
        assert_eq!(two.all().len(), 2);
        assert_eq!(
            (two.index(0), two.index(89), two.index(90), two.index(99)),
            (0, 0, 1, 1)
        );
        assert_eq!(two.index(u32::MAX), 1);
    }

    #[test]
    fn domains_are_read_in_lower_case() {
        assert_eq!(Domain::parse("*"), Domain::Any);
        assert_eq!(Domain::parse("A.b:80"), Domain::Exact("a.b:80".into()));
        assert_eq!(Domain::parse("a.*"), Domain::Prefix("a.".into()));
    }
}
