//! Messages and model against each other: what goes out comes in again, what is lost is in the
//! table, what is wrong is refused.

mod hostile;
mod istiod;
mod losses;
mod models;
#[allow(deprecated, reason = "control planes still write Envoy's older fields")]
mod rejects;
mod robust;
mod round_trip;

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use super::Kind;
use super::decode::Messages;
use super::resource::{Context, Decode, Decoded, Rejection};

static SERVER: LazyLock<Arc<str>> = LazyLock::new(|| "test:15010".into());
static VERSION: LazyLock<Arc<str>> = LazyLock::new(|| "1".into());
static PROVIDERS: LazyLock<BTreeSet<Arc<str>>> =
    LazyLock::new(|| BTreeSet::from(["default".into()]));

/// Decodes as the stream would, from a server that is not trusted.
fn decode(kind: Kind, bytes: &[u8]) -> Result<Decoded, Rejection> {
    decode_from(kind, bytes, false)
}

/// The same, from a server that the bootstrap trusts or does not (gRFC A81).
fn decode_from(kind: Kind, bytes: &[u8], trusted: bool) -> Result<Decoded, Rejection> {
    let context = Context {
        server: &SERVER,
        version: &VERSION,
        certificate_providers: &PROVIDERS,
        trusted,
    };
    Messages::default().decode(kind, bytes, context)
}
