//! Identities from files that somebody else keeps fresh: an agent, cert-manager, a Kubernetes secret.
//!
//! Roots in PEM say nothing of whom they may speak for, so those of the own files count for the own
//! trust domain. Other domains have files of their own ([`FileSource::federated_with`]), or one file says it
//! for all of them ([`FileSource::bundle_map`]). Each domain is told of in one place: where two would be of two
//! minds about whom to believe, the files cannot be used, rather than one of the two be passed over.
//!
//! The files are looked at once a second. A look is a `stat`, through symbolic links, so that the
//! swap of a directory by the kubelet (`..data`) is seen; only a change is read. What is read is
//! taken as a whole or not at all: a certificate whose key is not there yet (a torn write) is
//! refused, the old pair stays in force, and the next look tries again. Events of the file system
//! were rejected: they are lost across mounts and swaps of links, and one `stat` a second is free.

mod contradictions;

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use zeroize::Zeroizing;

use super::bundle_map;
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
    federated: Vec<(TrustDomain, Arc<Path>)>,
    map: Option<Arc<Path>>,
    vouching: Vouching,
    look: Duration,
}

/// Whom the roots of the own files vouch for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Vouching {
    /// Anybody, whatever identity they have (gRFC A29).
    #[cfg(feature = "xds")]
    Anybody,
    /// Identities of the own trust domain, and servers without one.
    OwnDomain,
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
            federated: Vec::new(),
            map: None,
            vouching: Vouching::OwnDomain,
            look: LOOK,
        }
    }

    /// Trusts the roots for this trust domain too (Istio's `trustDomainAliases`): it is another name for
    /// the own one. A domain of somebody else has roots of its own
    /// ([`federated_with`](Self::federated_with)).
    ///
    /// Each domain is told of in one place: beside a [`bundle_map`](Self::bundle_map), which alone says which domains
    /// are trusted, or for a domain that has roots of its own, the files cannot be used ([`load`](Self::load)).
    #[must_use]
    pub fn trusted_for(mut self, domain: TrustDomain) -> Self {
        self.domains.push(domain);
        self
    }

    /// Trusts the roots (PEM) in this file for identities of this trust domain, and for nobody else. They are
    /// read again when the file changes, together with the others: all of them or none.
    ///
    /// Each domain is told of in one place: for one that has roots already (named here before, or as
    /// [another name](Self::trusted_for) of the own one, or the own one itself where the own files hold roots), and
    /// for any beside a [`bundle_map`](Self::bundle_map), the files cannot be used ([`load`](Self::load)).
    ///
    /// ```
    /// use meshwork::tls::FileSource;
    ///
    /// # fn example(files: meshwork::model::security::Files) -> FileSource {
    /// FileSource::new(files)
    ///     .federated_with("partner.example".parse().unwrap(), "/etc/mesh/partner-roots.pem")
    /// # }
    /// ```
    #[must_use]
    pub fn federated_with(mut self, domain: TrustDomain, roots: impl AsRef<Path>) -> Self {
        self.federated.push((domain, roots.as_ref().into()));
        self
    }

    /// Trusts for each trust domain what a SPIFFE bundle map says (gRFC A87): a JSON file
    /// `{"trust_domains": {"td.example": {"keys": [{"kty": .., "use": "x509-svid", "x5c": [..]}]}}}` of at
    /// most 1 MiB. It is read again when it changes; one with a fault changes nothing.
    ///
    /// The map alone says which domains are trusted, the own one among them; an empty one says that none is. Roots
    /// of the files count for servers without a SPIFFE ID. Beside a map the files cannot be used
    /// ([`load`](Self::load)) if [`trusted_for`](Self::trusted_for) or [`federated_with`](Self::federated_with) say
    /// something of domains too: what they say belongs into the map. Of two maps the later counts.
    #[must_use]
    pub fn bundle_map(mut self, map: impl AsRef<Path>) -> Self {
        self.map = Some(map.as_ref().into());
        self
    }

    /// Lets the roots vouch for anybody, as those of gRPC's certificate providers do (gRFC A29).
    #[cfg(feature = "xds")]
    pub(crate) fn for_anybody(mut self) -> Self {
        self.vouching = Vouching::Anybody;
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
    /// What is wrong with them, or with what this source was told about trust domains: each is told of in one place.
    pub fn load(&self, into: &Credentials) -> Result<(), Unusable> {
        let (identity, trust) = self.read()?;
        let before = into.generation();
        let after = match identity {
            Some(identity) => into.replace(identity, trust),
            None => into.trust(trust),
        };
        if after != before {
            self.tell(into, after);
        }
        Ok(())
    }

    /// Says what is in force.
    fn tell(&self, into: &Credentials, generation: u64) {
        let file = self.files.certificate.as_ref();
        let file = file.or(self.files.roots.as_ref()).or(self.map.as_ref());
        let own = into.identity();
        let id = own.as_ref().and_then(Identity::id);
        tracing::info!(
            file = file.map(|path| tracing::field::display(path.display())),
            generation,
            id = id.map(tracing::field::display),
            serial = own.as_ref().map(Identity::serial),
            not_after_unix = own.as_ref().map(|own| own.not_after().as_secs()),
            "certificates from files are in force"
        );
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
        let all = [certificate, key, roots, revocations, &self.map];
        let federated = self.federated.iter().map(|(_, roots)| roots);
        Looked(
            all.into_iter()
                .flatten()
                .chain(federated)
                .map(stat)
                .collect(),
        )
    }

    fn read(&self) -> Result<(Option<Identity>, Trust), Unusable> {
        let Files {
            certificate: _,
            key: _,
            roots,
            revocations,
        } = &self.files;
        let identity = self.identity()?;
        let trust = self.trust(identity.as_ref(), roots.as_deref(), revocations.as_deref())?;
        Ok((identity, trust))
    }

    fn identity(&self) -> Result<Option<Identity>, Unusable> {
        let (Some(certificate), Some(key)) = (&self.files.certificate, &self.files.key) else {
            return Ok(None);
        };
        let chain = contents("the certificate chain", certificate)?;
        let key = contents("the private key", key)?;
        Identity::from_pem(&chain, &key).map(Some)
    }

    fn trust(
        &self,
        identity: Option<&Identity>,
        roots: Option<&Path>,
        revocations: Option<&Path>,
    ) -> Result<Trust, Unusable> {
        const ROOTS: &str = "the bundle of roots";
        let own = identity.and_then(Identity::id).map(|id| id.trust_domain());
        self.judge(own)?;
        let lists = match revocations {
            Some(lists) => Some(contents("the revocation list", lists)?),
            None => None,
        };
        let with_lists = |bundle: Bundle| match &lists {
            Some(lists) => bundle.with_revocations(lists),
            None => Ok(bundle),
        };
        let mut trust = Trust::default();
        if let Some(map) = &self.map {
            let mapped = bundle_map::read(&contents("the SPIFFE bundle map", map)?)?;
            trust = Trust::of_no_domain();
            for (domain, bundle) in mapped.domains() {
                trust = trust.with_domain(domain.clone(), with_lists(bundle.clone())?);
            }
        }
        if let Some(roots) = roots {
            let bundle = with_lists(Bundle::from_pem(&contents(ROOTS, roots)?)?)?;
            if self.map.is_none() && self.vouching == Vouching::OwnDomain {
                for domain in own.into_iter().chain(&self.domains) {
                    trust = trust.with_domain(domain.clone(), bundle.clone());
                }
            }
            trust = trust.with_roots(bundle);
        }
        for (domain, roots) in &self.federated {
            let bundle = with_lists(Bundle::from_pem(&contents(ROOTS, roots)?)?)?;
            trust = trust.with_domain(domain.clone(), bundle);
        }
        Ok(trust)
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
