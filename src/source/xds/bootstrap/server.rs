//! One control plane: its address, what it is shown, and what it is known to do.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::uri::Authority;

use crate::model::endpoint::Address;

/// What gRPC takes for a server without a port.
const DEFAULT_PORT: u16 = 443;

/// A control plane. Equal ones share a stream (gRFC A47: the key is URI, credentials and features).
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Server {
    /// As it was written, for reports.
    pub(crate) uri: Arc<str>,
    pub(crate) address: Address,
    /// What requests to it carry as `:authority`.
    pub(crate) authority: Authority,
    pub(crate) credentials: Credentials,
    /// Files with tokens, all of which are sent (gRFC A97).
    pub(crate) tokens: Vec<PathBuf>,
    pub(crate) features: Features,
}

/// How a control plane is connected to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Credentials {
    Insecure,
    Tls(Tls),
}

/// TLS to a control plane, by files that may change (gRFC A65).
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Tls {
    /// `None`: the system's roots.
    pub(crate) roots: Option<PathBuf>,
    /// Chain and key.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
    /// How often the files are looked at. The default is 10 minutes.
    pub(crate) refresh: Duration,
}

/// What a bootstrap says of a server; everything else in `server_features` is passed over.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Features {
    /// The incremental variant (`xds.delta`).
    pub(crate) delta: bool,
    /// Errors of data drop what is known (`fail_on_data_errors`, gRFC A88); otherwise it stays in use.
    pub(crate) fail_on_data_errors: bool,
    /// A resource that does not arrive is a failure to answer, not an absence
    /// (`resource_timer_is_transient_error`, gRFC A88).
    pub(crate) timer_is_transient: bool,
    /// The server may say what a client trusts (`trusted_xds_server`, gRFC A81).
    pub(crate) trusted: bool,
}

impl Features {
    /// How long an asked resource may stay unanswered: 15 s, and 30 s where that is transient.
    pub(crate) fn patience(self) -> Duration {
        Duration::from_secs(if self.timer_is_transient { 30 } else { 15 })
    }
}

/// Reads a gRPC target: `host:port`, `dns:[//authority/]host:port`, `ipv4:`, `ipv6:` or `unix:`.
pub(super) fn target(text: &str) -> Result<(Address, Authority), &'static str> {
    let localhost = Authority::from_static("localhost");
    if let Some(path) = text.strip_prefix("unix:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.is_empty() {
            return Err("the path of the socket is missing");
        }
        return Ok((Address::Unix(Arc::from(Path::new(path))), localhost));
    }
    let host = match text.split_once(':') {
        Some(("dns", rest)) => match rest.strip_prefix("//") {
            Some(rest) => rest.split_once('/').map_or("", |(_, host)| host),
            None => rest,
        },
        Some(("ipv4" | "ipv6", rest)) => rest,
        _ => text,
    };
    if host.contains('/') || host.contains('@') {
        return Err("it is not a host and port; a scheme is not written");
    }
    let authority: Authority = host.parse().map_err(|_| "it is not a host and port")?;
    let name = authority.host();
    let port = match authority.port() {
        Some(port) if port.as_u16() != 0 => port.as_u16(),
        None if host.len() == name.len() => DEFAULT_PORT,
        Some(_) | None => return Err("the port is not a number from 1 to 65535"),
    };
    if name.is_empty() {
        return Err("the host is missing");
    }
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    let address = match bare.parse::<std::net::IpAddr>() {
        Ok(ip) => Address::Socket((ip, port).into()),
        Err(_) => Address::Name {
            host: name.into(),
            port,
        },
    };
    Ok((address, authority))
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.uri)
    }
}
