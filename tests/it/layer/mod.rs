<<<<<<< HEAD
mod balance;
mod fault;
mod limit;
mod outlier;
mod strict;
=======
//! The layers, each alone around a service that is no mesh.

mod contract;
mod deadline;
mod retry;
mod timeout;
>>>>>>> layers1
