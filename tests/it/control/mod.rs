//! The xDS server on real sockets.

mod ca;
mod doors;
mod folder;
mod gateway;
mod limits;
mod mesh;
mod raw;
pub(crate) mod secured;
mod services;
mod streams;
pub(crate) mod world;
