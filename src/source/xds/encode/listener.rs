//! Listeners of clients.

use prost::{Message, Name};

use super::{Pen, canonical, routes, value};
use crate::model::Listener;
use crate::model::listener::Routes;
use crate::source::xds::extra::any;
use crate::source::xds::proto::{Any, fault, hcm, listener as wire, router, session};

pub(super) fn listener(pen: &mut Pen<'_>, model: &Listener) -> wire::Listener {
    use hcm::http_connection_manager::RouteSpecifier;
    let Listener {
        name,
        routes,
        origin: _,
    } = model;
    let specifier = match routes {
        Routes::Inline(routes) => RouteSpecifier::RouteConfig(routes::configuration(pen, routes)),
        Routes::Named(name) => RouteSpecifier::Rds(hcm::Rds {
            config_source: Some(value::own_stream()),
            route_config_name: name.to_string(),
        }),
    };
    let manager = hcm::HttpConnectionManager {
        stat_prefix: name.to_string(),
        http_filters: chain(),
        route_specifier: Some(specifier),
        ..hcm::HttpConnectionManager::default()
    };
    wire::Listener {
        name: name.to_string(),
        api_listener: Some(wire::ApiListener {
            api_listener: Some(Any {
                type_url: hcm::HttpConnectionManager::type_url(),
                value: canonical::sorted(manager.encode_to_vec(), &canonical::MANAGER),
            }),
        }),
        ..wire::Listener::default()
    }
}

/// The filters that routes may say something of, and the router. Sessions are optional: grpc-go and
/// grpc-java do not know them.
fn chain() -> Vec<hcm::HttpFilter> {
    vec![
        filter(
            super::affinity::FILTER,
            any(&session::StatefulSession::default()),
            true,
        ),
        filter(
            super::fault::FILTER,
            any(&fault::HttpFault::default()),
            false,
        ),
        filter(
            "envoy.filters.http.router",
            any(&router::Router::default()),
            false,
        ),
    ]
}

fn filter(name: &str, config: Any, is_optional: bool) -> hcm::HttpFilter {
    hcm::HttpFilter {
        name: name.to_owned(),
        is_optional,
        disabled: false,
        config_type: Some(hcm::http_filter::ConfigType::TypedConfig(config)),
    }
}
