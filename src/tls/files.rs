//! Identities from files that somebody else keeps fresh: an agent, cert-manager, a Kubernetes secret.
//!
//! The files are looked at once a second. A look is a `stat`, through symbolic links, so that the
//! swap of a directory by the kubelet (`..data`) is seen; only a change is read. What is read is
//! taken as a whole or not at all: a certificate whose key is not there yet (a torn write) is
//! refused, the old pair stays in force, and the next look tries again. Events of the file system
//! were rejected: they are lost across mounts and swaps of links, and one `stat` a second is free.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use zeroize::Zeroizing;

use super::credentials::{Credentials, Weak};
use super::identity::Identity;
use super::pem::Unusable;
use super::trust::{Bundle, Trust};
use crate::model::identity::TrustDomain;
use crate::model::security::Files;

/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// The largest file that is read.
const MAX_FILE: u64 = 1 << 20;

/// Credentials from PEM files.
///
/// ```no_run
/// use meshwork::tls::FileSource;
/// use meshwork::model::security::Files;
///
/// # async fn example() -> Result<(), meshwork::Error> {
/// let files = Files {
///     certificate: Some(std::path::Path::new("/var/run/secrets/mesh/tls.crt").into()),
///     key: Some(std::path::Path::new("/var/run/secrets/mesh/tls.key").into()),
///     roots: Some(std::path::Path::new("/var/run/secrets/mesh/ca.crt").into()),
///     revocations: None,
/// };
/// let mesh = meshwork::Mesh::builder().identity(FileSource::new(files)).start().await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct FileSource {
    files: Files,
    domains: Vec<TrustDomain>,
    look: Duration,
}

/// What a `stat` of all files says; equal if nothing has changed.
#[derive(Debug, Eq, PartialEq)]
struct Looked(Vec<Option<(PathBuf, Option<SystemTime>, u64)>>);

impl FileSource {
    /// Reads these files, and again whenever they change.
    ///
    /// The roots count for the trust domain of the identity in the same files, and for servers without
    /// a SPIFFE ID.
    #[must_use]
    pub fn new(files: Files) -> Self {
        Self {
            files,
            domains: Vec::new(),
            look: LOOK,
        }
    }

    /// Trusts the roots for this trust domain too (Istio's `trustDomainAliases`).
    #[must_use]
    pub fn trusted_for(mut self, domain: TrustDomain) -> Self {
        self.domains.push(domain);
        self
    }

    /// Sets how often the files are looked at; the default is once a second, at least 10 ms count.
    #[must_use]
    pub fn every(mut self, look: Duration) -> Self {
        self.look = look.max(Duration::from_millis(10));
        self
    }

    /// Reads the files and publishes what they say; files that cannot be used leave what is in
    /// force. Blocks as long as reading some small files takes.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn load(&self, into: &Credentials) -> Result<(), Unusable> {
        let (identity, trust) = self.read()?;
        if let Some(identity) = identity {
            into.rotate(identity);
        }
        into.trust(trust);
        Ok(())
    }

    /// New credentials with what the files say at this moment.
    pub(super) fn load_now(&self) -> Credentials {
        let credentials = Credentials::default();
        self.load_into(&credentials);
        credentials
    }

    /// Puts what the files say at this moment into credentials; says so if it cannot be used.
    pub(super) fn load_into(&self, credentials: &Credentials) {
        if let Err(error) = self.load(credentials) {
            credentials.renewal_failed();
            tracing::error!("{error}; handshakes that need it fail until it can be used");
        }
    }

    /// Looks at the files until nobody has the credentials any more.
    pub(super) async fn watch(self, credentials: Weak) {
        let mut seen = None;
        let mut told = None;
        let mut looks = tokio::time::interval(self.look);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let Some(into) = credentials.upgrade() else {
                return;
            };
            let source = self.clone();
            let known = seen.take();
            let look = move || {
                // Looked at before reading: a change in between is seen by the next look.
                let looked = source.look();
                let outcome = (known.as_ref() != Some(&looked)).then(|| source.load(&into));
                (looked, outcome)
            };
            let Ok((looked, outcome)) = tokio::task::spawn_blocking(look).await else {
                return;
            };
            match outcome {
                None => seen = Some(looked),
                Some(Ok(())) => {
                    seen = Some(looked);
                    told = None;
                }
                // `seen` stays empty, so that the next look reads again.
                Some(Err(error)) => {
                    if let Some(into) = credentials.upgrade() {
                        into.renewal_failed();
                    }
                    if told.as_ref() != Some(&error) {
                        tracing::warn!(
                            "{error}; what was in force stays so, and it is tried again"
                        );
                        told = Some(error);
                    }
                }
            }
        }
    }

    fn look(&self) -> Looked {
        let Files {
            certificate,
            key,
            roots,
            revocations,
        } = &self.files;
        let stat = |path: &std::sync::Arc<Path>| {
            let real = fs::canonicalize(path).ok()?;
            let found = fs::metadata(&real).ok()?;
            Some((real, found.modified().ok(), found.len()))
        };
        let all = [certificate, key, roots, revocations];
        Looked(all.into_iter().flatten().map(stat).collect())
    }

    fn read(&self) -> Result<(Option<Identity>, Trust), Unusable> {
        let Files {
            certificate,
            key,
            roots,
            revocations,
        } = &self.files;
        let identity = match (certificate, key) {
            (Some(certificate), Some(key)) => {
                let chain = contents("the certificate chain", certificate)?;
                Some(Identity::from_pem(
                    &chain,
                    &contents("the private key", key)?,
                )?)
            }
            (None, _) | (_, None) => None,
        };
        let mut trust = Trust::default();
        if let Some(roots) = roots {
            let mut bundle = Bundle::from_pem(&contents("the bundle of roots", roots)?)?;
            if let Some(lists) = revocations {
                bundle = bundle.with_revocations(&contents("the revocation list", lists)?)?;
            }
            let own = identity.as_ref().and_then(Identity::id);
            let own = own.map(|id| id.trust_domain());
            for domain in own.into_iter().chain(&self.domains) {
                trust = trust.with_domain(domain.clone(), bundle.clone());
            }
            trust = trust.with_roots(bundle);
        }
        Ok((identity, trust))
    }
}

/// The contents of a small file, zeroized when they are dropped.
pub(super) fn contents(what: &'static str, path: &Path) -> Result<Zeroizing<Vec<u8>>, Unusable> {
    let fault =
        |why: &dyn std::fmt::Display| Unusable::new(what, format!("{}: {why}", path.display()));
    let file = File::open(path).map_err(|error| fault(&error))?;
    let length = file.metadata().map_err(|error| fault(&error))?.len();
    if length > MAX_FILE {
        return Err(fault(&format_args!(
            "{length} bytes; at most {MAX_FILE} are allowed"
        )));
    }
    // With room from the start a key is not copied while the buffer grows.
    let room = usize::try_from(length).unwrap_or(0).saturating_add(1);
    let mut text = Zeroizing::new(Vec::with_capacity(room));
    file.take(MAX_FILE)
        .read_to_end(&mut text)
        .map_err(|error| fault(&error))?;
    Ok(text)
}
