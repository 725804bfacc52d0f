//! Is anybody listening?

use std::fmt;
use std::future::poll_fn;

use tower_service::Service;

use super::{Probe, Verdict};

/// Healthy if a connection can be made; it is dropped at once.
///
/// The connector is any service from a target to a connection. A failure counts as unanswered: who
/// refuses a connection says nothing, and may be a firewall.
///
/// ```
/// use std::net::SocketAddr;
///
/// use meshwork::layer::health::TcpProbe;
/// use tokio::net::TcpStream;
/// use tower::service_fn;
///
/// let address: SocketAddr = ([127, 0, 0, 1], 8080).into();
/// let probe = TcpProbe::new(service_fn(TcpStream::connect::<SocketAddr>), address);
/// ```
#[derive(Clone)]
pub struct TcpProbe<C, T> {
    connector: C,
    target: T,
}

impl<C, T> TcpProbe<C, T> {
    /// A probe that connects to `target`.
    pub fn new(connector: C, target: T) -> Self {
        Self { connector, target }
    }
}

impl<C, T> Probe for TcpProbe<C, T>
where
    C: Service<T> + Send,
    C::Future: Send,
    C::Response: Send,
    C::Error: Send,
    T: Clone + Send,
{
    async fn probe(&mut self) -> Verdict {
        let ready = poll_fn(|cx| self.connector.poll_ready(cx)).await;
        if ready.is_err() {
            return Verdict::Unanswered;
        }
        match self.connector.call(self.target.clone()).await {
            Ok(_) => Verdict::Healthy,
            Err(_) => Verdict::Unanswered,
        }
    }
}

impl<C, T: fmt::Debug> fmt::Debug for TcpProbe<C, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpProbe")
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}
