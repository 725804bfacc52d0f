//! Mechanisms as tower layers that know nothing of a mesh.
//!
//! Each folder is one mechanism: the state that decides (a budget, a limit, a detector), usable by
//! itself, and a tower [`Layer`](tower_layer::Layer) around it for stacks that have no mesh. A
//! mesh's own path through [`outbound`](crate) drives the same state, so that there is one
//! implementation of each rule.
//!
//! Nothing in here reads configuration files, names clusters, or needs prost or serde.

pub mod balance;
pub mod classify;
pub mod deadline;
pub mod fault;
pub mod limit;
pub mod outlier;
pub mod retry;
pub mod timeout;
