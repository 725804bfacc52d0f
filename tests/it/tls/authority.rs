//! A certificate authority for tests, which also signs what no authority should.

use std::time::{Duration, UNIX_EPOCH};

use meshwork::tls::{Bundle, Clock, Credentials, Identity, Trust};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};

/// The beginning of 2026, since 1970: the moment at which every certificate of tests begins.
pub(crate) const BEGIN: Duration = Duration::from_secs(1_767_225_600);
/// How long a certificate of tests is valid.
pub(crate) const LIFETIME: Duration = Duration::from_secs(24 * 3_600);

/// An hour into the lifetime of every certificate.
pub(crate) fn clock() -> Clock {
    clock_at(Duration::from_secs(3_600))
}

/// A clock that shows this time after the begin of all certificates.
pub(crate) fn clock_at(after: Duration) -> Clock {
    Clock::starting_at(UNIX_EPOCH + BEGIN + after)
}

/// A root, or an intermediate under one.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    serial: u64,
}

/// A certificate with its key, both in PEM.
#[derive(Clone)]
pub(crate) struct Issued {
    pub(crate) chain: String,
    pub(crate) key: String,
}

impl Issued {
    pub(crate) fn identity(&self) -> Identity {
        Identity::from_pem(self.chain.as_bytes(), self.key.as_bytes()).unwrap()
    }
}

fn ca(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(2036, 1, 1);
    params
}

/// A well-formed leaf for `id`.
pub(crate) fn leaf(id: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![uri(id)];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = params.not_before + LIFETIME;
    params
}

pub(crate) fn uri(id: &str) -> SanType {
    SanType::URI(id.try_into().unwrap())
}

pub(crate) fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        Self::with_key(name, KeyPair::generate().unwrap())
    }

    pub(crate) fn with_key(name: &str, key: KeyPair) -> Self {
        let params = ca(name);
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
            serial: 0,
        }
    }

    /// An authority under this one.
    pub(crate) fn intermediate(&mut self, name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = ca(name);
        self.number(&mut params);
        let signed = params.signed_by(&key, &self.issuer).unwrap();
        Self {
            issuer: Issuer::new(params, key),
            pem: signed.pem(),
            serial: 0,
        }
    }

    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    pub(crate) fn bundle(&self) -> Bundle {
        Bundle::from_pem(self.pem.as_bytes()).unwrap()
    }

    fn number(&mut self, params: &mut CertificateParams) -> u64 {
        self.serial += 1;
        params.serial_number = Some(SerialNumber::from(self.serial));
        self.serial
    }

    /// Signs whatever it is given, with the next serial number.
    pub(crate) fn sign(&mut self, params: CertificateParams) -> Issued {
        self.sign_key(params, KeyPair::generate().unwrap())
    }

    pub(crate) fn sign_key(&mut self, mut params: CertificateParams, key: KeyPair) -> Issued {
        self.number(&mut params);
        let signed = params.signed_by(&key, &self.issuer).unwrap();
        Issued {
            chain: signed.pem(),
            key: key.serialize_pem(),
        }
    }

    /// A leaf by all rules.
    pub(crate) fn issue(&mut self, id: &str) -> Issued {
        self.sign(leaf(id))
    }

    /// A list that revokes these serial numbers.
    pub(crate) fn revoke(&self, serials: &[u64]) -> String {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 1, 1),
            next_update: date_time_ymd(2036, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

/// A SPIFFE bundle map: for each trust domain the root of one authority.
pub(crate) fn bundle_map(domains: &[(&str, &Authority)]) -> String {
    let entries = domains.iter().map(|(domain, authority)| {
        let lines = authority.pem.lines().filter(|line| !line.starts_with('-'));
        let der: String = lines.collect();
        format!(
            r#""{domain}": {{"keys": [{{"kty": "EC", "use": "x509-svid", "x5c": ["{der}"]}}]}}"#
        )
    });
    let entries: Vec<String> = entries.collect();
    format!(r#"{{"trust_domains": {{{}}}}}"#, entries.join(", "))
}

/// Trust in this authority for the trust domain `td`.
pub(crate) fn trust(authority: &Authority) -> Trust {
    Trust::default().with_domain("td".parse().unwrap(), authority.bundle())
}

/// `id` under `td`, which trusts the authority that issued it.
pub(crate) fn credentials(authority: &mut Authority, id: &str) -> Credentials {
    let identity = authority.issue(id).identity();
    Credentials::new(Some(identity), trust(authority))
}
