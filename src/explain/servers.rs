//! What those who are called would say of a request, as far as a set of objects has them.
//!
//! A client's configuration does not hold the policies of servers; who has the whole set compiles it for
//! each workload that a request may go to, and asks what a server asks: whether what the client speaks is
//! taken at the port, who the caller is then, and what the policies say of the request as it arrives, with
//! the path and the headers that the route has made of it. What only a running server knows is left out:
//! tokens that would have to be verified, answers of external authorizers, which are named instead, the
//! client's address and limits of requests.

use std::collections::{BTreeMap, BTreeSet};

use http::Request;

use super::{End, Explanation, Forwarded};
use crate::layer::authz::{Attributes, Caller, Decision, decide, external};
use crate::layer::canonical::canonicalize;
use crate::model::Resources;
use crate::model::cluster::Discovery;
use crate::model::endpoint::{Address, Endpoint};
use crate::model::security::{ClientTls, MutualTls, Security, Sni, Verification};
use crate::source::istio::kinds::{Kind, Object, Service};
use crate::source::istio::{Options, chooses, compile, trust_domain};
use crate::workload::Workload;

/// What one workload says of a request.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Server {
    /// Kind, namespace and name, such as `deployment my-app/catalog`.
    pub workload: String,
    /// Where it listens.
    pub port: u16,
    /// What it asks of connections there (PeerAuthentication).
    pub mutual_tls: MutualTls,
    /// How the client speaks to it.
    pub spoken: Spoken,
    /// Its answer.
    pub judgement: Judgement,
}

/// How a connection arrives at a server. There is no fourth way, so all may be matched.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Spoken {
    /// With mutual TLS, as this identity.
    Mutual(String),
    /// Without TLS.
    Plaintext,
    /// With TLS and without a certificate of the client.
    Tls,
}

impl Spoken {
    /// In words.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Mutual(_) => "mutual TLS",
            Self::Plaintext => "plaintext",
            Self::Tls => "TLS",
        }
    }

    /// The identity that a server sees.
    #[must_use]
    pub fn principal(&self) -> Option<&str> {
        match self {
            Self::Mutual(principal) => Some(principal),
            Self::Plaintext | Self::Tls => None,
        }
    }
}

/// The connection on which a request arrives; whoever asks fills it in.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// How it is spoken to.
    pub spoken: &'a Spoken,
    /// The server name that TLS asks for.
    pub sni: Option<&'a str>,
    /// Where it arrives.
    pub port: u16,
}

/// What is said of a request.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Judgement {
    /// Whether it is let in.
    pub allowed: bool,
    /// Why, in words.
    pub why: String,
    /// The object that decides, with its place.
    pub origin: Option<String>,
    /// Authorizers that would be asked besides.
    pub asks: Vec<String>,
}

impl Judgement {
    fn denied(why: String) -> Self {
        Self {
            allowed: false,
            why,
            origin: None,
            asks: Vec::new(),
        }
    }
}

/// A set of objects, compiled for a client and, as far as it was asked, for the workloads that the client calls.
#[derive(Debug)]
pub struct Servers<'a> {
    objects: &'a [Object],
    options: &'a Options,
    /// What the client has of the set.
    own: Resources,
    /// The client's identity.
    client: String,
    trust_domain: String,
    compiled: BTreeMap<String, Resources>,
}

impl<'a> Servers<'a> {
    /// Those of this set that this client may call.
    #[must_use]
    pub fn new(objects: &'a [Object], client: &Workload, options: &'a Options) -> Self {
        let trust_domain = trust_domain(objects);
        Self {
            objects,
            options,
            own: compile(objects, client, options).resources,
            client: identity(&trust_domain, client),
            trust_domain,
            compiled: BTreeMap::new(),
        }
    }

    /// What those say to whom a request may go: one answer for each workload, port and way to ask it. Workloads
    /// that no service of the set selects, and hosts that are no service of Kubernetes, say nothing.
    ///
    /// `explained` is what a mesh with the same objects, options and client said that it would do with `request`.
    pub fn say(&mut self, explained: &Explanation, request: &Request<()>) -> Vec<Server> {
        let mut seen = BTreeSet::new();
        let mut servers = Vec::new();
        for outcome in &explained.outcomes {
            let End::Forward(forwarded) = &outcome.end else {
                continue;
            };
            let Some((object, spec, port)) = service(self.objects, &forwarded.cluster) else {
                continue;
            };
            for (name, workload) in behind(self.objects, object, spec) {
                for place in places(&self.own, &forwarded.cluster, &workload) {
                    let port = place.port.unwrap_or(port);
                    let spoken = spoken(&self.own, forwarded, place.meshed, &self.client);
                    let told = (name.clone(), port, spoken.clone(), forwarded.uri.clone());
                    if let (Some(spoken), true) = (spoken, seen.insert(told)) {
                        let asked = (&*name, &workload);
                        servers.push(self.ask(asked, port, spoken, forwarded, request));
                    }
                }
            }
        }
        servers
    }

    fn ask(
        &mut self,
        (name, workload): (&str, &Workload),
        port: u16,
        spoken: Spoken,
        forwarded: &Forwarded,
        request: &Request<()>,
    ) -> Server {
        let cluster = &*forwarded.cluster;
        let theirs = identity(&self.trust_domain, workload);
        let doubt = doubt(&self.own, cluster, &spoken, &theirs);
        let sni = sni(&self.own, cluster).filter(|_| spoken != Spoken::Plaintext);
        let resources = self
            .compiled
            .entry(name.to_owned())
            .or_insert_with(|| compile(self.objects, workload, self.options).resources);
        let judgement = doubt.unwrap_or_else(|| {
            let spoken = &spoken;
            let arrival = Arrival { spoken, sni, port };
            judge(resources, arriving(request, forwarded), arrival)
        });
        Server {
            workload: name.to_owned(),
            port,
            mutual_tls: resources.peers.on(port),
            spoken,
            judgement,
        }
    }
}

/// What a server with this configuration says of a request that arrives.
#[must_use]
pub fn judge(resources: &Resources, mut request: Request<()>, arrival: Arrival<'_>) -> Judgement {
    let Arrival { spoken, port, .. } = arrival;
    let mode = resources.peers.on(port);
    let refusal = match (mode, spoken) {
        (MutualTls::Strict, Spoken::Plaintext) => {
            format!("port {port} is STRICT: a connection without a certificate is refused")
        }
        (MutualTls::Disable, Spoken::Mutual(name)) => {
            format!("port {port} is plaintext (DISABLE): the caller cannot prove that it is {name}")
        }
        (MutualTls::Disable, Spoken::Tls) => {
            format!("port {port} is plaintext (DISABLE): a connection with TLS is refused")
        }
        (MutualTls::Permissive | MutualTls::Strict, Spoken::Tls) => format!(
            "port {port} is {}: a connection with TLS and without a certificate is refused",
            mode.as_str()
        ),
        (MutualTls::Permissive | MutualTls::Strict, Spoken::Mutual(_))
        | (MutualTls::Permissive | MutualTls::Disable, Spoken::Plaintext) => {
            return match canonicalize(&mut request, resources.inbound.normalization) {
                Ok(_) => decided(resources, &request, arrival),
                Err(ambiguous) => Judgement::denied(format!("refused with 400: {ambiguous}")),
            };
        }
    };
    Judgement::denied(refusal)
}

/// What the policies say.
fn decided(resources: &Resources, request: &Request<()>, arrival: Arrival<'_>) -> Judgement {
    let caller = Caller {
        destination: Some(([127, 0, 0, 1], arrival.port).into()),
        principal: arrival.spoken.principal(),
        encrypted: *arrival.spoken != Spoken::Plaintext,
        sni: arrival.sni,
        ..Caller::default()
    };
    let attributes = Attributes::of(request, caller);
    let authorization = &resources.inbound.authorization;
    let asks = external(authorization, &attributes).map(|(external, policy)| {
        format!(
            "{}, because of {} ({})",
            external.provider, policy.name, policy.origin
        )
    });
    let asks = asks.collect();
    let Decision {
        allowed, policy, ..
    } = decide(authorization, &attributes, &mut |_| {});
    let why = match (allowed, policy) {
        (true, None) => "no policy is about it".to_owned(),
        (true, Some(policy)) => format!("{} allows it", policy.name),
        (false, None) => "there are policies that allow, and none allows this".to_owned(),
        (false, Some(policy)) => format!("{} denies it", policy.name),
    };
    Judgement {
        allowed,
        why,
        origin: policy.map(|policy| policy.origin.to_string()),
        asks,
    }
}

/// The request as the server sees it.
fn arriving(request: &Request<()>, forwarded: &Forwarded) -> Request<()> {
    let mut head = Request::new(());
    head.method_mut().clone_from(request.method());
    let uri = forwarded.uri.parse();
    *head.uri_mut() = uri.unwrap_or_else(|_| request.uri().clone());
    head.headers_mut().clone_from(&forwarded.headers);
    head
}

fn identity(domain: &str, workload: &Workload) -> String {
    let (namespace, account) = (workload.namespace(), workload.service_account());
    format!("spiffe://{domain}/ns/{namespace}/sa/{account}")
}

/// How the client speaks to endpoints of a cluster that take mutual TLS, or do not.
fn spoken(own: &Resources, forwarded: &Forwarded, meshed: bool, client: &str) -> Option<Spoken> {
    let cluster = own.clusters.get(&forwarded.cluster)?;
    Some(match (&cluster.security, meshed) {
        (Security::Plaintext, _) | (Security::Automatic(_), false) => Spoken::Plaintext,
        (Security::Automatic(_), true) => Spoken::Mutual(client.to_owned()),
        (Security::Tls(tls), _) if tls.identity.is_some() => Spoken::Mutual(client.to_owned()),
        (Security::Tls(_), _) => Spoken::Tls,
    })
}

/// The server name that the client asks for.
fn sni<'r>(own: &'r Resources, cluster: &str) -> Option<&'r str> {
    match &own.clusters.get(cluster)?.security {
        Security::Automatic(tls) | Security::Tls(tls) => match &tls.sni {
            Sni::Name(name) => Some(name),
            Sni::Endpoint | Sni::EndpointOr(_) | Sni::Nobody => None,
        },
        Security::Plaintext => None,
    }
}

/// Why the client does not believe a server with this identity.
fn doubt(own: &Resources, cluster: &str, spoken: &Spoken, server: &str) -> Option<Judgement> {
    let (Security::Automatic(tls) | Security::Tls(tls)) = &own.clusters.get(cluster)?.security
    else {
        return None;
    };
    let ClientTls {
        verification,
        names,
        ..
    } = &**tls;
    let asks = matches!(verification, Verification::Chain | Verification::Svid);
    let believed = names.is_empty() || names.iter().any(|name| name.matches(server));
    let doubts = matches!(spoken, Spoken::Mutual(_)) && asks && !believed;
    doubts.then(|| {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let names = names.join(" or ");
        Judgement::denied(format!(
            "the client does not believe it: the server must be {names}, and is {server}"
        ))
    })
}

/// Where endpoints of a workload are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Place {
    /// Whether they take mutual TLS.
    meshed: bool,
    /// `None`: the configuration does not say.
    port: Option<u16>,
}

/// The places of a workload in a cluster. Endpoints without labels may be anybody's; where all have labels, a
/// workload that has others is not in the cluster (it may be in another subset).
fn places(own: &Resources, cluster: &str, workload: &Workload) -> Vec<Place> {
    let model = own.clusters.get(cluster);
    let endpoints = model.and_then(|model| match &model.discovery {
        Discovery::Endpoints(name) => own.endpoints.get(name),
        _other_ways => None,
    });
    let all = endpoints.into_iter().flat_map(|all| &all.localities);
    let all: Vec<&Endpoint> = all.flat_map(|locality| &locality.endpoints).collect();
    if all.is_empty() {
        return vec![Place {
            meshed: true,
            port: None,
        }];
    }
    let mut places = Vec::new();
    for endpoint in all {
        let mut wanted = workload.labels().iter();
        let of_workload = endpoint.labels.is_empty()
            || wanted.all(|(key, value)| {
                endpoint.labels.get(&**key).map(AsRef::as_ref) == Some(&**value)
            });
        let place = Place {
            meshed: endpoint.meshed,
            port: port(&endpoint.address),
        };
        if of_workload && !places.contains(&place) {
            places.push(place);
        }
    }
    places
}

fn port(address: &Address) -> Option<u16> {
    match address {
        Address::Several(addresses) => Some(addresses.first().port()),
        Address::Socket(address) => Some(address.port()),
        Address::Name { .. } | Address::Unix(_) => None,
    }
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
        Some((object, &**service, written.target_number().unwrap_or(port)))
    })
}

/// The workloads that a service selects: what makes pods, else the pods.
fn behind(objects: &[Object], service: &Object, spec: &Service) -> Vec<(String, Workload)> {
    let mut made = Vec::new();
    let mut pods = Vec::new();
    for object in objects {
        if object.meta.namespace != service.meta.namespace {
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
        if chooses(&spec.selector, labels) {
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
