//! What a server is shown: TLS by files, and tokens.
//!
//! Files are read for each connection. Streams live for hours, so that this is no cost, and what a
//! file holds when a stream begins is what counts, without a watcher beside it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::Node;
use http::{HeaderName, HeaderValue};

use crate::model::endpoint::Address;
use crate::model::security::{Alpn, ClientTls, Material, Sni, Verification};
use crate::source::xds::bootstrap::{Credentials, Server, Tls};
use crate::tls;
use crate::transport::{Connect, Connecting, Io, Settings};

/// The name of a cluster of Kubernetes.
const CLUSTER: HeaderName = HeaderName::from_static("clusterid");

/// Makes connections to a server as its credentials ask for.
pub(super) fn connector(plain: &Arc<dyn Connect>, server: &Server) -> Arc<dyn Connect> {
    match &server.credentials {
        Credentials::Insecure => plain.clone(),
        Credentials::Tls(tls) => Arc::new(Secured {
            plain: plain.clone(),
            tls: tls.clone(),
            host: server.authority.host().into(),
        }),
    }
}

/// TLS over another way to connect.
#[derive(Debug)]
struct Secured {
    plain: Arc<dyn Connect>,
    tls: Tls,
    host: Arc<str>,
}

impl Connect for Secured {
    fn connect(&self, address: &Address, settings: &Settings) -> Connecting {
        let connecting = self.plain.connect(address, settings);
        let (tls, host) = (self.tls.clone(), self.host.clone());
        Box::pin(async move {
            let connector = blocking(move || handshaker(&tls)).await?;
            let io = connecting.await?;
            let stream = connector.connect(io, &host, tls::Offer::Http2).await?;
            Ok(Io::boxed(stream))
        })
    }
}

fn handshaker(tls: &Tls) -> io::Result<tls::Connector> {
    let unusable = |path: &Path, error: tls::Unusable| {
        io::Error::other(format!("{}: {error}", path.display()))
    };
    let identity = match &tls.identity {
        None => None,
        Some((chain, key)) => {
            let pem = (read(chain)?, read(key)?);
            let identity = tls::Identity::from_pem(&pem.0, &pem.1);
            Some(identity.map_err(|error| unusable(chain, error))?)
        }
    };
    let roots = match &tls.roots {
        Some(path) => {
            let bundle = tls::Bundle::from_pem(&read(path)?);
            bundle.map_err(|error| unusable(path, error))?
        }
        None => tls::Bundle::system().map_err(io::Error::other)?,
    };
    let trust = tls::Trust::default().with_roots(roots);
    let settings = ClientTls {
        identity: identity.is_some().then_some(Material::Mesh),
        trust: Material::Mesh,
        verification: Verification::Name,
        names: Vec::new(),
        sni: Sni::Endpoint,
        alpn: Alpn::Http,
    };
    let own = identity.map(|identity| tls::Credentials::new(Some(identity), tls::Trust::default()));
    let trust = tls::Credentials::new(None, trust);
    Ok(tls::Connector::new(
        &settings,
        own,
        trust,
        tls::Clock::system(),
    ))
}

/// The values of `authorization` that a server is sent.
pub(super) async fn tokens(paths: &[PathBuf]) -> io::Result<Vec<HeaderValue>> {
    let mut tokens = Vec::with_capacity(paths.len());
    for path in paths {
        let path = path.clone();
        let token = blocking(move || {
            let bytes = read(&path)?;
            let wrong = || io::Error::other(format!("{} holds no token", path.display()));
            let text = String::from_utf8(bytes).map_err(|_| wrong())?;
            let text = text.trim();
            if text.is_empty() {
                return Err(wrong());
            }
            let mut value = HeaderValue::try_from(format!("Bearer {text}")).map_err(|_| wrong())?;
            value.set_sensitive(true);
            Ok(value)
        });
        tokens.push(token.await?);
    }
    Ok(tokens)
}

/// istiod has the token looked at by the Kubernetes cluster that this metadata names, beside its own.
pub(super) fn cluster(node: &Node) -> Option<(HeaderName, HeaderValue)> {
    use envoy_types::pb::google::protobuf::value::Kind;
    let metadata = node.metadata.as_ref()?;
    match metadata.fields.get("CLUSTER_ID")?.kind.as_ref()? {
        Kind::StringValue(text) => {
            let value = HeaderValue::try_from(text).ok()?;
            Some((CLUSTER, value))
        }
        _ => None,
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    std::fs::read(path)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(io::Error::other)?
}
