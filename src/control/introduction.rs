//! How clusters are made known before requests are routed to them.
//!
//! A client of grpc-go puts new routes in force before the balancer that knows their clusters: its
//! `ClientConn` swaps the config selector, and tells its balancers afterwards. A call in between picks a
//! cluster that the picker has not heard of, and ends with `UNAVAILABLE: unknown cluster selected for
//! RPC`. No order of clusters, endpoints and routes helps, because the client is told all of it by one
//! value. What helps is to tell it twice: routes that also name the new clusters, which no call is
//! routed to yet, and the routes themselves when the clusters are known. It works through updates one
//! by one, so the second meets balancers that have taken the first in.
//!
//! The routes in between are the old ones with one more for each new cluster, behind all others, for a
//! path that nobody calls. What is new is so to a virtual host: a channel knows the clusters of its own
//! alone. They are made once for all streams that go from one version to another.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, OnceLock};

use envoy_types::pb::envoy::config::route::v3 as route;
use prost::Message as _;

use super::kind::Kind;
use super::lock::lock;
use super::references;
use super::resource::{Encoded, Parts};

/// Before the cluster in the path of a route that introduces one. Methods of gRPC have two parts.
const PATH: &str = "/meshwork.introduction/";

/// The most that are made for one snapshot. Routes beyond it are not introduced: to make one again at every
/// look of every stream would cost more than the calls that it saves.
const KEPT: usize = 4_096;

/// Introductions that were made, for the streams of one snapshot.
#[derive(Debug, Default)]
pub(super) struct Introductions {
    made: Mutex<HashMap<(u64, u64), Made>>,
}

/// By the versions that they lead from and to; `None`: there is none between these.
type Made = Arc<OnceLock<Option<Arc<Encoded>>>>;

impl Introductions {
    /// Routes as in `from` that name the clusters of `to` as well, as far as they exist. `None`: no virtual
    /// host that both have gets a new one, one of the two is no route configuration, or too many were made.
    pub(super) fn between(
        &self,
        from: &Encoded,
        to: &Encoded,
        exists: impl Fn(&str) -> bool,
    ) -> Option<Arc<Encoded>> {
        // An edit of everything mostly leads to the clusters that were known: that takes no place.
        let known = from.by_host();
        let mut pairs = to.by_host().iter();
        if pairs.all(|pair| known.binary_search(pair).is_ok()) {
            return None;
        }
        let made = self.place((from.hash(), to.hash()))?;
        let make = || make(from, to, exists).map(Arc::new);
        made.get_or_init(make).clone()
    }

    /// Where one is kept, as long as there is room. The lock is held to find it, not while it is made: who goes between other
    /// versions does not wait for that.
    fn place(&self, key: (u64, u64)) -> Option<Made> {
        let mut made = lock(&self.made);
        match made.get(&key) {
            Some(found) => Some(found.clone()),
            None if made.len() >= KEPT => None,
            None => Some(made.entry(key).or_default().clone()),
        }
    }
}

fn make(from: &Encoded, to: &Encoded, exists: impl Fn(&str) -> bool) -> Option<Encoded> {
    let mut before = route::RouteConfiguration::decode(from.body()).ok()?;
    let after = route::RouteConfiguration::decode(to.body()).ok()?;
    let after = after.virtual_hosts.iter();
    let after: BTreeMap<&str, _> = after.map(|host| (&*host.name, host)).collect();
    let mut adds = false;
    for host in &mut before.virtual_hosts {
        let Some(next) = after.get(&*host.name) else {
            continue;
        };
        let known = references::clusters(host);
        let new = references::clusters(next).into_iter();
        let new = new.filter(|cluster| !known.contains(cluster) && exists(cluster));
        let routes = host.routes.len();
        host.routes.extend(new.map(|cluster| introducing(&cluster)));
        adds |= host.routes.len() > routes;
    }
    if !adds {
        return None;
    }
    let body = before.encode_to_vec();
    let mut parts = Parts::new(Kind::Routes, from.name().clone(), &body);
    parts.references = references::of(Kind::Routes, &body);
    Some(parts.finish())
}

fn introducing(cluster: &str) -> route::Route {
    use route::route::Action;
    use route::route_action::ClusterSpecifier;
    use route::route_match::PathSpecifier;
    route::Route {
        r#match: Some(route::RouteMatch {
            path_specifier: Some(PathSpecifier::Path(format!("{PATH}{cluster}"))),
            ..Default::default()
        }),
        action: Some(Action::Route(route::RouteAction {
            cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.to_owned())),
            ..Default::default()
        })),
        ..Default::default()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A route configuration of virtual hosts, each a name and clusters that every call goes to one of.
    pub(in crate::control) fn routes(name: &str, hosts: &[(&str, &[&str])]) -> Encoded {
        let hosts = hosts.iter().map(|(name, clusters)| route::VirtualHost {
            name: (*name).to_owned(),
            domains: vec![(*name).to_owned()],
            routes: clusters
                .iter()
                .map(|cluster| {
                    let mut route = introducing(cluster);
                    route.r#match = Some(route::RouteMatch {
                        path_specifier: Some(route::route_match::PathSpecifier::Prefix("/".into())),
                        ..Default::default()
                    });
                    route
                })
                .collect(),
            ..Default::default()
        });
        let body = route::RouteConfiguration {
            name: name.to_owned(),
            virtual_hosts: hosts.collect(),
            ..Default::default()
        };
        let body = body.encode_to_vec();
        let mut parts = Parts::new(Kind::Routes, name.into(), &body);
        parts.references = references::of(Kind::Routes, &body);
        parts.finish()
    }

    fn decoded(encoded: &Encoded) -> route::RouteConfiguration {
        route::RouteConfiguration::decode(encoded.body()).expect("a route configuration")
    }

    fn everything(_: &str) -> bool {
        true
    }

    #[test]
    fn the_old_routes_stay_and_new_clusters_are_behind_a_path_that_nobody_calls() {
        let from = routes("r", &[("a", &["one"]), ("b", &["one"])]);
        let to = routes("r", &[("a", &["two"]), ("c", &["three"])]);
        let made = Introductions::default();
        let between = made.between(&from, &to, everything);
        let between = between.expect("there is a new cluster");
        let (old, new) = (decoded(&from), decoded(&between));
        assert_eq!(new.virtual_hosts[1], old.virtual_hosts[1]);
        let routes = &new.virtual_hosts[0].routes;
        assert_eq!(routes[0], old.virtual_hosts[0].routes[0]);
        assert_eq!(routes[1], introducing("two"));
        assert_eq!(routes.len(), 2);
        let referred: Vec<&str> = between
            .references()
            .iter()
            .map(|(_, name)| &**name)
            .collect();
        assert_eq!(referred, ["one", "two"], "nobody used the host c before");
    }

    #[test]
    fn it_is_made_once_and_only_where_a_cluster_is_new() {
        let one = routes("r", &[("a", &["one"])]);
        let two = routes("r", &[("a", &["two"])]);
        let made = Introductions::default();
        let between = |from, to| made.between(from, to, everything);
        let (first, second) = (between(&one, &two), between(&one, &two));
        let (first, second) = (first.expect("one"), second.expect("one"));
        assert!(Arc::ptr_eq(&first, &second));
        assert!(between(&first, &two).is_none(), "it names the cluster");
        assert!(between(&one, &one).is_none());
        let nothing = Introductions::default().between(&one, &two, |_| false);
        assert!(nothing.is_none(), "what does not exist is not introduced");
    }

    #[test]
    fn routes_to_known_clusters_take_no_place_and_those_beyond_the_last_are_not_introduced() {
        let two = routes("r", &[("a", &["one", "two"])]);
        let one = routes("r", &[("a", &["one"])]);
        let made = Introductions::default();
        assert!(made.between(&two, &one, everything).is_none());
        assert!(made.made.lock().expect("not poisoned").is_empty());
        for other in 0..KEPT as u64 - 1 {
            assert!(made.place((other, other)).is_some());
        }
        let between = |from, to| made.between(from, to, everything);
        assert!(between(&one, &two).is_some(), "the last place");
        let three = routes("r", &[("a", &["three"])]);
        assert!(between(&one, &three).is_none());
        assert!(between(&one, &two).is_some(), "it is kept");
    }

    /// What another virtual host leads to is new to the channels of this one.
    #[test]
    fn a_cluster_is_new_to_a_virtual_host_whatever_others_name() {
        let from = routes("r", &[("a", &["one"]), ("b", &["two"])]);
        let to = routes("r", &[("a", &["two"]), ("b", &["two"])]);
        let between = Introductions::default().between(&from, &to, everything);
        let hosts = decoded(&between.expect("two is new to a")).virtual_hosts;
        assert_eq!(hosts[0].routes[1], introducing("two"));
        assert_eq!(hosts[1].routes.len(), 1);
    }

    /// Its clusters are in no virtual host that somebody uses.
    #[test]
    fn there_is_none_without_a_route_to_add() {
        let from = routes("r", &[("a", &["one"])]);
        let to = routes("r", &[("a", &["one"]), ("c", &["three"])]);
        let made = Introductions::default();
        assert!(made.between(&from, &to, everything).is_none());
    }

    #[test]
    fn what_is_no_route_configuration_has_none() {
        let mut parts = Parts::new(Kind::Routes, "r".into(), b"\xff");
        parts.references = vec![(Kind::Cluster, "two".into())];
        let made = Introductions::default();
        let one = routes("r", &[("a", &["one"])]);
        let between = made.between(&one, &parts.finish(), everything);
        assert!(between.is_none());
    }
}
