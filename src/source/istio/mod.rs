//! Istio's and Kubernetes' YAML as a source of configuration.
//!
//! The way of a text is `yaml` (a tree in which every node knows its line) → `kinds` (plain
//! structs that mirror the files) → `validate` (the rules of each object) → objects. An
//! [`Object`](kinds::Object) is valid as far as it can be judged alone; what needs the whole set, such as a subset
//! that does not exist, is found when the set is compiled into the model.
//!
//! Two things decide the design. First, people arrive with YAML that works elsewhere, so everything
//! Istio accepts is understood, down to snake_case names and Go's durations, and what is not in
//! force here is refused by name: silence would be a policy that somebody believes in. Second, a
//! refusal is only useful when it says everything at once, with the place and a way out; serde's
//! formats stop at the first error and lose places behind tagged, untagged and flattened types, so
//! the tree and its deserializer are our own, over the events of a YAML parser.
//!
//! ```
//! use meshwork::source::istio::{Options, read};
//!
//! let text = r#"
//! apiVersion: networking.istio.io/v1
//! kind: VirtualService
//! metadata: {name: catalog, namespace: my-app}
//! spec:
//!   hosts: [catalog]
//!   http:
//!   - route: [{destination: {host: catalog}}]
//!     retries: {attempts: 3, retryOn: "reset,5xxx"}
//! "#;
//! let read = read([("catalog.yaml", text)], &Options::default());
//! let fault = read.faults.iter().next().expect("5xxx is no condition");
//! assert_eq!(
//!     fault.message(),
//!     "virtualservice my-app/catalog http[0].retries.retryOn: unknown token \"5xxx\""
//! );
//! assert_eq!(fault.hint(), Some("did you mean \"5xx\"?"));
//! ```

mod check;
mod compile;
mod defaults;
mod fault;
mod folder;
mod follow;
mod jwks;
pub mod kinds;
mod live;
#[cfg(feature = "control-plane")]
mod raw;
mod read;
mod registry;
mod schema;
mod validate;
mod watch;
mod when;
mod yaml;

pub use check::{Checked, check};
#[cfg(feature = "control-plane")]
pub(crate) use check::{alike, judge};
#[cfg(feature = "control-plane")]
pub(crate) use compile::{Chain, Leads, ReadLabels, edge, selected_by_labels, unopened};
pub use compile::{Compiled, Ejection, compile};
#[cfg(feature = "outbound")]
pub(crate) use defaults::trust_domain;
#[cfg(feature = "control-plane")]
pub(crate) use fault::did_you_mean;
pub use fault::{Code, Fault, Faults, ObjectRef, Severity, Snippet, Sources};
#[cfg(feature = "control-plane")]
pub(crate) use folder::Texts;
pub use folder::read_dir;
#[cfg(feature = "control-plane")]
pub(crate) use follow::follow;
pub use live::{Istio, Update, Updates, compile_dir, compile_gateway};
#[cfg(feature = "control-plane")]
pub(crate) use raw::{RawFile, RawResource};
pub use read::{Read, read};
#[cfg(any(feature = "outbound", feature = "control-plane"))]
pub(crate) use registry::chooses;
pub use schema::schema;
pub use yaml::Located;

/// How strictly a set of files is read.
///
/// ```
/// use meshwork::source::istio::{Options, Strictness};
///
/// let options = Options { strictness: Strictness::Warn, ..Options::default() };
/// assert!(!options.allow_unenforced);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Options {
    /// Accept security kinds that are not enforced, with a warning instead of a fault. Default:
    /// false, so that nobody believes in a policy that does not act.
    pub allow_unenforced: bool,
    /// How many endpoints of a small cluster may be ejected. Default: at least one.
    pub ejection: Ejection,
    /// What happens when the same object is written twice. Default: both places are a fault.
    pub on_duplicate: OnDuplicate,
    /// What an unknown field of an Istio kind is. Default: a fault.
    pub strictness: Strictness,
}

/// What happens when kind, namespace and name stand twice in one set of files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnDuplicate {
    /// The last one is used, with a warning; `kubectl apply` does so without one.
    Last,
    /// It is a fault that names both places.
    #[default]
    Reject,
}

/// What an unknown field of an Istio kind is. Fields of Kubernetes' own kinds are never judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Strictness {
    /// A fault, as `istioctl validate` has it.
    #[default]
    Reject,
    /// A warning, as istiod has it.
    Warn,
}

impl Strictness {
    fn severity(self) -> Severity {
        match self {
            Self::Reject => Severity::Error,
            Self::Warn => Severity::Warning,
        }
    }
}
