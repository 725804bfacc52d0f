//! Certificates for the runs with mutual TLS: one authority, one leaf for all.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    SanType,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::host::HOST;

/// An authority's certificate, a leaf of it and the leaf's key, as PEM.
pub(crate) struct Pems {
    pub(crate) authority: String,
    pub(crate) leaf: String,
    pub(crate) key: String,
}

impl Pems {
    pub(crate) fn make() -> Result<Self, String> {
        let mut authority = CertificateParams::new(Vec::new()).map_err(said)?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Another name than the leaf's, which would look self-signed.
        authority
            .distinguished_name
            .push(DnType::CommonName, "compare");
        let authority_key = KeyPair::generate().map_err(said)?;
        let authority_certificate = authority.self_signed(&authority_key).map_err(said)?;
        let mut leaf = CertificateParams::new(vec![HOST.into()]).map_err(said)?;
        let id = "spiffe://cluster.local/ns/my-app/sa/catalog-sa";
        leaf.subject_alt_names
            .push(SanType::URI(id.try_into().map_err(said)?));
        leaf.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        let key = KeyPair::generate().map_err(said)?;
        let issuer = Issuer::new(authority, authority_key);
        let leaf = leaf.signed_by(&key, &issuer).map_err(said)?;
        Ok(Self {
            authority: authority_certificate.pem(),
            leaf: leaf.pem(),
            key: key.serialize_pem(),
        })
    }

    /// A server that wants a certificate of the authority and speaks this protocol.
    pub(crate) fn acceptor(&self, protocol: &[u8]) -> Result<TlsAcceptor, String> {
        let (roots, chain, key) = self.parsed()?;
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
        let verifier = verifier.build().map_err(said)?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(said)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(said)?;
        config.alpn_protocols = vec![protocol.to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    /// A client that shows its certificate: what this library is compared with.
    pub(crate) fn connector(&self, protocol: &[u8]) -> Result<TlsConnector, String> {
        let (roots, chain, key) = self.parsed()?;
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(said)?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .map_err(said)?;
        config.alpn_protocols = vec![protocol.to_vec()];
        Ok(TlsConnector::from(Arc::new(config)))
    }

    fn parsed(&self) -> Result<Parsed, String> {
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_slice(self.authority.as_bytes());
        roots.add(authority.map_err(said)?).map_err(said)?;
        let leaf = CertificateDer::from_pem_slice(self.leaf.as_bytes()).map_err(said)?;
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).map_err(said)?;
        Ok((Arc::new(roots), vec![leaf], key))
    }
}

type Parsed = (
    Arc<RootCertStore>,
    Vec<CertificateDer<'static>>,
    PrivateKeyDer<'static>,
);

fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Makes a stream secure, to the server of this name.
pub(crate) async fn secure<S>(connector: &TlsConnector, stream: S) -> std::io::Result<TlsStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let name = ServerName::try_from(HOST).expect("it is a host");
    connector.connect(name, stream).await
}
