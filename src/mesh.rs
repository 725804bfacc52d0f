//! The front door: build a mesh, take channels from it, end it.

#[cfg(feature = "inbound")]
mod admin;
mod builder;
#[cfg(feature = "tls-core")]
mod identities;
mod metrics;
mod tasks;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::Error;
use crate::event::Events;
use crate::explain::{self, Explanation};
use crate::name::{Question, Target};
use crate::outbound::{Channel, Client, Core, Owner, Scope};
use crate::snapshot::{Demand, Held, Stats};
#[cfg(feature = "xds")]
use crate::source::xds;

pub use builder::Builder;
use tasks::Tasks;

/// A running mesh.
///
/// Clones are cheap and are the same mesh. Its tasks (configuration, outlier sweeps) end when the
/// last clone, [`Channel`] and [`Client`] is gone, or with [`shutdown`](Self::shutdown).
///
/// ```no_run
/// # async fn example() -> Result<(), meshwork::Error> {
/// use meshwork::{Mesh, Workload};
///
/// let workload = Workload::new("my-app", "order-sa").label("app", "order");
/// let mesh = Mesh::builder().yaml("mesh/").workload(workload).start().await?;
/// let channel = mesh.channel("catalog.my-app.svc.cluster.local")?;   // for a tonic client
/// let client = mesh.client();                                        // for plain HTTP
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Mesh {
    shared: Arc<Shared>,
}

/// What a mesh, its channels and its clients hold together.
struct Shared {
    core: Arc<Core>,
    tasks: Tasks,
    /// The client of control planes, if they are the source.
    #[cfg(feature = "xds")]
    driver: Option<Arc<xds::Driver>>,
    /// One door for the whole process, so that limits count once however many servers it has.
    #[cfg(feature = "inbound")]
    inbound: crate::inbound::InboundLayer,
    /// Who the process is, for the admin endpoint.
    #[cfg(feature = "inbound")]
    workload: crate::workload::Workload,
    /// How the program's levels of events are changed there.
    #[cfg(feature = "inbound")]
    levels: Option<Arc<crate::operator::Levels>>,
}

impl Owner for Shared {
    fn core(&self) -> &Core {
        &self.core
    }
}

impl Mesh {
    /// Begins to build a mesh.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// A channel to one target: `host` (the service's sole port, else 80), `host:port`, or
    /// `xds:///listener`. Short names are those of the workload's namespace.
    ///
    /// The target need not exist yet; until it does, calls are passed through or refused as
    /// [`OutboundTraffic`](crate::OutboundTraffic) says.
    ///
    /// With a control plane the target is asked for from here on until the channel and its clones are
    /// gone, by the name of a listener: `host:port` (port 80 if there is none), or what `xds:///name` and
    /// `xds://authority/name` become by the templates of the bootstrap. A call that comes before the
    /// answer waits for it, within its deadline.
    ///
    /// # Errors
    /// If `target` is not written in one of these forms, or names an authority that the bootstrap does
    /// not have.
    pub fn channel(&self, target: &str) -> Result<Channel, Error> {
        let (target, held) = self.hold(target)?;
        Ok(Channel::new(self.shared.clone(), target, held))
    }

    /// A client whose requests all go to one target, written as for [`channel`](Self::channel),
    /// whatever authority they name. Unlike on a channel, what the mesh answers itself is an error.
    ///
    /// # Errors
    /// As [`channel`](Self::channel).
    pub fn client_to(&self, target: &str) -> Result<Client, Error> {
        let (target, held) = self.hold(target)?;
        Ok(Client::to(self.shared.clone(), target, held))
    }

    /// Reads a target, and asks for it if there is somebody to ask.
    fn hold(&self, target: &str) -> Result<(Target, Option<Held>), Error> {
        let Some(demand) = &self.shared.core.environment.demand else {
            return Ok((Target::parse(target)?, None));
        };
        let target = asked(demand, target)?;
        let held = match &target {
            Target::Listener { name, .. } => Some(demand.hold(name.clone())),
            Target::Host { .. } => None,
        };
        Ok((target, held))
    }

    /// A client for plain HTTP requests to any host.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(self.shared.clone())
    }

    /// What would become of a request from [`client`](Self::client), without sending it.
    ///
    /// Reads only and sends nothing; see [`explain`](crate::explain).
    #[must_use]
    pub fn explain<B>(&self, request: &http::Request<B>) -> Explanation {
        explain::explain(&self.shared.core, Scope::Authority, request)
    }

    /// What would become of a request on a [`channel`](Self::channel) to `target`.
    ///
    /// # Errors
    /// As [`channel`](Self::channel).
    pub fn explain_channel<B>(
        &self,
        target: &str,
        request: &http::Request<B>,
    ) -> Result<Explanation, Error> {
        let target = match &self.shared.core.environment.demand {
            None => Target::parse(target)?,
            Some(demand) => asked(demand, target)?,
        };
        let scope = Scope::Target(&target);
        Ok(explain::explain(&self.shared.core, scope, request))
    }

    /// The configuration in force: 1 is the one that the mesh started with, each edit adds 1, and so does
    /// each change of the addresses that DNS gives for the names in it.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.shared.core.live.load().generation()
    }

    /// Waits until a configuration later than `generation` is in force and returns its number.
    ///
    /// Cancel-safe. Waits for ever if no configuration follows.
    pub async fn changed(&self, generation: u64) -> u64 {
        let mut current = self.shared.core.generation.subscribe();
        match current.wait_for(|now| *now > generation).await {
            Ok(now) => *now,
            // Cannot happen: this mesh holds the sender.
            Err(_) => generation,
        }
    }

    /// What has been counted up to now, by cluster and endpoint.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let core = &self.shared.core;
        core.live.load().stats(
            core.buffers.used(),
            core.inbound.stats(),
            core.environment.tallies.read(),
        )
    }

    /// What happens from now on: ejections, empty budgets, edits, endpoints that come and go.
    ///
    /// Any number may listen, each hears everything; see [`Events`] for those who are slow.
    #[must_use]
    pub fn events(&self) -> Events {
        self.shared.core.environment.events.listen()
    }

    /// The credentials that connections of this mesh present and judge by, to be watched, counted, or
    /// rotated by the program; `None` if the builder was given none.
    #[cfg(feature = "tls-core")]
    #[must_use]
    pub fn credentials(&self) -> Option<crate::tls::Credentials> {
        self.shared.core.environment.materials.mesh().cloned()
    }

    /// Ends the mesh: refuses new calls, waits up to `deadline` for those under way (inbound ones
    /// too), then ends its tasks and closes its connections.
    ///
    /// Returns how many calls were still under way at the deadline; 0 is a clean end. Calling it
    /// again is harmless. Cancel-safe: a dropped shutdown leaves the mesh draining.
    pub async fn shutdown(&self, deadline: Duration) -> usize {
        let drain = &self.shared.core.drain;
        drain.begin();
        let left = match tokio::time::timeout(deadline, drain.finished()).await {
            Ok(()) => 0,
            Err(_) => drain.active(),
        };
        self.shared.tasks.end();
        self.shared.core.close();
        left
    }
}

#[cfg(all(feature = "inbound", feature = "tls-core"))]
impl Mesh {
    /// Listens at `address` for callers, of whom it is asked what PeerAuthentication says for the port:
    /// mutual TLS (STRICT), plaintext (DISABLE), or either (PERMISSIVE, the default). Port 0 lets the
    /// system choose one.
    ///
    /// Nothing is accepted before [`Listener::serve`](crate::inbound::Listener::serve). Without an
    /// identity ([`Builder::identity`]) only plaintext can be accepted.
    ///
    /// Where a control plane is the source and its bootstrap has a template for servers, the port is
    /// configured by a listener of the control plane instead (gRFC A36): until there is one, connections
    /// are accepted and closed without a byte. See `docs/XDS.md`.
    ///
    /// # Errors
    /// That of the system, such as that the address is in use.
    pub async fn listen(
        &self,
        address: impl tokio::net::ToSocketAddrs,
    ) -> std::io::Result<crate::inbound::Listener> {
        crate::inbound::Listener::bind(address, self.shared.clone()).await
    }

    /// Answers probes at `address`, in plaintext and without asking who probes: `/livez` while the
    /// process runs, `/readyz` while it has an identity (if it was given a source of one) and does not
    /// drain. Returns the address, with the port that the system chose for port 0.
    ///
    /// It serves nothing else, so that no path of the service itself has to be exempt from STRICT. It
    /// ends with the mesh.
    ///
    /// # Errors
    /// That of the system, such as that the address is in use.
    pub async fn health(
        &self,
        address: impl tokio::net::ToSocketAddrs,
    ) -> std::io::Result<std::net::SocketAddr> {
        let core = self.shared.core.clone();
        let (health, local) = crate::inbound::Health::bind(address, core).await?;
        self.shared.tasks.spawn(health.run());
        Ok(local)
    }
}

/// The listener that a target asks a control plane for.
fn asked(demand: &Demand, target: &str) -> Result<Target, Error> {
    let Question {
        of,
        name,
        authority,
    } = Question::parse(target)?;
    let name = demand.name(of.as_deref(), &name)?;
    Ok(Target::Listener { name, authority })
}

#[cfg(feature = "xds")]
impl Mesh {
    /// What is known of control planes and of what they sent: each resource as it was received, its
    /// version and state, and what is wrong with it; `None` if they are not the source.
    ///
    /// ```no_run
    /// # fn example(mesh: meshwork::Mesh) {
    /// for resource in mesh.xds().iter().flat_map(|dump| &dump.resources) {
    ///     println!("{} {}: {:?}", resource.kind, resource.name, resource.state);
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn xds(&self) -> Option<xds::Dump> {
        Some(self.shared.driver.as_ref()?.dump())
    }

    /// The same as a gRPC service for a server of the program (CSDS, gRFC A40); `None` if control
    /// planes are not the source. The service keeps what it tells of, and not the mesh.
    #[must_use]
    pub fn client_status(&self) -> Option<xds::ClientStatus> {
        let driver = self.shared.driver.clone()?;
        let clock = self.shared.core.environment.materials.clock();
        Some(xds::ClientStatus::new(driver, clock))
    }
}

#[cfg(feature = "inbound")]
impl Mesh {
    /// The layer for servers: decides who may call by the policies in force, takes in the caller's
    /// deadline, counts requests for [`shutdown`](Self::shutdown), and turns new ones away while the
    /// mesh drains. See [`inbound`](crate::inbound). All layers of a mesh count together.
    #[must_use]
    pub fn inbound_layer(&self) -> crate::inbound::InboundLayer {
        self.shared.inbound.clone()
    }
}

impl fmt::Debug for Mesh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mesh")
            .field("generation", &self.generation())
            .finish_non_exhaustive()
    }
}
