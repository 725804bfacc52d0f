//! The admin endpoint of a mesh.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use http::Request;
use tokio::net::TcpListener;

use super::{Builder, Mesh, Shared};
use crate::admin::{self, Inspect, Standing};
use crate::error::{BoxError, Error};
use crate::operator::Levels;
use crate::outbound::Core;
#[cfg(feature = "xds")]
use crate::source::xds;

impl Mesh {
    /// Answers questions about this process at a loopback address: `/ready`, `/stats`,
    /// `/stats/prometheus`, `/clusters`, `/config_dump` and `/explain`, as Envoy's admin interface has
    /// them (`docs/ADMIN.md`). With the feature `xds` it answers gRPC too: client status (CSDS) and health, for
    /// `grpcdebug`. Port 0 is any free port; returns the address that it listens at.
    ///
    /// It shows no secrets, and changes nothing but levels of events, where the program says how
    /// ([`Builder::log_levels`](crate::mesh::Builder::log_levels)). It ends with the mesh.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), meshwork::Error> {
    /// let mesh = meshwork::Mesh::builder().start().await?;
    /// let address = mesh.admin(([127, 0, 0, 1], 0).into()).await?;
    /// println!("curl http://{address}/stats/prometheus");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// If the address is not of the loopback interface (see [`admin_on`](Self::admin_on)), or cannot
    /// be listened at.
    pub async fn admin(&self, address: SocketAddr) -> Result<SocketAddr, Error> {
        if !address.ip().is_loopback() {
            return Err(Error::config(format!(
                "the admin endpoint may listen at 127.0.0.1 or [::1], found {address}: everybody who \
                 reaches it can read the configuration; bind a listener yourself and give it to \
                 Mesh::admin_on if that is what you want"
            )));
        }
        let listener = TcpListener::bind(address).await.map_err(|error| {
            let text = format!("the admin endpoint cannot listen at {address}");
            Error::config(text).caused_by(error)
        })?;
        self.admin_on(listener)
    }

    /// As [`admin`](Self::admin), at a listener of any address: for a Prometheus or a kubelet that asks
    /// from outside of the pod. Whoever reaches it can read the configuration.
    ///
    /// # Errors
    /// If the listener has no address.
    pub fn admin_on(&self, listener: TcpListener) -> Result<SocketAddr, Error> {
        let local = listener.local_addr().map_err(|error| {
            Error::config("the admin endpoint's listener has no address").caused_by(error)
        })?;
        let asked = Arc::new(Asked(Arc::downgrade(&self.shared)));
        let standing = Standing {
            workload: self.shared.workload.clone(),
            levels: self.shared.levels.clone(),
        };
        let serving = admin::serve(listener, asked, standing);
        self.shared.tasks.spawn(serving);
        Ok(local)
    }
}

impl Builder {
    /// How the program's levels of events are changed, for `POST /logging` at the
    /// [admin endpoint](Mesh::admin); without it levels are read there and not changed.
    ///
    /// `set` is given what operators want of this crate's targets, in the form of `RUST_LOG`:
    /// `meshwork=info,meshwork::tls=trace`, or nothing when all of it was taken back. It is called by one
    /// request at a time and must not wait.
    ///
    /// ```
    /// use tracing_subscriber::{EnvFilter, layer::SubscriberExt as _, reload};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), meshwork::Error> {
    /// let own = "info";
    /// let (filter, handle) = reload::Layer::new(EnvFilter::new(own));
    /// let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    /// let subscriber = tracing_subscriber::registry().with(filter).with(lines);
    /// # let _guard = tracing::subscriber::set_default(subscriber);
    /// let mesh = meshwork::Mesh::builder()
    ///     .log_levels(move |wanted| {
    ///         handle.reload(EnvFilter::try_new(format!("{own},{wanted}"))?)?;
    ///         Ok(())
    ///     })
    ///     .start()
    ///     .await?;
    /// # Ok(()) }
    /// ```
    pub fn log_levels<F>(mut self, set: F) -> Self
    where
        F: Fn(&str) -> Result<(), BoxError> + Send + Sync + 'static,
    {
        self.levels = Some(Arc::new(Levels::new(Box::new(set))));
        self
    }
}

/// A mesh that is asked and not kept alive by it.
struct Asked(Weak<Shared>);

impl Asked {
    fn mesh(&self) -> Option<Mesh> {
        let shared = self.0.upgrade()?;
        Some(Mesh { shared })
    }
}

impl Inspect for Asked {
    fn core(&self) -> Option<Arc<Core>> {
        Some(self.0.upgrade()?.core.clone())
    }

    fn metrics(&self) -> Option<String> {
        Some(self.mesh()?.metrics())
    }

    fn explain(&self, request: &Request<()>) -> Option<String> {
        Some(self.mesh()?.explain(request).to_string())
    }

    #[cfg(feature = "xds")]
    fn client_status(&self) -> Option<xds::ClientStatus> {
        self.mesh()?.client_status()
    }
}
