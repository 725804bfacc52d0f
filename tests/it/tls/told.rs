//! What is told of certificates: metrics and a page, and never a key.

use meshwork::Mesh;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::authority::{Authority, BEGIN, LIFETIME, clock, credentials};

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
    assert!(!mesh.metrics().contains("meshwork_identity_"));
}
