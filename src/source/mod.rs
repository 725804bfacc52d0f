//! How configuration arrives: sources that turn the outside's text or bytes into validated values.
//!
//! A source knows the wire format of its outside and nothing of requests: `outbound` never imports
//! it. What leaves a source is either a value that holds all its rules or a list of faults that
//! say where the text is wrong; nothing is half accepted, so that the last good configuration can
//! stay in force while somebody fixes the text.

mod feed;
#[cfg(feature = "yaml")]
pub mod istio;
#[cfg(feature = "xds")]
pub mod xds;

pub use feed::{Feed, Publisher, feed};
pub(crate) use feed::{Published, What};
