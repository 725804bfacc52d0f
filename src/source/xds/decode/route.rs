//! One route.

use super::headers::{self, Level};
use super::place::Place;
use super::routes::Around;
use super::{Scope, action, answer, filters, matches};
use crate::model::route::{Action, HeaderChanges, Route};
use crate::source::xds::extra::{self, RouteExtra};
use crate::source::xds::filters::{self as chain, OfRoute, Overrides};
use crate::source::xds::proto::route as wire;

/// The route, and what it says of the filters of its listener.
pub(super) fn route(
    scope: Scope<'_>,
    place: &Place<'_>,
    message: &wire::Route,
    around: &Around<'_>,
) -> Option<(Route, OfRoute)> {
    let extra: RouteExtra = extra::of(message.metadata.as_ref());
    let match_place = place.field("match");
    let matcher = match_place
        .required(message.r#match.as_ref())
        .and_then(|message| matches::route(&match_place, message, &extra));
    let own = filters::per_route(
        scope,
        &place.field("typed_per_filter_config"),
        &message.typed_per_filter_config,
    );
    let overrides = chain::over(&around.filters, own);
    let changes = headers::ordered(
        place,
        &Level {
            request_add: &message.request_headers_to_add,
            request_remove: &message.request_headers_to_remove,
            response_add: &message.response_headers_to_add,
            response_remove: &message.response_headers_to_remove,
        },
        &extra.request_order,
        &extra.response_order,
    );
    let parts = action::Parts {
        around,
        extra: &extra,
        scope,
        overrides: &overrides,
        matched: matcher.as_ref().map(|matcher| &matcher.path),
    };
    let (mut action, destinations, bounded) = self::action(place, message, &parts)?;
    let (matcher, changes) = (matcher?, changes?);
    let headers = levels(&mut action, changes, around);
    let route = Route {
        name: message.name.as_str().into(),
        matcher,
        action,
        headers,
        fault: chain::alone(&overrides).fault,
        filters: Vec::new(),
        limits: Vec::new(),
        stat_prefix: (!message.stat_prefix.is_empty()).then(|| message.stat_prefix.as_str().into()),
        origin: scope.origin(&message.name),
    };
    let said = OfRoute {
        overrides,
        destinations,
        bounded,
    };
    Some((route, said))
}

/// An action, what its destinations say of filters, and whether it bounds a whole stream.
type Acted = (Action, Vec<Overrides>, bool);

fn action(place: &Place<'_>, message: &wire::Route, parts: &action::Parts<'_>) -> Option<Acted> {
    let plain = |action: Action| (action, Vec::new(), false);
    use wire::route::Action as Wire;
    match &message.action {
        None => place.fault(
            "has no action; route, redirect, direct_response and non_forwarding_action are allowed",
        ),
        Some(Wire::Route(forward)) => {
            let bounded = action::is_bounded(forward);
            let forward = action::forward(&place.field("route"), forward, parts)?;
            Some(match forward {
                Some((forward, said)) => (Action::Forward(Box::new(forward)), said, bounded),
                None => plain(Action::Unknown),
            })
        }
        Some(Wire::Redirect(redirect)) => {
            let place = place.field("redirect");
            answer::redirect(&place, redirect, parts)
                .map(|redirect| plain(Action::Redirect(redirect)))
        }
        Some(Wire::DirectResponse(direct)) => {
            answer::direct(&place.field("direct_response"), direct)
                .map(|direct| plain(Action::Direct(direct)))
        }
        Some(Wire::NonForwardingAction(_)) => Some(plain(Action::Serve)),
        Some(Wire::FilterAction(_)) => place.field("filter_action").fault(
            "is not supported; route, redirect, direct_response and non_forwarding_action are \
             allowed",
        ),
    }
}

/// The route's changes and those around it, as one list.
///
/// The model applies those of the chosen cluster first. Where the outer levels come first in the
/// configuration, they are moved into the clusters, before their own.
fn levels(action: &mut Action, own: HeaderChanges, around: &Around<'_>) -> HeaderChanges {
    let outer = around.headers.clone();
    if !around.headers_first {
        return headers::joined(own, outer);
    }
    let all = headers::joined(outer, own);
    if let Action::Forward(forward) = action
        && forward
            .destinations
            .all()
            .iter()
            .any(|one| one.headers != HeaderChanges::default())
    {
        forward
            .destinations
            .map_headers(|own| headers::joined(all.clone(), own));
        return HeaderChanges::default();
    }
    all
}
