//! Listeners of servers, put together: chains, their filters, and routes that come by themselves.

use std::sync::Arc;

use super::filters::{Chain, Effect, OfRoute, Said};
use crate::model::authorization::Authorization;
use crate::model::security::Material;
use crate::model::server::{ChainMatch, FilterChain, ServedRoutes, ServerListener, ServerTls};
use crate::model::{Inbound, Origin, RouteConfiguration};

/// A server's listener as it came: what its routes are may be known later.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Template {
    pub(crate) name: Arc<str>,
    pub(crate) address: std::net::SocketAddr,
    pub(crate) chains: Vec<ChainTemplate>,
    pub(crate) default_chain: Option<ChainTemplate>,
    pub(crate) origin: Origin,
}

/// One chain of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ChainTemplate {
    pub(crate) name: Arc<str>,
    pub(crate) matches: ChainMatch,
    pub(crate) tls: Option<ServerTls>,
    pub(crate) filters: Chain,
    pub(crate) routes: RoutesOf,
}

/// The routes of a chain.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum RoutesOf {
    Inline(Arc<RouteConfiguration>, Arc<Said>),
    Named(Arc<str>),
}

/// Routes with what they say of filters.
pub(crate) type Known<'a> = (&'a Arc<RouteConfiguration>, &'a Arc<Said>);

impl Template {
    /// The names of the route configurations that its chains need.
    pub(crate) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        let chains = self.chains.iter().chain(&self.default_chain);
        chains.filter_map(|chain| match &chain.routes {
            RoutesOf::Inline(..) => None,
            RoutesOf::Named(name) => Some(name),
        })
    }

    /// Where its certificates and roots are.
    pub(crate) fn materials(&self) -> impl Iterator<Item = &Material> {
        let chains = self.chains.iter().chain(&self.default_chain);
        chains
            .filter_map(|chain| chain.tls.as_ref())
            .flat_map(|tls| {
                let trust = tls.callers.as_ref().map(|callers| &callers.trust);
                std::iter::once(&tls.identity).chain(trust)
            })
    }

    /// The listener, as far as its routes are known.
    pub(crate) fn compose<'a>(
        &'a self,
        edition: u64,
        known: impl Fn(&Arc<str>) -> Option<Known<'a>>,
    ) -> ServerListener {
        let compose = |chain: &'a ChainTemplate| {
            let routes = match &chain.routes {
                RoutesOf::Inline(routes, said) => Some((routes, said)),
                RoutesOf::Named(name) => known(name),
            };
            Arc::new(chain.compose(routes))
        };
        ServerListener {
            name: self.name.clone(),
            address: self.address,
            chains: self.chains.iter().map(compose).collect(),
            default_chain: self.default_chain.as_ref().map(compose),
            edition,
            origin: self.origin.clone(),
        }
    }
}

impl ChainTemplate {
    fn compose(&self, routes: Option<Known<'_>>) -> FilterChain {
        let otherwise = Arc::new(self.rules(&OfRoute::default()));
        let served = routes.map(|(routes, said)| {
            let nothing = Vec::new();
            let hosts = routes.virtual_hosts.iter().enumerate();
            let rules = hosts.map(|(index, host)| {
                let said = said.hosts.get(index).unwrap_or(&nothing);
                let routes = host.routes.iter().enumerate();
                let rules = routes.map(|(index, _)| match said.get(index) {
                    Some(said) if !said.overrides.is_empty() => Arc::new(self.rules(said)),
                    Some(_) | None => otherwise.clone(),
                });
                rules.collect()
            });
            ServedRoutes {
                routes: routes.clone(),
                rules: rules.collect(),
            }
        });
        FilterChain {
            name: self.name.clone(),
            matches: self.matches.clone(),
            tls: self.tls.clone(),
            routes: served,
            otherwise,
        }
    }

    /// What the filters ask of requests.
    fn rules(&self, said: &OfRoute) -> Inbound {
        let Effect {
            stages,
            tokens,
            limits,
            custom,
            ..
        } = self.filters.effect(&said.overrides);
        Inbound {
            authorization: Authorization {
                stages,
                ..Authorization::default()
            },
            tokens: tokens.rules,
            token_required: tokens.required,
            limits,
            filters: custom,
            ..Inbound::default()
        }
    }
}
