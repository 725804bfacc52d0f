//! What policies look at.

use std::net::{IpAddr, SocketAddr};

use http::Request;
use http::header::HOST;

use crate::model::matcher::RequestView;

/// Everything that is known of one request, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    /// The request.
    pub request: RequestView<'a>,
    /// Who sends it.
    pub caller: Caller<'a>,
    /// The token that it bears, if there is one and it is valid.
    pub token: Option<&'a Token>,
}

/// Who is at the other end of a connection. Default: nobody knows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Caller<'a> {
    /// The address that the connection comes from; none on a Unix socket.
    pub source: Option<IpAddr>,
    /// The address of the client, as far as proxies on the way are trusted; else that of the
    /// connection.
    pub remote: Option<IpAddr>,
    /// Where the connection arrived.
    pub destination: Option<SocketAddr>,
    /// The identity that the peer's certificate proves, `spiffe://` included. Never empty: a peer
    /// without identity has none.
    pub principal: Option<&'a str>,
    /// Whether the connection is encrypted.
    pub encrypted: bool,
    /// The server name that the peer asked for in TLS.
    pub sni: Option<&'a str>,
}

impl<'a> Attributes<'a> {
    /// Those of a request without a token.
    ///
    /// The authority is that of the target, else the `host` header. A target without a path has
    /// the path `/`.
    #[must_use]
    pub fn of<B>(request: &'a Request<B>, caller: Caller<'a>) -> Self {
        let (uri, headers) = (request.uri(), request.headers());
        let host = || headers.get(HOST).and_then(|host| host.to_str().ok());
        let authority = uri.authority().map(http::uri::Authority::as_str);
        let scheme = if caller.encrypted { "https" } else { "http" };
        Self {
            request: RequestView {
                method: request.method().as_str(),
                scheme: uri.scheme_str().unwrap_or(scheme),
                authority: authority.or_else(host).unwrap_or_default(),
                path: uri.path(),
                query: uri.query(),
                headers,
            },
            caller,
            token: None,
        }
    }

    /// The same with a token that was found to be valid.
    #[must_use]
    pub fn with_token(self, token: Option<&'a Token>) -> Self {
        Self { token, ..self }
    }
}

/// A valid token, as far as policies look at it.
///
/// Its `Debug` shows who it is of and not what it says.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Token {
    /// `iss`, a slash, `sub`.
    pub principal: Option<Box<str>>,
    /// `aud`, as a list.
    pub audiences: Vec<Box<str>>,
    /// `azp`.
    pub presenter: Option<Box<str>>,
    /// Under which name conditions on metadata see its claims, if they do.
    pub metadata: Option<Box<str>>,
    /// Everything that it says.
    pub claims: Vec<(Box<str>, Claim)>,
}

/// The value of a claim.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Claim {
    /// A boolean, which is no text.
    Bool(bool),
    /// A list of texts; other items are not kept.
    List(Vec<Box<str>>),
    /// An object.
    Object(Vec<(Box<str>, Self)>),
    /// A number or null: nothing that can be compared.
    Other,
    /// A text.
    Text(Box<str>),
}

impl Token {
    /// The claim at the end of the path.
    #[must_use]
    pub fn claim(&self, path: &[Box<str>]) -> Option<&Claim> {
        let (first, rest) = path.split_first()?;
        let mut claim = named(&self.claims, first)?;
        for name in rest {
            match claim {
                Claim::Object(fields) => claim = named(fields, name)?,
                Claim::Bool(_) | Claim::List(_) | Claim::Other | Claim::Text(_) => return None,
            }
        }
        Some(claim)
    }
}

fn named<'c>(fields: &'c [(Box<str>, Claim)], name: &str) -> Option<&'c Claim> {
    let found = fields.iter().find(|(own, _)| &**own == name);
    found.map(|(_, claim)| claim)
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token")
            .field("principal", &self.principal)
            .finish_non_exhaustive()
    }
}
