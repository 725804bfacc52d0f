//! A service mesh that a Rust service links instead of running beside.

#![forbid(unsafe_code)]
#![warn(missing_docs, missing_debug_implementations, unreachable_pub)]

mod error;
#[cfg(feature = "yaml")]
pub mod source;

pub use error::{BoxError, Error, Flag, Limit};
