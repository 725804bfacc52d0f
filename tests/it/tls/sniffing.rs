//! Both kinds of peers on one port: rows B1, B2, B4, B5, B7 and B8 as far as one connection goes.

use std::time::Duration;

use meshwork::model::security::{ClientTls, MutualTls};
use meshwork::tls::{Acceptor, Credentials, Offer, Refusal, Trust, Unaccepted};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::authority::{Authority, clock, credentials};
use super::handshakes::{connector, mesh_tls, reason};

const MODES: [MutualTls; 3] = [MutualTls::Disable, MutualTls::Permissive, MutualTls::Strict];

async fn begin_with(mode: MutualTls, bytes: &[u8]) -> Result<Vec<u8>, Unaccepted> {
    let mut root = Authority::new("root");
    let own = credentials(&mut root, "spiffe://td/server");
    let (mut theirs, ours) = tokio::io::duplex(1 << 20);
    theirs.write_all(bytes).await.unwrap();
    theirs.shutdown().await.unwrap();
    let acceptor = Acceptor::new(own, clock());
    let mut accepted = acceptor.accept(ours, mode).await?;
    assert!(!accepted.known().tls);
    assert_eq!(
        accepted.known().principal,
        None,
        "a plaintext peer is nobody"
    );
    let mut all = Vec::new();
    accepted.read_to_end(&mut all).await.unwrap();
    Ok(all)
}

#[tokio::test(start_paused = true)]
async fn b1_b2_plaintext_is_refused_unread_or_handed_on_whole() {
    for request in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"x",
    ] {
        for mode in MODES {
            let outcome = begin_with(mode, request).await;
            match mode {
                MutualTls::Strict => assert!(matches!(outcome, Err(Unaccepted::Plaintext))),
                MutualTls::Disable | MutualTls::Permissive => {
                    assert_eq!(outcome.unwrap(), request, "{mode:?}");
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn b1_b2_tls_is_mutual_or_refused_and_never_anonymous() {
    let mut root = Authority::new("root");
    let own = credentials(&mut root, "spiffe://td/server");
    let good = credentials(&mut root, "spiffe://td/client");
    let foreign = Trust::default()
        .with_domain("td".parse().unwrap(), root.bundle())
        .with_domain("evil".parse().unwrap(), root.bundle());
    let foreign = Credentials::new(Some(root.issue("spiffe://evil/x").identity()), foreign);
    let anonymous = ClientTls {
        identity: None,
        ..mesh_tls()
    };
    for (row, client, tls, expected) in [
        ("mutual", &good, mesh_tls(), None),
        ("no certificate", &good, anonymous, Some("no_certificate")),
        (
            "another trust domain",
            &foreign,
            mesh_tls(),
            Some("wrong_trust_domain"),
        ),
    ] {
        for mode in MODES {
            let acceptor = Acceptor::new(own.clone(), clock());
            let connector = connector(&tls, client, clock());
            let (theirs, ours) = tokio::io::duplex(64 << 10);
            let (served, _) = tokio::join!(
                acceptor.accept(ours, mode),
                connector.connect(theirs, "a", Offer::Http1),
            );
            let place = format!("{row}, {mode:?}");
            match (mode, expected, served) {
                (MutualTls::Disable, _, Err(Unaccepted::Tls)) => {}
                (_, None, Ok(accepted)) => {
                    let principal = accepted.known().principal.as_ref();
                    assert_eq!(principal.unwrap().as_str(), "spiffe://td/client", "{place}");
                    assert_eq!(
                        accepted.known().alpn.as_deref(),
                        Some("http/1.1"),
                        "{place}"
                    );
                }
                (_, Some(reason), Err(unaccepted)) => {
                    assert_eq!(unaccepted.reason(), reason, "{place}")
                }
                (_, _, served) => panic!("{place}: {served:?}"),
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn b4_whoever_stalls_is_let_go_at_the_deadline() {
    let mut root = Authority::new("root");
    let own = credentials(&mut root, "spiffe://td/server");
    for bytes in [&b""[..], b"\x16", b"\x16\x03", b"\x16\x03\x01\x02\x00\x01"] {
        let (mut theirs, ours) = tokio::io::duplex(64);
        theirs.write_all(bytes).await.unwrap();
        let begun = Instant::now();
        let acceptor = Acceptor::new(own.clone(), clock());
        let unaccepted = acceptor
            .accept(ours, MutualTls::Permissive)
            .await
            .unwrap_err();
        assert!(
            matches!(unaccepted, Unaccepted::Elapsed(_)),
            "{unaccepted:?}"
        );
        assert_eq!(begun.elapsed(), Duration::from_secs(5), "{bytes:?}");
        assert_eq!(
            theirs.read(&mut [0; 8]).await.unwrap(),
            0,
            "the stream is closed"
        );
    }
    // A byte a second is no progress either.
    let (mut theirs, ours) = tokio::io::duplex(64);
    let drip = tokio::spawn(async move {
        let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
        for byte in hello {
            if theirs.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    let begun = Instant::now();
    let acceptor = Acceptor::new(own.clone(), clock()).with_deadline(Duration::from_secs(3));
    let unaccepted = acceptor.accept(ours, MutualTls::Strict).await.unwrap_err();
    assert!(
        matches!(unaccepted, Unaccepted::Elapsed(_)),
        "{unaccepted:?}"
    );
    assert_eq!(begun.elapsed(), Duration::from_secs(3));
    drip.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn b4_garbage_after_the_first_bytes_is_refused() {
    let garbage = [b"\x16\x03\x01\x00\x10".as_slice(), &[0xff; 16]].concat();
    for mode in [MutualTls::Permissive, MutualTls::Strict] {
        let unaccepted = begin_with(mode, &garbage).await.unwrap_err();
        assert!(
            matches!(unaccepted, Unaccepted::Refused(Refusal::Handshake(_))),
            "{unaccepted:?}"
        );
    }
    let endless = [0x16, 0x03, 0x01, 0x40, 0x00]
        .into_iter()
        .chain([1, 0xff, 0xff, 0xff]);
    let mut endless: Vec<u8> = endless.chain(std::iter::repeat_n(0, 16_380)).collect();
    endless = endless.repeat(20);
    let unaccepted = begin_with(MutualTls::Permissive, &endless)
        .await
        .unwrap_err();
    assert!(
        matches!(unaccepted, Unaccepted::Refused(_) | Unaccepted::Io(_)),
        "{unaccepted:?}"
    );
}

/// The ClientHello of our own client, with the hybrid key exchange, cut into records and segments.
#[tokio::test(start_paused = true)]
async fn b5_a_hello_is_tls_however_it_is_cut() {
    let mut root = Authority::new("root");
    let own = credentials(&mut root, "spiffe://td/server");
    let client = credentials(&mut root, "spiffe://td/client");
    let hello = hello(&client).await;
    assert!(
        hello.len() > 1_200,
        "{} bytes: no hybrid key exchange?",
        hello.len()
    );
    let body = &hello[5..];
    let records = |size: usize| -> Vec<u8> {
        let record = |part: &[u8]| {
            let length = u16::try_from(part.len()).unwrap().to_be_bytes();
            [&[0x16, 0x03, 0x01], &length[..], part].concat()
        };
        body.chunks(size).flat_map(record).collect()
    };
    for bytes in [hello.clone(), records(body.len() / 10 + 1), records(16)] {
        for segment in [1, 3, 512, bytes.len()] {
            let (mut theirs, ours) = tokio::io::duplex(64 << 10);
            let acceptor = Acceptor::new(own.clone(), clock());
            let segments = bytes.clone();
            let writing = async {
                for piece in segments.chunks(segment) {
                    theirs.write_all(piece).await.unwrap();
                    tokio::task::yield_now().await;
                }
                // The answer to a hello that was understood is a handshake record too.
                assert_eq!(theirs.read_u8().await.unwrap(), 0x16, "{segment}");
            };
            tokio::select! {
                outcome = acceptor.accept(ours, MutualTls::Permissive) => panic!("{outcome:?}"),
                () = writing => {}
            }
        }
    }
}

async fn hello(client: &Credentials) -> Vec<u8> {
    let (mut server, ours) = tokio::io::duplex(64 << 10);
    let connector = connector(&mesh_tls(), client, clock());
    let connecting = connector.connect(ours, "a", Offer::Http2);
    let reading = async {
        let mut header = [0; 5];
        server.read_exact(&mut header).await.unwrap();
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        let mut body = vec![0; length];
        server.read_exact(&mut body).await.unwrap();
        [&header[..], &body].concat()
    };
    tokio::select! {
        outcome = connecting => panic!("{outcome:?}"),
        hello = reading => hello,
    }
}

#[tokio::test(start_paused = true)]
async fn b7_whatever_a_network_answers_to_a_hello_nothing_is_sent_in_plaintext() {
    let mut root = Authority::new("root");
    let client = credentials(&mut root, "spiffe://td/client");
    for (row, answer) in [
        ("a reset", &b""[..]),
        ("plaintext", b"HTTP/1.1 200 OK\r\n\r\n"),
        ("an alert", b"\x15\x03\x01\x00\x02\x02\x28"),
    ] {
        let (mut network, ours) = tokio::io::duplex(64 << 10);
        let connector = connector(&mesh_tls(), &client, clock());
        let serving = async {
            let mut seen = vec![0; 5];
            network.read_exact(&mut seen).await.unwrap();
            network.write_all(answer).await.unwrap();
            network.shutdown().await.unwrap();
            network.read_to_end(&mut seen).await.unwrap();
            seen
        };
        let (outcome, seen) = tokio::join!(connector.connect(ours, "a", Offer::Http1), serving);
        let error = outcome.unwrap_err();
        assert!(seen.starts_with(b"\x16\x03"), "{row}");
        let text = String::from_utf8_lossy(&seen);
        assert!(!text.contains("HTTP/1.1\r\n"), "{row}: {text}");
        assert!(
            reason(&error).is_some() || answer.is_empty(),
            "{row}: {error:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn b8_the_two_sides_of_a_mismatch_both_know_what_it_was() {
    let mut root = Authority::new("root");
    let own = credentials(&mut root, "spiffe://td/server");
    let client = credentials(&mut root, "spiffe://td/client");
    let (theirs, ours) = tokio::io::duplex(64 << 10);
    let acceptor = Acceptor::new(own, clock());
    let connector = connector(&mesh_tls(), &client, clock());
    let serving = async { acceptor.accept(ours, MutualTls::Disable).await.map(drop) };
    let calling = connector.connect(theirs, "a", Offer::Http1);
    let (served, called) = tokio::join!(serving, calling);
    let served = served.unwrap_err();
    assert!(served.to_string().contains("DISABLE"), "{served}");
    called.unwrap_err();
}

/// In TLS 1.3 a client has done its part before the server has looked: it learns by what it reads.
#[tokio::test(start_paused = true)]
async fn b1_who_shows_no_certificate_is_told_so_by_an_alert() {
    let mut root = Authority::new("root");
    let own = credentials(&mut root, "spiffe://td/server");
    let client = credentials(&mut root, "spiffe://td/client");
    let anonymous = ClientTls {
        identity: None,
        ..mesh_tls()
    };
    let (theirs, ours) = tokio::io::duplex(64 << 10);
    let acceptor = Acceptor::new(own, clock());
    let connector = connector(&anonymous, &client, clock());
    let calling = async {
        let mut stream = connector.connect(theirs, "a", Offer::Http1).await?;
        stream.read_u8().await
    };
    let (served, told) = tokio::join!(acceptor.accept(ours, MutualTls::Strict), calling);
    assert_eq!(served.unwrap_err().reason(), "no_certificate");
    let told = format!("{:?}", told.unwrap_err());
    assert!(told.contains("CertificateRequired"), "{told}");
}

/// A hello of this many bytes: the one of our own client, with padding (RFC 7685).
fn padded(hello: &[u8], length: usize) -> Vec<u8> {
    let mut message = hello[5..].to_vec();
    // Type, length, version and random; then session, ciphers, compression, each behind its length.
    let mut at = 4 + 2 + 32;
    at += 1 + usize::from(message[at]);
    at += 2 + usize::from(u16::from_be_bytes([message[at], message[at + 1]]));
    at += 1 + usize::from(message[at]);
    let padding = length.checked_sub(message.len() + 4).unwrap();
    let padding = u16::try_from(padding).unwrap();
    // It may not stand last: the last extension of ours may be a pre-shared key's.
    message.splice(at + 2..at + 2, {
        let head = [&21_u16.to_be_bytes()[..], &padding.to_be_bytes()].concat();
        head.into_iter()
            .chain(std::iter::repeat_n(0, padding.into()))
    });
    let extensions = u16::try_from(message.len() - at - 2).unwrap();
    message[at..at + 2].copy_from_slice(&extensions.to_be_bytes());
    let whole = u32::try_from(message.len() - 4).unwrap().to_be_bytes();
    message[1..4].copy_from_slice(&whole[1..]);
    assert_eq!(message.len(), length);
    let record = |part: &[u8]| {
        let length = u16::try_from(part.len()).unwrap().to_be_bytes();
        [&[0x16, 0x03, 0x01], &length[..], part].concat()
    };
    message.chunks(16 << 10).flat_map(record).collect()
}

#[tokio::test(start_paused = true)]
async fn b5_a_hello_is_tls_however_long_it_is_and_refused_above_the_cap() {
    let mut root = Authority::new("root");
    let own = credentials(&mut root, "spiffe://td/server");
    let client = credentials(&mut root, "spiffe://td/client");
    let hello = hello(&client).await;
    for length in [8 << 10, 16 << 10, (16 << 10) + 1, 40 << 10] {
        let bytes = padded(&hello, length);
        let (mut theirs, ours) = tokio::io::duplex(128 << 10);
        let acceptor = Acceptor::new(own.clone(), clock());
        let writing = async {
            theirs.write_all(&bytes).await.unwrap();
            // The answer to a hello that was understood is a handshake record too.
            assert_eq!(theirs.read_u8().await.unwrap(), 0x16, "{length}");
        };
        tokio::select! {
            outcome = acceptor.accept(ours, MutualTls::Permissive) => panic!("{length}: {outcome:?}"),
            () = writing => {}
        }
    }
    // A hello that says it is longer than any may be: records of it until the port has had enough.
    let record = [&[0x16, 0x03, 0x01, 0x40, 0x00][..], &[0; 16 << 10]].concat();
    let mut endless = record.repeat(16);
    endless[5..9].copy_from_slice(&[1, 0xff, 0xff, 0xff]);
    for mode in [MutualTls::Permissive, MutualTls::Strict] {
        let refused = begin_with(mode, &endless).await.unwrap_err();
        let closed = matches!(refused, Unaccepted::Refused(_) | Unaccepted::Io(_));
        assert!(closed, "{mode:?}: {refused:?}");
    }
}
