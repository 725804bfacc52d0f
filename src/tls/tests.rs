//! Identities, trust and the judgement of a chain, without a connection. What a handshake makes of them is told
//! in `tests/it/tls`.

mod identity;
mod trust;
mod verifier;
mod verify;

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use rustls::pki_types::CertificateDer;

use super::identity::Identity;
use super::refusal::Refusal;
use super::trust::{Bundle, Trust};

/// When every certificate of these tests begins: the first second of 2026.
const BEGIN: Duration = Duration::from_secs(1_767_225_600);
/// How long a leaf is valid.
const LIFETIME: Duration = Duration::from_secs(24 * 3_600);
/// An hour into the lifetime of every leaf.
const NOW: Duration = Duration::from_secs(1_767_225_600 + 3_600);
const SECOND: Duration = Duration::from_secs(1);
const SERIAL: u64 = 0x0a_0b_0c;

/// An authority that signs whatever it is given, always with the same serial number.
struct Root {
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
}

/// A leaf and its key.
struct Issued {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Root {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(2036, 1, 1);
        let key = KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().clone();
        Self {
            issuer: Issuer::new(params, key),
            der,
        }
    }

    fn bundle(&self) -> Bundle {
        Bundle::from_der(vec![self.der.to_vec()]).unwrap()
    }

    fn sign(&self, params: &CertificateParams) -> Issued {
        let key = KeyPair::generate().unwrap();
        Issued {
            certificate: params.signed_by(&key, &self.issuer).unwrap(),
            key,
        }
    }

    /// A list that revokes one serial number.
    fn revoking(&self, serial: u64) -> rcgen::CertificateRevocationList {
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 1, 1),
            next_update: date_time_ymd(2036, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap()
    }
}

impl Issued {
    fn der(&self) -> CertificateDer<'static> {
        self.certificate.der().clone()
    }

    fn identity(&self) -> Identity {
        Identity::from_der(vec![self.der().to_vec()], self.key.serialize_der()).unwrap()
    }
}

/// A leaf by all rules, with these names.
fn leaf(names: Vec<SanType>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.subject_alt_names = names;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.serial_number = Some(SerialNumber::from(SERIAL));
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = params.not_before + LIFETIME;
    params
}

fn uri(id: &str) -> SanType {
    SanType::URI(id.try_into().unwrap())
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

/// Trust in this authority for the trust domain `td`.
fn trust(root: &Root) -> Trust {
    Trust::default().with_domain("td".parse().unwrap(), root.bundle())
}
