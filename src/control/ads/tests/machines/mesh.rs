//! Random meshes in which every reference holds, compiled and encoded as they are for a client.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::Index as _;
use crate::control::kind::Kind;
use crate::control::resource::Encoded;
use crate::control::view;
use crate::model::Resources;
use crate::random::Random;
use crate::source::istio::{Options, compile, read};
use crate::source::xds::{Dialect, encode};
use crate::workload::Workload;

/// The hosts of a mesh. The first two are in every one, the others come and go.
pub(super) const HOSTS: [&str; 5] = ["a", "b", "c", "d", "e"];

/// The listener that a client asks for.
pub(super) fn listener(host: &str) -> Arc<str> {
    format!("{host}.ns.svc.cluster.local:80").into()
}

/// A configuration in both of its forms.
#[derive(Debug)]
pub(super) struct Mesh {
    pub(super) model: Resources,
    pub(super) encoded: Vec<Encoded>,
}

impl Mesh {
    pub(super) fn drawn(random: &Random) -> Self {
        let text = yaml(random);
        let options = Options::default();
        let read = read([("mesh.yaml", &*text)], &options);
        assert!(!read.faults.has_errors(), "{}", read.faults);
        let model = compile(&read.objects, &Workload::new("ns", "x"), &options).resources;
        let encoding = encode(&model, Dialect::Meshwork);
        assert!(encoding.lost.is_empty(), "{:?}", encoding.lost);
        let all = encoding.resources.iter();
        let encoded =
            all.map(|one| view::encoded(view::kind(one.kind), one.name.clone(), &one.bytes));
        Self {
            encoded: encoded.collect(),
            model,
        }
    }

    /// Its resources by kind and name.
    pub(super) fn by_name(&self) -> BTreeMap<(Kind, Arc<str>), &Encoded> {
        let all = self.encoded.iter();
        all.map(|one| ((one.kind(), one.name().clone()), one))
            .collect()
    }
}

fn yaml(random: &Random) -> String {
    let mut hosts: Vec<&str> = HOSTS[..2].to_vec();
    hosts.extend(HOSTS[2..].iter().filter(|_| random.index(3) > 0));
    let mut text = String::new();
    for host in &hosts {
        text += &service(host, 1 + random.index(3));
        if random.index(2) == 0 {
            text += &rule(host, 1 + random.index(5));
        }
        if random.index(3) > 0 {
            let other = hosts[random.index(hosts.len())];
            text += &split(host, other, random.index(101));
        }
    }
    text
}

fn service(host: &str, members: usize) -> String {
    let member = |at| format!("{{address: 10.0.0.{at}, labels: {{version: v{}}}}}", at % 2);
    let members: Vec<String> = (0..members).map(member).collect();
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {host}, \
         namespace: ns}}\nspec:\n  hosts: [{host}.ns.svc.cluster.local]\n  ports: [{{number: 80, \
         name: grpc, protocol: GRPC}}]\n  resolution: STATIC\n  endpoints: [{}]\n",
        members.join(", ")
    )
}

fn rule(host: &str, seconds: usize) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {host}, \
         namespace: ns}}\nspec:\n  host: {host}\n  trafficPolicy: {{connectionPool: {{tcp: \
         {{connectTimeout: {seconds}s}}}}}}\n"
    )
}

fn split(host: &str, other: &str, weight: usize) -> String {
    let rest = 100 - weight;
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {host}, \
         namespace: ns}}\nspec:\n  hosts: [{host}]\n  http:\n  - route:\n    - {{destination: {{host: \
         {host}}}, weight: {weight}}}\n    - {{destination: {{host: {other}}}, weight: {rest}}}\n"
    )
}
