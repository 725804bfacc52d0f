//! Istio's and Kubernetes' YAML as a source of configuration.

mod fault;
pub mod kinds;
mod yaml;

pub use fault::{Code, Fault, Faults, ObjectRef, Severity, Snippet, Sources};
pub use yaml::Located;
