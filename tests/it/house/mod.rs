//! Rules of the house that no compiler knows: the ranks, the listed places, docs that are true.

#[cfg(feature = "yaml")]
mod codes;
mod docs;
#[cfg(feature = "yaml")]
mod markdown;
mod ranks;
mod tree;
