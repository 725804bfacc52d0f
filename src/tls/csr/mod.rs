//! Identities from an authority that signs requests: istiod, or `meshwork serve --ca`.
//!
//! The process makes a key, which never leaves it, and asks
//! `istio.v1.auth.IstioCertificateService/CreateCertificate` to certify it. The answer is a certificate
//! that lives for hours and the roots that vouch for others; half-way through its life another is asked for,
//! with a new key. An authority that is away changes nothing until the certificate expires: what is in
//! force stays so, the pauses between tries double up to half a minute, and each of them is a warning and a
//! count ([`Counts::renewal_failures`](super::Counts)).
//!
//! Who asks proves who it is by a token in a file that somebody renews (Kubernetes' service-account
//! tokens), or by a join token once and by the identity itself from then on. The authority in turn must
//! show a certificate for its name, by the roots that the process was given or those of an earlier
//! answer, so that a root can be replaced while the file of roots is still the old one.

mod call;
mod renew;
mod wire;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use rcgen::{CertificateParams, KeyPair, SanType};
use zeroize::Zeroizing;

use super::client::Connector;
use super::clock::Clock;
use super::credentials::{Credentials, Weak};
use super::files;
use super::pem::Unusable;
use super::trust::{Bundle, Trust};
use crate::error::Error;
use crate::model::identity::{SpiffeId, TrustDomain};
use crate::model::security::{Alpn, ClientTls, Material, Sni, Verification};
use crate::random::Random;
use call::Call;
use renew::{Issued, Unissued};

/// How long a certificate is asked for (Istio's `SECRET_TTL`).
const LIFETIME: Duration = Duration::from_secs(24 * 3_600);
/// istiod in its usual place, and where a pod finds its root and a token for it.
const ISTIOD: &str = "istiod.istio-system.svc:15012";
const ISTIO_ROOTS: &str = "/var/run/secrets/istio/root-cert.pem";
const ISTIO_TOKEN: &str = "/var/run/secrets/tokens/istio-token";

/// Credentials from an authority that signs requests for certificates.
///
/// ```no_run
/// use meshwork::tls::CsrSource;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let id = "spiffe://cluster.local/ns/my-app/sa/order".parse()?;
/// let source = CsrSource::new("mesh-control.mesh-system:15012", id, "/etc/mesh/roots.pem")
///     .with_token_file("/var/run/secrets/tokens/mesh-token");
/// let mesh = meshwork::Mesh::builder().yaml("mesh/").identity(source).start().await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct CsrSource {
    shared: Arc<Shared>,
}

#[derive(Clone)]
struct Shared {
    /// `host:port`.
    authority: Box<str>,
    id: SpiffeId,
    roots: PathBuf,
    name: Option<Arc<str>>,
    proof: Proof,
    lifetime: Duration,
    cluster: Option<HeaderValue>,
}

/// How this process proves who it is.
#[derive(Clone)]
enum Proof {
    /// By the identity that it has.
    Identity,
    /// By a token, until it has an identity.
    Join(Zeroizing<String>),
    /// By what this file holds at the moment.
    TokenFile(PathBuf),
}

impl CsrSource {
    /// Asks `authority` (`host:port`) for certificates of `id`. `roots` is a file with the roots by
    /// which the authority's own certificate is believed; it is read for each request. That
    /// certificate must be for the host of `authority`, or for
    /// [`with_server_name`](Self::with_server_name).
    ///
    /// Without a token the identity itself is what proves who asks, so there must be one already.
    #[must_use]
    pub fn new(authority: impl Into<Box<str>>, id: SpiffeId, roots: impl Into<PathBuf>) -> Self {
        Self {
            shared: Arc::new(Shared {
                authority: authority.into(),
                id,
                roots: roots.into(),
                name: None,
                proof: Proof::Identity,
                lifetime: LIFETIME,
                cluster: None,
            }),
        }
    }

    /// istiod without an agent beside this process, as pods of Istio's templates find it.
    ///
    /// | variable | default | what it is |
    /// | --- | --- | --- |
    /// | `CA_ADDR`, else `ISTIOD_ADDR` | `istiod.istio-system.svc:15012` | who signs |
    /// | `POD_NAMESPACE`, `SERVICE_ACCOUNT` | needed | who this is |
    /// | `TRUST_DOMAIN` | `cluster.local` | of its identity |
    /// | `CLUSTER_ID` | `Kubernetes` | the cluster that the token is of |
    ///
    /// The root is in `/var/run/secrets/istio/root-cert.pem`, the token in
    /// `/var/run/secrets/tokens/istio-token`.
    ///
    /// # Errors
    /// All variables that are missing or wrong.
    pub fn istio() -> Result<Self, Error> {
        Self::of_pod(|name| std::env::var(name).ok().filter(|text| !text.is_empty()))
    }

    fn of_pod(get: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let mut faults = Vec::new();
        let mut needed = |name: &str| {
            get(name).unwrap_or_else(|| {
                faults.push(format!("\n  {name} is not set"));
                String::new()
            })
        };
        let (namespace, account) = (needed("POD_NAMESPACE"), needed("SERVICE_ACCOUNT"));
        let domain = get("TRUST_DOMAIN").unwrap_or_else(|| "cluster.local".to_owned());
        let id = TrustDomain::new(&domain)
            .and_then(|domain| SpiffeId::of_service_account(&domain, &namespace, &account));
        let cluster = get("CLUSTER_ID").unwrap_or_else(|| "Kubernetes".to_owned());
        let cluster = HeaderValue::try_from(&cluster);
        if cluster.is_err() {
            faults.push("\n  CLUSTER_ID has characters that no header may have".to_owned());
        }
        if faults.is_empty()
            && let Err(error) = &id
        {
            faults.push(format!(
                "\n  TRUST_DOMAIN, POD_NAMESPACE and SERVICE_ACCOUNT make no identity: {error}"
            ));
        }
        match (id, cluster) {
            (Ok(id), Ok(cluster)) if faults.is_empty() => {
                let authority = get("CA_ADDR").or_else(|| get("ISTIOD_ADDR"));
                let authority = authority.unwrap_or_else(|| ISTIOD.to_owned());
                let source = Self::new(authority, id, ISTIO_ROOTS);
                Ok(source
                    .with(|shared| shared.cluster = Some(cluster))
                    .with_token_file(ISTIO_TOKEN))
            }
            _ => Err(Error::config(format!(
                "the environment does not say who this pod is to its authority:{}",
                faults.concat()
            ))),
        }
    }

    /// Proves who this is by the token in this file, which is read for each request, since somebody
    /// renews it: a projected service-account token of Kubernetes.
    #[must_use]
    pub fn with_token_file(self, path: impl Into<PathBuf>) -> Self {
        self.with(|shared| shared.proof = Proof::TokenFile(path.into()))
    }

    /// Proves who this is by this token until there is an identity, and by the identity then. When the
    /// identity has expired, the token is tried again.
    #[must_use]
    pub fn with_join_token(self, token: impl Into<String>) -> Self {
        self.with(|shared| shared.proof = Proof::Join(Zeroizing::new(token.into())))
    }

    /// Expects the authority's certificate to be for this name in place of the host that is
    /// connected to.
    #[must_use]
    pub fn with_server_name(self, name: impl Into<Arc<str>>) -> Self {
        self.with(|shared| shared.name = Some(name.into()))
    }

    /// Asks for certificates that are valid for so long; the default is 24 h. The authority may make
    /// it less.
    #[must_use]
    pub fn with_lifetime(self, lifetime: Duration) -> Self {
        self.with(|shared| shared.lifetime = lifetime)
    }

    fn with(mut self, change: impl FnOnce(&mut Shared)) -> Self {
        change(Arc::make_mut(&mut self.shared));
        self
    }

    /// Keeps the credentials fresh as long as somebody uses them.
    pub(super) async fn keep(self, credentials: Weak, clock: Clock, random: Random) {
        let ask = |into: Credentials| {
            let source = self.clone();
            async move { source.shared.ask(&into, clock).await }
        };
        renew::keep(ask, credentials, clock, random).await;
    }
}

impl Shared {
    /// Asks once.
    async fn ask(&self, into: &Credentials, clock: Clock) -> Result<Issued, Unissued> {
        let key =
            KeyPair::generate().map_err(|error| Unissued::Request(error.to_string().into()))?;
        let csr = request(&self.id, &key)?;
        let own = into.clone();
        let shared = self.clone();
        let blocking = move || (shared.connector(&own, clock), shared.token(&own, clock));
        let (connector, token) = tokio::task::spawn_blocking(blocking)
            .await
            .map_err(|error| Unissued::Request(error.to_string().into()))?;
        let texts = Call {
            authority: &self.authority,
            connector: &connector?,
            csr: &csr,
            lifetime: self.lifetime,
            token: token?,
            cluster: self.cluster.as_ref(),
        }
        .make()
        .await?;
        let key = Zeroizing::new(key.serialize_pem());
        Issued::read(&texts, key.as_bytes(), &self.id, clock)
    }

    /// Who the authority must be, and what it is shown. Reads the file of roots.
    fn connector(&self, own: &Credentials, clock: Clock) -> Result<Connector, Unusable> {
        let file = files::contents("the bundle of roots", &self.roots)?;
        let mut roots: Vec<Vec<u8>> = Bundle::from_pem(&file)?
            .roots()
            .map(<[u8]>::to_vec)
            .collect();
        if let Some(later) = own.trusted().domain(self.id.trust_domain()) {
            roots.extend(later.roots().map(<[u8]>::to_vec));
        }
        let trust = Trust::default().with_roots(Bundle::from_der(roots)?);
        let shows = self.shows(own, clock);
        let tls = ClientTls {
            identity: shows.then_some(Material::Mesh),
            trust: Material::Mesh,
            verification: Verification::Name,
            names: Vec::new(),
            sni: self.name.clone().map_or(Sni::Endpoint, Sni::Name),
            alpn: Alpn::Http,
        };
        let trust = Credentials::new(None, trust);
        Ok(Connector::new(
            &tls,
            shows.then(|| own.clone()),
            trust,
            clock,
        ))
    }

    /// Whether the identity is shown.
    fn shows(&self, own: &Credentials, clock: Clock) -> bool {
        match &self.proof {
            Proof::Identity => true,
            Proof::Join(_) => own.state().presentable(clock.now()).is_ok(),
            Proof::TokenFile(_) => false,
        }
    }

    /// The value of `authorization`. May read a file.
    fn token(&self, own: &Credentials, clock: Clock) -> Result<Option<HeaderValue>, Unusable> {
        const WHAT: &str = "the token";
        let file;
        let token: &str = match &self.proof {
            Proof::Join(token) if !self.shows(own, clock) => token,
            Proof::Identity | Proof::Join(_) => return Ok(None),
            Proof::TokenFile(path) => {
                file = files::contents(WHAT, path)?;
                std::str::from_utf8(&file).map_err(|_| Unusable::new(WHAT, "it is no text"))?
            }
        };
        let text = Zeroizing::new(format!("Bearer {}", token.trim()));
        let mut value = HeaderValue::from_str(&text)
            .map_err(|_| Unusable::new(WHAT, "it has characters that no header may have"))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

/// A request for a certificate of `id`. istiod looks at the name, ours does not.
fn request(id: &SpiffeId, key: &KeyPair) -> Result<String, Unissued> {
    let failed = |error: rcgen::Error| Unissued::Request(error.to_string().into());
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let name = id.as_str().try_into().map_err(failed)?;
    params.subject_alt_names = vec![SanType::URI(name)];
    let request = params.serialize_request(key).map_err(failed)?;
    request.pem().map_err(failed)
}

impl fmt::Debug for CsrSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let proof: &dyn fmt::Debug = match &self.shared.proof {
            Proof::Identity => &"identity",
            Proof::Join(_) => &"join token",
            Proof::TokenFile(path) => path,
        };
        f.debug_struct("CsrSource")
            .field("authority", &self.shared.authority)
            .field("id", &self.shared.id)
            .field("proof", proof)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn pod(variables: &[(&str, &str)]) -> Result<CsrSource, String> {
        let get = |name: &str| {
            let found = variables.iter().find(|(own, _)| *own == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        CsrSource::of_pod(get).map_err(|error| error.to_string())
    }

    #[test]
    fn a_pod_of_istio_says_all_by_its_environment() {
        let source = pod(&[("POD_NAMESPACE", "my-app"), ("SERVICE_ACCOUNT", "order")]).unwrap();
        assert_eq!(&*source.shared.authority, ISTIOD);
        assert_eq!(
            source.shared.id.as_str(),
            "spiffe://cluster.local/ns/my-app/sa/order"
        );
        assert!(
            matches!(&source.shared.proof, Proof::TokenFile(path) if path == Path::new(ISTIO_TOKEN))
        );
        assert_eq!(source.shared.cluster.as_ref().unwrap(), "Kubernetes");
        let all = [
            ("POD_NAMESPACE", "a"),
            ("SERVICE_ACCOUNT", "b"),
            ("TRUST_DOMAIN", "td"),
            ("ISTIOD_ADDR", "xds:1"),
            ("CA_ADDR", "ca:2"),
            ("CLUSTER_ID", "c"),
        ];
        let source = pod(&all).unwrap();
        assert_eq!(&*source.shared.authority, "ca:2");
        assert_eq!(source.shared.id.as_str(), "spiffe://td/ns/a/sa/b");
        let error = pod(&[("CLUSTER_ID", "a\nb")]).unwrap_err();
        for part in [
            "POD_NAMESPACE is not set",
            "SERVICE_ACCOUNT is not set",
            "CLUSTER_ID has",
        ] {
            assert!(error.contains(part), "{error}");
        }
        let error = pod(&[("POD_NAMESPACE", "a/b"), ("SERVICE_ACCOUNT", "c d")]).unwrap_err();
        assert!(error.contains("make no identity"), "{error}");
    }

    #[test]
    fn a20_a_join_token_is_shown_to_nobody() {
        let id: SpiffeId = "spiffe://td/ns/a/sa/b".parse().unwrap();
        let source = CsrSource::new("a:1", id, "roots.pem").with_join_token("s3cret");
        let token = source
            .shared
            .token(&Credentials::default(), Clock::system());
        let token = token.unwrap().unwrap();
        assert_eq!(token, "Bearer s3cret");
        let shown = format!("{source:?} {token:?}");
        assert!(!shown.contains("s3cret"), "{shown}");
        assert!(shown.contains("join token"), "{shown}");
    }
}
