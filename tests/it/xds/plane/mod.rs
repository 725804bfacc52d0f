//! A control plane at a port of the world in memory, in both variants of the protocol.

mod services;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::AggregatedDiscoveryServiceServer;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryResponse, DiscoveryResponse, Resource,
};
use envoy_types::pb::envoy::service::load_stats::v3::LoadStatsRequest;
use envoy_types::pb::envoy::service::load_stats::v3::load_reporting_service_server::LoadReportingServiceServer;
use envoy_types::pb::google::protobuf::Any;
use meshwork::source::xds::{Bootstrap, Kind};
use meshwork::{Body, Mesh, Random};
use tokio::sync::{Notify, mpsc};
use tonic::Status;
use tonic::service::Routes;
use tower::Service as _;

use super::messages::Made;
use crate::mesh::world::World;

/// Where the control plane is.
pub(crate) const PORT: u16 = 18_000;

/// What a request said.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) kind: Option<Kind>,
    pub(crate) names: Vec<String>,
    pub(crate) node: String,
    pub(crate) nonce: String,
    pub(crate) version: String,
    pub(crate) error: Option<String>,
    pub(crate) known: BTreeMap<String, String>,
}

/// A control plane.
#[derive(Clone)]
pub(crate) struct Plane {
    port: u16,
    state: Arc<Mutex<State>>,
    /// A request came.
    heard: Arc<Notify>,
}

#[derive(Default)]
struct State {
    resources: BTreeMap<(Kind, String), Any>,
    version: u64,
    streams: Vec<Arc<Mutex<Line>>>,
    begun: usize,
    asked: Vec<Asked>,
    reports: Vec<LoadStatsRequest>,
}

/// One stream.
struct Line {
    out: Out,
    names: BTreeMap<Kind, BTreeSet<String>>,
    sent: BTreeMap<(Kind, String), Option<Any>>,
    nonces: BTreeMap<Kind, String>,
    count: u64,
}

enum Out {
    Delta(mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>),
    Sotw(mpsc::Sender<Result<DiscoveryResponse, Status>>),
}

impl Plane {
    /// A control plane without resources, at [`PORT`] of the world.
    pub(crate) fn new(world: &World) -> Self {
        let plane = Self::away(PORT);
        plane.up(world);
        plane
    }

    /// One that is not there yet, and will be at this port.
    pub(crate) fn away(port: u16) -> Self {
        Self {
            port,
            state: Arc::default(),
            heard: Arc::default(),
        }
    }

    /// Serves from here on.
    pub(crate) fn up(&self, world: &World) {
        let service = Routes::new(AggregatedDiscoveryServiceServer::new(self.clone()))
            .add_service(LoadReportingServiceServer::new(self.clone()))
            .prepare();
        world.serve(self.port, move |request| {
            let mut service = service.clone();
            async move {
                let response = service.call(request).await;
                response.expect("it cannot fail").map(Body::new)
            }
        });
    }

    /// Is gone: streams end and connections are refused.
    pub(crate) fn down(&self, world: &World) {
        world.remove(self.port);
        self.cut();
    }

    /// Ends all streams.
    pub(crate) fn cut(&self) {
        self.state.lock().unwrap().streams.clear();
    }

    /// Puts resources in place and sends what has changed, clusters first.
    pub(crate) fn put(&self, made: impl IntoIterator<Item = Made>) {
        let mut state = self.state.lock().unwrap();
        for one in made {
            state.resources.insert((one.kind, one.name), one.any);
        }
        drop(state);
        self.push();
    }

    pub(crate) fn drop_resource(&self, kind: Kind, name: &str) {
        let mut state = self.state.lock().unwrap();
        state.resources.remove(&(kind, name.to_owned()));
        drop(state);
        self.push();
    }

    fn push(&self) {
        let order = [
            Kind::Secret,
            Kind::Cluster,
            Kind::Endpoints,
            Kind::Listener,
            Kind::RouteConfiguration,
        ];
        for kind in order {
            self.state.lock().unwrap().push(kind);
        }
    }

    /// How many streams there were.
    pub(crate) fn streams(&self) -> usize {
        self.state.lock().unwrap().begun
    }

    /// What was asked since the last time.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.state.lock().unwrap().asked)
    }

    /// Waits for a client to refuse something, and yields its words; what else it asked is dropped.
    pub(crate) async fn refusal(&self) -> String {
        loop {
            if let Some(error) = self.asked().into_iter().find_map(|one| one.error) {
                return error;
            }
            self.heard.notified().await;
        }
    }

    /// What was reported since the last time.
    pub(crate) fn reports(&self) -> Vec<LoadStatsRequest> {
        std::mem::take(&mut self.state.lock().unwrap().reports)
    }

    fn begin(&self, out: Out) -> Arc<Mutex<Line>> {
        let line = Arc::new(Mutex::new(Line {
            out,
            names: BTreeMap::new(),
            sent: BTreeMap::new(),
            nonces: BTreeMap::new(),
            count: 0,
        }));
        let mut state = self.state.lock().unwrap();
        state.begun += 1;
        state.streams.push(line.clone());
        line
    }

    fn take(&self, line: &Arc<Mutex<Line>>, asked: Asked, subscription: Subscription) {
        let mut state = self.state.lock().unwrap();
        state.asked.push(asked.clone());
        // One waits at most, and one that comes later finds it.
        self.heard.notify_one();
        let Some(kind) = asked.kind else {
            return;
        };
        let mut line = line.lock().unwrap();
        let newest = line.nonces.get(&kind).cloned().unwrap_or_default();
        let names = line.names.entry(kind).or_default();
        let before = names.clone();
        match subscription {
            Subscription::All(all) if asked.nonce == newest => *names = all.into_iter().collect(),
            Subscription::All(_) => return,
            Subscription::Change(more, fewer) => {
                names.retain(|name| !fewer.contains(name));
                names.extend(more);
            }
        }
        let now = names.clone();
        line.sent
            .retain(|(of, name), _| *of != kind || now.contains(name));
        if now.difference(&before).next().is_some() {
            state.send(&mut line, kind);
        }
    }
}

enum Subscription {
    All(Vec<String>),
    Change(Vec<String>, Vec<String>),
}

impl State {
    fn push(&mut self, kind: Kind) {
        for line in self.streams.clone() {
            let mut line = line.lock().unwrap();
            let Some(names) = line.names.get(&kind) else {
                continue;
            };
            let stale = |name: &&String| {
                let key = (kind, (*name).clone());
                line.sent.get(&key).and_then(Option::as_ref) != self.resources.get(&key)
            };
            if names.iter().any(|name| stale(&name)) {
                self.send(&mut line, kind);
            }
        }
    }

    fn send(&mut self, line: &mut Line, kind: Kind) {
        self.version += 1;
        line.count += 1;
        let (version, nonce) = (self.version.to_string(), format!("n{}", line.count));
        line.nonces.insert(kind, nonce.clone());
        let names = line.names.get(&kind).cloned().unwrap_or_default();
        let found = |name: &String| self.resources.get(&(kind, name.clone())).cloned();
        match &line.out {
            Out::Sotw(out) => {
                let response = DiscoveryResponse {
                    version_info: version,
                    nonce,
                    type_url: kind.type_url().into(),
                    resources: names.iter().filter_map(found).collect(),
                    ..DiscoveryResponse::default()
                };
                // A stream that the client has left needs no answer.
                let _ = out.try_send(Ok(response));
            }
            Out::Delta(out) => {
                let changed =
                    |name: &&String| line.sent.get(&(kind, (*name).clone())) != Some(&found(name));
                let (there, gone): (Vec<_>, Vec<_>) = names
                    .iter()
                    .filter(changed)
                    .partition(|name| found(name).is_some());
                let response = DeltaDiscoveryResponse {
                    nonce,
                    type_url: kind.type_url().into(),
                    resources: there
                        .into_iter()
                        .map(|name| Resource {
                            name: name.clone(),
                            version: version.clone(),
                            resource: found(name),
                            ..Resource::default()
                        })
                        .collect(),
                    removed_resources: gone.into_iter().cloned().collect(),
                    ..DeltaDiscoveryResponse::default()
                };
                let _ = out.try_send(Ok(response));
            }
        }
        for name in names {
            let found = self.resources.get(&(kind, name.clone())).cloned();
            line.sent.insert((kind, name), found);
        }
    }
}

/// A bootstrap for the control plane of this world.
pub(crate) fn bootstrap() -> Bootstrap {
    Bootstrap::server(&format!("plane:{PORT}"), "order-1").unwrap()
}

/// One that says this of its server, each in quotes.
pub(crate) fn bootstrap_with(features: &str) -> Bootstrap {
    let text = format!(
        r#"{{"xds_servers": [{{"server_uri": "plane:{PORT}", "channel_creds": [{{"type": "insecure"}}],
            "server_features": [{features}]}}], "node": {{"id": "order-1"}}}}"#
    );
    Bootstrap::from_json(&text).unwrap()
}

/// A mesh that the control plane configures.
pub(crate) async fn mesh(world: &World, bootstrap: Bootstrap) -> Mesh {
    Mesh::builder()
        .xds(bootstrap)
        .connector(world.clone())
        .random(Random::seeded(7))
        .start()
        .await
        .unwrap()
}
