//! The protocol, sentence by sentence, and then any schedule at all.

mod back;
mod delta;
mod hostile;
mod introduce;
mod machines;
mod names;
mod order;
mod schedule;
mod sotw;
mod variants;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Client, DeltaRequest, Item, Outcome, Response, SotwRequest, Stream, Variant};
use crate::control::kind::Kind;
use crate::control::resource::{Encoded, Parts};
use crate::control::snapshot::Snapshot;

/// Draws an index.
trait Index {
    fn index(&self, bound: usize) -> usize;
}

impl Index for crate::random::Random {
    fn index(&self, bound: usize) -> usize {
        self.below(u32::try_from(bound).expect("tests draw from few")) as usize
    }
}

/// Resources as lines: `C a=1`, with what they refer to after `>`: `R r=1 >a,b`. A route and a
/// listener refer to clusters, or with `:` to routes (`L l=1 >:r`); a cluster to its endpoints.
fn resources(lines: &str) -> Vec<Encoded> {
    lines
        .split(';')
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(resource)
        .collect()
}

fn resource(line: &str) -> Encoded {
    let (kind, rest) = line.split_once(' ').expect("a kind");
    let (rest, references) = rest.split_once('>').unwrap_or((rest, ""));
    let (name, body) = rest.trim().split_once('=').expect("a name and a content");
    let kind = kind_of(kind);
    let mut parts = Parts::new(kind, name.into(), body.as_bytes());
    for reference in references
        .split(',')
        .map(str::trim)
        .filter(|text| !text.is_empty())
    {
        parts
            .references
            .push(match (kind, reference.strip_prefix(':')) {
                (_, Some(routes)) => (Kind::Routes, routes.into()),
                (Kind::Cluster, None) => (Kind::Endpoints, reference.into()),
                (_, None) => (Kind::Cluster, reference.into()),
            });
    }
    parts.finish()
}

fn kind_of(letter: &str) -> Kind {
    match letter {
        "C" => Kind::Cluster,
        "E" => Kind::Endpoints,
        "L" => Kind::Listener,
        "R" => Kind::Routes,
        "V" => Kind::VirtualHost,
        other => panic!("no kind {other}"),
    }
}

/// A stream, its clock, and what was said on it last.
struct World {
    stream: Stream,
    snapshot: Arc<Snapshot>,
    now: Instant,
    variant: Variant,
}

impl World {
    fn new(variant: Variant, lines: &str) -> Self {
        let snapshot = Arc::new(Snapshot::new(resources(lines)));
        Self::of(variant, snapshot)
    }

    fn sotw(lines: &str) -> Self {
        Self::new(Variant::Sotw, lines)
    }

    fn delta(lines: &str) -> Self {
        Self::new(Variant::Delta, lines)
    }

    fn of(variant: Variant, snapshot: Arc<Snapshot>) -> Self {
        let client = Client {
            variant,
            errors: false,
            introduces: false,
            aggregated: true,
            names: 100_000,
        };
        Self {
            stream: Stream::new(client, snapshot.clone()),
            snapshot,
            now: Instant::now(),
            variant,
        }
    }

    fn set(&mut self, lines: &str) {
        self.snapshot = Arc::new(self.snapshot.next(resources(lines)));
        self.stream.update(self.snapshot.clone(), self.now);
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    /// The next response as text: `C a b !gone ?missing /denied`, with `~` before a heartbeat.
    fn next(&mut self) -> Option<Response> {
        let next = self.stream.next(self.now);
        next.expect("no limit is exceeded")
    }

    fn says(&mut self) -> String {
        self.next()
            .map_or_else(|| "nothing".into(), |response| text(&response))
    }

    /// Everything that is said until it waits, each acknowledged at once, with its own names kept.
    fn settles(&mut self) -> Vec<String> {
        let mut said = Vec::new();
        while let Some(response) = self.next() {
            said.push(text(&response));
            self.ack(&response);
            assert!(said.len() < 100, "it does not settle: {said:?}");
        }
        said
    }

    fn request(&mut self, kind: &str, names: &[&str]) -> Outcome {
        let nonce = self.nonce(kind);
        self.raw(kind, names, "", &nonce, None)
    }

    fn nonce(&self, kind: &str) -> String {
        let watch = self.stream.watch(kind_of(kind));
        let nonce = watch.and_then(|watch| watch.nonce);
        nonce.map_or_else(String::new, |nonce| nonce.to_string())
    }

    fn raw(
        &mut self,
        kind: &str,
        names: &[&str],
        version: &str,
        nonce: &str,
        error: Option<&str>,
    ) -> Outcome {
        let request = SotwRequest {
            kind: kind_of(kind),
            names: names.iter().map(ToString::to_string).collect(),
            version: version.into(),
            nonce: nonce.into(),
            error: error.map(Into::into),
        };
        self.stream
            .sotw(&request, self.now)
            .expect("no limit is exceeded")
    }

    fn sub(&mut self, kind: &str, subscribe: &[&str], unsubscribe: &[&str]) -> Outcome {
        self.raw_delta(kind, subscribe, unsubscribe, &[], "", None)
    }

    fn raw_delta(
        &mut self,
        kind: &str,
        subscribe: &[&str],
        unsubscribe: &[&str],
        initial: &[(&str, &str)],
        nonce: &str,
        error: Option<&str>,
    ) -> Outcome {
        let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        let request = DeltaRequest {
            kind: kind_of(kind),
            subscribe: owned(subscribe),
            unsubscribe: owned(unsubscribe),
            initial: initial
                .iter()
                .map(|(name, version)| (name.to_string(), version.to_string()))
                .collect(),
            nonce: nonce.into(),
            error: error.map(Into::into),
        };
        self.stream
            .delta(&request, self.now)
            .expect("no limit is exceeded")
    }

    fn answer(&mut self, response: &Response, error: Option<&str>) -> Outcome {
        let nonce = response.nonce.to_string();
        match self.variant {
            Variant::Sotw => {
                let watch = self
                    .stream
                    .watch(response.kind)
                    .expect("it was subscribed to");
                let mut names: Vec<String> = watch.named.iter().map(ToString::to_string).collect();
                if watch.wildcard && watch.ever_named {
                    names.push("*".into());
                }
                let request = SotwRequest {
                    kind: response.kind,
                    names,
                    version: response.version.to_string(),
                    nonce,
                    error: error.map(Into::into),
                };
                self.stream
                    .sotw(&request, self.now)
                    .expect("no limit is exceeded")
            }
            Variant::Delta => {
                let request = DeltaRequest {
                    kind: response.kind,
                    subscribe: Vec::new(),
                    unsubscribe: Vec::new(),
                    initial: Vec::new(),
                    nonce,
                    error: error.map(Into::into),
                };
                self.stream
                    .delta(&request, self.now)
                    .expect("no limit is exceeded")
            }
        }
    }

    fn ack(&mut self, response: &Response) {
        assert_eq!(self.answer(response, None), Outcome::Acknowledged);
    }

    fn nack(&mut self, response: &Response) {
        let outcome = self.answer(response, Some("no"));
        assert!(matches!(outcome, Outcome::Refused { .. }), "{outcome:?}");
    }

    /// The response that must be there now.
    fn gets(&mut self, expected: &str) -> Response {
        let response = self
            .next()
            .unwrap_or_else(|| panic!("{expected}, but there is nothing"));
        assert_eq!(text(&response), expected);
        response
    }

    /// The same, acknowledged.
    fn takes(&mut self, expected: &str) {
        let response = self.gets(expected);
        self.ack(&response);
    }

    fn gets_nothing(&mut self) {
        assert_eq!(self.says(), "nothing");
    }

    /// What the client has, as the server knows it.
    fn has(&self, kind: &str) -> Vec<String> {
        let watch = self.stream.watch(kind_of(kind)).into_iter();
        watch
            .flat_map(|watch| watch.have.keys().map(ToString::to_string))
            .collect()
    }
}

fn text(response: &Response) -> String {
    let letter = match response.kind {
        Kind::Cluster => "C",
        Kind::Endpoints => "E",
        Kind::Listener => "L",
        Kind::Routes => "R",
        Kind::VirtualHost => "V",
        other => panic!("{other}"),
    };
    let mut parts = vec![letter.to_string()];
    parts.extend(response.items.iter().map(|item| match item {
        Item::Full(resource) => {
            format!(
                "{}={}",
                resource.name(),
                String::from_utf8_lossy(resource.body())
            )
        }
        Item::Beat(resource) => format!("~{}", resource.name()),
        Item::Unknown(name) => format!("_{name}"),
    }));
    parts.extend(response.removed.iter().map(|name| format!("!{name}")));
    parts.extend(
        response
            .left
            .iter()
            .map(|one| format!("-{}", String::from_utf8_lossy(one.body()))),
    );
    parts.extend(response.missing.iter().map(|name| format!("?{name}")));
    parts.extend(response.denied.iter().map(|name| format!("/{name}")));
    parts.join(" ")
}
