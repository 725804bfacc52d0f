//! Route configurations, virtual hosts, routes.

use std::collections::HashMap;

use super::loss::Loss;
use super::{Pen, action, affinity, fault, headers, matches};
use crate::model::RouteConfiguration;
use crate::model::route::{Action, Domain, HeaderChanges, Route, VirtualHost};
use crate::source::xds::extra::{self, RouteExtra};
use crate::source::xds::proto::{Any, route as wire};

pub(super) fn configuration(
    pen: &mut Pen<'_>,
    model: &RouteConfiguration,
) -> wire::RouteConfiguration {
    let RouteConfiguration {
        name,
        virtual_hosts,
        origin: _,
    } = model;
    let hosts = virtual_hosts.iter().map(|host| virtual_host(pen, host));
    wire::RouteConfiguration {
        name: name.to_string(),
        virtual_hosts: hosts.collect(),
        ..wire::RouteConfiguration::default()
    }
}

fn virtual_host(pen: &mut Pen<'_>, model: &VirtualHost) -> wire::VirtualHost {
    let VirtualHost {
        name,
        domains,
        routes,
        origin: _,
    } = model;
    let routes = routes
        .iter()
        .filter_map(|model| route(pen, model))
        .collect();
    wire::VirtualHost {
        name: name.to_string(),
        domains: domains.iter().map(domain).collect(),
        routes,
        ..wire::VirtualHost::default()
    }
}

fn domain(model: &Domain) -> String {
    match model {
        Domain::Any => "*".to_owned(),
        Domain::Exact(text) => text.to_string(),
        Domain::Prefix(text) => format!("{text}*"),
        Domain::Suffix(text) => format!("*{text}"),
    }
}

/// `None`: left out, because the dialect cannot say which requests it takes.
fn route(pen: &mut Pen<'_>, model: &Route) -> Option<wire::Route> {
    let Route {
        name,
        matcher,
        action,
        headers: changes,
        fault,
        // They are the program's that has them: nobody else could run them.
        filters: _,
        // No YAML says them: they come by xDS, and are not sent on.
        limits: _,
        stat_prefix,
        origin: _,
    } = model;
    pen.lose_if(
        pen.is_grpc() && stat_prefix.is_some(),
        Loss::RouteStatistics,
    );
    let mut extra = RouteExtra::default();
    let r#match = matches::route(pen, matcher, &mut extra)?;
    let mut filters: HashMap<String, Any> = HashMap::new();
    if let Some(fault) = fault {
        filters.insert(fault::FILTER.to_owned(), extra::any(&fault::fault(fault)));
    }
    let action = match action {
        Action::Direct(direct) => {
            pen.lose_if(pen.is_grpc(), Loss::BodyOfAnswers);
            wire::route::Action::DirectResponse(action::direct(direct))
        }
        Action::Forward(forward) => {
            if let Some(session) = &forward.affinity.session {
                filters.insert(affinity::FILTER.to_owned(), affinity::session(pen, session));
            }
            wire::route::Action::Route(action::forward(pen, forward, matcher, &mut extra))
        }
        Action::Redirect(redirect) => {
            pen.lose_if(pen.is_grpc(), Loss::BodyOfAnswers);
            wire::route::Action::Redirect(action::redirect(pen, redirect, matcher, &mut extra))
        }
        Action::Serve => {
            wire::route::Action::NonForwardingAction(wire::NonForwardingAction::default())
        }
        // A way of choosing that is unset is unknown, too. Other clients would leave the route out, or
        // refuse all of them for it.
        Action::Unknown if pen.is_meshwork() => {
            wire::route::Action::Route(wire::RouteAction::default())
        }
        Action::Unknown => return None,
    };
    let level = headers::level(pen, changes);
    if pen.is_meshwork() {
        extra.request_order = level.request_order;
        extra.response_order = level.response_order;
    }
    Some(wire::Route {
        name: name.to_string(),
        r#match: Some(r#match),
        action: Some(action),
        typed_per_filter_config: filters,
        request_headers_to_add: level.request_add,
        request_headers_to_remove: level.request_remove,
        response_headers_to_add: level.response_add,
        response_headers_to_remove: level.response_remove,
        metadata: match pen.is_meshwork() {
            true => extra::metadata(&extra),
            false => None,
        },
        stat_prefix: stat_prefix.as_deref().unwrap_or_default().to_owned(),
        ..wire::Route::default()
    })
}

/// Whether nothing is changed.
pub(super) fn unchanged(changes: &HeaderChanges) -> bool {
    changes.request.is_empty() && changes.response.is_empty()
}
