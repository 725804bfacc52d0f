//! The layers, each alone around a service that is no mesh.

mod admission;
mod authz;
mod balance;
mod concurrency;
mod contract;
mod deadline;
mod fault;
mod health;
mod limit;
mod outlier;
#[cfg(feature = "rate-limit")]
mod rate_limit;
mod retry;
mod strict;
mod timeout;
