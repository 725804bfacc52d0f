//! Whether a request passes.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::request::Parts;
use http::{Extensions, HeaderMap, Request};

use super::answer::{self, Answer};
use super::door::Door;
use super::recheck::Recheck;
use super::{Peer, audit, authorizer};
use crate::layer::authz::{Attributes, Caller, Token, decide};
use crate::layer::canonical::canonicalize;
use crate::model::Inbound;
use crate::model::authorization::Authorization;
use crate::model::security::MutualTls;
use crate::outbound::Dialect;

/// What the program says of the connections that requests come by.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Transport {
    /// The port that they come by, where the connection does not say.
    pub(super) port: Option<u16>,
    /// Whether somebody else has made sure that mutual TLS is spoken.
    pub(super) trusted: bool,
}

impl Transport {
    fn port(self, peer: Option<&Peer>) -> Option<u16> {
        let local = peer.and_then(|peer| peer.local);
        local.map(|local| local.port()).or(self.port)
    }

    /// Whether the request came by mutual TLS.
    fn vouches(self, peer: Option<&Peer>) -> bool {
        self.trusted || peer.is_some_and(Peer::is_mutual)
    }
}

/// What becomes of a request.
pub(super) enum Judgement {
    /// Somebody must be asked first.
    Asking(Asking),
    Passed(Passed),
    Refused(Answer),
}

/// What goes along with a request that passed.
#[derive(Default)]
pub(super) struct Passed {
    /// Looks at it again; `None`: no policy is in force.
    pub(super) watch: Option<Box<Recheck>>,
    /// Headers for the response.
    pub(super) to_caller: HeaderMap,
}

type Judged = Result<(Parts, Passed), Answer>;

/// A judgement that somebody else has a word in.
pub(super) struct Asking(Pin<Box<dyn Future<Output = Judged> + Send>>);

impl Asking {
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Judged> {
        self.0.as_mut().poll(cx)
    }
}

impl Door {
    /// Makes the request canonical and judges it. The head of a request about which somebody is
    /// asked moves to who asks.
    pub(super) fn judge<B>(
        self: &Arc<Self>,
        request: &mut Request<B>,
        dialect: Dialect,
        transport: Transport,
    ) -> Judgement {
        let peer = request.extensions().get::<Peer>();
        let (policies, mode) = self.asked_on(transport.port(peer));
        self.counts().request();
        if mode == MutualTls::Strict && !transport.vouches(peer) {
            self.counts().denied();
            let remote = peer.and_then(|peer| peer.remote);
            tracing::info!(?remote, "request refused: mutual TLS is demanded (STRICT)");
            return Judgement::Refused(answer::without_mutual_tls(dialect));
        }
        if let Err(ambiguous) = canonicalize(request, policies.normalization) {
            self.counts().ambiguous();
            tracing::debug!(%ambiguous, "request refused");
            return Judgement::Refused(answer::ambiguous(dialect, ambiguous));
        }
        if !policies.tokens.is_empty() || !policies.authorization.external.is_empty() {
            let mut head = Request::new(());
            std::mem::swap(head.method_mut(), request.method_mut());
            std::mem::swap(head.uri_mut(), request.uri_mut());
            std::mem::swap(head.version_mut(), request.version_mut());
            std::mem::swap(head.headers_mut(), request.headers_mut());
            std::mem::swap(head.extensions_mut(), request.extensions_mut());
            let door = self.clone();
            let asking = async move { door.ask(policies, head, dialect).await };
            return Judgement::Asking(Asking(Box::pin(asking)));
        }
        if policies.authorization.is_empty() {
            return Judgement::Passed(Passed::default());
        }
        if !self.allows(&policies.authorization, request, None) {
            return Judgement::Refused(answer::denied(dialect));
        }
        let watch = self.watch(policies, request, None, dialect);
        Judgement::Passed(Passed {
            watch: Some(watch),
            ..Passed::default()
        })
    }

    /// In Istio's order: external authorizers, tokens, policies.
    async fn ask(
        self: Arc<Self>,
        policies: Arc<Inbound>,
        mut head: Request<()>,
        dialect: Dialect,
    ) -> Judged {
        let to_caller = authorizer::ask_all(&self, &policies, &mut head, dialect).await?;
        let token = self.token(&policies, &mut head, dialect).await?;
        if !self.allows(&policies.authorization, &head, token.as_deref()) {
            return Err(answer::denied(dialect));
        }
        let watched = !policies.authorization.stages.is_empty();
        let watch = watched.then(|| self.watch(policies, &head, token, dialect));
        Ok((head.into_parts().0, Passed { watch, to_caller }))
    }

    #[cfg(feature = "jwt")]
    async fn token(
        &self,
        policies: &Arc<Inbound>,
        head: &mut Request<()>,
        dialect: Dialect,
    ) -> Result<Option<Arc<Token>>, Answer> {
        if policies.tokens.is_empty() {
            return Ok(None);
        }
        let looked = self.witness().examine(policies, head).await;
        looked.map_err(|invalid| {
            self.counts().unauthenticated();
            tracing::debug!(%invalid, "token refused");
            answer::unauthenticated(dialect, invalid.words())
        })
    }

    /// Rules about tokens that nobody can examine deny what they are about: everything.
    #[cfg(not(feature = "jwt"))]
    async fn token(
        &self,
        policies: &Arc<Inbound>,
        _: &mut Request<()>,
        dialect: Dialect,
    ) -> Result<Option<Arc<Token>>, Answer> {
        if policies.tokens.is_empty() {
            return Ok(None);
        }
        self.counts().denied();
        tracing::warn!("request denied: tokens cannot be examined without the feature `jwt`");
        Err(answer::denied(dialect))
    }

    fn allows<B>(
        &self,
        policies: &Authorization,
        request: &Request<B>,
        token: Option<&Token>,
    ) -> bool {
        let caller = caller_of(request.extensions());
        let attributes = Attributes::of(request, caller).with_token(token);
        let decision = decide(policies, &attributes, &mut |seen| {
            audit::write(self.counts(), &seen, &attributes);
        });
        if !decision.allowed {
            self.counts().denied();
            let policy = decision.policy;
            tracing::info!(
                policy = policy.map(|policy| &*policy.name),
                origin = policy.map(|policy| tracing::field::display(&policy.origin)),
                method = attributes.request.method,
                path = attributes.request.path,
                principal = attributes.caller.principal,
                "request denied"
            );
        }
        decision.allowed
    }

    fn watch<B>(
        self: &Arc<Self>,
        policies: Arc<Inbound>,
        request: &Request<B>,
        token: Option<Arc<Token>>,
        dialect: Dialect,
    ) -> Box<Recheck> {
        let mut head = Request::new(());
        head.method_mut().clone_from(request.method());
        head.uri_mut().clone_from(request.uri());
        head.headers_mut().clone_from(request.headers());
        if let Some(peer) = request.extensions().get::<Peer>() {
            head.extensions_mut().insert(peer.clone());
        }
        Box::new(Recheck::new(self.clone(), policies, head, token, dialect))
    }
}

/// The caller, as the connection says.
///
/// The identity is the SPIFFE ID, else the first name in the certificate in the order of gRFC A41: URI,
/// DNS, subject.
pub(super) fn caller_of(extensions: &Extensions) -> Caller<'_> {
    let Some(peer) = extensions.get::<Peer>() else {
        return Caller::default();
    };
    let spiffe = peer.principal.as_ref().map(|principal| principal.as_str());
    let certificate = peer.certificate.as_deref();
    let other = || {
        let names = certificate?;
        let first = names.uris.first().or(names.dns.first());
        let name = first.map_or(&*names.subject, |name| name);
        (!name.is_empty()).then_some(name)
    };
    let source = peer.remote.map(|remote| remote.ip());
    Caller {
        source,
        remote: source,
        destination: peer.local,
        principal: spiffe.or_else(other),
        encrypted: peer.tls,
        sni: peer.sni.as_deref(),
    }
}
