//! Whose word counts.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, TrustAnchor};
use webpki::{CertRevocationList, OwnedCertRevocationList, anchor_from_trusted_cert};

use super::pem::{self, Unusable};
use crate::model::identity::TrustDomain;

/// Roots, and what they have revoked.
///
/// Immutable and cheap to clone.
#[derive(Clone)]
pub struct Bundle {
    shared: Arc<Roots>,
}

struct Roots {
    certificates: Vec<CertificateDer<'static>>,
    anchors: Vec<TrustAnchor<'static>>,
    lists: Vec<CertificateRevocationListDer<'static>>,
    revocations: Vec<CertRevocationList<'static>>,
}

impl Bundle {
    /// Reads roots from PEM.
    ///
    /// # Errors
    /// If there is none, or one of them cannot be a root.
    pub fn from_pem(roots: &[u8]) -> Result<Self, Unusable> {
        Self::new(pem::certificates("the bundle of roots", roots)?)
    }

    /// Takes roots in DER.
    ///
    /// # Errors
    /// As [`from_pem`](Self::from_pem).
    pub fn from_der(roots: Vec<Vec<u8>>) -> Result<Self, Unusable> {
        Self::new(roots.into_iter().map(CertificateDer::from).collect())
    }

    fn new(certificates: Vec<CertificateDer<'static>>) -> Result<Self, Unusable> {
        const WHAT: &str = "the bundle of roots";
        if certificates.is_empty() {
            return Err(Unusable::new(WHAT, "it is empty"));
        }
        let mut anchors = Vec::with_capacity(certificates.len());
        for certificate in &certificates {
            let anchor = anchor_from_trusted_cert(certificate);
            let anchor = anchor.map_err(|error| Unusable::new(WHAT, error.to_string()))?;
            anchors.push(anchor.to_owned());
        }
        Ok(Self {
            shared: Arc::new(Roots {
                certificates,
                anchors,
                lists: Vec::new(),
                revocations: Vec::new(),
            }),
        })
    }

    /// The roots that the system trusts.
    ///
    /// Blocks for as long as reading some hundred files takes.
    ///
    /// # Errors
    /// If the system has none, or none can be read.
    pub fn system() -> Result<Self, Unusable> {
        const WHAT: &str = "the system's roots";
        let found = rustls_native_certs::load_native_certs();
        let usable = found.certs.into_iter();
        // Systems hold roots that nobody can parse; the others are as good without them.
        let usable = usable.filter(|root| anchor_from_trusted_cert(root).is_ok());
        Self::new(usable.collect()).map_err(|_| {
            let why = match found.errors.first() {
                Some(error) => error.to_string(),
                None => "there is none; name a file of roots".to_owned(),
            };
            Unusable::new(WHAT, why)
        })
    }

    /// The same roots with these revocation lists (PEM) in place of those before.
    ///
    /// A certificate that a list names is refused, on whichever level of the chain it stands. An
    /// issuer without a list has revoked nothing.
    ///
    /// # Errors
    /// If there is no list, or one of them cannot be parsed.
    pub fn with_revocations(&self, lists: &[u8]) -> Result<Self, Unusable> {
        self.revoking(pem::revocations(lists)?)
    }

    /// As [`with_revocations`](Self::with_revocations), for lists in DER.
    ///
    /// # Errors
    /// As there.
    pub fn with_revocations_der(&self, lists: Vec<Vec<u8>>) -> Result<Self, Unusable> {
        self.revoking(lists.into_iter().map(Into::into).collect())
    }

    fn revoking(
        &self,
        lists: Vec<CertificateRevocationListDer<'static>>,
    ) -> Result<Self, Unusable> {
        let mut revocations = Vec::with_capacity(lists.len());
        for list in &lists {
            let parsed = OwnedCertRevocationList::from_der(list)
                .map_err(|error| Unusable::new("the revocation list", error.to_string()))?;
            revocations.push(CertRevocationList::from(parsed));
        }
        Ok(Self {
            shared: Arc::new(Roots {
                certificates: self.shared.certificates.clone(),
                anchors: self.shared.anchors.clone(),
                lists,
                revocations,
            }),
        })
    }

    /// The roots in DER.
    pub fn roots(&self) -> impl Iterator<Item = &[u8]> {
        self.shared.certificates.iter().map(AsRef::as_ref)
    }

    pub(super) fn anchors(&self) -> &[TrustAnchor<'static>] {
        &self.shared.anchors
    }

    pub(super) fn revocations(&self) -> &[CertRevocationList<'static>] {
        &self.shared.revocations
    }
}

/// Equal if the roots and the lists are, byte by byte.
impl PartialEq for Bundle {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
            || self.shared.certificates == other.shared.certificates
                && self.shared.lists == other.shared.lists
    }
}

impl Eq for Bundle {}

impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bundle")
            .field("roots", &self.shared.certificates.len())
            .field("revocation_lists", &self.shared.lists.len())
            .finish()
    }
}

/// Which roots count for whom.
///
/// A peer with a SPIFFE ID is judged by the bundle of *its* trust domain; there is no bundle that
/// counts for all domains, since with one of those every federated domain could issue identities of
/// every other (SPIFFE Trust Domain and Bundle §4). Servers without SPIFFE IDs are judged by the
/// roots of [`with_roots`](Self::with_roots).
///
/// Where a control plane asks for no more than a chain (gRFC A29), a trust that has been told of domains judges by
/// them as well (gRFC A87), also when the last of them has left again; one that has roots alone lets them vouch for
/// whomever they have signed. So roots that several parties hold the keys of do not belong into one
/// [`with_roots`](Self::with_roots).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Trust {
    domains: BTreeMap<TrustDomain, Bundle>,
    roots: Option<Bundle>,
    /// Whether domains say who is believed. It is not the same as that there are some: were it, the roots would
    /// vouch for everybody from the moment at which the last domain is taken off a list.
    by_domain: bool,
}

impl Trust {
    /// A trust that judges by domains and knows none yet, such as an empty list of them.
    pub(super) fn of_no_domain() -> Self {
        Self {
            by_domain: true,
            ..Self::default()
        }
    }

    /// Trusts this bundle for this trust domain, in place of the one before.
    #[must_use]
    pub fn with_domain(mut self, domain: TrustDomain, bundle: Bundle) -> Self {
        self.by_domain = true;
        self.domains.insert(domain, bundle);
        self
    }

    /// Trusts nobody for this trust domain any more. Without the last one nobody with a SPIFFE ID is believed:
    /// [`with_roots`](Self::with_roots) does not stand in for domains.
    #[must_use]
    pub fn without_domain(mut self, domain: &TrustDomain) -> Self {
        self.domains.remove(domain);
        self
    }

    /// Trusts these roots for certificates that are judged by chain and name alone.
    #[must_use]
    pub fn with_roots(mut self, roots: Bundle) -> Self {
        self.roots = Some(roots);
        self
    }

    /// The bundle of a trust domain.
    #[must_use]
    pub fn domain(&self, domain: &TrustDomain) -> Option<&Bundle> {
        self.domains.get(domain)
    }

    /// All trust domains that somebody is trusted for, with their bundles.
    pub fn domains(&self) -> impl Iterator<Item = (&TrustDomain, &Bundle)> {
        self.domains.iter()
    }

    /// Whether a certificate of which only a chain is asked is judged by the bundle of its trust domain.
    pub(super) fn judges_by_domain(&self, claims_spiffe: bool) -> bool {
        self.by_domain && (claims_spiffe || self.roots.is_none())
    }

    /// The roots for certificates that are judged by chain and name alone.
    #[must_use]
    pub fn roots(&self) -> Option<&Bundle> {
        self.roots.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle() -> Bundle {
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let root = params.self_signed(&rcgen::KeyPair::generate().unwrap());
        Bundle::from_der(vec![root.unwrap().der().to_vec()]).unwrap()
    }

    #[test]
    fn domains_that_were_told_of_are_judged_by_also_when_none_is_left() {
        let domain: TrustDomain = "td".parse().unwrap();
        let told = Trust::default().with_domain(domain.clone(), bundle());
        let left = told.clone().without_domain(&domain);
        assert_eq!(left.domains().count(), 0);
        for (row, trust, claims, others) in [
            ("nothing", Trust::default(), false, false),
            ("roots", Trust::default().with_roots(bundle()), false, false),
            ("a domain", told.clone(), true, true),
            ("a domain and roots", told.with_roots(bundle()), true, false),
            ("the last one left", left.clone(), true, true),
            ("and roots stayed", left.with_roots(bundle()), true, false),
            ("an empty list", Trust::of_no_domain(), true, true),
            (
                "an empty list and roots",
                Trust::of_no_domain().with_roots(bundle()),
                true,
                false,
            ),
        ] {
            assert_eq!(trust.judges_by_domain(true), claims, "{row}");
            assert_eq!(trust.judges_by_domain(false), others, "{row}");
        }
    }
}
