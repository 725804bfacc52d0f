//! The layers, each alone around a service that is no mesh.

mod balance;
mod contract;
mod deadline;
mod fault;
mod limit;
mod outlier;
mod retry;
mod strict;
mod timeout;
