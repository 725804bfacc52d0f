//! HTTP filters: the chain of a listener, and what virtual hosts and routes say of its filters.
//!
//! A filter's kind is told by the type of its configuration, as in gRFC A39; its name only joins the
//! chain and the overrides. One that is not known is refused unless it is optional. Overrides of a
//! filter that is not in the chain have no effect, so those of harmless types (CORS, which browsers
//! need and clients do not) are left alone.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::mem::{Discriminant, discriminant};

use super::place::{Place, Quoted};
use super::value;
use super::{affinity, fault};
use crate::source::xds::filters::{Config, Filter, Override, Overrides};
use crate::source::xds::proto::{Any, fault as fault_wire, hcm, route, router, session};

/// Filters whose configuration says nothing that a client could do.
const HARMLESS: &[&str] = &[
    "envoy.extensions.filters.http.cors.v3.Cors",
    "envoy.extensions.filters.http.cors.v3.CorsPolicy",
    "envoy.extensions.filters.http.grpc_stats.v3.FilterConfig",
];

/// The overrides of one level.
pub(super) fn per_route(place: &Place<'_>, configs: &HashMap<String, Any>) -> Overrides {
    // In the order of their names, so that faults come in the same order each time.
    let configs: BTreeMap<&String, &Any> = configs.iter().collect();
    let said = |(name, any): (&String, &Any)| {
        let said = one_override(&place.key(name), any)??;
        Some((name.as_str().into(), said))
    };
    configs.into_iter().filter_map(said).collect()
}

/// `Some(None)`: it says nothing.
fn one_override(place: &Place<'_>, any: &Any) -> Option<Option<Override>> {
    if !value::is::<route::FilterConfig>(any) {
        return typed_override(place, any, false);
    }
    let wrapped: route::FilterConfig = value::unpack(place, any)?;
    let Some(config) = &wrapped.config else {
        if wrapped.disabled {
            return Some(Some(Override::Off));
        }
        return place.field("config").fault("is missing");
    };
    let found = typed_override(&place.field("config"), config, wrapped.is_optional)?;
    Some(match wrapped.disabled {
        true => Some(Override::Off),
        false => found,
    })
}

fn typed_override(place: &Place<'_>, any: &Any, optional: bool) -> Option<Option<Override>> {
    if value::is::<fault_wire::HttpFault>(any) {
        let message: fault_wire::HttpFault = value::unpack(place, any)?;
        return Some(Some(Override::Fault(fault::fault(place, &message)?)));
    }
    if value::is::<session::StatefulSessionPerRoute>(any) {
        return session_override(place, any);
    }
    if !optional && !HARMLESS.contains(&value::type_name(any)) {
        return unknown(place, any);
    }
    Some(None)
}

fn session_override(place: &Place<'_>, any: &Any) -> Option<Option<Override>> {
    use session::stateful_session_per_route::Override as Wire;
    let message: session::StatefulSessionPerRoute = value::unpack(place, any)?;
    match &message.r#override {
        None => Some(None),
        Some(Wire::Disabled(false)) => place
            .field("disabled")
            .fault("is false; only true is allowed"),
        Some(Wire::Disabled(true)) => Some(Some(Override::Off)),
        Some(Wire::StatefulSession(message)) => {
            let place = place.field("stateful_session");
            let session = affinity::session(&place, message)?;
            Some(Some(Override::Session(session)))
        }
    }
}

fn unknown<T>(place: &Place<'_>, any: &Any) -> Option<T> {
    place.fault(format_args!(
        "{} is no filter that is known here; mark it as optional, or leave it out",
        Quoted(value::type_name(any))
    ))
}

/// The chain of a client's listener, without its router and without filters that do nothing here.
pub(super) fn chain(place: &Place<'_>, filters: &[hcm::HttpFilter]) -> Option<Vec<Filter>> {
    if filters.is_empty() {
        return place.fault("is empty; the last filter must be envoy.filters.http.router");
    }
    let mut all = Vec::new();
    let mut names = HashSet::new();
    let mut kinds: HashSet<Discriminant<Config>> = HashSet::new();
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
        let typed = place.field("typed_config");
        match one_filter(&typed, filter, last) {
            Some(Some(config)) if !kinds.insert(discriminant(&config)) => {
                fine = typed.fault("is the second filter of its type; one of each is supported");
            }
            Some(Some(config)) => all.push(Filter {
                name: filter.name.as_str().into(),
                config,
                disabled: filter.disabled,
            }),
            Some(None) => {}
            None => fine = None,
        }
    }
    fine.map(|()| all)
}

/// `Some(None)`: it does nothing here.
fn one_filter(place: &Place<'_>, filter: &hcm::HttpFilter, last: bool) -> Option<Option<Config>> {
    use hcm::http_filter::ConfigType;
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
        return Some(None);
    }
    if value::is::<fault_wire::HttpFault>(any) {
        let message: fault_wire::HttpFault = value::unpack(place, any)?;
        let fault = fault::fault(place, &message)?;
        let injects = fault.delay.is_some() || fault.abort.is_some();
        return Some(Some(Config::Fault(injects.then_some(fault))));
    }
    if value::is::<session::StatefulSession>(any) {
        let message: session::StatefulSession = value::unpack(place, any)?;
        return Some(Some(Config::Session(affinity::session(place, &message)?)));
    }
    if filter.is_optional || HARMLESS.contains(&value::type_name(any)) {
        return Some(None);
    }
    unknown(place, any)
}
