//! A model of a server, by the protocol's text: what it would answer, one message at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::decoder::sent;
use crate::source::xds::Kind;
use crate::source::xds::ads::message::{Ask, Incoming, Request, Response};

/// What the server has, as texts, and what it knows of the one stream.
#[derive(Debug)]
pub(super) struct Server {
    delta: bool,
    pub(super) resources: BTreeMap<(Kind, Arc<str>), String>,
    version: u64,
    nonces: u64,
    kinds: BTreeMap<Kind, Subscription>,
    introduced: bool,
}

#[derive(Debug, Default)]
struct Subscription {
    names: BTreeSet<Arc<str>>,
    nonce: Arc<str>,
    /// What was sent of each name; `None`: that there is none.
    sent: BTreeMap<Arc<str>, Option<String>>,
}

impl Server {
    pub(super) fn new(delta: bool) -> Self {
        Self {
            delta,
            resources: BTreeMap::new(),
            version: 0,
            nonces: 0,
            kinds: BTreeMap::new(),
            introduced: false,
        }
    }

    /// The stream is gone.
    pub(super) fn forget(&mut self) {
        self.kinds.clear();
        self.introduced = false;
    }

    /// So is the process: versions and nonces begin anew.
    pub(super) fn restart(&mut self) {
        self.forget();
        self.version = 0;
        self.nonces = 0;
    }

    pub(super) fn request(&mut self, request: &Request) -> Option<Response> {
        assert_eq!(
            request.introduces, !self.introduced,
            "the node is in the first message"
        );
        self.introduced = true;
        let kind = request.kind;
        let first = !self.kinds.contains_key(&kind);
        let subscription = self.kinds.entry(kind).or_default();
        match &request.ask {
            Ask::Sotw { names, .. } => {
                assert!(!(first && names.is_empty()), "a wildcard was asked for");
                if first {
                    assert!(request.nonce.is_empty(), "a nonce of another stream");
                } else if request.nonce != subscription.nonce {
                    return None;
                }
                let names: BTreeSet<Arc<str>> = names.iter().cloned().collect();
                let more = names.difference(&subscription.names).next().is_some();
                subscription.sent.retain(|name, _| names.contains(name));
                subscription.names = names;
                more.then(|| self.whole(kind))
            }
            Ask::Delta {
                subscribe,
                unsubscribe,
                known,
            } => {
                assert!(first || known.is_empty(), "known resources come first");
                assert!(!(first && subscribe.is_empty()), "a wildcard was asked for");
                for name in unsubscribe {
                    assert!(subscription.names.remove(name), "{name} was not subscribed");
                    subscription.sent.remove(name);
                }
                for name in subscribe {
                    subscription.names.insert(name.clone());
                    subscription.sent.remove(name);
                }
                for (name, version) in known {
                    subscription
                        .sent
                        .insert(name.clone(), Some(version.to_string()));
                }
                self.changed(kind)
            }
        }
    }

    /// What has changed of a kind since it was sent, if anything has.
    pub(super) fn push(&mut self, kind: Kind) -> Option<Response> {
        let subscription = self.kinds.get(&kind)?;
        let text = |name: &Arc<str>| self.resources.get(&(kind, name.clone()));
        let stale =
            |name: &&Arc<str>| subscription.sent.get(*name).and_then(Option::as_ref) != text(name);
        subscription.names.iter().find(stale)?;
        if self.delta {
            self.changed(kind)
        } else {
            Some(self.whole(kind))
        }
    }

    fn whole(&mut self, kind: Kind) -> Response {
        self.version += 1;
        let version = self.version.to_string();
        let nonce = self.nonce();
        let mut resources = Vec::new();
        if let Some(subscription) = self.kinds.get_mut(&kind) {
            for name in &subscription.names {
                let text = self.resources.get(&(kind, name.clone()));
                resources.extend(text.map(|text| sent(kind, text)));
                subscription.sent.insert(name.clone(), text.cloned());
            }
            subscription.nonce = nonce.clone();
        }
        Response {
            type_url: kind.type_url().into(),
            version: version.into(),
            nonce,
            resources,
            ..Response::default()
        }
    }

    fn changed(&mut self, kind: Kind) -> Option<Response> {
        let nonce = self.nonce();
        let subscription = self.kinds.get_mut(&kind)?;
        let mut response = Response {
            type_url: kind.type_url().into(),
            nonce: nonce.clone(),
            ..Response::default()
        };
        for name in &subscription.names {
            let text = self.resources.get(&(kind, name.clone())).cloned();
            if subscription.sent.get(name) == Some(&text) {
                continue;
            }
            match &text {
                Some(text) => response.resources.push(Incoming {
                    name: Some(name.clone()),
                    version: Some(text.as_str().into()),
                    ..sent(kind, text)
                }),
                None => response.removed.push(name.clone()),
            }
            subscription.sent.insert(name.clone(), text);
        }
        if response.resources.is_empty() && response.removed.is_empty() {
            return None;
        }
        subscription.nonce = nonce;
        Some(response)
    }

    fn nonce(&mut self) -> Arc<str> {
        self.nonces += 1;
        format!("n{}", self.nonces).into()
    }
}
