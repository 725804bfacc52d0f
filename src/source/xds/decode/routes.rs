//! Route configurations and virtual hosts.

use std::collections::HashMap;
use std::sync::Arc;

use super::headers::{self, Level};
use super::owner::{Names, Owner};
use super::place::{Place, Quoted};
use super::{Scope, action, filters, policy, route};
use crate::model::RouteConfiguration;
use crate::model::route::{Domain, HeaderChanges, Mirror, VirtualHost};
use crate::source::xds::filters::{self as chain, OfRoute, Overrides, Said};
use crate::source::xds::proto::route as wire;

/// What a route is given by what stands around it, for what it does not say itself.
#[derive(Clone, Default)]
pub(super) struct Around<'a> {
    /// Of filters, by route configuration and virtual host.
    pub(super) filters: Overrides,
    /// Header changes of virtual host and route configuration.
    pub(super) headers: HeaderChanges,
    /// Whether those are applied before the route's own, so that the route's win.
    pub(super) headers_first: bool,
    pub(super) hedge: Option<wire::HedgePolicy>,
    pub(super) mirrors: Vec<Mirror>,
    /// Of the route configuration.
    pub(super) plugins: &'a [wire::ClusterSpecifierPlugin],
    pub(super) retry: Option<(Place<'a>, wire::RetryPolicy)>,
}

/// The routes as they are where no filter of a listener says anything, and what they say of filters.
pub(super) fn configuration(
    scope: Scope<'_>,
    place: &Place<'_>,
    message: &wire::RouteConfiguration,
) -> Option<(RouteConfiguration, Said)> {
    // One listener may have several, of which the name tells nothing.
    let here = place.to_string();
    let scope = scope.owned(Owner::root(&here));
    let mut around = Around {
        headers_first: message.most_specific_header_mutations_wins,
        plugins: &message.cluster_specifier_plugins,
        filters: filters::per_route(
            scope,
            &place.field("typed_per_filter_config"),
            &message.typed_per_filter_config,
        ),
        ..Around::default()
    };
    let plugins = place.field("cluster_specifier_plugins");
    for (index, plugin) in message.cluster_specifier_plugins.iter().enumerate() {
        action::plugin(&plugins.index(index), plugin);
    }
    let mirrors = place.field("request_mirror_policies");
    around.mirrors = policy::mirrors(&mirrors, &message.request_mirror_policies);
    let changes = headers::level(
        place,
        &Level {
            request_add: &message.request_headers_to_add,
            request_remove: &message.request_headers_to_remove,
            response_add: &message.response_headers_to_add,
            response_remove: &message.response_headers_to_remove,
        },
    );
    if !message.vhost_header.is_empty() {
        return place.field("vhost_header").fault(
            "picks virtual hosts by another header; only :authority is looked at, leave it empty",
        );
    }
    let hosts = place.field("virtual_hosts");
    let mut owners: HashMap<Domain, usize> = HashMap::new();
    let mut all = Vec::with_capacity(message.virtual_hosts.len());
    let mut said = Said::default();
    let names = Names::of(message.virtual_hosts.iter().map(|host| &*host.name));
    for (index, host) in message.virtual_hosts.iter().enumerate() {
        let place = hosts.index(index);
        let scope = scope.owned(names.owner(&scope.owner, index, &host.name));
        let mut around = around.clone();
        around.headers = changes.clone().unwrap_or_default();
        if let Some((host, of_host)) = virtual_host(scope, &place, host, around) {
            taken_twice(&place.field("domains"), index, &host.domains, &mut owners);
            all.push(Arc::new(host));
            said.hosts.push(of_host);
        }
    }
    changes?;
    let routes = RouteConfiguration {
        name: message.name.as_str().into(),
        virtual_hosts: all,
        origin: scope.origin(&message.name),
    };
    Some((routes, said))
}

/// A domain leads to one virtual host: Envoy refuses it in two, gRPC takes the first and leaves
/// the other unreachable.
fn taken_twice(
    place: &Place<'_>,
    host: usize,
    domains: &[Domain],
    owners: &mut HashMap<Domain, usize>,
) {
    for (index, domain) in domains.iter().enumerate() {
        if let Some(other) = owners.insert(domain.clone(), host) {
            let _: Option<()> = place.index(index).fault(format_args!(
                "stands also in virtual_hosts[{other}]; each domain may stand in one place"
            ));
        }
    }
}

fn virtual_host(
    scope: Scope<'_>,
    place: &Place<'_>,
    message: &wire::VirtualHost,
    around: Around<'_>,
) -> Option<(VirtualHost, Vec<OfRoute>)> {
    // From here on it also holds what lives as long as this place.
    let mut around = around;
    let own = filters::per_route(
        scope,
        &place.field("typed_per_filter_config"),
        &message.typed_per_filter_config,
    );
    around.filters = chain::over(&around.filters, own);
    let changes = headers::level(
        place,
        &Level {
            request_add: &message.request_headers_to_add,
            request_remove: &message.request_headers_to_remove,
            response_add: &message.response_headers_to_add,
            response_remove: &message.response_headers_to_remove,
        },
    );
    let outer = std::mem::take(&mut around.headers);
    around.headers = match around.headers_first {
        true => headers::joined(outer, changes.clone().unwrap_or_default()),
        false => headers::joined(changes.clone().unwrap_or_default(), outer),
    };
    if !message.request_mirror_policies.is_empty() {
        let mirrors = place.field("request_mirror_policies");
        around.mirrors = policy::mirrors(&mirrors, &message.request_mirror_policies);
    }
    let retry = place.field("retry_policy");
    around.retry = message.retry_policy.clone().map(|policy| (retry, policy));
    around.hedge = message.hedge_policy;
    restrictions(place, message);
    let domains = domains(&place.field("domains"), &message.domains);
    let routes_place = place.field("routes");
    let mut routes = Vec::with_capacity(message.routes.len());
    let mut said = Vec::with_capacity(message.routes.len());
    let names = Names::of(message.routes.iter().map(|route| &*route.name));
    for (index, message) in message.routes.iter().enumerate() {
        let place = routes_place.index(index);
        let scope = scope.owned(names.owner(&scope.owner, index, &message.name));
        // Without one there is a fault, which was told.
        if let Some((route, of_route)) = route::route(scope, &place, message, &around) {
            routes.push(Arc::new(route));
            said.push(of_route);
        }
    }
    changes?;
    let host = VirtualHost {
        name: message.name.as_str().into(),
        domains: domains?,
        routes,
        origin: scope.origin(&message.name),
    };
    Some((host, said))
}

/// What would change which requests pass, and is not here.
fn restrictions(place: &Place<'_>, message: &wire::VirtualHost) {
    let refuse = |field: &str, text: &str| {
        let _: Option<()> = place.field(field).fault(text);
    };
    if message.require_tls != 0 {
        refuse(
            "require_tls",
            "redirects of a server to TLS are not supported; only NONE is allowed",
        );
    }
    if message.matcher.is_some() {
        refuse(
            "matcher",
            "routes by a matcher tree are not supported; list them in \"routes\"",
        );
    }
    if message.retry_policy_typed_config.is_some() {
        refuse(
            "retry_policy_typed_config",
            "extensions of retries are not supported; use \"retry_policy\"",
        );
    }
}

fn domains(place: &Place<'_>, texts: &[String]) -> Option<Vec<Domain>> {
    if texts.is_empty() {
        return place.fault("is empty; a virtual host has at least one domain");
    }
    let all: Vec<Option<Domain>> = texts
        .iter()
        .enumerate()
        .map(|(index, text)| domain(&place.index(index), text))
        .collect();
    all.into_iter().collect()
}

fn domain(place: &Place<'_>, text: &str) -> Option<Domain> {
    let inner = text.strip_prefix('*').unwrap_or(text);
    let inner = match inner.len() == text.len() {
        true => inner.strip_suffix('*').unwrap_or(inner),
        false => inner,
    };
    let valid = text == "*" || (!inner.is_empty() && !inner.contains('*'));
    if !valid {
        return place.fault(format_args!(
            "{} is no domain; \"*\", \"*suffix\", \"prefix*\" and an exact authority are allowed",
            Quoted(text)
        ));
    }
    Some(Domain::parse(text))
}
