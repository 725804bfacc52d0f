//! Where the certificates are that a configuration names.
//!
//! A configuration says "the mesh's own", "these files" or "the provider of this name"; handshakes
//! need what is in them at their moment. Here each of them becomes [`Credentials`] once, however many
//! clusters use it, and is kept fresh as long as somebody does.

#[cfg(feature = "xds")]
use std::collections::BTreeSet;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::clock::Clock;
use super::credentials::Credentials;
use super::files::FileSource;
#[cfg(feature = "xds")]
use super::identity::Identity;
use super::trust::{Bundle, Trust};
use crate::model::security::{Files, Material};

/// What a control plane sends of certificates (SDS).
#[cfg(feature = "xds")]
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Secret {
    /// A certificate with its key.
    Identity(Identity),
    /// Who is believed.
    Roots(Bundle),
}

/// All certificates of a mesh, by the names that a configuration has for them.
#[derive(Clone)]
pub(crate) struct Materials {
    shared: Arc<Shared>,
}

struct Shared {
    mesh: Option<Credentials>,
    clock: Clock,
    // Locked when a configuration is linked, never on the way of a request.
    files: Mutex<HashMap<Files, Watched>>,
    named: Mutex<BTreeMap<Arc<str>, Credentials>>,
    /// Of those the ones that a control plane has sent.
    #[cfg(feature = "xds")]
    secrets: Mutex<BTreeSet<Arc<str>>>,
    system: Mutex<Option<Credentials>>,
}

/// Credentials from files and the task that looks at the files.
struct Watched {
    credentials: Credentials,
    task: Option<tokio::task::AbortHandle>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Materials {
    pub(crate) fn new(mesh: Option<Credentials>, clock: Clock) -> Self {
        Self {
            shared: Arc::new(Shared {
                mesh,
                clock,
                files: Mutex::default(),
                named: Mutex::default(),
                #[cfg(feature = "xds")]
                secrets: Mutex::default(),
                system: Mutex::default(),
            }),
        }
    }

    pub(crate) fn clock(&self) -> Clock {
        self.shared.clock
    }

    /// The mesh's own, if the program gave any.
    pub(crate) fn mesh(&self) -> Option<&Credentials> {
        self.shared.mesh.as_ref()
    }

    /// All credentials besides the mesh's own, by the name of their provider or secret, or by the paths of
    /// their files.
    pub(crate) fn others(&self) -> BTreeMap<String, Credentials> {
        let mut all = BTreeMap::new();
        for (name, credentials) in &*lock(&self.shared.named) {
            all.insert(name.to_string(), credentials.clone());
        }
        for (files, watched) in &*lock(&self.shared.files) {
            let Files {
                certificate,
                key: _,
                roots,
                revocations,
            } = files;
            let paths = [certificate, roots, revocations].into_iter().flatten();
            let paths: Vec<String> = paths.map(|path| path.display().to_string()).collect();
            all.insert(paths.join(","), watched.credentials.clone());
        }
        all
    }

    /// What `material` names. What nobody provides yet has no identity and trusts nobody, so that
    /// handshakes fail until somebody does.
    pub(crate) fn get(&self, material: &Material) -> Credentials {
        match material {
            Material::Files(files) => self.files(files),
            Material::Mesh => self.shared.mesh.clone().unwrap_or_default(),
            Material::Named(name) => self.named(name),
            Material::System => self.system(),
        }
    }

    /// The credentials of a provider, to which whoever provides them publishes.
    pub(crate) fn named(&self, name: &Arc<str>) -> Credentials {
        lock(&self.shared.named)
            .entry(name.clone())
            .or_default()
            .clone()
    }

    /// Lets these be what a provider of this name provides.
    pub(crate) fn put_named(&self, name: Arc<str>, credentials: Credentials) {
        lock(&self.shared.named).insert(name, credentials);
    }

    /// Lets files be what a provider of this name provides. What they hold at this moment is there
    /// when it returns; the future keeps it fresh and is to be run as long as the mesh.
    #[cfg(feature = "xds")]
    pub(crate) fn provide(
        &self,
        name: &Arc<str>,
        files: FileSource,
    ) -> impl Future<Output = ()> + Send + use<> {
        let credentials = self.named(name);
        files.load_into(&credentials);
        files.watch(credentials.downgrade())
    }

    /// Lets these be what the names with this prefix provide, and nobody those of before that are not
    /// among them. Handshakes take what is in place at their moment.
    #[cfg(feature = "xds")]
    pub(crate) fn put_secrets(&self, prefix: &str, all: &BTreeMap<Arc<str>, Secret>) {
        let mut known = lock(&self.shared.secrets);
        let mut before = std::mem::take(&mut *known);
        for (name, secret) in all {
            let name: Arc<str> = format!("{prefix}{name}").into();
            let credentials = self.named(&name);
            let generation = credentials.generation();
            let after = match secret {
                Secret::Identity(identity) => credentials.rotate(identity.clone()),
                Secret::Roots(roots) => {
                    credentials.trust(Trust::default().with_roots(roots.clone()))
                }
            };
            if after != generation {
                tracing::info!(secret = name.strip_prefix(prefix), "a secret is in force");
            }
            before.remove(&name);
            known.insert(name);
        }
        for gone in before {
            let mut named = lock(&self.shared.named);
            let Some(credentials) = named.get(&gone) else {
                continue;
            };
            tracing::warn!(secret = gone.strip_prefix(prefix), "a secret is gone");
            credentials.withdraw();
            credentials.trust(Trust::default());
            // Who holds it waits for the next one.
            if !credentials.is_used_elsewhere() {
                named.remove(&gone);
            }
        }
    }

    fn files(&self, files: &Files) -> Credentials {
        let mut all = lock(&self.shared.files);
        if let Some(known) = all.get(files) {
            return known.credentials.clone();
        }
        // Edits would pile up what they named: what nobody holds any more is let go here.
        all.retain(|_, watched| watched.credentials.is_used_elsewhere());
        let source = FileSource::new(files.clone());
        let credentials = source.load_now();
        let task = tokio::runtime::Handle::try_current().ok().map(|runtime| {
            let watching = source.watch(credentials.downgrade());
            runtime.spawn(watching).abort_handle()
        });
        let watched = Watched {
            credentials: credentials.clone(),
            task,
        };
        all.insert(files.clone(), watched);
        credentials
    }

    fn system(&self) -> Credentials {
        let mut system = lock(&self.shared.system);
        let load = || {
            let trust = match Bundle::system() {
                Ok(bundle) => Trust::default().with_roots(bundle),
                Err(error) => {
                    tracing::error!("{error}; servers that need it are not believed");
                    Trust::default()
                }
            };
            Credentials::new(None, trust)
        };
        system.get_or_insert_with(load).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Materials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Materials")
            .field("mesh", &self.shared.mesh)
            .finish_non_exhaustive()
    }
}
