//! The kinds of resources that are served, in the order in which they are pushed.
//!
//! The order is the protocol's ("make before break"): what is referred to goes before what refers
//! to it. It is the order of the variants, so that nothing else needs to know it.

use std::fmt;

/// A kind of resource, in push order.
///
/// ```
/// use meshwork::control::Kind;
///
/// assert!(Kind::Cluster < Kind::Endpoints && Kind::Listener < Kind::Routes);
/// let url = Kind::Cluster.type_url();
/// assert_eq!(url, "type.googleapis.com/envoy.config.cluster.v3.Cluster");
/// assert_eq!(Kind::from_url(url), Some(Kind::Cluster));
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Kind {
    /// Clusters (CDS).
    Cluster,
    /// Cluster load assignments (EDS).
    Endpoints,
    /// Secrets (SDS).
    Secret,
    /// Listeners (LDS).
    Listener,
    /// Scoped route configurations (SRDS).
    ScopedRoutes,
    /// Route configurations (RDS).
    Routes,
    /// Virtual hosts on demand (VHDS), in the delta variant only.
    VirtualHost,
    /// Extension configurations (ECDS).
    Extension,
    /// Runtime layers (RTDS).
    Runtime,
}

impl Kind {
    /// How many there are.
    pub(super) const COUNT: usize = 9;

    /// All of them, in push order.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Cluster,
        Self::Endpoints,
        Self::Secret,
        Self::Listener,
        Self::ScopedRoutes,
        Self::Routes,
        Self::VirtualHost,
        Self::Extension,
        Self::Runtime,
    ];

    /// The type URL of its resources.
    #[must_use]
    pub const fn type_url(self) -> &'static str {
        match self {
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::Endpoints => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Self::Secret => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            Self::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Self::ScopedRoutes => {
                "type.googleapis.com/envoy.config.route.v3.ScopedRouteConfiguration"
            }
            Self::Routes => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
            Self::VirtualHost => "type.googleapis.com/envoy.config.route.v3.VirtualHost",
            Self::Extension => "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
            Self::Runtime => "type.googleapis.com/envoy.service.runtime.v3.Runtime",
        }
    }

    /// The kind that a type URL names.
    #[must_use]
    pub fn from_url(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.type_url() == url)
    }

    /// One word for logs and metrics: the three letters of its discovery service.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Cluster => "CDS",
            Self::Endpoints => "EDS",
            Self::Secret => "SDS",
            Self::Listener => "LDS",
            Self::ScopedRoutes => "SRDS",
            Self::Routes => "RDS",
            Self::VirtualHost => "VHDS",
            Self::Extension => "ECDS",
            Self::Runtime => "RTDS",
        }
    }

    /// Whether a response of the state-of-the-world variant holds all of them, so that absence is
    /// removal, and whether a request without names asks for all.
    #[must_use]
    pub const fn is_whole(self) -> bool {
        matches!(self, Self::Cluster | Self::Listener | Self::ScopedRoutes)
    }

    pub(super) const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_and_urls_are_distinct_and_in_push_order() {
        for (at, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind.index(), at);
            assert_eq!(Kind::from_url(kind.type_url()), Some(kind));
            assert!(kind.type_url().starts_with("type.googleapis.com/"));
        }
        let order = [Kind::Cluster, Kind::Endpoints, Kind::Listener, Kind::Routes];
        assert!(order.is_sorted());
    }
}
