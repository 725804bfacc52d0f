//! Keys that are fetched, kept, and fetched again.
//!
//! The first token of an issuer waits for its keys; all that come meanwhile wait for the same fetch. From
//! then on tokens wait for nothing: a set that is 20 minutes old is replaced beside them. A token whose
//! key is not in the set makes it be fetched again, at most every 30 s whatever callers send: a key that an
//! issuer has just begun to use. Without a set tokens are refused, and so are they when no set could be
//! had for an hour after the last one was due: a key that was withdrawn must not count for ever because
//! its issuer cannot be reached.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use jsonwebtoken::Algorithm;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::fetch::Unfetched;
use super::keys::KeySet;
use super::verify::Invalid;

/// How old a set may be before it is fetched again (istiod's `PILOT_JWT_PUB_KEY_REFRESH_INTERVAL`).
const REFRESH: Duration = Duration::from_secs(20 * 60);
/// How long beyond that it counts while fetching fails.
const GRACE: Duration = Duration::from_secs(3_600);
/// How often tokens with unknown keys may make it be fetched.
const UNKNOWN: Duration = Duration::from_secs(30);
/// The pause after a first failure, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

pub(super) type Fetching = Pin<Box<dyn Future<Output = Result<Bytes, Unfetched>> + Send>>;
/// Fetches the set.
pub(super) type Fetch = Box<dyn Fn() -> Fetching + Send + Sync>;

/// The keys of one issuer.
pub(super) struct Remote {
    shared: Arc<Shared>,
    /// What is fetched beside tokens; ends with this.
    beside: Mutex<JoinSet<()>>,
}

struct Shared {
    /// For the log.
    name: Box<str>,
    fetch: Fetch,
    current: ArcSwapOption<Fetched>,
    /// Held while it is fetched: whoever waits for it finds what the one before has fetched.
    tries: tokio::sync::Mutex<Tries>,
}

struct Fetched {
    set: KeySet,
    at: Instant,
}

#[derive(Default)]
struct Tries {
    failures: u32,
    /// Not before.
    next: Option<Instant>,
}

impl Remote {
    pub(super) fn new(name: Box<str>, fetch: Fetch) -> Self {
        Self {
            shared: Arc::new(Shared {
                name,
                fetch,
                current: ArcSwapOption::empty(),
                tries: tokio::sync::Mutex::default(),
            }),
            beside: Mutex::default(),
        }
    }

    /// Verifies a signature with the keys that fit.
    pub(super) async fn verify(
        &self,
        signed: &str,
        signature: &str,
        algorithm: Algorithm,
        kid: Option<&str>,
    ) -> Result<(), Invalid> {
        let fetched = self.keys().await.ok_or(Invalid::NoKeys)?;
        let verified = fetched.set.verify(signed, signature, algorithm, kid);
        if verified != Err(Invalid::NoKey) || fetched.at.elapsed() < UNKNOWN {
            return verified;
        }
        let newer = self.shared.renew(Some(fetched.at)).await;
        let newer = newer.ok_or(Invalid::NoKey)?;
        newer.set.verify(signed, signature, algorithm, kid)
    }

    /// The keys at hand, or those that are fetched at this moment.
    async fn keys(&self) -> Option<Arc<Fetched>> {
        let current = self.shared.current.load_full();
        match current {
            Some(fetched) if fetched.at.elapsed() < REFRESH => Some(fetched),
            Some(fetched) if fetched.at.elapsed() < REFRESH + GRACE => {
                self.renew_beside(fetched.at);
                Some(fetched)
            }
            Some(old) => self.shared.renew(Some(old.at)).await,
            None => self.shared.renew(None).await,
        }
    }

    fn renew_beside(&self, old: Instant) {
        let mut beside = self.beside.lock().unwrap_or_else(PoisonError::into_inner);
        while beside.try_join_next().is_some() {}
        if beside.is_empty() {
            let shared = self.shared.clone();
            beside.spawn(async move {
                shared.renew(Some(old)).await;
            });
        }
    }
}

impl Shared {
    /// A set that is newer than `old`, if there is one or it can be had.
    async fn renew(&self, old: Option<Instant>) -> Option<Arc<Fetched>> {
        let mut tries = self.tries.lock().await;
        let current = self.current.load_full();
        if let Some(current) = current
            && old.is_none_or(|old| current.at > old)
        {
            return Some(current);
        }
        let now = Instant::now();
        if tries.next.is_some_and(|next| now < next) {
            return None;
        }
        let parsed = (self.fetch)().await.and_then(|document| {
            let none = || Unfetched::Document("it has no key that is of use".into());
            KeySet::parse(&document).ok_or_else(none)
        });
        match parsed {
            Ok(set) => {
                *tries = Tries::default();
                let at = Instant::now();
                let fetched = Arc::new(Fetched { set, at });
                self.current.store(Some(fetched.clone()));
                tracing::debug!(keys = &*self.name, "keys of tokens fetched");
                Some(fetched)
            }
            Err(error) => {
                let (first, longest) = PAUSES;
                let pause = first
                    .saturating_mul(1 << tries.failures.min(10))
                    .min(longest);
                tries.failures = tries.failures.saturating_add(1);
                tries.next = Some(Instant::now() + pause);
                let keys = &*self.name;
                tracing::warn!(keys, ?pause, "keys of tokens cannot be fetched: {error}");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use jsonwebtoken::EncodingKey;
    use rcgen::{KeyPair, PublicKeyData};

    use super::*;

    fn set(keys: &[(&str, &KeyPair)]) -> String {
        let keys = keys.iter().map(|(kid, pair)| {
            let point = pair.der_bytes();
            let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
            let (x, y) = (encode(&point[1..33]), encode(&point[33..65]));
            format!(r#"{{"kty":"EC","crv":"P-256","kid":"{kid}","x":"{x}","y":"{y}"}}"#)
        });
        format!(r#"{{"keys":[{}]}}"#, keys.collect::<Vec<_>>().join(","))
    }

    /// An issuer whose document a test changes; `None` fails.
    struct Issuer {
        remote: Remote,
        document: Arc<Mutex<Option<String>>>,
        fetched: Arc<AtomicUsize>,
    }

    impl Issuer {
        fn new(document: Option<String>) -> Self {
            let document = Arc::new(Mutex::new(document));
            let fetched = Arc::new(AtomicUsize::new(0));
            let (given, count) = (document.clone(), fetched.clone());
            let fetch: Fetch = Box::new(move || {
                count.fetch_add(1, Relaxed);
                let given = given.lock().unwrap().clone();
                Box::pin(async move {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    given
                        .map(Bytes::from)
                        .ok_or(Unfetched::Status(http::StatusCode::BAD_GATEWAY))
                })
            });
            Self {
                remote: Remote::new("test".into(), fetch),
                document,
                fetched,
            }
        }

        fn publish(&self, document: Option<String>) {
            *self.document.lock().unwrap() = document;
        }

        async fn verify(&self, kid: &str, pair: &KeyPair) -> Result<(), Invalid> {
            let key = EncodingKey::from_ec_der(&pair.serialize_der());
            let signature = jsonwebtoken::crypto::sign(b"a.b", &key, Algorithm::ES256).unwrap();
            let remote = &self.remote;
            remote
                .verify("a.b", &signature, Algorithm::ES256, Some(kid))
                .await
        }

        fn fetched(&self) -> usize {
            self.fetched.load(Relaxed)
        }
    }

    fn pair() -> KeyPair {
        KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn c25_without_keys_tokens_are_refused_and_the_issuer_is_not_pestered() {
        let one = pair();
        let issuer = Issuer::new(None);
        for _ in 0..10 {
            assert_eq!(issuer.verify("one", &one).await, Err(Invalid::NoKeys));
        }
        assert_eq!(issuer.fetched(), 1);
        tokio::time::advance(Duration::from_secs(1)).await;
        issuer.publish(Some("<html>".into()));
        assert_eq!(issuer.verify("one", &one).await, Err(Invalid::NoKeys));
        issuer.publish(Some(r#"{"keys":[]}"#.into()));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(
            issuer.verify("one", &one).await,
            Err(Invalid::NoKeys),
            "no default key"
        );
        issuer.publish(Some(set(&[("one", &one)])));
        tokio::time::advance(Duration::from_secs(4)).await;
        assert_eq!(issuer.verify("one", &one).await, Ok(()));
        assert_eq!(issuer.fetched(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn all_that_come_at_once_wait_for_one_fetch() {
        let one = pair();
        let issuer = Issuer::new(Some(set(&[("one", &one)])));
        let (a, b, c) = tokio::join!(
            issuer.verify("one", &one),
            issuer.verify("one", &one),
            issuer.verify("one", &one)
        );
        assert_eq!([a, b, c], [Ok(()); 3]);
        assert_eq!(issuer.fetched(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn c25_keys_that_rotate_are_found_and_unknown_ones_are_no_lever() {
        let (one, two) = (pair(), pair());
        let issuer = Issuer::new(Some(set(&[("one", &one)])));
        assert_eq!(issuer.verify("one", &one).await, Ok(()));
        issuer.publish(Some(set(&[("one", &one), ("two", &two)])));
        for _ in 0..100 {
            assert_eq!(issuer.verify("two", &two).await, Err(Invalid::NoKey));
        }
        assert_eq!(issuer.fetched(), 1, "not within 30 s");
        tokio::time::advance(UNKNOWN).await;
        assert_eq!(issuer.verify("two", &two).await, Ok(()));
        assert_eq!(issuer.fetched(), 2);
        // A key that is withdrawn counts until the set is fetched again, which tokens do not wait for.
        issuer.publish(Some(set(&[("two", &two)])));
        assert_eq!(issuer.verify("one", &one).await, Ok(()));
        tokio::time::advance(REFRESH).await;
        let before = Instant::now();
        assert_eq!(issuer.verify("one", &one).await, Ok(()));
        assert_eq!(before.elapsed(), Duration::ZERO);
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(issuer.verify("one", &one).await, Err(Invalid::NoKey));
        assert_eq!(issuer.verify("two", &two).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn c25_an_issuer_that_is_away_is_believed_for_an_hour_and_no_longer() {
        let one = pair();
        let issuer = Issuer::new(Some(set(&[("one", &one)])));
        assert_eq!(issuer.verify("one", &one).await, Ok(()));
        issuer.publish(None);
        for _ in 0..79 {
            tokio::time::advance(Duration::from_secs(60)).await;
            assert_eq!(issuer.verify("one", &one).await, Ok(()));
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let tries = issuer.fetched();
        assert!((30..=61).contains(&tries), "{tries}");
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(issuer.verify("one", &one).await, Err(Invalid::NoKeys));
        issuer.publish(Some(set(&[("one", &one)])));
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(issuer.verify("one", &one).await, Ok(()));
    }
}
