//! Which control planes there are, and who this client is to them.
//!
//! The format is gRPC's bootstrap (gRFCs A27, A29, A36, A47, A65, A71, A81, A88, A95 and A97), so
//! that a file that was made for a gRPC service works as it is: unknown fields, unknown kinds of
//! credentials and unknown features of servers are passed over, and only where nothing that is known
//! is left it is an error. What is known must be right: every fault is told with the path to it, all
//! at once, since who deploys a bootstrap sees its faults one restart at a time.
//!
//! Two things are more than gRPC has: the server feature `xds.delta` asks for the incremental variant
//! of the protocol, and [`cache`](Bootstrap::cache) names a folder for the last good resources.

mod istio;
mod json;
mod read;
mod server;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::error::Error;
use crate::model::endpoint::Locality;
use crate::model::security::Files;
use crate::snapshot::{Naming, ServerNaming};
use crate::source::xds::name;
use crate::tls::FileSource;

pub(crate) use server::{Credentials, Features, Server, Tls};

/// The environment variable that names a bootstrap file (gRFC A27); it wins over the other.
const FILE_VARIABLE: &str = "GRPC_XDS_BOOTSTRAP";
/// The environment variable that holds a bootstrap itself (gRFC A27).
const TEXT_VARIABLE: &str = "GRPC_XDS_BOOTSTRAP_CONFIG";

/// Which control planes there are, and who this client is to them.
///
/// ```
/// # #[cfg(feature = "xds")] fn example() -> Result<(), meshwork::Error> {
/// use meshwork::source::xds::Bootstrap;
///
/// let bootstrap = Bootstrap::from_json(
///     r#"{
///         "xds_servers": [{
///             "server_uri": "xds.example:18000",
///             "channel_creds": [{"type": "insecure"}]
///         }],
///         "node": {"id": "order-1"}
///     }"#,
/// )?;
/// let same = Bootstrap::server("xds.example:18000", "order-1")?;
/// assert_eq!(bootstrap, same);
/// # Ok(()) }
/// # #[cfg(feature = "xds")] example().unwrap();
/// ```
#[derive(Clone, PartialEq)]
pub struct Bootstrap {
    /// The servers of names without an authority, the preferred one first.
    pub(crate) servers: Vec<Arc<Server>>,
    pub(crate) authorities: BTreeMap<Arc<str>, Authority>,
    pub(crate) node: Node,
    pub(crate) certificate_providers: BTreeMap<Arc<str>, CertificateProvider>,
    /// What `xds:///name` asks for, with `%s` for the name.
    pub(crate) client_template: Box<str>,
    /// What a server asks for, with `%s` for the address that it listens at.
    pub(crate) server_template: Option<Box<str>>,
    pub(crate) cache: Option<PathBuf>,
}

/// Where names of an authority are asked for (gRFC A47).
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Authority {
    pub(crate) servers: Vec<Arc<Server>>,
    pub(crate) client_template: Box<str>,
    /// Whether the next server is asked as soon as one is out of reach, also if everything is known
    /// (gRFC A95).
    pub(crate) on_reachability_only: bool,
}

/// Who this client is.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Node {
    pub(crate) id: Box<str>,
    pub(crate) cluster: Box<str>,
    pub(crate) metadata: Map<String, Value>,
    pub(crate) locality: Locality,
}

/// Where certificates come from that a resource names by instance (gRFC A29).
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct CertificateProvider {
    /// Chain and key, both or neither.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
    pub(crate) roots: Option<PathBuf>,
    /// A SPIFFE bundle map, which stands in place of the roots (gRFC A87).
    pub(crate) bundle_map: Option<PathBuf>,
    /// How often the files are looked at. The default is 10 minutes.
    pub(crate) refresh: Duration,
}

impl Bootstrap {
    /// The files of each certificate provider.
    pub(crate) fn certificates(&self) -> impl Iterator<Item = (&Arc<str>, FileSource)> {
        self.certificate_providers.iter().map(|(name, provider)| {
            let CertificateProvider {
                identity,
                roots,
                bundle_map,
                refresh,
            } = provider;
            let path = |path: &PathBuf| Arc::from(path.as_path());
            let files = Files {
                certificate: identity.as_ref().map(|(chain, _)| path(chain)),
                key: identity.as_ref().map(|(_, key)| path(key)),
                // Where there is a map nobody is believed by roots that count for all domains.
                roots: match bundle_map {
                    None => roots.as_ref().map(path),
                    Some(_) => None,
                },
                revocations: None,
            };
            let source = FileSource::new(files).for_anybody().every(*refresh);
            let source = match bundle_map {
                None => source,
                Some(map) => source.bundle_map(map),
            };
            (name, source)
        })
    }

    /// From the environment, as gRPC does it: the file that `GRPC_XDS_BOOTSTRAP` names, else the text in
    /// `GRPC_XDS_BOOTSTRAP_CONFIG`.
    ///
    /// # Errors
    /// If neither is set, the file cannot be read, or the text has faults; all of them are told.
    pub fn from_env() -> Result<Self, Error> {
        Self::from_variables(|name| std::env::var_os(name))
    }

    fn from_variables(
        variable: impl Fn(&str) -> Option<std::ffi::OsString>,
    ) -> Result<Self, Error> {
        let set = |name| variable(name).filter(|text| !text.is_empty());
        if let Some(path) = set(FILE_VARIABLE) {
            return Self::from_file(PathBuf::from(path));
        }
        let Some(text) = set(TEXT_VARIABLE) else {
            return Err(Error::config(format!(
                "there is no xDS bootstrap: set {FILE_VARIABLE} to the path of one, or \
                 {TEXT_VARIABLE} to its text"
            )));
        };
        let text = text.into_string();
        let text = text.map_err(|_| Error::config(format!("{TEXT_VARIABLE} is not UTF-8")))?;
        Self::read(&text, TEXT_VARIABLE)
    }

    /// From a file.
    ///
    /// # Errors
    /// If it cannot be read or has faults; all of them are told, with their JSON paths.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let place = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| {
            Error::config(format!("the xDS bootstrap {place} cannot be read")).caused_by(error)
        })?;
        Self::read(&text, &place)
    }

    /// From JSON.
    ///
    /// # Errors
    /// All faults, with their JSON paths.
    pub fn from_json(text: &str) -> Result<Self, Error> {
        Self::read(text, "bootstrap")
    }

    /// One server without TLS, and a node of this id: what a quick start needs.
    ///
    /// # Errors
    /// If `uri` is no address of a server.
    pub fn server(uri: &str, node: &str) -> Result<Self, Error> {
        let bootstrap = serde_json::json!({
            "xds_servers": [{"server_uri": uri, "channel_creds": [{"type": "insecure"}]}],
            "node": {"id": node},
        });
        Self::from_json(&bootstrap.to_string())
    }

    /// How callers' targets become names of listeners.
    /// What a server asks for at its address, if the bootstrap has a template for that.
    pub(crate) fn server_naming(&self) -> Option<ServerNaming> {
        let template = self.server_template.clone()?;
        Some(Box::new(move |address| name::fill(&template, address)))
    }

    pub(crate) fn naming(&self) -> Naming {
        let own = self.client_template.clone();
        let templates: BTreeMap<Box<str>, Box<str>> = self
            .authorities
            .iter()
            .map(|(name, authority)| ((&**name).into(), authority.client_template.clone()))
            .collect();
        Box::new(move |authority, name| {
            // No name of a resource is a wildcard: a client asks for what it needs.
            if name == "*" {
                return Err(Error::config(
                    "the listener \"*\" would be all there are; name one",
                ));
            }
            let template = match authority {
                None => &own,
                Some(authority) => templates.get(authority).ok_or_else(|| {
                    let known: Vec<&str> = templates.keys().map(|name| &**name).collect();
                    Error::config(format!(
                        "the bootstrap has no authority {authority:?}; it has {known:?}"
                    ))
                })?,
            };
            Ok(name::fill(template, name))
        })
    }

    /// Keeps the last good resources in this folder, and starts from them while no control plane
    /// answers. It is made if it does not exist; two processes may not share one.
    #[must_use]
    pub fn cache(mut self, folder: impl Into<PathBuf>) -> Self {
        self.cache = Some(folder.into());
        self
    }

    /// Asks all servers in the incremental variant of the protocol.
    #[must_use]
    pub fn delta(mut self) -> Self {
        let change = |server: &mut Arc<Server>| Arc::make_mut(server).features.delta = true;
        self.servers.iter_mut().for_each(change);
        for authority in self.authorities.values_mut() {
            authority.servers.iter_mut().for_each(change);
        }
        self
    }
}

impl fmt::Debug for Bootstrap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Metadata may hold what its owner would not like to see in a log.
        f.debug_struct("Bootstrap")
            .field("servers", &self.servers)
            .field("authorities", &self.authorities)
            .field("node", &self.node.id)
            .field("cache", &self.cache)
            .finish_non_exhaustive()
    }
}
