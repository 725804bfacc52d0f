//! The kinds of resources that are asked for.

use std::fmt;

/// A kind of resource, in the order in which one leads to the next.
///
/// ```
/// # #[cfg(feature = "xds")] {
/// use meshwork::source::xds::Kind;
///
/// let url = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
/// assert_eq!(Kind::of_type_url(url), Some(Kind::Cluster));
/// assert_eq!(Kind::Cluster.type_url(), url);
/// # }
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    /// `envoy.config.listener.v3.Listener`: where a name leads, or what a server does (LDS).
    Listener,
    /// `envoy.config.route.v3.RouteConfiguration` (RDS).
    RouteConfiguration,
    /// `envoy.config.cluster.v3.Cluster` (CDS).
    Cluster,
    /// `envoy.config.endpoint.v3.ClusterLoadAssignment` (EDS).
    Endpoints,
    /// `envoy.extensions.transport_sockets.tls.v3.Secret` (SDS).
    Secret,
}

impl Kind {
    /// Every kind, in the order in which one leads to the next.
    pub const ALL: [Self; 5] = [
        Self::Listener,
        Self::RouteConfiguration,
        Self::Cluster,
        Self::Endpoints,
        Self::Secret,
    ];

    /// What the protocol calls it.
    #[must_use]
    pub const fn type_url(self) -> &'static str {
        match self {
            Self::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Self::RouteConfiguration => {
                "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
            }
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::Endpoints => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Self::Secret => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
        }
    }

    /// The kind that the protocol calls so; `None` for one that is not known here.
    #[must_use]
    pub fn of_type_url(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.type_url() == url)
    }

    /// The message's name, which stands in `xdstp` names.
    #[must_use]
    pub fn message(self) -> &'static str {
        let url = self.type_url();
        url.split_once('/').map_or(url, |(_, message)| message)
    }

    /// Whether a state-of-the-world response holds every resource of the kind, so that one that is
    /// not in it does not exist any more. Of the other kinds a response holds what changed.
    #[must_use]
    pub const fn is_complete(self) -> bool {
        match self {
            Self::Listener | Self::Cluster => true,
            Self::RouteConfiguration | Self::Endpoints | Self::Secret => false,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Listener => "listener",
            Self::RouteConfiguration => "route configuration",
            Self::Cluster => "cluster",
            Self::Endpoints => "endpoints",
            Self::Secret => "secret",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_found_by_its_type_url_and_no_other() {
        for kind in Kind::ALL {
            assert_eq!(Kind::of_type_url(kind.type_url()), Some(kind));
            assert!(kind.type_url().ends_with(kind.message()));
        }
        for url in [
            "",
            "envoy.config.cluster.v3.Cluster",
            "type.googleapis.com/",
        ] {
            assert_eq!(Kind::of_type_url(url), None);
        }
        let complete = Kind::ALL.into_iter().filter(|kind| kind.is_complete());
        assert!(complete.eq([Kind::Listener, Kind::Cluster]));
    }
}
