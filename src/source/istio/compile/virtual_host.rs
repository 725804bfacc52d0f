//! Virtual hosts: which names lead to which routes.
//!
//! Each service port has one virtual host, which stands in two route configurations: the
//! service's own, for channels that name it, and that of its port number, for clients that only
//! have a URL. Both share it.
//!
//! The same short name or address may stand for two services; no domain may stand in two virtual
//! hosts of one configuration, so full names are given away first, then the rest, in the order of
//! hosts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::Scope;
use super::gateway_api::{self, Owner};
use super::host::resource_name;
use super::route;
use super::virtual_service::Claim;
use crate::model::route::{Domain, Route, VirtualHost};
use crate::model::{Origin, Resources, RouteConfiguration};
use crate::source::istio::fault::Faults;
use crate::source::istio::registry::{Port, Service, origin};

/// The only port for hosts that no service has: istiod's rule, from the time when VirtualServices
/// were the way to declare a host.
pub(super) const HTTP_PORT: u16 = 80;

/// A virtual host before its domains are settled.
struct Draft {
    host: Arc<str>,
    /// Names without a port, the full one first.
    names: Vec<String>,
    routes: Vec<Arc<Route>>,
    origin: Origin,
}

/// Adds every route configuration.
pub(super) fn routes(scope: &mut Scope<'_>, resources: &mut Resources) {
    let mut warnings = Faults::default();
    let mut by_port: BTreeMap<u16, Vec<Draft>> = BTreeMap::new();
    for service in scope.view.services() {
        for port in &service.ports {
            let draft = of_service(scope, service, port, &mut warnings);
            by_port.entry(port.number).or_default().push(draft);
        }
    }
    for claim in scope.claims.without_service() {
        let draft = of_claim(scope, claim, &mut warnings);
        by_port.entry(HTTP_PORT).or_default().push(draft);
    }
    scope.faults.extend(warnings);
    for (port, mut drafts) in by_port {
        drafts.sort_by(|a, b| a.host.cmp(&b.host));
        let virtual_hosts = settle(drafts, port);
        for (host, virtual_host) in &virtual_hosts {
            resources.insert_routes(RouteConfiguration {
                name: resource_name(port, "", host),
                virtual_hosts: vec![virtual_host.clone()],
                origin: virtual_host.origin.clone(),
            });
        }
        resources.insert_routes(RouteConfiguration {
            name: port.to_string().into(),
            virtual_hosts: virtual_hosts.into_iter().map(|(_, host)| host).collect(),
            origin: Origin::built_in(),
        });
    }
}

fn of_service(
    scope: &Scope<'_>,
    service: &Service<'_>,
    port: &Port,
    warnings: &mut Faults,
) -> Draft {
    let client = scope.client;
    let http = port.protocol.routes_http().then_some(port.number);
    let owner = http.and_then(|port| gateway_api::choose(scope, &service.host, port, warnings));
    let written = owner.map(|owner| match owner {
        Owner::VirtualService(claim) => {
            let routes = route::routes(scope, claim, port.number, warnings);
            (claim.object, routes)
        }
        Owner::Routes(set) => (set.object(), set.routes(scope, warnings)),
    });
    let (routes, origin) = match written {
        // Rules of which none concerns this client and port are as good as none.
        Some((object, routes)) if !routes.is_empty() => (routes, origin(object)),
        Some(_) | None => {
            let origin = origin(service.object).at_line(port.line);
            (
                vec![route::default_route(scope, service, port, &origin)],
                origin,
            )
        }
    };
    let mut names = names(&service.host, client.namespace(), client.cluster_domain());
    for alias in scope.view.aliases(&service.host) {
        names.extend(self::names(
            &alias.host,
            client.namespace(),
            client.cluster_domain(),
        ));
    }
    names.extend(service.addresses.iter().map(|address| match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }));
    Draft {
        host: service.host.clone(),
        names,
        routes,
        origin,
    }
}

fn of_claim(scope: &Scope<'_>, claim: &Claim<'_>, warnings: &mut Faults) -> Draft {
    let client = scope.client;
    Draft {
        host: claim.host.clone(),
        names: names(&claim.host, client.namespace(), client.cluster_domain()),
        routes: route::routes(scope, claim, HTTP_PORT, warnings),
        origin: origin(claim.object),
    }
}

/// The names of a host without a port: the host, the host with the dot that ends an absolute name,
/// and the short forms of a Kubernetes name that a resolver would complete in this namespace.
fn names(host: &str, client: &str, domain: &str) -> Vec<String> {
    let mut names = vec![host.to_owned()];
    if host.parse::<IpAddr>().is_ok() || host.starts_with('*') {
        return names;
    }
    names.push(format!("{host}."));
    let kubernetes = host
        .strip_suffix(domain)
        .and_then(|rest| rest.strip_suffix(".svc."))
        .and_then(|rest| rest.split_once('.'))
        .filter(|(name, namespace)| !name.is_empty() && !namespace.contains('.'));
    if let Some((name, namespace)) = kubernetes {
        if namespace == client {
            names.push(name.to_owned());
        }
        names.push(format!("{name}.{namespace}"));
        names.push(format!("{name}.{namespace}.svc"));
    }
    names
}

/// Gives every domain to one virtual host, with and without the port. A virtual host without any
/// is dropped.
fn settle(drafts: Vec<Draft>, port: u16) -> Vec<(Arc<str>, Arc<VirtualHost>)> {
    let full: BTreeSet<&str> = drafts.iter().map(|draft| &*draft.host).collect();
    let mut taken: BTreeSet<String> = BTreeSet::new();
    let mut settled = Vec::new();
    for draft in &drafts {
        let own = draft
            .names
            .iter()
            .filter(|name| ***name == *draft.host || !full.contains(name.as_str()));
        let mut domains = Vec::new();
        for name in own {
            if taken.insert(name.clone()) {
                domains.push(Domain::parse(name));
                domains.push(Domain::parse(&format!("{name}:{port}")));
            }
        }
        if domains.is_empty() {
            continue;
        }
        let virtual_host = VirtualHost {
            name: format!("{}:{port}", draft.host).into(),
            domains,
            routes: draft.routes.clone(),
            origin: draft.origin.clone(),
        };
        settled.push((draft.host.clone(), Arc::new(virtual_host)));
    }
    settled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_depend_on_the_namespace_of_the_client() {
        let of = |client| names("catalog.my-app.svc.cluster.local", client, "cluster.local");
        let full = [
            "catalog.my-app.svc.cluster.local",
            "catalog.my-app.svc.cluster.local.",
        ];
        let near = ["catalog", "catalog.my-app", "catalog.my-app.svc"];
        assert_eq!(of("my-app"), [&full[..], &near[..]].concat());
        assert_eq!(of("other"), [&full[..], &near[1..]].concat());
        assert_eq!(names("10.0.0.1", "x", "cluster.local"), ["10.0.0.1"]);
        assert_eq!(names("*.a.com", "x", "cluster.local"), ["*.a.com"]);
        assert_eq!(
            names("a.b.c.svc.cluster.local", "b", "cluster.local").len(),
            2
        );
    }

    #[test]
    fn full_name_beats_the_short_form_of_another_host() {
        let draft = |host: &str, names: &[&str]| Draft {
            host: host.into(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            routes: Vec::new(),
            origin: Origin::built_in(),
        };
        let settled = settle(
            vec![
                draft("a.b.svc.x", &["a.b.svc.x", "a.b"]),
                draft("a.b", &["a.b", "a.b."]),
                draft("c.b.svc.x", &["c.b.svc.x", "a.b."]),
            ],
            80,
        );
        let count = |index: usize| settled[index].1.domains.len();
        assert_eq!((count(0), count(1), count(2)), (2, 4, 2));
    }
}
