//! Certificates for the runs with mutual TLS: one authority, one leaf for all.

use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    SanType,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::driver::HOST;

pub(crate) const AUTHORITY: &str = "ca.pem";
pub(crate) const LEAF: &str = "leaf.pem";
pub(crate) const KEY: &str = "key.pem";

fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Writes the authority's certificate, the leaf and its key into a folder.
pub(crate) fn write(folder: &Path) -> Result<(), String> {
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
    for (name, content) in [
        (AUTHORITY, authority_certificate.pem()),
        (LEAF, leaf.pem()),
        (KEY, key.serialize_pem()),
    ] {
        std::fs::write(folder.join(name), content).map_err(said)?;
    }
    Ok(())
}

struct Loaded {
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

fn load(folder: &Path) -> Result<Loaded, String> {
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_file(folder.join(AUTHORITY)).map_err(said)?;
    roots.add(authority).map_err(said)?;
    let leaf = CertificateDer::from_pem_file(folder.join(LEAF)).map_err(said)?;
    Ok(Loaded {
        roots: Arc::new(roots),
        chain: vec![leaf],
        key: PrivateKeyDer::from_pem_file(folder.join(KEY)).map_err(said)?,
    })
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// A server that wants a certificate of the authority.
pub(crate) fn acceptor(folder: &Path) -> Result<TlsAcceptor, String> {
    let loaded = load(folder)?;
    let verifier = WebPkiClientVerifier::builder_with_provider(loaded.roots, provider());
    let verifier = verifier.build().map_err(said)?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(said)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(loaded.chain, loaded.key)
        .map_err(said)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// A client that shows its certificate: what this library is compared with.
pub(crate) fn connector(folder: &Path) -> Result<TlsConnector, String> {
    let loaded = load(folder)?;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(said)?
        .with_root_certificates(loaded.roots)
        .with_client_auth_cert(loaded.chain, loaded.key)
        .map_err(said)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

/// A connection with TLS to the server.
pub(crate) async fn dial(
    connector: &TlsConnector,
    address: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(HOST).expect("it is a host");
    connector.connect(name, stream).await
}
