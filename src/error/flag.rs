//! What an access log of Envoy would show of a failure.

use std::fmt;

/// Envoy's response flags, as far as a client library can raise them.
///
/// The letters are those of Envoy's `%RESPONSE_FLAGS%`.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Flag {
    /// `DI`: a delay was injected.
    DelayInjected,
    /// `DC`: the caller went away before the end of the response.
    DownstreamConnectionTermination,
    /// `DO`: the control plane wants this share of the requests dropped.
    DropOverload,
    /// `FI`: an abort was injected.
    FaultInjected,
    /// `LR`: reset by this side.
    LocalReset,
    /// `NC`: the route's cluster does not exist.
    NoCluster,
    /// `NR`: no route.
    NoRoute,
    /// `RL`: a local rate limit.
    RateLimited,
    /// `SI`: idle for too long.
    StreamIdle,
    /// `UC`: the connection to the endpoint ended.
    UpstreamConnectionTermination,
    /// `UF`: no connection to the endpoint.
    UpstreamConnectionFailure,
    /// `UH`: no healthy endpoint.
    NoHealthyUpstream,
    /// `UO`: a limit was reached.
    UpstreamOverflow,
    /// `UR`: the endpoint reset the stream.
    UpstreamRemoteReset,
    /// `URX`: no retry was left.
    UpstreamRetryLimitExceeded,
    /// `UT`: a timeout.
    UpstreamRequestTimeout,
}

impl Flag {
    /// Envoy's letters for this flag.
    ///
    /// ```
    /// assert_eq!(meshwork::Flag::NoRoute.code(), "NR");
    /// ```
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::DelayInjected => "DI",
            Self::DownstreamConnectionTermination => "DC",
            Self::DropOverload => "DO",
            Self::FaultInjected => "FI",
            Self::LocalReset => "LR",
            Self::NoCluster => "NC",
            Self::NoRoute => "NR",
            Self::RateLimited => "RL",
            Self::StreamIdle => "SI",
            Self::UpstreamConnectionTermination => "UC",
            Self::UpstreamConnectionFailure => "UF",
            Self::NoHealthyUpstream => "UH",
            Self::UpstreamOverflow => "UO",
            Self::UpstreamRemoteReset => "UR",
            Self::UpstreamRetryLimitExceeded => "URX",
            Self::UpstreamRequestTimeout => "UT",
        }
    }
}

impl fmt::Display for Flag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}
