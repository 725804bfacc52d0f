//! The bench config: what every comparison of the mesh's speed runs with.
//!
//! Two virtual hosts; six routes on the one that is called, of which the last matches: a canary by
//! header comes before it, it splits 90 to 10; timeout 5 s; 3 retries of 2 s each; 100 connections,
//! 1,024 pending and 4,096 active requests; outlier detection; least request over ten endpoints.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use meshwork::model::affinity::Affinity;
use meshwork::model::balancing::Spread;
use meshwork::model::cluster::{Balancing, Connection, Discovery, Protocol};
use meshwork::model::endpoint::{Address, Endpoint, Health, Locality, LocalityEndpoints};
use meshwork::model::limit::{Limits, RetryLimit};
use meshwork::model::matcher::{
    HeaderKey, HeaderMatcher, HeaderTest, PathMatcher, RouteMatcher, StringMatcher,
};
use meshwork::model::outlier::Outlier;
use meshwork::model::retry::{Backoff, RetryOn, RetryPolicy};
use meshwork::model::route::{
    Action, Destination, Destinations, Domain, Forward, HeaderChanges, OwnFault, Route, VirtualHost,
};
use meshwork::model::upgrade::Upgrades;
use meshwork::model::{Cluster, Endpoints, Origin, Percent, Resources, RouteConfiguration};

use crate::call::HOST_NAME;

pub(crate) const TIMEOUT: Duration = Duration::from_secs(5);
pub(crate) const PER_TRY_TIMEOUT: Duration = Duration::from_secs(2);
pub(crate) const ENDPOINTS: usize = 10;
/// Of all random choices, so that a rung does the same in every run.
pub(crate) const SEED: u64 = 1;

/// How much of the bench config is in force: each step has all of those before it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Step {
    /// One virtual host with one route.
    Mesh,
    Route,
    Limit,
    Outlier,
    Timeout,
    Retry,
}

/// The bench config up to `step`, over these endpoints.
///
/// The canary has one endpoint, which is the first of them.
pub(crate) fn resources(
    step: Step,
    protocol: Protocol,
    endpoints: impl Iterator<Item = SocketAddr> + Clone,
) -> Resources {
    let mut resources = Resources::default();
    resources.insert_routes(RouteConfiguration {
        name: "80".into(),
        virtual_hosts: virtual_hosts(step),
        origin: Origin::built_in(),
    });
    for (name, count) in [(STABLE, usize::MAX), (CANARY, 1)] {
        resources.insert_cluster(cluster(name, step, protocol));
        resources.insert_endpoints(Endpoints {
            name: name.into(),
            localities: vec![locality(endpoints.clone().take(count))],
            overloads: Vec::new(),
            origin: Origin::built_in(),
        });
    }
    resources
}

pub(crate) const STABLE: &str = "outbound|80|v1|catalog.my-app.svc.cluster.local";
const CANARY: &str = "outbound|80|v2|catalog.my-app.svc.cluster.local";

fn virtual_hosts(step: Step) -> Vec<Arc<VirtualHost>> {
    let forward = |destinations| route("default", RouteMatcher::everything(), step, destinations);
    if step < Step::Route {
        let routes = vec![forward(Destinations::single(STABLE))];
        return vec![virtual_host(HOST_NAME, routes)];
    }
    let split = Destinations::weighted(vec![destination(STABLE, 90), destination(CANARY, 10)]);
    let mut routes: Vec<_> = ["/admin/", "/internal/", "/static/", "/legacy/"]
        .map(|prefix| {
            let matcher = RouteMatcher {
                path: PathMatcher::Prefix(prefix.into()),
                ..RouteMatcher::everything()
            };
            route(prefix, matcher, step, Destinations::single(STABLE))
        })
        .into();
    let canary = RouteMatcher {
        headers: vec![HeaderMatcher {
            key: HeaderKey::Field(HeaderName::from_static("x-canary")),
            test: HeaderTest::Value(StringMatcher::Exact("true".into())),
            invert: false,
            missing_is_empty: false,
        }],
        ..RouteMatcher::everything()
    };
    routes.push(route("canary", canary, step, Destinations::single(CANARY)));
    routes.push(forward(split.expect("its weights are not zero")));
    let other = vec![forward(Destinations::single(STABLE))];
    vec![
        virtual_host("order.my-app.svc.cluster.local", other),
        virtual_host(HOST_NAME, routes),
    ]
}

/// The address of this number; they only tell endpoints apart.
pub(crate) fn address(number: u32) -> SocketAddr {
    let [first, second, third, fourth] = number.to_be_bytes();
    // Not many have more than a few million endpoints.
    SocketAddr::from(([10 + first, second, third, fourth], 80))
}

/// Virtual hosts beside the one that is called, up to so many.
pub(crate) fn add_hosts(resources: &mut Resources, count: u32) {
    let routes = resources.routes.values_mut().next();
    let routes = Arc::make_mut(routes.expect("the bench config has routes"));
    for number in 1..count {
        let to_stable = Destinations::single(STABLE);
        let forward = route("default", RouteMatcher::everything(), Step::Mesh, to_stable);
        let name = format!("host-{number}.my-app.svc.cluster.local");
        routes
            .virtual_hosts
            .push(virtual_host(&name, vec![forward]));
    }
}

/// Routes before the one that matches, up to so many.
pub(crate) fn add_routes(resources: &mut Resources, count: u32) {
    let routes = resources.routes.values_mut().next();
    let routes = Arc::make_mut(routes.expect("the bench config has routes"));
    let host = routes.virtual_hosts.last_mut();
    let host = Arc::make_mut(host.expect("the bench config has virtual hosts"));
    let others = (1..count).map(|number| {
        let matcher = RouteMatcher {
            path: PathMatcher::Prefix(format!("/section-{number}/").into()),
            ..RouteMatcher::everything()
        };
        let to_stable = Destinations::single(STABLE);
        route("section", matcher, Step::Mesh, to_stable)
    });
    host.routes.splice(0..0, others);
}

/// So many clusters of one endpoint, which nothing leads to.
pub(crate) fn clusters(count: u32) -> Resources {
    let mut resources = Resources::default();
    for number in 0..count {
        let name: Arc<str> =
            format!("outbound|80||service-{number}.my-app.svc.cluster.local").into();
        resources.insert_cluster(cluster(name.clone(), Step::Retry, Protocol::Http2));
        resources.insert_endpoints(Endpoints {
            name,
            localities: vec![locality([address(number)].into_iter())],
            overloads: Vec::new(),
            origin: Origin::built_in(),
        });
    }
    resources
}

fn virtual_host(host: &str, routes: Vec<Arc<Route>>) -> Arc<VirtualHost> {
    Arc::new(VirtualHost {
        name: host.into(),
        domains: vec![Domain::parse(host)],
        routes,
        origin: Origin::built_in(),
    })
}

fn route(name: &str, matcher: RouteMatcher, step: Step, destinations: Destinations) -> Arc<Route> {
    Arc::new(Route {
        name: name.into(),
        matcher,
        action: Action::Forward(Box::new(Forward {
            destinations,
            timeout: (step >= Step::Timeout).then_some(TIMEOUT),
            idle_timeout: None,
            retry: (step >= Step::Retry).then(retry),
            path_rewrite: None,
            authority_rewrite: None,
            endpoint_authority: false,
            mirrors: Vec::new(),
            affinity: Affinity::default(),
            upgrades: Upgrades::default(),
        })),
        headers: HeaderChanges::default(),
        fault: None,
        filters: Vec::new(),
        limits: Vec::new(),
        stat_prefix: None,
        origin: Origin::built_in(),
    })
}

fn destination(cluster: &str, weight: u32) -> Destination {
    Destination {
        cluster: cluster.into(),
        weight,
        authority_rewrite: None,
        headers: HeaderChanges::default(),
        fault: OwnFault::AsRoute,
    }
}

/// One text names the cluster and its endpoints, as where YAML is compiled.
fn cluster(name: impl Into<Arc<str>>, step: Step, protocol: Protocol) -> Cluster {
    let name = name.into();
    Cluster {
        name: name.clone(),
        discovery: Discovery::Endpoints(name),
        balancing: Balancing::LeastRequest,
        spread: Spread::default(),
        panic_threshold: Percent::ZERO,
        connect_timeout: Duration::from_secs(10),
        protocol,
        security: meshwork::model::security::Security::Plaintext,
        connection: Connection::default(),
        limits: match step {
            Step::Mesh | Step::Route => Limits::default(),
            Step::Limit | Step::Outlier | Step::Timeout | Step::Retry => limits(),
        },
        outlier: (step >= Step::Outlier).then(|| outlier().into()),
        health_check: None,
        load_metrics: Vec::new(),
        origin: Origin::built_in(),
    }
}

fn locality(endpoints: impl Iterator<Item = SocketAddr>) -> LocalityEndpoints {
    let labels = Arc::new(BTreeMap::new());
    LocalityEndpoints {
        locality: Locality::default(),
        priority: 0,
        weight: None,
        endpoints: endpoints
            .map(|address| Endpoint {
                address: Address::from(address),
                weight: NonZeroU32::MIN,
                health: Health::Healthy,
                labels: labels.clone(),
                meshed: false,
                hostname: None,
            })
            .collect(),
    }
}

/// Istio's `attempts: 3`, `retryOn: connect-failure,reset,5xx`.
pub(crate) fn retry() -> RetryPolicy {
    RetryPolicy {
        on: RetryOn {
            server_error: true,
            reset: true,
            connect_failure: true,
            ..RetryOn::default()
        },
        retries: 3,
        per_try_timeout: Some(PER_TRY_TIMEOUT),
        backoff: Backoff::default(),
        avoid_previous: true,
        hedge: None,
        leave_priorities: None,
    }
}

/// 100 connections, 1,024 requests that wait for one, 4,096 requests.
pub(crate) fn limits() -> Limits {
    Limits {
        connections: 100,
        pending: 1_024,
        requests: 4_096,
        retries: RetryLimit::Budget,
    }
}

/// Istio's defaults.
pub(crate) fn outlier() -> Outlier {
    Outlier::default()
}
