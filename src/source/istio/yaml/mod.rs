//! YAML text as a located tree, and the way from the tree into structs.
//!
//! Two steps: `parse` turns text into trees whose nodes know their line and column, within a
//! budget; `decode` is a serde deserializer over such a tree. Serde's derives keep the kinds plain
//! and give the schema; the tree keeps what serde throws away, which is where everything was.

mod access;
mod decode;
mod located;
mod node;
mod parse;

pub(crate) use decode::{Decoded, Dialect, FieldFault, decode};
pub use located::Located;
#[cfg(feature = "control-plane")]
pub(crate) use node::Resolved;
pub(crate) use node::{Node, Path, Segment, Value};
pub(crate) use parse::{FILE_BYTES, parse};
