//! Whether a request passes.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::request::Parts;
use http::{Extensions, HeaderMap, Request};

use super::answer::{self, Answer};
use super::door::Door;
use super::recheck::{Evidence, Recheck};
use super::seen::Seen;
use super::served::{self, Routed, Way};
use super::{Peer, audit, authorizer};
use crate::filter::{self, Running};
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
pub(super) struct Passed {
    /// Looks at it again when there are other policies.
    pub(super) watch: Box<Recheck>,
    /// Headers for the response.
    pub(super) to_caller: HeaderMap,
    /// What looks at the response.
    pub(super) filters: Arc<[Arc<dyn Running>]>,
}

type Judged = Result<(Parts, Passed), Answer>;

/// A judgement that somebody else has a word in.
pub(super) struct Asking(Pin<Box<dyn Future<Output = Judged> + Send>>);

impl Asking {
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Judged> {
        self.0.as_mut().poll(cx)
    }
}

/// What is asked of a request.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) policies: Arc<Inbound>,
    /// The port that it came by, if that is known.
    #[cfg_attr(
        not(feature = "rate-limit"),
        allow(
            dead_code,
            reason = "limits without somebody who counts refuse at all ports"
        )
    )]
    pub(super) port: Option<u16>,
    /// How it was routed by the chain of its connection, where a control plane configures the port.
    pub(super) routed: Option<Routed>,
    /// Whether it is served if all of that lets it pass.
    pub(super) served: bool,
    /// The program's own filters, which run last.
    pub(super) filters: Arc<[Arc<dyn Running>]>,
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
        if let Some(way) = request.extensions().get::<Way>().cloned() {
            return self.judge_served(way, request, dialect);
        }
        let peer = request.extensions().get::<Peer>();
        let port = transport.port(peer);
        let (policies, mode) = self.asked_on(port);
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
        let asked = Asked {
            policies,
            port,
            routed: None,
            served: true,
            filters: Arc::default(),
        };
        self.judge_by(asked, request, dialect)
    }

    /// Judges a canonical request.
    pub(super) fn judge_by<B>(
        self: &Arc<Self>,
        asked: Asked,
        request: &mut Request<B>,
        dialect: Dialect,
    ) -> Judgement {
        let policies = &asked.policies;
        let bears = !policies.tokens.is_empty() || policies.token_required;
        if bears || !policies.authorization.external.is_empty() {
            let mut head = Request::new(());
            std::mem::swap(head.method_mut(), request.method_mut());
            std::mem::swap(head.uri_mut(), request.uri_mut());
            std::mem::swap(head.version_mut(), request.version_mut());
            std::mem::swap(head.headers_mut(), request.headers_mut());
            std::mem::swap(head.extensions_mut(), request.extensions_mut());
            let door = self.clone();
            let asking = async move { door.ask(asked, head, dialect).await };
            return Judgement::Asking(Asking(Box::pin(asking)));
        }
        let judged = !policies.authorization.is_empty();
        if judged && !self.allows(&policies.authorization, request, None) {
            return Judgement::Refused(answer::denied(dialect));
        }
        if !asked.served {
            return Judgement::Refused(served::unserved(request, dialect));
        }
        if let Some(answer) = self.limited(&asked, request, dialect) {
            return Judgement::Refused(answer);
        }
        let filters = asked.filters.clone();
        let seen = Seen::of(request);
        let watch = self.watch(asked, seen, request, None, dialect);
        if let Some(answer) = filtered(&filters, request) {
            return Judgement::Refused(answer);
        }
        Judgement::Passed(Passed {
            watch,
            to_caller: HeaderMap::new(),
            filters,
        })
    }

    /// In Istio's order: external authorizers, tokens, policies.
    async fn ask(
        self: Arc<Self>,
        mut asked: Asked,
        mut head: Request<()>,
        dialect: Dialect,
    ) -> Judged {
        let policies = asked.policies.clone();
        let routed = Seen::of(&head);
        let to_caller = authorizer::ask_all(&self, &policies, &mut head, dialect).await?;
        let token = self.token(&policies, &mut head, dialect).await?;
        if !self.allows(&policies.authorization, &head, token.as_deref()) {
            return Err(answer::denied(dialect));
        }
        if !asked.served {
            return Err(served::unserved(&head, dialect));
        }
        if let Some(answer) = self.limited(&asked, &head, dialect) {
            return Err(answer);
        }
        let seen = match routed.is(&head) {
            true => routed,
            // Those who were asked have changed it: its route was found by what it was before.
            false => {
                if let Some(by) = &mut asked.routed {
                    by.keep(routed);
                }
                Seen::of(&head)
            }
        };
        let filters = asked.filters.clone();
        let watch = self.watch(asked, seen, &head, token, dialect);
        if let Some(answer) = filtered(&filters, &mut head) {
            return Err(answer);
        }
        let passed = Passed {
            watch,
            to_caller,
            filters,
        };
        Ok((head.into_parts().0, passed))
    }

    #[cfg(feature = "jwt")]
    async fn token(
        &self,
        policies: &Arc<Inbound>,
        head: &mut Request<()>,
        dialect: Dialect,
    ) -> Result<Option<Arc<Token>>, Answer> {
        if policies.tokens.is_empty() && !policies.token_required {
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
        if policies.tokens.is_empty() && !policies.token_required {
            return Ok(None);
        }
        self.counts().denied();
        tracing::warn!("request denied: tokens cannot be examined without the feature `jwt`");
        Err(answer::denied(dialect))
    }

    pub(super) fn allows<B>(
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

    /// What judges the request again, by the head that was judged: the program's filters may make
    /// another one of it for the handler.
    ///
    /// Two allocations for each request, this and the list of headers; see `mesh::door` of the tests.
    fn watch<B>(
        self: &Arc<Self>,
        asked: Asked,
        seen: Seen,
        request: &Request<B>,
        token: Option<Arc<Token>>,
        dialect: Dialect,
    ) -> Box<Recheck> {
        let evidence = Evidence {
            seen,
            peer: request.extensions().get::<Peer>().cloned(),
            token,
        };
        Box::new(Recheck::new(self.clone(), asked, evidence, dialect))
    }
}

/// Runs the program's filters over a request; the answer, if one of them has one.
fn filtered<B>(filters: &[Arc<dyn Running>], request: &mut Request<B>) -> Option<Answer> {
    if filters.is_empty() {
        return None;
    }
    let (mut head, ()) = Request::new(()).into_parts();
    let mut swap = |head: &mut Parts| {
        std::mem::swap(request.method_mut(), &mut head.method);
        std::mem::swap(request.uri_mut(), &mut head.uri);
        std::mem::swap(request.version_mut(), &mut head.version);
        std::mem::swap(request.headers_mut(), &mut head.headers);
        std::mem::swap(request.extensions_mut(), &mut head.extensions);
    };
    swap(&mut head);
    let outcome = filter::request(filters, &mut head);
    swap(&mut head);
    outcome.err().map(|answer| {
        let (head, text) = answer.into_parts();
        Answer {
            status: head.status,
            headers: head.headers,
            text,
        }
    })
}

/// The caller of a request, as its connection says.
pub(super) fn caller_of(extensions: &Extensions) -> Caller<'_> {
    caller_by(extensions.get::<Peer>())
}

/// The caller, as the connection says.
///
/// The identity is the SPIFFE ID, else the first name in the certificate in the order of gRFC A41: URI,
/// DNS, subject.
pub(super) fn caller_by(peer: Option<&Peer>) -> Caller<'_> {
    let Some(peer) = peer else {
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
