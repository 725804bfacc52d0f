//! The layers, each alone around a service that is no mesh.

mod contract;
mod deadline;
mod retry;
mod timeout;
