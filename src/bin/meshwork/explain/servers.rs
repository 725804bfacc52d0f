//! What the policies of those who are called say, as far as the folder has them.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use http::Request;
use meshwork::Workload;
use meshwork::explain::{End, Explanation};
use meshwork::model::Resources;
use meshwork::model::security::{MutualTls, Security};
use meshwork::source::istio::kinds::{Kind, Object, Service, TargetPort};
use meshwork::source::istio::{compile, read_dir};
use serde_json::{Value, json};

use super::Args;
use crate::authz::{Verdict, judge};

/// What one workload says of the request.
#[derive(Debug)]
pub(super) struct Server {
    workload: String,
    port: u16,
    asks: &'static str,
    verdict: Verdict,
}

/// One verdict for each workload behind the clusters that the request may go to.
pub(super) fn verdicts(
    path: &Path,
    args: &Args,
    explained: &Explanation,
    request: &Request<()>,
) -> Vec<Server> {
    let options = args.reading.options();
    let read = read_dir(path, &options);
    let client = args.client.workload();
    let own = compile(&read.objects, &client, &options).resources;
    let mut seen = BTreeSet::new();
    let mut servers = Vec::new();
    for outcome in &explained.outcomes {
        let End::Forward(forwarded) = &outcome.end else {
            continue;
        };
        let found = service(&read.objects, &forwarded.cluster);
        let Some((object, spec, port)) = found else {
            continue;
        };
        for (name, workload) in behind(&read.objects, object, spec) {
            if !seen.insert((name.clone(), port)) {
                continue;
            }
            let resources = compile(&read.objects, &workload, &options).resources;
            let principal = identity(&own, &forwarded.cluster, &client, &resources, port);
            let head = head(request, &forwarded.uri);
            servers.push(Server {
                workload: name,
                port,
                asks: match resources.peers.on(port) {
                    MutualTls::Strict => "STRICT",
                    MutualTls::Disable => "DISABLE",
                    _ => "PERMISSIVE",
                },
                verdict: judge(&resources, head, principal.as_deref(), port),
            });
        }
    }
    servers
}

/// The request as the server sees it.
fn head(request: &Request<()>, uri: &str) -> Request<()> {
    let mut head = Request::new(());
    head.method_mut().clone_from(request.method());
    *head.uri_mut() = uri.parse().unwrap_or_else(|_| request.uri().clone());
    head.headers_mut().clone_from(request.headers());
    head
}

/// Whom the server sees: the client's account where mutual TLS is spoken.
fn identity(
    own: &Resources,
    cluster: &str,
    client: &Workload,
    server: &Resources,
    port: u16,
) -> Option<String> {
    let mutual = match &own.clusters.get(cluster)?.security {
        Security::Automatic(_) => server.peers.on(port) != MutualTls::Disable,
        Security::Tls(tls) => tls.identity.is_some(),
        _ => false,
    };
    mutual.then(|| {
        format!(
            "spiffe://cluster.local/ns/{}/sa/{}",
            client.namespace(),
            client.service_account()
        )
    })
}

/// The service of a cluster `outbound|port|subset|host`, with the port that its workloads listen on.
fn service<'a>(objects: &'a [Object], cluster: &str) -> Option<(&'a Object, &'a Service, u16)> {
    let mut parts = cluster.splitn(4, '|').skip(1);
    let port: u16 = parts.next()?.parse().ok()?;
    let host = parts.nth(1)?;
    objects.iter().find_map(|object| {
        let Kind::Service(service) = &object.kind else {
            return None;
        };
        let name = format!("{}.{}.svc.", object.meta.name, object.meta.namespace);
        if !host.starts_with(&name) {
            return None;
        }
        let written = service.ports.iter().find(|one| one.port == port)?;
        let target = match &written.target_port {
            Some(TargetPort::Number(number)) => *number,
            Some(_) | None => port,
        };
        Some((object, &**service, target))
    })
}

/// The workloads that a service selects: what makes pods, else the pods.
fn behind(objects: &[Object], service: &Object, spec: &Service) -> Vec<(String, Workload)> {
    let mut made = Vec::new();
    let mut pods = Vec::new();
    for object in objects {
        if object.meta.namespace != service.meta.namespace || spec.selector.is_empty() {
            continue;
        }
        let (labels, account, list) = match &object.kind {
            Kind::Workload(one) => {
                let template = &one.template;
                (
                    &template.metadata.labels,
                    &template.spec.service_account_name,
                    &mut made,
                )
            }
            Kind::Pod(pod) => (
                &object.meta.labels,
                &pod.spec.service_account_name,
                &mut pods,
            ),
            _other_kinds => continue,
        };
        let mut wanted = spec.selector.iter();
        if wanted.all(|(key, value)| labels.get(key) == Some(value)) {
            let account = account.as_deref().unwrap_or("default");
            let workload = Workload::new(&*object.meta.namespace, account);
            let workload = labels
                .iter()
                .fold(workload, |one, (key, value)| one.label(key, value));
            list.push((object.reference().to_string(), workload));
        }
    }
    if made.is_empty() { pods } else { made }
}

impl Server {
    pub(super) fn json(&self) -> Value {
        json!({
            "workload": self.workload,
            "port": self.port,
            "peer_authentication": self.asks,
            "allowed": self.verdict.allowed,
            "why": self.verdict.why,
            "origin": self.verdict.origin,
        })
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let says = if self.verdict.allowed {
            "allows it"
        } else {
            "denies it"
        };
        write!(
            f,
            "server {} at port {} ({}) {says}: {}",
            self.workload, self.port, self.asks, self.verdict.why
        )?;
        match &self.verdict.origin {
            Some(origin) => writeln!(f, "  {origin}"),
            None => writeln!(f),
        }
    }
}
