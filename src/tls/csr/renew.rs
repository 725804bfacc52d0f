//! Keeps an identity fresh: asks, publishes, waits, for as long as somebody uses it.

use std::future::Future;
use std::time::Duration;

use thiserror::Error;

use super::super::clock::Clock;
use super::super::credentials::{Credentials, Weak};
use super::super::identity::Identity;
use super::super::pem::Unusable;
use super::super::plan::Plan;
use super::super::provider::provider;
use super::super::trust::{Bundle, Trust};
use super::super::verify::{Checks, Usage, verify};
use super::super::{Refusal, Verification};
use super::call::Failed;
use crate::model::identity::SpiffeId;
use crate::random::Random;

/// The longest sleep, so that a wall clock that was set, or a machine that was suspended, is noticed.
const LOOK: Duration = Duration::from_secs(1);

/// What came of a request.
pub(super) struct Issued {
    pub(super) identity: Identity,
    /// The roots of the identity's trust domain.
    pub(super) bundle: Bundle,
}

/// Why there is no new identity.
#[derive(Debug, Error)]
pub(super) enum Unissued {
    #[error("{0}")]
    Call(#[from] Failed),
    #[error("{0}")]
    Unusable(#[from] Unusable),
    #[error("no request could be made: {0}")]
    Request(Box<str>),
    #[error("it answered with one text or none, where a certificate and roots were expected")]
    Few,
    #[error("it issued {found}, and {asked} was asked for")]
    Other { found: Box<str>, asked: SpiffeId },
    #[error("its own roots do not believe what it issued: {0}")]
    Disbelieved(Refusal),
}

impl Issued {
    /// Reads the texts of an answer, and holds them against each other: whoever was asked may not be
    /// whom this process believes it is, or be in the middle of an edit of its own.
    pub(super) fn read(
        texts: &[String],
        key: &[u8],
        asked: &SpiffeId,
        clock: Clock,
    ) -> Result<Self, Unissued> {
        let [chain @ .., roots] = texts else {
            return Err(Unissued::Few);
        };
        if chain.is_empty() {
            return Err(Unissued::Few);
        }
        let identity = Identity::from_pem(chain.join("\n").as_bytes(), key)?;
        let bundle = Bundle::from_pem(roots.as_bytes())?;
        match identity.id() {
            Some(found) if found == asked => {}
            found => {
                let found = found.map_or("no X509-SVID", SpiffeId::as_str).into();
                let asked = asked.clone();
                return Err(Unissued::Other { found, asked });
            }
        }
        let trust = Trust::default().with_domain(asked.trust_domain().clone(), bundle.clone());
        let checks = Checks {
            verification: Verification::Svid,
            names: Vec::new(),
            usage: Usage::Client,
            skew: clock.skew(),
        };
        let chain = &identity.certified().cert;
        let algorithms = provider().signature_verification_algorithms;
        verify(&checks, chain, None, &trust, algorithms, clock.unix())
            .map_err(Unissued::Disbelieved)?;
        // The skew is for a begin that is not there yet: nobody is shown an identity whose end has passed here.
        if identity.not_after() <= clock.now() {
            return Err(Unissued::Disbelieved(Refusal::Expired));
        }
        Ok(Self { identity, bundle })
    }

    fn publish(self, into: &Credentials) {
        let Self { identity, bundle } = self;
        let Some(id) = identity.id().cloned() else {
            return;
        };
        // Other domains' bundles are somebody else's.
        let trust = Trust::clone(&into.trusted()).with_domain(id.trust_domain().clone(), bundle);
        tracing::info!(
            %id,
            serial = identity.serial(),
            not_after = identity.not_after().as_secs(),
            "identity issued"
        );
        into.replace(identity, trust);
    }
}

/// Asks until nobody has the credentials any more. What is in force stays so until there is something
/// better; when it has expired handshakes fail, and it is still asked for.
pub(super) async fn keep<F, A>(ask: F, credentials: Weak, clock: Clock, random: Random)
where
    F: Fn(Credentials) -> A,
    A: Future<Output = Result<Issued, Unissued>>,
{
    let mut plan = Plan::default();
    loop {
        let Some(into) = credentials.upgrade() else {
            return;
        };
        let next = match ask(into.clone()).await {
            Ok(issued) => {
                let next = plan.issued(&issued.identity, clock.now(), &random);
                issued.publish(&into);
                next
            }
            Err(error) => {
                into.renewal_failed();
                let expires = into.identity().map(|own| own.not_after());
                let now = clock.now();
                let next = plan.failed(now, expires, &random);
                let left = expires.map(|expires| expires.saturating_sub(now));
                tracing::warn!(
                    ?left,
                    again_in = ?next.saturating_sub(now),
                    "no identity was issued: {error}; what is in force stays so until it expires"
                );
                next
            }
        };
        drop(into);
        loop {
            let now = clock.now();
            if now >= next {
                break;
            }
            tokio::time::sleep((next - now).min(LOOK)).await;
            if credentials.upgrade().is_none() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
    use std::time::UNIX_EPOCH;

    use tokio::time::Instant;

    use super::*;
    use crate::tls::authority::Authority;

    const BEGIN: Duration = Duration::from_secs(1_800_000_000);
    const DAY: Duration = Duration::from_secs(24 * 3_600);

    fn id() -> SpiffeId {
        "spiffe://td/ns/a/sa/b".parse().unwrap()
    }

    fn issue(authority: &Authority, clock: Clock) -> Issued {
        Issued {
            identity: authority.issue(&id(), &[], DAY, clock.now()).unwrap(),
            bundle: authority.bundle().clone(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a7_an_authority_that_is_away_is_waited_for_and_the_old_identity_serves_until_it_expires()
     {
        let authority = Authority::generate("td".parse().unwrap(), BEGIN).unwrap();
        let clock = Clock::starting_at(UNIX_EPOCH + BEGIN);
        let (away, asked) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (to_ask, to_count) = (away.clone(), asked.clone());
        let ask = move |_| {
            to_count.fetch_add(1, Relaxed);
            let answer = match to_ask.load(Relaxed) {
                true => Err(Failed::Elapsed.into()),
                false => Ok(issue(&authority, clock)),
            };
            std::future::ready(answer)
        };
        let own = Credentials::default();
        let task = tokio::spawn(keep(ask, own.downgrade(), clock, Random::seeded(1)));
        own.changed(1).await;
        let first = own.identity().unwrap();
        away.store(true, Relaxed);
        tokio::time::advance(DAY * 49 / 100 - Duration::from_secs(5 * 3_600)).await;
        assert_eq!(
            asked.load(Relaxed),
            1,
            "nobody is asked before half of the lifetime"
        );
        let half = Instant::now() + Duration::from_secs(7 * 3_600);
        while Instant::now() < half {
            tokio::time::advance(Duration::from_secs(1)).await;
            tokio::task::yield_now().await;
        }
        let tries = asked.load(Relaxed);
        assert!(tries > 100, "it is tried every half minute: {tries}");
        assert_eq!(own.counts().renewal_failures, tries - 1);
        assert_eq!(own.identity().unwrap(), first, "the old one stays");
        assert!(own.state().presentable(clock.now()).is_ok());
        tokio::time::advance(first.not_after() - clock.now() + Duration::from_secs(1)).await;
        assert_eq!(
            own.state().presentable(clock.now()),
            Err(Refusal::IdentityExpired)
        );
        away.store(false, Relaxed);
        let before = Instant::now();
        let generation = own.generation();
        own.changed(generation).await;
        assert!(
            before.elapsed() <= Duration::from_secs(31),
            "{:?}",
            before.elapsed()
        );
        assert!(own.state().presentable(clock.now()).is_ok());
        drop(own);
        tokio::time::timeout(DAY, task)
            .await
            .expect("it ends")
            .unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_fit_together_is_not_taken() {
        let clock = Clock::starting_at(UNIX_EPOCH + BEGIN);
        let [own, other] =
            [(), ()].map(|()| Authority::generate("td".parse().unwrap(), BEGIN).unwrap());
        let key = rcgen::KeyPair::generate().unwrap();
        let csr = rcgen::CertificateParams::default()
            .serialize_request(&key)
            .unwrap();
        let csr = crate::tls::authority::CertificateRequest::from_pem(&csr.pem().unwrap()).unwrap();
        let signed = own.sign(&csr, &id(), DAY, BEGIN).unwrap().certificate;
        let stranger: SpiffeId = "spiffe://td/ns/a/sa/other".parse().unwrap();
        let strange = own.sign(&csr, &stranger, DAY, BEGIN).unwrap().certificate;
        let key = key.serialize_pem();
        let foreign = rcgen::KeyPair::generate().unwrap().serialize_pem();
        let read = |texts: &[&str], key: &str| {
            let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
            let read = Issued::read(&texts, key.as_bytes(), &id(), clock);
            read.map(|_| ()).map_err(|error| error.to_string())
        };
        let (own_roots, other_roots) = (own.bundle_pem(), other.bundle_pem());
        let (signed, strange): (&str, &str) = (&signed, &strange);
        assert_eq!(read(&[signed, &own_roots], &key), Ok(()));
        let both: &str = &format!("{other_roots}{own_roots}");
        assert_eq!(
            read(&[signed, both], &key),
            Ok(()),
            "two roots, as in a replacement"
        );
        let rows: [(&str, &[&str], &str, &str); 6] = [
            ("nothing", &[], &key, "one text or none"),
            ("no roots", &[signed], &key, "one text or none"),
            (
                "another identity",
                &[strange, both],
                &key,
                "sa/b was asked for",
            ),
            (
                "another root",
                &[signed, &other_roots],
                &key,
                "do not believe",
            ),
            ("another key", &[signed, both], &foreign, "does not belong"),
            ("no certificate", &["x", both], &key, "CERTIFICATE"),
        ];
        for (row, texts, key, expected) in rows {
            let error = read(texts, key).unwrap_err();
            assert!(error.contains(expected), "{row}: {error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_authority_whose_clock_is_ahead_is_believed_within_the_skew() {
        let at = |time: Duration| Clock::starting_at(UNIX_EPOCH + time);
        let own = Authority::generate("td".parse().unwrap(), BEGIN).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let csr = rcgen::CertificateParams::default()
            .serialize_request(&key)
            .unwrap();
        let csr = crate::tls::authority::CertificateRequest::from_pem(&csr.pem().unwrap()).unwrap();
        let signed = own.sign(&csr, &id(), DAY, BEGIN).unwrap().certificate;
        let texts = [signed.to_string(), own.bundle_pem().to_string()];
        let key = key.serialize_pem();
        let read = |clock| Issued::read(&texts, key.as_bytes(), &id(), clock);
        let issued = read(at(BEGIN)).unwrap();
        let seconds = Duration::from_secs;
        let behind = at(issued.identity.not_before() - seconds(10));
        for (row, clock, believed) in [
            ("no skew", behind, false),
            (
                "a skew that is too small",
                behind.with_skew(seconds(9)),
                false,
            ),
            ("a skew of as much", behind.with_skew(seconds(10)), true),
        ] {
            let told = read(clock).err().map(|error| error.to_string());
            let told = told.unwrap_or_default();
            assert_eq!(told.is_empty(), believed, "{row}: {told}");
            assert_eq!(told.contains("not valid yet"), !believed, "{row}: {told}");
        }
        let ahead = at(issued.identity.not_after()).with_skew(seconds(10));
        let told = read(ahead).err().map(|error| error.to_string());
        assert!(
            told.unwrap().contains("has expired"),
            "it is of no use here"
        );
    }
}
