//! A client of the protocol's letter under any schedule: what it uses is whole at all times.
//!
//! The client applies each response when the schedule lets it, in the order of each kind, and
//! answers later still. Three things must hold at every step for a client of all clusters: what a
//! route in use refers to is there, what it refers to was there before it came, and in the end the
//! client has the state in force. States are made so that every reference holds.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::*;
use crate::random::Random;

/// What a client of all clusters has applied.
struct Proxy {
    world: World,
    random: Random,
    have: BTreeMap<Kind, BTreeMap<Arc<str>, Arc<Encoded>>>,
    /// Responses that were not applied yet.
    arriving: VecDeque<Response>,
    /// Kinds whose response was applied and is to be answered, with a refusal or not.
    unanswered: BTreeMap<Kind, (Response, bool)>,
    /// Whether it refuses a route at times.
    picky: bool,
    /// When its stream was cut last, while it has something of which the server knows nothing.
    returned: Option<Instant>,
    seed: u64,
}

/// A state in which every reference holds.
fn whole_state(random: &Random) -> String {
    let names = ["a", "b", "c", "d", "e"];
    let mut clusters: Vec<&str> = names.into_iter().filter(|_| random.index(2) == 0).collect();
    if clusters.is_empty() {
        clusters.push(names[random.index(5)]);
    }
    let mut lines = String::new();
    for name in &clusters {
        lines += &format!(
            "C {name}={} >{name}; E {name}={};",
            random.index(3),
            random.index(3)
        );
    }
    for route in ["r", "s"] {
        if random.index(5) > 0 {
            let to: Vec<&str> = (0..1 + random.index(2))
                .map(|_| clusters[random.index(clusters.len())])
                .collect();
            let to = to.join(",");
            lines += &format!(
                "R {route}={to} >{to}; L {route}={} >:{route};",
                random.index(2)
            );
        }
    }
    lines
}

impl Proxy {
    fn new(variant: Variant, seed: u64) -> Self {
        let random = Random::seeded(seed);
        let mut proxy = Self {
            world: World::new(variant, &whole_state(&random)),
            random,
            have: BTreeMap::new(),
            arriving: VecDeque::new(),
            unanswered: BTreeMap::new(),
            picky: true,
            returned: None,
            seed,
        };
        proxy.world.subscribe_any("C");
        proxy.world.subscribe_any("L");
        proxy
    }

    fn step(&mut self) {
        match self.random.index(12) {
            0 => self.world.set(&whole_state(&self.random)),
            1 => self
                .world
                .pass(Duration::from_millis(self.random.index(400) as u64)),
            2..=5 => {
                let response = self.world.next();
                if let Some(response) = &response {
                    self.referents_were_sent(response);
                }
                self.arriving.extend(response);
            }
            6..=8 => self.apply(),
            _ => self.answer(),
        }
        self.what_is_used_is_there();
    }

    /// The stream is gone with all that was on its way; on the next one the client says what it has.
    fn returns(&mut self) {
        self.arriving.clear();
        self.unanswered.clear();
        let client = self.world.stream.client;
        self.world.stream = Stream::new(client, self.world.snapshot.clone());
        self.returned = Some(self.world.now);
        for (kind, letter) in [
            (Kind::Cluster, "C"),
            (Kind::Endpoints, "E"),
            (Kind::Listener, "L"),
            (Kind::Routes, "R"),
        ] {
            let have = self.have.get(&kind).into_iter().flatten();
            let have: Vec<(String, String)> = have
                .map(|(name, resource)| (name.to_string(), resource.version().to_string()))
                .collect();
            let initial: Vec<(&str, &str)> = have.iter().map(|(n, v)| (&**n, &**v)).collect();
            let names: Vec<&str> = match kind {
                Kind::Cluster | Kind::Listener => Vec::new(),
                _ => initial.iter().map(|(name, _)| *name).collect(),
            };
            if !kind.is_whole() && names.is_empty() {
                continue;
            }
            self.world
                .raw_delta(letter, &names, &[], &initial, "", None);
        }
        self.subscribe();
    }

    /// Whether a removal may be due to time: only the client knows what it uses.
    fn is_unknown(&mut self) -> bool {
        let routes = [Kind::Listener, Kind::Routes];
        let watches = routes.map(|kind| self.world.stream.watch(kind));
        let unknown = watches.iter().any(|watch| match watch {
            None => true,
            Some(watch) => watch
                .have
                .iter()
                .any(|(_, have)| have.brought && have.acked.is_none()),
        });
        if !unknown {
            self.returned = None;
        }
        let cap = self.returned.map(|at| at + Duration::from_secs(5));
        cap.is_some_and(|cap| cap <= self.world.now)
    }

    /// Takes the first response that arrived in.
    fn apply(&mut self) {
        let Some(response) = self.arriving.pop_front() else {
            return;
        };
        let kind = response.kind;
        let refused = self.picky && kind == Kind::Routes && self.random.index(10) == 0;
        if !refused {
            let have = self.have.entry(kind).or_default();
            if self.world.variant == Variant::Sotw && kind.is_whole() {
                have.clear();
            }
            for item in &response.items {
                if let Item::Full(resource) = item {
                    have.insert(resource.name().clone(), resource.clone());
                }
            }
            response
                .removed
                .iter()
                .for_each(|name| drop(have.remove(name)));
        }
        self.unanswered.insert(kind, (response, refused));
        self.subscribe();
    }

    /// Asks by name for what is referred to.
    fn subscribe(&mut self) {
        for (holder, kind, letter) in [
            (Kind::Cluster, Kind::Endpoints, "E"),
            (Kind::Listener, Kind::Routes, "R"),
        ] {
            let held = self
                .have
                .get(&holder)
                .into_iter()
                .flat_map(BTreeMap::values);
            let wanted: BTreeSet<Arc<str>> = held
                .flat_map(|resource| resource.references())
                .filter(|(referred, _)| *referred == kind)
                .map(|(_, name)| name.clone())
                .collect();
            if let Some(have) = self.have.get_mut(&kind) {
                have.retain(|name, _| wanted.contains(name));
            }
            let known: BTreeSet<Arc<str>> = self
                .world
                .stream
                .watch(kind)
                .map(|watch| (*watch.named).clone())
                .unwrap_or_default();
            // A client that still owes an answer has its say with it.
            let owes = self.world.variant == Variant::Sotw && self.owes(kind);
            if wanted == known || owes {
                continue;
            }
            let names = |set: Vec<&Arc<str>>| {
                set.into_iter()
                    .map(|name| name.to_string())
                    .collect::<Vec<_>>()
            };
            match self.world.variant {
                Variant::Sotw => {
                    let all = names(wanted.iter().collect());
                    let all: Vec<&str> = all.iter().map(|name| &**name).collect();
                    self.world.request(letter, &all);
                }
                Variant::Delta => {
                    let (more, less) = (
                        names(wanted.difference(&known).collect()),
                        names(known.difference(&wanted).collect()),
                    );
                    let more: Vec<&str> = more.iter().map(|name| &**name).collect();
                    let less: Vec<&str> = less.iter().map(|name| &**name).collect();
                    self.world.sub(letter, &more, &less);
                }
            }
        }
    }

    fn owes(&self, kind: Kind) -> bool {
        self.unanswered.contains_key(&kind)
            || self.arriving.iter().any(|response| response.kind == kind)
    }

    fn answer(&mut self) {
        let at = self.random.index(self.unanswered.len().max(1));
        let Some(kind) = self.unanswered.keys().nth(at).copied() else {
            return;
        };
        let (response, refused) = self.unanswered.remove(&kind).expect("its key was there");
        self.world.answer(&response, refused.then_some("no"));
        self.subscribe();
    }

    /// Never a reference before its referent: of what goes out now, clusters went out before.
    fn referents_were_sent(&self, response: &Response) {
        if !matches!(response.kind, Kind::Routes | Kind::Listener) {
            return;
        }
        let clusters = self
            .world
            .stream
            .watch(Kind::Cluster)
            .expect("it was subscribed to");
        for item in &response.items {
            let Item::Full(resource) = item else { continue };
            for (kind, name) in resource.references() {
                let sent = *kind != Kind::Cluster || clusters.have.contains_key(name);
                assert!(
                    sent,
                    "seed {}: {} refers to {name}, which was not sent",
                    self.seed,
                    resource.name()
                );
            }
        }
    }

    /// Never a removal before its routes were acknowledged.
    fn what_is_used_is_there(&mut self) {
        if self.is_unknown() {
            return;
        }
        let none = BTreeMap::new();
        let (clusters, listeners) = (
            self.have.get(&Kind::Cluster).unwrap_or(&none),
            self.have.get(&Kind::Listener).unwrap_or(&none),
        );
        let routes = self.have.get(&Kind::Routes).unwrap_or(&none);
        for route in routes.values() {
            let used = listeners
                .values()
                .flat_map(|listener| listener.references());
            let used = used.into_iter().any(|(_, name)| name == route.name());
            for (_, cluster) in route.references() {
                assert!(
                    !used || clusters.contains_key(cluster),
                    "seed {}: route {} is in use, its cluster {cluster} is not there",
                    self.seed,
                    route.name()
                );
            }
        }
    }

    /// Nothing changes any more, and the client takes everything.
    fn converges(&mut self) {
        self.picky = false;
        for round in 0..400 {
            self.arriving.extend(self.world.next());
            self.apply();
            while let Some(kind) = self.unanswered.keys().next().copied() {
                let (response, refused) = self.unanswered.remove(&kind).expect("its key was there");
                self.world.answer(&response, refused.then_some("no"));
            }
            self.subscribe();
            self.what_is_used_is_there();
            if round % 20 == 19 {
                self.world.pass(Duration::from_secs(6));
            }
        }
        for kind in [Kind::Cluster, Kind::Listener] {
            let have: Vec<u64> = self.have[&kind]
                .values()
                .map(|resource| resource.hash())
                .collect();
            let force: Vec<u64> = self
                .world
                .snapshot
                .resources(kind)
                .map(|resource| resource.hash())
                .collect();
            assert_eq!(have, force, "seed {}: {kind}", self.seed);
        }
    }
}

impl World {
    fn subscribe_any(&mut self, kind: &str) {
        match self.variant {
            Variant::Sotw => self.request(kind, &[]),
            Variant::Delta => self.sub(kind, &[], &[]),
        };
    }
}

#[test]
fn any_schedule_of_a_proxy_is_whole_at_all_times_and_converges() {
    for seed in 0..400 {
        let variant = if seed % 2 == 0 {
            Variant::Sotw
        } else {
            Variant::Delta
        };
        let mut proxy = Proxy::new(variant, seed);
        for _ in 0..400 {
            proxy.step();
        }
        // What was refused is refused no more, as soon as it is another one.
        proxy.world.set("C z=1 >z; E z=1; R r=z >z; L r=9 >:r");
        proxy.converges();
    }
}

/// The same for one whose stream is cut at any moment, and who says what it has on the next one.
#[test]
fn d18_any_schedule_of_a_proxy_that_comes_back_is_whole_and_converges() {
    let mut returns = 0;
    for seed in 1_000..1_200 {
        let mut proxy = Proxy::new(Variant::Delta, seed);
        for _ in 0..400 {
            proxy.step();
            if proxy.random.index(40) == 0 {
                returns += 1;
                proxy.returns();
                proxy.what_is_used_is_there();
            }
        }
        proxy.world.set("C z=1 >z; E z=1; R r=z >z; L r=9 >:r");
        proxy.converges();
    }
    assert!(returns > 1_000, "{returns}");
}
