//! Names: how many, how long, how often.

use super::*;
use crate::control::ads::Reason;

#[test]
fn names_are_bounded_in_number_in_bytes_and_each() {
    let many: Vec<String> = (0..100_001).map(|at| format!("name-{at}")).collect();
    let long = (0..=(16 << 20) / (8 << 10))
        .map(|at| format!("{at:0>8192}"))
        .collect::<Vec<_>>();
    let one = vec!["x".repeat((8 << 10) + 1)];
    for (names, exhausted) in [(&many, true), (&long, true), (&one, false)] {
        let sotw = SotwRequest {
            kind: Kind::Endpoints,
            names: names.clone(),
            version: String::new(),
            nonce: String::new(),
            error: None,
        };
        let mut world = World::sotw("E a=1");
        let refusal = world.stream.sotw(&sotw, world.now).expect_err("too much");
        assert_eq!(
            refusal.reason == Reason::Exhausted,
            exhausted,
            "{}",
            refusal.message
        );
        assert_eq!(world.stream.names(), 0);
        let delta = DeltaRequest {
            kind: Kind::Endpoints,
            subscribe: names.clone(),
            unsubscribe: Vec::new(),
            initial: Vec::new(),
            nonce: String::new(),
            error: None,
        };
        let mut world = World::delta("E a=1");
        let refusal = world.stream.delta(&delta, world.now).expect_err("too much");
        assert_eq!(
            refusal.reason == Reason::Exhausted,
            exhausted,
            "{}",
            refusal.message
        );
    }
    assert!(
        {
            let mut world = World::sotw("");
            let names: Vec<&str> = many[..100_000].iter().map(|name| &**name).collect();
            world.request("E", &names[..50_000]);
            // The list replaces the one before it, and is counted once.
            world.request("E", &names);
            world.stream.names()
        } == 100_000
    );
}

#[test]
fn names_of_all_kinds_count_together() {
    let mut world = World::delta("");
    world.stream.client.names = 3;
    world.sub("C", &["a", "b"], &[]);
    let request = DeltaRequest {
        kind: Kind::Endpoints,
        subscribe: vec!["c".into(), "d".into()],
        unsubscribe: Vec::new(),
        initial: Vec::new(),
        nonce: String::new(),
        error: None,
    };
    let refusal = world
        .stream
        .delta(&request, world.now)
        .expect_err("one too many");
    assert!(
        refusal.message.starts_with("4 names of 4 bytes"),
        "{}",
        refusal.message
    );
}

/// A name that leaves makes room for one, whatever is said of it how often.
#[test]
fn names_that_leave_make_room_for_as_many() {
    let mut world = World::delta("");
    world.stream.client.names = 3;
    world.sub("E", &["a", "b", "c"], &[]);
    world.sub("E", &["d", "d", "a"], &["b", "b", "phantom"]);
    assert_eq!(world.stream.names(), 3);
    let request = DeltaRequest {
        kind: Kind::Endpoints,
        subscribe: vec!["e".into(), "f".into()],
        unsubscribe: vec!["a".into(), "a".into(), "phantom".into()],
        initial: Vec::new(),
        nonce: String::new(),
        error: None,
    };
    let refusal = world.stream.delta(&request, world.now).expect_err("4");
    assert_eq!(refusal.reason, Reason::Exhausted);
    assert_eq!(world.stream.names(), 3);
    world.sub("E", &[], &["a", "c", "d"]);
    assert_eq!(world.stream.names(), 0);
}

/// A client of everything says what it has, and may not invent more than it could ask for.
#[test]
fn names_that_a_client_brings_are_bounded_as_those_that_it_asks_for() {
    let brought = |world: &mut World, kind: &str, initial: &[(&str, &str)]| {
        let request = DeltaRequest {
            kind: kind_of(kind),
            subscribe: Vec::new(),
            unsubscribe: Vec::new(),
            initial: initial
                .iter()
                .map(|(name, version)| (name.to_string(), version.to_string()))
                .collect(),
            nonce: String::new(),
            error: None,
        };
        world.stream.delta(&request, world.now)
    };
    let one = |lines: &str| {
        let mut world = World::delta(lines);
        world.stream.client.names = 1;
        world
    };
    // What exists costs nothing: the server has it.
    let mut world = one("C a=1; C b=1; C c=1");
    let known = [("a", "1"), ("b", "1"), ("c", "1"), ("x", "1")];
    brought(&mut world, "C", &known).expect("one is a stranger");
    let refusal = brought(&mut world, "L", &[("y", "1")]).expect_err("two of all kinds");
    assert_eq!(refusal.reason, Reason::Exhausted);
    let text = refusal.message;
    assert!(text.starts_with("2 names of 2 bytes"), "{text}");
    // What is withdrawn makes room, and so does what comes to be.
    let mut world = one("C a=1");
    brought(&mut world, "C", &[("x", "1")]).expect("room for one");
    world.takes("C a=1");
    world.pass(Duration::from_secs(5));
    world.takes("C !x");
    brought(&mut world, "L", &[("l", "1")]).expect("room for one");
    world.set("C a=1; L l=1");
    world.takes("L l=1");
    // What is asked for too is counted once.
    world.sub("R", &["r"], &[]);
    let mut world = one("");
    brought(&mut world, "C", &[("x", "1")]).expect("room for one");
    world.sub("C", &["x"], &[]);
    let long = "x".repeat((8 << 10) + 1);
    let refusal = brought(&mut world, "L", &[(&long, "1")]).expect_err("too long");
    assert_eq!(refusal.reason, Reason::Invalid);
}

#[test]
fn a_hundred_thousand_names_go_with_their_subscription() {
    let names: Vec<String> = (0..100_000).map(|at| format!("name-{at}")).collect();
    let names: Vec<&str> = names.iter().map(|name| &**name).collect();
    for variant in [Variant::Sotw, Variant::Delta] {
        let mut world = World::new(variant, "E name-7=1");
        world.stream.client.errors = true;
        world.request_any("E", &names);
        let response = world.next().expect("what there is, and what is not");
        let unknown = response.missing.len() + response.removed.len();
        assert_eq!((response.items.len(), unknown), (1, 99_999));
        world.ack(&response);
        // Another state concerns the one that there is, not all that were asked for.
        world.set("E name-7=2");
        world.takes("E name-7=2");
        world.request_none("E", &names);
        world.gets_nothing();
        let watch = world.stream.watch(Kind::Endpoints).expect("it began");
        let kept = [
            watch.names(),
            watch.have.len(),
            watch.due.len(),
            watch.told.len(),
        ];
        assert_eq!(kept, [0; 4]);
        assert_eq!(watch.cost(), (0, 0));
    }
}

#[test]
fn empty_names_are_survived_ten_thousand_times() {
    for variant in [Variant::Sotw, Variant::Delta] {
        let mut world = World::new(variant, "C a=1; E a=1");
        world.request_any("E", &["", "", ""]);
        world.gets_nothing();
        for _ in 0..10_000 {
            world.request_any("E", &[""]);
            world.gets_nothing();
        }
        assert_eq!(world.stream.names(), 0);
        world.request_any("E", &["a", ""]);
        world.takes("E a=1");
    }
}

impl World {
    fn request_none(&mut self, kind: &str, names: &[&str]) {
        match self.variant {
            Variant::Sotw => self.request(kind, &[]),
            Variant::Delta => self.sub(kind, &[], names),
        };
    }

    pub(super) fn request_any(&mut self, kind: &str, names: &[&str]) {
        match self.variant {
            Variant::Sotw => self.request(kind, names),
            Variant::Delta => self.sub(kind, names, &[]),
        };
    }
}

/// Has a large listener of whatever name.
#[derive(Debug)]
struct Large;

impl crate::control::snapshot::Lookup for Large {
    fn find(&self, kind: Kind, name: &str) -> Option<Arc<Encoded>> {
        let body = [b'x'; 400 << 10];
        (kind == Kind::Listener).then(|| Arc::new(Encoded::new(kind, name, &body)))
    }
}

#[test]
fn copies_under_names_of_a_clients_own_are_bounded_in_bytes() {
    for variant in [Variant::Sotw, Variant::Delta] {
        let snapshot = Snapshot::default().with([], Some(Arc::new(Large)));
        let mut world = World::of(variant, Arc::new(snapshot));
        let names: Vec<String> = (0..11).map(|at| format!("copy-{at:0>2}")).collect();
        let names: Vec<&str> = names.iter().map(|name| &**name).collect();
        world.request_any("L", &names[..5]);
        let response = world.next().expect("five copies");
        world.ack(&response);
        world.request_any("L", &names[..10]);
        let response = world.next().expect("ten copies");
        world.ack(&response);
        // Again, in place of those before.
        world.snapshot = Arc::new(Snapshot::default().with([], Some(Arc::new(Large))));
        world.stream.update(world.snapshot.clone(), world.now);
        world.request_any("L", &names);
        let refusal = world.stream.next(world.now).expect_err("too much");
        assert_eq!(refusal.reason, Reason::Exhausted, "{}", refusal.message);
    }
}
