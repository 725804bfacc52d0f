//! Istio's YAML through the public door.

mod article;
mod plain_kinds;
mod read;
mod reload;
mod robust;
mod schema;
