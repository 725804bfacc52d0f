//! HTTP filters: the chain of a listener, and what virtual hosts and routes say of its filters.
//!
//! A filter's kind is told by the type of its configuration, as in gRFC A39; its name only joins the
//! chain and the overrides. One that is not known is refused unless it is optional. Overrides of a
//! filter that is not in the chain have no effect, so those of harmless types (CORS, which browsers
//! need and clients do not) are left alone.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::mem::{Discriminant, discriminant};
use std::sync::Arc;

use super::listener::Side;
use super::owner::Names;
use super::place::{Place, Quoted};
use super::{Scope, affinity, fault, rate, rbac, token, value};
use crate::model::custom::CustomFilter;
use crate::source::xds::filters::{Config, Filter, Override, Overrides};
use crate::source::xds::proto::{
    Any, fault as fault_wire, hcm, jwt, local_rate, rbac_filter, route, router, session,
};

/// Filters whose configuration says nothing that a client could do.
const HARMLESS: &[&str] = &[
    "envoy.extensions.filters.http.cors.v3.Cors",
    "envoy.extensions.filters.http.cors.v3.CorsPolicy",
    "envoy.extensions.filters.http.grpc_stats.v3.FilterConfig",
];

/// The overrides of one level.
pub(super) fn per_route(
    scope: Scope<'_>,
    place: &Place<'_>,
    configs: &HashMap<String, Any>,
) -> Overrides {
    // In the order of their names, so that faults come in the same order each time.
    let configs: BTreeMap<&String, &Any> = configs.iter().collect();
    // Names of a map are not repeated.
    let names = Names::of(std::iter::empty());
    let said = |(name, any): (&String, &Any)| {
        let scope = scope.owned(names.owner(&scope.owner, 0, name));
        let said = one_override(scope, &place.key(name), any)??;
        Some((name.as_str().into(), said))
    };
    configs.into_iter().filter_map(said).collect()
}

/// `Some(None)`: it says nothing.
fn one_override(scope: Scope<'_>, place: &Place<'_>, any: &Any) -> Option<Option<Override>> {
    if !value::is::<route::FilterConfig>(any) {
        return typed_override(scope, place, any, false);
    }
    let wrapped: route::FilterConfig = value::unpack(place, any)?;
    let Some(config) = &wrapped.config else {
        if wrapped.disabled {
            return Some(Some(Override::Off));
        }
        return place.field("config").fault("is missing");
    };
    let found = typed_override(scope, &place.field("config"), config, wrapped.is_optional)?;
    Some(match wrapped.disabled {
        true => Some(Override::Off),
        false => found,
    })
}

fn typed_override(
    scope: Scope<'_>,
    place: &Place<'_>,
    any: &Any,
    optional: bool,
) -> Option<Option<Override>> {
    if value::is::<fault_wire::HttpFault>(any) {
        let message: fault_wire::HttpFault = value::unpack(place, any)?;
        return Some(Some(Override::Fault(fault::fault(place, &message)?)));
    }
    if value::is::<rbac_filter::RbacPerRoute>(any) {
        let message: rbac_filter::RbacPerRoute = value::guarded(place, any)?;
        let stage = match &message.rbac {
            None => None,
            Some(message) => rbac::stage(scope, &place.field("rbac"), "", message)?,
        };
        return Some(Some(Override::Rbac(stage)));
    }
    if value::is::<session::StatefulSessionPerRoute>(any) {
        return session_override(place, any);
    }
    if value::is::<jwt::PerRouteConfig>(any) {
        let message: jwt::PerRouteConfig = value::guarded(place, any)?;
        let name = token::per_route(place, &message)?;
        return Some(Some(name.map_or(Override::Off, Override::Jwt)));
    }
    if value::is::<local_rate::LocalRateLimit>(any) {
        let message: local_rate::LocalRateLimit = value::guarded(place, any)?;
        // Each override has buckets of its own.
        let limit = rate::limit(scope, place, &scope.owner.to_string(), &message)?;
        return Some(Some(Override::Limit(limit)));
    }
    if let Some(own) = custom(scope, place, "", any) {
        return Some(Some(Override::Custom(own?)));
    }
    if !optional && !HARMLESS.contains(&value::type_name(any)) {
        return unknown(place, any);
    }
    Some(None)
}

/// A filter that the program has added; `None`: none of them is configured by this message.
fn custom(
    scope: Scope<'_>,
    place: &Place<'_>,
    name: &str,
    any: &Any,
) -> Option<Option<CustomFilter>> {
    let message = value::type_name(any);
    Some(match scope.filters.check(message, &any.value)? {
        Ok(()) => Some(CustomFilter {
            name: name.into(),
            message: message.into(),
            config: bytes::Bytes::copy_from_slice(&any.value),
        }),
        Err(why) => place.fault(Quoted(&why)),
    })
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

/// The chain of a listener, without its router and without filters that do nothing here.
pub(super) fn chain(
    scope: Scope<'_>,
    place: &Place<'_>,
    filters: &[hcm::HttpFilter],
    side: Side,
) -> Option<Vec<Filter>> {
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
        match one_filter(scope, &typed, filter, last, side) {
            // Each of several RBAC filters and limits is asked; of the others one place is there in a route.
            Some(Some(config))
                if !matches!(
                    config,
                    Config::Custom(_) | Config::Limit(_) | Config::Rbac(_)
                ) && !kinds.insert(discriminant(&config)) =>
            {
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
fn one_filter(
    scope: Scope<'_>,
    place: &Place<'_>,
    filter: &hcm::HttpFilter,
    last: bool,
    side: Side,
) -> Option<Option<Config>> {
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
    if let (Side::Server, true) = (side, value::is::<rbac_filter::Rbac>(any)) {
        let message: rbac_filter::Rbac = value::guarded(place, any)?;
        return rbac::stage(scope, place, &filter.name, &message)
            .map(|stage| Some(Config::Rbac(stage)));
    }
    if let (Side::Server, true) = (side, value::is::<jwt::JwtAuthentication>(any)) {
        let message: jwt::JwtAuthentication = value::guarded(place, any)?;
        let jwt = token::filter(scope, place, &message)?;
        return Some(Some(Config::Jwt(Arc::new(jwt))));
    }
    if value::is::<local_rate::LocalRateLimit>(any) {
        let message: local_rate::LocalRateLimit = value::guarded(place, any)?;
        let limit = rate::limit(scope, place, &filter.name, &message)?;
        return Some(Some(Config::Limit(limit)));
    }
    if let Some(own) = custom(scope, place, &filter.name, any) {
        return own.map(|own| Some(Config::Custom(own)));
    }
    // What follows is of clients: on a server it is a filter that is not supported (gRFC A39).
    if let Side::Server = side {
        if filter.is_optional || HARMLESS.contains(&value::type_name(any)) {
            return Some(None);
        }
        return unknown(place, any);
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
