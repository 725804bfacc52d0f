//! Whether a chain of certificates proves what it claims.
//!
//! A pure function of the chain, the trust and the time. The path is verified by webpki, which
//! bounds its search to a hundred signatures whatever the chain looks like; this adds what stands in
//! the leaf, and chooses the roots by the peer's own trust domain.

use std::time::Duration;

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::{
    CertRevocationList, EndEntityCert, Error, ExpirationPolicy, KeyUsage, RevocationCheckDepth,
    RevocationOptionsBuilder, UnknownStatusPolicy,
};

use super::Verification;
use super::certificate::Leaf;
use super::refusal::Refusal;
use super::trust::{Bundle, Trust};
use crate::model::identity::SpiffeId;
use crate::model::matcher::StringMatcher;

/// The most certificates that a peer may present.
const MAX_CHAIN: usize = 16;
/// The most bytes that one of them may have.
const MAX_CERTIFICATE: usize = 64 << 10;

/// What a peer must prove.
#[derive(Clone, Debug)]
pub(super) struct Checks {
    pub(super) verification: Verification,
    pub(super) names: Vec<StringMatcher>,
    pub(super) usage: Usage,
    /// How far clocks may be apart ([`Clock::with_skew`](super::Clock::with_skew)).
    pub(super) skew: Duration,
}

/// What the peer is in this handshake.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Usage {
    Client,
    Server,
}

/// What a chain has proven.
#[derive(Clone, Debug)]
pub(super) struct Proven {
    pub(super) id: Option<SpiffeId>,
    pub(super) leaf: Leaf,
}

/// Judges a chain, leaf first. `asked` is the server that was asked for.
pub(super) fn verify(
    checks: &Checks,
    chain: &[CertificateDer<'_>],
    asked: Option<&ServerName<'_>>,
    trust: &Trust,
    algorithms: WebPkiSupportedAlgorithms,
    now: UnixTime,
) -> Result<Proven, Refusal> {
    let (first, others) = chain.split_first().ok_or(Refusal::Missing)?;
    if chain.len() > MAX_CHAIN {
        let text = format!(
            "{} certificates; at most {MAX_CHAIN} are allowed",
            chain.len()
        );
        return Err(Refusal::Malformed(text.into()));
    }
    if let Some(long) = chain.iter().find(|one| one.len() > MAX_CERTIFICATE) {
        let text = format!(
            "{} bytes; at most {MAX_CERTIFICATE} are allowed",
            long.len()
        );
        return Err(Refusal::Malformed(text.into()));
    }
    let leaf = Leaf::read(first)?;
    let by_domain = match checks.verification {
        Verification::Nothing => return Ok(Proven { id: None, leaf }),
        Verification::Svid => true,
        Verification::Chain | Verification::NameOr => trust.judges_by_domain(leaf.claims_spiffe()),
        Verification::Name => false,
    };
    let (id, bundle) = match by_domain {
        true => {
            let id = leaf.svid()?;
            let bundle = trust.domain(id.trust_domain());
            let bundle = bundle.ok_or_else(|| Refusal::WrongDomain(id.trust_domain().clone()))?;
            (Some(id), bundle)
        }
        false => (None, trust.roots().ok_or(Refusal::UnknownIssuer)?),
    };
    let entity = EndEntityCert::try_from(first).map_err(refusal)?;
    path(&entity, others, bundle, checks, algorithms, now)?;
    match (checks.verification, &*checks.names, asked) {
        (Verification::Name, [], Some(asked))
        | (Verification::NameOr, _, Some(asked @ ServerName::DnsName(_))) => entity
            .verify_is_valid_for_subject_name(asked)
            .map_err(|_| wrong_name(&leaf))?,
        // Nobody was asked for, so nobody can be believed to be the one.
        (Verification::Name, [], None) | (Verification::NameOr, [], _) => {
            return Err(wrong_name(&leaf));
        }
        (_, [], _) => {}
        (_, matchers, _) if is_named(&leaf, matchers) => {}
        (_, _, _) => return Err(wrong_name(&leaf)),
    }
    // A chain to a SPIFFE identity says who it is, also where the rules of SVIDs are not asked for; but
    // where domains are known only their own bundles do.
    let unnamed = id.is_none() && !trust.judges_by_domain(leaf.claims_spiffe());
    let id = id.or_else(|| unnamed.then(|| leaf.svid().ok()).flatten());
    Ok(Proven { id, leaf })
}

/// The path to a root, at this time and within the skew of clocks.
fn path(
    entity: &EndEntityCert<'_>,
    others: &[CertificateDer<'_>],
    bundle: &Bundle,
    checks: &Checks,
    algorithms: WebPkiSupportedAlgorithms,
    now: UnixTime,
) -> Result<(), Refusal> {
    let at = |time: UnixTime| path_at(entity, others, bundle, checks.usage, algorithms, time);
    let seconds = Duration::from_secs(now.as_secs());
    match at(now) {
        Err(Refusal::Expired) if !checks.skew.is_zero() => at(UnixTime::since_unix_epoch(
            seconds.saturating_sub(checks.skew),
        )),
        Err(Refusal::NotYetValid) if !checks.skew.is_zero() => at(UnixTime::since_unix_epoch(
            seconds.saturating_add(checks.skew),
        )),
        outcome => outcome,
    }
}

fn path_at(
    entity: &EndEntityCert<'_>,
    others: &[CertificateDer<'_>],
    bundle: &Bundle,
    usage: Usage,
    algorithms: WebPkiSupportedAlgorithms,
    time: UnixTime,
) -> Result<(), Refusal> {
    let lists: Vec<&CertRevocationList<'_>> = bundle.revocations().iter().collect();
    // Without lists there is nothing to check. A list that is too old still names who was revoked.
    let revocation = RevocationOptionsBuilder::new(&lists).ok().map(|options| {
        options
            .with_depth(RevocationCheckDepth::Chain)
            .with_status_policy(UnknownStatusPolicy::Allow)
            .with_expiration_policy(ExpirationPolicy::Ignore)
            .build()
    });
    let usage = match usage {
        Usage::Client => KeyUsage::client_auth(),
        Usage::Server => KeyUsage::server_auth(),
    };
    entity
        .verify_for_usage(
            algorithms.all,
            bundle.anchors(),
            others,
            time,
            usage,
            revocation,
            None,
        )
        .map(|_| ())
        .map_err(refusal)
}

fn wrong_name(leaf: &Leaf) -> Refusal {
    Refusal::WrongName {
        found: leaf.names().map(Into::into).collect(),
    }
}

/// Whether one of the certificate's names is one of those asked for.
fn is_named(leaf: &Leaf, matchers: &[StringMatcher]) -> bool {
    let plain = leaf
        .names()
        .any(|name| matchers.iter().any(|one| one.matches(name)));
    plain
        || leaf.dns.iter().any(|pattern| {
            matchers.iter().any(|matcher| match matcher {
                StringMatcher::Exact(wanted) => covers(pattern, wanted),
                _ => false,
            })
        })
}

/// Whether a wildcard DNS name of a certificate covers a host (RFC 6125 §6.4.3): the `*` is a whole
/// first label and stands for one.
fn covers(pattern: &str, host: &str) -> bool {
    let Some(suffix) = pattern.strip_prefix("*.") else {
        return false;
    };
    let rest = host.split_once('.').filter(|(first, _)| !first.is_empty());
    rest.is_some_and(|(_, rest)| suffix.contains('.') && rest.eq_ignore_ascii_case(suffix))
}

fn refusal(error: Error) -> Refusal {
    match error {
        Error::CertExpired { .. } => Refusal::Expired,
        Error::CertNotValidYet { .. } => Refusal::NotYetValid,
        Error::CertRevoked => Refusal::Revoked,
        Error::UnknownIssuer => Refusal::UnknownIssuer,
        Error::RequiredEkuNotFoundContext(_) => Refusal::WrongPurpose,
        Error::CaUsedAsEndEntity => super::refusal::NotAnSvid::Authority.into(),
        Error::InvalidSignatureForPublicKey
        | Error::UnsupportedSignatureAlgorithmContext(_)
        | Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_)
        | Error::MaximumSignatureChecksExceeded
        | Error::MaximumPathBuildCallsExceeded => Refusal::Signature(format!("{error:?}").into()),
        other => Refusal::Malformed(format!("{other:?}").into()),
    }
}
