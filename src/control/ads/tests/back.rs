//! Clients that come back from another stream, with what they have from there.

use super::order::AFTER;
use super::*;

/// What a client brings to a new stream: a name and a version, of which the server knows nothing.
const OLD: (&str, &str) = ("old", "0123456789abcdef");

/// The two ways in which Envoy asks for all of a kind when it comes back: by name, and without a word.
const ALL: [&[&str]; 2] = [&["*"], &[]];

#[test]
fn d18_what_a_reconnected_client_brings_is_withdrawn_after_the_routes_that_it_brings() {
    for (all, knows_the_listener) in [(ALL[0], true), (ALL[1], false)] {
        let mut world = World::delta(AFTER);
        world.raw_delta("C", all, &[], &[OLD], "", None);
        world.takes("C new=1");
        world.raw_delta("E", &["new", "old"], &[], &[OLD], "", None);
        world.takes("E new=1");
        world.gets_nothing();
        let l = world.snapshot.get(Kind::Listener, "l").expect("a listener");
        let known = l.version().to_string();
        let (version, answer) = match knows_the_listener {
            true => (&*known, "L"),
            false => (OLD.1, "L l=1"),
        };
        world.raw_delta("L", all, &[], &[("l", version)], "", None);
        world.takes(answer);
        world.gets_nothing();
        world.raw_delta("R", &["r"], &[], &[("r", OLD.1)], "", None);
        let routes = world.gets("R r=2");
        world.pass(Duration::from_secs(60));
        world.gets_nothing();
        world.ack(&routes);
        let removal = world.gets("C !old");
        world.gets_nothing();
        world.ack(&removal);
        world.takes("E !old");
        world.gets_nothing();
    }
}

#[test]
fn d18_a_refused_route_keeps_what_a_reconnected_client_brings() {
    let mut world = World::delta(AFTER);
    world.raw_delta("C", &["*"], &[], &[OLD], "", None);
    world.takes("C new=1");
    world.raw_delta("E", &["new"], &[], &[], "", None);
    world.takes("E new=1");
    world.raw_delta("R", &["r"], &[], &[("r", OLD.1)], "", None);
    let routes = world.gets("R r=2");
    world.nack(&routes);
    world.pass(Duration::from_secs(3_600));
    world.gets_nothing();
    world.set(&AFTER.replace("r=2", "r=3"));
    world.takes("R r=3");
    world.takes("C !old");
}

#[test]
fn d18_routes_that_did_not_change_hold_nothing_after_a_reconnect() {
    let mut world = World::delta(AFTER);
    let r = world.snapshot.get(Kind::Routes, "r").expect("routes");
    let r = r.version().to_string();
    world.raw_delta("R", &["r"], &[], &[("r", &r)], "", None);
    world.gets_nothing();
    world.raw_delta("C", &["*"], &[], &[OLD], "", None);
    world.takes("C new=1 !old");
}

#[test]
fn d18_a_reconnected_client_without_routes_loses_what_it_brings_five_seconds_later() {
    for all in ALL {
        let mut world = World::delta(AFTER);
        world.raw_delta("C", all, &[], &[OLD], "", None);
        world.takes("C new=1");
        world.gets_nothing();
        assert_eq!(
            world.stream.wake(),
            Some(world.now + Duration::from_secs(5))
        );
        world.pass(Duration::from_secs(4));
        world.gets_nothing();
        world.pass(Duration::from_secs(1));
        world.takes("C !old");
        world.gets_nothing();
    }
}

#[test]
fn s23_a_client_that_comes_back_keeps_the_old_cluster_until_its_route_was_replaced() {
    let mut world = World::sotw(AFTER);
    world.stream.client.errors = true;
    world.raw("C", &["old"], "x", "", None);
    world.gets_nothing();
    world.raw("L", &["l"], "x", "", None);
    world.raw("R", &["r"], "x", "", None);
    world.takes("L l=1");
    let route = world.gets("R r=2");
    world.gets_nothing();
    world.ack(&route);
    world.takes("C ?old");
    world.gets_nothing();
    // A route that stays refused holds it for five seconds; a client without routes too.
    let mut world = World::sotw(AFTER);
    world.raw("C", &["old", "new"], "x", "", None);
    world.raw("R", &["r"], "x", "", None);
    let route = world.gets("R r=2");
    world.nack(&route);
    world.pass(Duration::from_secs(4));
    world.gets_nothing();
    world.pass(Duration::from_secs(1));
    world.takes("C new=1");
}

/// What only the client has keeps its whole kind from it, so not for as long as it refuses routes.
#[test]
fn s23_routes_that_stay_refused_withhold_clusters_for_five_seconds() {
    let mut world = World::sotw("C new=1; R r=1 >gone");
    world.request("R", &["r"]);
    world.takes("R r=1");
    world.set("C new=1; R r=2 >new");
    world.raw("C", &["gone", "new"], "x", "", None);
    let routes = world.gets("R r=2");
    world.nack(&routes);
    world.gets_nothing();
    let end = world.now + Duration::from_secs(5);
    assert_eq!(world.stream.wake(), Some(end));
    world.pass(Duration::from_secs(4));
    world.set("C new=1; R r=3 >new");
    let routes = world.gets("R r=3");
    world.nack(&routes);
    world.gets_nothing();
    world.pass(Duration::from_secs(1));
    world.takes("C new=1");
    world.gets_nothing();
}

/// The routes wait for a cluster of the state that waits for them.
#[test]
fn s23_s29_states_that_wait_for_each_other_do_so_for_five_seconds() {
    let mut world = World::sotw("R r=1 >gone");
    world.request("R", &["r"]);
    world.takes("R r=1");
    world.raw("C", &["*", "gone"], "x", "", None);
    world.set("C new=1; R r=2 >new");
    world.gets_nothing();
    world.pass(Duration::from_secs(5));
    world.takes("C new=1");
    world.takes("R r=2");
    world.gets_nothing();
}

#[test]
fn s23_names_that_exist_are_answered_at_once_when_a_client_comes_back() {
    let mut world = World::sotw(AFTER);
    world.raw("C", &["new"], "x", "", None);
    world.takes("C new=1");
    world.raw("E", &["new", "old"], "x", "", None);
    world.takes("E new=1");
    world.gets_nothing();
}
