//! Routes that introduce the clusters of those that come next; why is told in
//! [`introduction`](crate::control::introduction).
//!
//! A client that has acknowledged routes gets the next ones in two steps, if those name clusters that
//! the former do not: first the former with the new clusters beside them, then, when it has acknowledged
//! these clusters and their endpoints, the routes themselves. Should it take no notice of the clusters, it
//! gets them two seconds later. One that refuses the first step is left with the second.

use std::sync::Arc;

use tokio::time::Instant;

use super::{HOLD_CAP, Stream};
use crate::control::kind::Kind;
use crate::control::resource::Encoded;

/// What becomes of a resource that is due.
#[derive(Debug)]
pub(super) enum Step {
    /// Others decide.
    None,
    /// These go out first.
    Introduce(Arc<Encoded>),
    /// Not before something else happens, or this time comes.
    Until(Instant),
}

impl Stream {
    /// The step between what the client has of a name and what it should have.
    pub(super) fn introduction(&self, name: &str, target: &Arc<Encoded>, now: Instant) -> Step {
        if !self.client.introduces || target.kind() != Kind::Routes {
            return Step::None;
        }
        let have = self
            .watch(Kind::Routes)
            .and_then(|watch| watch.have.get(name));
        let Some((have, acked)) = have.and_then(|have| Some((have, have.acked?))) else {
            return Step::None;
        };
        let until = have.introduced.unwrap_or(now) + HOLD_CAP;
        let refused = have.sent.is_none_or(|sent| !Arc::ptr_eq(sent, acked));
        if until <= now || (have.introduced.is_some() && refused) {
            return Step::None;
        }
        let exists = |cluster: &str| self.snapshot.get(Kind::Cluster, cluster).is_some();
        let introductions = self.snapshot.introductions();
        if let Some(routes) = introductions.between(acked, target, exists) {
            return Step::Introduce(routes);
        }
        match have.introduced.is_some() && !self.knows_clusters(target) {
            true => Step::Until(until),
            false => Step::None,
        }
    }

    /// Whether the client has acknowledged all clusters of routes, as far as they exist, with their
    /// endpoints.
    fn knows_clusters(&self, routes: &Encoded) -> bool {
        let clusters = routes.references().iter();
        let mut clusters = clusters.filter(|(kind, _)| *kind == Kind::Cluster);
        clusters.all(|(kind, name)| {
            let Some(cluster) = self.snapshot.get(*kind, name) else {
                return true;
            };
            let have = self.watch(*kind).and_then(|watch| watch.have_of(name));
            have.is_some_and(|have| self.has_endpoints(&cluster, &have))
        })
    }
}
