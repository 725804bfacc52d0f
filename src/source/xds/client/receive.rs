//! What a response does.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Client;
use crate::source::xds::ads::Overrun;
use crate::source::xds::ads::message::{Response, Unavailable};
use crate::source::xds::reading::{Read, Reading};
use crate::source::xds::store::{Good, Key, Problem};
use crate::source::xds::{Context, Kind, name};

/// Codes of gRPC by which a server says that a resource is not to be had (xRFC TP3).
const NOT_FOUND: u32 = 5;
const PERMISSION_DENIED: u32 = 7;

impl Client {
    /// Takes in a response of a server.
    ///
    /// # Errors
    /// If the server reads no answers; the stream shall end.
    pub(crate) fn receive(
        &mut self,
        server: usize,
        response: Response,
        now: Instant,
    ) -> Result<(), Overrun> {
        let Some(remote) = self.remotes.get_mut(server) else {
            return Ok(());
        };
        if remote.hear() {
            self.told = true;
            self.prefer(server, now);
        }
        let remote = &self.remotes[server];
        // A kind that is unknown, or was not asked for, is neither accepted nor refused.
        let Some(kind) = Kind::of_type_url(&response.type_url) else {
            tracing::debug!(target: "meshwork::source::xds", type_url = response.type_url, "unknown kind");
            return Ok(());
        };
        if !remote.ads.has_begun(kind) {
            tracing::debug!(target: "meshwork::source::xds", %kind, "response to no question");
            return Ok(());
        }
        let (nonce, version) = (response.nonce.clone(), response.version.clone());
        let (removed, errors) = (response.removed.clone(), response.errors.clone());
        let context = Context {
            server: &remote.server.uri,
            version: &version,
            certificate_providers: &self.certificate_providers,
            trusted: remote.server.features.trusted,
        };
        let ads = &remote.ads;
        let decoder = &*self.decoder;
        let reading = Reading::new(kind, response, decoder, context, |name| {
            ads.wants(kind, name)
        });
        let refusal = reading.refusal();
        let changed = self.apply(server, kind, &version, reading, &removed, &errors, now);
        let changed: Vec<Key> = changed.into_iter().map(|name| (kind, name)).collect();
        let remote = &mut self.remotes[server];
        remote.ads.answer(kind, nonce, version, refusal)?;
        self.settle(changed, kind != Kind::Endpoints, now);
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "a response, taken apart once")]
    fn apply(
        &mut self,
        server: usize,
        kind: Kind,
        version: &Arc<str>,
        reading: Reading,
        removed: &[Arc<str>],
        errors: &[Unavailable],
        now: Instant,
    ) -> BTreeSet<Arc<str>> {
        let features = self.remotes[server].server.features;
        let drops = features.fail_on_data_errors;
        let mut changed = BTreeSet::new();
        let gone = if features.delta {
            let asked = |name: &Arc<str>| self.remotes[server].ads.wants(kind, name);
            removed
                .iter()
                .map(|name| name::canonical(name))
                .filter(asked)
                .collect()
        } else {
            self.missing(server, kind, &reading, errors)
        };
        for name in gone {
            let text = format!("does not exist at {}", self.remotes[server].server);
            if self.suffer(
                &(kind, name.clone()),
                Problem::Absent,
                &text,
                None,
                drops,
                now,
            ) {
                changed.insert(name);
            }
        }
        for error in errors {
            let name = name::canonical(&error.name);
            let (problem, drops) = match error.code {
                NOT_FOUND => (Problem::Absent, drops),
                PERMISSION_DENIED => (Problem::Reported, drops),
                _ => (Problem::Reported, false),
            };
            let by = &self.remotes[server].server;
            let text = format!("{by} says {:?} (code {})", error.text, error.code);
            if self.suffer(&(kind, name.clone()), problem, &text, None, drops, now) {
                changed.insert(name);
            }
        }
        self.count(server, kind, &reading);
        for (name, text) in &reading.refused {
            let text = format!("refused: {text}");
            let refused = Some(version.clone());
            if self.suffer(
                &(kind, name.clone()),
                Problem::Refused,
                &text,
                refused,
                drops,
                now,
            ) {
                changed.insert(name.clone());
            }
        }
        for (name, ttl) in &reading.heartbeats {
            self.prolong((kind, name.clone()), *ttl, now);
        }
        for (name, read) in reading.good {
            if self.accept((kind, name.clone()), read, now) {
                changed.insert(name);
            }
        }
        changed
    }

    /// What a state-of-the-world response does not hold although it was there: it was deleted. What
    /// was asked for and never received is not: the response may be older than the question.
    fn missing(
        &self,
        server: usize,
        kind: Kind,
        reading: &Reading,
        errors: &[Unavailable],
    ) -> Vec<Arc<str>> {
        if !kind.is_complete() {
            return Vec::new();
        }
        let there = |name: &&Arc<str>| {
            let entry = self.store.get(&(kind, Arc::clone(name)));
            let good = entry.and_then(|entry| entry.good.as_ref());
            good.is_some_and(|good| !good.unconfirmed)
        };
        let reported = |name: &Arc<str>| errors.iter().any(|error| error.name == *name);
        let told = self.remotes[server].ads.told(kind);
        told.filter(there)
            .filter(|name| !reading.mentions(name) && !reported(name))
            .cloned()
            .collect()
    }

    fn count(&mut self, server: usize, kind: Kind, reading: &Reading) {
        let counters = &mut self.remotes[server].counters;
        *counters.valid.entry(kind).or_default() += reading.good.len() as u64;
        *counters.invalid.entry(kind).or_default() += reading.refused.len() as u64;
    }

    fn accept(&mut self, key: Key, read: Read, now: Instant) -> bool {
        let Some(entry) = self.store.get_mut(&key) else {
            return false;
        };
        self.seeds.remove(&key);
        let expires = read.ttl.and_then(|ttl| now.checked_add(ttl));
        let changed = entry.accept(Good {
            resource: read.resource,
            raw: read.raw,
            version: read.version,
            received: now,
            unconfirmed: false,
            expires,
        });
        if let Some(at) = expires {
            self.timers.insert((at, key));
        }
        changed
    }

    fn prolong(&mut self, key: Key, ttl: Option<Duration>, now: Instant) {
        if let Some(entry) = self.store.get_mut(&key)
            && let Some(good) = &mut entry.good
        {
            good.expires = ttl.and_then(|ttl| now.checked_add(ttl));
            if let Some(at) = good.expires {
                self.timers.insert((at, key));
            }
        }
    }
}
