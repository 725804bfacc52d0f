//! The seam between the protocol and the messages: bytes of one resource become a valid value, or
//! all their faults.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use super::Kind;
use super::filters::{Chain, Said};
use super::server::Template;
use crate::model;
use crate::tls::Secret;

/// Stands before the names of secrets among those of certificates: no provider of a bootstrap is called
/// so.
pub(crate) const SECRETS: &str = "\0secret/";

/// A resource that is valid by itself. What it names need not exist.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Resource {
    /// A cluster, and its endpoints where the message contains them (`STATIC`, DNS).
    Cluster {
        cluster: Arc<model::Cluster>,
        endpoints: Option<Arc<model::Endpoints>>,
        /// Whether its load is reported to the server that it came from.
        reports: bool,
    },
    Endpoints(Arc<model::Endpoints>),
    /// A listener, and the filters that it puts over routes which are a resource of their own.
    Listener {
        listener: Arc<model::Listener>,
        chain: Arc<Chain>,
    },
    /// A certificate with its key, or roots.
    Secret(Secret),
    /// A listener of a server.
    Server(Arc<Template>),
    /// Routes as they are without a listener, and what they say of its filters.
    RouteConfiguration {
        routes: Arc<model::RouteConfiguration>,
        said: Arc<Said>,
    },
}

/// What one resource's bytes are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Decoded {
    /// The name in the message, by which it was asked for.
    pub(crate) name: Arc<str>,
    pub(crate) resource: Resource,
}

/// Why one resource is refused.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Rejection {
    /// Which one it is, if that can be read at all.
    pub(crate) name: Option<Arc<str>>,
    /// All faults, at least one.
    pub(crate) faults: Vec<Fault>,
}

/// One fault of a resource.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Fault {
    /// The field, from the root of the message: `virtual_hosts[0].routes[3].match.safe_regex`.
    pub(crate) path: String,
    /// What was found and what is allowed.
    pub(crate) text: String,
}

/// What decoding needs to know beside the bytes.
#[derive(Clone, Copy, Debug)]
#[allow(
    dead_code,
    reason = "messages of TLS are what asks for providers and trust"
)]
pub(crate) struct Context<'a> {
    /// Who sent it (the server's URI) and in which version, for the value's origin.
    pub(crate) server: &'a Arc<str>,
    pub(crate) version: &'a Arc<str>,
    /// The instances of `certificate_providers` that the bootstrap has: a resource that names
    /// another one is refused.
    pub(crate) certificate_providers: &'a BTreeSet<Arc<str>>,
    /// Whether the bootstrap calls the server trusted (`trusted_xds_server`, gRFC A81).
    pub(crate) trusted: bool,
}

/// Makes values of messages.
pub(crate) trait Decode: fmt::Debug + Send + Sync {
    /// Decodes the `value` of the `Any` in which a resource of this kind came. Any bytes are
    /// survived.
    fn decode(&self, kind: Kind, bytes: &[u8], context: Context<'_>) -> Result<Decoded, Rejection>;
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            return f.write_str(&self.text);
        }
        write!(f, "{}: {}", self.path, self.text)
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.faults.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            fault.fmt(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rejection_says_all_its_faults_with_their_paths() {
        let fault = |path: &str, text: &str| Fault {
            path: path.into(),
            text: text.into(),
        };
        let rejection = Rejection {
            name: None,
            faults: vec![
                fault("routes[3].match", "is missing"),
                fault("", "not protobuf"),
            ],
        };
        assert_eq!(
            rejection.to_string(),
            "routes[3].match: is missing; not protobuf"
        );
    }
}
