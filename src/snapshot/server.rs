//! Listeners of servers in force: their chains, with routes that can be asked and certificates.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use http::uri::Authority;

use super::link::Environment;
use super::of_authority;
use super::table::Table;
use crate::filter::Running;
use crate::model::Inbound;
use crate::model::matcher::RequestView;
use crate::model::route::Action;
#[cfg(feature = "tls-core")]
use crate::model::server::ServerTls;
use crate::model::server::{FilterChain, ServerListener};
use crate::random::{Draws, Random};
#[cfg(feature = "tls-core")]
use crate::tls::{Acceptor, Callers, Credentials, Materials};

/// One listener.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) model: Arc<ServerListener>,
    /// In the order of the model, the default chain last.
    chains: Vec<Arc<Chain>>,
}

/// One chain.
pub(crate) struct Chain {
    model: Arc<FilterChain>,
    table: Option<Arc<Table>>,
    /// What is asked of the requests of a route, by the address of its model.
    rules: HashMap<usize, Rule>,
    /// The same of requests that no route takes.
    otherwise: Rule,
    /// What its connections are encrypted by, if they are.
    #[cfg(feature = "tls-core")]
    pub(crate) tls: Option<Tls>,
}

/// How the connections of a chain are encrypted.
#[cfg(feature = "tls-core")]
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    /// Made once for the chain, since it is more than a connection should pay for.
    pub(crate) acceptor: Acceptor,
    /// What callers are shown: connections are replaced when it changes.
    pub(crate) own: Credentials,
}

#[cfg(feature = "tls-core")]
impl Tls {
    fn new(model: &ServerTls, materials: &Materials) -> Self {
        let own = materials.get(&model.identity);
        let callers = model.callers.as_ref().map(|asked| Callers {
            trust: materials.get(&asked.trust),
            names: asked.names.clone(),
            required: asked.required,
        });
        Self {
            acceptor: Acceptor::presenting(own.clone(), callers, materials.clock()),
            own,
        }
    }
}

/// What is asked of requests, and what runs over them.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) inbound: Arc<Inbound>,
    /// The program's own filters.
    pub(crate) filters: Arc<[Arc<dyn Running>]>,
}

impl Rule {
    fn new(inbound: &Arc<Inbound>, environment: &Environment) -> Self {
        Self {
            inbound: inbound.clone(),
            filters: environment.filters.run(&inbound.filters),
        }
    }
}

/// What a chain says of a request.
#[derive(Debug)]
pub(crate) struct Found<'a> {
    /// What is asked of it.
    pub(crate) rule: &'a Rule,
    /// Whether it is served if that lets it pass.
    pub(crate) served: bool,
}

impl Server {
    pub(super) fn new(
        model: &Arc<ServerListener>,
        environment: &Environment,
        mut table: impl FnMut(&FilterChain) -> Option<Arc<Table>>,
    ) -> Self {
        let mut chain = |model: &Arc<FilterChain>| {
            let mut rules = HashMap::new();
            if let Some(served) = &model.routes {
                for (host, own) in served.routes.virtual_hosts.iter().zip(&served.rules) {
                    for (route, rule) in host.routes.iter().zip(own) {
                        rules.insert(Arc::as_ptr(route).addr(), Rule::new(rule, environment));
                    }
                }
            }
            Arc::new(Chain {
                table: table(model),
                rules,
                otherwise: Rule::new(&model.otherwise, environment),
                #[cfg(feature = "tls-core")]
                tls: model
                    .tls
                    .as_ref()
                    .map(|tls| Tls::new(tls, &environment.materials)),
                model: model.clone(),
            })
        };
        let all = model.chains.iter().chain(&model.default_chain);
        Self {
            chains: all.map(&mut chain).collect(),
            model: model.clone(),
        }
    }

    /// The number and the chain of a connection.
    pub(crate) fn chain(
        &self,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> Option<(usize, &Arc<Chain>)> {
        let found = self.model.chain(local, remote)?;
        let mut all = self.chains.iter().enumerate();
        all.find(|(_, chain)| Arc::ptr_eq(&chain.model, found))
    }

    /// The chain of this number.
    pub(crate) fn numbered(&self, number: usize) -> Option<&Arc<Chain>> {
        self.chains.get(number)
    }
}

impl Chain {
    /// What becomes of a request, by the first route that matches. Where routes take shares, the same
    /// `draws` find the same one again, as long as the routes are the same.
    pub(crate) fn find(
        &self,
        authority: &Authority,
        view: &RequestView<'_>,
        draws: &mut Draws,
        random: &Random,
    ) -> Found<'_> {
        let mut draw = draws.anew(random, 1_000_000);
        let table = self.table.as_ref();
        let host = table.and_then(|table| of_authority(table, authority));
        let mut routes = host.iter().flat_map(|host| &host.routes);
        let route = routes.find(|route| {
            let matcher = &route.model.matcher;
            matcher.matches(view, &mut draw)
        });
        let rule = route.and_then(|route| self.rules.get(&Arc::as_ptr(&route.model).addr()));
        Found {
            rule: rule.unwrap_or(&self.otherwise),
            served: route.is_some_and(|route| matches!(route.model.action, Action::Serve)),
        }
    }
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chain")
            .field("name", &self.model.name)
            .finish_non_exhaustive()
    }
}
