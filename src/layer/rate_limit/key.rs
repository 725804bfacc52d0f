//! What a request is counted under.

use std::borrow::Cow;
use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};

use http::{Extensions, HeaderMap, HeaderName, Method, Request, Uri};

/// A request without its body: what a key can be made of.
///
/// ```
/// use meshwork::layer::rate_limit::Head;
///
/// let request = http::Request::get("/items").body("whatever")?;
/// assert_eq!(Head::of(&request).uri.path(), "/items");
/// # Ok::<(), http::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// The method.
    pub method: &'a Method,
    /// The target.
    pub uri: &'a Uri,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// What layers before have put there, such as the peer's identity.
    pub extensions: &'a Extensions,
}

/// Where the key of a request comes from, and the seed under which it is hashed.
pub(super) struct Source {
    kind: Kind,
    /// Seeded by the operating system, not by an injected `Random`: nothing that a test sees
    /// depends on it but the chance of a collision (2^-64 for two keys), and a seed that could be
    /// guessed would let a caller choose keys that share the bucket of another.
    hash: RandomState,
}

enum Kind {
    Header(HeaderName),
    Function(Box<Function>),
}

type Function = dyn for<'a> Fn(Head<'a>) -> Option<Cow<'a, [u8]>> + Send + Sync;

impl<'a> Head<'a> {
    /// The head of this request.
    pub fn of<B>(request: &'a Request<B>) -> Self {
        Self {
            method: request.method(),
            uri: request.uri(),
            headers: request.headers(),
            extensions: request.extensions(),
        }
    }
}

impl Source {
    pub(super) fn header(name: HeaderName) -> Self {
        Self::new(Kind::Header(name))
    }

    pub(super) fn function<F>(key: F) -> Self
    where
        F: for<'a> Fn(Head<'a>) -> Option<Cow<'a, [u8]>> + Send + Sync + 'static,
    {
        Self::new(Kind::Function(Box::new(key)))
    }

    fn new(kind: Kind) -> Self {
        Self {
            kind,
            hash: RandomState::new(),
        }
    }

    /// The hash of the request's key, if it has one.
    pub(super) fn fingerprint(&self, head: Head<'_>) -> Option<u64> {
        let mut hasher = self.hash.build_hasher();
        match &self.kind {
            Kind::Header(name) => {
                let mut values = head.headers.get_all(name).iter().peekable();
                values.peek()?;
                for value in values {
                    // The length keeps `ab, c` and `a, bc` apart.
                    hasher.write_usize(value.len());
                    hasher.write(value.as_bytes());
                }
            }
            Kind::Function(key) => hasher.write(&key(head)?),
        }
        Some(hasher.finish())
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Header(name) => f.debug_tuple("Header").field(name).finish(),
            Kind::Function(_) => f.write_str("Function"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(values: &[&str]) -> Request<()> {
        let mut request = Request::new(());
        for value in values {
            request
                .headers_mut()
                .append("x-tenant", value.parse().unwrap());
        }
        request
    }

    #[test]
    fn a_key_is_all_values_of_the_header_in_order() {
        let source = Source::header(HeaderName::from_static("x-tenant"));
        let print = |values: &[&str]| source.fingerprint(Head::of(&request(values)));
        assert_eq!(print(&[]), None);
        assert_eq!(print(&["a"]), print(&["a"]));
        let different = [
            print(&["a"]),
            print(&["b"]),
            print(&[""]),
            print(&["a", "b"]),
            print(&["b", "a"]),
            print(&["ab", "c"]),
            print(&["a", "bc"]),
        ];
        for (index, one) in different.iter().enumerate() {
            assert!(one.is_some());
            assert!(!different[..index].contains(one), "{index}");
        }
    }

    #[test]
    fn rules_hash_the_same_key_differently() {
        let name = HeaderName::from_static("x-tenant");
        let (one, other) = (Source::header(name.clone()), Source::header(name));
        let request = request(&["a"]);
        let head = Head::of(&request);
        assert_ne!(one.fingerprint(head), other.fingerprint(head));
    }
}
