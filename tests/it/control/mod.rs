//! The xDS server on real sockets.

mod folder;
mod limits;
mod secured;
mod services;
mod streams;
mod world;
