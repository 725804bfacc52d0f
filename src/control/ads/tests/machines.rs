//! The server's machine against the client's, with real configurations and real messages, without
//! sockets, under any schedule.
//!
//! A random mesh of YAML is compiled, encoded, and served; the client asks for listeners, and reads
//! what it is sent with the decoder that it has in production. Messages take their time, kinds
//! overtake each other as the two allow it, streams are cut at any moment, and the configuration is
//! replaced by another one. At every step what the client has in force is whole and was served in this
//! form at some time, nothing is refused, and when the world calms down the client has what the
//! server has.

use std::collections::{BTreeMap, VecDeque};

use serde_json::json;

use super::*;
use crate::control::view;
use crate::model::cluster::Discovery;
use crate::model::listener::Routes;
use crate::model::route::Action;
use crate::model::{Endpoints, Resources};
use crate::random::Random;
use crate::source::istio::{Options, compile, read};
use crate::source::xds::machine as client;
use crate::source::xds::{Dialect, encode};
use crate::workload::Workload;

const HOSTS: [&str; 4] = ["a", "b", "c", "d"];
const STEPS: usize = 250;

fn listener(host: &str) -> Arc<str> {
    format!("{host}.ns.svc.cluster.local:80").into()
}

/// A mesh in which every reference holds.
fn yaml(random: &Random) -> String {
    let mut hosts: Vec<&str> = HOSTS.into_iter().filter(|_| random.index(3) > 0).collect();
    if hosts.is_empty() {
        hosts.push(HOSTS[random.index(4)]);
    }
    let mut text = String::new();
    for host in &hosts {
        let ports = 1 + random.index(3);
        let endpoints: Vec<String> = (0..ports)
            .map(|port| {
                format!(
                    "{{address: 10.0.0.{port}, labels: {{version: v{}}}}}",
                    port % 2
                )
            })
            .collect();
        text += &format!(
            "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
             metadata: {{name: {host}, namespace: ns}}\nspec:\n  hosts: [{host}.ns.svc.cluster.local]\n  \
             ports: [{{number: 80, name: grpc, protocol: GRPC}}]\n  resolution: STATIC\n  \
             endpoints: [{}]\n",
            endpoints.join(", ")
        );
        if random.index(2) == 0 {
            text += &format!(
                "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
                 metadata: {{name: {host}, namespace: ns}}\nspec:\n  host: {host}\n  trafficPolicy: \
                 {{connectionPool: {{tcp: {{connectTimeout: {}s}}}}}}\n",
                1 + random.index(5)
            );
        }
        if random.index(2) == 0 {
            let other = hosts[random.index(hosts.len())];
            let weight = random.index(101);
            text += &format!(
                "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n\
                 metadata: {{name: {host}, namespace: ns}}\nspec:\n  hosts: [{host}]\n  http:\n  - route:\n    \
                 - {{destination: {{host: {host}}}, weight: {weight}}}\n    \
                 - {{destination: {{host: {other}}}, weight: {}}}\n",
                100 - weight
            );
        }
    }
    text
}

fn model(random: &Random) -> Resources {
    let text = yaml(random);
    let options = Options::default();
    let read = read([("mesh.yaml", &*text)], &options);
    assert!(!read.faults.has_errors(), "{}", read.faults);
    compile(&read.objects, &Workload::new("ns", "x"), &options).resources
}

fn encoded(model: &Resources) -> Vec<Encoded> {
    let encoding = encode(model, Dialect::Meshwork);
    assert!(encoding.lost.is_empty(), "{:?}", encoding.lost);
    let all = encoding.resources.iter();
    all.map(|one| view::encoded(view::kind(one.kind), one.name.clone(), &one.bytes))
        .collect()
}

struct Pair {
    variant: Variant,
    random: Random,
    seed: u64,
    client: client::Client,
    in_force: Arc<Resources>,
    statuses: BTreeMap<Arc<str>, client::Status>,
    model: Resources,
    snapshot: Arc<Snapshot>,
    stream: Option<Stream>,
    to_server: VecDeque<client::Request>,
    to_client: VecDeque<client::Response>,
    now: Instant,
    /// Every set of endpoints that was ever served.
    served: Vec<Arc<Endpoints>>,
    messages: usize,
}

impl Pair {
    fn new(variant: Variant, seed: u64) -> Self {
        let random = Random::seeded(seed);
        // What is deleted stays in force, as gRFC A88 has it where nothing else is said.
        let features: &[&str] = match variant {
            Variant::Sotw => &[],
            Variant::Delta => &["xds.delta"],
        };
        let bootstrap = json!({"node": {"id": "node"}, "xds_servers": [{
            "server_uri": "one:1", "channel_creds": [{"type": "insecure"}],
            "server_features": features}]});
        let bootstrap = client::Bootstrap::from_json(&bootstrap.to_string()).expect("a bootstrap");
        let decoder = Arc::new(client::Messages);
        let model = model(&random);
        let mut pair = Self {
            variant,
            seed,
            client: client::Client::new(&bootstrap, decoder, Random::seeded(seed), BTreeMap::new()),
            random,
            in_force: Arc::default(),
            statuses: BTreeMap::new(),
            snapshot: Arc::new(Snapshot::new(encoded(&model))),
            served: model.endpoints.values().cloned().collect(),
            model,
            stream: None,
            to_server: VecDeque::new(),
            to_client: VecDeque::new(),
            now: Instant::now(),
            messages: 0,
        };
        pair.demand();
        pair
    }

    fn demand(&mut self) {
        let names = HOSTS.map(listener).into_iter().collect();
        self.client.demand(names, self.now);
        self.take();
    }

    fn take(&mut self) {
        if let Some(taken) = self.client.take() {
            self.in_force = taken.resources.unwrap_or_else(|| self.in_force.clone());
            self.statuses = taken.statuses;
        }
    }

    fn step(&mut self) {
        match self.random.index(24) {
            0 => self.edit(),
            1 => self.cut(),
            2..4 => self.pass(Duration::from_millis(self.random.index(700) as u64)),
            4..9 => self.say(),
            9..14 => self.hear(),
            14..19 => self.answer(),
            _ => self.receive(),
        }
        self.begin();
        self.check();
    }

    /// Another configuration is in force.
    fn edit(&mut self) {
        self.model = model(&self.random);
        self.served.extend(self.model.endpoints.values().cloned());
        self.snapshot = Arc::new(self.snapshot.next(encoded(&self.model)));
        if let Some(stream) = &mut self.stream {
            stream.update(self.snapshot.clone(), self.now);
        }
    }

    /// The stream is gone, with what was on its way.
    fn cut(&mut self) {
        if self.stream.take().is_some() {
            self.to_server.clear();
            self.to_client.clear();
            self.client.end(0, "cut", self.now);
            self.take();
        }
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
            self.client.begin(0, self.now);
            let about = Client {
                variant: self.variant,
                errors: false,
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
            assert_eq!(
                request.refusal, None,
                "seed {}: nothing is refused",
                self.seed
            );
            self.to_server.push_back(request);
        }
    }

    /// The server reads.
    fn hear(&mut self) {
        let (Some(stream), Some(request)) = (&mut self.stream, self.to_server.pop_front()) else {
            return;
        };
        let kind = view::kind(request.kind);
        let owned = |names: &[Arc<str>]| names.iter().map(ToString::to_string).collect();
        let (nonce, error) = (request.nonce.to_string(), None);
        let taken = match &request.ask {
            client::Ask::Sotw { names, version } => {
                let request = SotwRequest {
                    kind,
                    names: owned(names),
                    version: version.to_string(),
                    nonce,
                    error,
                };
                stream.sotw(&request, self.now)
            }
            client::Ask::Delta {
                subscribe,
                unsubscribe,
                known,
            } => {
                let known = known.iter();
                let request = DeltaRequest {
                    kind,
                    subscribe: owned(subscribe),
                    unsubscribe: owned(unsubscribe),
                    initial: known
                        .map(|(name, version)| (name.to_string(), version.to_string()))
                        .collect(),
                    nonce,
                    error,
                };
                stream.delta(&request, self.now)
            }
        };
        taken.unwrap_or_else(|refusal| panic!("seed {}: {refusal:?}", self.seed));
    }

    /// The server sends.
    fn answer(&mut self) {
        let Some(response) = self
            .stream
            .as_mut()
            .and_then(|stream| stream.next(self.now))
        else {
            return;
        };
        self.messages += 1;
        let delta = self.variant == Variant::Delta;
        let resources = response.items.iter().map(|item| {
            let (Item::Full(one) | Item::Beat(one)) = item else {
                panic!("seed {}: {item:?}", self.seed);
            };
            let full = matches!(item, Item::Full(_));
            client::Incoming {
                name: delta.then(|| one.name().clone()),
                version: delta.then(|| one.version().clone()),
                ttl: one.ttl(),
                content: match full {
                    false => client::Content::Heartbeat,
                    true => client::Content::Message(client::Raw {
                        type_url: response.kind.type_url().into(),
                        bytes: one.body().to_vec().into(),
                    }),
                },
            }
        });
        self.to_client.push_back(client::Response {
            type_url: response.kind.type_url().into(),
            version: response.version.clone(),
            nonce: response.nonce.to_string().into(),
            resources: resources.collect(),
            removed: response.removed.clone(),
            errors: Vec::new(),
        });
    }

    /// The client reads.
    fn receive(&mut self) {
        if let Some(response) = self.to_client.pop_front() {
            let taken = self.client.receive(0, response, self.now);
            taken.unwrap_or_else(|overrun| panic!("seed {}: {overrun}", self.seed));
            self.take();
        }
    }

    /// What is in force is whole, and was served.
    fn check(&self) {
        let all = &*self.in_force;
        for listener in all.listeners.values() {
            let Routes::Named(routes) = &listener.routes else {
                panic!("{listener:?}");
            };
            let routes = all.routes.get(routes);
            let routes = routes.unwrap_or_else(|| panic!("seed {}: {listener:?}", self.seed));
            for route in routes.virtual_hosts.iter().flat_map(|host| &host.routes) {
                let Action::Forward(forward) = &route.action else {
                    continue;
                };
                for destination in forward.destinations.all() {
                    let cluster = all.clusters.get(&destination.cluster);
                    let cluster = cluster.unwrap_or_else(|| {
                        panic!("seed {}: {} is used", self.seed, destination.cluster)
                    });
                    if let Discovery::Endpoints(name) = &cluster.discovery {
                        let members = all.endpoints.get(name);
                        let members =
                            members.unwrap_or_else(|| panic!("seed {}: {name} is used", self.seed));
                        assert!(self.served.contains(members), "seed {}", self.seed);
                    }
                }
            }
        }
    }

    fn calm_down(&mut self) {
        for _ in 0..400 {
            self.begin();
            self.say();
            self.hear();
            self.answer();
            self.receive();
            self.check();
            self.pass(Duration::from_millis(200));
        }
        let waiting = self.client.next(0, self.now);
        let quiet = waiting.is_none() && self.to_server.is_empty() && self.to_client.is_empty();
        assert!(quiet, "seed {}: never quiet: {waiting:?}", self.seed);
    }

    /// All that the listeners of the server lead to, as the server has it.
    fn ends_with_the_state_of_the_server(&self) {
        let (have, model, seed) = (&*self.in_force, &self.model, self.seed);
        let names = HOSTS.map(listener).into_iter();
        for name in names.filter(|name| model.listeners.contains_key(name)) {
            assert_eq!(self.statuses[&name], client::Status::InForce, "seed {seed}");
            assert_eq!(
                have.listeners.get(&name),
                model.listeners.get(&name),
                "seed {seed}"
            );
            let Routes::Named(routes) = &model.listeners[&name].routes else {
                panic!("seed {seed}: {name}");
            };
            assert_eq!(
                have.routes.get(routes),
                model.routes.get(routes),
                "seed {seed}"
            );
            for route in &model.routes[routes].virtual_hosts[0].routes {
                let Action::Forward(forward) = &route.action else {
                    continue;
                };
                for destination in forward.destinations.all() {
                    let cluster = &destination.cluster;
                    let (found, served) = (have.clusters.get(cluster), &model.clusters[cluster]);
                    assert_eq!(found, Some(served), "seed {seed}");
                    if let Discovery::Endpoints(name) = &served.discovery {
                        let (found, served) = (have.endpoints.get(name), model.endpoints.get(name));
                        assert_eq!(found, served, "seed {seed}");
                    }
                }
            }
        }
    }
}

fn run(variant: Variant) {
    let (mut messages, mut clusters) = (0, 0);
    for seed in 0..60 {
        let mut pair = Pair::new(variant, seed);
        for _ in 0..STEPS {
            pair.step();
        }
        pair.calm_down();
        pair.ends_with_the_state_of_the_server();
        messages += pair.messages;
        clusters += pair.in_force.clusters.len();
    }
    assert!(messages > 1_000 && clusters > 60, "{messages} {clusters}");
}

#[test]
fn our_client_and_our_server_converge_under_any_schedule_sotw() {
    run(Variant::Sotw);
}

#[test]
fn our_client_and_our_server_converge_under_any_schedule_delta() {
    run(Variant::Delta);
}
