//! What is sent: parsed once, made anew for every call.

use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HOST, TE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};
use meshwork::{Body, CallOptions, CallReport, Client, Error, Mesh};

/// What somebody asked for, as text.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    pub(super) url: Option<String>,
    pub(super) grpc: Option<String>,
    pub(super) method: Option<String>,
    /// `name: value`
    pub(super) headers: Vec<String>,
    pub(super) body: Option<String>,
    pub(super) data_hex: Option<String>,
    pub(super) timeout: Option<Duration>,
}

/// A request that can be sent any number of times.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    /// A listener that is called, whatever the URI's host.
    target: Option<String>,
    method: Method,
    uri: Uri,
    version: Version,
    headers: HeaderMap,
    body: Bytes,
    options: CallOptions,
}

impl Wanted {
    /// Reads all of it.
    pub(super) fn parse(&self) -> Result<Template, String> {
        let mut headers = HeaderMap::new();
        for line in &self.headers {
            let (name, value) = header(line)?;
            headers.append(name, value);
        }
        let mut template = match &self.grpc {
            Some(method) => self.grpc(method)?,
            None => self.http()?,
        };
        if let Some(host) = headers.remove(HOST) {
            template.uri = with_host(template.uri, &host)?;
        }
        // What gRPC cannot do without stays; anything else is the caller's to say.
        for (name, value) in &template.headers {
            headers.insert(name, value.clone());
        }
        template.headers = headers;
        if let Some(timeout) = self.timeout {
            template.options = template.options.timeout(timeout);
        }
        Ok(template)
    }

    fn http(&self) -> Result<Template, String> {
        if self.data_hex.is_some() {
            return Err("a message in hex is for gRPC: name the method with grpc too".to_owned());
        }
        let url = self
            .url
            .as_deref()
            .ok_or("no URL; write http://HOST/PATH")?;
        let (target, url) = listener(url);
        let method = match (&self.method, &self.body) {
            (Some(method), _) => Method::from_bytes(method.as_bytes())
                .map_err(|_| format!("{method:?} is not a method; write GET, POST, ..."))?,
            (None, Some(_)) => Method::POST,
            (None, None) => Method::GET,
        };
        Ok(Template {
            target,
            method,
            uri: uri(&url)?,
            version: Version::HTTP_11,
            headers: HeaderMap::new(),
            body: self.body.clone().unwrap_or_default().into(),
            options: CallOptions::new(),
        })
    }

    fn grpc(&self, method: &str) -> Result<Template, String> {
        if self.method.is_some() || self.body.is_some() {
            return Err(
                "gRPC has no HTTP method and no text body; write the message in hex".into(),
            );
        }
        let (host, method) = split_grpc(method)?;
        let url = match (host, self.url.as_deref()) {
            (Some(host), _) => host,
            (None, Some(url)) => url,
            (None, None) => return Err("no URL that says whom to call; write http://HOST".into()),
        };
        let (target, url) = listener(url);
        let mut parts = uri(&url)?.into_parts();
        if !matches!(
            parts.path_and_query.as_ref().map(PathAndQuery::as_str),
            None | Some("/")
        ) {
            return Err(format!(
                "{url:?} has a path; for gRPC it names only the host"
            ));
        }
        let path = PathAndQuery::try_from(format!("/{method}"));
        parts.path_and_query = Some(path.map_err(|error| format!("{method:?}: {error}"))?);
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
        Ok(Template {
            target,
            method: Method::POST,
            uri: Uri::from_parts(parts).map_err(|error| format!("{url:?}: {error}"))?,
            version: Version::HTTP_2,
            headers,
            body: framed(self.data_hex.as_deref().unwrap_or_default())?,
            options: CallOptions::new(),
        })
    }
}

impl Template {
    /// A `GET` of a URL.
    ///
    /// # Errors
    ///
    /// It is not a URL that a mesh can call.
    pub(crate) fn get(url: &str) -> Result<Self, String> {
        let wanted = Wanted {
            url: Some(url.to_owned()),
            ..Wanted::default()
        };
        wanted.parse()
    }

    /// A unary gRPC call with an empty message.
    ///
    /// # Errors
    ///
    /// Host or method are not well-formed.
    pub(crate) fn grpc(host: &str, method: &str) -> Result<Self, String> {
        let wanted = Wanted {
            url: Some(host.to_owned()),
            grpc: Some(method.to_owned()),
            ..Wanted::default()
        };
        wanted.parse()
    }

    /// The same with one more header.
    pub(crate) fn with_header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.insert(name, HeaderValue::from_static(value));
        self
    }

    /// The listener that is called, if it is not the URL's host.
    pub(super) fn target(&self) -> Option<&str> {
        self.target.as_deref()
    }

    /// The client that it is sent by.
    ///
    /// # Errors
    ///
    /// The listener that is called cannot be asked for.
    pub(super) fn client(&self, mesh: &Mesh) -> Result<Client, Error> {
        match &self.target {
            Some(target) => mesh.client_to(target),
            None => Ok(mesh.client()),
        }
    }

    pub(super) fn is_grpc(&self) -> bool {
        self.version == Version::HTTP_2
    }

    /// One request, whose story the report tells.
    pub(super) fn request(&self, report: &CallReport) -> Request<Body> {
        let mut request = Request::new(Body::from(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.version_mut() = self.version;
        *request.headers_mut() = self.headers.clone();
        request.extensions_mut().insert(self.options.clone());
        request.extensions_mut().insert(report.clone());
        request
    }
}

/// Of `xds:///LISTENER` the target, and the URL that requests to it have: its host is what the
/// listener's name ends with, as gRPC has it.
fn listener(url: &str) -> (Option<String>, String) {
    let Some(rest) = url.strip_prefix("xds://") else {
        return (None, url.to_owned());
    };
    let end = rest.rsplit('/').next().unwrap_or(rest);
    let host = if end.parse::<Authority>().is_ok() {
        end
    } else {
        "xds"
    };
    (Some(url.to_owned()), format!("http://{host}/"))
}

fn uri(url: &str) -> Result<Uri, String> {
    let full = if url.contains("://") {
        url.to_owned()
    } else {
        format!("http://{url}")
    };
    let uri: Uri = full
        .parse()
        .map_err(|error| format!("{url:?} is not a URL: {error}; write http://HOST/PATH"))?;
    match uri.scheme() {
        Some(scheme) if *scheme == Scheme::HTTP => {}
        Some(scheme) if *scheme == Scheme::HTTPS => {
            return Err(format!(
                "{url:?}: https is not supported, the mesh decides about TLS; write http"
            ));
        }
        _ => {
            return Err(format!(
                "{url:?}: the scheme is not http; write http://HOST/PATH"
            ));
        }
    }
    match uri.authority() {
        Some(authority) if authority.host().is_empty() => Err(format!("{url:?} has no host")),
        Some(authority) if authority.as_str().contains('@') => Err(format!(
            "{url:?}: user information is not sent; use a header"
        )),
        Some(_) => Ok(uri),
        None => Err(format!("{url:?} has no host")),
    }
}

fn with_host(uri: Uri, host: &HeaderValue) -> Result<Uri, String> {
    let authority = Authority::try_from(host.as_bytes())
        .map_err(|error| format!("the host header is not a host: {error}"))?;
    let mut parts = uri.into_parts();
    parts.authority = Some(authority);
    Uri::from_parts(parts).map_err(|error| error.to_string())
}

fn header(line: &str) -> Result<(HeaderName, HeaderValue), String> {
    let form = || format!("header {line:?}: expected 'name: value'");
    let (name, value) = line.split_once(':').ok_or_else(form)?;
    let name = HeaderName::try_from(name.trim()).map_err(|_| form())?;
    let value = HeaderValue::try_from(value.trim()).map_err(|_| form())?;
    Ok((name, value))
}

/// `[[http://]HOST/]PACKAGE.SERVICE/METHOD` as host and method.
fn split_grpc(text: &str) -> Result<(Option<&str>, &str), String> {
    let wrong = || format!("grpc {text:?}: expected PACKAGE.SERVICE/METHOD");
    let bare = text.strip_prefix("http://").unwrap_or(text);
    let bare = bare.strip_prefix('/').unwrap_or(bare);
    let parts: Vec<&str> = bare.split('/').collect();
    if parts
        .iter()
        .any(|part| part.is_empty() || part.contains(char::is_whitespace))
    {
        return Err(wrong());
    }
    match parts[..] {
        [_, _] if text.len() <= bare.len() + 1 => Ok((None, bare)),
        [host, _, _] => Ok((Some(host), &bare[host.len() + 1..])),
        _ => Err(wrong()),
    }
}

/// A message with gRPC's five bytes before it.
fn framed(digits: &str) -> Result<Bytes, String> {
    let message = hex::decode(digits)
        .map_err(|error| format!("the message is not hex: {error}; write pairs of digits"))?;
    let length = u32::try_from(message.len()).map_err(|_| "the message is longer than 4 GiB")?;
    let mut frame = BytesMut::with_capacity(message.len() + 5);
    frame.put_u8(0);
    frame.put_u32(length);
    frame.put_slice(&message);
    Ok(frame.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(url: &str) -> Wanted {
        Wanted {
            url: Some(url.to_owned()),
            ..Wanted::default()
        }
    }

    #[test]
    fn a_request_is_what_the_flags_say() {
        let template = Wanted {
            headers: vec!["x-canary: true".into(), "X-A:1".into(), "x-a: 2".into()],
            body: Some("hello".into()),
            ..wanted("catalog/items?page=2")
        };
        let request = template
            .parse()
            .expect("valid")
            .request(&CallReport::default());
        assert_eq!(request.method(), Method::POST);
        assert_eq!(request.uri(), "http://catalog/items?page=2");
        assert_eq!(request.headers()["x-canary"], "true");
        assert_eq!(request.headers().get_all("x-a").iter().count(), 2);
    }

    #[test]
    fn a_host_header_is_whom_the_request_is_for() {
        let template = Wanted {
            headers: vec!["Host: catalog:8080".into()],
            ..wanted("http://127.0.0.1:1/x")
        };
        let request = template
            .parse()
            .expect("valid")
            .request(&CallReport::default());
        assert_eq!(request.uri(), "http://catalog:8080/x");
        assert!(!request.headers().contains_key(HOST));
    }

    #[test]
    fn grpc_is_a_framed_post_with_trailers() {
        for (grpc, url) in [
            ("a.B/C", Some("http://catalog:50051")),
            ("/a.B/C", Some("http://catalog:50051/")),
            ("catalog:50051/a.B/C", None),
            ("http://catalog:50051/a.B/C", Some("http://other")),
        ] {
            let template = Wanted {
                url: url.map(str::to_owned),
                grpc: Some(grpc.to_owned()),
                data_hex: Some("0a01FF".into()),
                headers: vec!["te: nothing".into()],
                ..Wanted::default()
            };
            let template = template
                .parse()
                .unwrap_or_else(|error| panic!("{grpc}: {error}"));
            assert!(template.is_grpc());
            assert_eq!(template.uri, "http://catalog:50051/a.B/C", "{grpc}");
            assert_eq!(template.headers[TE], "trailers");
            assert_eq!(&template.body[..], b"\0\0\0\0\x03\x0a\x01\xff");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_what_is_allowed() {
        let grpc = |method: &str| Wanted {
            grpc: Some(method.to_owned()),
            ..wanted("http://a")
        };
        let rows = [
            (Wanted::default(), "no URL"),
            (wanted("https://a"), "write http"),
            (wanted("ftp://a"), "the scheme is not http"),
            (wanted("http://"), "is not a URL"),
            (wanted("http://u:p@a"), "user information"),
            (
                Wanted {
                    headers: vec!["x".into()],
                    ..wanted("a")
                },
                "expected 'name: value'",
            ),
            (
                Wanted {
                    method: Some("G ET".into()),
                    ..wanted("a")
                },
                "is not a method",
            ),
            (
                Wanted {
                    data_hex: Some("00".into()),
                    ..wanted("a")
                },
                "is for gRPC",
            ),
            (grpc("B"), "expected PACKAGE.SERVICE/METHOD"),
            (grpc("http://a.B/C"), "expected PACKAGE.SERVICE/METHOD"),
            (grpc("a//B"), "expected PACKAGE.SERVICE/METHOD"),
            (
                Wanted {
                    data_hex: Some("0g".into()),
                    ..grpc("a.B/C")
                },
                "is not hex",
            ),
            (
                Wanted {
                    url: Some("http://a/items".into()),
                    ..grpc("a.B/C")
                },
                "has a path",
            ),
        ];
        for (wanted, why) in rows {
            let error = wanted.parse().expect_err(why);
            assert!(error.contains(why), "{error}");
        }
    }
}
