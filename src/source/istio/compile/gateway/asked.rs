//! What an Envoy at the edge would do with requests, as resources that can be asked.
//!
//! A mesh explains a request by the route configuration of the port number in its URL. So the routes of
//! a Gateway's servers stand under the port numbers by which callers know them, in place of those of the
//! services, and what no server has is answered with 404, as an Envoy does.

use std::sync::Arc;

use super::{Chain, Edge, Leads, edge_of, gateways};
use crate::model::route::{Domain, VirtualHost};
use crate::model::{Origin, RouteConfiguration};
use crate::source::istio::Options;
use crate::source::istio::compile::host::{covers, specificity};
use crate::source::istio::compile::{Compiled, by_age, compile};
use crate::source::istio::kinds::Object;
use crate::workload::Workload;

/// The virtual host of hosts that no server has.
const NOBODY: &str = "nobody";

/// A set as an Envoy has it that a Gateway selects, for requests that ask for a host. `None`: there is no
/// such Gateway.
pub(in crate::source::istio) fn at_edge(
    objects: &[Object],
    (namespace, name): (&str, &str),
    host: &str,
    options: &Options,
) -> Option<Compiled> {
    let sorted = by_age(objects);
    let (object, gateway) = gateways(&sorted)
        .find(|(object, _)| (&*object.meta.namespace, &*object.meta.name) == (namespace, name))?;
    let client = Workload::new(object.meta.namespace.clone(), "default");
    let labels = gateway.selector.iter();
    let client = labels.fold(client, |client, (key, value)| {
        client.label(&**key, &**value)
    });
    let mut compiled = compile(objects, &client, options);
    let edge = edge_of(&sorted, &client, true, options);
    let resources = &mut compiled.resources;
    let numbered = |name: &Arc<str>| name.parse::<u16>().is_ok();
    resources.routes.retain(|name, _| !numbered(name));
    for (port, routes) in by_port(&edge, host) {
        resources.insert_routes(whole(routes, port));
    }
    compiled.faults.extend(edge.faults);
    Some(compiled)
}

/// The route configuration of each port for callers who ask for a host in the handshake.
fn by_port<'e>(edge: &'e Edge, host: &str) -> Vec<(u16, &'e RouteConfiguration)> {
    let mut found = Vec::new();
    for chains in edge.listeners.values() {
        let asked = |chain: &&Chain| rank(chain, host).is_some();
        let Some(chain) = chains
            .iter()
            .filter(asked)
            .max_by_key(|one| rank(one, host))
        else {
            continue;
        };
        if let Leads::Routes(name) = &chain.leads
            && let Some(routes) = edge.routes.iter().find(|one| one.name == *name)
        {
            found.extend(chain.ports.iter().map(|port| (*port, routes)));
        }
    }
    found
}

/// How closely a chain is the one of a name, the larger the closer; `None`: it is not.
fn rank(chain: &Chain, host: &str) -> Option<(bool, bool, usize)> {
    let ranks = chain.names.iter().filter(|name| covers(name, host));
    let ranks = ranks.map(|name| {
        let (exact, length) = specificity(name);
        (true, exact, length)
    });
    match chain.names.is_empty() {
        true => Some((false, false, 0)),
        false => ranks.max(),
    }
}

fn whole(routes: &RouteConfiguration, port: u16) -> RouteConfiguration {
    let mut virtual_hosts = routes.virtual_hosts.clone();
    let mut domains = virtual_hosts.iter().flat_map(|host| &host.domains);
    if !domains.any(|domain| *domain == Domain::Any) {
        virtual_hosts.push(Arc::new(VirtualHost {
            name: NOBODY.into(),
            domains: vec![Domain::Any],
            routes: Vec::new(),
            origin: Origin::built_in(),
        }));
    }
    RouteConfiguration {
        name: port.to_string().into(),
        virtual_hosts,
        origin: routes.origin.clone(),
    }
}
