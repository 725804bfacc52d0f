//! Listeners of clients: the name that a channel is opened for, and the way to its routes.

use std::sync::Arc;

use super::place::Place;
use super::{Scope, filters, routes, value};
use crate::model::Listener;
use crate::model::listener::Routes;
use crate::source::xds::filters::Chain;
use crate::source::xds::proto::{hcm, listener as wire};
use crate::source::xds::resource::Resource;

pub(super) fn listener(
    scope: Scope<'_>,
    place: &Place<'_>,
    message: &wire::Listener,
) -> Option<Resource> {
    let Some(api) = &message.api_listener else {
        return place.fault(
            "has no api_listener; a client's listener has one, with an HttpConnectionManager",
        );
    };
    let place = place.field("api_listener.api_listener");
    let any = place.required(api.api_listener.as_ref())?;
    let manager: hcm::HttpConnectionManager = value::unpack(&place, any)?;
    let (routes, chain) = manager_routes(scope, &place, &manager)?;
    let listener = Arc::new(Listener {
        name: message.name.as_str().into(),
        routes,
        origin: scope.origin(&message.name),
    });
    Some(Resource::Listener {
        listener,
        chain: Arc::new(chain),
    })
}

fn manager_routes(
    scope: Scope<'_>,
    place: &Place<'_>,
    message: &hcm::HttpConnectionManager,
) -> Option<(Routes, Chain)> {
    use hcm::http_connection_manager::RouteSpecifier as Specifier;
    let trusted = trusts_no_header(place, message);
    let filters_place = place.field("http_filters");
    let filters = filters::chain(&filters_place, &message.http_filters);
    let options = message.common_http_protocol_options.as_ref();
    let max_stream_duration = value::limit(
        &place.field("common_http_protocol_options.max_stream_duration"),
        options.and_then(|options| options.max_stream_duration),
    );
    let chain = filters
        .zip(max_stream_duration)
        .map(|(filters, stream_bound)| Chain {
            filters,
            stream_bound,
        });
    let routes = match &message.route_specifier {
        Some(Specifier::RouteConfig(routes)) => {
            let place = place.field("route_config");
            let found = routes::configuration(scope, &place, routes);
            found
                .zip(chain.as_ref())
                .map(|((routes, said), chain)| Routes::Inline(chain.over(&Arc::new(routes), &said)))
        }
        Some(Specifier::Rds(rds)) => {
            let place = place.field("rds");
            let source =
                value::own_stream(&place.field("config_source"), rds.config_source.as_ref());
            let name = value::filled(&place.field("route_config_name"), &rds.route_config_name);
            source.and(name).map(|name| Routes::Named(name.into()))
        }
        Some(Specifier::ScopedRoutes(_)) => place
            .field("scoped_routes")
            .fault("is not supported; rds and route_config are"),
        None => place.fault("has no route_specifier; rds and route_config are allowed"),
    };
    trusted?;
    routes.zip(chain)
}

/// The peer is who is connected, not who a header says (gRFC A41).
fn trusts_no_header(place: &Place<'_>, message: &hcm::HttpConnectionManager) -> Option<()> {
    let mut fine = Some(());
    if message.xff_num_trusted_hops != 0 {
        fine = place.field("xff_num_trusted_hops").fault(format_args!(
            "is {}; only 0 is supported",
            message.xff_num_trusted_hops
        ));
    }
    if !message.original_ip_detection_extensions.is_empty() {
        fine = place
            .field("original_ip_detection_extensions")
            .fault("is not supported; leave it empty");
    }
    fine
}
