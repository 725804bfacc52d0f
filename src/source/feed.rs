//! Configuration from the program itself.
//!
//! For services that make their own configuration (from a database, a flag service, a test): a
//! [`Publisher`] hands whole sets of resources to a mesh, each of which is in force, as one, when
//! [`publish`](Publisher::publish) returns.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::error::Error;
use crate::model::{Endpoints, Resources};

/// Hands sets of resources to a mesh. Clones hand to the same mesh, in the order of their calls.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), meshwork::Error> {
/// use meshwork::{Mesh, model::Resources, source};
///
/// let (publisher, feed) = source::feed(Resources::default());
/// let mesh = Mesh::builder().feed(feed).start().await?;
/// let generation = publisher.publish(Resources::default()).await?;
/// assert_eq!(mesh.generation(), generation);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Publisher {
    sets: mpsc::Sender<Published>,
}

/// The end of a [`Publisher`] that a mesh takes.
#[derive(Debug)]
pub struct Feed {
    pub(crate) initial: Arc<Resources>,
    pub(crate) sets: mpsc::Receiver<Published>,
}

/// What is on its way, and who waits for it to be in force.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) what: What,
    pub(crate) applied: oneshot::Sender<u64>,
}

/// What can be published.
#[derive(Debug)]
pub(crate) enum What {
    /// Endpoints in place of those of their name; all else stays.
    Endpoints(Arc<Endpoints>),
    /// All resources.
    Set(Arc<Resources>),
}

/// A publisher, and the feed that a mesh starts from with `initial` in force.
#[must_use]
pub fn feed(initial: Resources) -> (Publisher, Feed) {
    // One at a time: a publisher waits for its set to be in force anyway.
    let (sender, receiver) = mpsc::channel(1);
    let feed = Feed {
        initial: Arc::new(initial),
        sets: receiver,
    };
    (Publisher { sets: sender }, feed)
}

impl Publisher {
    /// Puts a set of resources in force and returns its generation.
    ///
    /// Unchanged values may be shared with the set before (they are `Arc`s): what is equal keeps
    /// running. Not cancel-safe in one respect: a set that was handed over is applied also if the
    /// future is dropped.
    ///
    /// # Errors
    /// If the mesh is gone.
    pub async fn publish(&self, resources: impl Into<Arc<Resources>>) -> Result<u64, Error> {
        self.hand(What::Set(resources.into())).await
    }

    /// Puts the endpoints of one name in force in place of those that it had, leaves all else as it
    /// is, and returns the generation.
    ///
    /// It costs what differs from the endpoints before, however many there are, if these are an
    /// edited copy of those: a [`List`](crate::model::List) shares with its copy what was not
    /// edited. Cancel-safe as [`publish`](Self::publish) is.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), meshwork::Error> {
    /// # use meshwork::{Mesh, model::Resources, source};
    /// use std::sync::Arc;
    /// use meshwork::model::{Endpoints, Origin};
    ///
    /// # let (publisher, feed) = source::feed(Resources::default());
    /// # let mesh = Mesh::builder().feed(feed).start().await?;
    /// let mut endpoints = Arc::new(Endpoints {
    ///     name: "catalog".into(),
    ///     localities: Vec::new(),
    ///     overloads: Vec::new(),
    ///     origin: Origin::built_in(),
    /// });
    /// publisher.publish_endpoints(endpoints.clone()).await?;
    /// // Somebody has left: edit the copy that was kept.
    /// for locality in &mut Arc::make_mut(&mut endpoints).localities {
    ///     locality.endpoints.swap_remove(0);
    /// }
    /// publisher.publish_endpoints(endpoints.clone()).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// If the mesh is gone.
    pub async fn publish_endpoints(
        &self,
        endpoints: impl Into<Arc<Endpoints>>,
    ) -> Result<u64, Error> {
        self.hand(What::Endpoints(endpoints.into())).await
    }

    async fn hand(&self, what: What) -> Result<u64, Error> {
        let gone = || Error::config("the mesh that this publisher feeds has ended");
        let (applied, wait) = oneshot::channel();
        let published = Published { what, applied };
        self.sets.send(published).await.map_err(|_| gone())?;
        wait.await.map_err(|_| gone())
    }
}
