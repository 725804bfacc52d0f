//! What rustls is told, and what is found in it again.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::{CertificateError, Error};

use super::*;
use crate::tls::verifier::{PeerVerifier, Shown, refusal};
use crate::tls::verify::{Checks, Usage};
use crate::tls::{Clock, Credentials, Verification};

fn verifier(trust: Trust, usage: Usage, at: Duration) -> PeerVerifier {
    PeerVerifier {
        trust: Credentials::new(None, trust),
        checks: Arc::new(Checks {
            verification: Verification::Svid,
            names: Vec::new(),
            usage,
            skew: Duration::ZERO,
        }),
        clock: Clock::starting_at(UNIX_EPOCH + at),
        shown: Shown::Required,
    }
}

/// What both sides say of a chain; the time that rustls hands them is another one.
fn answers(root: &Trust, leaf: &CertificateDer<'_>, at: Duration) -> [Result<(), Error>; 2] {
    let asked = ServerName::try_from("catalog.example").unwrap();
    let never = UnixTime::since_unix_epoch(Duration::ZERO);
    let server = verifier(root.clone(), Usage::Server, at);
    let client = verifier(root.clone(), Usage::Client, at);
    [
        server
            .verify_server_cert(leaf, &[], &asked, &[], never)
            .map(|_| ()),
        client.verify_client_cert(leaf, &[], never).map(|_| ()),
    ]
}

#[tokio::test(start_paused = true)]
async fn a_refusal_goes_through_rustls_and_is_found_again() {
    let root = Root::new("root");
    let own = root.sign(&leaf(vec![uri("spiffe://td/x")])).der();
    let unnamed = root.sign(&leaf(vec![dns("x.example")])).der();
    let mut servers = leaf(vec![uri("spiffe://td/x")]);
    servers.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::CodeSigning];
    let purpose = root.sign(&servers).der();
    let revoking = root
        .bundle()
        .with_revocations_der(vec![root.revoking(SERIAL).der().to_vec()]);
    let revoking = Trust::default().with_domain("td".parse().unwrap(), revoking.unwrap());
    let good = trust(&root);
    for (row, trusted, shown, at, expected) in [
        ("believed", &good, &own, NOW, None),
        (
            "expired",
            &good,
            &own,
            BEGIN + LIFETIME + SECOND,
            Some(CertificateError::Expired),
        ),
        (
            "not yet valid",
            &good,
            &own,
            BEGIN - SECOND,
            Some(CertificateError::NotValidYet),
        ),
        (
            "unknown",
            &trust(&Root::new("another")),
            &own,
            NOW,
            Some(CertificateError::UnknownIssuer),
        ),
        (
            "revoked",
            &revoking,
            &own,
            NOW,
            Some(CertificateError::Revoked),
        ),
        (
            "wrong purpose",
            &good,
            &purpose,
            NOW,
            Some(CertificateError::InvalidPurpose),
        ),
    ] {
        for answer in answers(trusted, shown, at) {
            let expected = expected.clone().map(Error::InvalidCertificate);
            assert_eq!(answer.err(), expected, "{row}");
        }
    }
    for answer in answers(&good, &unnamed, NOW) {
        let found = refusal(&answer.unwrap_err());
        assert_eq!(found.reason(), "not_an_svid", "{found}");
    }
}

#[test]
fn each_error_of_rustls_has_its_word() {
    let of = |error: CertificateError| Error::InvalidCertificate(error);
    for (error, word) in [
        (Error::NoCertificatesPresented, "no_certificate"),
        (of(CertificateError::Expired), "expired"),
        (of(CertificateError::NotValidYet), "not_yet_valid"),
        (of(CertificateError::Revoked), "revoked"),
        (of(CertificateError::UnknownIssuer), "unknown_issuer"),
        (of(CertificateError::InvalidPurpose), "wrong_purpose"),
        (of(CertificateError::BadSignature), "signature"),
        (of(CertificateError::BadEncoding), "malformed"),
        (Error::DecryptError, "handshake"),
    ] {
        assert_eq!(refusal(&error).reason(), word, "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_is_asked_for_a_certificate_as_it_is_configured_and_told_no_names() {
    for (shown, asked, required) in [
        (Shown::Nothing, false, false),
        (Shown::Optional, true, false),
        (Shown::Required, true, true),
    ] {
        let verifier = PeerVerifier {
            shown,
            ..verifier(trust(&Root::new("root")), Usage::Client, NOW)
        };
        assert_eq!(verifier.offer_client_auth(), asked, "{shown:?}");
        assert_eq!(verifier.client_auth_mandatory(), required, "{shown:?}");
        let hints = ClientCertVerifier::root_hint_subjects(&verifier);
        assert!(hints.is_empty(), "{shown:?}");
    }
}
