//! Clients that are told of clusters before requests are routed to them.

use super::*;
use crate::control::introduction::tests::routes;

/// A snapshot of clusters with endpoints, and routes `r` of one virtual host that lead to one of them.
fn snapshot(before: &Snapshot, clusters: &[&str], to: &str) -> Arc<Snapshot> {
    let mut all = vec![routes("r", &[("a", &[to])])];
    for name in clusters {
        all.extend(resources(&format!("C {name}=1 >{name}; E {name}=1")));
    }
    Arc::new(before.next(all))
}

struct Go {
    world: World,
}

impl Go {
    /// A client that has its routes to `old`.
    fn new() -> Self {
        let first = snapshot(&Snapshot::default(), &["old"], "old");
        let mut world = World::of(Variant::Sotw, first);
        world.stream.client.introduces = true;
        world.request("R", &["r"]);
        world.settles();
        world.request("C", &["old"]);
        world.settles();
        world.request("E", &["old"]);
        world.settles();
        Self { world }
    }

    fn set(&mut self, clusters: &[&str], to: &str) {
        let next = snapshot(&self.world.snapshot, clusters, to);
        self.world.snapshot = next.clone();
        self.world.stream.update(next, self.world.now);
    }

    /// The next response is routes that name these clusters, in this order.
    fn gets_routes(&mut self, clusters: &[&str]) -> Response {
        let response = self.world.next().expect("routes");
        let [Item::Full(routes)] = &response.items[..] else {
            panic!("{}", text(&response));
        };
        let named: Vec<&str> = routes
            .references()
            .iter()
            .map(|(_, name)| &**name)
            .collect();
        assert_eq!(named, clusters);
        response
    }
}

#[test]
fn routes_wait_until_their_new_clusters_are_known_by_routes_that_introduce_them() {
    let mut go = Go::new();
    go.set(&["new"], "new");
    let introduction = go.gets_routes(&["new", "old"]);
    go.world.gets_nothing();
    go.world.ack(&introduction);
    go.world.gets_nothing();
    go.world.request("C", &["new", "old"]);
    go.world.takes("C new=1 old=1");
    go.world.request("E", &["new", "old"]);
    let endpoints = go.world.gets("E new=1");
    go.world.gets_nothing();
    go.world.ack(&endpoints);
    let routes = go.gets_routes(&["new"]);
    go.world.ack(&routes);
    go.world.gets_nothing();
    assert_eq!(
        go.world.stream.wake(),
        Some(go.world.now + Duration::from_secs(5))
    );
}

#[test]
fn routes_to_clusters_that_they_named_before_come_at_once() {
    let mut go = Go::new();
    go.set(&["old", "other"], "old");
    go.world.gets_nothing();
    let mut other = Go::new();
    other.world.stream.client.introduces = false;
    other.set(&["new"], "new");
    other.gets_routes(&["new"]);
}

#[test]
fn a_client_that_takes_no_notice_gets_the_routes_two_seconds_later() {
    let mut go = Go::new();
    go.set(&["new"], "new");
    let introduction = go.gets_routes(&["new", "old"]);
    go.world.ack(&introduction);
    go.world.gets_nothing();
    let end = go.world.now + Duration::from_secs(2);
    assert_eq!(go.world.stream.wake(), Some(end));
    go.world.pass(Duration::from_secs(2));
    go.gets_routes(&["new"]);
}

#[test]
fn a_client_that_refuses_the_introduction_gets_the_routes_and_none_again() {
    let mut go = Go::new();
    go.set(&["new"], "new");
    let introduction = go.gets_routes(&["new", "old"]);
    go.world.nack(&introduction);
    let routes = go.gets_routes(&["new"]);
    go.world.nack(&routes);
    go.world.gets_nothing();
}

#[test]
fn an_edit_that_is_taken_back_in_between_leads_back() {
    let mut go = Go::new();
    go.set(&["new", "old"], "new");
    let introduction = go.gets_routes(&["new", "old"]);
    go.set(&["new", "old"], "old");
    go.world.ack(&introduction);
    let routes = go.gets_routes(&["old"]);
    go.world.ack(&routes);
    go.world.gets_nothing();
}

#[test]
fn a_cluster_that_does_not_exist_is_not_introduced() {
    let mut go = Go::new();
    go.set(&["old"], "nobody");
    go.gets_routes(&["nobody"]);
}

#[test]
fn the_first_routes_of_a_stream_come_at_once() {
    let first = snapshot(&Snapshot::default(), &["old"], "old");
    let mut world = World::of(Variant::Sotw, first);
    world.stream.client.introduces = true;
    world.request("R", &["r"]);
    Go { world }.gets_routes(&["old"]);
}

/// A host that nobody used before brings its own cluster, which no route of those before could name.
#[test]
fn routes_with_another_host_come_at_once() {
    let mut go = Go::new();
    let mut all = vec![routes("r", &[("a", &["old"]), ("b", &["new"])])];
    for name in ["old", "new"] {
        all.extend(resources(&format!("C {name}=1 >{name}; E {name}=1")));
    }
    let next = Arc::new(go.world.snapshot.next(all));
    go.world.snapshot = next.clone();
    go.world.stream.update(next, go.world.now);
    let response = go.gets_routes(&["new", "old"]);
    let target = go.world.snapshot.get(Kind::Routes, "r").expect("routes");
    let [Item::Full(sent)] = &response.items[..] else {
        panic!("{}", text(&response));
    };
    assert_eq!(sent.hash(), target.hash(), "nothing is introduced");
    go.world.ack(&response);
    go.world.gets_nothing();
}

/// In the state of the world nobody is told that routes are gone, so that they stay with the client.
#[test]
fn routes_that_left_while_they_were_introduced_are_introduced_when_they_come_back() {
    let mut go = Go::new();
    go.set(&["new"], "new");
    let introduction = go.gets_routes(&["new", "old"]);
    go.world.ack(&introduction);
    let gone = Arc::new(go.world.snapshot.next(Vec::new()));
    go.world.snapshot = gone.clone();
    go.world.stream.update(gone, go.world.now);
    while let Some(response) = go.world.next() {
        go.world.ack(&response);
    }
    go.world.pass(Duration::from_secs(60));
    while let Some(response) = go.world.next() {
        go.world.ack(&response);
    }
    go.set(&["new", "next"], "next");
    let introduction = go.world.next().expect("routes");
    let [Item::Full(routes)] = &introduction.items[..] else {
        panic!("{}", text(&introduction));
    };
    let named = routes.references().iter().map(|(_, name)| &**name);
    let named: Vec<&str> = named
        .filter(|name| *name == "next" || *name == "old")
        .collect();
    assert_eq!(
        named,
        ["next", "old"],
        "the old routes, which name the next cluster too"
    );
}
