//! The admin endpoint of a mesh.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use http::Request;
use tokio::net::TcpListener;

use super::{Mesh, Shared};
use crate::admin::{self, Inspect};
use crate::error::Error;
use crate::outbound::Core;

impl Mesh {
    /// Answers questions about this process at a loopback address: `/ready`, `/stats`,
    /// `/stats/prometheus`, `/clusters`, `/config_dump` and `/explain`, as Envoy's admin interface has
    /// them (`docs/ADMIN.md`). Port 0 is any free port; returns the address that it listens at.
    ///
    /// It changes nothing and shows no secrets. It ends with the mesh.
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
        self.shared.tasks.spawn(admin::serve(listener, asked));
        Ok(local)
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
}
