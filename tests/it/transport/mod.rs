//! Connections to one endpoint, over memory with a paused clock unless the file says otherwise.

mod cancel;
mod dial;
mod goaway;
mod hostile;
mod http1;
mod http2;
mod limits;
pub(crate) mod peer;
mod sockets;
mod world;
