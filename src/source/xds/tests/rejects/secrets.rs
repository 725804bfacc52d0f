//! Secrets.

use super::refused;
use crate::source::xds::Kind;
use crate::source::xds::proto::{core, matcher, tls};

#[track_caller]
fn secret_refused(content: Option<tls::secret::Type>, expected: &str) {
    let secret = tls::Secret {
        name: "a".into(),
        r#type: content,
    };
    refused(Kind::Secret, &secret, expected);
}

fn inline(text: &str) -> Option<core::DataSource> {
    Some(core::DataSource {
        specifier: Some(core::data_source::Specifier::InlineString(text.into())),
        ..core::DataSource::default()
    })
}

fn elsewhere() -> Option<core::DataSource> {
    Some(core::DataSource {
        specifier: Some(core::data_source::Specifier::Filename("/key.pem".into())),
        ..core::DataSource::default()
    })
}

#[test]
fn d8_secrets_of_another_kind_are_refused() {
    use tls::secret::Type;
    secret_refused(
        None,
        "is empty; tls_certificate and validation_context are allowed",
    );
    for other in [
        Type::SessionTicketKeys(Default::default()),
        Type::GenericSecret(Default::default()),
    ] {
        secret_refused(Some(other), "is of a kind that nothing here asks for");
    }
    refused(
        Kind::Secret,
        &tls::Secret::default(),
        "name: has 0 bytes; 1 to 4096 are allowed",
    );
}

#[test]
fn d8_certificates_of_secrets_that_are_refused() {
    type Change = fn(&mut tls::TlsCertificate);
    let rows: [(Change, &str); 7] = [
        (
            |c| c.certificate_chain = None,
            "certificate_chain: is missing",
        ),
        (
            |c| c.certificate_chain = elsewhere(),
            "certificate_chain: is not inline; inline_bytes and inline_string are allowed",
        ),
        (|c| c.private_key = None, "private_key: is missing"),
        (
            |c| c.private_key = elsewhere(),
            "private_key: is not inline; inline_bytes and inline_string are allowed",
        ),
        (
            |c| c.private_key_provider = Some(Default::default()),
            "private_key_provider: is not supported, and a field that secures is never left out",
        ),
        (|c| c.pkcs12 = inline("x"), "pkcs12: is not supported"),
        (|c| c.password = inline("x"), "password: is not supported"),
    ];
    for (change, expected) in rows {
        let mut certificate = tls::TlsCertificate {
            certificate_chain: inline("x"),
            private_key: inline("the key itself"),
            ..tls::TlsCertificate::default()
        };
        change(&mut certificate);
        secret_refused(
            Some(tls::secret::Type::TlsCertificate(certificate)),
            &format!("tls_certificate.{expected}"),
        );
    }
    // What is wrong with the text is told, and nothing of the text.
    let unusable = tls::TlsCertificate {
        certificate_chain: inline("x"),
        private_key: inline("the key itself"),
        ..tls::TlsCertificate::default()
    };
    let secret = tls::Secret {
        name: "a".into(),
        r#type: Some(tls::secret::Type::TlsCertificate(unusable)),
    };
    let told = super::told(Kind::Secret, &secret);
    assert!(told.contains("tls_certificate: "), "{told}");
    assert!(!told.contains("the key itself"), "{told}");
}

#[test]
fn d8_roots_of_secrets_that_are_refused() {
    type Change = fn(&mut tls::CertificateValidationContext);
    let rows: [(Change, &str); 6] = [
        (|r| r.trusted_ca = None, "trusted_ca: is missing"),
        (
            |r| r.trusted_ca = elsewhere(),
            "trusted_ca: is not inline; inline_bytes and inline_string are allowed",
        ),
        (|r| r.trusted_ca = inline("x"), "trusted_ca: "),
        (
            |r| r.verify_certificate_hash = vec!["a".into()],
            "verify_certificate_hash: is not supported",
        ),
        (|r| r.crl = inline("x"), "crl: is not supported"),
        (
            |r| r.match_subject_alt_names = vec![matcher::StringMatcher::default()],
            "match_typed_subject_alt_names: stands in a secret, which is not supported; put it into \
             the default_validation_context",
        ),
    ];
    for (change, expected) in rows {
        let mut roots = tls::CertificateValidationContext {
            trusted_ca: inline("x"),
            ..tls::CertificateValidationContext::default()
        };
        change(&mut roots);
        secret_refused(
            Some(tls::secret::Type::ValidationContext(roots)),
            &format!("validation_context.{expected}"),
        );
    }
}
