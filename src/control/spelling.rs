//! Listeners that exist under any of many names.
//!
//! A client of gRPC dials what a program says, and programs say `catalog`, `catalog:80` or
//! `catalog.my-app` as often as the whole name. Each spelling that the client's namespace allows is
//! answered with a copy of the listener under the name that was asked for, as istiod does; a name
//! without a port stands for the service's sole port, else 80.
//!
//! A server of gRPC asks for a listener by the address that it listens on, filled into the template
//! `xds.istio.io/grpc/lds/inbound/%s`. It gets one if a service of its namespace that selects its
//! labels has that target port.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::ops::Bound;
use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::listener::v3 as listener;
use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::google::protobuf::Any;
use prost::Message as _;

use super::Dialect;
use super::kind::Kind;
use super::resource::Encoded;
use super::snapshot::Lookup;
use super::store::Content;
use super::view::encoded;
use crate::model::{Listener, Resources};
use crate::source::istio::kinds::{self, TargetPort};
use crate::source::xds::encode;
use crate::workload::Workload;

/// Before the address of an inbound listener, as istiod's bootstrap has it.
const INBOUND: &str = "xds.istio.io/grpc/lds/inbound/";
const ROUTER: &str = "envoy.extensions.filters.http.router.v3.Router";
const MANAGER: &str =
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";

/// The listeners of one view, under every spelling.
#[derive(Debug)]
pub(super) struct Spellings {
    listeners: BTreeMap<Arc<str>, Arc<Listener>>,
    namespace: Arc<str>,
    domain: Arc<str>,
    dialect: Dialect,
    /// Ports on which the client may serve.
    inbound: BTreeSet<u16>,
}

impl Spellings {
    pub(super) fn new(
        content: &Content,
        workload: &Workload,
        dialect: Dialect,
        resources: &Resources,
    ) -> Self {
        Self {
            listeners: resources.listeners.clone(),
            namespace: workload.namespace().into(),
            domain: workload.cluster_domain().into(),
            dialect,
            inbound: inbound_ports(content, workload),
        }
    }

    /// The listener that a name means.
    fn meant(&self, name: &str) -> Option<&Arc<Listener>> {
        let (host, port) = match name.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse::<u16>().ok()?)),
            None => (name, None),
        };
        let host = host.to_ascii_lowercase();
        let host = host.trim_end_matches('.');
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

    fn inbound(&self, name: &str, address: &str) -> Option<Encoded> {
        let address: SocketAddr = address.parse().ok()?;
        if !self.inbound.contains(&address.port()) {
            return None;
        }
        let message = inbound_listener(name, address);
        Some(encoded(
            Kind::Listener,
            name.into(),
            &message.encode_to_vec(),
        ))
    }
}

impl Lookup for Spellings {
    fn find(&self, kind: Kind, name: &str) -> Option<Arc<Encoded>> {
        if kind != Kind::Listener {
            return None;
        }
        if let Some(address) = name.strip_prefix(INBOUND) {
            return self.inbound(name, address).map(Arc::new);
        }
        let mut copy = Resources::default();
        copy.insert_listener(Listener {
            name: name.into(),
            ..Listener::clone(self.meant(name)?)
        });
        let encoding = encode(&copy, self.dialect);
        let listener = encoding.resources.first()?;
        Some(Arc::new(encoded(
            Kind::Listener,
            name.into(),
            &listener.bytes,
        )))
    }
}

/// The target ports of the services that select a workload. One without labels is selected by all
/// services of its namespace: a plain bootstrap file cannot say more.
fn inbound_ports(content: &Content, workload: &Workload) -> BTreeSet<u16> {
    let labels = workload.labels();
    let mut ports = BTreeSet::new();
    for object in &content.objects {
        let kinds::Kind::Service(service) = &object.kind else {
            continue;
        };
        let mut selector = service.selector.iter();
        let selects = labels.is_empty()
            || (selector.len() > 0 && selector.all(|(key, value)| labels.get(key) == Some(value)));
        if *object.meta.namespace == *workload.namespace() && selects {
            ports.extend(
                service
                    .ports
                    .iter()
                    .filter_map(|port| match &port.target_port {
                        None => Some(port.port),
                        Some(TargetPort::Number(number)) => Some(*number),
                        Some(_) => None,
                    }),
            );
        }
    }
    ports
}

/// What istiod sends a server without policies: every request is the application's.
fn inbound_listener(name: &str, address: SocketAddr) -> listener::Listener {
    let any = |name: &str, value: Vec<u8>| Any {
        type_url: format!("type.googleapis.com/{name}"),
        value,
    };
    let everything = route::Route {
        r#match: Some(route::RouteMatch {
            path_specifier: Some(route::route_match::PathSpecifier::Prefix("/".into())),
            ..Default::default()
        }),
        action: Some(route::route::Action::NonForwardingAction(
            route::NonForwardingAction::default(),
        )),
        ..Default::default()
    };
    let routes = route::RouteConfiguration {
        name: "inbound".into(),
        virtual_hosts: vec![route::VirtualHost {
            name: "inbound".into(),
            domains: vec!["*".into()],
            routes: vec![everything],
            ..Default::default()
        }],
        ..Default::default()
    };
    let router = hcm::HttpFilter {
        name: "envoy.filters.http.router".into(),
        config_type: Some(hcm::http_filter::ConfigType::TypedConfig(any(
            ROUTER,
            Vec::new(),
        ))),
        ..Default::default()
    };
    let manager = hcm::HttpConnectionManager {
        stat_prefix: "inbound".into(),
        route_specifier: Some(hcm::http_connection_manager::RouteSpecifier::RouteConfig(
            routes,
        )),
        http_filters: vec![router],
        ..Default::default()
    };
    let filter = listener::Filter {
        name: "inbound-hcm".into(),
        config_type: Some(listener::filter::ConfigType::TypedConfig(any(
            MANAGER,
            manager.encode_to_vec(),
        ))),
    };
    listener::Listener {
        name: name.into(),
        address: Some(core::Address {
            address: Some(core::address::Address::SocketAddress(core::SocketAddress {
                address: address.ip().to_string(),
                port_specifier: Some(core::socket_address::PortSpecifier::PortValue(
                    address.port().into(),
                )),
                ..Default::default()
            })),
        }),
        filter_chains: vec![listener::FilterChain {
            name: "inbound-plaintext".into(),
            filters: vec![filter],
            ..Default::default()
        }],
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
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
        let content = Content::default().with_objects(read.objects, options);
        Spellings::new(&content, workload, Dialect::Grpc, &compiled.resources)
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
            "catalog.other",
            "",
            ":80",
            "cat",
            "order:82",
        ] {
            assert!(all.find(Kind::Listener, name).is_none(), "{name}");
        }
        let elsewhere = spellings(&Workload::new("other", "x"));
        assert!(elsewhere.find(Kind::Listener, "catalog").is_none());
        assert!(elsewhere.find(Kind::Listener, "catalog.my-app").is_some());
        assert!(all.find(Kind::Routes, "catalog").is_none());
    }

    #[test]
    fn a_server_gets_a_listener_for_the_target_ports_of_its_services() {
        let catalog = Workload::new("my-app", "x").label("app", "catalog");
        let inbound = |workload: &Workload, address: &str| {
            let name = format!("{INBOUND}{address}");
            spellings(workload).find(Kind::Listener, &name)
        };
        let found = inbound(&catalog, "10.0.0.1:9090").expect("a listener");
        let message = listener::Listener::decode(found.body()).expect("a listener");
        assert_eq!(message.filter_chains.len(), 1);
        assert!(message.filter_chains[0].transport_socket.is_none());
        assert!(inbound(&catalog, "[::1]:9090").is_some());
        assert!(
            inbound(&catalog, "10.0.0.1:8080").is_none(),
            "not the port of clients"
        );
        assert!(
            inbound(&catalog, "10.0.0.1:80").is_none(),
            "of another service"
        );
        assert!(inbound(&catalog, "nonsense").is_none());
        let plain = Workload::new("my-app", "x");
        assert!(inbound(&plain, "0.0.0.0:80").is_some());
        assert!(inbound(&Workload::new("other", "x"), "0.0.0.0:80").is_none());
    }
}
