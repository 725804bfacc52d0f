//! Authorities and their servers, and which of these are used (gRFCs A47 and A71).
//!
//! An authority's servers are in order of preference. The first is asked; if it cannot be reached and
//! something is needed that is not known, the next is asked too, while the first is tried on. The
//! first response of a server that is preferred ends those behind it.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;

use super::{Client, Remote, name};
use crate::source::xds::bootstrap::{Bootstrap, Server};

/// An authority.
#[derive(Debug)]
pub(super) struct Domain {
    /// Servers by number, the preferred one first.
    servers: Vec<usize>,
    /// How many of them are used, from the first.
    used: usize,
    on_reachability_only: bool,
}

/// The servers of a bootstrap, equal ones once, and its authorities.
pub(super) fn of(bootstrap: &Bootstrap) -> (Vec<Remote>, BTreeMap<Arc<str>, Domain>) {
    let mut remotes: Vec<Remote> = Vec::new();
    let mut numbers = |servers: &[Arc<Server>]| -> Vec<usize> {
        let mut number = |server: &Arc<Server>| {
            let known = remotes.iter().position(|remote| remote.server == *server);
            known.unwrap_or_else(|| {
                remotes.push(Remote::new(server.clone()));
                remotes.len() - 1
            })
        };
        servers.iter().map(&mut number).collect()
    };
    let domain = |servers, on_reachability_only| Domain {
        servers,
        used: 1,
        on_reachability_only,
    };
    let mut domains = BTreeMap::new();
    domains.insert(Arc::from(""), domain(numbers(&bootstrap.servers), false));
    for (name, authority) in &bootstrap.authorities {
        let servers = numbers(&authority.servers);
        domains.insert(
            name.clone(),
            domain(servers, authority.on_reachability_only),
        );
    }
    (remotes, domains)
}

impl Domain {
    fn in_use(&self) -> &[usize] {
        self.servers.get(..self.used).unwrap_or(&self.servers)
    }

    pub(super) fn uses(&self, server: usize) -> bool {
        self.in_use().contains(&server)
    }

    /// Why nothing can be learned by now: no server that there is can be reached.
    pub(super) fn trouble<'a>(&self, remotes: &'a [Remote]) -> Option<&'a Arc<str>> {
        let troubles = self.servers.iter().map(|server| &remotes[*server].trouble);
        let troubles: Option<Vec<&Arc<str>>> = troubles.map(Option::as_ref).collect();
        troubles?.first().copied()
    }
}

impl Client {
    /// Asks the next server of each authority whose last one in use is this, which failed.
    pub(super) fn fall_back(&mut self, server: usize, now: Instant) {
        let mut fallen = false;
        for (authority, domain) in &mut self.domains {
            let is_last = domain.in_use().last() == Some(&server);
            if !is_last || domain.used >= domain.servers.len() {
                continue;
            }
            let mut all = self.store.iter();
            let lacks = domain.on_reachability_only
                || all.any(|((_, name), entry)| {
                    name::authority(name) == &**authority && !entry.is_known()
                });
            if lacks {
                domain.used += 1;
                fallen = true;
                let next = domain
                    .in_use()
                    .last()
                    .map(|next| &self.remotes[*next].server.uri);
                tracing::warn!(target: "meshwork::source::xds", %authority, ?next, "falls back");
            }
        }
        if fallen {
            self.settle(Vec::new(), true, now);
        }
    }

    /// Ends the use of servers that stand behind this one, which answers.
    pub(super) fn prefer(&mut self, server: usize, now: Instant) {
        let mut ended = false;
        for domain in self.domains.values_mut() {
            let place = domain.in_use().iter().position(|other| *other == server);
            if let Some(place) = place
                && domain.used > place + 1
            {
                domain.used = place + 1;
                ended = true;
            }
        }
        if ended {
            self.settle(Vec::new(), true, now);
        }
    }

    /// A stream was ended because its server is not used any more.
    pub(crate) fn rest(&mut self, server: usize) {
        if let Some(remote) = self.remotes.get_mut(server) {
            remote.rest();
        }
        for (_, entry) in self.store.iter_mut() {
            entry.due.retain(|(of, _)| *of != server);
            entry.again.take_if(|(of, _)| *of == server);
        }
    }
}
