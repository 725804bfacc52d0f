//! What is told of certificates: metrics and a page, and never a key.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use meshwork::Mesh;
use meshwork::model::security::{ClientTls, MutualTls};
use meshwork::tls::{Acceptor, Credentials, Offer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::authority::{Authority, BEGIN, LIFETIME, clock, credentials, trust};
use super::handshakes::{connector, handshake, mesh_tls};
use super::ports;

/// What this thread logs, at `info` and above.
#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(super) fn listen() -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        let to_write = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || to_write.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// Waits until it says so.
    pub(super) async fn until(&self, words: &str) {
        let told = async {
            while !self.text().contains(words) {
                tokio::task::yield_now().await;
            }
        };
        let told = tokio::time::timeout(Duration::from_secs(60), told).await;
        told.unwrap_or_else(|_| panic!("{words}: {}", self.text()));
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn value(metrics: &str, name: &str) -> Option<u64> {
    let line = metrics
        .lines()
        .find(|line| line.starts_with(&format!("{name} ")))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[tokio::test]
async fn expiry_and_rotations_are_metrics_and_a_page() {
    let mut root = Authority::new("root");
    let own = credentials(&mut root, "spiffe://td/order");
    let builder = Mesh::builder().identity(own.clone()).clock(clock());
    let mesh = builder.start().await.unwrap();
    let metrics = mesh.metrics();
    let expiry = "meshwork_identity_not_after_seconds";
    let until = value(&metrics, expiry).expect(&metrics);
    assert_eq!(until, (BEGIN + LIFETIME).as_secs());
    assert_eq!(
        value(&metrics, "meshwork_identity_rotations_total"),
        Some(0)
    );
    let next = root.issue("spiffe://td/order");
    own.rotate(next.identity());
    let metrics = mesh.metrics();
    assert_eq!(
        value(&metrics, "meshwork_identity_rotations_total"),
        Some(1)
    );
    let address = mesh.admin(([127, 0, 0, 1], 0).into()).await.unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = "GET /certs HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let body = answer.split_once("\r\n\r\n").expect(&answer).1;
    let json: serde_json::Value = serde_json::from_str(body).expect(body);
    let one = &json["certificates"][0];
    assert_eq!(one["identity"], "spiffe://td/order");
    assert_eq!(one["valid_until_unix"], until);
    assert_eq!(json["credentials"]["rotations"], 1);
    let key: String = next.key.lines().skip(1).take(1).collect();
    assert!(!answer.contains(&key) && !answer.contains("PRIVATE"));
}

#[tokio::test]
async fn a_mesh_without_an_identity_tells_of_none() {
    let mesh = Mesh::builder().start().await.unwrap();
    let metrics = mesh.metrics();
    let told = metrics
        .lines()
        .find(|line| line.starts_with("meshwork_identity_"));
    assert_eq!(told, None);
}

#[tokio::test]
async fn a3_a_refusal_is_a_metric_with_its_reason() {
    let (mut root, mut other) = (Authority::new("root"), Authority::new("other"));
    let own = credentials(&mut root, "spiffe://td/order");
    let builder = Mesh::builder().identity(own.clone()).clock(clock());
    let mesh = builder.start().await.unwrap();
    let stranger = other.issue("spiffe://td/x").identity();
    let stranger = Credentials::new(Some(stranger), trust(&root));
    let acceptor = Acceptor::new(own, clock());
    let (served, _) = handshake(&acceptor, &connector(&mesh_tls(), &stranger, clock())).await;
    assert!(served.is_err());
    let metrics = mesh.metrics();
    for line in [
        "meshwork_handshakes_total{outcome=\"refused\"} 1\n",
        "meshwork_handshakes_refused_total{reason=\"unknown_issuer\"} 1\n",
    ] {
        assert!(metrics.contains(line), "{line}{metrics}");
    }
}

#[tokio::test]
async fn credentials_under_a_name_have_metrics_of_their_own() {
    let mut root = Authority::new("root");
    let own = credentials(&mut root, "spiffe://td/order");
    let named = credentials(&mut root, "spiffe://td/partner");
    let builder = Mesh::builder().identity(own).clock(clock());
    let builder = builder.credential("partner", named.clone());
    let mesh = builder.start().await.unwrap();
    named.rotate(root.issue("spiffe://td/partner").identity());
    named.renewal_failed();
    let metrics = mesh.metrics();
    let until = (BEGIN + LIFETIME).as_secs();
    for line in [
        "meshwork_identity_rotations_total 0\n",
        "meshwork_identity_rotations_total{credentials=\"partner\"} 1\n",
        "meshwork_identity_renewal_failures_total{credentials=\"partner\"} 1\n",
        &format!("meshwork_identity_not_after_seconds{{credentials=\"partner\"}} {until}\n"),
        "meshwork_handshakes_total{credentials=\"partner\",outcome=\"accepted\"} 0\n",
    ] {
        assert!(metrics.contains(line), "{line}{metrics}");
    }
}

/// Whoever can connect could fill a disk otherwise.
#[tokio::test]
async fn who_shows_a_certificate_that_is_refused_is_logged_and_strangers_are_not() {
    let (log, _guard) = Log::listen();
    let (mut root, mut other) = (Authority::new("root"), Authority::new("other"));
    let own = credentials(&mut root, "spiffe://td/server");
    let server = ports::server(own, MutualTls::Strict).await;
    for stranger in [
        &b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"[..],
        b"\x16\x03\x01",
        b"",
    ] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(stranger).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        // A reset is as good an end.
        let _ = stream.read_to_end(&mut rest).await;
    }
    let caller = other.issue("spiffe://td/x").identity();
    let caller = Credentials::new(Some(caller), trust(&root));
    let anonymous = ClientTls {
        identity: None,
        ..mesh_tls()
    };
    for tls in [anonymous, mesh_tls()] {
        let stream = TcpStream::connect(server.address).await.unwrap();
        let connector = connector(&tls, &caller, clock());
        // What is read first tells of the refusal.
        if let Ok(mut stream) = connector.connect(stream, "127.0.0.1", Offer::Http2).await {
            let _ = stream.read_u8().await;
        }
    }
    log.until("unknown_issuer").await;
    let text = log.text();
    assert_eq!(text.matches("connection refused").count(), 1, "{text}");
}
