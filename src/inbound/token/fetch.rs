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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::tls::{Authority, Trust};

    #[test]
    fn c25_addresses_of_the_machine_and_its_cloud_are_told_from_others() {
        for (text, local) in [
            ("127.0.0.1", true),
            ("127.8.9.1", true),
            ("0.0.0.0", true),
            ("0.1.2.3", true),
            ("169.254.169.254", true),
            ("168.63.129.16", true),
            ("100.100.100.200", true),
            ("255.255.255.255", true),
            ("224.0.0.1", true),
            ("::1", true),
            ("::", true),
            ("::ffff:127.0.0.1", true),
            ("::ffff:169.254.169.254", true),
            ("::127.0.0.1", true),
            ("64:ff9b::a9fe:a9fe", true),
            ("fe80::1", true),
            ("ff02::1", true),
            ("fd00:ec2::254", true),
            ("8.8.8.8", false),
            ("10.0.0.1", false),
            ("100.100.100.201", false),
            ("64:ff9b::808:808", false),
            ("2001:db8::1", false),
            ("fd00::1", false),
        ] {
            assert_eq!(is_local(text.parse().unwrap()), local, "{text}");
        }
    }

    /// A server that answers each request with the next of these.
    async fn server(answers: Vec<String>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut seen = Vec::new();
                while !seen.ends_with(b"\r\n\r\n") {
                    seen.push(stream.read_u8().await.unwrap());
                }
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        address
    }

    fn fetcher(let_in: &[&str]) -> Fetcher {
        let let_in = let_in.iter().map(|net| net.parse().unwrap()).collect();
        Fetcher::new(Credentials::default(), Clock::system(), let_in)
    }

    fn ok(text: &str) -> String {
        format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}",
            text.len()
        )
    }

    fn to(location: &str) -> String {
        format!("HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n")
    }

    async fn get(fetcher: &Fetcher, uri: &str) -> Result<Bytes, String> {
        let fetched = fetcher
            .get(&uri.parse().unwrap(), Duration::from_secs(10))
            .await;
        fetched.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn c25_nothing_of_the_machine_is_asked_unless_it_is_let_in() {
        let address = server(vec![ok("keys")]).await;
        let uri = format!("http://{address}/keys");
        let refused = get(&fetcher(&[]), &uri).await.unwrap_err();
        assert!(
            refused.contains("127.0.0.1, an address of this machine"),
            "{refused}"
        );
        let named = format!("http://localhost:{}/keys", address.port());
        assert!(get(&fetcher(&[]), &named).await.is_err());
        assert_eq!(get(&fetcher(&["127.0.0.1"]), &uri).await.unwrap(), "keys");
    }

    #[tokio::test]
    async fn c25_a_redirect_is_judged_as_what_it_leads_to() {
        let fetcher = fetcher(&["127.0.0.1"]);
        let last = server(vec![ok("keys")]).await;
        let first = server(vec![
            to(&format!("http://{last}/keys")),
            to("/there"),
            ok("here"),
        ])
        .await;
        let uri = format!("http://{first}/");
        assert_eq!(get(&fetcher, &uri).await.unwrap(), "keys");
        assert_eq!(
            get(&fetcher, &uri).await.unwrap(),
            "here",
            "a path is of the same server"
        );
        for (location, expected) in [
            ("http://127.0.0.2/", "127.0.0.2, an address of this machine"),
            (
                "http://169.254.169.254/latest",
                "169.254.169.254, an address",
            ),
            ("ftp://example.com/", "is no http or https address"),
            ("", "is no http or https address"),
        ] {
            let address = server(vec![to(location)]).await;
            let refused = get(&fetcher, &format!("http://{address}/"))
                .await
                .unwrap_err();
            assert!(refused.contains(expected), "{location}: {refused}");
        }
        let round = server(vec![to("/"); 4]).await;
        let refused = get(&fetcher, &format!("http://{round}/"))
            .await
            .unwrap_err();
        assert!(refused.contains("elsewhere more than 3 times"), "{refused}");
    }

    #[tokio::test]
    async fn what_is_no_document_is_told() {
        let fetcher = fetcher(&["127.0.0.1"]);
        let long = ok(&"x".repeat(DOCUMENT + 1));
        for (answer, expected) in [
            (
                "HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n".to_owned(),
                "it answered 500",
            ),
            ("garbage\r\n\r\n".to_owned(), "the exchange broke"),
            (long, "the exchange broke"),
        ] {
            let address = server(vec![answer]).await;
            let refused = get(&fetcher, &format!("http://{address}/"))
                .await
                .unwrap_err();
            assert!(refused.contains(expected), "{refused}");
        }
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}/", silent.local_addr().unwrap())
            .parse()
            .unwrap();
        let late = fetcher
            .get(&uri, Duration::from_millis(50))
            .await
            .unwrap_err();
        assert!(matches!(late, Unfetched::Elapsed(_)), "{late}");
    }

    #[tokio::test]
    async fn https_is_believed_by_name_and_never_left_for_http() {
        let now = Clock::system().now();
        let domain: crate::model::identity::TrustDomain = "td".parse().unwrap();
        let authority = Authority::generate(domain, now).unwrap();
        let id = "spiffe://td/ns/a/sa/issuer".parse().unwrap();
        let hour = Duration::from_secs(3_600);
        let own = authority
            .issue(&id, &["localhost".into()], hour, now)
            .unwrap();
        let own = Credentials::new(Some(own), Trust::default());
        let acceptor = crate::tls::Acceptor::new(own, Clock::system()).with_anonymous();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            for answer in [Some(ok("keys")), Some(to("http://localhost/")), None] {
                let (stream, _) = listener.accept().await.unwrap();
                let mode = crate::model::security::MutualTls::Strict;
                let Ok(mut stream) = acceptor.accept(stream, mode).await else {
                    continue;
                };
                let mut seen = Vec::new();
                while !seen.ends_with(b"\r\n\r\n") {
                    match stream.read_u8().await {
                        Ok(byte) => seen.push(byte),
                        Err(_) => break,
                    }
                }
                if let Some(answer) = answer {
                    stream.write_all(answer.as_bytes()).await.unwrap();
                    stream.flush().await.unwrap();
                }
            }
        });
        let trust = Trust::default().with_roots(authority.bundle().clone());
        let trust = Credentials::new(None, trust);
        let let_in: Arc<[Network]> = ["127.0.0.0/8", "::1"]
            .map(|net| net.parse().unwrap())
            .into();
        let fetcher = Fetcher::new(trust, Clock::system(), let_in);
        let uri = format!("https://localhost:{port}/keys");
        assert_eq!(get(&fetcher, &uri).await.unwrap(), "keys");
        let refused = get(&fetcher, &uri).await.unwrap_err();
        assert!(refused.contains("from https to http"), "{refused}");
        let other = format!("https://127.0.0.1:{port}/keys");
        let refused = get(&fetcher, &other).await.unwrap_err();
        assert!(
            refused.contains("not expected here"),
            "another name: {refused}"
        );
    }

    #[test]
    fn a_configuration_speaks_for_its_issuer_alone() {
        let read = |text: &str| {
            let uri = discovered(text.as_bytes(), "https://me/");
            uri.map(|uri| uri.to_string())
                .map_err(|error| error.to_string())
        };
        let good = r#"{"issuer": "https://me", "jwks_uri": "https://keys/"}"#;
        assert_eq!(read(good).unwrap(), "https://keys/");
        for (text, expected) in [
            (
                r#"{"issuer": "https://you", "jwks_uri": "https://keys/"}"#,
                "of the issuer \"https://you\"",
            ),
            (
                r#"{"issuer": "https://me", "jwks_uri": "a b"}"#,
                "is no address",
            ),
            (r#"{"issuer": "https://me"}"#, "missing field"),
            ("<html>", "expected value"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
