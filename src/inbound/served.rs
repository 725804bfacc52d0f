//! Ports that a control plane configures (gRFC A36).
//!
//! Where the source of the configuration is a control plane, and the bootstrap has a template for
//! servers, a port asks it for a listener. While there is none the port does not serve: connections
//! are accepted and closed without a byte. A connection belongs to a chain of the listener for as long
//! as it lives; when the listener changes it is drained, and what it asks meanwhile is judged by the
//! chain that it had. Routes may change without that: each request is judged by those of its moment.

use std::net::SocketAddr;
use std::sync::Arc;

use http::Request;

use super::Peer;
use super::answer::{self, Answer};
use super::door::Door;
use super::judge::{Asked, Judgement};
use super::seen::Seen;
use super::serving::Serving;
use crate::layer::canonical::canonicalize;
use crate::model::Inbound;
use crate::model::inbound::Normalization;
use crate::outbound::{Core, Dialect, view};
use crate::random::Draws;
use crate::snapshot::{Chain, Held};

/// A chain of a listener, and the place where its next version is found.
#[derive(Clone, Debug)]
pub(super) struct Way {
    name: Arc<str>,
    edition: u64,
    number: usize,
    pub(super) chain: Arc<Chain>,
}

/// How a request was given its route. When the routes change while it is under way, it is given the one
/// that it would have been given by them.
#[derive(Debug)]
pub(super) struct Routed {
    way: Way,
    /// What the shares of routes were compared with.
    draws: Draws,
    /// The head that was looked at; `None`: that by which it was judged afterwards.
    head: Option<Box<Seen>>,
}

/// What becomes of a connection.
#[derive(Debug)]
pub(super) enum Fate {
    /// It belongs to this chain.
    Chain(Way),
    /// The port does not serve it, and why.
    Closed(&'static str),
    /// The control plane has no word in it.
    Own,
}

/// Whether a port serves at all.
pub(super) fn standing(core: &Core, asked: &Held, local: SocketAddr) -> Serving {
    let snapshot = core.live.load();
    let why: Arc<str> = match snapshot.server(asked.name()) {
        Some(server) if server.model.is_for(local) => return Serving::Serving,
        Some(server) => format!(
            "the listener {} is for {}, and the port is {local}",
            asked.name(),
            server.model.address
        )
        .into(),
        None => asked
            .missing()
            .unwrap_or_else(|| "the control plane's listener is for clients".into()),
    };
    Serving::NotServing { why }
}

/// Where a connection belongs that has just been accepted.
pub(super) fn fate(
    core: &Core,
    asked: Option<&Held>,
    local: SocketAddr,
    remote: SocketAddr,
) -> Fate {
    let Some(asked) = asked else {
        return Fate::Own;
    };
    let snapshot = core.live.load();
    let server = snapshot.server(asked.name());
    let Some(server) = server.filter(|server| server.model.is_for(local)) else {
        return Fate::Closed("it is NOT_SERVING");
    };
    match server.chain(local, remote) {
        None => Fate::Closed("no filter chain of the listener matches"),
        Some((number, chain)) => Fate::Chain(Way {
            name: asked.name().clone(),
            edition: server.model.edition,
            number,
            chain: chain.clone(),
        }),
    }
}

impl Way {
    /// Whether the listener is the one under which the connection was accepted.
    pub(super) fn holds(&self, core: &Core) -> bool {
        self.now(core).is_some()
    }

    /// The chain with the routes of this moment, as long as the listener is the same.
    fn now(&self, core: &Core) -> Option<Arc<Chain>> {
        let snapshot = core.live.load();
        let server = snapshot.server(&self.name)?;
        let same = server.model.edition == self.edition;
        same.then(|| server.numbered(self.number).cloned())?
    }
}

impl Routed {
    /// Keeps the head that was looked at, since somebody has changed it.
    pub(super) fn keep(&mut self, head: Seen) {
        self.head = Some(Box::new(head));
    }

    /// What is asked of the request at this moment; `None`: what it was asked, since the listener is
    /// another one and the connection is drained. `judged` is the head by which it was judged.
    pub(super) fn asks(&mut self, core: &Core, judged: &Seen) -> Option<Arc<Inbound>> {
        let chain = self.way.now(core)?;
        let Some(head) = self.head.as_deref().unwrap_or(judged).request() else {
            return Some(Arc::new(Inbound::closed()));
        };
        let authority = authority(&head)?;
        let random = &core.environment.random;
        let found = chain.find(
            &authority,
            &view(&head, &authority),
            &mut self.draws,
            random,
        );
        Some(found.rule.inbound.clone())
    }
}

impl Door {
    /// Judges a request of a connection that belongs to a chain: what the filters ask first, then
    /// whether any route serves it at all.
    pub(super) fn judge_served<B>(
        self: &Arc<Self>,
        way: Way,
        request: &mut Request<B>,
        dialect: Dialect,
    ) -> Judgement {
        self.counts().request();
        if let Err(ambiguous) = canonicalize(request, Normalization::default()) {
            self.counts().ambiguous();
            tracing::debug!(%ambiguous, "request refused");
            return Judgement::Refused(answer::ambiguous(dialect, ambiguous));
        }
        let peer = request.extensions().get::<Peer>();
        let port = peer.and_then(|peer| peer.local).map(|local| local.port());
        let chain = way.now(self.core()).unwrap_or_else(|| way.chain.clone());
        let Some(authority) = authority(request) else {
            tracing::info!("request refused: neither its target nor a Host header names a host");
            return Judgement::Refused(answer::unserved(dialect));
        };
        let random = &self.core().environment.random;
        let mut draws = Draws::default();
        let found = chain.find(&authority, &view(request, &authority), &mut draws, random);
        let asked = Asked {
            policies: found.rule.inbound.clone(),
            port,
            served: found.served,
            filters: found.rule.filters.clone(),
            routed: Some(Routed {
                way,
                draws,
                head: None,
            }),
        };
        self.judge_by(asked, request, dialect)
    }
}

/// The answer to a request that all filters let pass and no route serves.
pub(super) fn unserved<B>(request: &Request<B>, dialect: Dialect) -> Answer {
    let path = request.uri().path();
    tracing::info!(path, "request refused: no route of the listener serves it");
    answer::unserved(dialect)
}

fn authority<B>(request: &Request<B>) -> Option<http::uri::Authority> {
    let named = request.uri().authority().cloned();
    named.or_else(|| {
        let host = request.headers().get(http::header::HOST)?;
        host.as_bytes().try_into().ok()
    })
}
