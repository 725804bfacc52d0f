//! The Gateway API's routes that are attached to services (GAMMA), as routes of the model.
//!
//! An HTTPRoute or GRPCRoute names the services it is for. In the service's own namespace it speaks
//! for every client (a *producer* route), in another one only for the clients there (a *consumer*
//! route), and the client's own namespace comes first. Unlike VirtualServices, several routes of
//! one service are merged, and the order of their rules does not matter: the most specific match
//! wins. So a service's requests have one owner, a VirtualService or a set of routes, and
//! [`choose`] says which.
//!
//! A reference that leads nowhere is no fault of the files: the Gateway API accepts such a route,
//! tells it in the status and has the share of those requests answered with 500 (UNAVAILABLE for
//! gRPC). Here the status conditions are warnings, and the share is a route of its own in front of
//! its sibling that takes so many of the matching requests and answers them. Rejected: a
//! destination that is an answer, because everything behind the choice of a destination would have
//! to know that there may be no cluster, for what a matcher's share already says.

mod attach;
mod backend;
mod backend_policy;
mod filter;
mod matches;
mod rule;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use super::Scope;
use super::virtual_service::{Claim, Rank, precedence};
use crate::model::matcher::RouteMatcher;
use crate::model::route::Route;
use crate::source::istio::fault::{Code, Faults};
use crate::source::istio::kinds::Object;
use crate::source::istio::registry::{origin, warning};

use attach::{Attachment, Spec};
use backend::Grants;
use rule::Rule;

pub(super) use attach::Attached;
pub(super) use backend_policy::Policies;

/// Who says what happens to the requests of a service's port.
pub(super) enum Owner<'s, 'a> {
    /// The first VirtualService of the host.
    VirtualService(&'s Claim<'a>),
    /// The routes that are attached to it.
    Routes(Set<'s, 'a>),
}

/// Routes of one kind that are merged for a port of a service; never empty, oldest first.
pub(super) struct Set<'s, 'a> {
    first: &'s Attachment<'a>,
    all: Vec<&'s Attachment<'a>>,
}

/// The owner of the requests of a host and port, if it has one.
///
/// A set of routes is public, as every route is. So VirtualServices that are exported to less than
/// all come first; then routes of the client's own namespace; then age decides. A host that a
/// VirtualService names by a pattern only is less specific than any route.
pub(super) fn choose<'s, 'a>(
    scope: &'s Scope<'a>,
    host: &str,
    port: u16,
    faults: &mut Faults,
) -> Option<Owner<'s, 'a>> {
    let claim = scope.claims.of(host);
    let set = scope.attached.set(host, port, faults);
    match (claim, set) {
        (None, None) => None,
        (Some(claim), None) => Some(Owner::VirtualService(claim)),
        (None, Some(set)) => Some(Owner::Routes(set)),
        (Some(claim), Some(set)) if *claim.host != *host => Some(Owner::Routes(set)),
        (Some(claim), Some(set)) => {
            let loses = match claim.rank {
                Rank::Private | Rank::Named => false,
                Rank::Public => set.first.own || set.first.age < claim.age,
            };
            if loses {
                let why = if set.first.own {
                    "of the client's own namespace"
                } else {
                    precedence(set.first.object, claim.object)
                };
                taken(claim.object, set.first.object, host, why, faults);
                return Some(Owner::Routes(set));
            }
            let why = match claim.rank {
                Rank::Private | Rank::Named => "exported to fewer namespaces",
                Rank::Public => precedence(claim.object, set.first.object),
            };
            for loser in &set.all {
                taken(loser.object, claim.object, host, why, faults);
            }
            Some(Owner::VirtualService(claim))
        }
    }
}

/// The host has another owner.
fn taken(loser: &Object, winner: &Object, host: &str, why: &str, faults: &mut Faults) {
    let text = format!(
        "has no effect for the host {host}: {} claims it too and is {why}",
        origin(winner)
    );
    let fault = warning(loser, Code::HostClaimed, (0, 0), text);
    faults.push(fault.hinted("write all rules of a host as one kind of object"));
}

impl<'a> Set<'_, 'a> {
    /// The oldest of the routes.
    pub(super) fn object(&self) -> &'a Object {
        self.first.object
    }

    /// The routes of the port, the most specific first; nothing follows one that takes every
    /// request.
    #[expect(
        clippy::mutable_key_type,
        reason = "the cache of a regex has no part in its hash and equality"
    )]
    pub(super) fn routes(&self, scope: &Scope<'_>, faults: &mut Faults) -> Vec<Arc<Route>> {
        let mut branches = Vec::new();
        let mut known: HashMap<RouteMatcher, (&Object, usize)> = HashMap::new();
        for attachment in &self.all {
            for rule in attachment.rules(faults) {
                for branch in rule.branches(scope, faults) {
                    repeated(&mut known, &branch.matcher, &rule, faults);
                    branches.push(branch);
                }
            }
        }
        // Stable, so that age and then the order of the rules decides between equals.
        branches.sort_by_key(|branch| matches::rank(&branch.matcher));
        let last = branches
            .iter()
            .position(|branch| branch.matcher.is_everything());
        branches.truncate(last.map_or(branches.len(), |last| last + 1));
        let routes = branches.into_iter().flat_map(|branch| branch.routes);
        routes.map(Arc::new).collect()
    }
}

/// Two rules with the same match: the first takes all of its requests.
#[expect(
    clippy::mutable_key_type,
    reason = "the cache of a regex has no part in its hash and equality"
)]
fn repeated<'a>(
    known: &mut HashMap<RouteMatcher, (&'a Object, usize)>,
    matcher: &RouteMatcher,
    rule: &Rule<'a>,
    faults: &mut Faults,
) {
    match known.entry(matcher.clone()) {
        Entry::Vacant(free) => {
            free.insert((rule.object, rule.index));
        }
        Entry::Occupied(first) => {
            let (object, index) = *first.get();
            let text = format!(
                "a match of this rule repeats one of {} rules[{index}] and never decides",
                origin(object)
            );
            let fault = warning(rule.object, Code::Ineffective, rule.place, text);
            faults.push(fault.field(rule.path("matches")));
        }
    }
}

impl Spec<'_> {
    fn kind(self) -> &'static str {
        match self {
            Self::Grpc(_) => "GRPCRoute",
            Self::Http(_) => "HTTPRoute",
        }
    }
}
