//! A client and a server, and what is on its way between them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::super::{Client, Index as _, Item, Outcome, Stream, Variant};
use super::Tally;
use super::mesh::{HOSTS, Mesh, listener};
use super::wire::{message, take_in};
use crate::control::kind::Kind;
use crate::control::resource::Encoded;
use crate::control::snapshot::Snapshot;
use crate::control::view;
use crate::model::{Endpoints, Resources};
use crate::random::Random;
use crate::source::xds::machine as client;

/// What kind of client and connection it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mode {
    pub(super) variant: Variant,
    /// Whether the client drops what was deleted.
    pub(super) drops: bool,
    /// Whether responses of different kinds overtake each other, as on streams of their own.
    pub(super) overtakes: bool,
}

/// A response on its way, and the routes in it.
type Arriving = (client::Response, Vec<Arc<Encoded>>);

pub(super) struct Pair {
    pub(super) mode: Mode,
    pub(super) random: Random,
    pub(super) seed: u64,
    pub(super) client: client::Client,
    pub(super) in_force: Arc<Resources>,
    pub(super) statuses: BTreeMap<Arc<str>, client::Status>,
    pub(super) meshes: Vec<Arc<Mesh>>,
    pub(super) mesh: Arc<Mesh>,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) stream: Option<Stream>,
    pub(super) to_server: VecDeque<client::Request>,
    pub(super) to_client: BTreeMap<Kind, VecDeque<(usize, Arriving)>>,
    pub(super) now: Instant,
    /// Every set of endpoints that was ever served.
    pub(super) served: Vec<Arc<Endpoints>>,
    /// What did not exist at some time.
    pub(super) absent: BTreeSet<(Kind, Arc<str>)>,
    /// All that ever existed.
    pub(super) known: BTreeSet<(Kind, Arc<str>)>,
    pub(super) routes: Held,
    /// The clusters that the client was sent and not told to drop.
    pub(super) clusters: BTreeSet<Arc<str>>,
    /// When the configuration or the stream last changed.
    pub(super) changed: Instant,
    pub(super) unanswered: BTreeMap<Kind, u64>,
    pub(super) sent: usize,
    pub(super) tally: Tally,
}

/// The versions of routes that a client has.
#[derive(Default)]
pub(super) struct Held {
    /// From streams before.
    pub(super) carried: BTreeMap<Arc<str>, Arc<Encoded>>,
    /// On its way, or refused.
    pub(super) sent: BTreeMap<Arc<str>, Arc<Encoded>>,
    pub(super) acknowledged: BTreeMap<Arc<str>, Arc<Encoded>>,
    pub(super) delivered: BTreeMap<Arc<str>, Arc<Encoded>>,
}

impl Pair {
    pub(super) fn new(mode: Mode, seed: u64, meshes: &[Arc<Mesh>]) -> Self {
        let random = Random::seeded(seed);
        let mut features = Vec::new();
        features.extend((mode.variant == Variant::Delta).then_some("xds.delta"));
        features.extend(mode.drops.then_some("fail_on_data_errors"));
        let bootstrap = json!({"node": {"id": "node"}, "xds_servers": [{
            "server_uri": "one:1", "channel_creds": [{"type": "insecure"}],
            "server_features": features}]});
        let bootstrap = client::Bootstrap::from_json(&bootstrap.to_string()).expect("a bootstrap");
        let decoder = Arc::new(client::Messages::default());
        let mesh = meshes[random.index(meshes.len())].clone();
        let now = Instant::now();
        let mut pair = Self {
            mode,
            seed,
            client: client::Client::new(&bootstrap, decoder, Random::seeded(seed), BTreeMap::new()),
            random,
            in_force: Arc::default(),
            statuses: BTreeMap::new(),
            snapshot: Arc::new(Snapshot::new(mesh.encoded.iter().cloned())),
            mesh,
            meshes: meshes.to_vec(),
            stream: None,
            to_server: VecDeque::new(),
            to_client: BTreeMap::new(),
            now,
            served: Vec::new(),
            absent: BTreeSet::new(),
            known: BTreeSet::new(),
            routes: Held::default(),
            clusters: BTreeSet::new(),
            changed: now,
            unanswered: BTreeMap::new(),
            sent: 0,
            tally: Tally::default(),
        };
        pair.note_mesh();
        let names = HOSTS.map(listener).into_iter().collect();
        pair.client.demand(names, pair.now);
        pair.take();
        pair
    }

    /// Takes note of what exists, and of what does not.
    fn note_mesh(&mut self) {
        self.served
            .extend(self.mesh.model.endpoints.values().cloned());
        let there: BTreeSet<_> = self.mesh.by_name().into_keys().collect();
        let gone = self.known.difference(&there).cloned();
        self.absent.extend(gone);
        // What comes into being was not there before.
        let new = there.difference(&self.known).cloned();
        self.absent
            .extend(new.filter(|_| self.tally.0.contains_key("edit")));
        self.known.extend(there);
        self.changed = self.now;
    }

    fn take(&mut self) {
        if let Some(taken) = self.client.take() {
            self.in_force = taken.resources.unwrap_or_else(|| self.in_force.clone());
            self.statuses = taken.statuses;
        }
    }

    pub(super) fn step(&mut self) {
        // Some read slowly.
        let slow = [0, 12, 22][(self.seed % 3) as usize];
        match self.random.index(120) {
            0 => self.cut(),
            1..5 => self.edit(),
            5..20 => self.pass(Duration::from_millis(self.random.index(400) as u64)),
            20..45 => self.say(),
            45..70 => self.hear(),
            70..95 => self.answer(),
            at if at >= 95 + slow => self.receive(),
            _ => {}
        }
        self.begin();
        self.check();
    }

    fn edit(&mut self) {
        self.tally.count("edit");
        self.mesh = self.meshes[self.random.index(self.meshes.len())].clone();
        self.snapshot = Arc::new(self.snapshot.next(self.mesh.encoded.iter().cloned()));
        self.note_mesh();
        if let Some(stream) = &mut self.stream {
            stream.update(self.snapshot.clone(), self.now);
        }
    }

    /// The stream is gone, with what was on its way.
    fn cut(&mut self) {
        if self.stream.take().is_none() {
            return;
        }
        self.tally.count("cut");
        let lost = self.to_server.len() + self.to_client.values().map(VecDeque::len).sum::<usize>();
        (0..lost).for_each(|_| self.tally.count("message lost"));
        self.to_server.clear();
        self.to_client.clear();
        self.unanswered.clear();
        self.client.end(0, "cut", self.now);
        self.take();
        let delivered = std::mem::take(&mut self.routes.delivered);
        self.routes = Held {
            carried: delivered.clone(),
            delivered,
            ..Held::default()
        };
        let has = |name: &Arc<str>| {
            self.client.entries().any(|((kind, key), entry)| {
                view::kind(*kind) == Kind::Cluster && key == name && entry.good.is_some()
            })
        };
        let clusters = self.clusters.iter().filter(|name| has(name)).cloned();
        self.clusters = clusters.collect();
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.client.tick(self.now);
        self.take();
    }

    fn begin(&mut self) {
        let due = match self.client.wish(0) {
            client::Wish::Begin => true,
            client::Wish::Wait(until) => until <= self.now,
            client::Wish::Continue | client::Wish::Rest => false,
        };
        if due && self.stream.is_none() {
            self.tally.count("stream");
            self.client.begin(0, self.now);
            self.changed = self.now;
            let about = Client {
                variant: self.mode.variant,
                errors: true,
                introduces: false,
                aggregated: true,
                names: 1_000,
            };
            self.stream = Some(Stream::new(about, self.snapshot.clone()));
        }
    }

    /// The client sends.
    fn say(&mut self) {
        if self.stream.is_some()
            && let Some(request) = self.client.next(0, self.now)
        {
            assert_eq!(request.refusal, None, "seed {}", self.seed);
            self.to_server.push_back(request);
        }
    }

    /// The server reads.
    fn hear(&mut self) {
        let (Some(stream), Some(request)) = (&mut self.stream, self.to_server.pop_front()) else {
            return;
        };
        let kind = view::kind(request.kind);
        let taken = take_in(stream, kind, &request, self.now);
        match taken.unwrap_or_else(|refusal| panic!("seed {}: {refusal:?}", self.seed)) {
            Outcome::Acknowledged => {
                self.tally.count("acknowledgement");
                self.unanswered.remove(&kind);
                if kind == Kind::Routes {
                    let sent = std::mem::take(&mut self.routes.sent);
                    sent.keys()
                        .for_each(|name| drop(self.routes.carried.remove(name)));
                    self.routes.acknowledged.extend(sent);
                }
            }
            Outcome::Stale if self.mode.variant == Variant::Sotw => {
                self.tally.count("stale");
                return;
            }
            Outcome::Stale | Outcome::Subscribed => {}
            Outcome::Refused { .. } => panic!("seed {}: refused", self.seed),
        }
        let wants = |name: &Arc<str>| stream.watch(kind).is_some_and(|watch| watch.wants(name));
        match kind {
            Kind::Routes => {
                self.routes.acknowledged.retain(|name, _| wants(name));
                self.routes.carried.retain(|name, _| wants(name));
                self.routes.sent.retain(|name, _| wants(name));
            }
            Kind::Cluster => self.clusters.retain(wants),
            _ => {}
        }
    }

    /// The server sends.
    fn answer(&mut self) {
        let Some(stream) = self.stream.as_mut() else {
            return;
        };
        let next = stream.next(self.now).expect("no limit is exceeded");
        let Some(response) = next else {
            return;
        };
        self.tally.count("response");
        let before = self.unanswered.insert(response.kind, response.nonce);
        assert_eq!(
            before, None,
            "seed {}: two {} at once",
            self.seed, response.kind
        );
        let full = response.items.iter().filter_map(|item| match item {
            Item::Full(one) => Some(one),
            Item::Beat(_) | Item::Unknown(_) => None,
        });
        let full: Vec<Arc<Encoded>> = full.cloned().collect();
        match response.kind {
            Kind::Cluster => self.no_cluster_leaves_before_its_routes(&full, &response.removed),
            Kind::Routes => {
                let sent = full.iter().map(|one| (one.name().clone(), one.clone()));
                self.routes.sent.extend(sent);
                for name in &response.removed {
                    self.routes.forget(name);
                }
            }
            _ => {}
        }
        let routes = if response.kind == Kind::Routes {
            full
        } else {
            Vec::new()
        };
        self.sent += 1;
        let message = message(self.mode.variant, &response);
        let queue = self.to_client.entry(response.kind).or_default();
        queue.push_back((self.sent, (message, routes)));
    }

    /// The client reads.
    fn receive(&mut self) {
        let heads = self.to_client.iter().filter_map(|(kind, queue)| {
            let (number, _) = queue.front()?;
            Some((*number, *kind))
        });
        let mut heads: Vec<(usize, Kind)> = heads.collect();
        heads.sort_unstable();
        if heads.is_empty() {
            return;
        }
        let at = if self.mode.overtakes {
            self.random.index(heads.len())
        } else {
            0
        };
        if at > 0 {
            self.tally.count("overtaken");
        }
        let queue = self.to_client.get_mut(&heads[at].1).expect("it has a head");
        let (_, (response, routes)) = queue.pop_front().expect("it has a head");
        for route in routes {
            self.routes.delivered.insert(route.name().clone(), route);
        }
        let taken = self.client.receive(0, response, self.now);
        taken.unwrap_or_else(|overrun| panic!("seed {}: {overrun}", self.seed));
        self.take();
    }

    pub(super) fn calm_down(&mut self) {
        for _ in 0..300 {
            self.begin();
            self.say();
            self.hear();
            self.answer();
            self.receive();
            self.check();
            self.pass(Duration::from_millis(400));
        }
        let waiting = self.client.next(0, self.now);
        let arriving = self.to_client.values().map(VecDeque::len).sum::<usize>();
        let quiet = waiting.is_none() && self.to_server.is_empty() && arriving == 0;
        assert!(quiet, "seed {}: never quiet: {waiting:?}", self.seed);
    }
}

impl Held {
    fn forget(&mut self, name: &Arc<str>) {
        for versions in [&mut self.carried, &mut self.sent, &mut self.acknowledged] {
            versions.remove(name);
        }
    }
}
