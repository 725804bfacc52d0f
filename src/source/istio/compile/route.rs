//! The HTTP rules of a VirtualService as the routes of one virtual host.
//!
//! Every match block becomes a route of its own with the action of its rule, in the order in which
//! they are written. Nothing after a route that takes every request is emitted.

use std::sync::Arc;
use std::time::Duration;

use super::action::{self, Unusable};
use super::host::resource_name;
use super::matches::{concerns, matcher};
use super::target::{Target, target};
use super::virtual_service::Claim;
use super::{Scope, affinity, lint, retry};
use crate::model::affinity::Affinity;
use crate::model::matcher::RouteMatcher;
use crate::model::retry::RetryPolicy;
use crate::model::route::{
    Action, Destination, Destinations, Forward, HeaderChanges, Mirror, OwnFault, Route,
};
use crate::model::upgrade::Upgrades;
use crate::model::{Fraction, Origin};
use crate::source::istio::fault::{Code, Fault, Faults, Severity};
use crate::source::istio::kinds::{self, HttpMatch, HttpRoute, HttpRouteDestination, Object};
use crate::source::istio::registry::{Port, PortProtocol, Service, origin};
use crate::source::istio::yaml::Located;

/// The name of the route of a host without rules.
const DEFAULT: &str = "default";

/// One rule and where it stands.
#[derive(Clone, Copy)]
pub(super) struct Rule<'r> {
    /// Who wrote it: the owner of the host, or its delegate.
    pub(super) object: &'r Object,
    pub(super) index: usize,
    pub(super) spec: &'r Located<HttpRoute>,
    /// The service port that the client calls.
    pub(super) port: u16,
}

/// Every request to the service itself: no timeout, and Istio's default retries where HTTP is
/// spoken. Bytes that are not HTTP to the mesh are never repeated.
pub(super) fn default_route(
    scope: &Scope<'_>,
    service: &Service<'_>,
    port: &Port,
    origin: &Origin,
) -> Arc<Route> {
    let cluster = resource_name(port.number, "", &service.host);
    let only = (&*service.host, port.number, "");
    let affinity = affinity::affinity(scope, std::iter::once(only));
    let retry = match port.protocol {
        PortProtocol::Http | PortProtocol::Http2 | PortProtocol::Unknown => {
            retry::default_policy(scope.defaults.retries()).map(|policy| pinned(policy, &affinity))
        }
        PortProtocol::Tcp | PortProtocol::Udp => None,
    };
    Arc::new(Route {
        name: DEFAULT.into(),
        matcher: RouteMatcher::everything(),
        action: Action::Forward(Box::new(Forward {
            destinations: Destinations::single(cluster),
            timeout: None,
            idle_timeout: None,
            retry,
            path_rewrite: None,
            authority_rewrite: None,
            endpoint_authority: false,
            mirrors: Vec::new(),
            affinity,
            upgrades: Upgrades::default(),
        })),
        headers: HeaderChanges::default(),
        fault: None,
        filters: Vec::new(),
        limits: Vec::new(),
        stat_prefix: None,
        origin: origin.clone(),
    })
}

/// The retries of a route to one destination that balances by hash: they stay where the hash leads,
/// as istiod has it.
pub(super) fn pinned(mut policy: RetryPolicy, affinity: &Affinity) -> RetryPolicy {
    policy.avoid_previous &= affinity.hash.is_empty();
    policy
}

/// The routes of a VirtualService for a client that calls this port; none if no rule is for it.
pub(super) fn routes(
    scope: &Scope<'_>,
    claim: &Claim<'_>,
    port: u16,
    faults: &mut Faults,
) -> Vec<Arc<Route>> {
    let mut routes = Vec::new();
    let own = &*claim.object.meta.namespace;
    let all = scope.delegation.rules(claim.object, claim.spec);
    for written in all.iter() {
        let spec = &*written.spec;
        let rule = Rule {
            object: written.object,
            index: written.index,
            spec,
            port,
        };
        let blocks: Vec<Option<&Located<HttpMatch>>> = if spec.matches.is_empty() {
            vec![None]
        } else {
            let concerning = spec.matches.iter();
            concerning
                .filter(|block| concerns(block, scope.client, port, (claim.via, own)))
                .map(Some)
                .collect()
        };
        if !blocks.is_empty() {
            lint::rule(scope, rule, faults);
        }
        for block in blocks {
            match rule.route(scope, block) {
                Ok(route) => {
                    let everything = route.matcher.is_everything();
                    routes.push(Arc::new(route));
                    if everything {
                        return routes;
                    }
                }
                Err(unusable) => faults.push(rule.error(&unusable)),
            }
        }
    }
    routes
}

impl Rule<'_> {
    /// A fault of this rule, at its line unless a field has a better one.
    pub(super) fn fault(
        &self,
        severity: Severity,
        code: Code,
        (line, column): (u32, u32),
        text: impl Into<String>,
    ) -> Fault {
        let object = self.object;
        let (line, column) = match (line, self.spec.line) {
            (0, 0) => (object.line, 1),
            (0, own) => (own, self.spec.column),
            (line, _) => (line, column),
        };
        Fault::new(severity, code, text)
            .at(&object.file, line, column)
            .object_ref(object.reference())
    }

    /// The path of one of its fields.
    pub(super) fn path(&self, field: &str) -> String {
        if field.is_empty() {
            format!("http[{}]", self.index)
        } else {
            format!("http[{}].{field}", self.index)
        }
    }

    fn error(&self, unusable: &Unusable) -> Fault {
        self.fault(Severity::Error, Code::Value, (0, 0), &*unusable.text)
            .field(self.path(unusable.path))
    }

    fn route(
        &self,
        scope: &Scope<'_>,
        block: Option<&Located<HttpMatch>>,
    ) -> Result<Route, Unusable> {
        let matcher = match block {
            None => RouteMatcher::everything(),
            Some(block) => {
                matcher(block).map_err(|error| Unusable::new("match", error.to_string()))?
            }
        };
        let (action, headers) = self.action(scope, &matcher)?;
        let fault = match &self.spec.fault {
            None => None,
            Some(block) => action::fault(block)?,
        };
        Ok(Route {
            name: self.name(block),
            matcher,
            action,
            headers,
            fault,
            filters: Vec::new(),
            limits: Vec::new(),
            stat_prefix: Self::stat_prefix(block),
            origin: origin(self.object).at_line(self.spec.line.max(1)),
        })
    }

    /// What its answers are counted under, if the block says.
    fn stat_prefix(block: Option<&Located<HttpMatch>>) -> Option<Arc<str>> {
        let prefix = block.and_then(|block| block.stat_prefix.as_deref());
        prefix.filter(|prefix| !prefix.is_empty()).map(Arc::from)
    }

    /// The rule's name, or the place of a rule that has none, and the name of the block.
    fn name(&self, block: Option<&Located<HttpMatch>>) -> Arc<str> {
        let meta = &self.object.meta;
        let rule = match self.spec.name.as_deref().filter(|name| !name.is_empty()) {
            Some(name) => name.to_owned(),
            None => format!("{}/{}/http[{}]", meta.namespace, meta.name, self.index),
        };
        match block.and_then(|block| block.name.as_deref()) {
            Some(name) if !name.is_empty() => format!("{rule}.{name}").into(),
            Some(_) | None => rule.into(),
        }
    }

    fn action(
        &self,
        scope: &Scope<'_>,
        matched: &RouteMatcher,
    ) -> Result<(Action, HeaderChanges), Unusable> {
        let headers = action::headers(self.spec.headers.as_ref())?;
        if let Some(block) = &self.spec.redirect {
            let redirect = action::redirect(block, matched)?;
            return Ok((Action::Redirect(redirect), headers));
        }
        if let Some(block) = &self.spec.direct_response {
            let response = action::direct_response(block)?;
            return Ok((Action::Direct(response), headers));
        }
        self.forward(scope, matched, headers)
    }

    fn forward(
        &self,
        scope: &Scope<'_>,
        matched: &RouteMatcher,
        mut headers: HeaderChanges,
    ) -> Result<(Action, HeaderChanges), Unusable> {
        let mut authority_rewrite = self.authority()?;
        let destinations = match self.spec.route.as_slice() {
            [only] => {
                // Its headers are merged into the route's, as istiod does.
                let mut only = self.destination(scope, only)?;
                headers = action::joined(headers, std::mem::take(&mut only.headers));
                authority_rewrite = only.authority_rewrite.or(authority_rewrite);
                Destinations::single(only.cluster)
            }
            several => {
                let several = several.iter().map(|one| self.destination(scope, one));
                let several = several.collect::<Result<Vec<_>, _>>()?;
                Destinations::weighted(several).ok_or_else(|| {
                    Unusable::new(
                        "route",
                        "no destination has a weight, or the weights exceed 4294967295",
                    )
                })?
            }
        };
        let (retry, unknown) = retry::policy(
            self.spec.retries.as_ref().map(|block| &block.value),
            scope.defaults.retries(),
        );
        if let Some(token) = unknown.first() {
            let text = format!("unknown token {token:?}");
            return Err(Unusable::new("retries.retryOn", text));
        }
        let affinity = self.affinity(scope);
        let retry = match self.spec.route.as_slice() {
            [_] => retry.map(|policy| pinned(policy, &affinity)),
            _ => retry,
        };
        let forward = Forward {
            destinations,
            timeout: self
                .spec
                .timeout
                .map(Duration::from)
                .filter(|limit| !limit.is_zero()),
            idle_timeout: None,
            retry,
            path_rewrite: match &self.spec.rewrite {
                None => None,
                Some(block) => action::path_rewrite(block, matched)?,
            },
            authority_rewrite,
            endpoint_authority: false,
            mirrors: self.mirrors(scope)?,
            affinity,
            upgrades: Upgrades::default(),
        };
        Ok((Action::Forward(Box::new(forward)), headers))
    }

    /// Who gets copies, and of which share: all that is not said, none of them at 0 %.
    fn mirrors(&self, scope: &Scope<'_>) -> Result<Vec<Mirror>, Unusable> {
        let HttpRoute {
            mirror,
            mirror_percent,
            mirror_percentage,
            mirrors,
            ..
        } = &self.spec.value;
        let percent = |percent: &kinds::Percent| percent.value;
        let one = mirror.as_ref().map(|to| {
            let percent = mirror_percentage.as_ref().map(percent);
            (to, percent.or(mirror_percent.map(f64::from)))
        });
        let several = mirrors.iter().filter_map(|mirror| {
            let to = mirror.destination.as_ref()?;
            Some((to, mirror.percentage.as_ref().map(percent)))
        });
        let mut all = Vec::new();
        for (to, percent) in one.into_iter().chain(several) {
            let share = Fraction::from_percent(percent.unwrap_or(100.0))
                .map_err(|error| Unusable::new("mirrors", error.to_string()))?;
            if share != Fraction::ZERO {
                all.push(Mirror {
                    cluster: self.target(scope, to).cluster(),
                    share,
                });
            }
        }
        Ok(all)
    }

    /// What keeps the rule's requests together.
    fn affinity(&self, scope: &Scope<'_>) -> Affinity {
        let written = self
            .spec
            .route
            .iter()
            .filter(|one| one.destination.is_some());
        let targets: Vec<Target> = written
            .filter_map(|one| Some(self.target(scope, one.destination.as_ref()?)))
            .collect();
        let parts = targets
            .iter()
            .map(|one| (&*one.host, one.port, one.subset.as_str()));
        affinity::affinity(scope, parts)
    }

    /// The authority that the rule writes, in `rewrite` or as a header.
    fn authority(&self) -> Result<Option<http::uri::Authority>, Unusable> {
        let rewrite = self.spec.rewrite.as_ref();
        match rewrite.and_then(|rewrite| rewrite.authority.as_deref()) {
            Some(text) if !text.is_empty() => {
                action::parse_authority(text, "rewrite.authority").map(Some)
            }
            Some(_) | None => action::authority(self.spec.headers.as_ref()),
        }
    }

    fn destination(
        &self,
        scope: &Scope<'_>,
        written: &HttpRouteDestination,
    ) -> Result<Destination, Unusable> {
        let target = written
            .destination
            .as_ref()
            .ok_or_else(|| Unusable::new("route", "a destination is required"))?;
        Ok(Destination {
            cluster: self.target(scope, target).cluster(),
            weight: written.weight,
            headers: action::headers(written.headers.as_ref())?,
            authority_rewrite: action::authority(written.headers.as_ref())?,
            fault: OwnFault::AsRoute,
        })
    }

    /// What a destination means to this client.
    pub(super) fn target(&self, scope: &Scope<'_>, written: &kinds::Destination) -> Target {
        target(scope, self.object, self.port, written)
    }
}
