//! Requests of the delta variant.

use std::sync::Arc;

use tokio::time::Instant;

use super::holdings::Have;
use super::watch::Watch;
use super::{DeltaRequest, Outcome, Refusal, Stream};
use crate::control::interned::Alike;
use crate::control::kind::Kind;
use crate::control::resource::canonical;
use crate::control::variant;

impl Stream {
    /// Takes a request in.
    ///
    /// # Errors
    /// It exceeds a limit; the stream is to be ended with that.
    pub(in crate::control) fn delta(
        &mut self,
        request: &DeltaRequest,
        now: Instant,
    ) -> Result<Outcome, Refusal> {
        let kind = request.kind;
        let subscribe = self.names_of(kind, &request.subscribe)?;
        let unsubscribe = self.names_of(kind, &request.unsubscribe)?;
        self.room_for(kind, &subscribe, &unsubscribe)?;
        let snapshot = self.snapshot.clone();
        let watch = self.watch_mut(kind);
        let first = !std::mem::replace(&mut watch.begun, true);
        // Subscriptions count whatever response a message is about; an answer only counts for the
        // last one.
        let outcome = answer(watch, request, snapshot.alike());
        let nothing = request.subscribe.is_empty() && request.unsubscribe.is_empty();
        if first && nothing && kind.is_whole() {
            self.want_all(kind, "", now);
        }
        for name in &subscribe {
            if variant::name(name) == "*" {
                self.want_all(kind, variant::parameters(name), now);
            } else {
                self.want(kind, name, now);
            }
        }
        for name in &unsubscribe {
            if variant::name(name) == "*" {
                let watch = self.watch_mut(kind);
                if std::mem::take(&mut watch.wildcard) {
                    watch.owed = false;
                    watch.forget_unwanted();
                }
            } else {
                self.want_no_more(kind, name, now);
            }
        }
        // Names that nobody else names stay until the client is told of them.
        self.room_for(kind, &[], &[])?;
        if first {
            self.brings(kind, &request.initial, now)?;
        }
        Ok(outcome)
    }

    fn want_all(&mut self, kind: Kind, parameters: &str, now: Instant) {
        let snapshot = self.snapshot.clone();
        let watch = self.watch_mut(kind);
        let others = watch.want_all_with(parameters);
        if !std::mem::replace(&mut watch.wildcard, true) || others {
            watch.owed = true;
            watch.compare(&snapshot, kind, now);
        }
    }

    /// A name that is asked for again may have been forgotten by the client: it is sent again.
    fn want(&mut self, kind: Kind, name: &Arc<str>, now: Instant) {
        let snapshot = self.snapshot.clone();
        let watch = self.watch_mut(kind);
        let new = watch.add(name);
        watch.told.remove(name);
        if !watch.globs.iter().any(|glob| glob.is(name)) {
            watch.force(name, now);
        } else if new {
            watch.compare(&snapshot, kind, now);
        }
    }

    fn want_no_more(&mut self, kind: Kind, name: &Arc<str>, now: Instant) {
        let snapshot = self.snapshot.clone();
        let watch = self.watch_mut(kind);
        if !watch.drop_name(name) {
            return;
        }
        if watch.wildcard {
            // The client cannot know whether the name is in the wildcard: it is told.
            if !watch.lists(&snapshot, kind, name) {
                watch.have.entry(name);
                watch.strangers.insert(name.clone());
            }
            watch.force(name, now);
        } else if !watch.keeps(&snapshot, kind, name) {
            watch.forget(name);
        }
    }

    /// Takes in what a client has from another stream: `initial_resource_versions`.
    ///
    /// # Errors
    /// The names that nobody else names are too many, with those that are subscribed to; or one is too
    /// long.
    fn brings(
        &mut self,
        kind: Kind,
        initial: &[(String, String)],
        now: Instant,
    ) -> Result<(), Refusal> {
        let snapshot = self.snapshot.clone();
        let wanted = self.watch_mut(kind);
        let wanted = initial.iter().filter_map(|(name, version)| {
            let name = canonical(name);
            wanted.wants(&name).then_some((name, version))
        });
        let wanted: Vec<_> = wanted.collect();
        self.room_for_strangers(kind, wanted.iter().map(|(name, _)| &**name))?;
        let waiting = match kind {
            Kind::Endpoints => std::mem::take(&mut self.awaited),
            _ => Default::default(),
        };
        let watch = self.watch_mut(kind);
        for (name, version) in wanted {
            let target = snapshot.get(kind, &name);
            let same = target.filter(|target| {
                // A label says nothing of the content.
                !target.is_labelled()
                    && **target.version() == **version
                    && !waiting.contains(&*name)
            });
            let key: Arc<str> = match &same {
                Some(target) if **target.name() == *name => target.name().clone(),
                _ => Arc::from(&*name),
            };
            if same.is_some() {
                watch.due.remove(&key);
            } else {
                watch.due(&key, now);
            }
            let have = Have {
                brought: same.is_none(),
                acked: same.clone(),
                sent: same,
                ..Have::default()
            };
            watch.have.insert(key, have);
        }
        Ok(())
    }

    /// Counts the names that a client brings and nobody else names.
    fn room_for_strangers<'n>(
        &mut self,
        kind: Kind,
        brought: impl Iterator<Item = &'n str>,
    ) -> Result<(), Refusal> {
        let snapshot = self.snapshot.clone();
        let watch = self.watch_mut(kind);
        let strangers = brought
            .filter(|name| !watch.named.contains(*name) && snapshot.set(kind).get(name).is_none());
        let strangers: Vec<String> = strangers.map(str::to_owned).collect();
        let strangers = self.names_of(kind, &strangers)?;
        self.room_for(kind, &strangers, &[])?;
        self.watch_mut(kind).strangers.extend(strangers);
        Ok(())
    }
}

fn answer(watch: &mut Watch, request: &DeltaRequest, alike: &Alike) -> Outcome {
    if request.nonce.is_empty() {
        return Outcome::Subscribed;
    }
    let answered = watch
        .outstanding
        .as_ref()
        .map(|on_its_way| on_its_way.nonce);
    if answered.is_none_or(|nonce| nonce.to_string() != request.nonce) {
        return Outcome::Stale;
    }
    match &request.error {
        None => {
            watch.acknowledged(alike);
            Outcome::Acknowledged
        }
        Some(error) => {
            let (version, error) = watch.refused(error);
            Outcome::Refused { version, error }
        }
    }
}
