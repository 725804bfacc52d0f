//! One expression over a request.

use super::super::matcher::{HeaderMatcher, StringMatcher};
use super::{Network, PathPattern, PeerPattern, PortRange};

/// A question about a request, its caller and its token.
///
/// Texts are compared as [`StringMatcher`] says. "There is something" is a prefix of nothing:
/// `StringMatcher::Prefix("")` matches every text, and an attribute that is absent matches no text.
///
/// Expressions are as deep as their source made them; sources bound the depth.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Condition {
    /// All hold; without any it holds.
    All(Vec<Self>),
    /// One holds; without any it does not.
    Any(Vec<Self>),
    /// One of the token's audiences (`aud`) is this.
    Audience(StringMatcher),
    /// A claim of the token has this value, or is a list that has it.
    Claim {
        /// The names that lead to the claim, from the outermost.
        path: Vec<Box<str>>,
        /// What it should be.
        value: StringMatcher,
    },
    /// The connection is encrypted, whoever the peer is.
    Encrypted,
    /// The address that the connection arrived at.
    DestinationIp(Network),
    /// The port that the connection arrived at.
    DestinationPort(PortRange),
    /// A header or pseudo-header.
    Header(HeaderMatcher),
    /// The authority, whatever the case of its letters.
    Host(StringMatcher),
    /// The method.
    Method(StringMatcher),
    /// It does not hold.
    Not(Box<Self>),
    /// The path, without the query.
    Path(PathPattern),
    /// The path, and behind a question mark the query if there is one (Envoy's header `:path`).
    PathAndQuery(StringMatcher),
    /// Who the peer is, as its certificate proves.
    Peer(PeerPattern),
    /// The token's authorized party (`azp`).
    Presenter(StringMatcher),
    /// The address of the client, as far as it is believed: that of the connection, unless
    /// proxies before this server are trusted.
    RemoteIp(Network),
    /// Who the token is of: `iss`, a slash, `sub`.
    RequestPrincipal(StringMatcher),
    /// The server name that the peer asked for in TLS.
    Sni(StringMatcher),
    /// The address that the connection comes from.
    SourceIp(Network),
    /// A claim of the token has this value, as Envoy compares what its filter of tokens leaves in a
    /// request's metadata: each kind of value for itself.
    TokenMetadata {
        /// The name of the claims among the metadata, which is that of
        /// [the rule of the token](crate::model::token::TokenRule::metadata).
        payload: Box<str>,
        /// The names that lead to the claim, from the outermost.
        path: Vec<Box<str>>,
        /// What it should be.
        value: ClaimMatcher,
    },
}

/// What a claim should be (Envoy's `ValueMatcher`).
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum ClaimMatcher {
    /// One of these; without any it is nothing.
    Any(Vec<Self>),
    /// This boolean.
    Bool(bool),
    /// A list with a text that is this.
    Item(StringMatcher),
    /// Whatever it is.
    Present,
    /// A text that is this.
    Text(StringMatcher),
}

impl Condition {
    /// Holds for every request.
    #[must_use]
    pub fn always() -> Self {
        Self::All(Vec::new())
    }

    /// Holds for no request.
    #[must_use]
    pub fn never() -> Self {
        Self::Any(Vec::new())
    }

    /// The same of a request without token metadata.
    #[cfg(feature = "xds")]
    pub(crate) fn without_token_metadata(self) -> Self {
        let all = |all: Vec<Self>| {
            all.into_iter()
                .map(Self::without_token_metadata)
                .collect::<Vec<_>>()
        };
        match self {
            Self::All(inner) => Self::All(all(inner)),
            Self::Any(inner) => Self::Any(all(inner)),
            Self::Not(inner) => inner.without_token_metadata().not(),
            Self::TokenMetadata { .. } => Self::never(),
            leaf @ (Self::Audience(_)
            | Self::Claim { .. }
            | Self::DestinationIp(_)
            | Self::DestinationPort(_)
            | Self::Encrypted
            | Self::Header(_)
            | Self::Host(_)
            | Self::Method(_)
            | Self::Path(_)
            | Self::PathAndQuery(_)
            | Self::Peer(_)
            | Self::Presenter(_)
            | Self::RemoteIp(_)
            | Self::RequestPrincipal(_)
            | Self::Sni(_)
            | Self::SourceIp(_)) => leaf,
        }
    }

    /// The opposite.
    #[must_use]
    #[expect(
        clippy::should_implement_trait,
        reason = "the name of the question, not the operator"
    )]
    pub fn not(self) -> Self {
        Self::Not(Box::new(self))
    }
}
