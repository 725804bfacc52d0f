//! The seam between rustls, which asks in the middle of a handshake, and [`verify`](super::verify).

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};

use super::clock::Clock;
use super::credentials::Credentials;
use super::provider::provider;
use super::refusal::Refusal;
use super::verify::{Checks, Proven, verify};

/// Judges peers by the trust of this moment.
#[derive(Clone, Debug)]
pub(super) struct PeerVerifier {
    pub(super) trust: Credentials,
    pub(super) checks: Arc<Checks>,
    pub(super) clock: Clock,
    /// What a client has to show.
    pub(super) shown: Shown,
}

/// What a client has to show.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Shown {
    /// It is not asked for a certificate: it is nobody.
    Nothing,
    /// Without a certificate it is let in, as nobody. One that it shows must be believed.
    Optional,
    /// A certificate that is believed.
    Required,
}

impl PeerVerifier {
    pub(super) fn judge(
        &self,
        chain: &[CertificateDer<'_>],
        asked: Option<&ServerName<'_>>,
        now: UnixTime,
    ) -> Result<Proven, Refusal> {
        let state = self.trust.state();
        let algorithms = provider().signature_verification_algorithms;
        verify(&self.checks, chain, asked, &state.trust, algorithms, now)
    }

    /// In the words of rustls, which chooses the alert by them.
    fn answer(
        &self,
        first: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        asked: Option<&ServerName<'_>>,
    ) -> Result<(), Error> {
        let chain: Vec<CertificateDer<'_>> = std::iter::once(first)
            .chain(others)
            .map(|one| CertificateDer::from_slice(one))
            .collect();
        let judged = self.judge(&chain, asked, self.clock.unix());
        judged.map(|_| ()).map_err(|refusal| {
            let error = match refusal {
                Refusal::Expired => CertificateError::Expired,
                Refusal::NotYetValid => CertificateError::NotValidYet,
                Refusal::Revoked => CertificateError::Revoked,
                Refusal::UnknownIssuer => CertificateError::UnknownIssuer,
                Refusal::WrongPurpose => CertificateError::InvalidPurpose,
                other => CertificateError::Other(OtherError(Arc::new(other))),
            };
            Error::InvalidCertificate(error)
        })
    }
}

/// Finds the refusal in an error of rustls.
pub(super) fn refusal(error: &Error) -> Refusal {
    match error {
        Error::NoCertificatesPresented => Refusal::Missing,
        Error::InvalidCertificate(CertificateError::Other(OtherError(cause))) => {
            let own = cause.downcast_ref::<Refusal>().cloned();
            own.unwrap_or_else(|| Refusal::Malformed(cause.to_string().into()))
        }
        Error::InvalidCertificate(CertificateError::Expired) => Refusal::Expired,
        Error::InvalidCertificate(CertificateError::NotValidYet) => Refusal::NotYetValid,
        Error::InvalidCertificate(CertificateError::Revoked) => Refusal::Revoked,
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => Refusal::UnknownIssuer,
        Error::InvalidCertificate(CertificateError::InvalidPurpose) => Refusal::WrongPurpose,
        Error::InvalidCertificate(CertificateError::BadSignature) => {
            Refusal::Signature("the peer did not prove that it has the key".into())
        }
        Error::InvalidCertificate(other) => Refusal::Malformed(other.to_string().into()),
        other => Refusal::Handshake(other.to_string().into()),
    }
}

type Signed = Result<HandshakeSignatureValid, Error>;

macro_rules! signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Signed {
            let algorithms = provider().signature_verification_algorithms;
            verify_tls12_signature(message, certificate, signed, &algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Signed {
            let algorithms = provider().signature_verification_algorithms;
            verify_tls13_signature(message, certificate, signed, &algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            provider()
                .signature_verification_algorithms
                .supported_schemes()
        }
    };
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        first: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        asked: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.answer(first, others, Some(asked))?;
        Ok(ServerCertVerified::assertion())
    }

    signatures!();
}

impl ClientCertVerifier for PeerVerifier {
    fn offer_client_auth(&self) -> bool {
        self.shown != Shown::Nothing
    }

    fn client_auth_mandatory(&self) -> bool {
        self.shown == Shown::Required
    }

    /// No hints: a client of a mesh has one certificate, and the names of roots are nobody's
    /// business.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        first: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.answer(first, others, None)?;
        Ok(ClientCertVerified::assertion())
    }

    signatures!();
}
