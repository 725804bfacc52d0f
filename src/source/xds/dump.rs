//! What a client knows, for those who ask why.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::Kind;
use super::client::Client;
use super::store::{Entry, Problem};

/// Everything that an xDS client knows at one moment: its servers and its resources. See
/// [`Mesh::xds`](crate::Mesh::xds).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Dump {
    /// Every server of the bootstrap, equal ones once.
    pub servers: Vec<ServerDump>,
    /// Every resource that is needed, by kind and name.
    pub resources: Vec<ResourceDump>,
}

/// A server, with the counters of gRFC A78.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerDump {
    /// As the bootstrap has it.
    pub uri: Arc<str>,
    /// Whether there is a stream on which a response has come (`grpc.xds_client.connected`).
    pub connected: bool,
    /// Streams that were begun, or tried.
    pub streams: u64,
    /// Streams that ended before any response (`grpc.xds_client.server_failure`).
    pub failures: u64,
    /// Good resources that were received (`grpc.xds_client.resource_updates_valid`).
    pub valid: BTreeMap<Kind, u64>,
    /// Refused ones (`grpc.xds_client.resource_updates_invalid`).
    pub invalid: BTreeMap<Kind, u64>,
    /// Why the last stream ended, if no response has come since.
    pub trouble: Option<Arc<str>>,
}

/// A resource.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ResourceDump {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: Arc<str>,
    /// How it stands.
    pub state: ResourceState,
    /// The value in use; with a state other than [`Acked`](ResourceState::Acked) it is the one
    /// before ("but cached").
    pub value: Option<ValueDump>,
    /// What is wrong with it.
    pub trouble: Option<Arc<str>>,
    /// The version that was refused.
    pub refused_version: Option<Arc<str>>,
}

/// A value as it was received.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ValueDump {
    /// The server's version of it.
    pub version: Arc<str>,
    /// The message's type.
    pub type_url: Arc<str>,
    /// The message; empty if it is a secret.
    pub bytes: Bytes,
    /// How long ago it came.
    pub age: Duration,
    /// Whether it is from the disk and no server has confirmed it.
    pub from_disk: bool,
}

/// How a resource stands, in the words of gRFC A88 (`grpc.xds.cache_state`).
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum ResourceState {
    /// The last value was good.
    Acked,
    /// It does not exist.
    DoesNotExist,
    /// What came was refused.
    Nacked,
    /// The server said that it cannot be had.
    ReceivedError,
    /// It is asked for.
    Requested,
    /// It did not come in time, from a server whose silence is no absence.
    Timeout,
}

impl Client {
    /// What is known.
    pub(crate) fn dump(&self, now: Instant) -> Dump {
        let servers = self.remotes().map(|remote| ServerDump {
            uri: remote.server.uri.clone(),
            connected: remote.is_connected(),
            streams: remote.counters.streams,
            failures: remote.counters.failures,
            valid: remote.counters.valid.clone(),
            invalid: remote.counters.invalid.clone(),
            trouble: remote.trouble.clone(),
        });
        let resources = self.entries().map(|((kind, name), entry)| ResourceDump {
            kind: *kind,
            name: name.clone(),
            state: state(entry),
            value: entry.good.as_ref().map(|good| ValueDump {
                version: good.version.clone(),
                type_url: good.raw.type_url.clone(),
                // A key is told to nobody, whoever asks and in whatever form.
                bytes: if *kind == Kind::Secret {
                    Bytes::new()
                } else {
                    good.raw.bytes.clone()
                },
                age: now.saturating_duration_since(good.received),
                from_disk: good.unconfirmed,
            }),
            trouble: entry.trouble.as_ref().map(|trouble| trouble.text.clone()),
            refused_version: entry
                .trouble
                .as_ref()
                .and_then(|trouble| trouble.version.clone()),
        });
        Dump {
            servers: servers.collect(),
            resources: resources.collect(),
        }
    }
}

fn state(entry: &Entry) -> ResourceState {
    match (&entry.trouble, &entry.good) {
        (Some(trouble), _) => match trouble.problem {
            Problem::Absent => ResourceState::DoesNotExist,
            Problem::Refused => ResourceState::Nacked,
            Problem::Reported => ResourceState::ReceivedError,
            Problem::Timeout => ResourceState::Timeout,
        },
        (None, Some(_)) => ResourceState::Acked,
        (None, None) => ResourceState::Requested,
    }
}
