//! The machine, told what happens by hand; and the same by chance against a model server.

mod chance;
pub(crate) mod decoder;
mod fallback;
mod server;
mod troubles;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::{Client, Status, Taken, Wish};
use crate::model::Resources;
use crate::random::Random;
use crate::source::xds::Kind;
use crate::source::xds::ads::message::{Ask, Incoming, Request, Response};
use crate::source::xds::bootstrap::Bootstrap;
use decoder::{Texts, sent};

/// A client, what it has put in force, and a clock that stands still.
pub(super) struct Bench {
    client: Client,
    now: Instant,
    pub(super) resources: Arc<Resources>,
    pub(super) statuses: BTreeMap<Arc<str>, Status>,
    pub(super) notes: BTreeMap<Arc<str>, Arc<str>>,
}

impl Bench {
    fn new(bootstrap: &Bootstrap) -> Self {
        Self {
            client: Client::new(
                bootstrap,
                Arc::new(Texts),
                Random::seeded(1),
                BTreeMap::new(),
            ),
            now: Instant::now(),
            resources: Arc::default(),
            statuses: BTreeMap::new(),
            notes: BTreeMap::new(),
        }
    }

    fn with_features(features: &[&str]) -> Self {
        let bootstrap = json!({"node": {"id": "test-node"}, "xds_servers": [{
            "server_uri": "one:1", "channel_creds": [{"type": "insecure"}],
            "server_features": features}]});
        Self::new(&Bootstrap::from_json(&bootstrap.to_string()).unwrap())
    }

    fn take(&mut self) {
        if let Some(Taken {
            resources,
            statuses,
            notes,
            ..
        }) = self.client.take()
        {
            self.resources = resources.unwrap_or_else(|| self.resources.clone());
            self.statuses = statuses;
            self.notes = notes;
        }
    }

    fn demand(&mut self, names: &[&str]) {
        let names = names.iter().map(|name| Arc::from(*name)).collect();
        self.client.demand(names, self.now);
        self.take();
    }

    /// A stream begins and the first messages are sent.
    fn begin(&mut self, server: usize) -> Vec<Request> {
        assert!(matches!(
            self.client.wish(server),
            Wish::Begin | Wish::Wait(_)
        ));
        self.client.begin(server, self.now);
        self.requests(server)
    }

    fn requests(&mut self, server: usize) -> Vec<Request> {
        std::iter::from_fn(|| self.client.next(server, self.now)).collect()
    }

    fn receive(&mut self, server: usize, response: Response) -> Vec<Request> {
        self.client.receive(server, response, self.now).unwrap();
        self.take();
        self.requests(server)
    }

    /// A state-of-the-world response of these texts.
    fn send(&mut self, kind: Kind, version: &str, texts: &[&str]) -> Vec<Request> {
        let resources = texts.iter().map(|text| sent(kind, text)).collect();
        self.receive(0, response(kind, version, resources))
    }

    fn end(&mut self, server: usize, why: &str) {
        self.client.end(server, why, self.now);
        self.take();
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.client.tick(self.now);
        self.take();
    }

    fn status(&self, name: &str) -> &Status {
        &self.statuses[name]
    }

    fn why(&self, name: &str) -> &str {
        match self.status(name) {
            Status::Absent(why) | Status::Failed(why) | Status::Pending(why) => why,
            Status::InForce => "in force",
        }
    }

    /// A listener with everything behind it, each with the stamp 1.
    fn all(&mut self) {
        self.demand(&["l"]);
        self.begin(0);
        self.send(Kind::Listener, "1", &["l|r|1"]);
        self.send(Kind::RouteConfiguration, "1", &["r|c|1"]);
        self.send(Kind::Cluster, "1", &["c|e|1"]);
        self.send(Kind::Endpoints, "1", &["e||1"]);
        assert_eq!(*self.status("l"), Status::InForce);
    }

    /// The stamps in force, by the way in which each kind shows them.
    fn stamps(&self, cluster: &str, endpoints: &str) -> (Option<u64>, Option<u16>) {
        let cluster = self.resources.clusters.get(cluster);
        let port = self.resources.endpoints.get(endpoints).map(|endpoints| {
            let address = &endpoints.localities[0].endpoints[0].address;
            match address {
                crate::model::endpoint::Address::Socket(address) => address.port() - 1,
                other => panic!("{other}"),
            }
        });
        (
            cluster.map(|cluster| cluster.connect_timeout.as_secs()),
            port,
        )
    }
}

fn response(kind: Kind, version: &str, resources: Vec<Incoming>) -> Response {
    Response {
        type_url: kind.type_url().into(),
        version: version.into(),
        nonce: format!("{kind} {version}").into(),
        resources,
        ..Response::default()
    }
}

fn names(request: &Request) -> Vec<&str> {
    match &request.ask {
        Ask::Sotw { names, .. } => names.iter().map(|name| &**name).collect(),
        Ask::Delta { subscribe, .. } => subscribe.iter().map(|name| &**name).collect(),
    }
}

fn of(requests: &[Request], kind: Kind) -> Option<&Request> {
    requests.iter().find(|request| request.kind == kind)
}

#[test]
fn one_thing_leads_to_the_next_and_nothing_is_in_force_before_all_is_there() {
    let mut bench = Bench::with_features(&[]);
    assert_eq!(bench.client.wish(0), Wish::Rest, "nothing was asked for");
    bench.demand(&["l"]);
    let first = bench.begin(0);
    assert_eq!(names(of(&first, Kind::Listener).unwrap()), ["l"]);
    let asked = bench.send(Kind::Listener, "1", &["l|r|1"]);
    assert_eq!(names(of(&asked, Kind::RouteConfiguration).unwrap()), ["r"]);
    let asked = bench.send(Kind::RouteConfiguration, "1", &["r|c,d|1"]);
    assert_eq!(names(of(&asked, Kind::Cluster).unwrap()), ["c", "d"]);
    let asked = bench.send(Kind::Cluster, "1", &["c|e|1", "d|f|1"]);
    assert_eq!(names(of(&asked, Kind::Endpoints).unwrap()), ["e", "f"]);
    bench.send(Kind::Endpoints, "1", &["e||1"]);
    assert!(matches!(bench.status("l"), Status::Pending(_)));
    assert!(
        bench.why("l").contains("endpoints \"f\" has not arrived"),
        "{}",
        bench.why("l")
    );
    assert!(bench.resources.listeners.is_empty());
    bench.send(Kind::Endpoints, "2", &["f||1"]);
    assert_eq!(*bench.status("l"), Status::InForce);
    assert_eq!(bench.resources.clusters.len(), 2);
}

#[test]
fn c4_good_resources_of_a_refused_response_count_and_bad_ones_keep_their_value() {
    let mut bench = Bench::with_features(&[]);
    bench.demand(&["l"]);
    bench.begin(0);
    bench.send(Kind::Listener, "1", &["l|r|1"]);
    bench.send(Kind::RouteConfiguration, "1", &["r|c,d|1"]);
    bench.send(Kind::Cluster, "1", &["c|e|1", "d|e|1"]);
    bench.send(Kind::Endpoints, "1", &["e||1"]);
    let answers = bench.send(Kind::Cluster, "2", &["!c|e|2", "d|e|2"]);
    let answer = of(&answers, Kind::Cluster).unwrap();
    assert_eq!(answer.refusal.as_deref(), Some("c: text: is bad, stamp 2"));
    let Ask::Sotw { version, .. } = &answer.ask else {
        panic!("{answer:?}");
    };
    assert_eq!((&**version, &*answer.nonce), ("1", "cluster 2"));
    assert_eq!(bench.stamps("c", "e").0, Some(1), "the last good one");
    assert_eq!(bench.stamps("d", "e").0, Some(2));
    let answers = bench.send(Kind::Cluster, "3", &["c|e|3", "d|e|3"]);
    assert_eq!(of(&answers, Kind::Cluster).unwrap().refusal, None);
    assert_eq!(bench.stamps("c", "e").0, Some(3));
}

#[test]
fn c5_what_cannot_be_read_is_refused_by_its_place_and_the_rest_goes_on() {
    let mut bench = Bench::with_features(&[]);
    bench.demand(&["l", "m"]);
    bench.begin(0);
    let mut wrong = sent(Kind::Cluster, "l|r|1");
    let other = sent(Kind::Listener, "no parts");
    let resources = vec![wrong.clone(), other, sent(Kind::Listener, "l|r|1")];
    let answers = bench.receive(0, response(Kind::Listener, "1", resources));
    let refusal = of(&answers, Kind::Listener)
        .unwrap()
        .refusal
        .clone()
        .unwrap();
    assert!(refusal.contains("resource index 0: is a \"type.googleapis.com/envoy.config.cluster"));
    assert!(
        refusal.contains("resource index 1: text: has not three parts"),
        "{refusal}"
    );
    assert!(
        of(&answers, Kind::RouteConfiguration).is_some(),
        "l is good"
    );
    wrong.name = Some("m".into());
    let answers = bench.receive(0, response(Kind::Listener, "2", vec![wrong]));
    let refusal = of(&answers, Kind::Listener)
        .unwrap()
        .refusal
        .clone()
        .unwrap();
    assert!(refusal.starts_with("m: is a "), "{refusal}");
    assert!(
        bench.why("m").contains("refused: is a"),
        "{}",
        bench.why("m")
    );
    assert!(bench.why("m").contains("test-node"), "{}", bench.why("m"));
}

#[test]
fn c6_a_name_that_is_twice_in_a_response_is_refused() {
    let mut bench = Bench::with_features(&[]);
    bench.demand(&["l"]);
    bench.begin(0);
    let answers = bench.send(Kind::Listener, "1", &["l|r|1", "l|r|2"]);
    let refusal = of(&answers, Kind::Listener)
        .unwrap()
        .refusal
        .clone()
        .unwrap();
    assert_eq!(&*refusal, "l: is twice in one response");
    assert!(matches!(bench.status("l"), Status::Failed(_)));
}

#[test]
fn c7_what_nobody_asked_for_is_passed_over() {
    let mut bench = Bench::with_features(&[]);
    bench.demand(&["l"]);
    bench.begin(0);
    let answers = bench.send(Kind::Listener, "1", &["l|r|1", "other|x|1", "!third|x|1"]);
    let answer = of(&answers, Kind::Listener).unwrap();
    assert_eq!(
        answer.refusal, None,
        "what is wrong with others is no fault here"
    );
    assert_eq!(
        names(of(&answers, Kind::RouteConfiguration).unwrap()),
        ["r"]
    );
    assert_eq!(
        bench.send(Kind::Cluster, "1", &["c|e|1"]),
        [],
        "a kind that was not asked for"
    );
    let unknown = Response {
        type_url: "type.googleapis.com/envoy.service.runtime.v3.Runtime".into(),
        ..response(Kind::Cluster, "1", Vec::new())
    };
    assert_eq!(bench.receive(0, unknown), []);
}

#[test]
fn c8_what_is_not_needed_any_more_is_not_asked_for() {
    let mut bench = Bench::with_features(&[]);
    bench.all();
    let asked = bench.send(Kind::RouteConfiguration, "2", &["r|d|2"]);
    assert_eq!(
        names(of(&asked, Kind::Cluster).unwrap()),
        ["c", "d"],
        "c is in force"
    );
    bench.send(Kind::Cluster, "2", &["c|e|1", "d|f|1"]);
    let asked = bench.send(Kind::Endpoints, "2", &["f||1"]);
    assert_eq!(names(of(&asked, Kind::Cluster).unwrap()), ["d"]);
    assert_eq!(names(of(&asked, Kind::Endpoints).unwrap()), ["f"]);
    assert!(!bench.resources.clusters.contains_key("c"));
    bench.demand(&[]);
    let asked = bench.requests(0);
    assert_eq!(asked.len(), 4);
    assert!(asked.iter().all(|request| names(request).is_empty()));
    assert!(bench.resources.is_empty());
}

#[test]
fn c16_a_route_to_a_cluster_whose_endpoints_are_missing_waits_with_the_old_one_in_force() {
    let mut bench = Bench::with_features(&[]);
    bench.all();
    bench.send(Kind::RouteConfiguration, "2", &["r|d|2"]);
    bench.send(Kind::Cluster, "2", &["c|e|2", "d|f|2"]);
    let route = |bench: &Bench| {
        let routes = &bench.resources.routes["r"].virtual_hosts[0].routes;
        routes[0].name.to_string()
    };
    assert_eq!(route(&bench), "c 1");
    assert_eq!(
        bench.stamps("c", "e"),
        (Some(2), Some(1)),
        "what is in force is kept up to date"
    );
    bench.send(Kind::Endpoints, "2", &["e||7"]);
    assert_eq!(bench.stamps("c", "e"), (Some(2), Some(7)));
    bench.send(Kind::Endpoints, "3", &["f||3"]);
    assert_eq!(route(&bench), "d 2");
    assert_eq!(
        bench
            .resources
            .clusters
            .keys()
            .map(|name| &**name)
            .collect::<Vec<_>>(),
        ["d"]
    );
}

/// Catalogue E8, and A74's reason to be: whatever the order, nobody sees half a change.
#[test]
fn e8_in_all_orders_of_arrival_the_old_is_in_force_until_the_new_is_whole() {
    let updates = [
        (Kind::Listener, vec!["l|s|2"]),
        (Kind::RouteConfiguration, vec!["s|d|2"]),
        (Kind::Cluster, vec!["c|e|1", "d|f|2"]),
        (Kind::Endpoints, vec!["e||1", "f||2"]),
    ];
    let mut orders = Vec::new();
    for a in 0..4 {
        for b in (0..4).filter(|b| *b != a) {
            for c in (0..4).filter(|c| ![a, b].contains(c)) {
                orders.push([a, b, c, 6 - a - b - c]);
            }
        }
    }
    assert_eq!(orders.len(), 24);
    for order in orders {
        let mut bench = Bench::with_features(&[]);
        bench.all();
        let whole = |bench: &Bench| {
            let resources = &bench.resources;
            let listener = &resources.listeners["l"];
            let crate::model::listener::Routes::Named(routes) = &listener.routes else {
                panic!("{listener:?}");
            };
            let routes = &resources.routes[routes];
            let route = &routes.virtual_hosts[0].routes[0];
            let name = route.name.split(' ').next().unwrap();
            let cluster = resources
                .clusters
                .get(name)
                .expect("the cluster of a route in force");
            let Discovery::Endpoints(endpoints) = &cluster.discovery else {
                panic!("{cluster:?}");
            };
            assert!(resources.endpoints.contains_key(endpoints), "{order:?}");
            name.to_owned()
        };
        // A server says again what was not asked for when it said it first.
        for _ in 0..4 {
            for step in order {
                let (kind, texts) = &updates[step];
                bench.send(*kind, "2", texts);
                whole(&bench);
            }
        }
        assert_eq!(whole(&bench), "d", "{order:?}");
    }
}

use crate::model::cluster::Discovery;

#[test]
fn more_than_65_clusters_at_once() {
    let mut bench = Bench::with_features(&[]);
    bench.demand(&["l"]);
    bench.begin(0);
    let clusters: Vec<String> = (0..1_000).map(|number| format!("c{number:04}")).collect();
    bench.send(Kind::Listener, "1", &["l|r|1"]);
    let route = format!("r|{}|1", clusters.join(","));
    bench.send(Kind::RouteConfiguration, "1", &[&route]);
    let texts: Vec<String> = clusters
        .iter()
        .map(|name| format!("{name}|e{name}|1"))
        .collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let asked = bench.send(Kind::Cluster, "1", &texts);
    assert_eq!(names(of(&asked, Kind::Endpoints).unwrap()).len(), 1_000);
    let texts: Vec<String> = clusters.iter().map(|name| format!("e{name}||1")).collect();
    for half in texts.chunks(500) {
        assert!(bench.resources.listeners.is_empty());
        let half: Vec<&str> = half.iter().map(String::as_str).collect();
        bench.send(Kind::Endpoints, "1", &half);
    }
    assert_eq!(bench.resources.clusters.len(), 1_000);
}

#[test]
fn an_equal_resource_moves_nothing() {
    let mut bench = Bench::with_features(&[]);
    bench.all();
    let before = bench.resources.clone();
    bench.send(Kind::Cluster, "2", &["c|e|1"]);
    assert!(Arc::ptr_eq(&before, &bench.resources));
}

fn set(names: &[&str]) -> BTreeSet<Arc<str>> {
    names.iter().map(|name| Arc::from(*name)).collect()
}
