//! A world in memory, so that a service's own tests can ask what it does when its callees fail.
//!
//! The mesh in a [`World`] is the real one: it reads the YAML that is in production, routes, retries,
//! times out and ejects. Only what is below it is made up: connections are pipes in memory, and the
//! endpoints of each host are the [`Backend`]s that the test has put there, with the behaviour that
//! it gives them. Nothing touches the network, so a test can pause the clock (a timeout of two
//! seconds costs no time) and chance is seeded (a 90/10 split is the same each time).
//!
//! A mock of the client was rejected: it answers what the test's author believes that timeouts and
//! retries do, and that belief is what should be tested. So were real sockets with fast timeouts,
//! which make tests that fail on a busy machine.
//!
//! ```
//! use std::time::Duration;
//! use http::{Request, StatusCode};
//! use meshwork::testing::World;
//! use meshwork::{Body, Workload};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let world = World::seeded(7);
//! let catalog = world.backend("catalog").subset("v1");
//! let order = Workload::new("my-app", "order-sa").label("app", "order");
//! let mesh = world.mesh("examples/article/resilience", order).await?;
//!
//! catalog.hang();
//! let began = tokio::time::Instant::now();
//! let request = Request::get("http://catalog/items").body(Body::empty())?;
//! let error = mesh.client().request(request).await.unwrap_err();
//! assert_eq!(error.status(), StatusCode::GATEWAY_TIMEOUT);
//! assert_eq!(began.elapsed().as_secs(), 5, "the route's timeout");
//! # Ok(()) }
//! ```

mod backend;
mod network;

use std::collections::BTreeSet;
use std::fmt;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::Error;
use crate::mesh::Mesh;
use crate::model::cluster::Discovery;
use crate::model::endpoint::{Address, Endpoint, Endpoints, Health, Locality, LocalityEndpoints};
use crate::model::security::Security;
use crate::model::{Cluster, Origin, Resources};
use crate::random::Random;
use crate::source::istio::{Options, compile_dir};
use crate::source::{self, Publisher};
use crate::workload::Workload;

pub use backend::Backend;
use network::Network;

/// Backends in memory, and meshes that reach them and nobody else. See the [module](self).
///
/// It must live as long as its meshes are used: with it, all connections end.
pub struct World {
    network: Arc<Network>,
    seed: u64,
    // Locked by the test, to start a mesh and to edit it.
    meshes: Mutex<Vec<Started>>,
}

#[derive(Clone)]
struct Started {
    publisher: Publisher,
    workload: Workload,
}

impl World {
    /// A world without backends. The same seed draws the same weights, jitter and faults.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self {
            network: Arc::default(),
            seed,
            meshes: Mutex::default(),
        }
    }

    /// Adds one endpoint of a host, which answers 200 with its host as the body until it is told
    /// otherwise. Calling it again adds another endpoint.
    ///
    /// A name without a dot is completed with the namespace of the workload that asks. Backends that
    /// are added after [`mesh`](Self::mesh) are known to it from the next [`apply`](Self::apply).
    pub fn backend(&self, host: impl Into<String>) -> Backend {
        self.network.add(host.into())
    }

    /// Starts a mesh from a folder (or file) of YAML as `workload` sees it.
    ///
    /// A host that has backends is served by them alone, whatever endpoints the folder knows; the
    /// subsets of it by those of [the name](Backend::subset). All other addresses refuse
    /// connections. The folder is not watched, since a watcher's real time and a paused clock do
    /// not mix: [`apply`](Self::apply) is the edit.
    ///
    /// # Errors
    /// All faults of the folder, and a backend whose host no service of the folder has.
    pub async fn mesh(&self, folder: impl AsRef<Path>, workload: Workload) -> Result<Mesh, Error> {
        let resources = self.resources(folder.as_ref(), &workload).await?;
        let (publisher, feed) = source::feed(resources);
        let mesh = Mesh::builder()
            .feed(feed)
            .workload(workload.clone())
            .connector(network::Connector::new(&self.network))
            .random(Random::seeded(self.seed))
            .start()
            .await?;
        let started = Started {
            publisher,
            workload,
        };
        self.meshes().push(started);
        Ok(mesh)
    }

    /// Puts another folder in force in all meshes of this world, as an edit would; it is in force
    /// when this returns.
    ///
    /// # Errors
    /// As [`mesh`](Self::mesh), with nothing changed.
    pub async fn apply(&self, folder: impl AsRef<Path>) -> Result<(), Error> {
        let started = self.meshes().clone();
        let mut edits = Vec::with_capacity(started.len());
        for one in &started {
            let resources = self.resources(folder.as_ref(), &one.workload).await?;
            edits.push((one, resources));
        }
        for (one, resources) in edits {
            // A mesh that the test has dropped needs no edit.
            let _ = one.publisher.publish(resources).await;
        }
        Ok(())
    }

    fn meshes(&self) -> std::sync::MutexGuard<'_, Vec<Started>> {
        self.meshes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn resources(&self, folder: &Path, workload: &Workload) -> Result<Resources, Error> {
        let (path, client) = (PathBuf::from(folder), workload.clone());
        let compile = move || compile_dir(path, &client, &Options::default());
        // A blocking thread holds a paused clock still, so no timeout elapses meanwhile.
        let compiled = tokio::task::spawn_blocking(compile)
            .await
            .map_err(|error| Error::config("the folder could not be read").caused_by(error))?;
        if compiled.faults.has_errors() {
            return Err(Error::config(compiled.faults.to_string()));
        }
        let mut resources = compiled.resources;
        self.move_in(&mut resources, workload)?;
        Ok(resources)
    }

    /// Gives every cluster of a host that has backends these for its endpoints.
    fn move_in(&self, resources: &mut Resources, workload: &Workload) -> Result<(), Error> {
        let backends = self.network.backends();
        let clusters: Vec<Arc<Cluster>> = resources.clusters.values().cloned().collect();
        let mut served = BTreeSet::new();
        for cluster in clusters {
            let Some((subset, host)) = subset_and_host(&cluster.name) else {
                continue;
            };
            let own = |backend: &&Backend| full(backend.host(), workload) == host;
            let all: Vec<&Backend> = backends.iter().filter(own).collect();
            if all.is_empty() {
                continue;
            }
            served.insert(host.to_owned());
            let chosen = all.into_iter().filter(|backend| backend.is_in(subset));
            let endpoints = endpoints(&cluster, chosen);
            resources.insert_cluster(Cluster {
                discovery: Discovery::Endpoints(endpoints.name.clone()),
                // Backends are in this process, whom no network could impersonate.
                security: Security::Plaintext,
                ..Cluster::clone(&cluster)
            });
            resources.insert_endpoints(endpoints);
        }
        let lost = backends
            .iter()
            .map(|backend| full(backend.host(), workload))
            .find(|host| !served.contains(host));
        match lost {
            None => Ok(()),
            Some(host) => Err(Error::config(format!(
                "no service of the folder has the host {host} of a backend, as {} in namespace {} \
                 sees it; write the host of a Service or ServiceEntry",
                workload.service_account(),
                workload.namespace()
            ))),
        }
    }
}

/// Of `outbound|port|subset|host`.
fn subset_and_host(cluster: &str) -> Option<(&str, &str)> {
    let mut parts = cluster.splitn(4, '|').skip(2);
    Some((parts.next()?, parts.next()?))
}

fn full(host: &str, workload: &Workload) -> String {
    let host = host.to_ascii_lowercase();
    if host.contains('.') {
        return host;
    }
    format!(
        "{host}.{}.svc.{}",
        workload.namespace(),
        workload.cluster_domain()
    )
}

fn endpoints<'a>(cluster: &Cluster, backends: impl Iterator<Item = &'a Backend>) -> Endpoints {
    let endpoints = backends.map(|backend| Endpoint {
        address: Address::Socket(backend.address()),
        weight: NonZeroU32::MIN,
        health: Health::Healthy,
        labels: Arc::default(),
        meshed: false,
        hostname: None,
    });
    Endpoints {
        name: cluster.name.clone(),
        localities: vec![LocalityEndpoints {
            locality: Locality::default(),
            priority: 0,
            weight: None,
            endpoints: endpoints.collect(),
        }],
        overloads: Vec::new(),
        origin: Origin::built_in(),
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.network.end();
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World")
            .field("seed", &self.seed)
            .field("backends", &self.network.backends())
            .finish_non_exhaustive()
    }
}
