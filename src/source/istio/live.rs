//! A directory of Istio YAML as a source: read, compiled for one client, and watched.
//!
//! The last good configuration stays in force while somebody fixes the files: a set with an error
//! in it changes nothing, whatever else it says. Half of a set is not better than all of the set
//! before it, since the halves of Istio's configuration (a route and the subset that it names) stand
//! in different objects.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc::Receiver;

use super::Options;
use super::compile::{Compiled, at_edge, compile, unopened};
use super::fault::Faults;
use super::folder::Texts;
use super::follow::follow;
use crate::model::Resources;
use crate::workload::Workload;

/// Istio's YAML in a directory, as one client sees it.
///
/// ```no_run
/// use meshwork::Workload;
/// use meshwork::source::istio::{Istio, Options, Update};
///
/// # async fn example() -> Result<(), meshwork::source::istio::Faults> {
/// let client = Workload::new("my-app", "order-sa").label("app", "order");
/// let (resources, mut updates) = Istio::start("mesh/", client, Options::default()).await?;
/// println!("{} clusters", resources.clusters.len());
/// while let Some(update) = updates.next().await {
///     match update {
///         Update::Resources(resources) => println!("{} clusters", resources.clusters.len()),
///         Update::Rejected(faults) => eprintln!("{faults}"),
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Istio;

/// What became of an edit.
///
/// It is exhaustive: a listener that handles one and not the other does half of its work.
#[derive(Clone, Debug, PartialEq)]
pub enum Update {
    /// It is good: this is in force from here on.
    Resources(Arc<Resources>),
    /// It has errors: what was in force stays so.
    Rejected(Faults),
}

/// The edits of a directory, in order.
///
/// Dropping it ends the watching.
#[derive(Debug)]
pub struct Updates {
    receiver: Receiver<Result<Arc<Resources>, Faults>>,
}

impl Istio {
    /// Reads and compiles a directory (or a single file) and begins to watch it.
    ///
    /// Warnings are logged at `warn` with the target `meshwork::source::istio`, those of later edits
    /// as far as they are new. The watching task ends when the [`Updates`] are dropped. It must
    /// be called in a Tokio runtime; files are read on its blocking threads.
    ///
    /// # Errors
    /// All faults of the files, if one of them is an error. A set that is being written while it is
    /// read is given a quarter of a second to become whole.
    pub async fn start(
        directory: impl AsRef<Path>,
        client: Workload,
        options: Options,
    ) -> Result<(Arc<Resources>, Updates), Faults> {
        let loader = Loader {
            client,
            options,
            told: Mutex::default(),
        };
        let load = move |texts: &Texts| loader.load(texts);
        let (resources, receiver) = follow(directory.as_ref(), load).await?;
        Ok((resources, Updates { receiver }))
    }
}

impl Updates {
    /// The next edit: one for each distinct content of the directory, at most a second after it is
    /// complete on disk. A listener that is slower than the edits skips some, but never the last.
    ///
    /// `None` when the runtime shuts down. It is cancel safe: an edit is not lost when the future is
    /// dropped.
    pub async fn next(&mut self) -> Option<Update> {
        Some(match self.receiver.recv().await? {
            Ok(resources) => Update::Resources(resources),
            Err(faults) => Update::Rejected(faults),
        })
    }
}

/// Makes resources of texts, for one client.
struct Loader {
    client: Workload,
    options: Options,
    /// The faults of the last good set, so that an edit repeats none of its warnings.
    told: Mutex<Faults>,
}

impl Loader {
    /// Reads and compiles a set; `Err` holds an error and whatever else was found.
    fn load(&self, texts: &Texts) -> Result<Arc<Resources>, Faults> {
        let Compiled { resources, faults } = compile_texts(texts, &self.client, &self.options);
        if faults.has_errors() {
            return Err(faults);
        }
        // Held for a comparison and some log lines, by one thread at a time.
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        for fault in faults.iter().filter(|fault| !told.contains(fault)) {
            tracing::warn!(target: "meshwork::source::istio", "{fault}");
        }
        *told = faults;
        Ok(Arc::new(resources))
    }
}

/// Reads a directory (or a single file) once and compiles it for one client: what
/// [`Istio::start`] does without the watching.
///
/// The faults are those of reading and of compiling, with the lines that they speak of; nothing is
/// logged. With an error among them the resources are those of the objects that are good. It
/// blocks; call it from `tokio::task::spawn_blocking` in async code.
///
/// ```
/// use meshwork::Workload;
/// use meshwork::source::istio::{Options, compile_dir};
///
/// let client = Workload::new("my-app", "order-sa");
/// let compiled = compile_dir("no/such/directory", &client, &Options::default());
/// assert!(compiled.faults.has_errors());
/// ```
pub fn compile_dir(path: impl AsRef<Path>, client: &Workload, options: &Options) -> Compiled {
    compile_texts(&Texts::read(path.as_ref()), client, options)
}

/// Reads a directory (or a single file) once and compiles it as an Envoy has it that a Gateway selects, to be
/// asked about: requests to a port go by the routes of the Gateway's servers there.
///
/// `gateway` is `namespace/name`, or the name of one in `default`; `host` is whom callers ask for in the
/// handshake, by which servers of HTTPS on one port are told apart. `None`: there is no such Gateway among the
/// good objects. Faults are as those of [`compile_dir`]. It blocks; call it from
/// `tokio::task::spawn_blocking` in async code.
///
/// ```
/// use meshwork::source::istio::{Options, compile_gateway};
///
/// let options = Options::default();
/// assert!(compile_gateway("no/such/directory", "edge/edge", "www.shop.test", &options).is_none());
/// ```
pub fn compile_gateway(
    path: impl AsRef<Path>,
    gateway: &str,
    host: &str,
    options: &Options,
) -> Option<Compiled> {
    let read = Texts::read(path.as_ref()).objects(options);
    let name = gateway.split_once('/').unwrap_or(("default", gateway));
    let mut compiled = at_edge(&read.objects, name, host, options)?;
    compiled.faults.show(&read.sources);
    let mut faults = read.faults;
    faults.extend(compiled.faults);
    compiled.faults = faults;
    Some(compiled)
}

fn compile_texts(texts: &Texts, client: &Workload, options: &Options) -> Compiled {
    let read = texts.objects(options);
    let mut faults = read.faults;
    read.beside.into_iter().for_each(|fault| faults.push(fault));
    let mut compiled = compile(&read.objects, client, options);
    compiled.faults.extend(unopened(&read.objects, client));
    compiled.faults.show(&read.sources);
    faults.extend(compiled.faults);
    Compiled {
        resources: compiled.resources,
        faults,
    }
}

/// Runs what takes its time on a thread of its own; a panic there is one here.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime shuts down, and this task with it.
            Err(_) => std::future::pending().await,
        },
    }
}
