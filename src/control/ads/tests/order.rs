//! What goes out before what, when one edit moves a route.

use super::*;

const BEFORE: &str = "C old=1 >old; E old=1; L l=1 >:r; R r=1 >old";
pub(super) const AFTER: &str = "C new=1 >new; E new=1; L l=1 >:r; R r=2 >new";

/// Envoy: all clusters and listeners, and by name what they refer to.
fn proxy(variant: Variant, lines: &str, endpoints: &[&str]) -> World {
    let mut world = World::new(variant, lines);
    world.want("C", &[]);
    world.takes_any("C");
    world.want("E", endpoints);
    world.takes_any("E");
    world.want("L", &[]);
    world.takes_any("L");
    world.want("R", &["r"]);
    world.takes_any("R");
    world.gets_nothing();
    world
}

/// gRPC: everything by name, in the order in which one leads to another.
fn named() -> World {
    let mut world = World::sotw(BEFORE);
    for (kind, name, answer) in [
        ("L", "l", "L l=1"),
        ("R", "r", "R r=1"),
        ("C", "old", "C old=1"),
        ("E", "old", "E old=1"),
    ] {
        world.request(kind, &[name]);
        world.takes(answer);
    }
    world
}

impl World {
    fn want(&mut self, kind: &str, names: &[&str]) {
        match self.variant {
            Variant::Sotw => self.request(kind, names),
            Variant::Delta => self.sub(kind, names, &[]),
        };
    }

    fn takes_any(&mut self, kind: &str) {
        let response = self.next().expect("a response");
        assert_eq!(text(&response).split(' ').next(), Some(kind));
        self.ack(&response);
    }
}

#[test]
fn s19_endpoints_come_again_after_their_cluster() {
    let mut world = proxy(Variant::Sotw, BEFORE, &["old"]);
    world.set("C old=2 >old; E old=1; L l=1 >:r; R r=1 >old");
    assert_eq!(world.settles(), ["C old=2", "E old=1"]);
    // Only those of what is new or changed, although all clusters are repeated.
    world.set("C old=2 >old; C b=1 >b; E b=1; E old=1; L l=1 >:r; R r=1 >old");
    assert_eq!(world.settles(), ["C b=1 old=2"]);
}

#[test]
fn d16_endpoints_come_again_after_their_cluster() {
    let mut world = proxy(Variant::Delta, BEFORE, &["old"]);
    world.set("C old=2 >old; E old=1; L l=1 >:r; R r=1 >old");
    assert_eq!(world.settles(), ["C old=2", "E old=1"]);
}

#[test]
fn d16_what_a_client_brings_does_not_count_for_endpoints_of_a_cluster_that_was_sent() {
    let mut world = World::delta("C a=1 >a; C b=1 >b; E a=1; E b=1");
    let version = |kind: Kind, name: &str| {
        world
            .snapshot
            .get(kind, name)
            .unwrap()
            .version()
            .to_string()
    };
    let b = version(Kind::Cluster, "b");
    let (of_a, of_b) = (version(Kind::Endpoints, "a"), version(Kind::Endpoints, "b"));
    world.raw_delta("C", &[], &[], &[("b", &b)], "", None);
    world.takes("C a=1");
    world.raw_delta(
        "E",
        &["a", "b"],
        &[],
        &[("a", &of_a), ("b", &of_b)],
        "",
        None,
    );
    world.takes("E a=1");
    world.gets_nothing();
}

#[test]
fn s23_s29_one_edit_that_moves_a_route_and_deletes_the_old_cluster() {
    let mut world = proxy(Variant::Sotw, BEFORE, &["old"]);
    world.set(AFTER);
    let clusters = world.gets("C new=1 old=1");
    world.gets_nothing();
    world.ack(&clusters);
    world.gets_nothing();
    world.request("E", &["new", "old"]);
    let endpoints = world.gets("E new=1");
    world.gets_nothing();
    world.ack(&endpoints);
    let routes = world.gets("R r=2");
    world.gets_nothing();
    world.ack(&routes);
    world.takes("C new=1");
    world.gets_nothing();
}

#[test]
fn d18_d25_one_edit_that_moves_a_route_and_deletes_the_old_cluster() {
    let mut world = proxy(Variant::Delta, BEFORE, &["old"]);
    world.set(AFTER);
    let clusters = world.gets("C new=1");
    world.gets_nothing();
    world.ack(&clusters);
    world.gets_nothing();
    world.sub("E", &["new"], &[]);
    world.takes("E new=1");
    let routes = world.gets("R r=2");
    world.gets_nothing();
    world.ack(&routes);
    let removal = world.gets("C !old");
    world.gets_nothing();
    world.ack(&removal);
    world.takes("E !old");
    world.gets_nothing();
}

#[test]
fn s23_a_refused_route_keeps_the_old_cluster() {
    for variant in [Variant::Sotw, Variant::Delta] {
        let mut world = proxy(variant, BEFORE, &["old"]);
        world.set(AFTER);
        world.takes_any("C");
        world.want("E", &["new", "old"]);
        world.takes_any("E");
        let routes = world.gets("R r=2");
        world.nack(&routes);
        world.gets_nothing();
        world.pass(Duration::from_secs(3_600));
        world.gets_nothing();
        assert_eq!(world.has("C"), ["new", "old"]);
        world.set(&AFTER.replace("r=2", "r=3"));
        world.takes("R r=3");
        world.takes_any("C");
        assert_eq!(world.has("C"), ["new"]);
    }
}

#[test]
fn s23_a_named_client_lets_go_itself_or_after_five_seconds() {
    let mut world = named();
    world.set(AFTER);
    world.takes("R r=2");
    world.gets_nothing();
    world.request("C", &["new", "old"]);
    world.takes("C new=1 old=1");
    world.request("E", &["new", "old"]);
    world.takes("E new=1");
    world.gets_nothing();
    assert_eq!(
        world.stream.wake(),
        Some(world.now + Duration::from_secs(5))
    );
    world.pass(Duration::from_secs(4));
    world.gets_nothing();
    world.pass(Duration::from_secs(1));
    world.takes("C new=1");
    world.request("C", &["new"]);
    world.gets_nothing();
}

#[test]
fn s23_a_named_client_that_let_go_is_told_nothing() {
    let mut world = named();
    world.set(AFTER);
    world.takes("R r=2");
    world.request("C", &["new", "old"]);
    world.takes("C new=1 old=1");
    world.request("C", &["new"]);
    world.gets_nothing();
    world.pass(Duration::from_secs(60));
    world.gets_nothing();
}

#[test]
fn s23_a_route_that_names_what_does_not_exist_holds_nothing() {
    for variant in [Variant::Sotw, Variant::Delta] {
        let mut world = proxy(variant, BEFORE, &["old"]);
        world.set("E old=1; L l=1 >:r; R r=1 >old");
        world.takes(match variant {
            Variant::Sotw => "C",
            Variant::Delta => "C !old",
        });
        world.gets_nothing();
    }
}

#[test]
fn s23_everything_goes_in_the_order_of_use() {
    let mut world = proxy(Variant::Sotw, BEFORE, &["old"]);
    world.set("");
    world.takes("L");
    world.gets_nothing();
    // Envoy wants no routes of a listener that is gone.
    world.request("R", &[]);
    world.takes("C");
    world.gets_nothing();
    let mut world = proxy(Variant::Sotw, BEFORE, &["old"]);
    world.set("");
    world.takes("L");
    world.gets_nothing();
    world.pass(Duration::from_secs(5));
    world.takes("C");
    let mut world = proxy(Variant::Delta, BEFORE, &["old"]);
    world.set("");
    assert_eq!(world.settles(), ["L !l", "R !r", "C !old", "E !old"]);
}

#[test]
fn s29_a_route_waits_two_seconds_for_endpoints_that_are_not_acknowledged() {
    for variant in [Variant::Sotw, Variant::Delta] {
        let mut world = proxy(variant, BEFORE, &["old"]);
        world.set(AFTER);
        world.takes_any("C");
        world.gets_nothing();
        assert_eq!(
            world.stream.wake(),
            Some(world.now + Duration::from_secs(2))
        );
        world.pass(Duration::from_millis(1_999));
        world.gets_nothing();
        world.pass(Duration::from_millis(1));
        world.takes("R r=2");
    }
}

#[test]
fn s29_a_route_never_goes_before_its_cluster_was_sent() {
    let mut world = proxy(Variant::Sotw, BEFORE, &["old"]);
    world.set(&format!("{BEFORE}; C other=1 >other"));
    let unanswered = world.gets("C old=1 other=1");
    world.set(AFTER);
    world.gets_nothing();
    world.pass(Duration::from_secs(60));
    world.gets_nothing();
    world.ack(&unanswered);
    world.gets("C new=1 old=1");
    // The two seconds are over; what counts is that the cluster is there.
    world.gets("R r=2");
}

#[test]
fn s29_a_cluster_without_endpoints_holds_nothing() {
    let mut world = proxy(Variant::Sotw, BEFORE, &["old"]);
    world.set("C old=1 >old; E old=1; C new=1 >new; L l=1 >:r; R r=2 >new,absent");
    world.takes("C new=1 old=1");
    world.takes("R r=2");
}

#[test]
fn s29_a_held_listener_goes_out_as_it_was_while_others_change() {
    let before = "C old=1 >old; E old=1; L a=1 >old; L b=1";
    let mut world = World::sotw(before);
    world.request("C", &[]);
    world.takes("C old=1");
    world.request("E", &["old"]);
    world.takes("E old=1");
    world.request("L", &[]);
    world.takes("L a=1 b=1");
    world.set("C old=1 >old; E old=1; C new=1 >new; E new=1; L a=2 >new; L b=2");
    world.takes("C new=1 old=1");
    world.takes("L a=1 b=2");
    world.request("E", &["new", "old"]);
    world.takes("E new=1");
    world.takes("L a=2 b=2");
}

#[test]
fn s29_named_clients_are_not_held() {
    let mut world = named();
    world.set(AFTER);
    world.takes("R r=2");
}

#[test]
fn s26_a_stuck_reader_keeps_one_state() {
    let mut world = proxy(Variant::Sotw, BEFORE, &["old"]);
    let old = Arc::downgrade(&world.snapshot.get(Kind::Endpoints, "old").expect("there"));
    let mut between = Vec::new();
    for body in 2..200 {
        world.set(&BEFORE.replace("E old=1", &format!("E old={body}")));
        between.push(Arc::downgrade(
            &world.snapshot.get(Kind::Endpoints, "old").expect("there"),
        ));
    }
    // Nobody reads: what the client has and what is in force live, nothing between them does.
    assert!(old.upgrade().is_some());
    let alive = between.iter().filter(|one| one.upgrade().is_some()).count();
    assert_eq!(alive, 1);
    assert!(
        world
            .stream
            .watches
            .iter()
            .flatten()
            .all(|watch| watch.due.len() <= 1)
    );
}
