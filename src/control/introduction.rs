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
//! path that nobody calls. They are made once for all streams that go from one version to another.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use envoy_types::pb::envoy::config::route::v3 as route;
use prost::Message as _;

use super::kind::Kind;
use super::references;
use super::resource::{Encoded, Parts};

/// Before the cluster in the path of a route that introduces one. Methods of gRPC have two parts.
const PATH: &str = "/meshwork.introduction/";

/// The most that are kept of one snapshot; beyond it, they are made for each stream.
const KEPT: usize = 4_096;

/// Introductions that were made, for the streams of one snapshot.
#[derive(Debug, Default)]
pub(super) struct Introductions {
    made: Mutex<Made>,
}

/// By the versions that they lead from and to; `None`: there is none between these.
type Made = HashMap<(u64, u64), Option<Arc<Encoded>>>;

impl Introductions {
    /// Routes as in `from` that name the clusters of `to` as well. `None`: there are no new ones, or one of
    /// the two is no route configuration.
    pub(super) fn between(&self, from: &Encoded, to: &Encoded) -> Option<Arc<Encoded>> {
        unknown(from, to).next()?;
        let key = (from.hash(), to.hash());
        // Held for the making of one, which is as long as its decoding.
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = made.get(&key) {
            return found.clone();
        }
        let introduction = make(from, to).map(Arc::new);
        if made.len() < KEPT {
            made.insert(key, introduction.clone());
        }
        introduction
    }
}

/// The clusters that the one refers to and the other does not.
pub(super) fn unknown<'a>(
    from: &'a Encoded,
    to: &'a Encoded,
) -> impl Iterator<Item = &'a Arc<str>> {
    let referred = to.references().iter();
    referred
        .filter(|reference| reference.0 == Kind::Cluster && !from.references().contains(reference))
        .map(|(_, name)| name)
}

fn make(from: &Encoded, to: &Encoded) -> Option<Encoded> {
    let mut before = route::RouteConfiguration::decode(from.body()).ok()?;
    let after = route::RouteConfiguration::decode(to.body()).ok()?;
    for host in &mut before.virtual_hosts {
        let Some(next) = after
            .virtual_hosts
            .iter()
            .find(|next| next.name == host.name)
        else {
            continue;
        };
        let known = clusters(host);
        let new = clusters(next).into_iter();
        let new = new.filter(|cluster| !known.contains(cluster));
        host.routes.extend(new.map(|cluster| introducing(&cluster)));
    }
    let body = before.encode_to_vec();
    let mut parts = Parts::new(Kind::Routes, from.name().clone(), &body);
    parts.references = references::of(Kind::Routes, &body);
    Some(parts.finish())
}

/// The clusters of a virtual host.
fn clusters(host: &route::VirtualHost) -> BTreeSet<String> {
    let alone = route::RouteConfiguration {
        virtual_hosts: vec![host.clone()],
        ..Default::default()
    };
    let referred = references::of(Kind::Routes, &alone.encode_to_vec()).into_iter();
    let clusters = referred.filter(|(kind, _)| *kind == Kind::Cluster);
    clusters.map(|(_, name)| name.to_string()).collect()
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

    #[test]
    fn the_old_routes_stay_and_new_clusters_are_behind_a_path_that_nobody_calls() {
        let from = routes("r", &[("a", &["one"]), ("b", &["one"])]);
        let to = routes("r", &[("a", &["two"]), ("c", &["three"])]);
        let made = Introductions::default();
        let between = made.between(&from, &to).expect("there is a new cluster");
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
        let (first, second) = (made.between(&one, &two), made.between(&one, &two));
        let (first, second) = (first.expect("one"), second.expect("one"));
        assert!(Arc::ptr_eq(&first, &second));
        assert!(made.between(&first, &two).is_none(), "it names the cluster");
        assert!(made.between(&one, &one).is_none());
    }

    #[test]
    fn what_is_no_route_configuration_has_none() {
        let mut parts = Parts::new(Kind::Routes, "r".into(), b"\xff");
        parts.references = vec![(Kind::Cluster, "two".into())];
        let made = Introductions::default();
        let one = routes("r", &[("a", &["one"])]);
        assert!(made.between(&one, &parts.finish()).is_none());
    }
}
