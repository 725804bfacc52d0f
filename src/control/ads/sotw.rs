//! Requests of the state-of-the-world variant.

use std::collections::BTreeSet;
use std::hash::Hasher as _;
use std::sync::Arc;

use tokio::time::Instant;
use twox_hash::XxHash64;

use super::holdings::Have;
use super::{Outcome, Refusal, SotwRequest, Stream};
use crate::control::kind::Kind;
use crate::control::snapshot::version;
use crate::control::variant;

impl Stream {
    /// Takes a request in.
    ///
    /// # Errors
    /// It exceeds a limit; the stream is to be ended with that.
    pub(in crate::control) fn sotw(
        &mut self,
        request: &SotwRequest,
        now: Instant,
    ) -> Result<Outcome, Refusal> {
        let kind = request.kind;
        let list = list(&request.names);
        let repeats = self
            .watch(kind)
            .is_some_and(|watch| watch.list == Some(list));
        let names = match repeats {
            true => Vec::new(),
            false => self.names_of(kind, &request.names)?,
        };
        if !repeats {
            self.room_for(kind, &names, &[])?;
        }
        let snapshot = self.snapshot.clone();
        let watch = self.watch_mut(kind);
        // Only the answer to the last response counts; before the first one there is nothing that
        // a nonce could be about.
        if watch
            .nonce
            .is_some_and(|nonce| nonce.to_string() != request.nonce)
        {
            return Ok(Outcome::Stale);
        }
        let first = !std::mem::replace(&mut watch.begun, true);
        let answers = watch.outstanding.is_some() && watch.nonce.is_some();
        let outcome = match &request.error {
            _ if !answers => Outcome::Subscribed,
            None => {
                watch.acknowledged(snapshot.alike());
                Outcome::Acknowledged
            }
            Some(error) => {
                let (version, error) = watch.refused(error);
                Outcome::Refused { version, error }
            }
        };
        if repeats {
            return Ok(outcome);
        }
        watch.list = Some(list);
        self.take_names(request, names, first, now);
        Ok(outcome)
    }

    /// Takes the list of names in; `first`: with the first request of its kind.
    fn take_names(
        &mut self,
        request: &SotwRequest,
        names: Vec<Arc<str>>,
        first: bool,
        now: Instant,
    ) {
        let kind = request.kind;
        let snapshot = self.snapshot.clone();
        let watch = self.watch_mut(kind);
        watch.ever_named |= !request.names.is_empty();
        let all = names.iter().find(|name| variant::name(name) == "*");
        let parameters: Arc<str> = all.map_or("", |all| variant::parameters(all)).into();
        let all = all.is_some();
        let wildcard = all || (kind.is_whole() && !watch.ever_named);
        let wanted: BTreeSet<Arc<str>> = names
            .into_iter()
            .filter(|name| variant::name(name) != "*")
            .collect();
        let current = first
            && wildcard
            && wanted.is_empty()
            && parameters.is_empty()
            && request.version == version(snapshot.set(kind).sum())
            && snapshot
                .resources(kind)
                .all(|resource| !resource.is_labelled());
        let comes_back = first && !request.version.is_empty();
        self.subscribe(kind, wildcard.then_some(&*parameters), wanted, now);
        if current {
            self.has_all(kind);
        } else if comes_back {
            self.brings_named(kind);
        }
    }

    /// Replaces the subscription.
    fn subscribe(
        &mut self,
        kind: Kind,
        all: Option<&str>,
        wanted: BTreeSet<Arc<str>>,
        now: Instant,
    ) {
        let snapshot = self.snapshot.clone();
        let watch = self.watch_mut(kind);
        let wildcard = all.is_some();
        let others = all.is_some_and(|parameters| watch.want_all_with(parameters));
        let was = std::mem::replace(&mut watch.wildcard, wildcard) && !others;
        let dropped: Vec<_> = watch.named.difference(&wanted).cloned().collect();
        for name in &dropped {
            watch.drop_name(name);
        }
        let mut collections = false;
        for name in &wanted {
            if watch.add(name) {
                collections |= name.ends_with('*');
                watch.force(name, now);
            }
        }
        if was && !wildcard {
            watch.forget_unwanted();
        }
        for name in &dropped {
            if !watch.keeps(&snapshot, kind, name) {
                watch.forget(name);
            }
        }
        if wildcard && !was {
            watch.owed = true;
            watch.compare(&snapshot, kind, now);
        } else if collections {
            watch.compare(&snapshot, kind, now);
        }
    }

    /// A client that comes with a version has had its names on another stream, in whatever version.
    fn brings_named(&mut self, kind: Kind) {
        let watch = self.watch_mut(kind);
        for name in watch.named.iter() {
            if !watch.globs.iter().any(|glob| glob.is(name)) {
                watch.have.entry(name).brought = true;
            }
        }
    }

    /// A client that comes with the version of everything has everything. That is only so where
    /// nothing was asked for by name: a name may be new to it, whatever version it has.
    fn has_all(&mut self, kind: Kind) {
        let snapshot = self.snapshot.clone();
        let watch = self.watch_mut(kind);
        watch.owed = false;
        watch.due.clear();
        watch.version = Some(version(snapshot.set(kind).sum()).into());
        watch.have = snapshot
            .set(kind)
            .entries()
            .map(|(name, resource)| (name.clone(), Have::settled(resource.clone())))
            .collect();
        watch.have.pack(snapshot.alike());
    }
}

/// What tells a list of names from others. Nearly every request of a stream acknowledges something and says
/// all of its names again, which would be looked up one by one. A list that was made to collide with the one
/// before is not taken in, on the stream of whoever made it.
fn list(names: &[String]) -> u64 {
    let mut hasher = XxHash64::default();
    for name in names {
        hasher.write_usize(name.len());
        hasher.write(name.as_bytes());
    }
    hasher.finish()
}
