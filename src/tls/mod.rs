//! Identities, trust and encrypted connections.
//!
//! A peer is who its certificate says it is, if somebody whom we trust has said so. This module holds
//! both halves of that sentence and keeps them fresh: an [`Identity`] is a chain of certificates with its
//! key, a [`Trust`] says whose word counts for which trust domain, and [`Credentials`] is a handle on
//! the pair that whoever renews it publishes to and every handshake reads. A rotation is one store;
//! no connection is cut for it, and the next handshake presents the new certificate.
//!
//! # What is verified
//!
//! For identities of a mesh ([`Verification::Svid`]), all rules of the X509-SVID standard, read as
//! strictly as the strictest implementation reads them: exactly one URI name, which is a SPIFFE ID
//! with a path; a leaf that is no CA and can sign no certificate; key usage present and critical;
//! basic constraints present; a chain to a root *of the peer's own trust domain*, so that a
//! federated domain cannot speak for another; no revoked certificate on the way. Where a control plane
//! asks for the chain alone (gRFC A29), the same holds as soon as the trust knows domains (gRFC A87). For
//! other servers, the chain and the name. See [`Refusal`] for what a peer can be refused for.
//!
//! # What is deliberately absent
//!
//! * **Resumption.** A resumed session skips verification, and with it every rotation of trust and
//!   every revocation since. Tickets are neither issued nor kept.
//! * **Early data**, which a network can replay.
//! * **A process-wide provider of cryptography**: a library must not decide for the application. It
//!   is a value here: aws-lc-rs, or ring with the feature `tls-ring` alone.
//! * **A key log.** `SSLKEYLOGFILE` is not looked at.
//! * **rustls in the public API.** Its types stay in this folder, so that its next version is a
//!   matter of this folder.
//!
//! Keys are zeroized when their owner is dropped as far as the provider's types allow, and are in no
//! `Debug`, no log and no dump.
//!
//! # Example
//!
//! ```no_run
//! use meshwork::tls::{Bundle, Credentials, Identity, Trust};
//!
//! # fn example(chain: &[u8], key: &[u8], roots: &[u8]) -> Result<(), meshwork::tls::Unusable> {
//! let identity = Identity::from_pem(chain, key)?;
//! let trust = Trust::default().with_domain("cluster.local".parse().unwrap(), Bundle::from_pem(roots)?);
//! let credentials = Credentials::new(Some(identity), trust);
//! // later, from wherever the next certificate comes:
//! credentials.rotate(Identity::from_pem(chain, key)?);
//! # Ok(()) }
//! ```

mod authority;
mod bundle_map;
mod certificate;
mod client;
mod clock;
mod credentials;
mod csr;
mod files;
mod handshake;
mod identity;
mod materials;
mod pem;
mod plan;
mod provider;
mod refusal;
mod rewound;
mod server;
mod sniff;
mod source;
mod stream;
#[cfg(test)]
mod tests;
mod trust;
mod verifier;
mod verify;
#[cfg(feature = "spiffe")]
mod workload_api;

pub use authority::{Authority, CertificateRequest, Signed, Step, Unsigned};
pub use client::{Connector, Offer};
pub use clock::Clock;
pub use credentials::{Counts, Credentials};
pub use csr::CsrSource;
pub use files::FileSource;
pub use handshake::Handshaken;
pub use identity::Identity;
pub(crate) use materials::Materials;
#[cfg(feature = "xds")]
pub(crate) use materials::Secret;
pub use pem::Unusable;
#[cfg(feature = "control-plane")]
pub(crate) use provider::fill;
pub use refusal::{NotAnSvid, Refusal};
#[cfg(any(feature = "inbound", feature = "control-plane"))]
pub(crate) use rewound::Rewound;
pub(crate) use server::Callers;
pub use server::{Accepted, Acceptor, Unaccepted};
pub use source::Source;
pub use stream::TlsStream;
pub use trust::{Bundle, Trust};
#[cfg(feature = "spiffe")]
pub use workload_api::WorkloadApi;

use crate::model::security::Verification;
