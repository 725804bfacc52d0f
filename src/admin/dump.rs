//! The configuration in force, as JSON.

use std::time::Duration;

use super::json::Json;
use crate::model::cluster::Discovery;
use crate::model::endpoint::Health;
use crate::model::listener::Routes;
use crate::model::route::{Action, Domain, Forward, HeaderChange, HeaderChanges, OwnFault, Route};
use crate::model::{Cluster, Endpoints, Listener, Resources, RouteConfiguration};

/// Everything, each resource with its origin.
pub(super) fn dump(generation: u64, resources: &Resources) -> Json {
    let Resources {
        listeners,
        routes,
        clusters,
        endpoints,
        ..
    } = resources;
    Json::Object(vec![
        ("generation", generation.into()),
        (
            "listeners",
            listeners.values().map(|one| listener(one)).collect(),
        ),
        (
            "routes",
            routes.values().map(|one| configuration(one)).collect(),
        ),
        (
            "clusters",
            clusters.values().map(|one| cluster(one)).collect(),
        ),
        (
            "endpoints",
            endpoints.values().map(|one| members(one)).collect(),
        ),
        (
            "outbound_traffic",
            resources
                .outbound_traffic
                .map(|one| format!("{one:?}"))
                .into(),
        ),
    ])
}

fn listener(listener: &Listener) -> Json {
    let routes = match &listener.routes {
        Routes::Inline(routes) => configuration(routes),
        Routes::Named(name) => (**name).into(),
    };
    Json::Object(vec![
        ("name", (*listener.name).into()),
        ("routes", routes),
        ("origin", listener.origin.to_string().into()),
    ])
}

fn configuration(routes: &RouteConfiguration) -> Json {
    let hosts = routes.virtual_hosts.iter().map(|host| {
        Json::Object(vec![
            ("name", (*host.name).into()),
            ("domains", host.domains.iter().map(domain).collect()),
            ("routes", host.routes.iter().map(|one| route(one)).collect()),
            ("origin", host.origin.to_string().into()),
        ])
    });
    Json::Object(vec![
        ("name", (*routes.name).into()),
        ("virtual_hosts", hosts.collect()),
        ("origin", routes.origin.to_string().into()),
    ])
}

fn domain(domain: &Domain) -> Json {
    match domain {
        Domain::Any => "*".into(),
        Domain::Exact(text) => (**text).into(),
        Domain::Prefix(text) => format!("{text}*").into(),
        Domain::Suffix(text) => format!("*{text}").into(),
    }
}

fn route(route: &Route) -> Json {
    let action = match &route.action {
        Action::Direct(direct) => Json::Object(vec![
            ("direct", u32::from(direct.status.as_u16()).into()),
            ("body_bytes", (direct.body.len() as u64).into()),
        ]),
        Action::Forward(to) => forward(to),
        Action::Redirect(redirect) => Json::Object(vec![(
            "redirect",
            u32::from(redirect.status.as_u16()).into(),
        )]),
        Action::Serve => Json::Object(vec![("serve", true.into())]),
        Action::Unknown => Json::Object(vec![("unknown", true.into())]),
    };
    Json::Object(vec![
        ("name", (*route.name).into()),
        ("matches", route.matcher.to_string().into()),
        ("action", action),
        ("headers", changes(&route.headers)),
        (
            "fault",
            route
                .fault
                .as_ref()
                .map(|fault| format!("{fault:?}"))
                .into(),
        ),
        (
            "limits",
            route
                .limits
                .iter()
                .map(|limit| Json::from(limit.to_string()))
                .collect(),
        ),
        ("origin", route.origin.to_string().into()),
    ])
}

fn forward(to: &Forward) -> Json {
    let destinations = to.destinations.all().iter().map(|one| {
        Json::Object(vec![
            ("cluster", (*one.cluster).into()),
            ("weight", one.weight.into()),
            ("headers", changes(&one.headers)),
            (
                "fault",
                match &one.fault {
                    OwnFault::AsRoute => None,
                    own => Some(format!("{own:?}")),
                }
                .into(),
            ),
        ])
    });
    let retry = to.retry.as_ref().map(|retry| {
        Json::Object(vec![
            ("on", retry.on.to_string().into()),
            ("retries", retry.retries.into()),
            ("per_try_ms", millis(retry.per_try_timeout)),
        ])
    });
    let mirrors = to.mirrors.iter().map(|mirror| {
        Json::Object(vec![
            ("cluster", (*mirror.cluster).into()),
            ("share", mirror.share.to_string().into()),
        ])
    });
    Json::Object(vec![
        ("destinations", destinations.collect()),
        ("timeout_ms", millis(to.timeout)),
        ("idle_timeout_ms", millis(to.idle_timeout)),
        ("retry", retry.into()),
        ("mirrors", mirrors.collect()),
    ])
}

fn changes(changes: &HeaderChanges) -> Json {
    let all = |changes: &[HeaderChange]| changes.iter().map(|one| one.to_string().into()).collect();
    Json::Object(vec![
        ("request", all(&changes.request)),
        ("response", all(&changes.response)),
    ])
}

fn cluster(cluster: &Cluster) -> Json {
    let discovery = match &cluster.discovery {
        Discovery::Endpoints(name) => format!("endpoints {name}"),
        Discovery::Dns(dns) => format!("dns {}", dns.endpoints),
        Discovery::OnDemand { port } => format!("the host of the request at port {port}"),
        Discovery::Aggregate(members) => format!("the clusters {}", members.join(", ")),
        Discovery::Passthrough => "the authority of the request".to_owned(),
    };
    let limits = &cluster.limits;
    let limit = |limit: u32| Json::from((limit < u32::MAX).then_some(limit));
    Json::Object(vec![
        ("name", (*cluster.name).into()),
        ("discovery", discovery.into()),
        ("balancing", format!("{:?}", cluster.balancing).into()),
        ("protocol", format!("{:?}", cluster.protocol).into()),
        ("connect_timeout_ms", millis(Some(cluster.connect_timeout))),
        ("max_connections", limit(limits.connections)),
        ("max_pending", limit(limits.pending)),
        ("max_requests", limit(limits.requests)),
        ("retry_limit", format!("{:?}", limits.retries).into()),
        (
            "ejection",
            cluster.outlier.as_ref().map(ToString::to_string).into(),
        ),
        ("panic_threshold", cluster.panic_threshold.value().into()),
        ("origin", cluster.origin.to_string().into()),
    ])
}

fn members(endpoints: &Endpoints) -> Json {
    let localities = endpoints.localities.iter().map(|locality| {
        let place = &locality.locality;
        let endpoints = locality.endpoints.iter().map(|endpoint| {
            let health = match endpoint.health {
                Health::Draining => "draining",
                Health::Healthy => "healthy",
                Health::Unhealthy => "unhealthy",
            };
            Json::Object(vec![
                ("address", endpoint.address.to_string().into()),
                ("weight", endpoint.weight.get().into()),
                ("health", health.into()),
            ])
        });
        Json::Object(vec![
            ("locality", place.to_string().into()),
            ("priority", locality.priority.into()),
            ("endpoints", endpoints.collect()),
        ])
    });
    Json::Object(vec![
        ("name", (*endpoints.name).into()),
        ("localities", localities.collect()),
        ("origin", endpoints.origin.to_string().into()),
    ])
}

fn millis(time: Option<Duration>) -> Json {
    time.map_or(Json::Null, |time| {
        Json::Number(time.as_secs_f64() * 1_000.0)
    })
}
