//! The flags of the authority beside the xDS server.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use meshwork::control::{Ca, JoinTokens, Kubernetes};
use meshwork::model::identity::{SpiffeId, TrustDomain};
use meshwork::tls::Authority;

use crate::duration;

/// Sign identities for callers who prove who they are; see `meshwork ca`.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Authority")]
pub(super) struct CaFlags {
    /// The file of the authority; it is made if there is none. The port has TLS then: callers without a
    /// certificate may ask for one, and for nothing else
    #[arg(long, value_name = "FILE", conflicts_with = "tls_certificate")]
    ca: Option<PathBuf>,

    /// The trust domain of a new authority
    #[arg(
        long,
        value_name = "DOMAIN",
        default_value = "cluster.local",
        requires = "ca"
    )]
    ca_trust_domain: TrustDomain,

    /// Namespace and service account of this server in its own certificate
    #[arg(
        long,
        value_name = "NAMESPACE/SERVICEACCOUNT",
        default_value = "mesh-system/meshwork",
        requires = "ca"
    )]
    ca_identity: String,

    /// A DNS name in this server's certificate; may be repeated [default: localhost]
    #[arg(long = "ca-name", value_name = "NAME", requires = "ca")]
    ca_names: Vec<String>,

    /// The file of join tokens: lines of TOKEN NAMESPACE/SERVICEACCOUNT
    #[arg(long, value_name = "FILE", requires = "ca")]
    ca_join_tokens: Option<PathBuf>,

    /// The file of the public keys (JWKS) of a Kubernetes cluster, whose service-account tokens are
    /// believed then
    #[arg(long, value_name = "FILE", requires_all = ["ca", "ca_jwt_issuer"])]
    ca_jwks: Option<PathBuf>,

    /// The issuer of those tokens
    #[arg(long, value_name = "ISSUER", requires = "ca_jwks")]
    ca_jwt_issuer: Option<String>,

    /// The audience of those tokens
    #[arg(
        long,
        value_name = "AUDIENCE",
        default_value = "istio-ca",
        requires = "ca_jwks"
    )]
    ca_jwt_audience: String,

    /// How long certificates are valid, if a caller does not ask for less
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = duration::parse, requires = "ca")]
    ca_lifetime: Duration,
}

impl CaFlags {
    /// The authority, if one is wanted.
    ///
    /// # Errors
    /// Its file cannot be used or made, or the flags make no identity.
    pub(super) fn authority(self) -> anyhow::Result<Option<Ca>> {
        let Some(path) = self.ca else {
            return Ok(None);
        };
        let authority = if path.exists() {
            Authority::load(&path)?
        } else {
            let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
            Authority::create(&path, self.ca_trust_domain, now)?
        };
        let (namespace, account) = self.ca_identity.split_once('/').unwrap_or_default();
        let domain = authority.trust_domain();
        let id = SpiffeId::of_service_account(domain, namespace, account).map_err(|error| {
            anyhow::anyhow!(
                "--ca-identity {:?} is no NAMESPACE/SERVICEACCOUNT: {error}",
                self.ca_identity
            )
        })?;
        let names = match self.ca_names.is_empty() {
            true => vec!["localhost".to_owned()],
            false => self.ca_names,
        };
        let mut ca = Ca::new(path, authority, id)
            .with_names(names)
            .with_lifetime(self.ca_lifetime);
        if let Some(tokens) = self.ca_join_tokens {
            ca = ca.with_join_tokens(JoinTokens::new(tokens));
        }
        if let (Some(keys), Some(issuer)) = (self.ca_jwks, self.ca_jwt_issuer) {
            ca = ca.with_kubernetes(Kubernetes::new(keys, issuer, self.ca_jwt_audience));
        }
        Ok(Some(ca))
    }
}
