//! One resource as it goes out: encoded once, its bytes shared by every stream.
//!
//! A server with ten thousand streams must not encode a cluster ten thousand times, nor hold it so
//! often. So a resource is encoded when it is made, into the bytes of the field of a response, and
//! a response is a list of such pieces. One buffer serves both variants of the protocol: in
//! `DeltaDiscoveryResponse` the field `resources` (2) holds a `Resource` whose own field `resource`
//! (also 2) is the `Any`, and in `DiscoveryResponse` the field `resources` (2 as well) is that
//! `Any`. With the `Any` last in the wrapper, the state-of-the-world form is a suffix of the delta
//! form, tag included.
//!
//! The version of a resource is a hash of its content: equal content has an equal version after a
//! restart and in every replica, so that a client that moves to another server is sent only what
//! differs.

use std::hash::Hasher as _;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use twox_hash::XxHash64;

use super::kind::Kind;
use super::references;
use super::variant::{self, Constraints};
use crate::protobuf;

/// What a variant is wrapped in.
const RESOURCE: &str = "type.googleapis.com/envoy.service.discovery.v3.Resource";

/// A resource, encoded. It is immutable, and equal content means an equal [`Encoded::hash`].
///
/// ```
/// use meshwork::control::{Encoded, Kind};
///
/// let one = Encoded::new(Kind::Cluster, "catalog", b"\x0a\x07catalog");
/// let same = Encoded::new(Kind::Cluster, "catalog", b"\x0a\x07catalog");
/// assert_eq!(one.version(), same.version());
/// assert_eq!(one.body(), b"\x0a\x07catalog");
/// ```
#[derive(Clone, Debug)]
pub struct Encoded {
    kind: Kind,
    name: Arc<str>,
    hash: u64,
    version: Arc<str>,
    labelled: bool,
    ttl: Option<Duration>,
    aliases: Box<[Arc<str>]>,
    references: Box<[(Kind, Arc<str>)]>,
    /// Made when it is asked for: few clients need it.
    by_host: OnceLock<Box<[u64]>>,
    variant: Option<Box<Variant>>,
    /// `resources` of a `DeltaDiscoveryResponse`, tag and length included.
    frame: Bytes,
    /// Where in `frame` the `Any` begins, tag and length included.
    any: usize,
    /// Where in `frame` the message itself begins.
    body: usize,
}

/// What only one variant of several has.
#[derive(Clone, Debug)]
struct Variant {
    constraints: Constraints,
    /// The field of a `DiscoveryResponse`: an `Any` of a `Resource`, which alone says which variant it is.
    wrapped: Bytes,
}

impl Encoded {
    /// A resource of a kind, from the bytes of its message.
    #[must_use]
    pub fn new(kind: Kind, name: impl Into<Arc<str>>, body: &[u8]) -> Self {
        Parts::new(kind, name.into(), body).finish()
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// A hash of its kind, name, content, time to live and aliases.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// What clients are told as its version: the hash in hexadecimal, or the label that its file
    /// gave it. Whether it is sent never depends on it.
    #[must_use]
    pub fn version(&self) -> &Arc<str> {
        &self.version
    }

    /// The message, without the `Any` around it.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.frame[self.body..]
    }

    /// After how long without a renewal a client of the delta variant forgets it.
    #[must_use]
    pub fn ttl(&self) -> Option<Duration> {
        self.ttl
    }

    /// The bytes that it is held in.
    pub(super) fn size(&self) -> usize {
        self.frame.len()
    }

    /// Whether it is the same in all that is told of it.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.kind == other.kind && self.frame == other.frame
    }

    pub(super) fn is_labelled(&self) -> bool {
        self.labelled
    }

    pub(super) fn aliases(&self) -> &[Arc<str>] {
        &self.aliases
    }

    /// What it refers to, as far as the order of pushes depends on it.
    pub(super) fn references(&self) -> &[(Kind, Arc<str>)] {
        &self.references
    }

    /// Of a route configuration, [which clusters its virtual hosts refer to](references::by_host).
    pub(super) fn by_host(&self) -> &[u64] {
        self.by_host
            .get_or_init(|| references::by_host(self.body()))
    }

    /// What it asks of the parameters of a subscription, if it is one variant of several.
    pub(super) fn constraints(&self) -> Option<&Constraints> {
        self.variant.as_ref().map(|variant| &variant.constraints)
    }

    /// The field of a `DeltaDiscoveryResponse`.
    pub(super) fn delta(&self) -> Bytes {
        self.frame.clone()
    }

    /// The field of a `DiscoveryResponse`.
    pub(super) fn sotw(&self) -> Bytes {
        match &self.variant {
            Some(variant) => variant.wrapped.clone(),
            None => self.frame.slice(self.any..),
        }
    }
}

/// What a resource is made of.
#[derive(Clone, Debug)]
pub(super) struct Parts<'a> {
    pub(super) kind: Kind,
    pub(super) name: Arc<str>,
    pub(super) body: &'a [u8],
    /// The version that its file gave it.
    pub(super) label: Option<Arc<str>>,
    pub(super) ttl: Option<Duration>,
    pub(super) aliases: Vec<Arc<str>>,
    pub(super) references: Vec<(Kind, Arc<str>)>,
    pub(super) constraints: Option<Constraints>,
}

impl<'a> Parts<'a> {
    pub(super) fn new(kind: Kind, name: Arc<str>, body: &'a [u8]) -> Self {
        Self {
            kind,
            name,
            body,
            label: None,
            ttl: None,
            aliases: Vec::new(),
            references: Vec::new(),
            constraints: None,
        }
    }

    /// Encodes it.
    pub(super) fn finish(self) -> Encoded {
        let hash = self.hash();
        let labelled = self.label.is_some();
        let version: Arc<str> = self.label.unwrap_or_else(|| format!("{hash:016x}").into());
        let mut any = BytesMut::new();
        text(&mut any, 1, self.kind.type_url());
        tag(&mut any, 2);
        protobuf::put(&mut any, self.body.len() as u64);
        let mut head = BytesMut::new();
        text(&mut head, 1, &version);
        match &self.constraints {
            None => text(&mut head, 3, &self.name),
            of @ Some(_) => {
                let name = variant::resource_name(&self.name, of.as_ref());
                head.extend_from_slice(&framed(8, &name));
            }
        }
        for alias in &self.aliases {
            text(&mut head, 4, alias);
        }
        if let Some(ttl) = self.ttl {
            duration(&mut head, 6, ttl);
        }
        tag(&mut head, 2);
        let any_length = any.len() + self.body.len();
        let mut any_prefix = BytesMut::new();
        protobuf::put(&mut any_prefix, any_length as u64);
        let length = head.len() + any_prefix.len() + any_length;
        let mut frame = BytesMut::with_capacity(length + 12);
        tag(&mut frame, 2);
        protobuf::put(&mut frame, length as u64);
        frame.extend_from_slice(&head);
        // The tag of the field `resource` is the last byte of the head.
        let at = frame.len() - 1;
        frame.extend_from_slice(&any_prefix);
        frame.extend_from_slice(&any);
        let body = frame.len();
        frame.extend_from_slice(self.body);
        let variant = self.constraints.map(|constraints| {
            let mut any = BytesMut::new();
            text(&mut any, 1, RESOURCE);
            any.extend_from_slice(&framed(2, &frame[frame.len() - length..]));
            let wrapped = framed(2, &any);
            Box::new(Variant {
                constraints,
                wrapped,
            })
        });
        let mut references = self.references;
        references.sort();
        references.dedup();
        Encoded {
            kind: self.kind,
            name: self.name,
            hash,
            version,
            labelled,
            ttl: self.ttl,
            aliases: self.aliases.into(),
            references: references.into(),
            by_host: OnceLock::new(),
            variant,
            frame: frame.freeze(),
            any: at,
            body,
        }
    }

    fn hash(&self) -> u64 {
        // Lengths before texts, all as little-endian bytes: the same on every machine.
        let mut hasher = XxHash64::with_seed(0);
        let mut number = |value: u64| hasher.write(&value.to_le_bytes());
        number(self.kind.index() as u64);
        let ttl = self.ttl.unwrap_or_default();
        number(ttl.as_secs());
        number(u64::from(ttl.subsec_nanos()));
        for part in self.aliases.iter().chain([&self.name]) {
            hasher.write(&(part.len() as u64).to_le_bytes());
            hasher.write(part.as_bytes());
        }
        if let Some(constraints) = &self.constraints {
            let message = constraints.message();
            hasher.write(&(message.len() as u64).to_le_bytes());
            hasher.write(message);
        }
        hasher.write(self.body);
        hasher.finish()
    }
}

/// The tag of a length-delimited field below 16.
pub(super) fn tag(out: &mut BytesMut, field: u8) {
    out.put_u8(field << 3 | 2);
}

/// A field with a length.
pub(super) fn framed(field: u8, inner: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(inner.len() + 6);
    tag(&mut out, field);
    protobuf::put(&mut out, inner.len() as u64);
    out.extend_from_slice(inner);
    out.freeze()
}

/// A string field, left out when it is empty, as proto3 has it.
pub(super) fn text(out: &mut BytesMut, field: u8, value: &str) {
    if !value.is_empty() {
        tag(out, field);
        protobuf::put(out, value.len() as u64);
        out.extend_from_slice(value.as_bytes());
    }
}

/// A `google.protobuf.Duration`.
pub(super) fn duration(out: &mut BytesMut, field: u8, value: Duration) {
    let mut inner = BytesMut::new();
    if value.as_secs() > 0 {
        inner.put_u8(1 << 3);
        protobuf::put(&mut inner, value.as_secs());
    }
    if value.subsec_nanos() > 0 {
        inner.put_u8(2 << 3);
        protobuf::put(&mut inner, u64::from(value.subsec_nanos()));
    }
    tag(out, field);
    protobuf::put(out, inner.len() as u64);
    out.extend_from_slice(&inner);
}

/// The name under which two spellings of one `xdstp:` resource are the same: its context
/// parameters sorted (xRFC TP1). Other names are themselves.
pub(super) fn canonical(name: &str) -> std::borrow::Cow<'_, str> {
    let parameters = variant::parameters(name);
    if !parameters.is_empty() {
        return format!("{}{parameters}", canonical(variant::name(name))).into();
    }
    let Some((path, context)) = name
        .split_once('?')
        .filter(|_| name.starts_with("xdstp://"))
    else {
        return name.into();
    };
    // Directives after `#` are no part of the identity, and stay where they are.
    let (context, rest) = match context.split_once('#') {
        Some((context, _)) => (context, &context[context.len()..]),
        None => (context, ""),
    };
    let mut parameters: Vec<&str> = context.split('&').collect();
    parameters.sort_unstable();
    format!("{path}?{}{rest}", parameters.join("&")).into()
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::service::discovery::v3::{
        DeltaDiscoveryResponse, DiscoveryResponse,
    };
    use prost::Message as _;

    use super::*;

    #[test]
    fn both_forms_are_one_buffer_and_decode() {
        let mut parts = Parts::new(Kind::Endpoints, "a name".into(), b"\x0a\x01x");
        parts.ttl = Some(Duration::from_millis(1_500));
        parts.aliases = vec!["other".into()];
        let encoded = parts.finish();
        let delta = DeltaDiscoveryResponse::decode(encoded.delta()).expect("delta decodes");
        let [resource] = &delta.resources[..] else {
            panic!("{delta:?}");
        };
        assert_eq!(
            (&*resource.name, &*resource.aliases[0]),
            ("a name", "other")
        );
        assert_eq!(resource.version, &**encoded.version());
        let ttl = resource.ttl.expect("a ttl");
        assert_eq!((ttl.seconds, ttl.nanos), (1, 500_000_000));
        let sotw = DiscoveryResponse::decode(encoded.sotw()).expect("sotw decodes");
        assert_eq!(Some(&sotw.resources[0]), resource.resource.as_ref());
        assert_eq!(sotw.resources[0].type_url, Kind::Endpoints.type_url());
        assert_eq!(sotw.resources[0].value, encoded.body());
        let (whole, part) = (encoded.delta(), encoded.sotw());
        assert_eq!(
            whole.as_ptr_range().end,
            part.as_ptr_range().end,
            "the bytes are shared"
        );
    }

    #[test]
    fn large_bodies_decode() {
        let body = vec![0x0a; 70_000];
        let encoded = Encoded::new(Kind::Cluster, "x".repeat(300), &body);
        let delta = DeltaDiscoveryResponse::decode(encoded.delta()).expect("delta decodes");
        let any = delta.resources[0].resource.as_ref().expect("a resource");
        assert_eq!(any.value, body);
    }

    #[test]
    fn d11_versions_are_of_the_content_and_labels_take_no_part() {
        let plain = Encoded::new(Kind::Cluster, "a", b"1");
        let mut parts = Parts::new(Kind::Cluster, "a".into(), b"1");
        parts.label = Some("v7".into());
        let labelled = parts.finish();
        assert_eq!(plain.hash(), labelled.hash());
        assert_eq!(&**labelled.version(), "v7");
        for other in [
            Encoded::new(Kind::Endpoints, "a", b"1"),
            Encoded::new(Kind::Cluster, "b", b"1"),
            Encoded::new(Kind::Cluster, "a", b"2"),
        ] {
            assert_ne!(plain.version(), other.version());
        }
        let again = Encoded::new(Kind::Cluster, "a", b"1");
        assert_eq!(plain.version(), again.version());
        assert_eq!(plain.version().len(), 16);
    }

    #[test]
    fn d21_context_parameters_have_no_order() {
        let one = "xdstp://auth/envoy.config.cluster.v3.Cluster/a?y=2&x=1";
        let two = "xdstp://auth/envoy.config.cluster.v3.Cluster/a?x=1&y=2";
        assert_eq!(canonical(one), canonical(two));
        assert_eq!(canonical("plain?b&a"), "plain?b&a");
    }
}
