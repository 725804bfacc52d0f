//! Messages as JSON, and back.
//!
//! Dumps show resources as they came, and files may hold resources as they go out; both want
//! protobuf's JSON of messages that are only known by the name of their type. So one descriptor set
//! of Envoy's API is part of the crate (`descriptor.bin`, made of the proto files that the crate
//! `envoy-types` ships; a test keeps the two equal), and messages are read by it. Serde on generated
//! code was rejected: it doubles what is compiled, and knows no type by its name.
//!
//! * [`print`] never fails and loses nothing: a type that is not in the set is shown in base64. What
//!   Envoy's API marks as sensitive is `[redacted]`, as in Envoy's own dumps, and so are values of
//!   headers that carry credentials.
//! * [`read`] takes names in `snake_case` and in `camelCase`, as protobuf says, refuses unknown
//!   fields, which protobuf does not, and tells all of them at once with their paths.
//! * [`conceal`] takes the same secrets out of a message that goes out as a message.
//! * Equal messages are equal bytes: the entries of maps are [in order](sorted), at any depth.

mod conceal;
#[cfg(feature = "control-plane")]
mod order;
mod print;
#[cfg(feature = "control-plane")]
mod read;

use std::collections::BTreeSet;
use std::sync::LazyLock;

use prost_reflect::{
    DescriptorPool, DynamicMessage, MessageDescriptor, ReflectMessage as _, Value,
};

use crate::model::words;

pub(crate) use conceal::conceal;
pub(crate) use print::print;
#[cfg(feature = "control-plane")]
pub(crate) use read::{Misfit, read};

const DESCRIPTORS: &[u8] = include_bytes!("descriptor.bin");

/// Decoded when it is first asked for: a process that prints nothing does not pay for it.
static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    // A test has decoded the same bytes.
    DescriptorPool::decode(DESCRIPTORS).unwrap_or_default()
});

/// Fields that Envoy's API marks as sensitive (`udpa.annotations.sensitive`), one a line. Whatever is in
/// them is shown as [`REDACTED`]. A test keeps the list equal to the proto files.
static SENSITIVE: LazyLock<BTreeSet<&str>> =
    LazyLock::new(|| include_str!("sensitive.txt").lines().collect());

/// What is shown in place of secrets.
const REDACTED: &str = "[redacted]";

/// The message that a type URL names, if it is known.
pub(crate) fn descriptor(type_url: &str) -> Option<MessageDescriptor> {
    let name = type_url.rsplit('/').next().unwrap_or_default();
    POOL.get_message_by_name(name)
}

/// Whether a message is a header whose value is for nobody.
fn is_secret_header(of: &DynamicMessage) -> bool {
    if of.descriptor().full_name() != "envoy.config.core.v3.HeaderValue" {
        return false;
    }
    let key = of.get_field_by_name("key");
    let key = key.as_deref().and_then(Value::as_str).unwrap_or_default();
    let name = http::HeaderName::try_from(key);
    name.is_ok_and(|name| words::is_secret(&name))
}

#[cfg(all(test, feature = "control-plane"))]
mod tests;
