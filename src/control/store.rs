//! What is served: the whole mesh, and the views of it that somebody wants.
//!
//! Istio's objects describe the mesh; a client gets a view of it, which depends on its namespace,
//! labels, service account, locality and dialect. Views are made when a stream asks for one, once
//! for all streams that are alike, and forgotten with the last of them, so a server costs what its
//! clients' differences cost and not what their number does.
//!
//! Content is judged before it is in force: what does not pass leaves everything as it was, for
//! streams that come later too. A state is a function of the content and the node alone, so two
//! servers of the same files serve the same versions.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{OnceCell, watch};

use super::egress::Egress;
use super::kind::Kind;
use super::lock::lock;
use super::node::Node;
use super::references;
use super::resource::{Encoded, Parts};
use super::snapshot::{Reserved, Snapshot};
use super::variant::Constraints;
use super::view::{self, Key};
use super::workshop::Workshop;
use crate::source::istio::kinds::Object;
use crate::source::istio::{self, Faults, Options, RawFile, RawResource, ReadLabels, follow};

/// Everything that a server knows at one time.
///
/// ```
/// use meshwork::control::{Content, Encoded, Kind, Store};
///
/// let store = Store::new();
/// let cluster = Encoded::new(Kind::Cluster, "catalog", b"\x0a\x07catalog");
/// let generation = store.publish(Content::default().with_resources([cluster]));
/// assert_eq!(store.generation(), generation);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Content {
    pub(super) objects: Arc<Vec<Object>>,
    pub(super) options: Options,
    pub(super) resources: Vec<Arc<Encoded>>,
    pub(super) egress: Vec<Egress>,
    pub(super) files: Vec<Restricted>,
}

/// Resources that only some nodes see.
#[derive(Clone, Debug)]
pub(super) struct Restricted {
    pub(super) nodes: BTreeSet<Arc<str>>,
    pub(super) resources: Vec<Arc<Encoded>>,
}

impl Content {
    /// Listeners that every Envoy opens.
    #[must_use]
    pub fn with_egress(mut self, egress: impl IntoIterator<Item = Egress>) -> Self {
        self.egress.extend(egress);
        self
    }

    /// Istio's objects, as they were [read](crate::source::istio::read), in place of those before.
    #[must_use]
    pub fn with_objects(mut self, objects: Vec<Object>, options: Options) -> Self {
        self.objects = Arc::new(objects);
        self.options = options;
        self
    }

    /// Resources that every client gets, whatever its dialect. Where an object becomes a resource
    /// of the same kind and name, these win.
    #[must_use]
    pub fn with_resources(mut self, resources: impl IntoIterator<Item = Encoded>) -> Self {
        self.resources.extend(resources.into_iter().map(Arc::new));
        self
    }

    /// The same for the nodes with these ids only.
    #[must_use]
    pub fn with_resources_for(
        mut self,
        nodes: impl IntoIterator<Item = impl Into<Arc<str>>>,
        resources: impl IntoIterator<Item = Encoded>,
    ) -> Self {
        self.files.push(Restricted {
            nodes: nodes.into_iter().map(Into::into).collect(),
            resources: resources.into_iter().map(Arc::new).collect(),
        });
        self
    }

    fn with_file(self, file: RawFile) -> Self {
        let encoded = file.resources.into_iter().filter_map(encoded);
        match file.nodes.is_empty() {
            true => self.with_resources(encoded),
            false => self.with_resources_for(file.nodes, encoded),
        }
    }
}

/// A resource of a file; those of other kinds were refused when it was read.
fn encoded(raw: RawResource) -> Option<Encoded> {
    let kind = Kind::from_url(&raw.type_url)?;
    let mut parts = Parts::new(kind, raw.name, &raw.bytes);
    parts.label = raw.version;
    parts.ttl = raw.ttl;
    parts.aliases = raw.aliases;
    if let Some(message) = raw.constraints {
        parts.constraints = Some(Constraints::read(message.into())?);
    }
    parts.references = references::of(kind, &raw.bytes);
    Some(parts.finish())
}

/// The content that a server serves, and how it changes. Clones are handles on the same store.
#[derive(Clone, Debug)]
pub struct Store {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    current: watch::Sender<Arc<Generation>>,
    rejected: Mutex<Rejected>,
    /// What follows a folder; it ends with the last handle.
    task: Mutex<Option<tokio::task::JoinHandle<()>>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        let task = self.task.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = task.take() {
            task.abort();
        }
    }
}

#[derive(Debug, Default)]
struct Rejected {
    count: u64,
    last: Option<Faults>,
}

/// One content, and the views that were made of it.
#[derive(Debug)]
pub(super) struct Generation {
    number: u64,
    content: Arc<Content>,
    reserved: Arc<Reserved>,
    read: ReadLabels,
    views: Mutex<HashMap<Key, Weak<View>>>,
    workshop: Arc<Workshop>,
}

/// A view, made once for all streams that have it.
#[derive(Debug, Default)]
pub(super) struct View {
    snapshot: OnceCell<Arc<Snapshot>>,
}

impl Default for Store {
    fn default() -> Self {
        Self::new()
    }
}

impl Store {
    /// A store of nothing, to be [published](Self::publish) to.
    #[must_use]
    pub fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                current: watch::Sender::new(Arc::new(Generation::new(0, Content::default()))),
                rejected: Mutex::default(),
                task: Mutex::default(),
            }),
        }
    }

    /// A store that follows a folder (or a single file) of YAML.
    ///
    /// A good edit is in force at most a second after it is complete on disk; one with an error
    /// changes nothing, is logged at `warn`, and stays in [`Store::rejected`] until a good one
    /// comes. The folder is followed until the last handle is dropped. It must be called in a
    /// Tokio runtime; files are read on its blocking threads.
    ///
    /// # Errors
    /// All faults of the files as they are at the start, if one of them is an error.
    pub async fn follow(path: impl AsRef<Path>, options: Options) -> Result<Self, Faults> {
        Self::follow_with(path, options, Content::default()).await
    }

    /// The same, with content that is served beside that of the files.
    ///
    /// # Errors
    /// As those of [`Store::follow`].
    pub async fn follow_with(
        path: impl AsRef<Path>,
        options: Options,
        beside: Content,
    ) -> Result<Self, Faults> {
        let last = Mutex::default();
        let make =
            move |texts: &crate::source::istio::Texts| content(texts, options, &beside, &last);
        let (first, mut edits) = follow(path.as_ref(), make).await?;
        let store = Self::new();
        store.publish(first);
        let shared = Arc::downgrade(&store.shared);
        let task = tokio::spawn(async move {
            while let Some(edit) = edits.recv().await {
                let Some(shared) = shared.upgrade() else {
                    return;
                };
                let store = Self { shared };
                match edit {
                    Ok(content) => drop(store.publish(content)),
                    Err(faults) => store.reject(faults),
                }
            }
        });
        *lock(&store.shared.task) = Some(task);
        Ok(store)
    }

    /// Puts content in force, in place of all that was; yields its generation. Streams are sent
    /// what differs.
    pub fn publish(&self, content: Content) -> u64 {
        lock(&self.shared.rejected).last = None;
        let mut number = 0;
        let made = Generation::new(number, content);
        self.shared.current.send_modify(|current| {
            number = current.number + 1;
            *current = Arc::new(Generation {
                number,
                workshop: current.workshop.clone(),
                ..made
            });
        });
        tracing::info!(target: "meshwork::control", generation = number, "in force");
        number
    }

    /// Notes that new content was no good. What is in force stays so.
    pub fn reject(&self, faults: Faults) {
        tracing::warn!(
            target: "meshwork::control",
            "an edit is rejected, and what is served stays as it is:\n{faults}",
        );
        let mut rejected = lock(&self.shared.rejected);
        rejected.count += 1;
        rejected.last = Some(faults);
    }

    /// The faults of the last edit, if it was rejected.
    #[must_use]
    pub fn rejected(&self) -> Option<Faults> {
        lock(&self.shared.rejected).last.clone()
    }

    /// The objects that are served.
    pub(super) fn objects(&self) -> Arc<Vec<Object>> {
        let current = self.shared.current.borrow();
        current.content.objects.clone()
    }

    /// How many edits were rejected so far.
    #[must_use]
    pub fn rejections(&self) -> u64 {
        lock(&self.shared.rejected).count
    }

    /// The number of the content in force; it grows by one with each.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.shared.current.borrow().number
    }

    /// What a node is served. It compiles the view if nobody has it.
    pub async fn snapshot(&self, node: &Node) -> Arc<Snapshot> {
        let generation = self.shared.current.borrow().clone();
        let key = generation.key(node);
        let (_, snapshot) = generation.view(key, &Arc::default()).await;
        snapshot
    }

    /// How many views are in use.
    #[must_use]
    pub fn views(&self) -> usize {
        let generation = self.shared.current.borrow().clone();
        let views = lock(&generation.views);
        views
            .values()
            .filter(|view| view.strong_count() > 0)
            .count()
    }

    pub(super) fn generations(&self) -> watch::Receiver<Arc<Generation>> {
        self.shared.current.subscribe()
    }
}

impl Generation {
    fn new(number: u64, content: Content) -> Self {
        let restricted = content.files.iter().flat_map(|file| &file.resources);
        Self {
            number,
            reserved: Arc::new(Reserved::of(restricted)),
            read: ReadLabels::of(&content.objects),
            content: Arc::new(content),
            views: Mutex::default(),
            workshop: Arc::default(),
        }
    }

    /// Which view a node has.
    pub(super) fn key(&self, node: &Node) -> Key {
        Key::of(&self.content, &self.read, node)
    }

    /// A view that somebody has made.
    pub(super) fn made(&self, key: &Key) -> Option<(Arc<View>, Arc<Snapshot>)> {
        let view = lock(&self.views).get(key)?.upgrade()?;
        let snapshot = view.snapshot.get()?.clone();
        Some((view, snapshot))
    }

    /// A view, which is made if nobody has it; `before` is what was served last. It is kept for others
    /// as long as somebody has it.
    pub(super) async fn view(
        &self,
        key: Key,
        before: &Arc<Snapshot>,
    ) -> (Arc<View>, Arc<Snapshot>) {
        let view = self.joined(&key, usize::MAX).unwrap_or_default();
        self.filled(view, key, before).await
    }

    /// A view that was [joined](Self::joined), which is made if nobody has made it.
    pub(super) async fn filled(
        &self,
        view: Arc<View>,
        key: Key,
        before: &Arc<Snapshot>,
    ) -> (Arc<View>, Arc<Snapshot>) {
        let make = || async {
            let (content, before) = (self.content.clone(), before.clone());
            let workshop = self.workshop.clone();
            let maker = workshop.maker().await;
            let made = tokio::task::spawn_blocking(move || {
                let _maker = maker;
                view::make(&content, &key, &before, &workshop)
            });
            match made.await {
                Ok(snapshot) => Arc::new(snapshot.denying(self.reserved.clone())),
                Err(failed) => match failed.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    // The runtime shuts down, and this task with it.
                    Err(_) => std::future::pending().await,
                },
            }
        };
        let snapshot = view.snapshot.get_or_init(make).await.clone();
        (view, snapshot)
    }

    /// Becomes one of those that have a view; `None`: it would be one more than `most`.
    pub(super) fn joined(&self, key: &Key, most: usize) -> Option<Arc<View>> {
        let mut views = lock(&self.views);
        if let Some(view) = views.get(key).and_then(Weak::upgrade) {
            return Some(view);
        }
        if views.len() >= most {
            views.retain(|_, view| view.strong_count() > 0);
            if views.len() >= most {
                return None;
            }
        }
        // Those of clients that have gone make room for those that come.
        if views.len() == views.capacity() {
            views.retain(|_, view| view.strong_count() > 0);
        }
        let view = Arc::<View>::default();
        views.insert(key.clone(), Arc::downgrade(&view));
        Some(view)
    }
}

fn content(
    texts: &crate::source::istio::Texts,
    options: Options,
    beside: &Content,
    last: &Mutex<Arc<Vec<Object>>>,
) -> Result<Content, Faults> {
    let mut read = texts.objects(&options);
    if read.faults.has_errors() {
        return Err(read.faults);
    }
    let mut objects = Vec::clone(&beside.objects);
    objects.append(&mut read.objects);
    // What is wrong between objects shows in views, and a view is made when somebody asks for it: too late.
    // Endpoints come and go all the time, and nothing that is judged depends on them.
    let same = istio::alike(&objects, &lock(last));
    let mut between = match same {
        true => Faults::default(),
        false => istio::judge(&objects, &options),
    };
    if between.has_errors() {
        between.show(&read.sources);
        read.faults.extend(between);
        return Err(read.faults);
    }
    for fault in read.faults.iter() {
        tracing::warn!(target: "meshwork::control", "{fault}");
    }
    let content = beside.clone().with_objects(objects, options);
    *lock(last) = content.objects.clone();
    Ok(read.raw.into_iter().fold(content, Content::with_file))
}

#[cfg(test)]
mod tests;
