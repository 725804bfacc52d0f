//! What is signed, and what is not: rows K1, K2 and K7.

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};

use super::*;
use crate::tls::Verification;
use crate::tls::certificate::Leaf;
use crate::tls::provider::provider;
use crate::tls::trust::Trust;
use crate::tls::verify::{Checks, Usage, verify};

const NOW: Duration = Duration::from_secs(1_800_000_000);
const HOUR: Duration = Duration::from_secs(3_600);

fn domain() -> TrustDomain {
    "td".parse().unwrap()
}

fn id() -> SpiffeId {
    "spiffe://td/ns/my-app/sa/order".parse().unwrap()
}

fn authority() -> Authority {
    Authority::generate(domain(), NOW).unwrap()
}

fn request(params: CertificateParams, key: &KeyPair) -> String {
    params.serialize_request(key).unwrap().pem().unwrap()
}

fn plain() -> CertificateRequest {
    let text = request(CertificateParams::default(), &KeyPair::generate().unwrap());
    CertificateRequest::from_pem(&text).unwrap()
}

fn leaf(signed: &Signed) -> Leaf {
    let chain = crate::tls::pem::certificates("x", signed.certificate.as_bytes()).unwrap();
    Leaf::read(&chain[0]).unwrap()
}

/// Who a certificate is by the trust of an authority.
fn believed(by: &Authority, signed: &Signed, at: Duration) -> Result<String, String> {
    let chain = crate::tls::pem::certificates("x", signed.certificate.as_bytes()).unwrap();
    let trust = Trust::default().with_domain(domain(), by.bundle().clone());
    let checks = Checks {
        verification: Verification::Svid,
        names: Vec::new(),
        usage: Usage::Client,
        skew: Duration::ZERO,
    };
    let algorithms = provider().signature_verification_algorithms;
    let at = rustls::pki_types::UnixTime::since_unix_epoch(at);
    let proven = verify(&checks, &chain, None, &trust, algorithms, at);
    let proven = proven.map_err(|refusal| refusal.reason().to_owned())?;
    Ok(proven.id.unwrap().to_string())
}

#[test]
fn k1_only_the_key_of_a_request_is_taken() {
    let authority = authority();
    let key = KeyPair::generate().unwrap();
    let mut greedy = CertificateParams::new(["admin.example".to_owned()]).unwrap();
    let other = "spiffe://td/ns/bank/sa/admin".try_into().unwrap();
    greedy.subject_alt_names.push(SanType::URI(other));
    greedy.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    greedy.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let asked = CertificateRequest::from_pem(&request(greedy, &key)).unwrap();
    let signed = authority.sign(&asked, &id(), HOUR, NOW).unwrap();
    assert_eq!(believed(&authority, &signed, NOW), Ok(id().to_string()));
    let leaf = leaf(&signed);
    assert_eq!((leaf.uris.len(), leaf.dns.len()), (1, 0));
    assert_eq!(leaf.subject.as_ref(), "");
}

#[test]
fn k1_keys_of_every_good_kind_are_signed() {
    let authority = authority();
    for algorithm in [&PKCS_ECDSA_P384_SHA384, &PKCS_ED25519] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let text = request(CertificateParams::default(), &key);
        let asked = CertificateRequest::from_pem(&text).unwrap();
        let signed = authority.sign(&asked, &id(), HOUR, NOW).unwrap();
        assert!(believed(&authority, &signed, NOW).is_ok());
        let mut chain = Vec::new();
        chain.extend(crate::tls::pem::certificates("x", signed.certificate.as_bytes()).unwrap());
        let der = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        Identity::new(chain, der).expect("the key is that of the request");
    }
}

#[test]
fn k1_what_is_no_request_or_of_a_weak_key_is_refused() {
    let key = KeyPair::generate().unwrap();
    let good = request(CertificateParams::default(), &key);
    let forged = {
        use base64::Engine;
        let engine = base64::engine::general_purpose::STANDARD;
        let body: String = good.lines().filter(|line| !line.starts_with('-')).collect();
        let mut der = engine.decode(body).unwrap();
        let last = der.len() - 1;
        der[last] ^= 1;
        pem("CERTIFICATE REQUEST", &engine.encode(der))
    };
    let long = format!("{good}{}", "\n".repeat(1 << 20));
    for (row, text, expected) in [
        ("nothing", "", "holds no PEM block CERTIFICATE REQUEST"),
        (
            "a certificate",
            include_str!("testdata/none.pem"),
            "holds no PEM block",
        ),
        (
            "a bad signature",
            &forged,
            "its signature is not that of its key",
        ),
        ("1 MiB", &long, "at most 16384 are allowed"),
        (
            "RSA-1024",
            include_str!("testdata/rsa1024.csr"),
            "its key must be",
        ),
        (
            "P-224",
            include_str!("testdata/p224.csr"),
            "its key must be",
        ),
    ] {
        let error = CertificateRequest::from_pem(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{row}: {error}");
    }
}

fn pem(label: &str, body: &str) -> String {
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}

#[test]
fn k2_a_lifetime_never_exceeds_that_of_the_root() {
    let authority = authority();
    let signed = authority.sign(&plain(), &id(), HOUR, NOW).unwrap();
    assert_eq!(leaf(&signed).not_after, NOW + HOUR);
    assert_eq!(leaf(&signed).not_before, NOW - BEHIND);
    let late = authority.not_after() - HOUR / 2;
    let signed = authority.sign(&plain(), &id(), HOUR, late).unwrap();
    assert_eq!(signed.not_after, authority.not_after());
    assert_eq!(leaf(&signed).not_after, authority.not_after());
    let over = authority.not_after();
    let refused = authority.sign(&plain(), &id(), HOUR, over);
    assert_eq!(refused, Err(Unsigned::Expired));
}

#[test]
fn nobody_of_another_trust_domain_is_signed() {
    let other: SpiffeId = "spiffe://other/ns/a/sa/b".parse().unwrap();
    let refused = authority().sign(&plain(), &other, HOUR, NOW).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "spiffe://other/ns/a/sa/b is of another trust domain than td"
    );
}

#[test]
fn serial_numbers_are_drawn() {
    let authority = authority();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..100 {
        let signed = authority.sign(&plain(), &id(), HOUR, NOW).unwrap();
        assert!(seen.insert(signed.serial));
    }
}

#[test]
fn a2_a_root_is_replaced_in_steps_of_which_none_can_be_left_out() {
    let old = authority();
    let before = old.sign(&plain(), &id(), HOUR, NOW).unwrap();
    assert!(old.switch().is_err() && old.finish().is_err());
    let begun = old.begin(NOW + HOUR).unwrap();
    assert_eq!((old.step(), begun.step()), (Step::Settled, Step::Begun));
    assert!(begun.begin(NOW).is_err() && begun.finish().is_err());
    let still = begun.sign(&plain(), &id(), HOUR, NOW + HOUR).unwrap();
    assert!(
        believed(&old, &still, NOW + HOUR).is_ok(),
        "the old root signs"
    );
    let switched = begun.switch().unwrap();
    assert_eq!(switched.step(), Step::Switched);
    assert!(switched.switch().is_err() && switched.begin(NOW).is_err());
    let after = switched.sign(&plain(), &id(), HOUR, NOW + HOUR).unwrap();
    assert!(
        believed(&begun, &after, NOW + HOUR).is_ok(),
        "who has taken step one believes it"
    );
    assert_eq!(
        believed(&old, &after, NOW + HOUR),
        Err("unknown_issuer".into())
    );
    assert!(believed(&switched, &before, NOW).is_ok());
    let settled = switched.finish().unwrap();
    assert_eq!(settled.step(), Step::Settled);
    assert_eq!(
        believed(&settled, &before, NOW),
        Err("unknown_issuer".into())
    );
    assert!(believed(&settled, &after, NOW + HOUR).is_ok());
}

#[cfg(unix)]
#[test]
fn k7_a_file_that_others_may_read_is_refused_and_a_step_is_whole() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("authority.pem");
    let made = Authority::create(&path, domain(), NOW).unwrap();
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    let again = Authority::create(&path, domain(), NOW).unwrap_err();
    assert!(again.to_string().contains("exists"), "{again}");
    assert_eq!(Authority::load(&path).unwrap(), made);
    let begun = made.begin(NOW).unwrap();
    begun.save(&path).unwrap();
    assert_eq!(
        (Authority::load(&path).unwrap(), mode(&path)),
        (begun.clone(), 0o600)
    );
    // What a crash between writing and renaming leaves behind is looked at by nobody.
    let left = folder
        .path()
        .join(format!("authority.pem.{}.new", std::process::id()));
    std::fs::write(&left, "half").unwrap();
    assert_eq!(Authority::load(&path).unwrap(), begun);
    begun.switch().unwrap().save(&path).unwrap();
    assert_eq!(Authority::load(&path).unwrap().step(), Step::Switched);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    for open in [0o644, 0o640, 0o606] {
        std::fs::set_permissions(&path, PermissionsExt::from_mode(open)).unwrap();
        let refused = Authority::load(&path).unwrap_err().to_string();
        assert!(
            refused.contains(&format!("its mode is {open:04o}")),
            "{refused}"
        );
    }
}

#[test]
fn a20_an_authority_shows_no_key() {
    let authority = authority();
    let text = authority.shared.roots.to_pem();
    let keys = text.split("-----BEGIN PRIVATE KEY-----\n").skip(1);
    let keys: Vec<&str> = keys.filter_map(|rest| rest.lines().next()).collect();
    assert_eq!(keys.len(), 1);
    let shown = format!("{authority:?} {:?}", plain());
    assert!(!shown.contains(keys[0]), "{shown}");
    assert!(!authority.bundle_pem().contains("PRIVATE"));
    let torn = text.replace(keys[0], &keys[0].to_lowercase());
    let error = Roots::from_pem(torn.as_bytes()).and_then(Authority::new);
    let error = error.unwrap_err().to_string();
    assert!(!error.contains(&keys[0].to_lowercase()), "{error}");
}

#[test]
fn what_is_no_file_of_an_authority_is_told_why() {
    let one = authority();
    let root = one.bundle_pem();
    let whole = one.shared.roots.to_pem().to_string();
    let foreign = Authority::generate("other".parse().unwrap(), NOW).unwrap();
    let key = whole.split_at(root.len()).1;
    let stranger = format!("{}{key}", authority().bundle_pem());
    for (row, text, expected) in [
        ("nothing", String::new(), "holds no CERTIFICATE"),
        ("no key", root.clone(), "the first root has no key"),
        ("a key first", key.to_owned(), "in this order"),
        (
            "two domains",
            format!("{whole}{}", foreign.bundle_pem()),
            "different trust domains",
        ),
        (
            "three roots",
            format!("{whole}{root}{root}"),
            "more than two roots",
        ),
        (
            "another's key",
            stranger,
            "does not belong to the certificate",
        ),
    ] {
        let error = Roots::from_pem(text.as_bytes()).and_then(Authority::new);
        let error = error.unwrap_err().to_string();
        assert!(error.contains(expected), "{row}: {error}");
    }
}
