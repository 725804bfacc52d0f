//! Where certificates are asked for: who asks, what for, how often; and what is written down of it.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{HeaderMap, Request, Response};
use thiserror::Error;
use tonic::Status;
use tonic::body::Body;
use tonic::server::{Grpc, UnaryService};
use tonic_prost::ProstCodec;

use super::caller::{By, Proofs, Unproven};
use super::wire::{Answered, Asked, IMPERSONATED};
use crate::error::BoxError;
use crate::layer::rate_limit::{Head, InvalidRate, Rate, RateLimit};
use crate::model::identity::SpiffeId;
use crate::tls::{Authority, CertificateRequest, Clock, Unsigned, Unusable};

/// The largest request, in bytes.
const LARGEST: usize = 64 << 10;
/// Of how many addresses and identities the rate is known each by itself.
const KEYS: NonZeroU32 = NonZeroU32::new(10_000).expect("not zero");

/// Answers requests for certificates.
pub(in crate::control) struct Office {
    authority: Arc<ArcSwap<Authority>>,
    proofs: Arc<Proofs>,
    lifetime: Duration,
    clock: Clock,
    /// How often tokens are looked at, by the address that shows them.
    attempts: RateLimit,
    /// How often certificates are signed, by the identity that they are for.
    issues: RateLimit,
    counts: Counts,
}

/// What has been counted.
#[derive(Debug, Default)]
pub(in crate::control) struct Counts {
    issued: [AtomicU64; By::ALL.len()],
    refused: [AtomicU64; REASONS.len()],
}

/// Why requests are refused, as counters name it.
pub(in crate::control) const REASONS: [&str; 5] = [
    "failed",
    "impersonation",
    "malformed",
    "rate",
    "unauthenticated",
];

/// Why a request is refused.
#[derive(Debug, Error)]
enum Refused {
    #[error("nothing was signed: {0}")]
    Failed(#[from] Unsigned),
    #[error("the certificate of another identity was asked for")]
    Impersonation,
    #[error("{0}")]
    Malformed(#[from] Unusable),
    #[error("too many requests")]
    Rate,
    #[error("the caller has not proven who it is: {0}")]
    Unauthenticated(#[from] Unproven),
}

impl Refused {
    fn reason(&self) -> usize {
        match self {
            Self::Failed(_) => 0,
            Self::Impersonation => 1,
            Self::Malformed(_) => 2,
            Self::Rate => 3,
            Self::Unauthenticated(_) => 4,
        }
    }

    /// What the caller learns.
    fn status(&self) -> Status {
        match self {
            Self::Failed(_) => Status::unavailable("the authority cannot sign at the moment"),
            Self::Impersonation => {
                Status::permission_denied("certificates are issued for the caller alone")
            }
            Self::Malformed(why) => Status::invalid_argument(why.to_string()),
            Self::Rate => Status::resource_exhausted("too many requests; try again later"),
            Self::Unauthenticated(_) => Status::unauthenticated("the caller is not authenticated"),
        }
    }
}

/// From where a request comes, and who is at the other end, if its certificate was verified.
#[derive(Clone, Debug)]
pub(in crate::control) struct Caller {
    pub(in crate::control) address: IpAddr,
    pub(in crate::control) certificate: Option<SpiffeId>,
}

impl Office {
    pub(super) fn new(
        authority: Arc<ArcSwap<Authority>>,
        proofs: Proofs,
        lifetime: Duration,
        clock: Clock,
    ) -> Self {
        let limits = limits().expect("the rates are valid");
        let (attempts, issues) = limits;
        Self {
            authority,
            proofs: Arc::new(proofs),
            lifetime,
            clock,
            attempts,
            issues,
            counts: Counts::default(),
        }
    }

    /// Answers `CreateCertificate`.
    pub(in crate::control) async fn answer<B>(
        self: &Arc<Self>,
        request: Request<B>,
        caller: Caller,
    ) -> Response<Body>
    where
        B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
        B::Error: Into<BoxError> + Send,
    {
        let codec = ProstCodec::<Answered, Asked>::default();
        let signing = Signing {
            office: self.clone(),
            caller,
        };
        Grpc::new(codec)
            .max_decoding_message_size(LARGEST)
            .unary(signing, request)
            .await
    }

    /// Whether that address may try once more; asked before anything of a request is held.
    ///
    /// # Errors
    /// It has tried too often.
    pub(in crate::control) fn admit(&self, address: IpAddr) -> Result<(), Status> {
        within(&self.attempts, address).map_err(|refused| {
            let caller = Caller {
                address,
                certificate: None,
            };
            self.refused(&caller, &refused)
        })
    }

    /// Counts and tells a refusal; what a caller learns of it.
    fn refused(&self, caller: &Caller, refused: &Refused) -> Status {
        let reason = refused.reason();
        self.counts.refused[reason].fetch_add(1, Relaxed);
        let (address, why) = (&caller.address, REASONS[reason]);
        let certificate = caller.certificate.as_ref().map(SpiffeId::as_str);
        // What any stranger can bring about as often as he likes does not fill the log.
        if matches!(refused, Refused::Rate) && certificate.is_none() {
            tracing::debug!(target: "meshwork::ca", %address, reason = why, "certificate refused: {refused}");
        } else {
            tracing::warn!(target: "meshwork::ca", %address, certificate, reason = why, "certificate refused: {refused}");
        }
        refused.status()
    }

    async fn decide(
        &self,
        headers: &HeaderMap,
        caller: &Caller,
        asked: &Asked,
    ) -> Result<Answered, Status> {
        let issued = self.consider(headers, caller, asked).await;
        issued.map_err(|refused| self.refused(caller, &refused))
    }

    async fn consider(
        &self,
        headers: &HeaderMap,
        caller: &Caller,
        asked: &Asked,
    ) -> Result<Answered, Refused> {
        let authority = self.authority.load_full();
        let now = self.clock.now();
        let certificate = caller.certificate.as_ref();
        let domain = authority.trust_domain();
        let (id, by) = self
            .proofs
            .examine(headers, certificate, domain, now)
            .await?;
        within(&self.issues, id.clone())?;
        let metadata = asked.metadata.as_ref();
        if metadata.is_some_and(|all| all.fields.contains_key(IMPERSONATED)) {
            return Err(Refused::Impersonation);
        }
        let request = CertificateRequest::from_pem(&asked.csr)?;
        let wished = u64::try_from(asked.validity_duration).unwrap_or(0);
        let lifetime = match wished {
            0 => self.lifetime,
            seconds => Duration::from_secs(seconds).min(self.lifetime),
        };
        let signed = authority.sign(&request, &id, lifetime, now)?;
        self.counts.issued[by as usize].fetch_add(1, Relaxed);
        tracing::info!(
            target: "meshwork::ca",
            %id,
            by = by.word(),
            address = %caller.address,
            serial = signed.serial,
            not_after = signed.not_after.as_secs(),
            "certificate issued"
        );
        Ok(Answered {
            cert_chain: vec![signed.certificate, authority.bundle_pem()],
        })
    }

    /// Counters and gauges in Prometheus' text format, appended to `out`.
    pub(in crate::control) fn metrics(&self, out: &mut String) {
        let mut family = |name: &str, kind: &str, help: &str, samples: &[(String, u64)]| {
            let name = format!("meshwork_control_ca_{name}");
            out.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
            for (labels, value) in samples {
                out.push_str(&format!("{name}{labels} {value}\n"));
            }
        };
        let issued = By::ALL.map(|by| {
            let value = self.counts.issued[by as usize].load(Relaxed);
            (format!("{{by=\"{}\"}}", by.word()), value)
        });
        family("issued_total", "counter", "Certificates by proof.", &issued);
        let mut refused = Vec::with_capacity(REASONS.len());
        for (reason, count) in REASONS.iter().zip(&self.counts.refused) {
            refused.push((format!("{{reason=\"{reason}\"}}"), count.load(Relaxed)));
        }
        family(
            "refused_total",
            "counter",
            "Requests without a certificate.",
            &refused,
        );
        let authority = self.authority.load();
        let roots = authority.bundle().roots().count() as u64;
        family(
            "roots",
            "gauge",
            "Roots that clients are told to trust.",
            &[(String::new(), roots)],
        );
        let until = authority.not_after().as_secs();
        let help = "When the root that signs expires, since 1970.";
        family(
            "root_not_after_seconds",
            "gauge",
            help,
            &[(String::new(), until)],
        );
    }
}

/// A token of a limit that counts by something among the extensions.
fn within<K: Clone + Send + Sync + 'static>(limit: &RateLimit, key: K) -> Result<(), Refused> {
    let mut request = Request::new(());
    request.extensions_mut().insert(key);
    limit.check(Head::of(&request)).map_err(|_| Refused::Rate)
}

/// The limits of tries and of certificates.
fn limits() -> Result<(RateLimit, RateLimit), InvalidRate> {
    let second = Duration::from_secs(1);
    let attempts = RateLimit::new()
        .per_key(by_address, Rate::new(50, 10, second)?, KEYS)
        .total(Rate::new(400, 200, second)?);
    let issues = RateLimit::new()
        .per_key(by_identity, Rate::new(20, 1, second)?, KEYS)
        .total(Rate::new(200, 100, second)?);
    Ok((attempts, issues))
}

/// The address that tries are counted by.
fn by_address(head: Head<'_>) -> Option<Cow<'_, [u8]>> {
    let address = head.extensions.get::<IpAddr>()?;
    Some(Cow::Owned(address.to_string().into_bytes()))
}

/// The identity that certificates are counted by.
fn by_identity(head: Head<'_>) -> Option<Cow<'_, [u8]>> {
    let id = head.extensions.get::<SpiffeId>()?;
    Some(Cow::Borrowed(id.as_str().as_bytes()))
}

/// One request, as tonic calls it.
struct Signing {
    office: Arc<Office>,
    caller: Caller,
}

impl UnaryService<Asked> for Signing {
    type Response = Answered;
    type Future = Pin<Box<dyn Future<Output = Result<tonic::Response<Answered>, Status>> + Send>>;

    fn call(&mut self, request: tonic::Request<Asked>) -> Self::Future {
        let (office, caller) = (self.office.clone(), self.caller.clone());
        let (metadata, _, asked) = request.into_parts();
        Box::pin(async move {
            let headers = metadata.into_headers();
            let answered = office.decide(&headers, &caller, &asked).await;
            answered.map(tonic::Response::new)
        })
    }
}

impl fmt::Debug for Office {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Office")
            .field("authority", &self.authority.load())
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}
