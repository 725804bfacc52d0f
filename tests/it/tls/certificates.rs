//! Which certificates are believed: rows A6, A9, A10, A14, A15 and A18 of the catalogue.

use std::time::Duration;

use meshwork::model::matcher::{Regex, StringMatcher};
use meshwork::model::security::{ClientTls, Sni, Verification};
use meshwork::tls::{Acceptor, Bundle, Clock, Credentials, Identity, Refusal, Trust};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};

use super::authority::{Authority, LIFETIME, clock, clock_at, credentials, dns, leaf, trust, uri};
use super::handshakes::{connector, handshake, mesh_tls, reason, refused};

/// What a server with this certificate is refused for.
async fn server_is_refused_for(
    root: &mut Authority,
    identity: Identity,
    tls: &ClientTls,
    clock: Clock,
) -> Option<Refusal> {
    // What the client shows outlives what is judged, and the server's own clock lets it begin.
    let mut lasting = leaf("spiffe://td/client");
    lasting.not_after = rcgen::date_time_ymd(2036, 1, 1);
    let client = Credentials::new(Some(root.sign(lasting).identity()), trust(root));
    let server = Credentials::new(Some(identity), trust(root));
    let good = super::authority::clock();
    let (_, called) = handshake(
        &Acceptor::new(server, good),
        &connector(tls, &client, clock),
    )
    .await;
    called
        .err()
        .map(|error| reason(&error).unwrap_or_else(|| panic!("no refusal: {error}")))
}

/// What a client with this certificate is refused for.
async fn client_is_refused_for(root: &mut Authority, identity: Identity) -> Option<Refusal> {
    let server = credentials(root, "spiffe://td/server");
    let client = Credentials::new(Some(identity), trust(root));
    let acceptor = Acceptor::new(server, clock());
    let (served, _) = handshake(&acceptor, &connector(&mesh_tls(), &client, clock())).await;
    match &served {
        Ok(_) => None,
        Err(_) => Some(refused(&served).unwrap_or_else(|| panic!("no refusal: {served:?}"))),
    }
}

#[tokio::test(start_paused = true)]
async fn a6_certificates_hold_from_their_first_to_their_last_second() {
    let mut root = Authority::new("root");
    let identity = root.issue("spiffe://td/server").identity();
    let second = Duration::from_secs(1);
    for (row, at, expected) in [
        (
            "a second before the begin",
            None,
            Some(Refusal::NotYetValid),
        ),
        ("the first second", Some(Duration::ZERO), None),
        ("the last second", Some(LIFETIME), None),
        (
            "a second too late",
            Some(LIFETIME + second),
            Some(Refusal::Expired),
        ),
    ] {
        let at = match at {
            Some(at) => clock_at(at),
            None => Clock::starting_at(std::time::UNIX_EPOCH + super::authority::BEGIN - second),
        };
        let found = server_is_refused_for(&mut root, identity.clone(), &mesh_tls(), at).await;
        assert_eq!(found, expected, "{row}");
    }
}

#[tokio::test(start_paused = true)]
async fn a6_clocks_may_be_apart_by_as_much_as_is_configured_and_no_more() {
    let mut root = Authority::new("root");
    let identity = root.issue("spiffe://td/server").identity();
    let (second, skew) = (Duration::from_secs(1), Duration::from_secs(10));
    let begin = std::time::UNIX_EPOCH + super::authority::BEGIN;
    for (row, at, expected) in [
        ("the skew before the begin", begin - skew, None),
        (
            "a second more",
            begin - skew - second,
            Some(Refusal::NotYetValid),
        ),
        ("the skew after the end", begin + LIFETIME + skew, None),
        (
            "a second more",
            begin + LIFETIME + skew + second,
            Some(Refusal::Expired),
        ),
    ] {
        let at = Clock::starting_at(at).with_skew(skew);
        let found = server_is_refused_for(&mut root, identity.clone(), &mesh_tls(), at).await;
        assert_eq!(found, expected, "{row}");
    }
    let most = Clock::system().with_skew(Duration::MAX).skew();
    assert_eq!(most, Duration::from_secs(3_600));
}

fn named(names: Vec<rcgen::SanType>) -> CertificateParams {
    let mut params = leaf("spiffe://td/x");
    params.subject_alt_names = names;
    params
}

#[tokio::test(start_paused = true)]
async fn a9_exactly_one_spiffe_id_is_an_identity() {
    let mut root = Authority::new("root");
    let long = format!("spiffe://td/{}", "a".repeat(2_049 - 12));
    let wide = format!("spiffe://{}/a", "d".repeat(256));
    for (row, names) in [
        ("two URIs", vec![uri("spiffe://td/a"), uri("spiffe://td/b")]),
        (
            "a SPIFFE ID and another URI",
            vec![uri("spiffe://td/a"), uri("https://td/a")],
        ),
        ("no URI", vec![dns("td.example")]),
        ("no name", vec![]),
        ("another scheme", vec![uri("https://td/a")]),
        ("no path", vec![uri("spiffe://td")]),
        ("upper case", vec![uri("spiffe://TD/a")]),
        ("trailing slash", vec![uri("spiffe://td/a/")]),
        ("two slashes", vec![uri("spiffe://td//a")]),
        ("an escape", vec![uri("spiffe://td/%2e")]),
        ("2,049 bytes", vec![uri(&long)]),
        ("256 bytes of trust domain", vec![uri(&wide)]),
        ("NUL", vec![uri("spiffe://td/a\0b")]),
    ] {
        let identity = root.sign(named(names)).identity();
        assert_eq!(identity.id(), None, "{row}");
        let found = client_is_refused_for(&mut root, identity).await;
        assert!(
            matches!(found, Some(Refusal::NotAnSvid(_))),
            "{row}: {found:?}"
        );
    }
    let both = root
        .sign(named(vec![uri("spiffe://td/a"), dns("a.example")]))
        .identity();
    assert_eq!(
        client_is_refused_for(&mut root, both).await,
        None,
        "a URI and a DNS name"
    );
}

#[tokio::test(start_paused = true)]
async fn a10_a_leaf_may_do_nothing_but_be_somebody() {
    use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
    use KeyUsagePurpose::{CrlSign, DigitalSignature, KeyCertSign, KeyEncipherment};
    let mut root = Authority::new("root");
    let with = |change: &dyn Fn(&mut CertificateParams)| {
        let mut params = leaf("spiffe://td/x");
        change(&mut params);
        params
    };
    for (row, params, expected) in [
        (
            "a CA",
            with(&|p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
            "not_an_svid",
        ),
        (
            "no basic constraints",
            with(&|p| p.is_ca = IsCa::NoCa),
            "not_an_svid",
        ),
        (
            "signs certificates",
            with(&|p| p.key_usages = vec![DigitalSignature, KeyCertSign]),
            "not_an_svid",
        ),
        (
            "signs lists",
            with(&|p| p.key_usages = vec![DigitalSignature, CrlSign]),
            "not_an_svid",
        ),
        (
            "no key usage",
            with(&|p| p.key_usages = Vec::new()),
            "not_an_svid",
        ),
        (
            "cannot sign",
            with(&|p| p.key_usages = vec![KeyEncipherment]),
            "not_an_svid",
        ),
        (
            "key usage is not critical",
            with(&|p| {
                p.key_usages = Vec::new();
                // BIT STRING with digitalSignature alone, and `critical` left out.
                let usage = rcgen::CustomExtension::from_oid_content(
                    &[2, 5, 29, 15],
                    vec![0x03, 0x02, 0x07, 0x80],
                );
                p.custom_extensions.push(usage);
            }),
            "not_an_svid",
        ),
        (
            "for servers only, used as a client",
            with(&|p| p.extended_key_usages = vec![ServerAuth]),
            "wrong_purpose",
        ),
    ] {
        let identity = root.sign(params).identity();
        let found = client_is_refused_for(&mut root, identity).await;
        assert_eq!(
            found.map(|refusal| refusal.reason()),
            Some(expected),
            "{row}"
        );
    }
    let client_only = with(&|p| p.extended_key_usages = vec![ClientAuth]);
    let identity = root.sign(client_only).identity();
    let found = server_is_refused_for(&mut root, identity, &mesh_tls(), clock()).await;
    assert_eq!(
        found,
        Some(Refusal::WrongPurpose),
        "for clients only, used as a server"
    );
    let any = with(&|p| p.extended_key_usages = Vec::new());
    let identity = root.sign(any).identity();
    assert_eq!(
        client_is_refused_for(&mut root, identity).await,
        None,
        "no extended key usage"
    );
}

fn matching(names: Vec<StringMatcher>) -> ClientTls {
    ClientTls {
        names,
        ..mesh_tls()
    }
}

#[tokio::test(start_paused = true)]
async fn a14_the_server_must_have_a_name_that_is_expected() {
    use StringMatcher::{Contains, Exact, Prefix, Suffix};
    let mut root = Authority::new("root");
    let id = "spiffe://td/ns/my-app/sa/catalog";
    let mut params = leaf(id);
    params.subject_alt_names.push(dns("*.my-app.example"));
    let identity = root.sign(params).identity();
    let regex = |pattern| StringMatcher::Regex(Regex::new(pattern).unwrap());
    for (row, names, accepted) in [
        ("exact", vec![Exact(id.into())], true),
        (
            "one of two",
            vec![Exact("spiffe://td/b".into()), Exact(id.into())],
            true,
        ),
        (
            "exact, another",
            vec![Exact("spiffe://td/ns/my-app/sa/catalo".into())],
            false,
        ),
        (
            "prefix",
            vec![Prefix("spiffe://td/ns/my-app/".into())],
            true,
        ),
        (
            "prefix, another",
            vec![Prefix("spiffe://td/ns/other/".into())],
            false,
        ),
        ("suffix", vec![Suffix("/sa/catalog".into())], true),
        ("suffix, another", vec![Suffix("/sa/order".into())], false),
        ("contains", vec![Contains("/my-app/".into())], true),
        ("contains, another", vec![Contains("/other/".into())], false),
        (
            "regex",
            vec![regex("spiffe://td/ns/[a-z-]+/sa/catalog")],
            true,
        ),
        ("a regex matches as a whole", vec![regex("catalog")], false),
        (
            "a wildcard of the certificate",
            vec![Exact("a.my-app.example".into())],
            true,
        ),
        (
            "a wildcard is one label",
            vec![Exact("a.b.my-app.example".into())],
            false,
        ),
        (
            "a wildcard is no empty label",
            vec![Exact(".my-app.example".into())],
            false,
        ),
    ] {
        let tls = matching(names);
        let found = server_is_refused_for(&mut root, identity.clone(), &tls, clock()).await;
        match (accepted, found) {
            (true, None) => {}
            (false, Some(Refusal::WrongName { found })) => assert_eq!(&*found[0], id, "{row}"),
            (_, found) => panic!("{row}: {found:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a15_identity_is_decided_by_names_and_never_by_what_was_asked_for() {
    let mut root = Authority::new("root");
    let identity = root.issue("spiffe://td/catalog").identity();
    for sni in [
        Sni::Nobody,
        Sni::Endpoint,
        Sni::Name("other.example".into()),
    ] {
        let tls = ClientTls {
            sni,
            ..matching(vec![StringMatcher::Exact("spiffe://td/catalog".into())])
        };
        let found = server_is_refused_for(&mut root, identity.clone(), &tls, clock()).await;
        assert_eq!(found, None, "{:?}", tls.sni);
    }
    // A name that was asked for and that the certificate has proves nothing in a mesh.
    let mut params = leaf("spiffe://td/other");
    params.subject_alt_names.push(dns("catalog.example"));
    let identity = root.sign(params).identity();
    let tls = ClientTls {
        sni: Sni::Name("catalog.example".into()),
        ..matching(vec![StringMatcher::Exact("spiffe://td/catalog".into())])
    };
    let found = server_is_refused_for(&mut root, identity, &tls, clock()).await;
    assert!(
        matches!(found, Some(Refusal::WrongName { .. })),
        "{found:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn servers_outside_of_a_mesh_are_judged_by_chain_and_name() {
    let mut root = Authority::new("root");
    let mut params = leaf("https://ignored.example/");
    params.subject_alt_names = vec![dns("api.example")];
    let identity = root.sign(params).identity();
    let client = credentials(&mut root, "spiffe://td/client");
    let server = Credentials::new(Some(identity), trust(&root));
    let acceptor = Acceptor::new(server, clock());
    let asking = |name: &str| ClientTls {
        verification: Verification::Name,
        sni: Sni::Name(name.into()),
        ..mesh_tls()
    };
    let (_, called) = handshake(
        &acceptor,
        &connector(&asking("api.example"), &client, clock()),
    )
    .await;
    let found = reason(&called.unwrap_err());
    assert_eq!(
        found,
        Some(Refusal::UnknownIssuer),
        "roots of trust domains are for SPIFFE IDs only"
    );
    client.trust(trust(&root).with_roots(root.bundle()));
    let (_, called) = handshake(
        &acceptor,
        &connector(&asking("api.example"), &client, clock()),
    )
    .await;
    called.unwrap();
    let (_, called) = handshake(
        &acceptor,
        &connector(&asking("b.example"), &client, clock()),
    )
    .await;
    let found = reason(&called.unwrap_err());
    assert!(
        matches!(found, Some(Refusal::WrongName { .. })),
        "{found:?}"
    );
}

#[tokio::test]
async fn a18_strange_chains_are_judged_within_bounds_and_by_policy() {
    let mut root = Authority::new("root");
    // Candidates for one issuer without end: same name, other keys.
    let mut twins = String::new();
    for _ in 0..15 {
        twins.push_str(Authority::new("root").pem());
    }
    let stranger = Authority::new("root").issue("spiffe://td/x");
    let tangled = meshwork::tls::Identity::from_pem(
        format!("{}{twins}", stranger.chain).as_bytes(),
        stranger.key.as_bytes(),
    );
    // Who would follow each of them would not come back: webpki stops after a hundred signatures.
    let found = client_is_refused_for(&mut root, tangled.unwrap()).await;
    assert!(
        matches!(found, Some(Refusal::UnknownIssuer | Refusal::Signature(_))),
        "{found:?}"
    );

    let issued = root.issue("spiffe://td/x");
    let hundred = format!("{}{}", issued.chain, root.pem().repeat(99));
    let long = Identity::from_pem(hundred.as_bytes(), issued.key.as_bytes()).unwrap();
    let found = client_is_refused_for(&mut root, long).await;
    assert!(
        matches!(found, Some(Refusal::Malformed(_) | Refusal::Handshake(_))),
        "{found:?}"
    );

    for (row, algorithm) in [
        ("P-384", &rcgen::PKCS_ECDSA_P384_SHA384),
        ("Ed25519", &rcgen::PKCS_ED25519),
        ("P-521", &rcgen::PKCS_ECDSA_P521_SHA512),
    ] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let identity = root.sign_key(leaf("spiffe://td/x"), key).identity();
        assert_eq!(
            client_is_refused_for(&mut root, identity).await,
            None,
            "{row}"
        );
    }
}

/// Chains that `rcgen` does not make, valid until 2036: roots of RSA with 1,024 and 2,048 bits, and leaves that they have
/// signed with SHA-256 or SHA-1.
macro_rules! made {
    ($name:literal) => {
        [
            include_str!(concat!("weak/", $name, ".crt")),
            include_str!(concat!("weak/", $name, ".key")),
            include_str!(concat!("weak/", $name, "-root.crt")),
        ]
    };
}

#[tokio::test(start_paused = true)]
async fn a18_short_keys_and_old_hashes_prove_nothing() {
    for (row, [chain, key, root], believed) in [
        ("RSA of 2,048 bits, SHA-256", made!("good"), true),
        ("RSA of 1,024 bits", made!("rsa1024"), false),
        ("SHA-1", made!("sha1"), false),
    ] {
        let mut own = Authority::new("own");
        let identity = Identity::from_pem(chain.as_bytes(), key.as_bytes()).unwrap();
        let bundle = Bundle::from_pem(root.as_bytes()).unwrap();
        let client = Credentials::new(Some(identity), trust(&own));
        let server = own.issue("spiffe://td/server").identity();
        let believes = Trust::default().with_domain("td".parse().unwrap(), bundle);
        let acceptor = Acceptor::new(Credentials::new(Some(server), believes), clock());
        let (served, _) = handshake(&acceptor, &connector(&mesh_tls(), &client, clock())).await;
        let found = refused(&served);
        match believed {
            true => assert!(served.is_ok(), "{row}: {served:?}"),
            false => assert!(
                matches!(found, Some(Refusal::Signature(_))),
                "{row}: {found:?}"
            ),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a18_a_certificate_beyond_the_bound_is_refused() {
    let mut root = Authority::new("root");
    for size in [64 << 10, 600 << 10] {
        let mut params = leaf("spiffe://td/y");
        let padding = vec![0; size];
        let extension = rcgen::CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 1], padding);
        params.custom_extensions.push(extension);
        // Behind a good leaf: this side would not show a leaf of this size.
        let own = root.issue("spiffe://td/x");
        let chain = format!("{}{}", own.chain, root.sign(params).chain);
        let own = Identity::from_pem(chain.as_bytes(), own.key.as_bytes()).unwrap();
        let client = Credentials::new(Some(own), trust(&root));
        let server = credentials(&mut root, "spiffe://td/server");
        let acceptor = Acceptor::new(server.clone(), clock());
        let (served, _) = handshake(&acceptor, &connector(&mesh_tls(), &client, clock())).await;
        served.unwrap_err();
        let reasons = server.refusals();
        let known = ["handshake", "io", "malformed"];
        let one = reasons.keys().all(|reason| known.contains(reason));
        assert!(one && reasons.len() == 1, "{size}: {reasons:?}");
    }
}
