//! Variants of a resource, by the parameters of whoever asks.

use super::*;
use crate::control::variant::tests::{constraints, locator};

/// Variants of one resource: what they ask of the parameter `env`, and their content. `None`: it is not there.
fn variants(rows: &[(Option<&str>, &str)]) -> Vec<Encoded> {
    let encoded = |(value, body): &(Option<&str>, &str)| {
        let mut parts = Parts::new(Kind::Endpoints, "a".into(), body.as_bytes());
        parts.constraints = Some(constraints("env", *value));
        parts.finish()
    };
    rows.iter().map(encoded).collect()
}

const BOTH: &[(Option<&str>, &str)] = &[(None, "all"), (Some("canary"), "few")];

impl World {
    fn of_variants(variant: Variant, rows: &[(Option<&str>, &str)]) -> Self {
        Self::of(variant, Arc::new(Snapshot::new(variants(rows))))
    }

    fn set_variants(&mut self, rows: &[(Option<&str>, &str)]) {
        self.snapshot = Arc::new(self.snapshot.next(variants(rows)));
        self.stream.update(self.snapshot.clone(), self.now);
    }
}

#[test]
fn d23_a_client_gets_the_variant_of_its_parameters() {
    let canary = locator("a", &[("env", "canary")]);
    let other = locator("a", &[("env", "other")]);
    for (name, expected) in [("a", "E a=all"), (&canary, "E a=few")] {
        let mut world = World::of_variants(Variant::Delta, BOTH);
        world.sub("E", &[name], &[]);
        world.takes(expected);
        world.gets_nothing();
        let mut world = World::of_variants(Variant::Sotw, BOTH);
        world.request("E", &[name]);
        world.takes(expected);
        world.gets_nothing();
    }
    let mut world = World::of_variants(Variant::Delta, BOTH);
    world.sub("E", &[&other], &[]);
    let response = world.next().expect("it does not exist");
    assert_eq!(response.removed, [Arc::from(&*other)]);
}

#[test]
fn d23_what_has_no_variants_is_for_all_parameters() {
    let mut world = World::delta("E a=1");
    let key = locator("a", &[("env", "canary")]);
    world.sub("E", &[&key], &[]);
    world.takes("E a=1");
    world.set("E a=2");
    world.takes("E a=2");
    // Two names of one resource are one resource.
    world.sub("E", &["a"], &[]);
    world.takes("E a=2");
    world.set("E a=3");
    world.takes("E a=3");
    world.set("");
    let response = world.next().expect("it is gone");
    assert_eq!(response.removed.len(), 2);
}

#[test]
fn d23_changes_of_a_variant_concern_those_who_have_it() {
    let mut world = World::of_variants(Variant::Delta, BOTH);
    let canary = locator("a", &[("env", "canary")]);
    world.sub("E", &[&canary], &[]);
    world.takes("E a=few");
    world.set_variants(&[(None, "others"), (Some("canary"), "few")]);
    world.gets_nothing();
    world.set_variants(&[(None, "others"), (Some("canary"), "fewer")]);
    world.takes("E a=fewer");
    world.set_variants(&[(None, "others")]);
    world.takes("E -fewer");
    world.gets_nothing();
    world.set_variants(BOTH);
    world.takes("E a=few");
}

/// The client keeps variants apart by their constraints, so that one that no name leads to is taken away.
#[test]
fn d23_another_variant_in_place_of_one_takes_that_away() {
    let mut world = World::of_variants(Variant::Delta, &[(None, "all")]);
    world.sub("E", &["a"], &[]);
    world.takes("E a=all");
    world.set("E a=plain");
    world.takes("E a=plain -all");
    // Two names can lead to one.
    let mut world = World::of_variants(Variant::Delta, BOTH);
    let canary = locator("a", &[("env", "canary")]);
    let both = locator("a", &[("env", "canary"), ("zone", "b")]);
    world.sub("E", &[&canary, &both], &[]);
    world.takes("E a=few");
    world.sub("E", &[], &[&both]);
    world.gets_nothing();
    world.set_variants(&[(None, "all")]);
    world.takes("E -few");
}

#[test]
fn d23_everything_can_be_asked_for_with_parameters() {
    let canary = locator("*", &[("env", "canary")]);
    let mut world = World::of_variants(Variant::Delta, BOTH);
    world.sub("E", &[&canary], &[]);
    world.takes("E a=few");
    world.set_variants(&[(None, "all"), (Some("canary"), "fewer")]);
    world.takes("E a=fewer");
    world.sub("E", &[], &[&canary]);
    world.set_variants(BOTH);
    world.gets_nothing();
    let mut world = World::of_variants(Variant::Sotw, BOTH);
    world.request("E", &[&canary]);
    world.gets("E a=few");
    world.request("E", &[&canary]);
    world.gets_nothing();
    world.request("E", &["*"]);
    world.takes("E a=all");
    world.gets_nothing();
}

/// Envoy waits for endpoints behind each cluster, whatever parameters it asks with.
#[test]
fn d23_s29_order_holds_for_names_with_parameters() {
    let with = |name: &str| locator(name, &[("env", "canary")]);
    let mut world = World::delta("C old=1 >old; E old=1; L l=1 >:r; R r=1 >old");
    world.sub("C", &[&with("*")], &[]);
    world.takes("C old=1");
    world.sub("E", &[&with("old")], &[]);
    world.takes("E old=1");
    world.sub("R", &[&with("r")], &[]);
    world.takes("R r=1");
    world.set("C new=1 >new; E new=1; L l=1 >:r; R r=2 >new");
    let clusters = world.gets("C new=1");
    world.gets_nothing();
    world.ack(&clusters);
    world.sub("E", &[&with("new")], &[&with("old")]);
    let endpoints = world.gets("E new=1");
    world.gets_nothing();
    world.ack(&endpoints);
    let routes = world.gets("R r=2");
    world.gets_nothing();
    world.ack(&routes);
    let removed = world.next().expect("the old cluster leaves");
    assert_eq!(removed.removed, [Arc::from(&*with("old"))]);
}
