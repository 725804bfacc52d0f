//! Where cryptography comes from.
//!
//! The provider is a value that every configuration is given. Whatever the application has installed
//! for the process, or another library has, changes nothing here.

use std::sync::{Arc, OnceLock};

use rustls::crypto::CryptoProvider;

/// aws-lc-rs where it is compiled in, which prefers the hybrid key exchange X25519MLKEM768; else
/// ring.
pub(super) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(standard())).clone()
}

/// Fills a buffer with bytes that nobody can foresee, or says that it could not.
pub(crate) fn fill(bytes: &mut [u8]) -> bool {
    provider().secure_random.fill(bytes).is_ok()
}

#[cfg(feature = "tls")]
fn standard() -> CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}

#[cfg(all(feature = "tls-ring", not(feature = "tls")))]
fn standard() -> CryptoProvider {
    rustls::crypto::ring::default_provider()
}

#[cfg(not(any(feature = "tls", feature = "tls-ring")))]
compile_error!("TLS needs a provider of cryptography: the feature `tls` or `tls-ring`");
