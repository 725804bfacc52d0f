//! The face of the server: what it is made of, and what it tells of itself.

use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::ca::{Ca, Office};
use super::door::{Door, Secured};
use super::house::{House, Report};
use super::limits::Limits;
use super::services;
use super::store::Store;
use crate::error::BoxError;
use crate::operator::Levels;
use crate::random::Random;
use crate::tls::{Acceptor, Clock, Credentials, Source};

/// An xDS server of one store.
///
/// [`serve`](super::serve) is the short way to one. Clones are handles on the same server.
///
/// ```no_run
/// use meshwork::control::{Limits, Server, Store};
///
/// # async fn example() -> std::io::Result<()> {
/// let server = Server::new(Store::new()).with_limits(Limits { streams: 1_000, ..Limits::default() });
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:15010").await?;
/// let left = server.serve(listener, std::future::pending()).await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Server {
    house: Arc<House>,
    secured: Option<Arc<Secured>>,
    office: Option<Arc<Office>>,
    levels: Option<Arc<Levels>>,
}

impl Server {
    /// A server with the default limits.
    #[must_use]
    pub fn new(store: Store) -> Self {
        let random = Random::from_entropy();
        Self {
            house: House::new(store, Limits::default(), random),
            secured: None,
            office: None,
            levels: None,
        }
    }

    /// The same with other limits, before it serves.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        let random = Random::from_entropy();
        Self {
            house: House::new(self.house.store.clone(), limits, random),
            ..self
        }
    }

    /// The same with mutual TLS on its port: clients must present a certificate that is believed,
    /// and get the view of its identity; a node message that says otherwise ends its stream with
    /// `PERMISSION_DENIED`. Without it the port is plaintext.
    ///
    /// Files are looked at as long as the server lives; it must be called in a Tokio runtime.
    #[must_use]
    pub fn with_mutual_tls(self, source: impl Into<Source>) -> Self {
        self.with_port(source.into(), |own| Acceptor::new(own, Clock::system()))
    }

    /// The same with TLS on its port, where clients show no certificate: they know whom they talk to, and
    /// their node messages are believed as in plaintext.
    ///
    /// Files are looked at as long as the server lives; it must be called in a Tokio runtime.
    #[must_use]
    pub fn with_tls(self, source: impl Into<Source>) -> Self {
        let acceptor = |own| Acceptor::presenting(own, None, Clock::system());
        self.with_port(source.into(), acceptor)
    }

    fn with_port(self, source: Source, acceptor: impl FnOnce(Credentials) -> Acceptor) -> Self {
        let (credentials, upkeep) = source.start(Clock::system(), &Random::from_entropy());
        let mut renewing = JoinSet::new();
        if let Some(upkeep) = upkeep {
            renewing.spawn(upkeep);
        }
        let acceptor = acceptor(credentials.clone());
        let secured = Some(Arc::new(Secured::new(acceptor, credentials, renewing)));
        Self { secured, ..self }
    }

    /// The same with an authority beside it, whose certificate its port shows. Clients need none of
    /// their own to ask for one, and for nothing else; see [`Ca`].
    ///
    /// Its file is looked at as long as the server lives; it must be called in a Tokio runtime.
    ///
    /// # Errors
    /// If the authority cannot sign the server's own certificate.
    pub fn with_ca(self, ca: Ca) -> Result<Self, crate::tls::Unusable> {
        let clock = ca.clock();
        let (office, keeper) = ca.open()?;
        let credentials = keeper.credentials();
        let acceptor = Acceptor::new(credentials.clone(), clock).with_anonymous();
        let mut renewing = JoinSet::new();
        renewing.spawn(keeper.run());
        Ok(Self {
            secured: Some(Arc::new(Secured::new(acceptor, credentials, renewing))),
            office: Some(office),
            ..self
        })
    }

    /// The same with a way to change the program's levels of events at [`admin`](Self::admin), as
    /// [`Builder::log_levels`](crate::Builder::log_levels) has it.
    #[must_use]
    pub fn with_log_levels<F>(self, set: F) -> Self
    where
        F: Fn(&str) -> Result<(), BoxError> + Send + Sync + 'static,
    {
        let levels = Some(Arc::new(Levels::new(Box::new(set))));
        Self { levels, ..self }
    }

    /// What it serves.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.house.store
    }

    /// What it has done so far.
    #[must_use]
    pub fn report(&self) -> Report {
        Report::of(&self.house)
    }

    /// Who is there: the node and scope of every stream, in the order in which they came.
    #[must_use]
    pub fn clients(&self) -> Vec<super::Connected> {
        let clients = self.house.clients();
        clients
            .iter()
            .map(|client| super::Connected::of(client))
            .collect()
    }

    /// What clients reported of their requests, by cluster and locality (`region/zone/sub-zone`,
    /// empty for what was dropped before one was chosen).
    #[must_use]
    pub fn loads(&self) -> std::collections::BTreeMap<(String, String), super::Load> {
        self.house.loads.all()
    }

    /// Answers questions about the server over plain HTTP: a status page at `/`, `/status.json`,
    /// `/ready`, `/stats`, `/stats/prometheus`, `/clients`, `/clusters`, `/config_dump`, `/certs`,
    /// `/rejected`, `/logging`; and over gRPC client status (CSDS) and health. It has no authentication,
    /// so it belongs on a loopback address.
    ///
    /// It never ends; dropping the future closes its connections.
    pub async fn admin(&self, listener: TcpListener) {
        let secured = self.secured.as_ref();
        let credentials = secured.map(|secured| secured.credentials.clone());
        let desk = super::admin::Desk {
            house: self.house.clone(),
            office: self.office.clone(),
            credentials,
            levels: self.levels.clone(),
        };
        super::admin::serve(listener, desk).await;
    }

    /// Serves on `listener` until `shutdown` ends, then drains: health says so, streams end one by
    /// one with `UNAVAILABLE`, and what has not ended within [`Limits::drain`] is cut. Yields how
    /// many connections were cut.
    ///
    /// Every connection is a task of this future; dropping it cuts them all, without a drain.
    ///
    /// # Errors
    /// The listener has no address.
    pub async fn serve(
        &self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()>,
    ) -> std::io::Result<usize> {
        let address = listener.local_addr()?;
        let (health, routes) = services::all(&self.house);
        let mut door = Door::new(
            self.house.clone(),
            self.secured.clone(),
            self.office.clone(),
            routes,
        );
        tracing::info!(target: "meshwork::control", %address, "serving xDS");
        tokio::select! {
            () = shutdown => {}
            never = door.accept(&listener) => match never {},
        }
        drop(listener);
        Ok(door.drain(health).await)
    }
}
