//! Listeners: of clients the name that a channel is opened for and the way to its routes; those of
//! servers are in [`server`](super::server).

use std::sync::Arc;

use super::place::Place;
use super::{Scope, filters, routes, server, value};
use crate::model::Listener;
use crate::model::listener::Routes;
use crate::source::xds::filters::Chain;
use crate::source::xds::proto::{hcm, listener as wire};
use crate::source::xds::resource::Resource;
use crate::source::xds::server::RoutesOf;

/// Who has the listener.
#[derive(Clone, Copy, Debug)]
pub(super) enum Side {
    Client,
    Server,
}

/// What a connection manager says.
pub(super) struct Manager {
    pub(super) routes: RoutesOf,
    pub(super) filters: Chain,
}

pub(super) fn listener(
    scope: Scope<'_>,
    place: &Place<'_>,
    message: &wire::Listener,
) -> Option<Resource> {
    let Some(api) = &message.api_listener else {
        if message.address.is_some() {
            return server::server(scope, place, message);
        }
        return place.fault(
            "has no api_listener and no address; a client's listener has the former, with an \
             HttpConnectionManager, a server's the latter",
        );
    };
    let place = place.field("api_listener.api_listener");
    let any = place.required(api.api_listener.as_ref())?;
    let manager: hcm::HttpConnectionManager = value::unpack(&place, any)?;
    let Manager { routes, filters } = self::manager(scope, &place, &manager, Side::Client)?;
    let listener = Arc::new(Listener {
        name: message.name.as_str().into(),
        routes: match routes {
            RoutesOf::Inline(routes, said) => Routes::Inline(filters.over(&routes, &said)),
            RoutesOf::Named(name) => Routes::Named(name),
        },
        origin: scope.origin(&message.name),
    });
    Some(Resource::Listener {
        listener,
        chain: Arc::new(filters),
    })
}

pub(super) fn manager(
    scope: Scope<'_>,
    place: &Place<'_>,
    message: &hcm::HttpConnectionManager,
    side: Side,
) -> Option<Manager> {
    use hcm::http_connection_manager::RouteSpecifier as Specifier;
    let trusted = trusts_no_header(place, message);
    let filters = filters::chain(
        scope,
        &place.field("http_filters"),
        &message.http_filters,
        side,
    );
    let options = message.common_http_protocol_options.as_ref();
    let max_stream_duration = value::limit(
        &place.field("common_http_protocol_options.max_stream_duration"),
        options.and_then(|options| options.max_stream_duration),
    );
    let routes = match &message.route_specifier {
        Some(Specifier::RouteConfig(routes)) => {
            let found = routes::configuration(scope, &place.field("route_config"), routes);
            found.map(|(routes, said)| RoutesOf::Inline(Arc::new(routes), Arc::new(said)))
        }
        Some(Specifier::Rds(rds)) => {
            let place = place.field("rds");
            let source =
                value::own_stream(&place.field("config_source"), rds.config_source.as_ref());
            let name = value::filled(&place.field("route_config_name"), &rds.route_config_name);
            source.and(name).map(|name| RoutesOf::Named(name.into()))
        }
        Some(Specifier::ScopedRoutes(_)) => place
            .field("scoped_routes")
            .fault("is not supported; rds and route_config are"),
        None => place.fault("has no route_specifier; rds and route_config are allowed"),
    };
    trusted?;
    let filters = Chain {
        filters: filters?,
        stream_bound: max_stream_duration?,
    };
    Some(Manager {
        routes: routes?,
        filters,
    })
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
