//! Decides whether a request may pass, by policies over who sends it and what it asks.
//!
//! The policies are [`model::authorization`](crate::model::authorization): what Istio's
//! `AuthorizationPolicy` and the RBAC filter of xDS (gRFC A41) both mean. The decision is a pure
//! function of the policies and of [`Attributes`], which are borrowed: for a request whose headers are
//! not repeated nothing is allocated. The order is that of the stages; the first enforced stage
//! that denies decides, and what the others would have said is not asked.
//!
//! # Which way to err
//!
//! A request has texts with more than one reading: a header that is there twice, a list in one
//! header, `host:80` and `host`. A policy that denies and one that allows must err in opposite
//! directions, or an attacker chooses the reading. So each question is asked with a [`Lean`]:
//!
//! | | a policy that denies (or audits, or asks elsewhere) | a policy that allows |
//! | --- | --- | --- |
//! | repeated header, list | any field, any element of a list, or all joined by `,` | every field; for parts and patterns every element too |
//! | header that `Connection` lists | counts | does not count |
//! | authority | as written, without port, without the last point | as written, as Istio has it |
//! | value that is no text, claim that is no text | matches | does not match |
//! | no address (a Unix socket) | matches every range | matches none |
//! | namespace of an odd identity | anywhere in it | in Istio's form only |
//!
//! `Not` turns the lean round, so that "deny all whose role is not reader" and "allow all whose
//! role is not admin" are as safe as their opposites. Envoy joins the values of a repeated header, which was a
//! bypass (CVE-2026-26308), and gRPC still does (gRFC A41). Where only one reading exists the
//! answers are those of Istio and A41: an absent header matches nothing but "not present", `te` and
//! the other headers of one hop are absent, `host` is the authority.
//!
//! # What the caller learns
//!
//! Nothing: the answer is `RBAC: access denied`, as from Envoy. Which policy it was is in the
//! [`Decision`], for logs and counters.
//!
//! ```
//! use meshwork::layer::authz::{Attributes, Caller, decide};
//! use meshwork::model::authorization::{Action, Authorization, Condition, PathPattern, Policy, Stage};
//! use meshwork::model::matcher::StringMatcher;
//!
//! let admin = Condition::Path(PathPattern::Text(StringMatcher::Prefix("/admin".into())));
//! let policy = Authorization {
//!     stages: vec![Stage::enforced(Action::Deny, vec![Policy::new("no-admin", admin)])],
//!     ..Authorization::default()
//! };
//! let request = http::Request::get("http://catalog/admin/users").body(())?;
//! let attributes = Attributes::of(&request, Caller::default());
//! let decision = decide(&policy, &attributes, &mut |_| {});
//! assert!(!decision.allowed);
//! assert_eq!(decision.policy.unwrap().name.as_ref(), "no-admin");
//! # Ok::<(), http::Error>(())
//! ```

mod attributes;
mod decide;
mod evaluate;
mod future;
mod header;
mod layer;
mod service;
#[cfg(test)]
mod tests;

pub use attributes::{Attributes, Caller, Claim, Token};
pub use decide::{Decision, Observation, decide, external};
pub use evaluate::{Lean, holds};
pub use future::ResponseFuture;
pub use layer::AuthorizationLayer;
pub use service::Authorized;
