//! Keys stay where they are (row A20), and what cannot be used is refused (row A4).

use std::fs;
use std::process::Command;

use meshwork::tls::{Acceptor, Bundle, Credentials, Identity};

use super::authority::{Authority, clock, credentials, trust};
use super::handshakes::{connector, mesh_tls};

/// Parts of a key as they would look in a dump: its PEM lines and its bytes in hexadecimal.
fn traces(key: &str) -> Vec<String> {
    let lines = key.lines().filter(|line| !line.starts_with("-----"));
    lines.map(str::to_owned).collect()
}

#[test]
fn a20_no_form_of_a_key_is_in_any_debug_text() {
    let mut root = Authority::new("root");
    let issued = root.issue("spiffe://td/a");
    let identity = issued.identity();
    let own = Credentials::new(Some(identity.clone()), trust(&root));
    let acceptor = Acceptor::new(own.clone(), clock_now());
    let connector = connector(&mesh_tls(), &own, clock_now());
    let texts = [
        format!("{identity:?}"),
        format!("{identity:#?}"),
        format!("{own:?}"),
        format!("{acceptor:?}"),
        format!("{connector:?}"),
    ];
    assert!(texts[0].contains("spiffe://td/a"), "{}", texts[0]);
    let traces = traces(&issued.key);
    assert!(traces.len() > 1);
    for text in texts {
        for trace in &traces {
            assert!(!text.contains(trace.as_str()), "{text}");
        }
    }
    let broken = issued.key.replace("PRIVATE", "PRIVATE ");
    let error = Identity::from_pem(issued.chain.as_bytes(), broken.as_bytes()).unwrap_err();
    for trace in &traces {
        assert!(!error.to_string().contains(trace.as_str()), "{error}");
    }
}

fn clock_now() -> meshwork::tls::Clock {
    meshwork::tls::Clock::system()
}

/// The environment of a process cannot be changed safely within it, so this test runs itself again.
#[test]
fn a20_no_key_log_is_written() {
    const INNER: &str = "MESHWORK_TEST_KEY_LOG";
    if std::env::var_os(INNER).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut root = Authority::new("root");
            let own = credentials(&mut root, "spiffe://td/a");
            let acceptor = Acceptor::new(own.clone(), clock());
            let connector = connector(&mesh_tls(), &own, clock());
            let (served, called) = super::handshakes::handshake(&acceptor, &connector).await;
            assert!(served.is_ok() && called.is_ok());
        });
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("keys");
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tls::secrets::a20_no_key_log_is_written"])
        .env(INNER, "1")
        .env("SSLKEYLOGFILE", &log)
        .status()
        .unwrap();
    assert!(status.success());
    assert!(fs::metadata(&log).is_err(), "a key log was written");
}

#[test]
fn a4_a_key_of_another_certificate_is_refused_and_told_why() {
    let mut root = Authority::new("root");
    let (one, other) = (root.issue("spiffe://td/a"), root.issue("spiffe://td/a"));
    for (row, chain, key, expected) in [
        (
            "torn",
            &*one.chain,
            &*other.key,
            "does not belong to the first certificate",
        ),
        (
            "no certificate",
            &*one.key,
            &*one.key,
            "no PEM block CERTIFICATE",
        ),
        (
            "no key",
            &*one.chain,
            &*one.chain,
            "no PEM block PRIVATE KEY",
        ),
        ("empty", "", &*one.key, "the text is empty"),
        (
            "not PEM",
            "cert-chain-pem",
            &*one.key,
            "no PEM block CERTIFICATE",
        ),
    ] {
        let error = Identity::from_pem(chain.as_bytes(), key.as_bytes()).unwrap_err();
        assert!(error.to_string().contains(expected), "{row}: {error}");
    }
    let half = &one.chain[..one.chain.len() / 2];
    assert!(Identity::from_pem(half.as_bytes(), one.key.as_bytes()).is_err());
    assert!(Bundle::from_pem(b"x").is_err());
    assert!(
        root.bundle()
            .with_revocations(one.chain.as_bytes())
            .is_err()
    );
    let huge = "x".repeat((1 << 20) + 1);
    let error = Bundle::from_pem(huge.as_bytes()).unwrap_err();
    assert!(error.to_string().contains("1048576"), "{error}");
}

#[cfg(feature = "inbound")]
#[tokio::test]
async fn k5_nothing_that_an_operator_asks_for_has_a_key() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut root = Authority::new("root");
    let issued = root.issue("spiffe://td/a");
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let (key, chain) = (
        write("key.pem", &issued.key),
        write("chain.pem", &issued.chain),
    );
    let yaml = format!(
        "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: a, namespace: default}}
spec:
  hosts: [a.default.svc.cluster.local]
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  resolution: STATIC
  endpoints: [{{address: 127.0.0.1}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: a, namespace: default}}
spec:
  host: a.default.svc.cluster.local
  trafficPolicy:
    tls: {{mode: MUTUAL, clientCertificate: {}, privateKey: {}, caCertificates: {}}}
",
        chain.display(),
        key.display(),
        chain.display()
    );
    let mesh_yaml = write("mesh.yaml", &yaml);
    let own = Credentials::new(Some(issued.identity()), trust(&root));
    let builder = meshwork::Mesh::builder().yaml(mesh_yaml).identity(own);
    let mesh = builder.start().await.unwrap();
    let admin = mesh.admin("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let traces = traces(&issued.key);
    for path in [
        "/config_dump",
        "/clusters",
        "/stats/prometheus",
        "/server_info",
        "/ready",
        "/",
    ] {
        let mut stream = tokio::net::TcpStream::connect(admin).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert!(text.len() > 40, "{path}: {text}");
        for trace in &traces {
            assert!(!text.contains(trace.as_str()), "{path}: {text}");
        }
    }
}
