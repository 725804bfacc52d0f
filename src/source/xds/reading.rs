//! A response, read: what of it is good, what is not, and what is answered.
//!
//! Each resource is read alone (gRFC A46): the good ones count whatever stands beside them. What
//! nobody asked for is passed over, also if it is wrong: servers that send a kind whole would be
//! refused for the resources of others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::ads::message::{Content, Incoming, Raw, Response};
use super::{Context, Decode, Decoded, Kind, Resource, name};

/// How much of all faults together is told to the server: a message must stay sendable.
const LONGEST_REFUSAL: usize = 64 << 10;

/// What a response says.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    pub(crate) good: BTreeMap<Arc<str>, Read>,
    /// Wanted resources that are not good, each with its faults.
    pub(crate) refused: BTreeMap<Arc<str>, String>,
    /// Resources that are what they were, with their new time to live.
    pub(crate) heartbeats: BTreeMap<Arc<str>, Option<Duration>>,
    /// Everything that is not good, for the answer.
    faults: Vec<String>,
}

/// A good resource.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) resource: Resource,
    pub(crate) raw: Raw,
    pub(crate) version: Arc<str>,
    pub(crate) ttl: Option<Duration>,
}

impl Reading {
    /// Reads a response of this kind. `wants` says whether anybody asked for a name.
    pub(crate) fn new(
        kind: Kind,
        response: Response,
        decoder: &dyn Decode,
        context: Context<'_>,
        wants: impl Fn(&str) -> bool,
    ) -> Self {
        let _span = tracing::debug_span!("decode", %kind).entered();
        let mut reading = Self::default();
        let mut seen = BTreeSet::new();
        for (index, incoming) in response.resources.into_iter().enumerate() {
            match read(kind, incoming, &response.version, decoder, context) {
                Ok((name, content)) => {
                    let again = !seen.insert(name.clone());
                    if !wants(&name) {
                        continue;
                    }
                    if again {
                        reading.good.remove(&name);
                        reading.refuse(name, "is twice in one response".into());
                    } else {
                        match content {
                            Ok(read) => drop(reading.good.insert(name, read)),
                            Err(ttl) => drop(reading.heartbeats.insert(name, ttl)),
                        }
                    }
                }
                Err((Some(name), text)) => {
                    seen.insert(name.clone());
                    if wants(&name) {
                        reading.good.remove(&name);
                        reading.refuse(name, text);
                    }
                }
                Err((None, text)) => reading
                    .faults
                    .push(format!("resource index {index}: {text}")),
            }
        }
        reading
    }

    fn refuse(&mut self, name: Arc<str>, text: String) {
        self.faults.push(format!("{name}: {text}"));
        self.refused.insert(name, text);
    }

    /// Whether the name is in the response, good or not.
    pub(crate) fn mentions(&self, name: &str) -> bool {
        self.good.contains_key(name)
            || self.refused.contains_key(name)
            || self.heartbeats.contains_key(name)
    }

    /// What the server is told, if not all was good.
    pub(crate) fn refusal(&self) -> Option<Arc<str>> {
        if self.faults.is_empty() {
            return None;
        }
        let mut text = self.faults.join("\n");
        if text.len() > LONGEST_REFUSAL {
            let end = (0..=LONGEST_REFUSAL)
                .rev()
                .find(|end| text.is_char_boundary(*end));
            text.truncate(end.unwrap_or_default());
            text.push_str("\n(and more)");
        }
        Some(text.into())
    }
}

/// A resource by its name, or a heartbeat's time to live.
type Named = (Arc<str>, Result<Read, Option<Duration>>);

fn read(
    kind: Kind,
    incoming: Incoming,
    version: &Arc<str>,
    decoder: &dyn Decode,
    context: Context<'_>,
) -> Result<Named, (Option<Arc<str>>, String)> {
    let Incoming {
        name: outer,
        version: own,
        ttl,
        content,
    } = incoming;
    let outer = outer.filter(|name| !name.is_empty());
    let outer = outer.map(|outer| name::canonical(&outer));
    let raw = match content {
        Content::Broken(text) => return Err((outer, text)),
        Content::Heartbeat => {
            let name = outer.ok_or((None, "has neither a name nor a message".to_owned()))?;
            return Ok((name, Err(ttl)));
        }
        Content::Message(raw) => raw,
    };
    if &*raw.type_url != kind.type_url() {
        let text = format!(
            "is a {:?} in a response of {}",
            raw.type_url,
            kind.type_url()
        );
        return Err((outer, text));
    }
    match decoder.decode(kind, &raw.bytes, context) {
        Ok(Decoded { name: inner, .. }) if inner.is_empty() => {
            Err((outer, "name: is empty".into()))
        }
        Ok(Decoded {
            name: inner,
            resource,
        }) => {
            let name = name::canonical(&inner);
            if let Some(outer) = outer.filter(|outer| *outer != name) {
                let text = format!("is called {outer:?} outside and {inner:?} inside");
                return Err((Some(outer), text));
            }
            let read = Read {
                resource,
                raw,
                version: own.unwrap_or_else(|| version.clone()),
                ttl,
            };
            Ok((name, Ok(read)))
        }
        Err(rejection) => {
            let inner = rejection.name.as_deref().map(name::canonical);
            Err((inner.or(outer), rejection.to_string()))
        }
    }
}
