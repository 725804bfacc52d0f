//! What a client knows, for those who ask why.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Kind;
use super::client::Client;
use super::json::print;
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

impl Dump {
    /// The whole of it as JSON, indented, for people and their tools: servers with their counters, and
    /// each resource with its message as it was received, by the names of Envoy's API. Fields that
    /// Envoy's API marks as sensitive are `[redacted]`; a message of a type that is not in that API
    /// is shown in base64, beside its `@type`.
    ///
    /// It prints every resource: milliseconds for a few, a second for a hundred thousand endpoints.
    ///
    /// ```no_run
    /// # fn example(mesh: meshwork::Mesh) {
    /// if let Some(dump) = mesh.xds() {
    ///     println!("{}", dump.to_json());
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn to_json(&self) -> String {
        let servers = self.servers.iter().map(ServerDump::shown);
        let resources = self.resources.iter().map(ResourceDump::shown);
        let all = json!({
            "servers": servers.collect::<Vec<Value>>(),
            "resources": resources.collect::<Vec<Value>>(),
        });
        format!("{all:#}")
    }
}

impl ServerDump {
    fn shown(&self) -> Value {
        let counts = |of: &BTreeMap<Kind, u64>| -> Value {
            let counts = of
                .iter()
                .map(|(kind, count)| (kind.to_string(), json!(count)));
            Value::Object(counts.collect())
        };
        json!({
            "uri": &*self.uri,
            "connected": self.connected,
            "streams": self.streams,
            "failures": self.failures,
            "valid": counts(&self.valid),
            "invalid": counts(&self.invalid),
            "trouble": self.trouble.as_deref(),
        })
    }
}

impl ResourceDump {
    fn shown(&self) -> Value {
        let mut shown = json!({
            "kind": self.kind.to_string(),
            "name": &*self.name,
            "state": format!("{:?}", self.state),
        });
        let mut put = |name: &str, value: Option<Value>| {
            if let (Some(value), Some(object)) = (value, shown.as_object_mut()) {
                object.insert(name.to_owned(), value);
            }
        };
        put("trouble", self.trouble.as_deref().map(Value::from));
        let refused = self.refused_version.as_deref();
        put("refused_version", refused.map(Value::from));
        if let Some(value) = &self.value {
            put("version", Some((*value.version).into()));
            put("age_seconds", Some(value.age.as_secs().into()));
            put("from_disk", Some(value.from_disk.into()));
            put("resource", Some(print(&value.type_url, &value.bytes)));
        }
        shown
    }
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
