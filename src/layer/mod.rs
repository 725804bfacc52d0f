//! Mechanisms as tower layers that know nothing of a mesh.
//!
//! Each folder is one mechanism: the state that decides (a budget, a limit, a detector), usable by
//! itself, and a tower [`Layer`](tower_layer::Layer) around it for stacks that have no mesh. A
//! mesh's own path through [`outbound`](crate) drives the same state, so that there is one
//! implementation of each rule.
//!
//! # Errors
//!
//! Every layer accepts any inner error that is `Into<BoxError>` and yields [`Error`](crate::Error).
//! An inner error that already is an [`Error`](crate::Error) passes unchanged, so a stack of layers
//! reports the failure itself; any other becomes its [`source`](std::error::Error::source). A
//! layer with an error type of its own was rejected: each layer above would have to know all those
//! below it to tell a timeout from a refusal.
//!
//! Nothing in here reads configuration files, names clusters, or needs prost or serde.

pub mod admission;
pub mod authz;
pub mod balance;
pub mod canonical;
pub mod classify;
pub mod concurrency;
pub mod deadline;
pub mod fault;
pub mod health;
pub mod held;
pub mod limit;
pub mod outlier;
#[cfg(feature = "rate-limit")]
pub mod rate_limit;
pub mod retry;
pub mod timeout;
