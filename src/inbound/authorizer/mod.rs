//! External authorizers: somebody outside of this process decides (Istio's `CUSTOM`, Envoy's `ext_authz`).
//!
//! They are asked through the mesh, by the name of their service, so that their limits, retries
//! and encryption are those of any other call. All that policies name are asked, one after the other; the first
//! that says no decides. When one cannot be asked the request is denied, unless its provider says
//! otherwise: an authorizer that can be overloaded into silence is none.

#[cfg(feature = "xds")]
mod grpc;
mod http;

use std::sync::Arc;

use ::http::{HeaderMap, Request, StatusCode};

use super::answer::{self, Answer};
use super::door::Door;
use super::judge::caller_of;
use crate::layer::authz::{Attributes, external};
use crate::model::Inbound;
use crate::model::inbound::{AskBy, Authorizer, OnError};
use crate::outbound::Dialect;

/// What an authorizer said.
enum Verdict {
    Allowed {
        /// Headers for the response.
        to_caller: HeaderMap,
    },
    Denied(Answer),
    /// It could not be asked.
    Failed,
}

/// Asks all that the policies name; the headers are for the response.
///
/// # Errors
/// What is answered instead of the handler.
pub(super) async fn ask_all(
    door: &Door,
    policies: &Arc<Inbound>,
    head: &mut Request<()>,
    dialect: Dialect,
) -> Result<HeaderMap, Answer> {
    let names: Vec<(Arc<str>, Arc<str>)> = {
        let attributes = Attributes::of(head, caller_of(head.extensions()));
        let all = external(&policies.authorization, &attributes);
        all.map(|(external, policy)| (external.provider.clone(), policy.name.clone()))
            .collect()
    };
    let mut headers = HeaderMap::new();
    for (name, policy) in names {
        let Some(authorizer) = policies.authorizers.get(&name) else {
            door.counts().denied();
            tracing::warn!(
                provider = &*name,
                "request denied: the authorizer is unknown"
            );
            return Err(answer::denied(dialect));
        };
        match ask(door, authorizer, head, dialect).await {
            Verdict::Allowed { to_caller } => headers.extend(to_caller),
            Verdict::Denied(answer) => {
                door.counts().denied();
                tracing::info!(provider = &*name, policy = &*policy, "request denied");
                return Err(answer);
            }
            Verdict::Failed => match authorizer.on_error {
                OnError::Allow => {
                    tracing::warn!(provider = &*name, "the authorizer cannot be asked: passed");
                }
                OnError::Deny(status) => {
                    door.counts().denied();
                    tracing::warn!(provider = &*name, "the authorizer cannot be asked: denied");
                    return Err(refused(dialect, status));
                }
            },
        }
    }
    Ok(headers)
}

async fn ask(
    door: &Door,
    authorizer: &Authorizer,
    head: &mut Request<()>,
    dialect: Dialect,
) -> Verdict {
    let asked = async {
        match &authorizer.protocol {
            #[cfg(feature = "xds")]
            AskBy::Grpc => grpc::ask(door, authorizer, head, dialect).await,
            #[cfg(not(feature = "xds"))]
            AskBy::Grpc => {
                tracing::warn!("an authorizer cannot be asked by gRPC without the feature `xds`");
                Verdict::Failed
            }
            AskBy::Http(by) => http::ask(door, authorizer, by, head, dialect).await,
        }
    };
    let asked = tokio::time::timeout(authorizer.timeout, asked).await;
    asked.unwrap_or(Verdict::Failed)
}

/// A denial with a status: gRPC knows it by its meaning.
fn refused(dialect: Dialect, status: StatusCode) -> Answer {
    match dialect {
        Dialect::Grpc => answer::denied_with(crate::outbound::grpc_of_http(status)),
        Dialect::Http => answer::answer(dialect, status, "", ""),
    }
}
