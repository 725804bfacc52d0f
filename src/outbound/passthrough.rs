//! Hosts that the mesh does not know.
//!
//! As with a sidecar under `outboundTrafficPolicy: ALLOW_ANY` they are reached by DNS, without
//! policies, as cluster `PassthroughCluster`; under `REGISTRY_ONLY` they are refused. The policy is
//! the program's if it said one, else the configuration's (a `Sidecar`, the mesh's), else
//! `ALLOW_ANY`. Each host and port is an endpoint of its own, kept while it is used.

use std::sync::Arc;

use http::uri::Authority;

use crate::error::{Error, Kind};
use crate::model::matcher::RouteMatcher;
use crate::model::route::{Action, Destinations, Forward, HeaderChanges};
use crate::model::{self, Origin, OutboundTraffic, Percent};
use crate::snapshot::{Environment, Route, stand_alone};

const CLUSTER: &str = "PassthroughCluster";

pub(crate) struct Passthrough {
    /// What the program said, which stands above any configuration.
    policy: Option<OutboundTraffic>,
    route: Arc<Route>,
}

impl Passthrough {
    pub(crate) fn new(policy: Option<OutboundTraffic>, environment: &Environment) -> Self {
        Self {
            policy,
            route: route(environment),
        }
    }

    /// The route to an unknown host, where the configuration says `configured`.
    pub(crate) fn route(
        &self,
        authority: &Authority,
        configured: Option<OutboundTraffic>,
    ) -> Result<Arc<Route>, Error> {
        match self.policy.or(configured).unwrap_or_default() {
            OutboundTraffic::AllowAny => Ok(self.route.clone()),
            OutboundTraffic::RegistryOnly => {
                let authority = authority.as_str().into();
                Err(Error::new(Kind::Blocked { authority }))
            }
        }
    }

    /// Lets go of all connections.
    pub(crate) fn close(&self) {
        for cluster in self.route.clusters.iter().flatten() {
            cluster.close();
        }
    }
}

fn route(environment: &Environment) -> Arc<Route> {
    let cluster = model::Cluster {
        name: CLUSTER.into(),
        discovery: model::cluster::Discovery::Passthrough,
        balancing: model::cluster::Balancing::default(),
        spread: model::balancing::Spread::default(),
        panic_threshold: Percent::ZERO,
        connect_timeout: std::time::Duration::from_secs(10),
        protocol: model::cluster::Protocol::SameAsRequest,
        security: model::security::Security::Plaintext,
        connection: model::cluster::Connection::default(),
        limits: model::limit::Limits::default(),
        outlier: None,
        health_check: None,
        load_metrics: Vec::new(),
        origin: Origin::built_in(),
    };
    let route = model::route::Route {
        name: "allow_any".into(),
        matcher: RouteMatcher::everything(),
        action: Action::Forward(Box::new(Forward {
            destinations: Destinations::single(CLUSTER),
            timeout: None,
            idle_timeout: None,
            retry: None,
            path_rewrite: None,
            authority_rewrite: None,
            endpoint_authority: false,
            mirrors: Vec::new(),
            affinity: model::affinity::Affinity::default(),
            upgrades: model::upgrade::Upgrades::default(),
        })),
        headers: HeaderChanges::default(),
        fault: None,
        filters: Vec::new(),
        limits: Vec::new(),
        stat_prefix: None,
        origin: Origin::built_in(),
    };
    stand_alone(route, cluster, environment)
}
