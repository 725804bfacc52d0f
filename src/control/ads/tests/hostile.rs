//! Clients that mean no good, or are broken.

use super::*;
use crate::control::ads::Reason;
use crate::control::snapshot::Lookup;
use crate::control::variant::tests::locator;
use crate::random::Random;

#[test]
fn a_client_that_never_answers_gets_one_response_per_kind() {
    for variant in [Variant::Sotw, Variant::Delta] {
        let mut world = World::new(variant, "C a=1 >a; E a=1; L l=1 >:r; R r=1 >a");
        for kind in ["C", "E", "L", "R"] {
            world.request_any(kind, &["a", "l", "r"]);
        }
        let mut responses = 0;
        for body in 1..500 {
            world.set(&format!(
                "C a={body} >a; E a={body}; L l={body} >:r; R r={body} >a"
            ));
            world.pass(Duration::from_secs(1));
            while world.next().is_some() {
                responses += 1;
            }
        }
        assert_eq!(responses, 4);
        assert!(
            world
                .stream
                .watches
                .iter()
                .flatten()
                .all(|watch| watch.due.len() <= 3)
        );
    }
}

#[test]
fn a_storm_of_refusals_causes_no_response() {
    let mut world = World::sotw("C a=1");
    world.request("C", &[]);
    let first = world.gets("C a=1");
    world.nack(&first);
    for _ in 0..10_000 {
        assert_eq!(world.answer(&first, Some("no")), Outcome::Subscribed);
        world.gets_nothing();
    }
    let mut world = World::delta("C a=1");
    world.sub("C", &[], &[]);
    let first = world.gets("C a=1");
    world.nack(&first);
    for _ in 0..10_000 {
        assert_eq!(world.answer(&first, Some("no")), Outcome::Stale);
        world.gets_nothing();
    }
}

#[test]
fn invented_versions_and_names_leave_nothing_behind() {
    let mut world = World::delta("C a=1");
    let initial: Vec<(String, String)> = (0..1_000)
        .map(|at| (format!("invented-{at}"), "0".into()))
        .collect();
    let initial: Vec<(&str, &str)> = initial
        .iter()
        .map(|(name, version)| (&**name, &**version))
        .collect();
    world.raw_delta("E", &["b"], &[], &initial, "", None);
    world.takes("E !b");
    assert!(world.has("E").is_empty());
    world.raw_delta("C", &["*"], &[], &initial, "", None);
    world.takes("C a=1");
    // No route was heard of that could lead to them.
    world.pass(Duration::from_secs(5));
    let response = world.next().expect("a response");
    assert_eq!(response.removed.len(), 1_000);
    world.ack(&response);
    assert_eq!(world.has("C"), ["a"]);
}

#[test]
fn stale_and_invented_nonces_change_nothing_in_the_state_of_the_world() {
    let mut world = World::sotw("E a=1; E b=1");
    world.request("E", &["a"]);
    world.takes("E a=1");
    for at in 0..10_000_u64 {
        let nonce = match at % 3 {
            0 => String::new(),
            1 => (at + 2).to_string(),
            _ => format!("invented {at}"),
        };
        let error = (at % 2 == 0).then_some("no");
        assert_eq!(world.raw("E", &["b"], "x", &nonce, error), Outcome::Stale);
        world.gets_nothing();
    }
    assert_eq!(
        (world.has("E"), world.stream.names()),
        (vec!["a".into()], 1)
    );
    world.set("E a=2; E b=2");
    world.takes("E a=2");
}

#[test]
fn stale_and_invented_nonces_subscribe_in_the_delta_variant_and_answer_nothing() {
    let mut world = World::delta("E a=1; E b=1");
    world.sub("E", &["a"], &[]);
    let first = world.gets("E a=1");
    for at in 0..10_000_u64 {
        let nonce = (at + 2).to_string();
        let outcome = world.raw_delta("E", &[], &["phantom"], &[], &nonce, None);
        assert_eq!(outcome, Outcome::Stale);
        world.gets_nothing();
    }
    world.raw_delta("E", &["b"], &[], &[], "invented", Some("no"));
    world.gets_nothing();
    world.ack(&first);
    world.takes("E b=1");
    assert_eq!(world.stream.names(), 2);
}

/// Has a listener of whatever name.
#[derive(Debug)]
struct Anything;

impl Lookup for Anything {
    fn find(&self, kind: Kind, name: &str) -> Option<Arc<Encoded>> {
        (kind == Kind::Listener).then(|| Arc::new(Encoded::new(kind, name, b"1")))
    }
}

fn any_listener(variant: Variant) -> World {
    let listed = Arc::new(resource("L l=1"));
    let snapshot = Snapshot::default().with([listed], Some(Arc::new(Anything)));
    World::of(variant, Arc::new(snapshot))
}

/// Asks for invented names and drops them again under a wildcard, fifty with a message, until it is ended
/// or has said a hundred messages; how many names are kept then, and whether it was ended.
fn asks_and_drops(world: &mut World, kind: &str, answers: bool) -> (usize, bool) {
    world.stream.client.names = 200;
    world.sub(kind, &["*"], &[]);
    let first = world.next();
    if let Some(first) = first.filter(|_| answers) {
        world.ack(&first);
    }
    for at in 0..100 {
        let names: Vec<String> = (0..50).map(|one| format!("invented-{at}-{one}")).collect();
        let request = DeltaRequest {
            kind: kind_of(kind),
            subscribe: names.clone(),
            unsubscribe: names,
            initial: Vec::new(),
            nonce: String::new(),
            error: None,
        };
        let refusal = world.stream.delta(&request, world.now).err();
        if let Some(refusal) = refusal {
            assert_eq!(refusal.reason, Reason::Exhausted, "{}", refusal.message);
            return (world.kept(kind), true);
        }
        if let Some(response) = world.next().filter(|_| answers) {
            world.ack(&response);
        }
    }
    (world.kept(kind), false)
}

impl World {
    fn kept(&self, kind: &str) -> usize {
        let watch = self.stream.watch(kind_of(kind)).expect("subscribed to");
        watch.have.len().max(watch.due.len())
    }
}

#[test]
fn names_that_a_client_of_everything_drops_are_counted_until_it_is_told_that_they_are_gone() {
    let mut silent = World::delta("C a=1");
    assert_eq!(asks_and_drops(&mut silent, "C", false), (201, true));
    // Once it is told, nothing is left of them.
    let mut answering = World::delta("C a=1");
    assert_eq!(asks_and_drops(&mut answering, "C", true), (1, false));
    // These exist under every name, and so nothing says that they are gone.
    let mut any = any_listener(Variant::Delta);
    assert_eq!(asks_and_drops(&mut any, "L", true), (201, true));
}

/// Parameters that nobody else thinks of make a name of their own, which a collection takes for one of its own.
#[test]
fn d23_names_with_parameters_that_are_dropped_leave_nothing_behind_in_a_collection() {
    let directory = "xdstp://a/envoy.config.cluster.v3.Cluster/dir";
    let name = format!("{directory}/x");
    for variant in [Variant::Sotw, Variant::Delta] {
        let mut world = World::new(variant, &format!("C {name}=1"));
        let all = format!("{directory}/*");
        for at in 0..100 {
            let key = locator(&name, &[("k", &at.to_string())]);
            match variant {
                Variant::Sotw => drop(world.request("C", &[&all, &key])),
                Variant::Delta => drop(world.sub("C", &[&all, &key], &[])),
            }
            world.settles();
            assert_eq!(world.kept("C"), 2, "{variant:?}");
            match variant {
                Variant::Sotw => drop(world.request("C", &[&all])),
                Variant::Delta => drop(world.sub("C", &[], &[&key])),
            }
            world.settles();
            assert_eq!(world.has("C"), [name.as_str()], "{variant:?}");
        }
    }
}

/// Its list replaces the one before it, so that what it dropped needs no room.
#[test]
fn s26_names_that_a_client_of_everything_lists_no_more_leave_nothing_behind() {
    for answers in [false, true] {
        let mut world = any_listener(Variant::Sotw);
        world.request("L", &["*"]);
        for at in 0..100 {
            if let Some(response) = world.next().filter(|_| answers) {
                world.ack(&response);
            }
            world.request("L", &["*", &format!("invented-{at}")]);
        }
        assert_eq!(world.kept("L"), 1, "{answers}");
    }
    // Before it was sent anything, nothing that it says is stale.
    let mut world = World::sotw("C a=1");
    for at in 0..100 {
        world.request("C", &["*", &format!("invented-{at}")]);
    }
    assert_eq!(world.kept("C"), 2);
    world.takes("C a=1");
}

/// A cluster that is withdrawn late, because of its routes, is not taken away by dropping its name.
#[test]
fn s23_a_name_that_is_dropped_under_a_wildcard_stays_until_its_routes_let_go() {
    let mut world = World::sotw("C a=1; C b=1; R r=1 >a");
    world.request("C", &["*", "a"]);
    world.request("R", &["r"]);
    world.settles();
    world.set("C b=2; R r=2 >b");
    world.request("C", &["*"]);
    world.takes("C a=1 b=2");
    world.takes("R r=2");
    world.takes("C b=2");
}

/// A client that does not answer keeps what is, and nothing of what came and went meanwhile.
#[test]
fn s26_what_comes_and_goes_while_a_client_does_not_answer_leaves_nothing_behind() {
    for variant in [Variant::Sotw, Variant::Delta] {
        let mut world = World::new(variant, "C a=1");
        world.request_any("C", &["*"]);
        let first = world.gets("C a=1");
        for at in 0..500 {
            world.set(&format!("C a=1; C passing-{at}=1"));
        }
        assert_eq!(world.kept("C"), 1, "{variant:?}");
        world.set("C a=2; C b=1");
        world.ack(&first);
        world.takes("C a=2 b=1");
    }
}

/// Anything at all, in any order: nothing panics, nothing grows, and a client that begins to behave
/// afterwards converges.
#[test]
fn any_requests_are_survived_and_a_client_that_comes_to_reason_converges() {
    for seed in 0..300 {
        let random = Random::seeded(seed);
        let variant = if seed % 2 == 0 {
            Variant::Sotw
        } else {
            Variant::Delta
        };
        let mut world = World::new(variant, "");
        let mut last: Option<Response> = None;
        for _ in 0..200 {
            let names: Vec<String> = (0..random.index(4)).map(|_| any_name(&random)).collect();
            let names: Vec<&str> = names.iter().map(|name| &**name).collect();
            let kind = ["C", "E", "L", "R", "V"][random.index(5)];
            let nonce = match random.index(4) {
                0 => String::new(),
                1 => "4711".into(),
                2 => random.index(20).to_string(),
                _ => world.nonce(kind),
            };
            let error = (random.index(4) == 0).then_some("no");
            match random.index(5) {
                0 => world.set(&any_state(&random)),
                1 => {
                    last = world.next().or(last);
                    world.pass(Duration::from_millis(random.index(3_000) as u64));
                }
                2 => {
                    if let Some(response) = &last {
                        world.answer(response, error);
                    }
                }
                _ => match variant {
                    Variant::Sotw => drop(world.raw(kind, &names, "x", &nonce, error)),
                    Variant::Delta => {
                        let initial = [("a", "x"), ("b", "")];
                        let unsubscribe: Vec<&str> = names.iter().rev().copied().take(1).collect();
                        world.raw_delta(kind, &names, &unsubscribe, &initial, &nonce, error);
                    }
                },
            }
            let due: usize = world
                .stream
                .watches
                .iter()
                .flatten()
                .map(|watch| watch.due.len())
                .sum();
            assert!(due < 60, "seed {seed}: {due} names are due");
        }
        world.comes_to_reason(seed);
    }
}

fn any_name(random: &Random) -> String {
    ["a", "b", "c", "*", "", "xdstp://x/T/d/*", "r/a"][random.index(7)].into()
}

fn any_state(random: &Random) -> String {
    let mut lines = String::new();
    for kind in ["C", "E", "R", "L"] {
        for name in ["a", "b", "c"] {
            if random.index(3) > 0 {
                let reference = match kind {
                    "L" => format!(">:{name}"),
                    "E" => String::new(),
                    _ => format!(">{}", ["a", "b", "c"][random.index(3)]),
                };
                lines += &format!("{kind} {name}={} {reference};", random.index(3));
            }
        }
    }
    lines
}

impl World {
    /// Answers everything, wants everything, and has the state in force in the end.
    fn comes_to_reason(&mut self, seed: u64) {
        for kind in ["C", "E", "L", "R"] {
            let nonce = self.nonce(kind);
            match self.variant {
                Variant::Sotw => drop(self.raw(kind, &["*"], "", &nonce, None)),
                Variant::Delta => {
                    self.raw_delta(kind, &["*"], &[], &[], &nonce, None);
                }
            }
        }
        // What it refused before it would keep until there is something else.
        self.settles();
        self.set(
            "C a=9 >a; E a=9; C b=9 >b; R a=9 >a; R b=9 >a; R c=9 >a; L a=9 >:a; L b=9; L c=9",
        );
        for _ in 0..10 {
            self.settles();
            self.pass(Duration::from_secs(6));
        }
        for kind in ["C", "E", "L", "R"] {
            let watch = self
                .stream
                .watch(kind_of(kind))
                .expect("it was subscribed to");
            for resource in self.snapshot.resources(kind_of(kind)) {
                let have = watch.have.get(resource.name()).and_then(|have| have.sent);
                let same = have.is_some_and(|have| have.hash() == resource.hash());
                assert!(
                    same,
                    "seed {seed}: {kind} {} is not in force",
                    resource.name()
                );
            }
            let gone = watch
                .have
                .keys()
                .filter(|name| self.snapshot.get(kind_of(kind), name).is_none());
            let lasting = !self.stream.tells_removal(kind_of(kind));
            assert!(
                lasting || gone.count() == 0,
                "seed {seed}: {kind} has what is gone"
            );
        }
    }
}
