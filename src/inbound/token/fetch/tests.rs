//! What is asked, and what is not: row C25.

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
