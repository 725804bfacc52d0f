//! The only IO of the xDS client: one task for each server, one for time and demands.
//!
//! Each task locks the machine, tells it one thing, puts in force what came of it, and lets go. A
//! response is read only after the one before it is in force. What is to be sent is asked of the
//! machine when the connection takes it, so that nothing queues here; reading goes on meanwhile,
//! since a server may wait for its responses to be read before it reads on.

mod connection;
mod load;
mod pace;
mod secure;
mod variant;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::pace::Pace;
use super::bootstrap::Bootstrap;
use super::client::{Client, Status, Taken, Wish};
use super::dump::Dump;
use super::resource::SECRETS;
use super::store::{Good, Key};
use super::wire;
use super::{Decode, cache};
use crate::filter::Filters;
use crate::model::Resources;
use crate::random::Random;
use crate::snapshot::{ClusterLoad, Demand, Standing};
use crate::tls::Materials;
use crate::transport::Connect;

/// How long changes are waited for before they are written together.
const SAVED_AFTER: Duration = Duration::from_secs(1);

/// Puts resources in force; returns when they are.
pub(crate) type Apply = Box<dyn Fn(&Arc<Resources>) + Send + Sync>;

/// The loads of clusters by their names.
pub(crate) type Loads = Box<dyn Fn(&BTreeSet<Arc<str>>) -> Vec<ClusterLoad> + Send + Sync>;

/// What the tasks of a client share.
pub(crate) struct Driver {
    // Held while something is taken in and put in force, by the tasks of this client: not on the way
    // of a request.
    client: Mutex<Client>,
    /// Counts changes of the machine, for the tasks that wait for one.
    changed: watch::Sender<u64>,
    demand: Arc<Demand>,
    apply: Apply,
    materials: Materials,
    node: envoy_types::pb::envoy::config::core::v3::Node,
    /// The same for load reports, with the feature that is theirs.
    reporter: envoy_types::pb::envoy::config::core::v3::Node,
    loads: Loads,
    random: Random,
    connector: Arc<dyn Connect>,
    /// By server.
    paces: Vec<Pace>,
    /// Where the last good resources are kept.
    cache: Option<PathBuf>,
    /// Counts what came into force, for the task that keeps it.
    moved: watch::Sender<u64>,
}

impl Driver {
    /// A client with what it needs of its surroundings; nothing runs yet.
    pub(crate) fn new(
        bootstrap: &Bootstrap,
        decoder: Arc<dyn Decode>,
        surroundings: Surroundings,
        seeds: BTreeMap<Key, Good>,
    ) -> Arc<Self> {
        let Surroundings {
            random,
            connector,
            demand,
            apply,
            materials,
            loads,
            filters: _,
        } = surroundings;
        let client = Client::new(bootstrap, decoder, random.clone(), seeds);
        Arc::new(Self {
            node: wire::node(&bootstrap.node, &[]),
            reporter: wire::node(&bootstrap.node, &["envoy.lrs.supports_send_all_clusters"]),
            loads,
            random,
            paces: (0..client.servers()).map(|_| Pace::default()).collect(),
            client: Mutex::new(client),
            changed: watch::Sender::new(0),
            demand,
            apply,
            materials,
            connector,
            cache: bootstrap.cache.clone(),
            moved: watch::Sender::new(0),
        })
    }

    /// Runs for ever; all tasks end when the future is dropped.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut tasks = JoinSet::new();
        let servers = self.read(|client| client.servers());
        for server in 0..servers {
            tasks.spawn(connection::keep(self.clone(), server));
            tasks.spawn(load::keep(self.clone(), server));
        }
        if let Some(folder) = self.cache.clone() {
            tasks.spawn(keep_on_disk(self.clone(), folder));
        }
        tasks.spawn(watch_time_and_demand(self));
        while tasks.join_next().await.is_some() {}
    }

    /// Who this client is.
    pub(crate) fn node(&self) -> &envoy_types::pb::envoy::config::core::v3::Node {
        &self.node
    }

    /// What is known by now.
    pub(crate) fn dump(&self) -> Dump {
        self.read(|client| client.dump(Instant::now()))
    }

    /// Looks at the machine.
    fn read<T>(&self, look: impl FnOnce(&Client) -> T) -> T {
        look(&self.client.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Tells the machine one thing, and puts in force what comes of it.
    fn tell<T>(&self, tell: impl FnOnce(&mut Client, Instant) -> T) -> T {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = tell(&mut client, Instant::now());
        if let Some(taken) = client.take() {
            self.put_in_force(taken);
        }
        drop(client);
        self.changed.send_modify(|count| *count += 1);
        answer
    }

    fn put_in_force(&self, taken: Taken) {
        let Taken {
            resources,
            secrets,
            statuses,
            notes,
        } = taken;
        if let Some(resources) = resources {
            // First, so that whoever is in force has the certificates that it names.
            self.materials.put_secrets(SECRETS, &secrets);
            (self.apply)(&resources);
            self.moved.send_modify(|count| *count += 1);
        }
        // After that, so that who waited finds it.
        let standing = |(name, status)| {
            let standing = match status {
                Status::Absent(why) => Standing::Absent(why),
                Status::Failed(why) => Standing::Failed(why),
                Status::InForce => Standing::InForce,
                Status::Pending(what) => Standing::Pending(what),
            };
            (name, standing)
        };
        self.demand.tell(statuses.into_iter().map(standing), notes);
    }

    /// The clusters whose load a server wants to know.
    fn reporting(&self, server: usize) -> BTreeSet<Arc<str>> {
        self.read(|client| client.reporting(server))
    }

    /// How often a server is asked whether it is there.
    fn pace(&self, server: usize) -> Pace {
        self.paces.get(server).cloned().unwrap_or_default()
    }

    fn wish(&self, server: usize) -> Wish {
        self.read(|client| client.wish(server))
    }
}

/// What a client needs of its surroundings.
pub(crate) struct Surroundings {
    pub(crate) random: Random,
    pub(crate) connector: Arc<dyn Connect>,
    pub(crate) demand: Arc<Demand>,
    pub(crate) apply: Apply,
    /// Where certificates are found by those who use them.
    pub(crate) materials: Materials,
    /// What the program has added.
    pub(crate) filters: Filters,
    pub(crate) loads: Loads,
}

/// Writes what is in force, a second after it was.
async fn keep_on_disk(driver: Arc<Driver>, folder: PathBuf) {
    let mut moved = driver.moved.subscribe();
    // Cannot fail: the driver holds the sender.
    while moved.changed().await.is_ok() {
        tokio::time::sleep(SAVED_AFTER).await;
        moved.borrow_and_update();
        let kept = driver.read(Client::kept);
        let to = folder.clone();
        let saved = tokio::task::spawn_blocking(move || cache::save(&to, &kept)).await;
        let saved = saved.map_err(std::io::Error::other).flatten();
        if let Err(error) = saved {
            let folder = folder.display();
            tracing::warn!(target: "meshwork::source::xds", %folder, %error, "resources cannot be kept");
        }
    }
}

async fn watch_time_and_demand(driver: Arc<Driver>) {
    let mut asked = driver.demand.asked();
    let mut changed = driver.changed.subscribe();
    let mut known: Option<BTreeSet<Arc<str>>> = None;
    loop {
        asked.borrow_and_update();
        let names = driver.demand.names();
        if known.as_ref() != Some(&names) {
            driver.tell(|client, now| client.demand(names.clone(), now));
            known = Some(names);
        }
        changed.borrow_and_update();
        let due = driver.read(Client::due);
        let due = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = due => driver.tell(Client::tick),
            // Neither can fail: the driver holds both senders.
            _ = asked.changed() => {}
            _ = changed.changed() => {}
        }
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").finish_non_exhaustive()
    }
}
