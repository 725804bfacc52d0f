//! Keeps the server's own certificate fresh, and its authority that of the file.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;

use crate::model::identity::SpiffeId;
use crate::random::Random;
use crate::tls::{Authority, Clock, Credentials, Trust, Unsigned, Unusable};

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// What a look at the file says; equal if nothing has changed.
type Looked = Option<(SystemTime, u64)>;

/// The task behind an [`Office`](super::Office).
pub(in crate::control) struct Keeper {
    path: PathBuf,
    id: SpiffeId,
    names: Vec<Box<str>>,
    lifetime: Duration,
    clock: Clock,
    current: Arc<ArcSwap<Authority>>,
    own: Credentials,
}

impl Keeper {
    pub(super) fn new(
        path: PathBuf,
        authority: Authority,
        id: SpiffeId,
        names: Vec<Box<str>>,
        lifetime: Duration,
        clock: Clock,
    ) -> Result<Self, Unusable> {
        let keeper = Self {
            path,
            id,
            names,
            lifetime,
            clock,
            current: Arc::new(ArcSwap::from_pointee(authority)),
            own: Credentials::default(),
        };
        keeper
            .renew()
            .map_err(|error| Unusable::authority(&error))?;
        Ok(keeper)
    }

    pub(super) fn current(&self) -> Arc<ArcSwap<Authority>> {
        self.current.clone()
    }

    /// Who the server is, and whom it believes.
    pub(in crate::control) fn credentials(&self) -> Credentials {
        self.own.clone()
    }

    /// Signs the server's own certificate anew and trusts what the authority's clients trust.
    fn renew(&self) -> Result<(), Unsigned> {
        let authority = self.current.load();
        let now = self.clock.now();
        let identity = authority.issue(&self.id, &self.names, self.lifetime, now)?;
        let domain = authority.trust_domain().clone();
        let trust = Trust::default().with_domain(domain, authority.bundle().clone());
        self.own.replace(identity, trust);
        Ok(())
    }

    /// Looks until it is dropped.
    pub(in crate::control) async fn run(self) {
        let random = Random::from_entropy();
        let mut seen = None;
        let mut told = None;
        let mut due = self.due(&random);
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let (path, known) = (self.path.clone(), seen);
            let looking = move || {
                // Looked at before it is read: a change in between is seen by the next look.
                let looked = look(&path);
                let changed = Some(looked) != known;
                (looked, changed.then(|| Authority::load(&path)))
            };
            let Ok((looked, loaded)) = tokio::task::spawn_blocking(looking).await else {
                return;
            };
            let changed = match loaded {
                None => false,
                Some(Ok(authority)) => {
                    (seen, told) = (Some(looked), None);
                    self.take(authority)
                }
                Some(Err(error)) => {
                    if told.as_ref() != Some(&error) {
                        tracing::error!(target: "meshwork::ca", "{error}; the roots in force stay so");
                        told = Some(error);
                    }
                    false
                }
            };
            if changed || self.clock.now() >= due {
                if let Err(error) = self.renew() {
                    tracing::error!(target: "meshwork::ca", "the server's own certificate: {error}");
                }
                due = self.due(&random);
            }
        }
    }

    /// Puts what was read in force, if it is another.
    fn take(&self, next: Authority) -> bool {
        let before = self.current.load_full();
        if next.trust_domain() != before.trust_domain() {
            tracing::error!(
                target: "meshwork::ca",
                "the file's trust domain is {}, and this server's is {}; the roots in force stay so",
                next.trust_domain(),
                before.trust_domain(),
            );
            return false;
        }
        let changed = next != *before;
        if changed {
            let step = next.step();
            tracing::info!(target: "meshwork::ca", ?step, "other roots are in force");
            self.current.store(Arc::new(next));
        }
        changed
    }

    /// When the server's own certificate is to be replaced.
    fn due(&self, random: &Random) -> Duration {
        let own = self.own.identity();
        own.map_or(Duration::ZERO, |own| {
            own.renewal(self.clock.now(), random.unit())
        })
    }
}

fn look(path: &std::path::Path) -> Looked {
    let found = std::fs::metadata(path).ok()?;
    Some((found.modified().ok()?, found.len()))
}
