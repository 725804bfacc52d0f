//! Filters of HTTP that a program adds to its mesh, and a control plane configures.
//!
//! A control plane names a filter by the message that configures it. Those that are not known here
//! refuse the listener; with [`Builder::filter`](crate::Builder::filter) a program says what one of
//! them is. From then on it is a filter like the others: it stands in the chains of listeners,
//! of clients and of servers, a route or a virtual host overrides its configuration by its name, and a
//! configuration that it does not take refuses the resource, with what the filter said is wrong.
//!
//! A filter sees the heads of requests and responses, not their bodies, and does not wait: it runs on
//! the way of each request. On the way out it runs once for a call, before its retries; on the way in
//! after all that could deny the request. In a chain requests meet filters in its order and responses
//! the other way round.
//!
//! # What it configures, and what it keeps
//!
//! A configuration is read once, when its resource arrives. What a filter keeps between requests (a
//! counter, a cache, a client of its own) is its *state*: it lives as long as the filter's name and
//! configuration are in force, on however many routes, and an edit of something else does not concern
//! it. When the configuration changes, [`Filter::start`] is given the state from before and decides
//! what becomes of it.
//!
//! ```
//! use std::sync::Arc;
//! use std::sync::atomic::{AtomicU64, Ordering};
//!
//! use http::{HeaderValue, request};
//! use meshwork::filter::{Answer, At, Filter};
//!
//! /// Numbers requests.
//! struct Stamp;
//!
//! impl Filter for Stamp {
//!     /// The header that has the number.
//!     type Config = http::HeaderName;
//!     type State = AtomicU64;
//!
//!     fn messages(&self) -> &[&str] {
//!         &["acme.v1.Stamp"]
//!     }
//!
//!     fn read(&self, _message: &str, bytes: &[u8]) -> Result<Self::Config, String> {
//!         // Or by a generated type. Field 1 of this one is a text of at most 127 bytes.
//!         let [0x0a, _, name @ ..] = bytes else {
//!             return Err("header: is missing".to_owned());
//!         };
//!         http::HeaderName::from_bytes(name).map_err(|error| format!("header: {error}"))
//!     }
//!
//!     fn start(&self, _: &Self::Config, before: Option<Arc<AtomicU64>>) -> Arc<AtomicU64> {
//!         before.unwrap_or_default()
//!     }
//!
//!     fn request(&self, at: At<'_, Self>, head: &mut request::Parts) -> Result<(), Box<Answer>> {
//!         let number = at.state.fetch_add(1, Ordering::Relaxed);
//!         head.headers.insert(at.config.clone(), HeaderValue::from(number));
//!         Ok(())
//!     }
//! }
//!
//! # async fn example() -> Result<(), meshwork::Error> {
//! let mesh = meshwork::Mesh::builder().filter(Stamp).start().await?;
//! # Ok(()) }
//! ```

mod registry;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::{Response, request, response};

pub(crate) use registry::{Filters, Running};

/// What a filter answers itself, in place of whoever the request was for.
pub type Answer = Response<Bytes>;

/// A filter of HTTP; see the [module](self).
pub trait Filter: Send + Sync + 'static {
    /// What a control plane says.
    type Config: Send + Sync + 'static;
    /// What is kept between requests.
    type State: Send + Sync + 'static;

    /// The full names of the messages that configure it, such as `acme.v1.Stamp`: those in the chain of
    /// a listener and those by which routes override it. What is known to the mesh itself stays the
    /// mesh's.
    fn messages(&self) -> &[&str];

    /// Reads a configuration: the bytes of one of these messages.
    ///
    /// It must say the same of the same bytes, and survive any.
    ///
    /// # Errors
    /// What is wrong, for the one who wrote it: the resource is refused with that text.
    fn read(&self, message: &str, bytes: &[u8]) -> Result<Self::Config, String>;

    /// Begins to run with a configuration. `before` is the state of the filter of the same name with the
    /// configuration before it, if there is one.
    fn start(&self, config: &Self::Config, before: Option<Arc<Self::State>>) -> Arc<Self::State>;

    /// Looks at a request and may change it.
    ///
    /// # Errors
    /// An answer: the request goes no further, and the filters that it has passed see the answer.
    fn request(&self, at: At<'_, Self>, head: &mut request::Parts) -> Result<(), Box<Answer>> {
        let _ = (at, head);
        Ok(())
    }

    /// Looks at a response and may change it.
    fn response(&self, at: At<'_, Self>, head: &mut response::Parts) {
        let _ = (at, head);
    }
}

/// Where a filter runs.
pub struct At<'a, F: Filter + ?Sized> {
    /// Its name in the chain.
    pub name: &'a str,
    /// What it was told.
    pub config: &'a F::Config,
    /// What it keeps.
    pub state: &'a F::State,
}

impl<F: Filter + ?Sized> fmt::Debug for At<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("At")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Runs filters over a request, in order. An answer has been seen by those that the request has passed.
pub(crate) fn request(
    filters: &[Arc<dyn Running>],
    head: &mut request::Parts,
) -> Result<(), Box<Answer>> {
    for (index, filter) in filters.iter().enumerate() {
        if let Err(answer) = filter.request(head) {
            let (mut head, body) = answer.into_parts();
            response(filters.get(..index).unwrap_or_default(), &mut head);
            return Err(Box::new(Response::from_parts(head, body)));
        }
    }
    Ok(())
}

/// Runs filters over a response, the last one first.
pub(crate) fn response(filters: &[Arc<dyn Running>], head: &mut response::Parts) {
    for filter in filters.iter().rev() {
        filter.response(head);
    }
}
