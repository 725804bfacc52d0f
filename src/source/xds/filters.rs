//! HTTP filters: the chain of a listener over the routes that it leads to (gRFC A39).
//!
//! A listener has a chain of named filters; route configurations, virtual hosts, routes and weighted
//! clusters say by these names what is different for them, the most specific last. Routes may be a
//! resource of their own that knows none of the listeners it is used by, so what they say is kept
//! beside them until both are there: [`Chain::over`] puts the two together. What is said of a name
//! that is not in the chain has no effect.
//!
//! The model has no chains: a route has its fault, its limits, its session and its timeout. A route
//! configuration that is what its listener makes of it stays shared, one that is not is copied for
//! that listener.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::model::RouteConfiguration;
use crate::model::affinity::Session;
use crate::model::authorization::{Authorization, Policy, Stage};
use crate::model::custom::CustomFilter;
use crate::model::fault::Fault;
use crate::model::rate::LocalLimit;
use crate::model::route::{Action, Destinations, Forward, OwnFault, Route, VirtualHost};
use crate::model::token::TokenRule;

/// The filters of a listener before its router, and what else it says of all its routes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Chain {
    pub(crate) filters: Vec<Filter>,
    /// The bound for a whole stream of routes that say none (`max_stream_duration`, gRFC A31).
    pub(crate) stream_bound: Option<Duration>,
}

/// One filter of a chain.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Filter {
    pub(crate) name: Box<str>,
    pub(crate) config: Config,
    /// Whether it does nothing unless a route switches it on.
    pub(crate) disabled: bool,
}

/// What a filter does for routes that do not say otherwise.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Config {
    /// The program's own.
    Custom(CustomFilter),
    Fault(Option<Fault>),
    /// On servers.
    Jwt(Arc<Jwt>),
    Limit(Option<LocalLimit>),
    /// On servers.
    Rbac(Option<Stage>),
    Session(Option<Session>),
}

/// What a filter asks of the tokens of requests.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Jwt {
    /// Of all requests.
    pub(crate) whole: Demand,
    /// Of those whose route says its name.
    pub(crate) named: BTreeMap<Box<str>, Demand>,
}

/// Whose tokens are believed, and whether a request needs one.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Demand {
    pub(crate) rules: Vec<TokenRule>,
    pub(crate) required: bool,
}

/// What one level says of a filter.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Override {
    Custom(CustomFilter),
    Fault(Fault),
    /// The name of a requirement.
    Jwt(Arc<str>),
    Limit(Option<LocalLimit>),
    Off,
    Rbac(Option<Stage>),
    Session(Option<Session>),
}

/// What is said of filters at one level, or at all levels together, by their names.
pub(crate) type Overrides = BTreeMap<Box<str>, Override>;

/// What the routes of a route configuration say, by virtual host and route, in their order.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Said {
    pub(crate) hosts: Vec<Vec<OfRoute>>,
}

/// What one route says.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct OfRoute {
    /// Of the route and everything around it.
    pub(crate) overrides: Overrides,
    /// The same of each destination, with its own; empty if none has any.
    pub(crate) destinations: Vec<Overrides>,
    /// Whether it has a bound of its own for a whole stream.
    pub(crate) bounded: bool,
}

/// What filters do.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Effect {
    pub(crate) fault: Option<Fault>,
    pub(crate) session: Option<Session>,
    /// Of RBAC, one for each filter, in the order of the chain.
    pub(crate) stages: Vec<Stage>,
    pub(crate) tokens: Demand,
    pub(crate) limits: Vec<LocalLimit>,
    /// The program's own filters, in the order of the chain.
    pub(crate) custom: Vec<CustomFilter>,
}

/// The stage of a request that no filter of tokens has seen.
fn before_tokens(stage: Stage) -> Stage {
    let blind = |policy: Policy| Policy {
        condition: policy.condition.without_token_metadata(),
        ..policy
    };
    Stage {
        policies: stage.policies.into_iter().map(blind).collect(),
        ..stage
    }
}

/// The inner level over the outer one.
pub(crate) fn over(outer: &Overrides, inner: Overrides) -> Overrides {
    let mut all = outer.clone();
    all.extend(inner);
    all
}

/// What overrides do as far as they say it themselves, whatever the chain.
pub(crate) fn alone(overrides: &Overrides) -> Effect {
    let mut effect = Effect::default();
    for one in overrides.values() {
        match one {
            Override::Fault(fault) => effect.fault = Some(fault.clone()),
            Override::Session(session) => effect.session.clone_from(session),
            Override::Custom(_)
            | Override::Jwt(_)
            | Override::Limit(_)
            | Override::Off
            | Override::Rbac(_) => {}
        }
    }
    effect
}

/// The fault of a destination, where it is not its route's.
pub(crate) fn own_fault(route: Option<&Fault>, destination: Option<Fault>) -> OwnFault {
    let injects = |fault: &Fault| fault.delay.is_some() || fault.abort.is_some();
    match destination.filter(injects) {
        same if same.as_ref() == route.filter(|fault| injects(fault)) => OwnFault::AsRoute,
        None => OwnFault::Nothing,
        Some(fault) => OwnFault::This(fault),
    }
}

impl Chain {
    /// What the chain does where `overrides` say something of it.
    pub(super) fn effect(&self, overrides: &Overrides) -> Effect {
        let mut effect = Effect::default();
        let tokens = |filter: &Filter| matches!(filter.config, Config::Jwt(_));
        let tokens = self.filters.iter().position(tokens);
        for (place, filter) in self.filters.iter().enumerate() {
            let said = overrides.get(&filter.name);
            // What stands before the filter of tokens sees nothing of what it leaves behind.
            let read = |stage: Stage| match tokens.is_some_and(|tokens| tokens < place) {
                true => stage,
                false => before_tokens(stage),
            };
            match (&filter.config, said) {
                (_, Some(Override::Off)) => {}
                (Config::Custom(_), Some(Override::Custom(own))) => {
                    effect.custom.push(CustomFilter {
                        name: (*filter.name).into(),
                        ..own.clone()
                    });
                }
                (Config::Fault(_), Some(Override::Fault(own))) => effect.fault = Some(own.clone()),
                (Config::Session(_), Some(Override::Session(own))) => {
                    effect.session.clone_from(own);
                }
                (Config::Rbac(_), Some(Override::Rbac(own))) => {
                    let named = |stage: &Stage| Stage {
                        name: (*filter.name).into(),
                        ..stage.clone()
                    };
                    effect.stages.extend(own.as_ref().map(named).map(&read));
                }
                (Config::Jwt(jwt), Some(Override::Jwt(own))) => match jwt.named.get(&**own) {
                    Some(demand) => effect.tokens = demand.clone(),
                    // Envoy denies what asks for a requirement that is not there.
                    None => effect.stages.extend(Authorization::closed().stages),
                },
                (Config::Limit(_), Some(Override::Limit(own))) => {
                    effect.limits.extend(own.clone());
                }
                // An override of another type is of another filter.
                (_, _) if filter.disabled => {}
                (Config::Custom(custom), _) => effect.custom.push(custom.clone()),
                (Config::Fault(fault), _) => effect.fault.clone_from(fault),
                (Config::Jwt(jwt), _) => effect.tokens = jwt.whole.clone(),
                (Config::Limit(limit), _) => effect.limits.extend(limit.clone()),
                (Config::Rbac(stage), _) => effect.stages.extend(stage.clone().map(&read)),
                (Config::Session(session), _) => effect.session.clone_from(session),
            }
        }
        effect
    }

    /// The routes as this chain makes them. They stay the same, by pointer too, as far as the chain
    /// changes nothing.
    ///
    /// O(routes).
    pub(crate) fn over(
        &self,
        routes: &Arc<RouteConfiguration>,
        said: &Said,
    ) -> Arc<RouteConfiguration> {
        let nothing = Vec::new();
        let hosts = routes.virtual_hosts.iter().enumerate();
        let hosts: Vec<Arc<VirtualHost>> = hosts
            .map(|(index, host)| self.host(host, said.hosts.get(index).unwrap_or(&nothing)))
            .collect();
        let mut pairs = hosts.iter().zip(&routes.virtual_hosts);
        if pairs.all(|(new, old)| Arc::ptr_eq(new, old)) {
            return routes.clone();
        }
        Arc::new(RouteConfiguration {
            virtual_hosts: hosts,
            ..(**routes).clone()
        })
    }

    fn host(&self, host: &Arc<VirtualHost>, said: &[OfRoute]) -> Arc<VirtualHost> {
        let nothing = OfRoute::default();
        let routes = host.routes.iter().enumerate();
        let routes: Vec<Arc<Route>> = routes
            .map(|(index, route)| self.route(route, said.get(index).unwrap_or(&nothing)))
            .collect();
        let mut pairs = routes.iter().zip(&host.routes);
        if pairs.all(|(new, old)| Arc::ptr_eq(new, old)) {
            return host.clone();
        }
        Arc::new(VirtualHost {
            routes,
            ..(**host).clone()
        })
    }

    fn route(&self, route: &Arc<Route>, said: &OfRoute) -> Arc<Route> {
        let Effect {
            fault,
            session,
            custom,
            limits,
            ..
        } = self.effect(&said.overrides);
        let mut new = (**route).clone();
        if let Action::Forward(forward) = &mut new.action {
            self.forward(forward, said, fault.as_ref());
            forward.affinity.session = session;
        }
        new.fault = fault;
        new.filters = custom;
        new.limits = limits;
        match new == **route {
            true => route.clone(),
            false => Arc::new(new),
        }
    }

    fn forward(&self, forward: &mut Forward, said: &OfRoute, fault: Option<&Fault>) {
        if !said.bounded {
            forward.timeout = match (forward.timeout, self.stream_bound) {
                (Some(own), Some(bound)) => Some(own.min(bound)),
                (own, bound) => own.or(bound),
            };
        }
        if !said.destinations.is_empty() {
            self.destinations(&mut forward.destinations, said, fault);
        }
    }

    fn destinations(&self, destinations: &mut Destinations, said: &OfRoute, fault: Option<&Fault>) {
        let mut said = said.destinations.iter();
        destinations.map_faults(|own| match said.next() {
            Some(overrides) => own_fault(fault, self.effect(overrides).fault),
            None => own,
        });
    }
}
