//! The xDS server on real sockets.

mod ca;
mod doors;
mod folder;
mod gateway;
mod limits;
mod mesh;
mod raw;
mod secured;
mod services;
mod streams;
mod world;
