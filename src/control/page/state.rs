//! What the page shows, as JSON.
//!
//! The same document answers `meshwork status` and scripts. Fields are added and not renamed; a
//! number that nobody has reported is `null`. Durations are in seconds (`_s`) or milliseconds (`_ms`),
//! shares from 0 to 1, rates per second over the last half minute.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::control::house::{Connected, House, Report};
use crate::control::lrs::Recent;
use crate::source::istio::kinds::{HttpRoute, Kind, Object};
use crate::tls::{Clock, Credentials};

/// All of it.
pub(in crate::control) fn state(house: &House, credentials: Option<&Credentials>) -> Value {
    let report = Report::of(house);
    let recent = house.loads.recent();
    let clients = house.clients();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "serving": !house.drains(),
        "generation": house.store.generation(),
        "rejected": house.store.rejected().map(|faults| faults.to_string()),
        "edits_rejected": house.store.rejections(),
        "streams": report.streams,
        "views": house.store.views(),
        "services": services(house, &recent),
        "calls": recent.iter().map(call).collect::<Vec<_>>(),
        "clients": clients.iter().map(|one| client(&Connected::of(one))).collect::<Vec<_>>(),
        "certificates": certificates(credentials),
    })
}

fn client(client: &Connected) -> Value {
    let node = &client.node;
    let (sent, acknowledged) = client.resources;
    let state = match (client.refusals.is_empty(), acknowledged == sent) {
        (false, _) => "NACKED",
        (true, false) => "STALE",
        (true, true) => "SYNCED",
    };
    let refusals = client.refusals.iter().map(|(kind, version, error)| {
        json!({"type": kind.to_string(), "version": **version, "error": **error})
    });
    let kinds = client.kinds.iter().map(|(kind, sent, acknowledged)| {
        let counts = json!({"sent": sent, "acknowledged": acknowledged});
        (kind.to_string(), counts)
    });
    json!({
        "state": state,
        "node": **node.id(),
        "stream": client.scope,
        "workload": format!("{}/{}", node.workload().namespace(), node.workload().service_account()),
        "software": **node.user_agent(),
        "dialect": format!("{:?}", node.dialect()),
        "sent": sent,
        "acknowledged": acknowledged,
        "resources": kinds.collect::<serde_json::Map<_, _>>(),
        "age_s": client.age.as_secs(),
        "refusals": refusals.collect::<Vec<_>>(),
    })
}

fn call(((from, cluster), recent): (&(String, String), &Recent)) -> Value {
    let to = To::of(cluster);
    let mut value = measured(Some(recent));
    value["from"] = json!(from);
    value["to"] = json!(short(to.host));
    value["subset"] = json!((!to.subset.is_empty()).then_some(to.subset));
    value
}

fn measured(recent: Option<&Recent>) -> Value {
    let some = recent.filter(|recent| recent.finished() > 0);
    json!({
        "rate": recent.map_or(0.0, Recent::rate),
        "success": some.map(Recent::success),
        "latency_ms": recent.and_then(Recent::latency_ms),
    })
}

/// Where the requests of a cluster go: `outbound|port|subset|host`, or a name of others.
struct To<'a> {
    subset: &'a str,
    host: &'a str,
}

impl<'a> To<'a> {
    fn of(cluster: &'a str) -> Self {
        match cluster.splitn(4, '|').collect::<Vec<_>>()[..] {
            ["outbound", _, subset, host] => Self { subset, host },
            _ => Self {
                subset: "",
                host: cluster,
            },
        }
    }
}

/// `catalog.my-app` for `catalog.my-app.svc.cluster.local`, as callers are named too.
fn short(host: &str) -> &str {
    host.split_once(".svc.").map_or(host, |(name, _)| name)
}

/// The services of the configuration, and those that somebody calls besides.
fn services(house: &House, recent: &BTreeMap<(String, String), Recent>) -> Vec<Value> {
    let mut loads: BTreeMap<&str, Recent> = BTreeMap::new();
    for ((_, cluster), one) in recent {
        let name = short(To::of(cluster).host);
        loads.entry(name).or_default().add(one);
    }
    let objects = house.store.objects();
    let mut known: BTreeMap<String, Declared> = BTreeMap::new();
    for object in objects.iter() {
        for (name, one) in declared(object) {
            let service = known.entry(name).or_default();
            service.ports.extend(one.ports);
            service.endpoints += one.endpoints;
            service.splits.extend(one.splits);
        }
    }
    for name in loads.keys() {
        known.entry((*name).to_owned()).or_default();
    }
    let all = known.into_iter().map(|(name, one)| {
        let mut value = measured(loads.get(&*name));
        value["name"] = json!(name);
        value["ports"] = json!(one.ports);
        value["endpoints"] = json!(one.endpoints);
        value["splits"] = json!(one.splits);
        value
    });
    all.collect()
}

/// What objects say of a service.
#[derive(Debug, Default)]
struct Declared {
    ports: Vec<String>,
    endpoints: usize,
    /// How rules divide its requests, in words.
    splits: Vec<String>,
}

/// The services that an object speaks of.
fn declared(object: &Object) -> Vec<(String, Declared)> {
    let namespace = &object.meta.namespace;
    let of = |name: &str| format!("{name}.{namespace}");
    match &object.kind {
        Kind::Service(service) => {
            let ports = service.ports.iter().map(|port| {
                let name = port.name.as_ref().map_or("", |name| name.as_str());
                format!("{} {name}", port.port).trim_end().to_owned()
            });
            let declared = Declared {
                ports: ports.collect(),
                ..Declared::default()
            };
            vec![(of(&object.meta.name), declared)]
        }
        Kind::EndpointSlice(slice) => {
            let service = object.meta.labels.get("kubernetes.io/service-name");
            let declared = Declared {
                endpoints: slice.endpoints.iter().map(|one| one.addresses.len()).sum(),
                ..Declared::default()
            };
            let one = service.map(|name| (of(name), declared));
            one.into_iter().collect()
        }
        Kind::ServiceEntry(entry) => {
            let ports = entry.ports.iter();
            let ports: Vec<String> = ports
                .map(|port| {
                    format!("{} {}", port.number, &*port.name)
                        .trim_end()
                        .to_owned()
                })
                .collect();
            let declared = || Declared {
                ports: ports.clone(),
                endpoints: entry.endpoints.len(),
                ..Declared::default()
            };
            let hosts = entry.hosts.iter();
            hosts
                .map(|host| (short(host).to_owned(), declared()))
                .collect()
        }
        Kind::VirtualService(rules) => {
            let splits: Vec<String> = rules.http.iter().filter_map(|rule| split(rule)).collect();
            let hosts = rules.hosts.iter().filter(|_| !splits.is_empty());
            hosts
                .map(|host| {
                    let name = if host.contains('.') {
                        short(host).to_owned()
                    } else {
                        of(host)
                    };
                    let declared = Declared {
                        splits: splits.clone(),
                        ..Declared::default()
                    };
                    (name, declared)
                })
                .collect()
        }
        _other_kinds => Vec::new(),
    }
}

/// `v1 90 %, v2 10 %` for a rule with several destinations.
fn split(rule: &HttpRoute) -> Option<String> {
    let total: u64 = rule.route.iter().map(|one| u64::from(one.weight)).sum();
    if rule.route.len() < 2 || total == 0 {
        return None;
    }
    let parts = rule.route.iter().filter_map(|one| {
        let to = one.destination.as_ref()?;
        let name = to.subset.as_ref().unwrap_or(&to.host);
        let percent = u64::from(one.weight) as f64 * 100.0 / total as f64;
        Some(format!(
            "{} {} %",
            name.value,
            (percent * 10.0).round() / 10.0
        ))
    });
    Some(parts.collect::<Vec<_>>().join(", "))
}

/// The certificate that the server presents, if it has one.
pub(in crate::control) fn certificates(credentials: Option<&Credentials>) -> Vec<Value> {
    let now = Clock::system().now();
    let own = credentials.and_then(Credentials::identity).map(|identity| {
        json!({
            "whose": "this server",
            "identity": identity.id().map(ToString::to_string),
            "serial": identity.serial(),
            "expires_s": left(identity.not_after(), now),
        })
    });
    own.into_iter().collect()
}

/// Seconds until a moment; negative when it has passed.
fn left(until: Duration, now: Duration) -> i64 {
    let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    seconds(until).saturating_sub(seconds(now))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use envoy_types::pb::envoy::config::endpoint::v3::{ClusterStats, UpstreamLocalityStats};

    use super::*;
    use crate::control::{Content, Limits, Store};
    use crate::random::Random;
    use crate::source::istio::read;

    const SHOP: &str = "apiVersion: v1
kind: Service
metadata: {name: catalog, namespace: shop}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: a, namespace: shop, labels: {kubernetes.io/service-name: catalog}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [10.0.0.1]}, {addresses: [10.0.0.2]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: catalog, namespace: shop}
spec:
  hosts: [catalog]
  http:
  - route:
    - {destination: {host: catalog, subset: v1}, weight: 90}
    - {destination: {host: catalog, subset: v2}, weight: 10}
";

    fn report(subset: &str, issued: u64, failed: u64) -> ClusterStats {
        ClusterStats {
            cluster_name: format!("outbound|80|{subset}|catalog.shop.svc.cluster.local"),
            load_report_interval: Some(envoy_types::pb::google::protobuf::Duration {
                seconds: 10,
                nanos: 0,
            }),
            upstream_locality_stats: vec![UpstreamLocalityStats {
                total_issued_requests: issued,
                total_successful_requests: issued - failed,
                total_error_requests: failed,
                ..UpstreamLocalityStats::default()
            }],
            ..ClusterStats::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn services_and_calls_have_the_rates_of_the_last_reports() {
        let objects = read([("shop.yaml", SHOP)], &Default::default()).objects;
        let store = Store::new();
        store.publish(Content::default().with_objects(objects, Default::default()));
        let house = House::new(store, Limits::default(), Random::seeded(1));
        let quiet = state(&house, None);
        assert_eq!(quiet["services"][0]["name"], "catalog.shop");
        assert_eq!(quiet["services"][0]["endpoints"], 2);
        assert_eq!(quiet["services"][0]["success"], Value::Null);
        assert_eq!(quiet["services"][0]["splits"], json!(["v1 90 %, v2 10 %"]));
        house.loads.report("order.shop", &report("v1", 90, 0));
        house.loads.report("order.shop", &report("v2", 10, 5));
        let busy = state(&house, None);
        let service = &busy["services"][0];
        assert_eq!(service["rate"], 10.0);
        assert_eq!(service["success"], 0.95);
        let calls = busy["calls"].as_array().expect("calls");
        let rates: Vec<_> = calls
            .iter()
            .map(|one| (&one["subset"], &one["rate"]))
            .collect();
        assert_eq!(
            rates,
            [(&json!("v1"), &json!(9.0)), (&json!("v2"), &json!(1.0))]
        );
        assert_eq!(calls[0]["from"], "order.shop");
        assert_eq!(calls[0]["to"], "catalog.shop");
        tokio::time::advance(Duration::from_secs(120)).await;
        assert_eq!(state(&house, None)["calls"], json!([]));
    }
}
