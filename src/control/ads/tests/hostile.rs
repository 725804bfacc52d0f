//! Clients that mean no good, or are broken.

use super::*;
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
                let have = watch
                    .have
                    .get(resource.name())
                    .and_then(|have| have.sent.as_ref());
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
