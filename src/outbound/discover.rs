//! Station none: the listener of a request that the configuration does not hold yet.
//!
//! With a source that is asked for names (a control plane) an unknown host is a question, not an
//! answer. The request waits for what becomes of it, within the caller's deadline; a source that
//! cannot be reached, or refuses, is an error at once, and only a host that the source says does not
//! exist is passed through or refused as unknown hosts are. A request whose listener is in force
//! comes by here with one look at a pointer.

use http::Request;

use crate::body::Body;
use crate::error::Error;
use crate::layer::deadline::Deadline;
use crate::name::Target;
use crate::snapshot::Demand;

use super::Core;
use super::route::{self, Chosen, Scope, Unknown, no_route};

/// Chooses the way of a request, and asks the source for its listener if it has to.
pub(super) async fn choose(
    core: &Core,
    scope: Scope<'_>,
    request: &Request<Body>,
    caller: Deadline,
) -> Result<Chosen, Error> {
    if let Some(demand) = &core.environment.demand {
        if let Some(chosen) = route::choose(core, scope, request, Unknown::Ask)? {
            return Ok(chosen);
        }
        if let Some(target) = ask(demand, scope, request, caller).await? {
            return decided(core, Scope::Target(&target), request);
        }
    }
    decided(core, scope, request)
}

fn decided(core: &Core, scope: Scope<'_>, request: &Request<Body>) -> Result<Chosen, Error> {
    let chosen = route::choose(core, scope, request, Unknown::Decide)?;
    chosen.ok_or_else(|| {
        let begun = request.uri().authority();
        no_route(begun.unwrap_or(&http::uri::Authority::from_static("unknown")))
    })
}

/// Waits for the listener; `None` if there is none.
async fn ask(
    demand: &Demand,
    scope: Scope<'_>,
    request: &Request<Body>,
    caller: Deadline,
) -> Result<Option<Target>, Error> {
    let target = match scope {
        Scope::Authority => route::asked(request)?,
        Scope::Target(target) => target.clone(),
    };
    let Target::Listener { name, authority } = target else {
        return Ok(None);
    };
    let name = match scope {
        Scope::Authority => demand.name(None, &name)?,
        // A channel's was made when the channel was.
        Scope::Target(_) => name,
    };
    let settled = demand.settled(&name);
    let known = match caller.at() {
        None => settled.await?,
        Some(at) => match tokio::time::timeout_at(at, settled).await {
            Ok(settled) => settled?,
            Err(_) => {
                let error = caller.error();
                return Err(match demand.why(&name) {
                    Some(why) => error.caused_by(Error::config(why)),
                    None => error,
                });
            }
        },
    };
    if known {
        return Ok(Some(Target::Listener { name, authority }));
    }
    match scope {
        // The caller named a listener, so that there is nothing to fall back to.
        Scope::Target(Target::Listener { .. }) => {
            let why = demand
                .why(&name)
                .unwrap_or_else(|| "it does not exist".into());
            Err(no_route(&authority).caused_by(Error::config(why)))
        }
        Scope::Authority | Scope::Target(Target::Host { .. }) => Ok(None),
    }
}

/// Adds why the source has no such cluster, or no endpoints for it.
pub(super) fn annotate(core: &Core, chosen: &Chosen, error: Error) -> Error {
    let Some(demand) = &core.environment.demand else {
        return error;
    };
    if !error.is_no_endpoint() {
        return error;
    }
    match chosen
        .cluster_name()
        .and_then(|cluster| demand.note(cluster))
    {
        Some(note) => error.caused_by(Error::config(note)),
        None => error,
    }
}
