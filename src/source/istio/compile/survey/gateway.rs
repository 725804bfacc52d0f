//! Gateways, and the VirtualServices that name them.
//!
//! Nobody but an Envoy that a Gateway selects is told what is wrong between the two, and that is told
//! when it is there. So each Gateway is looked at here with the eyes of an Envoy that has the labels
//! it asks for: what cannot share a port, and what its rules lead to that nobody has.

use std::collections::BTreeMap;

use super::{DOMAIN, Survey};
use crate::source::istio::Options;
use crate::source::istio::compile::gateway::{edge_of, gateways, shared};
use crate::source::istio::compile::host::{closest, expand};
use crate::source::istio::compile::matches::{MESH, named};
use crate::source::istio::fault::{Code, Fault};
use crate::source::istio::kinds::{Gateway, Kind, Object, VirtualService};
use crate::source::istio::registry::{place, warning};
use crate::source::istio::yaml::Located;
use crate::workload::Workload;

/// How many Gateways are looked at with the eyes of an Envoy; each costs one compilation.
const LOOKS: usize = 100;

/// The Gateways of a set by namespace and name.
type Known<'a> = BTreeMap<(&'a str, &'a str), (&'a Object, &'a Gateway)>;

/// All lints of Gateways. A set without one says nothing: those of others are elsewhere.
pub(super) fn edges(survey: &mut Survey<'_>, options: &Options) {
    let known: Known<'_> = gateways(&survey.objects)
        .map(|(object, gateway)| {
            let meta = &object.meta;
            ((&*meta.namespace, &*meta.name), (object, gateway))
        })
        .collect();
    if known.is_empty() {
        return;
    }
    let mut found = Vec::new();
    let mut bound: Vec<*const Object> = Vec::new();
    for object in &survey.objects {
        if let Kind::VirtualService(spec) = &object.kind {
            found.extend(named_gateways(object, spec, &known, &mut bound));
            found.extend(hosts(object, spec, &known));
        }
    }
    for (object, gateway) in known.values() {
        found.extend(nobody_names(object, gateway, &bound));
    }
    for (object, gateway) in known.values().take(LOOKS) {
        let labels = gateway.selector.iter();
        let client = Workload::new(object.meta.namespace.clone(), "default");
        let client = labels.fold(client, |client, (key, value)| {
            client.label(&**key, &**value)
        });
        let edge = edge_of(&survey.objects, &client, true, options);
        survey.faults.extend(edge.faults);
    }
    let faults = &mut survey.faults;
    found.into_iter().for_each(|fault| faults.push(fault));
}

/// All lists of gateways of a VirtualService, each with its path.
fn lists(spec: &VirtualService) -> Vec<(String, &[Located<String>])> {
    let mut lists = vec![("gateways".to_owned(), &spec.gateways[..])];
    for (index, rule) in spec.http.iter().enumerate() {
        for (at, block) in rule.matches.iter().enumerate() {
            let path = format!("http[{index}].match[{at}].gateways");
            lists.push((path, &block.gateways));
        }
    }
    for (index, rule) in spec.tls.iter().enumerate() {
        for (at, block) in rule.matches.iter().enumerate() {
            let path = format!("tls[{index}].match[{at}].gateways");
            lists.push((path, &block.gateways));
        }
    }
    lists
}

/// IST0101: a name of a Gateway that is not there. Those that are are noted.
fn named_gateways(
    object: &Object,
    spec: &VirtualService,
    known: &Known<'_>,
    bound: &mut Vec<*const Object>,
) -> Vec<Fault> {
    let own = &*object.meta.namespace;
    let mut found = Vec::new();
    for (path, list) in lists(spec) {
        for (index, written) in list.iter().enumerate() {
            if written.value == MESH {
                continue;
            }
            let (namespace, name) = named(written, own);
            if let Some((gateway, _)) = known.get(&(namespace, name)) {
                bound.push(std::ptr::from_ref(*gateway));
                continue;
            }
            let text =
                format!("there is no Gateway {namespace}/{name}, so nobody asks these rules");
            let fault = warning(object, Code::NotFound, place(written), text);
            let fault = fault.field(format!("{path}[{index}]"));
            let names: Vec<String> = known
                .keys()
                .map(|(namespace, name)| format!("{namespace}/{name}"))
                .collect();
            let wanted = format!("{namespace}/{name}");
            found.push(match meant(&wanted, &names) {
                Some(name) => fault.hinted(format!("did you mean {name}?")),
                None => fault.hinted(format!("known: {}", names.join(", "))),
            });
        }
    }
    found
}

/// The one of the same name in another namespace, else the most similar.
fn meant<'n>(wanted: &str, names: &'n [String]) -> Option<&'n str> {
    let name = |text: &str| text.split_once('/').map(|(_, name)| name.to_owned());
    let same = names.iter().find(|one| name(one) == name(wanted));
    same.map(String::as_str)
        .or_else(|| closest(wanted, names.iter().map(String::as_str)))
}

/// IST0132: hosts that no server has of a Gateway which the object names.
fn hosts(object: &Object, spec: &VirtualService, known: &Known<'_>) -> Vec<Fault> {
    let own = &*object.meta.namespace;
    let named = spec.gateways.iter().map(|written| named(written, own));
    let mut found = Vec::new();
    for (gateway, servers) in named.filter_map(|name| known.get(&name)) {
        for (index, written) in spec.hosts.iter().enumerate() {
            let host = expand(written, own, DOMAIN);
            let mut servers = servers.servers.iter();
            if servers.any(|server| !shared(server, gateway, object, &host).is_empty()) {
                continue;
            }
            let meta = &gateway.meta;
            let text = format!(
                "the gateway {}/{} does not take the host {:?} of the namespace {own}",
                meta.namespace, meta.name, written.value
            );
            let fault = warning(object, Code::GatewayHost, place(written), text);
            found.push(fault.field(format!("hosts[{index}]")));
        }
    }
    found
}

/// A Gateway without rules answers 404 to everybody.
fn nobody_names(object: &Object, gateway: &Gateway, bound: &[*const Object]) -> Option<Fault> {
    let redirects = gateway
        .servers
        .iter()
        .all(|server| server.tls.as_ref().is_some_and(|tls| tls.https_redirect));
    if redirects || bound.contains(&std::ptr::from_ref(object)) {
        return None;
    }
    let text = "no VirtualService names it: every request is answered with 404";
    let fault = warning(object, Code::GatewayUnnamed, (0, 0), text);
    let meta = &object.meta;
    Some(fault.hinted(format!(
        "write gateways: [{}/{}] in a VirtualService",
        meta.namespace, meta.name
    )))
}
