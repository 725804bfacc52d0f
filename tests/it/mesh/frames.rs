//! Requests as nobody's library writes them, byte by byte to a port: rows C6, C7, C9 and C17.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Request, Response};
use meshwork::inbound;
use meshwork::layer::canonical::FORGED;
use meshwork::{Body, Mesh};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tower::{Layer, service_fn};

use crate::transport::peer::{GOAWAY, HEADERS, Peer, RST_STREAM, SETTINGS};

/// How long an answer may take before the test fails, on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A port whose handler takes down what it sees.
struct Port {
    mesh: Mesh,
    address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
}

async fn port() -> Port {
    let mesh = Mesh::builder().start().await.unwrap();
    let listener = mesh.listen("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr();
    let seen = Arc::<Mutex<Vec<String>>>::default();
    let told = seen.clone();
    let handler = service_fn(move |request: Request<Body>| {
        let host = request.headers().get("host");
        let host = host.map_or("-", |host| host.to_str().unwrap());
        let authority = request.uri().authority().map_or("-", |one| one.as_str());
        let line = format!("{authority} {host} {}", request.uri().path());
        told.lock().unwrap().push(line);
        async { Ok::<_, std::convert::Infallible>(Response::new(Body::empty())) }
    });
    tokio::spawn(listener.serve(mesh.inbound_layer().layer(handler)));
    Port {
        mesh,
        address,
        seen,
    }
}

impl Port {
    /// What the handler has seen since the last look.
    fn seen(&self) -> Vec<String> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }

    /// What is answered to these fields: the begin of the header block, or nothing if the stream or the
    /// connection ended without an answer.
    async fn answer(&self, fields: &[(&str, &str)]) -> Option<Vec<u8>> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let mut peer = Peer::call(stream).await;
        peer.send(1, fields).await;
        let answer = async {
            loop {
                let frame = peer.read().await?;
                match frame.kind {
                    HEADERS => return Some(frame.payload),
                    GOAWAY | RST_STREAM => return None,
                    // Its settings need no answer within one request.
                    SETTINGS => {}
                    _ => {}
                }
            }
        };
        tokio::time::timeout(PATIENCE, answer)
            .await
            .expect("an end")
    }

    /// The status line of what is answered to these bytes of HTTP/1.
    async fn line(&self, bytes: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let reading = async {
            while !answer.ends_with(b"\r\n") {
                answer.push(stream.read_u8().await.unwrap());
            }
        };
        tokio::time::timeout(PATIENCE, reading)
            .await
            .expect("an answer");
        String::from_utf8(answer).unwrap().trim_end().to_owned()
    }
}

/// `:status: 200` and `:status: 400` of the static table (RFC 7541 A).
const OK: u8 = 0x88;
const BAD_REQUEST: u8 = 0x8c;

const METHOD: (&str, &str) = (":method", "GET");
const SCHEME: (&str, &str) = (":scheme", "http");
const AUTHORITY: (&str, &str) = (":authority", "a");

#[tokio::test]
async fn c6_c7_no_raw_path_with_two_readings_reaches_a_handler() {
    let port = port().await;
    let path = |path: &'static str| vec![METHOD, SCHEME, AUTHORITY, (":path", path)];
    let mut twice = path("/S/M");
    twice.push((":path", "/admin"));
    let grpc = [
        (":method", "POST"),
        SCHEME,
        AUTHORITY,
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    for (row, fields) in [
        ("no slash", path("S/M")),
        ("empty", path("")),
        ("a whole target", path("http://h/S/M")),
        ("twice", twice),
        ("missing", vec![METHOD, SCHEME, AUTHORITY]),
        ("a star", path("*")),
        ("two slashes", path("//S/M")),
        ("dots", path("/a/../S/M")),
        ("a slash in disguise", path("/S%2fM")),
        ("a fragment", path("/S/M#x")),
    ] {
        let answer = port.answer(&fields).await;
        let refused = answer.as_ref().is_none_or(|block| block[0] == BAD_REQUEST);
        let seen = port.seen();
        // Who cuts a fragment off has one reading left, and the handler has the same.
        let cut_off = row == "a fragment" && seen == ["a - /S/M"];
        assert!(
            (refused && seen.is_empty()) || cut_off,
            "{row}: {answer:?} {seen:?}"
        );
        let Some(path) = fields.iter().find(|(name, _)| *name == ":path") else {
            continue;
        };
        let mut fields = grpc.to_vec();
        fields.push(*path);
        if row == "twice" {
            fields.push((":path", "/admin/x"));
        }
        let answer = port.answer(&fields).await;
        let seen = port.seen();
        assert!(
            seen.is_empty() || (row == "a fragment" && seen == ["a - /S/M"]),
            "{row}: {answer:?} {seen:?}"
        );
    }
    let answer = port.answer(&path("/S/M")).await.unwrap();
    assert_eq!(answer[0], OK);
    assert_eq!(port.seen(), ["a - /S/M"]);
    assert!(port.mesh.stats().inbound.ambiguous > 0);
}

#[tokio::test]
async fn c9_one_host_counts_and_none_or_two_are_refused() {
    let port = port().await;
    let with = |fields: &[(&'static str, &'static str)]| {
        let mut all = vec![METHOD, SCHEME, (":path", "/")];
        // Pseudo-headers come first (RFC 9113 8.3).
        all.extend(fields);
        all
    };
    for (row, fields, expected) in [
        ("both", &[AUTHORITY, ("host", "b")][..], Some("a a /")),
        ("only authority", &[AUTHORITY], Some("a - /")),
        ("only host", &[("host", "b")], Some("- b /")),
        ("none", &[], None),
        ("two hosts", &[("host", "a"), ("host", "b")], None),
        ("user information", &[(":authority", "x@a")], None),
    ] {
        let answer = port.answer(&with(fields)).await;
        let seen = port.seen();
        match expected {
            Some(expected) => {
                assert_eq!(answer.map(|block| block[0]), Some(OK), "{row}");
                assert_eq!(seen, [expected], "{row}");
            }
            None => {
                let refused = answer.as_ref().is_none_or(|block| block[0] == BAD_REQUEST);
                assert!(refused && seen.is_empty(), "{row}: {answer:?} {seen:?}");
            }
        }
    }
    for (bytes, expected) in [
        ("GET / HTTP/1.1\r\nhost: a\r\n\r\n", "HTTP/1.1 200 OK"),
        ("GET / HTTP/1.0\r\n\r\n", "HTTP/1.0 400 Bad Request"),
        ("GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 400 Bad Request"),
        (
            "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
            "HTTP/1.1 400 Bad Request",
        ),
    ] {
        assert_eq!(port.line(bytes).await, expected, "{bytes:?}");
    }
    assert_eq!(port.seen(), ["- a /"]);
}

/// What a caller says of itself, on the wire: none of it is believed, and none reaches the handler.
#[tokio::test]
async fn c17_no_claim_of_an_identity_comes_through_a_port() {
    let mesh = Mesh::builder().start().await.unwrap();
    let listener = mesh.listen("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr();
    let handler = service_fn(|request: Request<Body>| async move {
        let peer = request.extensions().get::<inbound::Peer>().unwrap();
        assert_eq!((&peer.principal, peer.tls), (&None, false));
        assert!(peer.remote.unwrap().ip().is_loopback());
        let claims = FORGED
            .iter()
            .filter(|name| request.headers().contains_key(**name));
        let status = match claims.count() {
            0 => 200,
            _ => 500,
        };
        let response = Response::builder().status(status).body(Body::empty());
        Ok::<_, std::convert::Infallible>(response.unwrap())
    });
    tokio::spawn(listener.serve(mesh.inbound_layer().layer(handler)));
    let port = Port {
        mesh,
        address,
        seen: Arc::default(),
    };
    let mut fields = vec![
        METHOD,
        SCHEME,
        AUTHORITY,
        (":path", "/"),
        ("x-forwarded-for", "8.8.8.8"),
    ];
    fields.extend(FORGED.iter().map(|name| (*name, "spiffe://td/admin")));
    assert_eq!(port.answer(&fields).await.unwrap()[0], OK);
    let lines = FORGED
        .iter()
        .map(|name| format!("{name}: spiffe://td/admin\r\n"));
    let lines: String = lines.collect();
    let request = format!("GET / HTTP/1.1\r\nhost: a\r\nx-forwarded-for: 8.8.8.8\r\n{lines}\r\n");
    assert_eq!(port.line(&request).await, "HTTP/1.1 200 OK");
}
