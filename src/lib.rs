//! A service mesh that a Rust service links instead of running beside.

#![forbid(unsafe_code)]
#![warn(missing_docs, missing_debug_implementations, unreachable_pub)]

mod body;
mod error;
pub mod layer;
pub mod model;
mod random;
#[cfg(feature = "yaml")]
pub mod source;
#[cfg(feature = "outbound")]
pub mod transport;

pub use body::Body;
pub use error::{BoxError, Error, Flag, Limit};
pub use random::Random;
