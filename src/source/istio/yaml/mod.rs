//! YAML text as a located tree.

mod located;

pub use located::Located;
