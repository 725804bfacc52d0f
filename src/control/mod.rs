//! The xDS server: the mesh's configuration for proxyless gRPC of every language, for Envoy and for
//! this library.

mod ads;
mod kind;
mod resource;
mod snapshot;

pub use self::kind::Kind;
pub use self::resource::Encoded;
pub use self::snapshot::Snapshot;
