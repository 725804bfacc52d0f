//! Fetching documents of issuers: keys, and what says where the keys are.
//!
//! Whoever writes configuration names an address that this process then asks from inside of its
//! network, so the address is looked at where it counts: after its name was resolved, before it is connected
//! to, and again for each redirect. Addresses of this machine (loopback, unspecified), of its link (where
//! clouds answer with credentials of the machine) and those that clouds use for the same elsewhere are
//! refused, unless the program lets them ([`Builder::token_keys_in`](crate::Builder::token_keys_in)). The
//! connection goes to the very address that was judged, so a second answer of DNS changes nothing.
//!
//! Rejected: asking through the mesh. A rule for the issuer's host could lead the question anywhere,
//! and an identity would be shown to whoever answers.

#[cfg(test)]
mod tests;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, HOST, LOCATION, USER_AGENT};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::error::BoxError;
use crate::model::authorization::Network;
use crate::model::security::{Alpn, ClientTls, Material, Sni, Verification};
use crate::tls::{Clock, Connector, Credentials, Offer};

/// The longest document, in bytes.
const DOCUMENT: usize = 1 << 20;
/// How often a question is sent elsewhere.
const REDIRECTS: usize = 3;
/// Where clouds answer with credentials of the machine, beside their link-local addresses: Azure's
/// wire server, Alibaba's metadata, and AWS' by IPv6.
const METADATA: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];

/// Why there is no document.
#[derive(Debug, Error)]
pub(super) enum Unfetched {
    #[error("it took longer than {0:?}")]
    Elapsed(Duration),
    #[error("{0:?} is no http or https address with a host")]
    Address(Box<str>),
    #[error("{host} is {address}, an address of this machine or its cloud, which is not asked")]
    Forbidden { host: Box<str>, address: IpAddr },
    #[error("{0:?} has no address")]
    Unresolved(Box<str>),
    #[error("it cannot be connected to: {0}")]
    Connect(#[from] io::Error),
    #[error("the exchange broke: {0}")]
    Broken(BoxError),
    #[error("it answered {0}")]
    Status(StatusCode),
    #[error("it sends the question from https to http")]
    Downgrade,
    #[error("it sends the question elsewhere more than {REDIRECTS} times")]
    Redirects,
    #[error("its document is not what it should be: {0}")]
    Document(Box<str>),
}

/// Fetches.
#[derive(Clone)]
pub(super) struct Fetcher {
    connector: Arc<Connector>,
    /// Addresses that are asked although they are none of the public network.
    let_in: Arc<[Network]>,
}

/// What came of one question.
enum Answer {
    Document(Bytes),
    Elsewhere(Uri),
}

impl Fetcher {
    /// Servers are believed by `trust`, by their names.
    pub(super) fn new(trust: Credentials, clock: Clock, let_in: Arc<[Network]>) -> Self {
        let tls = ClientTls {
            identity: None,
            trust: Material::System,
            verification: Verification::Name,
            names: Vec::new(),
            sni: Sni::Endpoint,
            alpn: Alpn::Http,
        };
        Self {
            connector: Arc::new(Connector::new(&tls, None, trust, clock)),
            let_in,
        }
    }

    /// The document at an address, redirects followed.
    pub(super) async fn get(&self, uri: &Uri, timeout: Duration) -> Result<Bytes, Unfetched> {
        match tokio::time::timeout(timeout, self.follow(uri.clone())).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Unfetched::Elapsed(timeout)),
        }
    }

    async fn follow(&self, mut uri: Uri) -> Result<Bytes, Unfetched> {
        for _ in 0..=REDIRECTS {
            match self.ask(&uri).await? {
                Answer::Document(document) => return Ok(document),
                Answer::Elsewhere(next) => {
                    if uri.scheme() == Some(&Scheme::HTTPS) && next.scheme() != Some(&Scheme::HTTPS)
                    {
                        return Err(Unfetched::Downgrade);
                    }
                    uri = next;
                }
            }
        }
        Err(Unfetched::Redirects)
    }

    async fn ask(&self, uri: &Uri) -> Result<Answer, Unfetched> {
        let wrong = || Unfetched::Address(uri.to_string().into());
        let authority = uri.authority().ok_or_else(wrong)?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong()),
        };
        let port = authority
            .port_u16()
            .unwrap_or(if secure { 443 } else { 80 });
        let host = authority.host();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let address = self.address(bare, port).await?;
        let stream = TcpStream::connect(address).await?;
        let request = question(authority, uri.path_and_query()).map_err(|_| wrong())?;
        let response = if secure {
            let stream = self.connector.connect(stream, host, Offer::Http1).await?;
            exchange(stream, request).await?
        } else {
            exchange(stream, request).await?
        };
        read(uri, response)
    }

    /// The first address of a host, if all of its addresses may be asked.
    async fn address(&self, host: &str, port: u16) -> Result<SocketAddr, Unfetched> {
        let found = tokio::net::lookup_host((host, port)).await?;
        let mut first = None;
        for address in found {
            if is_local(address.ip()) && !self.let_in.iter().any(|net| net.contains(address.ip())) {
                let (host, address) = (host.into(), address.ip());
                return Err(Unfetched::Forbidden { host, address });
            }
            first = first.or(Some(address));
        }
        first.ok_or_else(|| Unfetched::Unresolved(host.into()))
    }
}

/// Whether an address is one of this machine, its link or its cloud.
fn is_local(address: IpAddr) -> bool {
    let address = address.to_canonical();
    let special = match address {
        IpAddr::V4(four) => {
            four.is_loopback()
                || four.is_unspecified()
                || four.is_link_local()
                || four.is_multicast()
                || four.is_broadcast()
                // "This network" (RFC 6890): systems connect to themselves by it.
                || four.octets()[0] == 0
        }
        IpAddr::V6(six) => {
            six.is_loopback()
                || six.is_unspecified()
                || six.is_unicast_link_local()
                || six.is_multicast()
                // IPv4 within IPv6 (RFC 4291 2.5.5.1, RFC 6052): judged as what it stands for.
                || embedded(six).is_some_and(|four| is_local(IpAddr::V4(four)))
        }
    };
    special || METADATA.contains(&address)
}

/// The IPv4 address within an IPv6 address that is deprecated or translated.
fn embedded(six: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, high, low] = six.segments();
    let four = Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
    match [a, b, c, d, e, f] {
        [0, 0, 0, 0, 0, 0] | [0x64, 0xff9b, 0, 0, 0, 0] => Some(four),
        _ => None,
    }
}

fn question(
    authority: &Authority,
    path: Option<&PathAndQuery>,
) -> Result<Request<Empty<Bytes>>, http::Error> {
    Request::get(path.map_or("/", PathAndQuery::as_str))
        .header(HOST, authority.as_str())
        .header(ACCEPT, "application/json")
        .header(USER_AGENT, concat!("meshwork/", env!("CARGO_PKG_VERSION")))
        .body(Empty::new())
}

/// One request and its response, read to its end: the connection goes with this future.
async fn exchange<S>(
    stream: S,
    request: Request<Empty<Bytes>>,
) -> Result<Response<Bytes>, Unfetched>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let broken = |error: hyper::Error| Unfetched::Broken(error.into());
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let asking = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        let (head, body): (_, Incoming) = response.into_parts();
        let body = Limited::new(body, DOCUMENT).collect().await;
        let body = body.map_err(Unfetched::Broken)?.to_bytes();
        Ok(Response::from_parts(head, body))
    };
    let mut asking = std::pin::pin!(asking);
    tokio::select! {
        biased;
        asked = &mut asking => return asked,
        // It may end, or break off, behind a response that is still to be read; that tells.
        _ = connection => {}
    }
    asking.await
}

fn read(asked: &Uri, response: Response<Bytes>) -> Result<Answer, Unfetched> {
    match response.status() {
        StatusCode::OK => Ok(Answer::Document(response.into_body())),
        StatusCode::MOVED_PERMANENTLY
        | StatusCode::FOUND
        | StatusCode::SEE_OTHER
        | StatusCode::TEMPORARY_REDIRECT
        | StatusCode::PERMANENT_REDIRECT => {
            let location = response.headers().get(LOCATION);
            let location = location
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default();
            let wrong = || Unfetched::Address(location.into());
            let next: Uri = location.parse().map_err(|_| wrong())?;
            if next.authority().is_some() {
                return Ok(Answer::Elsewhere(next));
            }
            let mut parts = asked.clone().into_parts();
            parts.path_and_query = next.into_parts().path_and_query;
            Uri::from_parts(parts)
                .map(Answer::Elsewhere)
                .map_err(|_| wrong())
        }
        status => Err(Unfetched::Status(status)),
    }
}

/// Where an issuer's OpenID configuration says that its keys are.
pub(super) fn discovered(document: &[u8], issuer: &str) -> Result<Uri, Unfetched> {
    #[derive(serde::Deserialize)]
    struct Configuration {
        issuer: String,
        jwks_uri: String,
    }
    let wrong = |why: String| Unfetched::Document(why.into());
    let read: Configuration =
        serde_json::from_slice(document).map_err(|error| wrong(error.to_string()))?;
    // OpenID Connect Discovery 4.3: else anybody's configuration could speak for this issuer.
    if read.issuer.trim_end_matches('/') != issuer.trim_end_matches('/') {
        return Err(wrong(format!("it is that of the issuer {:?}", read.issuer)));
    }
    let uri = read.jwks_uri.parse::<Uri>();
    uri.map_err(|_| wrong(format!("its jwks_uri {:?} is no address", read.jwks_uri)))
}
