//! The server's machine against the client's, with real configurations and real messages, without
//! sockets, under any schedule.
//!
//! A random mesh of YAML is compiled, encoded, and served; the client asks for listeners, and reads
//! what it is sent with the decoder that it has in production. Messages take their time, kinds
//! overtake each other as the two allow it, streams are cut at any moment with all that is on its
//! way, readers are slow, and the configuration is replaced by another one. At every step:
//!
//! * what the client has in force is whole and was served in this form at some time; what is missing
//!   did not exist at the server at some time, and nothing is ever missing of what always exists;
//! * no cluster is taken away while a route refers to it that the client has, unless five seconds
//!   have passed since the edit or since the client came back;
//! * nothing is refused, one response of a kind is on its way at most, and what either side keeps is
//!   bounded by the names that there are.
//!
//! When the world calms down the client has what the server has.

mod checks;
mod mesh;
mod pair;
mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;

use self::mesh::Mesh;
use self::pair::{Mode, Pair};
use super::Variant;
use crate::random::Random;

const MESHES: usize = 30;
const SEEDS: u64 = 60;
const STEPS: usize = 2_000;

/// How often something happened, over all schedules of a test.
#[derive(Debug, Default)]
struct Tally(BTreeMap<&'static str, usize>);

impl Tally {
    fn count(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }

    /// A schedule in which something is rare shows nothing of it.
    fn is_rich(&self, expected: &[&str]) {
        for what in expected {
            let found = self.0.get(what).copied().unwrap_or_default();
            assert!(found >= 50, "{what} happened {found} times: {:?}", self.0);
        }
    }
}

fn run(mode: Mode) {
    let mut tally = Tally::default();
    let random = Random::seeded(4711);
    let meshes: Vec<Arc<Mesh>> = (0..MESHES)
        .map(|_| Arc::new(Mesh::drawn(&random)))
        .collect();
    for seed in 0..SEEDS {
        let mut pair = Pair::new(mode, seed, &meshes);
        for _ in 0..STEPS {
            pair.step();
        }
        pair.calm_down();
        pair.ends_with_the_state_of_the_server();
        for (what, count) in &pair.tally.0 {
            *tally.0.entry(what).or_default() += count;
        }
    }
    tally.is_rich(&[
        "acknowledgement",
        "cut",
        "edit",
        "message lost",
        "response",
        "stream",
    ]);
    assert_eq!(mode.overtakes, tally.0.contains_key("overtaken"));
    // A client that drops a listener lets go of its clusters before it is told to.
    if !mode.drops {
        tally.is_rich(&["cluster removed"]);
    }
}

fn mode(variant: Variant) -> Mode {
    Mode {
        variant,
        drops: false,
        overtakes: false,
    }
}

#[test]
fn our_client_and_our_server_converge_under_any_schedule_sotw() {
    run(mode(Variant::Sotw));
}

#[test]
fn our_client_and_our_server_converge_under_any_schedule_delta() {
    run(mode(Variant::Delta));
}

#[test]
fn they_converge_when_kinds_overtake_each_other() {
    for variant in [Variant::Sotw, Variant::Delta] {
        run(Mode {
            overtakes: true,
            ..mode(variant)
        });
    }
}

/// A client that drops what was deleted, as gRPC's do by default (A53).
#[test]
fn they_converge_when_the_client_drops_what_was_deleted() {
    for variant in [Variant::Sotw, Variant::Delta] {
        run(Mode {
            drops: true,
            ..mode(variant)
        });
    }
}
