//! Random schedules against the model server: messages are delayed, lost with their stream and
//! overtaken by those of other kinds, the server restarts and sends what is refused, and whoever
//! reads is slow. Whatever happens, what was refused is never in force, and when the world calms down
//! the client has what the server has.

mod state;

use std::collections::VecDeque;

use super::server::Server;
use super::*;

const ROOTS: [&str; 3] = ["l0", "l1", "l2"];
const STEPS: usize = 400;

/// What may happen to values.
#[derive(Clone, Copy, Debug)]
struct Mode {
    delta: bool,
    /// Whether deleted and refused resources are dropped, and so may be deleted.
    drops: bool,
}

struct World {
    mode: Mode,
    bench: Bench,
    server: Server,
    random: Random,
    to_server: VecDeque<Request>,
    to_client: BTreeMap<Kind, VecDeque<(u64, Response)>>,
    /// Responses so far.
    sent: u64,
    /// Whether the client reads seldom.
    slow: bool,
    up: bool,
    stamp: u64,
    /// Stamps of resources that are refused.
    bad: BTreeSet<u64>,
    /// How often something happened.
    tally: BTreeMap<&'static str, usize>,
}

fn name_of(kind: Kind, number: u32) -> Arc<str> {
    let letter = match kind {
        Kind::Listener => 'l',
        Kind::RouteConfiguration => 'r',
        Kind::Cluster => 'c',
        Kind::Endpoints | Kind::Secret => 'e',
    };
    format!("{letter}{number}").into()
}

impl World {
    fn new(mode: Mode, seed: u64) -> Self {
        let features: &[&str] = match (mode.delta, mode.drops) {
            (false, false) => &[],
            (false, true) => &["fail_on_data_errors"],
            (true, false) => &["xds.delta"],
            (true, true) => &["xds.delta", "fail_on_data_errors"],
        };
        let mut world = Self {
            mode,
            bench: Bench::with_features(features),
            server: Server::new(mode.delta),
            random: Random::seeded(seed),
            to_server: VecDeque::new(),
            to_client: BTreeMap::new(),
            sent: 0,
            slow: seed.is_multiple_of(3),
            up: false,
            stamp: 0,
            bad: BTreeSet::new(),
            tally: BTreeMap::new(),
        };
        world.bench.demand(&ROOTS);
        world
    }

    fn count(&mut self, what: &'static str) {
        *self.tally.entry(what).or_default() += 1;
    }

    fn below(&self, bound: u32) -> u32 {
        self.random.below(bound)
    }

    fn kind(&self) -> Kind {
        Kind::ALL[self.below(4) as usize]
    }

    /// Changes one resource; `bad`: to one that is refused.
    fn mutate(&mut self, kind: Kind, number: u32, bad: bool) {
        self.stamp += 1;
        let name = name_of(kind, number);
        let refers = match kind {
            Kind::Listener => name_of(Kind::RouteConfiguration, self.below(3)).to_string(),
            Kind::RouteConfiguration => {
                let one = name_of(Kind::Cluster, self.below(5));
                format!("{one},{}", name_of(Kind::Cluster, self.below(5)))
            }
            Kind::Cluster => name_of(Kind::Endpoints, self.below(5)).to_string(),
            Kind::Endpoints | Kind::Secret => String::new(),
        };
        self.count(if bad { "changed badly" } else { "changed" });
        let mark = if bad { "!" } else { "" };
        if bad {
            self.bad.insert(self.stamp);
        }
        let text = format!("{mark}{name}|{refers}|{}", self.stamp);
        self.server.resources.insert((kind, name), text);
    }

    fn remove(&mut self) {
        let kind = self.kind();
        // Absence says nothing of routes and endpoints in the state of the world.
        if self.mode.drops && (self.mode.delta || kind.is_complete()) {
            let name = name_of(kind, self.below(5));
            if self.server.resources.remove(&(kind, name)).is_some() {
                self.count("deleted");
            }
        }
    }

    fn step(&mut self) {
        match self.below(20) {
            0..4 => self.deliver_request(),
            4..9 => {
                let kind = self.kind();
                if !self.slow || self.below(4) == 0 {
                    self.deliver_response(kind);
                }
            }
            9..12 => {
                let (kind, number, bad) = (self.kind(), self.below(5), self.below(4) == 0);
                self.mutate(kind, number, bad);
            }
            12 => self.remove(),
            13..15 => {
                let kind = self.kind();
                let response = self.server.push(kind);
                self.respond(kind, response);
            }
            15..18 => self.say(),
            18 => {
                self.count("time passed");
                let time = Duration::from_millis(u64::from(self.below(4_000)));
                self.bench.pass(time);
            }
            _ => self.trouble(),
        }
        self.begin();
        self.check_nothing_bad();
    }

    fn trouble(&mut self) {
        match self.below(4) {
            0 => self.lose(false),
            1 => self.lose(true),
            2 => {
                self.count("other demand");
                self.bench.demand(&ROOTS[..self.below(4) as usize]);
            }
            _ => self.bench.demand(&ROOTS),
        }
    }

    fn lose(&mut self, restart: bool) {
        if self.up {
            self.up = false;
            let waiting: usize = self.to_client.values().map(VecDeque::len).sum();
            (0..self.to_server.len() + waiting).for_each(|_| self.count("message lost"));
            self.count("stream lost");
            self.to_server.clear();
            self.to_client.clear();
            self.bench.end(0, "lost");
        }
        if restart {
            self.count("restarted");
            self.server.restart();
        } else {
            self.server.forget();
        }
    }

    fn begin(&mut self) {
        let due = match self.bench.client.wish(0) {
            Wish::Begin => true,
            Wish::Wait(until) => until <= self.bench.now,
            Wish::Continue | Wish::Rest => false,
        };
        if due && !self.up {
            self.bench.client.begin(0, self.bench.now);
            self.up = true;
        }
    }

    fn say(&mut self) {
        if self.up
            && let Some(request) = self.bench.client.next(0, self.bench.now)
        {
            if request.refusal.is_some() {
                self.count("refusal");
            }
            self.to_server.push_back(request);
        }
    }

    fn deliver_request(&mut self) {
        if let Some(request) = self.to_server.pop_front() {
            let response = self.server.request(&request);
            self.respond(request.kind, response);
        }
    }

    fn respond(&mut self, kind: Kind, response: Option<Response>) {
        let queue = self.to_client.entry(kind).or_default();
        if let Some(response) = response {
            self.sent += 1;
            queue.push_back((self.sent, response));
            if queue.len() > 1 {
                self.count("several responses wait");
            }
        }
    }

    fn deliver_response(&mut self, kind: Kind) {
        if let Some((number, response)) = self.to_client.entry(kind).or_default().pop_front() {
            let mut others = self.to_client.values().flatten();
            if others.any(|(earlier, _)| *earlier < number) {
                self.count("overtaken");
            }
            self.bench
                .client
                .receive(0, response, self.bench.now)
                .unwrap();
            self.bench.take();
        }
    }

    fn check_nothing_bad(&self) {
        for cluster in self.bench.resources.clusters.values() {
            let stamp = cluster.connect_timeout.as_secs();
            assert!(!self.bad.contains(&stamp), "{cluster:?} was refused");
        }
        for endpoints in self.bench.resources.endpoints.values() {
            let (_, port) = self.bench.stamps("", &endpoints.name);
            assert!(
                !self.bad.contains(&u64::from(port.unwrap())),
                "{endpoints:?} was refused"
            );
        }
        for routes in self.bench.resources.routes.values() {
            for route in &routes.virtual_hosts[0].routes {
                let stamp: u64 = route.name.split(' ').nth(1).unwrap().parse().unwrap();
                assert!(!self.bad.contains(&stamp), "{route:?} was refused");
            }
        }
    }

    /// Makes all resources good, and lets everything arrive.
    fn calm_down(&mut self) {
        let all: Vec<(Kind, Arc<str>)> = self.server.resources.keys().cloned().collect();
        for (kind, name) in all {
            if self.server.resources[&(kind, name.clone())].starts_with('!') {
                let number = name[1..].parse().unwrap();
                self.mutate(kind, number, false);
            }
        }
        self.bench.demand(&ROOTS);
        for _ in 0..200 {
            self.begin();
            self.say();
            self.deliver_request();
            for kind in Kind::ALL {
                self.deliver_response(kind);
                let response = self.server.push(kind);
                self.respond(kind, response);
            }
            self.check_nothing_bad();
            self.bench.pass(Duration::from_secs(1));
        }
        let next = self.bench.client.next(0, self.bench.now);
        let quiet = next.is_none() && self.to_server.is_empty();
        assert!(quiet, "never quiet: {next:?}, {:?}", self.mode);
    }
}

fn run(mode: Mode, seeds: std::ops::Range<u64>) {
    let (mut in_force, mut tally) = (0, BTreeMap::new());
    for seed in seeds {
        let mut world = World::new(mode, seed);
        for _ in 0..STEPS {
            world.step();
        }
        world.calm_down();
        let (expected, found) = (world.expected(), world.found());
        in_force += found.len();
        for (what, count) in world.tally {
            *tally.entry(what).or_default() += count;
        }
        assert_eq!(found, expected, "seed {seed}, {mode:?}");
        for (name, status) in &world.bench.statuses {
            assert!(
                !matches!(status, Status::Pending(_)),
                "{name}: {status:?}, seed {seed}"
            );
        }
    }
    assert!(in_force > 1_000, "{in_force} resources were in force");
    is_rich(mode, &tally);
}

/// A schedule in which something is rare shows nothing of it.
fn is_rich(mode: Mode, tally: &BTreeMap<&'static str, usize>) {
    let mut expected = vec![
        "changed",
        "changed badly",
        "message lost",
        "other demand",
        "overtaken",
        "refusal",
        "restarted",
        "stream lost",
        "several responses wait",
        "time passed",
    ];
    expected.extend(mode.drops.then_some("deleted"));
    for what in expected {
        let found = tally.get(what).copied().unwrap_or_default();
        assert!(found >= 50, "{what}: {found} times, {mode:?}: {tally:?}");
    }
}

#[test]
fn any_schedule_ends_with_what_the_server_has_sotw() {
    for drops in [false, true] {
        run(
            Mode {
                delta: false,
                drops,
            },
            0..300,
        );
    }
}

#[test]
fn any_schedule_ends_with_what_the_server_has_delta() {
    for drops in [false, true] {
        run(Mode { delta: true, drops }, 0..300);
    }
}
