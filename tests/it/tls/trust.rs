//! Whose word counts, and what happens when that changes: rows A2, A3, A11, A12, A13, A16 and A17.

use meshwork::model::security::{ClientTls, MutualTls, Verification};
use meshwork::tls::{Acceptor, Bundle, Credentials, NotAnSvid, Offer, Refusal, Trust};
use rcgen::KeyPair;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::authority::{Authority, LIFETIME, clock, clock_at, credentials, dns, leaf, trust, uri};
use super::handshakes::{connector, handshake, mesh_tls, reason, refused};

fn domain(trust: Trust, name: &str, authority: &Authority) -> Trust {
    trust.with_domain(name.parse().unwrap(), authority.bundle())
}

/// What a server that trusts `trust` refuses a client of this authority for.
async fn refused_for(server: &Credentials, client: &Credentials) -> Option<Refusal> {
    let acceptor = Acceptor::new(server.clone(), clock());
    let (served, _) = handshake(&acceptor, &connector(&mesh_tls(), client, clock())).await;
    refused(&served)
}

#[tokio::test(start_paused = true)]
async fn a11_nobody_is_believed_whose_trust_domain_is_not_listed() {
    let mut root = Authority::new("root");
    let server = credentials(&mut root, "spiffe://td/server");
    let both = domain(trust(&root), "other", &root);
    let stranger = Credentials::new(Some(root.issue("spiffe://other/x").identity()), both);
    let found = refused_for(&server, &stranger).await;
    assert_eq!(found, Some(Refusal::WrongDomain("other".parse().unwrap())));
}

#[tokio::test(start_paused = true)]
async fn a12_a_trust_domain_cannot_issue_for_another() {
    let (mut a, b) = (Authority::new("a"), Authority::new("b"));
    let federated = domain(domain(Trust::default(), "td", &a), "b", &b);
    let server = Credentials::new(Some(a.issue("spiffe://td/x").identity()), federated.clone());
    let forged = Credentials::new(Some(a.issue("spiffe://b/x").identity()), federated);
    assert_eq!(
        refused_for(&server, &forged).await,
        Some(Refusal::UnknownIssuer)
    );
}

/// What a client of which only a chain is asked (gRFC A29) refuses a server for.
pub(super) async fn chain_refused_for(trust: Trust, server: &Credentials) -> Option<Refusal> {
    let tls = ClientTls {
        verification: Verification::Chain,
        ..mesh_tls()
    };
    let mut own = Authority::new("own");
    let client = Credentials::new(Some(own.issue("spiffe://td/client").identity()), trust);
    // The server believes the client, so that it is the client that refuses.
    server.trust(domain(Trust::default(), "td", &own));
    let acceptor = Acceptor::new(server.clone(), clock());
    let (_, called) = handshake(&acceptor, &connector(&tls, &client, clock())).await;
    called.err().map(|error| reason(&error).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a12_a_chain_is_judged_by_its_own_domain_as_soon_as_domains_are_known() {
    let (mut a, mut b) = (Authority::new("a"), Authority::new("b"));
    let both = Bundle::from_pem(format!("{}{}", a.pem(), b.pem()).as_bytes()).unwrap();
    let map = domain(domain(Trust::default(), "td", &a), "b", &b);
    let map = || map.clone();
    let show = |issued: crate::tls::authority::Issued| {
        Credentials::new(Some(issued.identity()), Trust::default())
    };
    let (forged, own) = (show(a.issue("spiffe://b/x")), show(b.issue("spiffe://b/x")));
    let stranger = show(a.issue("spiffe://c/x"));
    let unnamed = show(a.sign({
        let mut params = leaf("spiffe://td/x");
        params.subject_alt_names = vec![dns("td.example")];
        params
    }));
    let two = show(a.sign({
        let mut params = leaf("spiffe://td/x");
        params.subject_alt_names.push(uri("spiffe://td/y"));
        params
    }));
    let wrong = Some(Refusal::WrongDomain("c".parse().unwrap()));
    let names = |number| Some(NotAnSvid::Names(number).into());
    for (row, trust, server, expected) in [
        ("forged, map", map(), &forged, Some(Refusal::UnknownIssuer)),
        ("own, map", map(), &own, None),
        (
            "a domain that is not listed",
            map(),
            &stranger,
            wrong.clone(),
        ),
        ("no SPIFFE ID, map alone", map(), &unnamed, names(0)),
        ("two SPIFFE IDs", map(), &two, names(2)),
        (
            "forged, map and roots",
            map().with_roots(both.clone()),
            &forged,
            Some(Refusal::UnknownIssuer),
        ),
        (
            "not listed, map and roots",
            map().with_roots(both.clone()),
            &stranger,
            wrong,
        ),
        (
            "forged, roots and a map that lost its last domain",
            map()
                .with_roots(both.clone())
                .without_domain(&"td".parse().unwrap())
                .without_domain(&"b".parse().unwrap()),
            &forged,
            Some(Refusal::WrongDomain("b".parse().unwrap())),
        ),
        (
            "no SPIFFE ID, map and roots",
            map().with_roots(both.clone()),
            &unnamed,
            None,
        ),
        // gRFC A29: roots alone vouch for whomever they have signed.
        (
            "roots alone",
            Trust::default().with_roots(both.clone()),
            &forged,
            None,
        ),
        (
            "nobody",
            Trust::default(),
            &own,
            Some(Refusal::UnknownIssuer),
        ),
    ] {
        assert_eq!(chain_refused_for(trust, server).await, expected, "{row}");
    }
}

#[tokio::test(start_paused = true)]
async fn a13_domains_that_share_a_key_stay_apart() {
    let key = KeyPair::generate().unwrap();
    let pem = key.serialize_pem();
    let mut a = Authority::with_key("a", key);
    let mut b = Authority::with_key("b", KeyPair::from_pem(&pem).unwrap());
    let server = credentials(&mut a, "spiffe://td/x");
    let both = domain(domain(Trust::default(), "td", &a), "b", &b);
    let other = Credentials::new(Some(b.issue("spiffe://b/x").identity()), both.clone());
    let found = refused_for(&server, &other).await;
    assert_eq!(found, Some(Refusal::WrongDomain("b".parse().unwrap())));
    server.trust(both);
    assert_eq!(refused_for(&server, &other).await, None);
}

#[tokio::test(start_paused = true)]
async fn a2_a_root_is_replaced_in_three_steps_in_any_order_of_peers() {
    for order in [[0, 1], [1, 0]] {
        let (mut old, mut new) = (Authority::new("old"), Authority::new("new"));
        let peers = [
            credentials(&mut old, "spiffe://td/a"),
            credentials(&mut old, "spiffe://td/b"),
        ];
        let union = format!("{}{}", old.pem(), new.pem());
        let union = Bundle::from_pem(union.as_bytes()).unwrap();
        let mut step = 0;
        for phase in ["both roots", "new leaves", "new root"] {
            for peer in order.map(|index| &peers[index]) {
                match phase {
                    "both roots" => peer
                        .trust(Trust::default().with_domain("td".parse().unwrap(), union.clone())),
                    "new leaves" => peer.rotate(new.issue("spiffe://td/a").identity()),
                    _ => peer.trust(trust(&new)),
                };
                step += 1;
                for (server, client) in [(0, 1), (1, 0)] {
                    let found = refused_for(&peers[server], &peers[client]).await;
                    assert_eq!(found, None, "step {step} ({phase}), {order:?}");
                }
            }
        }
        let late = Credentials::new(Some(old.issue("spiffe://td/late").identity()), trust(&new));
        assert_eq!(
            refused_for(&peers[0], &late).await,
            Some(Refusal::UnknownIssuer)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a3_a_step_too_early_fails_closed_with_its_reason_and_heals() {
    let (mut old, new) = (Authority::new("old"), Authority::new("new"));
    let server = credentials(&mut old, "spiffe://td/server");
    let client = credentials(&mut old, "spiffe://td/client");
    server.trust(trust(&new));
    let found = refused_for(&server, &client).await.unwrap();
    assert_eq!(found.reason(), "unknown_issuer");
    assert_eq!(server.counts().refused, 1);
    server.trust(trust(&old));
    assert_eq!(refused_for(&server, &client).await, None);
}

#[tokio::test(start_paused = true)]
async fn a16_no_session_is_resumed_so_no_verification_is_skipped() {
    let mut root = Authority::new("root");
    let server = credentials(&mut root, "spiffe://td/server");
    let client = credentials(&mut root, "spiffe://td/client");
    let acceptor = Acceptor::new(server.clone(), clock());
    // One connector for both connections: if tickets were kept, it would have them.
    let connector = connector(&mesh_tls(), &client, clock());
    let (served, called) = handshake(&acceptor, &connector).await;
    assert!(served.is_ok() && called.is_ok());
    server.trust(Trust::default());
    let (served, _) = handshake(&acceptor, &connector).await;
    assert_eq!(
        refused(&served),
        Some(Refusal::WrongDomain("td".parse().unwrap()))
    );
}

#[tokio::test(start_paused = true)]
async fn a17_a_revoked_peer_is_cut_and_others_are_not() {
    let mut root = Authority::new("root");
    let mut middle = root.intermediate("middle");
    let server = credentials(&mut root, "spiffe://td/server");
    // Serial numbers: the intermediate has 1, the server 2.
    let one = credentials(&mut root, "spiffe://td/one");
    let other = credentials(&mut root, "spiffe://td/other");
    let issued = middle.issue("spiffe://td/below");
    let chain = format!("{}{}", issued.chain, middle.pem());
    let below = meshwork::tls::Identity::from_pem(chain.as_bytes(), issued.key.as_bytes());
    let below = Credentials::new(Some(below.unwrap()), trust(&root));
    let acceptor = Acceptor::new(server.clone(), clock());
    let mut streams = Vec::new();
    for client in [&one, &other, &below] {
        let (served, called) = handshake(&acceptor, &connector(&mesh_tls(), client, clock())).await;
        streams.push((served.unwrap(), called.unwrap()));
    }
    let revoking = |serials: &[u64]| {
        let bundle = root
            .bundle()
            .with_revocations(root.revoke(serials).as_bytes());
        Trust::default().with_domain("td".parse().unwrap(), bundle.unwrap())
    };
    // Somebody waits for bytes and is woken by the list alone.
    let (below, _below) = streams.pop().unwrap();
    let (mut other, mut other_end) = streams.pop().unwrap();
    let (mut one, _one) = streams.pop().unwrap();
    let waiting = tokio::spawn(async move { one.read_u8().await });
    tokio::task::yield_now().await;
    server.trust(revoking(&[3]));
    let error = waiting.await.unwrap().unwrap_err();
    assert_eq!(reason(&error), Some(Refusal::Revoked));
    assert_eq!(server.counts().cut, 1);

    let mut below = below;
    server.trust(revoking(&[1, 3]));
    let error = below.read_u8().await.unwrap_err();
    assert_eq!(
        reason(&error),
        Some(Refusal::Revoked),
        "its intermediate is revoked"
    );

    other_end.write_all(b"?").await.unwrap();
    other_end.flush().await.unwrap();
    assert_eq!(
        other.read_u8().await.unwrap(),
        b'?',
        "siblings are untouched"
    );
    assert_eq!(server.counts().cut, 2);
}

/// The list comes when the certificate was judged already and the handshake is not over.
#[tokio::test(start_paused = true)]
async fn a17_a_list_that_comes_in_the_middle_of_a_handshake_counts_for_it() {
    let mut root = Authority::new("root");
    let server = credentials(&mut root, "spiffe://td/server");
    // Serial numbers: the server has 1.
    let client = credentials(&mut root, "spiffe://td/one");
    let (theirs, mut from_client) = tokio::io::duplex(64 << 10);
    let (mut to_server, ours) = tokio::io::duplex(64 << 10);
    let connector = connector(&mesh_tls(), &client, clock());
    let calling = tokio::spawn(async move { connector.connect(theirs, "a", Offer::Http1).await });
    let acceptor = Acceptor::new(server.clone(), clock());
    let serving =
        tokio::spawn(async move { acceptor.accept(ours, MutualTls::Strict).await.map(drop) });
    // The client's hello, and the server's whole flight back.
    let mut bytes = vec![0; 32 << 10];
    let hello = from_client.read(&mut bytes).await.unwrap();
    to_server.write_all(&bytes[..hello]).await.unwrap();
    let called = tokio::spawn(async move {
        let called = calling.await.unwrap();
        called.map(drop)
    });
    while !called.is_finished() {
        tokio::select! {
            biased;
            flight = to_server.read(&mut bytes) => {
                from_client.write_all(&bytes[..flight.unwrap()]).await.unwrap();
            }
            () = tokio::task::yield_now() => {}
        }
    }
    called.await.unwrap().unwrap();
    // All that the client has said since, but its last byte: the server has judged its certificate.
    let said = from_client.read(&mut bytes).await.unwrap();
    to_server.write_all(&bytes[..said - 1]).await.unwrap();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!serving.is_finished());
    let bundle = root.bundle().with_revocations(root.revoke(&[2]).as_bytes());
    server.trust(Trust::default().with_domain("td".parse().unwrap(), bundle.unwrap()));
    to_server.write_all(&bytes[said - 1..said]).await.unwrap();
    let refused = serving.await.unwrap().unwrap_err();
    assert_eq!(refused.reason(), "revoked");
}

#[tokio::test(start_paused = true)]
async fn a_new_leaf_cuts_nobody_and_the_same_leaf_is_no_rotation() {
    let mut root = Authority::new("root");
    let server = credentials(&mut root, "spiffe://td/server");
    let client = credentials(&mut root, "spiffe://td/client");
    let acceptor = Acceptor::new(server.clone(), clock());
    let (served, called) = handshake(&acceptor, &connector(&mesh_tls(), &client, clock())).await;
    let (mut served, mut called) = (served.unwrap(), called.unwrap());
    let next = root.issue("spiffe://td/server").identity();
    assert_eq!(server.rotate(next.clone()), 2);
    assert_eq!(server.rotate(next), 2);
    assert_eq!(server.trust((*server.trusted()).clone()), 2);
    assert_eq!(
        (server.counts().rotations, server.counts().trust_changes),
        (1, 0)
    );
    called.write_all(b"?").await.unwrap();
    called.flush().await.unwrap();
    assert_eq!(served.read_u8().await.unwrap(), b'?');
}

#[tokio::test(start_paused = true)]
async fn a_peer_whose_root_left_has_time_to_end_and_no_more() {
    let (mut old, new) = (Authority::new("old"), Authority::new("new"));
    let server = credentials(&mut old, "spiffe://td/server");
    let client = credentials(&mut old, "spiffe://td/client");
    let acceptor = Acceptor::new(server.clone(), clock());
    let connecting = || async {
        let ends = handshake(&acceptor, &connector(&mesh_tls(), &client, clock())).await;
        (ends.0.unwrap(), ends.1.unwrap())
    };
    let (mut leaving, mut caller) = connecting().await;
    let (mut forgiven, mut other) = connecting().await;
    server.trust(trust(&new));
    for (here, there) in [(&mut leaving, &mut caller), (&mut forgiven, &mut other)] {
        there.write_all(b"?").await.unwrap();
        there.flush().await.unwrap();
        assert_eq!(here.read_u8().await.unwrap(), b'?', "it goes on");
    }
    assert_eq!((server.counts().disbelieved, server.counts().cut), (2, 0));
    let waiting = tokio::spawn(async move { leaving.read_u8().await });
    let started = tokio::time::Instant::now();
    let error = waiting.await.unwrap().unwrap_err();
    assert_eq!(reason(&error), Some(Refusal::UnknownIssuer));
    assert_eq!(started.elapsed().as_secs(), 45);
    assert_eq!(server.counts().cut, 1);
    // The clock has passed its end too, but the trust is back before anybody looks.
    server.trust(trust(&old));
    other.write_all(b"!").await.unwrap();
    other.flush().await.unwrap();
    assert_eq!(forgiven.read_u8().await.unwrap(), b'!');
    assert_eq!(server.counts().cut, 1);
}

#[tokio::test(start_paused = true)]
async fn a7_an_identity_that_has_expired_is_not_even_shown() {
    let mut root = Authority::new("root");
    let server = credentials(&mut root, "spiffe://td/server");
    let client = credentials(&mut root, "spiffe://td/client");
    let late = || clock_at(LIFETIME + std::time::Duration::from_secs(1));
    let acceptor = Acceptor::new(server.clone(), clock());
    let (_, called) = handshake(&acceptor, &connector(&mesh_tls(), &client, late())).await;
    assert_eq!(reason(&called.unwrap_err()), Some(Refusal::IdentityExpired));
    let acceptor = Acceptor::new(server, late());
    let (served, _) = handshake(&acceptor, &connector(&mesh_tls(), &client, clock())).await;
    assert_eq!(refused(&served), Some(Refusal::IdentityExpired));
}
