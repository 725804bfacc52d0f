//! One rule of a route, of either kind, as routes of the model.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;

use super::attach::Spec;
use super::backend::{Backend, Copies, Port, Reachable, Resolved, mirrors, resolve};
use super::filter::{self, Filters};
use super::matches;
use crate::model::Fraction;
use crate::model::matcher::RouteMatcher;
use crate::model::retry::RetryPolicy;
use crate::model::route::{
    Action, Destination, Destinations, DirectResponse, Forward, HeaderChanges, Mirror, OwnFault,
    Route,
};
use crate::model::upgrade::Upgrades;
use crate::source::istio::compile::action::{self, Unusable};
use crate::source::istio::compile::route::pinned;
use crate::source::istio::compile::{Scope, affinity, retry};
use crate::source::istio::defaults::Defaults;
use crate::source::istio::fault::{Code, Fault, Faults, Severity};
use crate::source::istio::kinds::gateway_api::{
    GrpcRouteMatch, GrpcRouteRule, GrpcRouteSpec, HttpRouteMatch, HttpRouteRetry, HttpRouteRule,
    HttpRouteSpec, HttpRouteTimeouts, SessionPersistence,
};
use crate::source::istio::kinds::{GoDuration, Object, Retries};
use crate::source::istio::registry::{origin, warning};
use crate::source::istio::yaml::Located;

/// What Istio retries on a route of the Gateway API, besides the statuses that it names.
const RETRY_ON: &str = "connect-failure,refused-stream,unavailable,cancelled";
/// How often, when `retry` does not say.
const ATTEMPTS: u32 = 2;

/// A rule with what both kinds of routes can say.
#[derive(Debug)]
pub(super) struct Rule<'a> {
    pub(super) object: &'a Object,
    pub(super) index: usize,
    /// Line and column.
    pub(super) place: (u32, u32),
    /// What is answered where no backend can be reached: gRPC makes UNAVAILABLE of 503.
    pub(super) status: StatusCode,
    name: Option<&'a str>,
    matchers: Vec<RouteMatcher>,
    filters: Filters<'a>,
    backends: Vec<Backend<'a>>,
    mirrors: Vec<Copies<'a>>,
    timeouts: Option<&'a HttpRouteTimeouts>,
    retry: Option<&'a HttpRouteRetry>,
    session: Option<&'a SessionPersistence>,
}

/// One match of a rule: the route that carries it out, after the one that answers the share of
/// requests that cannot be.
pub(super) struct Branch {
    pub(super) matcher: RouteMatcher,
    pub(super) routes: Vec<Route>,
}

impl Spec<'_> {
    /// The status for requests that have nowhere to go.
    pub(super) fn unresolved(self) -> StatusCode {
        match self {
            Self::Grpc(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Http(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl<'a> Rule<'a> {
    /// The rules of an HTTPRoute; without any there is one that takes everything to nobody, which
    /// is the API's default.
    pub(super) fn of_http(object: &'a Object, spec: &'a HttpRouteSpec) -> (Vec<Self>, Faults) {
        let status = Spec::Http(spec).unresolved();
        let mut faults = Faults::default();
        let mut rules = Vec::new();
        for (index, written) in spec.rules.iter().enumerate() {
            let HttpRouteRule {
                name,
                matches: _,
                filters,
                backend_refs,
                timeouts,
                retry,
                session_persistence,
            } = &written.value;
            let backends = backend_refs.iter().map(|to| Backend {
                group: to.group.as_deref(),
                kind: to.kind.as_deref(),
                name: &to.name,
                namespace: to.namespace.as_deref(),
                port: to.port,
                weight: to.weight,
                filters: Filters::http(&to.filters),
                place: (to.line, to.column),
            });
            let copies = filters.iter().enumerate().filter_map(|(index, filter)| {
                let mirror = filter.request_mirror.as_ref()?;
                Some(Copies::new(mirror, index, (filter.line, filter.column)))
            });
            let mut rule = Self {
                name: name.as_ref().map(|name| name.as_str()),
                filters: Filters::http(filters),
                backends: backends.collect(),
                mirrors: copies.collect(),
                timeouts: timeouts.as_ref().map(|block| &block.value),
                retry: retry.as_ref().map(|block| &block.value),
                session: session_persistence.as_ref(),
                ..Self::bare(object, index, (written.line, written.column), status)
            };
            rule.ask(
                &written.matches,
                |block: &HttpRouteMatch| matches::http(block),
                &mut faults,
            );
            rules.push(rule);
        }
        Self::or_default(rules, object, status, faults)
    }

    /// The rules of a GRPCRoute.
    pub(super) fn of_grpc(object: &'a Object, spec: &'a GrpcRouteSpec) -> (Vec<Self>, Faults) {
        let status = Spec::Grpc(spec).unresolved();
        let mut faults = Faults::default();
        let mut rules = Vec::new();
        for (index, written) in spec.rules.iter().enumerate() {
            let GrpcRouteRule {
                name,
                matches: _,
                filters,
                backend_refs,
                session_persistence,
            } = &written.value;
            let backends = backend_refs.iter().map(|to| Backend {
                group: to.group.as_deref(),
                kind: to.kind.as_deref(),
                name: &to.name,
                namespace: to.namespace.as_deref(),
                port: to.port,
                weight: to.weight,
                filters: Filters::grpc(&to.filters),
                place: (to.line, to.column),
            });
            let copies = filters.iter().enumerate().filter_map(|(index, filter)| {
                let mirror = filter.request_mirror.as_ref()?;
                Some(Copies::new(mirror, index, (filter.line, filter.column)))
            });
            let mut rule = Self {
                name: name.as_ref().map(|name| name.as_str()),
                filters: Filters::grpc(filters),
                backends: backends.collect(),
                mirrors: copies.collect(),
                session: session_persistence.as_ref(),
                ..Self::bare(object, index, (written.line, written.column), status)
            };
            rule.ask(
                &written.matches,
                |block: &GrpcRouteMatch| matches::grpc(block),
                &mut faults,
            );
            rules.push(rule);
        }
        Self::or_default(rules, object, status, faults)
    }

    fn bare(object: &'a Object, index: usize, place: (u32, u32), status: StatusCode) -> Self {
        Self {
            object,
            index,
            place,
            status,
            name: None,
            matchers: Vec::new(),
            filters: Filters::default(),
            backends: Vec::new(),
            mirrors: Vec::new(),
            timeouts: None,
            retry: None,
            session: None,
        }
    }

    fn or_default(
        mut rules: Vec<Self>,
        object: &'a Object,
        status: StatusCode,
        faults: Faults,
    ) -> (Vec<Self>, Faults) {
        if rules.is_empty() {
            rules.push(Self {
                matchers: vec![RouteMatcher::everything()],
                ..Self::bare(object, 0, (object.line, 1), status)
            });
        }
        (rules, faults)
    }

    /// Reads the match blocks; none means every request.
    fn ask<T>(
        &mut self,
        blocks: &[Located<T>],
        read: impl Fn(&T) -> Result<RouteMatcher, Unusable>,
        faults: &mut Faults,
    ) {
        if blocks.is_empty() {
            self.matchers.push(RouteMatcher::everything());
        }
        for block in blocks {
            match read(block) {
                Ok(matcher) => self.matchers.push(matcher),
                Err(unusable) => faults.push(self.error(&unusable)),
            }
        }
    }

    /// The path of one of its fields.
    pub(super) fn path(&self, field: &str) -> String {
        format!("rules[{}].{field}", self.index)
    }

    fn error(&self, unusable: &Unusable) -> Fault {
        let object = self.object;
        Fault::new(Severity::Error, Code::Value, &*unusable.text)
            .at(&object.file, self.place.0.max(1), self.place.1)
            .object_ref(object.reference())
            .field(self.path(unusable.path))
    }

    /// The route's namespace and name, and the rule's name or place.
    fn route_name(&self) -> Arc<str> {
        let meta = &self.object.meta;
        match self.name {
            Some(name) => format!("{}/{}/{name}", meta.namespace, meta.name).into(),
            None => format!("{}/{}/rules[{}]", meta.namespace, meta.name, self.index).into(),
        }
    }

    /// Its routes, by match.
    pub(super) fn branches(&self, scope: &Scope<'_>, faults: &mut Faults) -> Vec<Branch> {
        let resolved = resolve(scope, self, &self.backends, faults);
        let mirrors = mirrors(scope, self, &self.mirrors, faults);
        let answers = self.filters.redirect.is_some() || self.filters.extension;
        let reachable = resolved.reachable.iter().any(|one| one.weight > 0);
        if !answers && !reachable && resolved.lost == 0 {
            let text = format!(
                "no backend has a weight: all requests of this rule are answered with {}",
                self.status
            );
            let fault = warning(self.object, Code::Suspicious, self.place, text);
            faults.push(fault.field(self.path("backendRefs")));
        }
        let mut branches = Vec::new();
        for matcher in &self.matchers {
            match self.routes(scope, matcher, (&resolved, &mirrors)) {
                Ok(routes) => branches.push(Branch {
                    matcher: matcher.clone(),
                    routes,
                }),
                Err(unusable) => faults.push(self.error(&unusable)),
            }
        }
        branches
    }

    fn routes(
        &self,
        scope: &Scope<'_>,
        matcher: &RouteMatcher,
        (resolved, mirrors): (&Resolved<'_, 'a>, &[Mirror]),
    ) -> Result<Vec<Route>, Unusable> {
        let unresolved = |matcher: RouteMatcher| {
            let answer = DirectResponse {
                status: self.status,
                body: Bytes::new(),
            };
            self.route(matcher, Action::Direct(answer), HeaderChanges::default())
        };
        if self.filters.extension {
            return Ok(vec![unresolved(matcher.clone())]);
        }
        let headers = self.filters.headers()?;
        if let Some(written) = self.filters.redirect {
            let redirect = filter::redirect(written, matcher)?;
            let action = Action::Redirect(redirect);
            return Ok(vec![self.route(matcher.clone(), action, headers)]);
        }
        let Some((mut forward, headers)) = self.forward(scope, matcher, resolved, headers)? else {
            return Ok(vec![unresolved(matcher.clone())]);
        };
        forward.mirrors = mirrors.to_vec();
        let action = Action::Forward(Box::new(forward));
        let forwarded = self.route(matcher.clone(), action, headers);
        let Some(share) = lost_share(resolved) else {
            return Ok(vec![forwarded]);
        };
        let part = RouteMatcher {
            share: Some(share),
            ..matcher.clone()
        };
        Ok(vec![unresolved(part), forwarded])
    }

    fn route(&self, matcher: RouteMatcher, action: Action, headers: HeaderChanges) -> Route {
        Route {
            name: self.route_name(),
            matcher,
            action,
            headers,
            fault: None,
            filters: Vec::new(),
            limits: Vec::new(),
            stat_prefix: None,
            origin: origin(self.object).at_line(self.place.0.max(1)),
        }
    }

    /// How requests are sent on, and the headers that change; `None` if there is nobody.
    fn forward(
        &self,
        scope: &Scope<'_>,
        matcher: &RouteMatcher,
        resolved: &Resolved<'_, 'a>,
        mut headers: HeaderChanges,
    ) -> Result<Option<(Forward, HeaderChanges)>, Unusable> {
        let mut authority_rewrite = self.filters.authority()?;
        let weighted = resolved.reachable.iter().filter(|one| one.weight > 0);
        let mut all = weighted.map(destination).collect::<Result<Vec<_>, _>>()?;
        if let [only] = all.as_mut_slice() {
            // As for a VirtualService: with one destination its changes are the route's.
            headers = action::joined(headers, std::mem::take(&mut only.headers));
            authority_rewrite = only.authority_rewrite.take().or(authority_rewrite);
            only.weight = 1;
        }
        let Some(destinations) = Destinations::weighted(all) else {
            return Ok(None);
        };
        let ports = resolved.reachable.iter().map(|one| &one.port);
        let parts = ports.map(|Port { host, number }| (&**host, *number, ""));
        let mut affinity = affinity::affinity(scope, parts);
        affinity.session = self.session.and_then(affinity::session);
        let (timeout, mut retry) = self.terms(scope.defaults);
        if let [_] = destinations.all() {
            retry = retry.map(|policy| pinned(policy, &affinity));
        }
        let forward = Forward {
            destinations,
            timeout,
            idle_timeout: None,
            retry,
            path_rewrite: self.filters.path(matcher)?,
            authority_rewrite,
            endpoint_authority: false,
            mirrors: Vec::new(),
            affinity,
            upgrades: Upgrades::default(),
        };
        Ok(Some((forward, headers)))
    }

    /// The timeout of the call and its retries. Without a `retry` block the default retries
    /// are in force, so where both timeouts are written `backendRequest` limits each try then too;
    /// alone it limits the call, as in Istio.
    fn terms(&self, mesh: Defaults<'_>) -> (Option<Duration>, Option<RetryPolicy>) {
        let limit = |written: fn(&HttpRouteTimeouts) -> Option<Duration>| {
            let limit = self.timeouts.and_then(written);
            limit.filter(|limit| !limit.is_zero())
        };
        let request = limit(|timeouts| timeouts.request.map(Duration::from));
        let try_limit = limit(|timeouts| timeouts.backend_request.map(Duration::from));
        let Some(written) = self.retry else {
            let standard = retry::default_policy(mesh.retries());
            let Some(request) = request else {
                return (try_limit, standard);
            };
            let policy = standard.map(|policy| RetryPolicy {
                per_try_timeout: try_limit.or(policy.per_try_timeout),
                ..policy
            });
            return (Some(request), policy);
        };
        let HttpRouteRetry {
            codes,
            attempts,
            backoff,
        } = written;
        let mut on = RETRY_ON.to_owned();
        for code in codes {
            on.push(',');
            on.push_str(&code.value.to_string());
        }
        let as_istio = Retries {
            attempts: attempts.unwrap_or(ATTEMPTS),
            per_try_timeout: try_limit.map(GoDuration),
            retry_on: Some(on.into()),
            backoff: backoff.map(|pause| GoDuration(pause.0)),
            ..Retries::default()
        };
        // All tokens are our own, so none is unknown.
        let (policy, _) = retry::policy(Some(&as_istio), None);
        match policy {
            Some(policy) => (request, Some(policy)),
            // One try: both limits are its own.
            None => (request.into_iter().chain(try_limit).min(), None),
        }
    }
}

fn destination(to: &Reachable<'_, '_>) -> Result<Destination, Unusable> {
    Ok(Destination {
        cluster: to.port.cluster(),
        weight: to.weight,
        headers: to.backend.filters.headers()?,
        authority_rewrite: to.backend.filters.authority()?,
        fault: OwnFault::AsRoute,
    })
}

/// The share of requests that have nowhere to go, to the nearest millionth, but neither none nor
/// all of them.
fn lost_share(resolved: &Resolved<'_, '_>) -> Option<Fraction> {
    const ALL: u64 = 1_000_000;
    let kept: u64 = resolved
        .reachable
        .iter()
        .map(|one| u64::from(one.weight))
        .sum();
    if resolved.lost == 0 || kept == 0 {
        return None;
    }
    let total = resolved.lost + kept;
    let parts = (resolved.lost * ALL + total / 2) / total;
    let parts = u32::try_from(parts.clamp(1, ALL - 1)).ok()?;
    Fraction::from_parts_per_million(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_share_is_exact_to_the_millionth_and_never_none_or_all() {
        let backend = Backend {
            group: None,
            kind: None,
            name: "a",
            namespace: None,
            port: Some(80),
            weight: None,
            filters: Filters::default(),
            place: (0, 0),
        };
        let share = |kept: u32, lost: u64| {
            let resolved = Resolved {
                reachable: vec![Reachable {
                    backend: &backend,
                    port: Port {
                        host: "a".into(),
                        number: 80,
                    },
                    weight: kept,
                }],
                lost,
            };
            lost_share(&resolved).map(Fraction::parts_per_million)
        };
        assert_eq!(share(90, 10), Some(100_000));
        assert_eq!(share(2, 1), Some(333_333));
        assert_eq!(share(1, 2), Some(666_667));
        assert_eq!(share(1_000_000, 1), Some(1));
        assert_eq!(share(1, 15_000_000), Some(999_999));
        assert_eq!((share(1, 0), share(0, 1)), (None, None));
    }
}
