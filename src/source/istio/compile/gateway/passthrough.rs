//! Servers that do not look into connections: the `tls` rules of VirtualServices say where they go, by
//! the name that the caller asks for in the handshake.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::hosts::{owners, shared};
use super::place::Server;
use super::{Chain, Claim, Leads, Maker};
use crate::model::route::{Destination, Destinations, HeaderChanges, OwnFault};
use crate::source::istio::compile::target::{Target, target};
use crate::source::istio::fault::{Code, Fault, Faults};
use crate::source::istio::kinds::{TlsMatch, TlsRoute};
use crate::source::istio::registry::{origin, place, selects, warning};

impl<'a> Maker<'_, 'a> {
    /// The chains of a server; `taken` are the names that others on its port have, with their owners.
    pub(super) fn passed(
        &mut self,
        server: &Server<'a>,
        taken: &mut BTreeMap<String, String>,
        chains: &mut Vec<Chain>,
    ) {
        let claims = self.claims(server);
        for claim in owners(&claims) {
            for (index, rule) in claim.spec.tls.iter().enumerate() {
                let blocks = rule.matches.iter();
                let blocks = blocks.filter(|block| self.concerns(block, claim, server));
                let blocks: Vec<_> = blocks.collect();
                if blocks
                    .iter()
                    .any(|block| !block.destination_subnets.is_empty())
                {
                    self.edge.faults.push(subnets(claim, index));
                }
                let names: BTreeSet<String> = blocks
                    .into_iter()
                    .flat_map(|block| &block.sni_hosts)
                    .flat_map(|sni| {
                        let sni = sni.to_ascii_lowercase();
                        shared(server.spec, server.object, claim.object, &sni)
                    })
                    .collect();
                let names = free(names, claim, index, taken, &mut self.edge.faults);
                if names.is_empty() {
                    continue;
                }
                if let Some(destinations) = self.destinations(rule, index, claim, server) {
                    let chain = |names| Chain {
                        names,
                        tls: None,
                        grpc_web: false,
                        ports: server.ports().into(),
                        leads: Leads::Clusters(destinations.clone()),
                    };
                    // A chain of every name has none. Names beside that have one of their own: they
                    // are closer than the patterns of other rules.
                    let (every, names): (Vec<_>, Vec<_>) =
                        names.into_iter().partition(|name| &**name == "*");
                    chains.extend((!names.is_empty()).then(|| chain(names)));
                    chains.extend(every.first().map(|_| chain(Vec::new())));
                }
            }
        }
    }

    fn concerns(&self, block: &TlsMatch, claim: &Claim<'_>, server: &Server<'_>) -> bool {
        let client = self.scope.client;
        let own = &*claim.object.meta.namespace;
        let source = block.source_namespace.as_deref().unwrap_or_default();
        (block.gateways.is_empty() || claim.via.takes(&block.gateways, own))
            && block.port.is_none_or(|port| port == server.port)
            && selects(&block.source_labels, client.labels())
            && (source.is_empty() || source == client.namespace())
    }

    fn destinations(
        &mut self,
        rule: &TlsRoute,
        index: usize,
        claim: &Claim<'_>,
        server: &Server<'_>,
    ) -> Option<Destinations> {
        let mut all = Vec::new();
        for (at, to) in rule.route.iter().enumerate() {
            let written = to.destination.as_ref()?;
            let found = target(self.scope, claim.object, server.port, written);
            self.known(&found, claim, (index, at), place(written));
            all.push((found.cluster(), to.weight));
        }
        if let [(cluster, _)] = all.as_slice() {
            return Some(Destinations::single(cluster.clone()));
        }
        let all = all.into_iter().map(|(cluster, weight)| Destination {
            cluster,
            weight,
            headers: HeaderChanges::default(),
            authority_rewrite: None,
            fault: OwnFault::AsRoute,
        });
        Destinations::weighted(all.collect())
    }

    /// IST0101: nobody has the host, so connections end at once.
    fn known(
        &mut self,
        target: &Target,
        claim: &Claim<'_>,
        (index, at): (usize, usize),
        place: (u32, u32),
    ) {
        if self.scope.view.service(&target.host).is_none() {
            let text = format!(
                "no service has the host {}; these connections are closed",
                target.host
            );
            let fault = warning(claim.object, Code::NotFound, place, text);
            let path = format!("tls[{index}].route[{at}].destination.host");
            self.edge.faults.push(fault.field(path));
        }
    }
}

/// The destination of a connection is the gateway itself; istiod leaves them out too.
fn subnets(claim: &Claim<'_>, index: usize) -> Fault {
    let text = "destinationSubnets has no effect at a gateway, which is the destination itself";
    let fault = warning(claim.object, Code::NoEffect, (0, 0), text);
    fault.field(format!("tls[{index}].match"))
}

/// The names that no other chain on the port has; Envoy refuses a listener in which two are equal.
fn free(
    names: BTreeSet<String>,
    claim: &Claim<'_>,
    index: usize,
    taken: &mut BTreeMap<String, String>,
    faults: &mut Faults,
) -> Vec<Arc<str>> {
    let mut free = Vec::new();
    for name in names {
        if let Some(owner) = taken.get(&name) {
            let text =
                format!("has no effect for the name {name}: {owner} has it on the same port");
            let fault = warning(claim.object, Code::Conflict, (0, 0), text);
            faults.push(fault.field(format!("tls[{index}]")));
            continue;
        }
        taken.insert(name.clone(), origin(claim.object).to_string());
        free.push(name.into());
    }
    free
}
