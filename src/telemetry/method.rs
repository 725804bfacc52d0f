//! Methods of gRPC that are told by name.
//!
//! gRFC A66 tells the method of a call if it was known before the call: one of a generated client, or one
//! that is registered at a server; all others are `other`, so that nothing that a caller writes becomes a
//! label. A mesh is told of methods in two ways: the program names them
//! (`Builder::grpc_methods`), and clients that tonic generated say which of theirs a request is of, in its
//! extensions (feature `tonic`), where no peer can write.
//!
//! A method is a small number on the way of a request: its path is looked up in a table that is replaced as a
//! whole when a client calls a method for the first time, so that requests read without a lock. There are at
//! most [`METHODS`] of them, and [`PAIRS`] of a method and those who call each other.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use http::Request;

/// How many methods are told apart; what comes after them is `other`.
pub(crate) const METHODS: usize = 256;

/// How many methods of series are measured apart; what comes after them is `other` of its series.
const PAIRS: usize = 4_096;

/// The label of methods without a name.
const OTHER: &str = "other";

/// One method of a mesh, or none in particular.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Method(
    /// Its place among the names, counted from 1.
    u16,
);

impl Method {
    /// One that is not told by name.
    pub(crate) const OTHER: Self = Self(0);

    /// Its place in a table of [`METHODS`].
    pub(super) fn index(self) -> Option<usize> {
        usize::from(self.0).checked_sub(1)
    }
}

/// The methods of a mesh.
#[derive(Debug)]
pub(crate) struct Methods {
    known: ArcSwap<Known>,
    /// How many more may be measured apart.
    pairs: AtomicUsize,
}

#[derive(Clone, Debug, Default)]
struct Known {
    by_path: HashMap<Arc<str>, Method, foldhash::fast::RandomState>,
    /// `/package.Service/Method`, in the order in which they became known.
    paths: Vec<Arc<str>>,
}

impl Default for Methods {
    fn default() -> Self {
        Self {
            known: ArcSwap::default(),
            pairs: AtomicUsize::new(PAIRS),
        }
    }
}

impl Methods {
    /// Methods that the program names, as `package.Service/Method`, with or without a slash before it.
    pub(crate) fn new(names: &[String]) -> Result<Self, Faults> {
        let mut known = Known::default();
        let mut faults = Vec::new();
        for name in names {
            let bare = name.strip_prefix('/').unwrap_or(name);
            if is_name(bare) {
                known.add(&format!("/{bare}"));
            } else {
                faults.push(format!(
                    "{name:?} is no method of gRPC; one is written as package.Service/Method"
                ));
            }
        }
        if known.paths.len() > METHODS {
            let count = known.paths.len();
            faults.push(format!(
                "{count} methods; at most {METHODS} are told by name"
            ));
        }
        if !faults.is_empty() {
            return Err(Faults(faults));
        }
        Ok(Self {
            known: ArcSwap::from_pointee(known),
            ..Self::default()
        })
    }

    /// Which of them a request calls.
    pub(crate) fn of<B>(&self, request: &Request<B>) -> Method {
        let path = request.uri().path();
        if let Some(method) = self.known.load().by_path.get(path) {
            return *method;
        }
        #[cfg(feature = "tonic")]
        if let Some(told) = request.extensions().get::<tonic::GrpcMethod<'static>>() {
            return self.learn(path, told.service(), told.method());
        }
        Method::OTHER
    }

    /// A generated client calls a method of its own for the first time, or there is no place for it.
    #[cfg(feature = "tonic")]
    fn learn(&self, path: &str, service: &str, method: &str) -> Method {
        let mut parts = path.strip_prefix('/').unwrap_or(path).splitn(2, '/');
        // A layer between may have changed the path: what the callee sees counts.
        if parts.next() != Some(service) || parts.next() != Some(method) {
            return Method::OTHER;
        }
        let full = |known: &Known| known.paths.len() >= METHODS;
        if !full(&self.known.load()) {
            self.known.rcu(|known| {
                let mut known = Known::clone(known);
                // Others may have learned theirs meanwhile.
                if !full(&known) {
                    known.add(path);
                }
                known
            });
        }
        let known = self.known.load();
        known.by_path.get(path).copied().unwrap_or_default()
    }

    /// What metrics call it: `package.Service/Method`, or `other`.
    pub(super) fn name(&self, method: Method) -> String {
        let known = self.known.load();
        let path = method.index().and_then(|index| known.paths.get(index));
        path.map_or(OTHER, |path| path.strip_prefix('/').unwrap_or(path))
            .to_owned()
    }

    /// Whether another pair may be measured apart; if so it is counted until it is [given
    /// back](Self::give_back).
    pub(super) fn take_pair(&self) -> bool {
        let left = |pairs: usize| pairs.checked_sub(1);
        let order = Ordering::Relaxed;
        self.pairs.fetch_update(order, order, left).is_ok()
    }

    /// So many pairs are measured no longer.
    pub(super) fn give_back(&self, pairs: usize) {
        self.pairs.fetch_add(pairs, Ordering::Relaxed);
    }
}

impl Known {
    fn add(&mut self, path: &str) {
        let next = u16::try_from(self.paths.len() + 1).ok();
        if let (Some(next), false) = (next, self.by_path.contains_key(path)) {
            let path: Arc<str> = path.into();
            self.by_path.insert(path.clone(), Method(next));
            self.paths.push(path);
        }
    }
}

/// `package.Service/Method`, of letters, digits, dots and underscores as in protobuf.
fn is_name(name: &str) -> bool {
    let word = |text: &str| {
        let letters = |part: &str| {
            let mut bytes = part.bytes();
            bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') && !part.is_empty()
        };
        text.split('.').all(letters)
    };
    let halves = name.split_once('/');
    halves.is_some_and(|(service, method)| word(service) && word(method) && !method.contains('.'))
}

/// What is wrong with names of methods, all of it.
#[derive(Debug)]
pub(crate) struct Faults(Vec<String>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("methods of gRPC: ")?;
        f.write_str(&self.0.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[&str]) -> Result<Methods, Faults> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        Methods::new(&names)
    }

    fn ask(path: &str) -> Request<()> {
        let mut request = Request::new(());
        *request.uri_mut() = path.parse().expect("a path");
        request
    }

    #[test]
    fn methods_that_are_named_are_found_by_their_path_and_others_are_other() {
        let methods = named(&[
            "shop.Catalog/List",
            "/shop.Catalog/Get",
            "shop.Catalog/List",
        ]);
        let methods = methods.expect("good names");
        for (path, name) in [
            ("/shop.Catalog/List", "shop.Catalog/List"),
            ("/shop.Catalog/Get", "shop.Catalog/Get"),
            ("/shop.Catalog/Get?a=b", "shop.Catalog/Get"),
            ("/shop.Catalog/Put", OTHER),
            ("/shop.Catalog/Get/", OTHER),
            ("/", OTHER),
        ] {
            assert_eq!(methods.name(methods.of(&ask(path))), name, "{path}");
        }
    }

    #[test]
    fn all_names_that_are_none_are_faults() {
        let faults = named(&["Catalog", "a/", "/b", "a/b/c", "a b/c", "a..b/c", "a/b.c"]);
        let faults = faults.expect_err("no names").to_string();
        for name in [
            "\"Catalog\"",
            "\"a/\"",
            "\"/b\"",
            "\"a/b/c\"",
            "\"a b/c\"",
            "\"a..b/c\"",
            "\"a/b.c\"",
        ] {
            let fault =
                format!("{name} is no method of gRPC; one is written as package.Service/Method");
            assert!(faults.contains(&fault), "{name}: {faults}");
        }
        let many: Vec<String> = (0..=METHODS).map(|number| format!("a/m{number}")).collect();
        let faults = Methods::new(&many).expect_err("too many").to_string();
        assert_eq!(
            faults,
            "methods of gRPC: 257 methods; at most 256 are told by name"
        );
    }

    #[test]
    fn pairs_are_counted_and_given_back() {
        let methods = Methods::default();
        assert_eq!(
            (0..PAIRS + 9).filter(|_| methods.take_pair()).count(),
            PAIRS
        );
        methods.give_back(2);
        assert_eq!((0..9).filter(|_| methods.take_pair()).count(), 2);
    }

    #[cfg(feature = "tonic")]
    #[test]
    fn a_generated_client_tells_its_methods_up_to_a_bound_and_only_its_own() {
        let methods = Methods::default();
        let call = |path: &str, service: &'static str, method: &'static str| {
            let mut request = ask(path);
            let told = tonic::GrpcMethod::new(service, method);
            request.extensions_mut().insert(told);
            methods.name(methods.of(&request))
        };
        assert_eq!(call("/a.B/c", "a.B", "c"), "a.B/c");
        assert_eq!(call("/a.B/d", "a.B", "c"), OTHER, "the path was changed");
        assert_eq!(call("/a.B/c/d", "a.B", "c"), OTHER);
        // Known from here on, whoever calls it.
        assert_eq!(methods.name(methods.of(&ask("/a.B/c"))), "a.B/c");
        for number in 1..METHODS + 9 {
            let method: &'static str = format!("m{number}").leak();
            let name = call(&format!("/a.B/{method}"), "a.B", method);
            let expected = if number < METHODS {
                format!("a.B/{method}")
            } else {
                OTHER.to_owned()
            };
            assert_eq!(name, expected);
        }
        assert_eq!(methods.known.load().paths.len(), METHODS);
    }
}
