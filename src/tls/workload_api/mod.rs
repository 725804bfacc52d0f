//! Identities from the SPIFFE Workload API: an agent of SPIRE or of istiod on the same machine, which knows
//! this process by what the kernel says of it.
//!
//! The agent sends all that the process is and trusts, and all of it again whenever something changes.
//! Each message stands for itself: a federated domain that is not in it is trusted no longer, a
//! revocation list that is in it counts for all. A message that cannot be used changes nothing.
//!
//! When the stream breaks, what is in force stays so, and another stream is opened with pauses that
//! double up to half a minute. An agent that denies the process an identity takes the one that it has
//! (`PERMISSION_DENIED`); one that does not understand the request will not understand it later either, so it
//! is not asked again (`INVALID_ARGUMENT`), as the standard says.
//!
//! Deliberately absent: JWT-SVIDs, which this crate presents to nobody.

mod call;
mod wire;

use std::fmt;
use std::path::PathBuf;

use super::clock::Clock;
use super::credentials::{Credentials, Weak};
use super::plan::Plan;
use crate::error::Error;
use crate::model::identity::SpiffeId;
use crate::random::Random;
use call::{Ended, Endpoint, Stream};
use wire::Message;

/// Where the standard says that processes are told of their agent.
const VARIABLE: &str = "SPIFFE_ENDPOINT_SOCKET";

/// Credentials from the SPIFFE Workload API.
///
/// ```no_run
/// use meshwork::tls::WorkloadApi;
///
/// # async fn example() -> Result<(), meshwork::Error> {
/// let agent = WorkloadApi::new("unix:///run/spire/agent/public/api.sock")?;
/// let mesh = meshwork::Mesh::builder().yaml("mesh/").identity(agent).start().await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct WorkloadApi {
    endpoint: Endpoint,
    hint: Option<Box<str>>,
}

impl WorkloadApi {
    /// The agent at `endpoint`: `unix:///PATH`, `unix:/PATH` or `tcp://ADDRESS:PORT`.
    ///
    /// # Errors
    /// If it is written in another way (SPIFFE Workload Endpoint §4).
    pub fn new(endpoint: &str) -> Result<Self, Error> {
        let parsed = match endpoint.split_once(':') {
            Some(("unix", rest)) => {
                let path = rest.strip_prefix("//").unwrap_or(rest);
                (path.starts_with('/') && path.len() > 1)
                    .then(|| Endpoint::Unix(PathBuf::from(path)))
            }
            Some(("tcp", rest)) => {
                let address = rest.strip_prefix("//").and_then(|rest| rest.parse().ok());
                address.map(Endpoint::Tcp)
            }
            Some(_) | None => None,
        };
        let endpoint = parsed.ok_or_else(|| {
            Error::config(format!(
                "{endpoint:?} is no Workload API: write unix:///PATH or tcp://ADDRESS:PORT"
            ))
        })?;
        Ok(Self {
            endpoint,
            hint: None,
        })
    }

    /// The agent that the environment names (`SPIFFE_ENDPOINT_SOCKET`).
    ///
    /// # Errors
    /// If the variable is not set, or [`new`](Self::new) fails.
    pub fn from_env() -> Result<Self, Error> {
        let endpoint = std::env::var(VARIABLE).map_err(|_| {
            Error::config(format!(
                "{VARIABLE} is not set: nobody has said where the agent is"
            ))
        })?;
        Self::new(&endpoint)
    }

    /// Takes the identity with this hint where the agent sends several; by default the first.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<Box<str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Keeps the credentials fresh as long as somebody uses them.
    pub(super) async fn keep(self, credentials: Weak, clock: Clock, random: Random) {
        let mut plan = Plan::default();
        loop {
            let ended = tokio::select! {
                ended = self.follow(&credentials, &mut plan) => ended,
                () = credentials.unused() => return,
            };
            let Some(into) = credentials.upgrade() else {
                return;
            };
            into.renewal_failed();
            match &ended {
                Ended::Denied(_) => {
                    into.withdraw();
                    tracing::error!("the Workload API: {ended}; the identity is given up");
                }
                Ended::Invalid(_) => {
                    tracing::error!("the Workload API: {ended}; it is not asked again");
                    return;
                }
                other => {
                    tracing::warn!("the Workload API: {other}; what is in force stays so");
                }
            }
            drop(into);
            let now = clock.now();
            let pause = plan.failed(now, None, &random).saturating_sub(now);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = credentials.unused() => return,
            }
        }
    }

    /// Takes what the agent sends, until it ends.
    async fn follow(&self, credentials: &Weak, plan: &mut Plan) -> Ended {
        let mut stream = match Stream::open(&self.endpoint).await {
            Ok(stream) => stream,
            Err(ended) => return ended,
        };
        loop {
            let message = match stream.next().await {
                Ok(message) => message,
                Err(ended) => return ended,
            };
            let Some(into) = credentials.upgrade() else {
                return Ended::Over;
            };
            plan.succeeded();
            self.take(&message, &into);
        }
    }

    fn take(&self, message: &[u8], into: &Credentials) {
        let read = Message::read(message).map_err(wire::Discarded::from);
        match read.and_then(|message| message.meaning(self.hint.as_deref())) {
            Ok((identity, trust)) => {
                let before = into.generation();
                let id = identity.id().map(SpiffeId::to_string);
                let (serial, not_after) = (identity.serial().to_owned(), identity.not_after());
                if into.replace(identity, trust) != before {
                    let not_after = not_after.as_secs();
                    tracing::info!(id, serial, not_after, "identity issued by the Workload API");
                }
            }
            Err(why) => {
                into.renewal_failed();
                tracing::warn!("a message of the Workload API is discarded: {why}");
            }
        }
    }
}

impl fmt::Debug for WorkloadApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkloadApi")
            .field("endpoint", &self.endpoint)
            .field("hint", &self.hint)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_socket_in_one_of_three_writings() {
        let endpoint = |text: &str| WorkloadApi::new(text).map(|api| api.endpoint);
        let unix = Endpoint::Unix("/run/agent.sock".into());
        assert_eq!(endpoint("unix:///run/agent.sock").unwrap(), unix);
        assert_eq!(endpoint("unix:/run/agent.sock").unwrap(), unix);
        let tcp = Endpoint::Tcp(([127, 0, 0, 1], 8_000).into());
        assert_eq!(endpoint("tcp://127.0.0.1:8000").unwrap(), tcp);
        for bad in [
            "",
            "/run/agent.sock",
            "unix:",
            "unix:///",
            "unix://run",
            "tcp:127.0.0.1:1",
            "tcp://host:1",
            "http://a",
        ] {
            let error = endpoint(bad).unwrap_err().to_string();
            assert!(error.contains("write unix:///PATH"), "{bad}: {error}");
        }
    }
}
