//! Listeners that exist under any of many names.
//!
//! A client of gRPC dials what a program says, and programs say `catalog`, `catalog:80` or
//! `catalog.my-app` as often as the whole name. Each spelling that the client's namespace allows is
//! answered with a copy of the listener under the name that was asked for, as istiod does; a name
//! without a port stands for the service's sole port, else 80. A host may end with one point, and a port has no
//! zeros before it: else each listener would have names without end. Copies are made once for all streams
//! that have them.
//!
//! Listeners of servers are found here by their addresses, and made in [inbound](super::inbound).

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Arc, Mutex, Weak};

use super::Dialect;
use super::inbound::{Doors, PREFIX};
use super::kind::Kind;
use super::lock::lock;
use super::resource::Encoded;
use super::snapshot::Lookup;
use super::view::encoded;
use crate::model::{Listener, Resources};
use crate::source::xds::encode;
use crate::workload::Workload;

/// The listeners of one view, under every spelling.
#[derive(Debug)]
pub(super) struct Spellings {
    listeners: BTreeMap<Arc<str>, Arc<Listener>>,
    namespace: Arc<str>,
    domain: Arc<str>,
    dialect: Dialect,
    doors: Doors,
    /// Those that somebody has. Held for a look or an insertion.
    copies: Mutex<HashMap<Arc<str>, Weak<Encoded>>>,
}

impl Spellings {
    pub(super) fn new(
        workload: &Workload,
        dialect: Dialect,
        resources: &Resources,
        doors: Doors,
    ) -> Self {
        Self {
            listeners: resources.listeners.clone(),
            namespace: workload.namespace().into(),
            domain: workload.cluster_domain().into(),
            dialect,
            doors,
            copies: Mutex::default(),
        }
    }

    /// The listener that a name means.
    fn meant(&self, name: &str) -> Option<&Arc<Listener>> {
        let (host, port) = match name.rsplit_once(':') {
            Some((host, port)) => (host, Some(number(port)?)),
            None => (name, None),
        };
        let host = host.to_ascii_lowercase();
        let host = host.strip_suffix('.').unwrap_or(&host);
        let (namespace, domain) = (&self.namespace, &self.domain);
        let spellings = [
            host.to_owned(),
            format!("{host}.{namespace}.svc.{domain}"),
            format!("{host}.svc.{domain}"),
            format!("{host}.{domain}"),
        ];
        // Only what a name service would expand too: short names have no dots, and so on.
        let dots = host.matches('.').count();
        let plausible = [
            true,
            dots == 0,
            dots == 1,
            dots == 2 && host.ends_with(".svc"),
        ];
        let mut known = spellings
            .iter()
            .zip(plausible)
            .filter(|(_, plausible)| *plausible);
        known.find_map(|(host, _)| self.of_host(host, port))
    }

    fn of_host(&self, host: &str, port: Option<u16>) -> Option<&Arc<Listener>> {
        let find = |port: u16| self.listeners.get(&*format!("{host}:{port}"));
        if let Some(port) = port {
            return find(port);
        }
        let prefix = format!("{host}:");
        let from = (Bound::Included(&*prefix), Bound::Unbounded);
        let begins = self.listeners.range::<str, _>(from);
        let mut ports = begins.take_while(|(name, _)| name.starts_with(&prefix));
        match (ports.next(), ports.next()) {
            (Some((_, sole)), None) => Some(sole),
            _ => find(80),
        }
    }
}

/// A port in its one spelling.
fn number(text: &str) -> Option<u16> {
    let port: u16 = text.parse().ok()?;
    (port.to_string() == text).then_some(port)
}

impl Lookup for Spellings {
    fn find(&self, kind: Kind, name: &str) -> Option<Arc<Encoded>> {
        if kind != Kind::Listener {
            return None;
        }
        let copies = || lock(&self.copies);
        if let Some(known) = copies().get(name).and_then(Weak::upgrade) {
            return Some(known);
        }
        let copy = Arc::new(self.copy(name)?);
        let mut copies = copies();
        if copies.len() == copies.capacity() {
            copies.retain(|_, copy| copy.strong_count() > 0);
        }
        copies.insert(copy.name().clone(), Arc::downgrade(&copy));
        Some(copy)
    }
}

impl Spellings {
    /// The listener that a name means, under that name.
    fn copy(&self, name: &str) -> Option<Encoded> {
        if let Some(address) = name.strip_prefix(PREFIX) {
            let (_, port) = address.rsplit_once(':')?;
            number(port)?;
            return self.doors.listener(name, address);
        }
        let mut copy = Resources::default();
        copy.insert_listener(Listener {
            name: name.into(),
            ..Listener::clone(self.meant(name)?)
        });
        let encoding = encode(&copy, self.dialect);
        let listener = encoding.resources.first()?;
        Some(encoded(Kind::Listener, name.into(), &listener.bytes))
    }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::config::listener::v3 as listener;
    use prost::Message as _;

    use super::*;
    use crate::source::istio::{Options, compile, read};

    const MESH: &str = "
apiVersion: v1
kind: Service
metadata: {name: catalog, namespace: my-app}
spec:
  selector: {app: catalog}
  ports: [{name: grpc, port: 8080, targetPort: 9090}]
---
apiVersion: v1
kind: Service
metadata: {name: order, namespace: my-app}
spec:
  selector: {app: order}
  ports: [{name: grpc, port: 80}, {name: http-more, port: 81}]
";

    fn spellings(workload: &Workload) -> Spellings {
        let options = Options::default();
        let read = read([("mesh.yaml", MESH)], &options);
        assert!(!read.faults.has_errors(), "{}", read.faults);
        let compiled = compile(&read.objects, workload, &options);
        let doors = Doors::default();
        Spellings::new(workload, Dialect::Grpc, &compiled.resources, doors)
    }

    #[test]
    fn every_spelling_has_a_copy_under_its_own_name() {
        let all = spellings(&Workload::new("my-app", "x"));
        for name in [
            "catalog",
            "catalog:8080",
            "Catalog",
            "catalog.my-app",
            "catalog.my-app.svc:8080",
            "catalog.my-app.svc.cluster.local",
            "catalog.my-app.svc.cluster.local.",
            "order",
        ] {
            let found = all
                .find(Kind::Listener, name)
                .unwrap_or_else(|| panic!("{name}"));
            assert_eq!(&**found.name(), name);
            let message = listener::Listener::decode(found.body()).expect("a listener");
            assert_eq!(message.name, name);
            let port = if name.starts_with("order") { 80 } else { 8080 };
            let service = if port == 80 { "order" } else { "catalog" };
            let routes = format!("outbound|{port}||{service}.my-app.svc.cluster.local");
            assert_eq!(found.references(), [(Kind::Routes, Arc::from(routes))]);
        }
        for name in [
            "catalog:80",
            "catalog:x",
            "catalog:08080",
            "catalog:+8080",
            "catalog..",
            "catalog.my-app.svc.cluster.local..:8080",
            "catalog.other",
            "",
            ":80",
            "cat",
            "order:82",
        ] {
            assert!(all.find(Kind::Listener, name).is_none(), "{name}");
        }
        let (one, again) = ["catalog"; 2]
            .map(|name| all.find(Kind::Listener, name))
            .into();
        assert!(
            Arc::ptr_eq(&one.expect("found"), &again.expect("found")),
            "made once"
        );
        let elsewhere = spellings(&Workload::new("other", "x"));
        assert!(elsewhere.find(Kind::Listener, "catalog").is_none());
        assert!(elsewhere.find(Kind::Listener, "catalog.my-app").is_some());
        assert!(all.find(Kind::Routes, "catalog").is_none());
    }
}
