//! The xDS server on real sockets.

mod ca;
mod folder;
mod limits;
mod secured;
mod services;
mod streams;
mod world;
