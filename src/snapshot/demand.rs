//! What requests ask for and the configuration does not hold yet.
//!
//! A source that is asked for names (a control plane) learns them here, from channels when they are
//! made and from requests when they come; a request for a name that is not there yet waits here,
//! within its deadline, until the source has said what became of it. Nothing of this is on the way
//! of a request whose listener is in force.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::error::{Error, Kind};

/// How many names may be asked for by requests: a caller that makes up hosts must not fill the
/// memory of this process and the server's.
const MOST_NAMES: usize = 10_000;

/// How a name that was asked for stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Standing {
    /// The source knows that there is none.
    Absent(Arc<str>),
    /// It cannot be had by now.
    Failed(Arc<str>),
    /// It is in force.
    InForce,
    /// It is asked for; the text says what is missing.
    Pending(Arc<str>),
}

/// Gives the listener's name for what a caller wrote: an authority, if any, and a name.
pub(crate) type Naming = Box<dyn Fn(Option<&str>, &str) -> Result<Arc<str>, Error> + Send + Sync>;

/// Gives the listener's name for the address of a server.
pub(crate) type ServerNaming = Box<dyn Fn(&str) -> Arc<str> + Send + Sync>;

/// The names that are asked for.
pub(crate) struct Demand {
    naming: Naming,
    /// `None`: servers are nothing to the source.
    servers: Option<ServerNaming>,
    // Locked for a few instructions, by channels that are made and by requests for names that are
    // not in force.
    names: Mutex<BTreeMap<Arc<str>, Asked>>,
    /// Why clusters cannot be had, for the texts of errors.
    notes: Mutex<Arc<BTreeMap<Arc<str>, Arc<str>>>>,
    /// Counts changes of what is asked for.
    asked: watch::Sender<u64>,
    /// Counts what the source has said.
    told: watch::Sender<u64>,
}

#[derive(Debug)]
struct Asked {
    /// Channels that hold it.
    holders: usize,
    /// Whether a request asked for it.
    requested: bool,
    standing: Standing,
}

/// Keeps a name asked for.
#[derive(Debug)]
pub(crate) struct Held {
    demand: Arc<Demand>,
    name: Arc<str>,
}

impl Held {
    /// What is asked for.
    #[cfg_attr(
        not(feature = "inbound"),
        allow(dead_code, reason = "only who listens asks")
    )]
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Why it is not in force, as far as the source has said.
    #[cfg(feature = "inbound")]
    pub(crate) fn missing(&self) -> Option<Arc<str>> {
        self.demand.why(&self.name)
    }

    /// Counts what the source has said of any name.
    #[cfg(feature = "inbound")]
    pub(crate) fn told(&self) -> watch::Receiver<u64> {
        self.demand.told.subscribe()
    }
}

impl Demand {
    pub(crate) fn new(naming: Naming, servers: Option<ServerNaming>) -> Arc<Self> {
        Arc::new(Self {
            naming,
            servers,
            names: Mutex::default(),
            notes: Mutex::default(),
            asked: watch::Sender::new(0),
            told: watch::Sender::new(0),
        })
    }

    /// The listener that is meant.
    pub(crate) fn name(&self, authority: Option<&str>, name: &str) -> Result<Arc<str>, Error> {
        (self.naming)(authority, name)
    }

    /// Asks for the listener of a server at this address, for as long as what is returned lives;
    /// `None` if servers are nothing to the source.
    #[cfg_attr(
        not(feature = "inbound"),
        allow(dead_code, reason = "only who listens asks")
    )]
    pub(crate) fn serve(self: &Arc<Self>, address: std::net::SocketAddr) -> Option<Held> {
        let naming = self.servers.as_ref()?;
        Some(self.hold(naming(&address.to_string())))
    }

    /// Asks for a name for as long as what is returned lives.
    pub(crate) fn hold(self: &Arc<Self>, name: Arc<str>) -> Held {
        self.change(&name, |asked| asked.holders += 1);
        Held {
            demand: self.clone(),
            name,
        }
    }

    fn change(&self, name: &Arc<str>, change: impl FnOnce(&mut Asked)) {
        let mut names = lock(&self.names);
        let known = names.len();
        change(names.entry(name.clone()).or_insert_with(Asked::new));
        let grew = names.len() > known;
        drop(names);
        if grew {
            self.asked.send_modify(|count| *count += 1);
        }
    }

    /// Waits until it is known what becomes of a name, and asks for it if nobody has.
    ///
    /// Returns whether it is in force; if not, it does not exist. Cancel-safe.
    ///
    /// # Errors
    /// That it cannot be had by now, and why.
    pub(crate) async fn settled(&self, name: &Arc<str>) -> Result<bool, Error> {
        let mut told = self.told.subscribe();
        loop {
            told.borrow_and_update();
            match self.standing(name)? {
                Standing::InForce => return Ok(true),
                Standing::Absent(_) => return Ok(false),
                Standing::Failed(why) => return Err(Error::new(Kind::Discovery { why })),
                Standing::Pending(_) => {}
            }
            // Cannot fail: this holds the sender.
            let _ = told.changed().await;
        }
    }

    /// How a name stands; it is asked for from here on.
    fn standing(&self, name: &Arc<str>) -> Result<Standing, Error> {
        let mut names = lock(&self.names);
        if let Some(asked) = names.get_mut(name) {
            asked.requested |= asked.holders == 0;
            return Ok(asked.standing.clone());
        }
        if names.len() >= MOST_NAMES {
            let why = format!("{MOST_NAMES} names are asked for already");
            return Err(Error::new(Kind::Discovery { why: why.into() }));
        }
        drop(names);
        self.change(name, |asked| asked.requested = true);
        Ok(Asked::new().standing)
    }

    /// Why a name is not there, as far as that is known.
    pub(crate) fn why(&self, name: &Arc<str>) -> Option<Arc<str>> {
        match &lock(&self.names).get(name)?.standing {
            Standing::Absent(why) | Standing::Failed(why) | Standing::Pending(why) => {
                Some(why.clone())
            }
            Standing::InForce => None,
        }
    }

    /// Why a cluster, or its endpoints, cannot be had.
    pub(crate) fn note(&self, cluster: &str) -> Option<Arc<str>> {
        lock(&self.notes).get(cluster).cloned()
    }
}

/// The source's side.
impl Demand {
    /// Hears of each change of what is asked for.
    pub(crate) fn asked(&self) -> watch::Receiver<u64> {
        self.asked.subscribe()
    }

    /// What is asked for.
    pub(crate) fn names(&self) -> BTreeSet<Arc<str>> {
        lock(&self.names).keys().cloned().collect()
    }

    /// Says how names stand. Those that nobody holds and that do not exist are forgotten when this is
    /// said a second time: a request that comes back asks anew.
    pub(crate) fn tell(
        &self,
        standings: impl IntoIterator<Item = (Arc<str>, Standing)>,
        notes: BTreeMap<Arc<str>, Arc<str>>,
    ) {
        let mut names = lock(&self.names);
        let mut forgotten = false;
        for (name, standing) in standings {
            let Some(asked) = names.get_mut(&name) else {
                continue;
            };
            let lost = matches!(standing, Standing::Absent(_)) && asked.standing == standing;
            asked.standing = standing;
            if lost && asked.holders == 0 && !std::mem::take(&mut asked.requested) {
                names.remove(&name);
                forgotten = true;
            }
        }
        drop(names);
        *lock(&self.notes) = Arc::new(notes);
        self.told.send_modify(|count| *count += 1);
        if forgotten {
            self.asked.send_modify(|count| *count += 1);
        }
    }
}

impl Asked {
    fn new() -> Self {
        Self {
            holders: 0,
            requested: false,
            standing: Standing::Pending("it was not asked for yet".into()),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut names = lock(&self.demand.names);
        let Some(asked) = names.get_mut(&self.name) else {
            return;
        };
        asked.holders = asked.holders.saturating_sub(1);
        let last = asked.holders == 0 && !asked.requested;
        if last {
            names.remove(&self.name);
        }
        drop(names);
        if last {
            self.demand.asked.send_modify(|count| *count += 1);
        }
    }
}

impl fmt::Debug for Demand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Demand").field(&self.names).finish()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
