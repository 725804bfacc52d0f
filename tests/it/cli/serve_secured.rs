//! `meshwork serve` behind TLS: whom it lets in, by its flags.

use std::net::SocketAddr;
use std::path::Path;

use meshwork::control::Kind;
use meshwork::tls::Credentials;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::process::run;
use super::serve::{SERVICE, start};
use crate::control::secured::{connect, credentials};
use crate::control::world::{Sotw, endpoint};
use crate::tls::authority::{Authority, leaf, trust};

/// A folder to serve, and the files of a server whose certificate is of an authority.
struct Files {
    folder: tempfile::TempDir,
    authority: Authority,
}

impl Files {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut authority = Authority::new("root");
        let mut own = leaf("spiffe://td/ns/mesh/sa/control");
        own.not_after = rcgen::date_time_ymd(2036, 1, 1);
        let own = authority.sign(own);
        for (name, text) in [
            ("mesh.yaml", SERVICE),
            ("crt.pem", &own.chain),
            ("key.pem", &own.key),
            ("roots.pem", authority.pem()),
        ] {
            std::fs::write(folder.path().join(name), text).expect("a file");
        }
        Self { folder, authority }
    }

    fn path(&self, name: &str) -> String {
        let path: &Path = self.folder.path();
        path.join(name).display().to_string()
    }

    /// A server with these of its files after its flags.
    async fn serve(&self, flags: &[(&str, &str)]) -> (tokio::process::Child, SocketAddr) {
        let mesh = self.path("mesh.yaml");
        let mut all = ["serve", "--config", &mesh, "--listen", "127.0.0.1:0"]
            .map(str::to_owned)
            .to_vec();
        for (flag, name) in flags {
            all.extend([(*flag).to_owned(), self.path(name)]);
        }
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        start(&all).await
    }
}

/// Whether somebody with these credentials is answered. In TLS 1.3 a client learns of a refusal with
/// the first answer.
async fn answered(address: SocketAddr, own: &Credentials) -> bool {
    let Ok(channel) = connect(address, own).await else {
        return false;
    };
    let mut client = HealthClient::new(channel);
    client.check(HealthCheckRequest::default()).await.is_ok()
}

/// The same in plaintext.
async fn answered_in_plaintext(address: SocketAddr) -> bool {
    let Ok(channel) = endpoint(address).connect().await else {
        return false;
    };
    let mut client = HealthClient::new(channel);
    client.check(HealthCheckRequest::default()).await.is_ok()
}

const CERTIFICATE: (&str, &str) = ("--tls-certificate", "crt.pem");
const KEY: (&str, &str) = ("--tls-key", "key.pem");
const ROOTS: (&str, &str) = ("--tls-roots", "roots.pem");

#[tokio::test]
async fn with_roots_clients_must_show_a_certificate_of_theirs() {
    let mut files = Files::new();
    let (_child, address) = files.serve(&[CERTIFICATE, KEY, ROOTS]).await;
    let client = credentials(&mut files.authority, "spiffe://td/ns/my-app/sa/order");
    assert!(answered(address, &client).await);
    let channel = connect(address, &client).await.expect("it is believed");
    let mut stream = Sotw::open(channel).await;
    stream
        .ask(
            Kind::Cluster,
            &["outbound|80||catalog.my-app.svc.cluster.local"],
        )
        .await;
    let response = stream.next().await.expect("its view");
    assert_eq!(response.resources.len(), 1);
    let nobody = Credentials::new(None, trust(&files.authority));
    assert!(!answered(address, &nobody).await, "no certificate");
    let mut foreign = Authority::new("another root");
    let stranger = credentials(&mut foreign, "spiffe://td/ns/my-app/sa/order");
    let stranger = Credentials::new(stranger.identity(), trust(&files.authority));
    assert!(!answered(address, &stranger).await, "one of another root");
    assert!(!answered_in_plaintext(address).await);
}

#[tokio::test]
async fn without_roots_clients_show_none_and_know_the_server() {
    let files = Files::new();
    let (_child, address) = files.serve(&[CERTIFICATE, KEY]).await;
    let nobody = Credentials::new(None, trust(&files.authority));
    assert!(answered(address, &nobody).await);
    let elsewhere = Credentials::new(None, trust(&Authority::new("another root")));
    assert!(
        !answered(address, &elsewhere).await,
        "the client believes others"
    );
    assert!(!answered_in_plaintext(address).await);
}

#[tokio::test]
async fn flags_that_lack_their_other_half_are_refused() {
    for (flags, missing) in [
        (&["--tls-certificate", "x"][..], "--tls-key"),
        (&["--tls-key", "x"], "--tls-certificate"),
        (&["--tls-roots", "x"], "--tls-certificate"),
    ] {
        let output = run(&[&["serve", "--config", "."], flags].concat()).await;
        assert_eq!(output.status.code(), Some(2), "{flags:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(missing), "{said}");
    }
}
