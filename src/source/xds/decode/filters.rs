//! HTTP filters: the chain of a listener, and what virtual hosts and routes say of its filters.
//!
//! A filter is told by the type of its configuration, as in gRFC A39; its name only joins the chain
//! and the overrides. One that is not known is refused unless it is optional. Overrides of a filter
//! that is not in the chain have no effect, so those of harmless types (CORS, which browsers need
//! and clients do not) are left alone.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::place::{Place, Quoted};
use super::value;
use super::{affinity, fault};
use crate::model::affinity::{Affinity, HashPolicy, Session};
use crate::model::fault::Fault;
use crate::source::xds::proto::{Any, fault as fault_wire, hcm, route, router, session};

/// Filters whose configuration says nothing that a client could do.
const HARMLESS: &[&str] = &[
    "envoy.extensions.filters.http.cors.v3.Cors",
    "envoy.extensions.filters.http.cors.v3.CorsPolicy",
    "envoy.extensions.filters.http.grpc_stats.v3.FilterConfig",
];

/// What is said of the known filters at one level, and then at all levels together.
#[derive(Clone, Debug, Default)]
pub(super) struct PerRoute {
    fault: Said<Fault>,
    session: Said<Session>,
}

/// What a level says of a filter.
#[derive(Clone, Debug, Default)]
enum Said<T> {
    #[default]
    Nothing,
    Off,
    This(T),
}

impl<T> Said<T> {
    fn overridden_by(self, inner: Self) -> Self {
        match inner {
            Self::Nothing => self,
            inner => inner,
        }
    }

    fn is_nothing(&self) -> bool {
        matches!(self, Self::Nothing)
    }
}

impl PerRoute {
    pub(super) fn overridden_by(self, inner: Self) -> Self {
        Self {
            fault: self.fault.overridden_by(inner.fault),
            session: self.session.overridden_by(inner.session),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.fault.is_nothing() && self.session.is_nothing()
    }

    pub(super) fn fault(&self) -> Option<Fault> {
        match &self.fault {
            Said::This(fault) => Some(fault.clone()),
            Said::Nothing | Said::Off => None,
        }
    }

    pub(super) fn affinity(&self, hash: Vec<HashPolicy>) -> Affinity {
        let session = match &self.session {
            Said::This(session) => Some(session.clone()),
            Said::Nothing | Said::Off => None,
        };
        Affinity { hash, session }
    }
}

/// The overrides of one level.
pub(super) fn per_route(place: &Place<'_>, configs: &HashMap<String, Any>) -> PerRoute {
    let mut all = PerRoute::default();
    // In the order of their names, so that faults come in the same order each time.
    let configs: BTreeMap<&String, &Any> = configs.iter().collect();
    for (name, any) in configs {
        if let Some(one) = one_override(&place.key(name), any) {
            all = all.overridden_by(one);
        }
    }
    all
}

fn one_override(place: &Place<'_>, any: &Any) -> Option<PerRoute> {
    if value::is::<route::FilterConfig>(any) {
        let wrapped: route::FilterConfig = value::unpack(place, any)?;
        let Some(config) = &wrapped.config else {
            if wrapped.disabled {
                // Which filter it is only its name says.
                return Some(switched_off(place));
            }
            return place.field("config").fault("is missing");
        };
        let mut found = typed_override(&place.field("config"), config, wrapped.is_optional)?;
        if wrapped.disabled {
            found = PerRoute {
                fault: off_if_said(found.fault),
                session: off_if_said(found.session),
            };
        }
        return Some(found);
    }
    typed_override(place, any, false)
}

fn off_if_said<T>(said: Said<T>) -> Said<T> {
    match said {
        Said::Nothing => Said::Nothing,
        Said::Off | Said::This(_) => Said::Off,
    }
}

/// A filter that is switched off without its configuration is known by its usual name.
fn switched_off(place: &Place<'_>) -> PerRoute {
    let path = place.to_string();
    let mut all = PerRoute::default();
    if path.contains("envoy.filters.http.fault") {
        all.fault = Said::Off;
    }
    if path.contains("envoy.filters.http.stateful_session") {
        all.session = Said::Off;
    }
    all
}

fn typed_override(place: &Place<'_>, any: &Any, optional: bool) -> Option<PerRoute> {
    let mut all = PerRoute::default();
    if value::is::<fault_wire::HttpFault>(any) {
        let message: fault_wire::HttpFault = value::unpack(place, any)?;
        all.fault = Said::This(fault::fault(place, &message)?);
    } else if value::is::<session::StatefulSessionPerRoute>(any) {
        use session::stateful_session_per_route::Override;
        let message: session::StatefulSessionPerRoute = value::unpack(place, any)?;
        all.session = match &message.r#override {
            None => Said::Nothing,
            Some(Override::Disabled(false)) => {
                return place
                    .field("disabled")
                    .fault("is false; only true is allowed");
            }
            Some(Override::Disabled(true)) => Said::Off,
            Some(Override::StatefulSession(message)) => {
                let place = place.field("stateful_session");
                match affinity::session(&place, message)? {
                    Some(session) => Said::This(session),
                    None => Said::Off,
                }
            }
        };
    } else if !optional && !HARMLESS.contains(&value::type_name(any)) {
        return unknown(place, any);
    }
    Some(all)
}

fn unknown<T>(place: &Place<'_>, any: &Any) -> Option<T> {
    place.fault(format_args!(
        "{} is no filter that is known here; mark it as optional, or leave it out",
        Quoted(value::type_name(any))
    ))
}

/// The chain of a client's listener; what it says is what routes say that say nothing.
pub(super) fn chain(place: &Place<'_>, filters: &[hcm::HttpFilter]) -> Option<PerRoute> {
    if filters.is_empty() {
        return place.fault("is empty; the last filter must be envoy.filters.http.router");
    }
    let mut all = PerRoute::default();
    let mut names = HashSet::new();
    let mut fine = Some(());
    for (index, filter) in filters.iter().enumerate() {
        let place = place.index(index);
        let last = index + 1 == filters.len();
        let name = value::filled(&place.field("name"), &filter.name);
        if !names.insert(filter.name.as_str()) && name.is_some() {
            fine = place.field("name").fault(format_args!(
                "{} stands twice; names of filters are unique",
                Quoted(&filter.name)
            ));
        }
        match one_filter(&place, filter, last) {
            Some(one) if !filter.disabled => all = all.overridden_by(one),
            Some(_) => {}
            None => fine = None,
        }
    }
    fine.map(|()| all)
}

fn one_filter(place: &Place<'_>, filter: &hcm::HttpFilter, last: bool) -> Option<PerRoute> {
    use hcm::http_filter::ConfigType;
    let place = place.field("typed_config");
    let any = match &filter.config_type {
        Some(ConfigType::TypedConfig(any)) => any,
        Some(ConfigType::ConfigDiscovery(_)) => {
            return place.fault("comes by another resource, which is not supported; inline it");
        }
        None => return place.fault("is missing"),
    };
    let router = value::is::<router::Router>(any);
    if router != last {
        return match last {
            true => place.fault("is the last filter and no envoy.extensions.filters.http.router.v3.Router; the router ends each chain"),
            false => place.fault("is the router, and filters follow it; the router is the last one"),
        };
    }
    if router {
        return Some(PerRoute::default());
    }
    if value::is::<fault_wire::HttpFault>(any) {
        let message: fault_wire::HttpFault = value::unpack(&place, any)?;
        let fault = fault::fault(&place, &message)?;
        let nothing = fault.delay.is_none() && fault.abort.is_none();
        return Some(PerRoute {
            fault: if nothing {
                Said::Nothing
            } else {
                Said::This(fault)
            },
            session: Said::Nothing,
        });
    }
    if value::is::<session::StatefulSession>(any) {
        let message: session::StatefulSession = value::unpack(&place, any)?;
        return Some(PerRoute {
            fault: Said::Nothing,
            session: affinity::session(&place, &message)?.map_or(Said::Nothing, Said::This),
        });
    }
    let harmless = HARMLESS.contains(&value::type_name(any));
    if filter.is_optional || harmless {
        return Some(PerRoute::default());
    }
    unknown(&place, any)
}
