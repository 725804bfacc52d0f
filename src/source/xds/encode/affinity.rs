//! What keeps requests together.

use std::num::NonZeroU64;
use std::time::Duration;

use super::loss::Loss;
use super::{Pen, value};
use crate::model::affinity::{
    HashCookie, HashPolicy, HashSource, MadeCookie, Session, SessionCookie, SessionKey,
};
use crate::source::xds::decode::CHANNEL_ID;
use crate::source::xds::extra::any;
use crate::source::xds::proto::route::route_action as wire;
use crate::source::xds::proto::{Any, core, http_type, route, session as session_wire};
use crate::source::xds::proto::{session_cookie, session_header};

/// The filter that reads session cookies.
pub(super) const FILTER: &str = "envoy.filters.http.stateful_session";

pub(super) fn hash(pen: &mut Pen<'_>, policies: &[HashPolicy]) -> Vec<wire::HashPolicy> {
    policies
        .iter()
        .map(|model| hash_policy(pen, model))
        .collect()
}

fn hash_policy(pen: &mut Pen<'_>, model: &HashPolicy) -> wire::HashPolicy {
    use wire::hash_policy::{
        ConnectionProperties, FilterState, Header, PolicySpecifier as Specifier, QueryParameter,
    };
    let HashPolicy { source, terminal } = model;
    let specifier = match source {
        HashSource::Cookie(cookie) => {
            pen.lose_if(pen.is_grpc(), Loss::HashSource);
            Specifier::Cookie(hash_cookie(cookie))
        }
        HashSource::Header(name) => Specifier::Header(Header {
            header_name: name.as_str().to_owned(),
            regex_rewrite: None,
        }),
        HashSource::Query(name) => {
            pen.lose_if(pen.is_grpc(), Loss::HashSource);
            Specifier::QueryParameter(QueryParameter {
                name: name.to_string(),
            })
        }
        HashSource::RewrittenHeader { name, pattern, to } => Specifier::Header(Header {
            header_name: name.as_str().to_owned(),
            regex_rewrite: Some(value::rewrite(pattern.compiled().as_str(), to)),
        }),
        HashSource::Source if pen.is_grpc() => Specifier::FilterState(FilterState {
            key: CHANNEL_ID.to_owned(),
        }),
        HashSource::Source => {
            Specifier::ConnectionProperties(ConnectionProperties { source_ip: true })
        }
    };
    wire::HashPolicy {
        terminal: *terminal,
        policy_specifier: Some(specifier),
    }
}

fn hash_cookie(model: &HashCookie) -> wire::hash_policy::Cookie {
    let HashCookie { name, made } = model;
    let mut message = wire::hash_policy::Cookie {
        name: name.to_string(),
        ..wire::hash_policy::Cookie::default()
    };
    if let Some(MadeCookie {
        max_age,
        path,
        attributes,
    }) = made
    {
        let seconds = max_age.map_or(0, NonZeroU64::get);
        message.ttl = Some(value::duration(Duration::from_secs(seconds)));
        message.path = path.as_deref().unwrap_or_default().to_owned();
        let attributes =
            attributes
                .iter()
                .map(|(name, value)| wire::hash_policy::CookieAttribute {
                    name: name.to_string(),
                    value: value.as_deref().unwrap_or_default().to_owned(),
                });
        message.attributes = attributes.collect();
    }
    message
}

/// What a route says of the filter. Clients that do not know it may leave it alone.
pub(super) fn session(pen: &mut Pen<'_>, model: &Session) -> Any {
    use session_wire::stateful_session_per_route::Override;
    let Session { key, strict } = model;
    pen.lose_if(pen.is_grpc() && *strict, Loss::StrictSession);
    let (name, state) = match key {
        SessionKey::Cookie(SessionCookie { cookie, path, ttl }) => {
            let state = session_cookie::CookieBasedSessionState {
                cookie: Some(http_type::Cookie {
                    name: cookie.to_string(),
                    ttl: (!ttl.is_zero()).then(|| value::duration(*ttl)),
                    path: path.as_deref().unwrap_or_default().to_owned(),
                    ..http_type::Cookie::default()
                }),
            };
            ("envoy.http.stateful_session.cookie", any(&state))
        }
        SessionKey::Header(name) => {
            let name = name.to_string();
            let state = session_header::HeaderBasedSessionState { name };
            ("envoy.http.stateful_session.header", any(&state))
        }
    };
    let session = session_wire::StatefulSession {
        session_state: Some(core::TypedExtensionConfig {
            name: name.to_owned(),
            typed_config: Some(state),
        }),
        strict: *strict,
        ..session_wire::StatefulSession::default()
    };
    let of_route = session_wire::StatefulSessionPerRoute {
        r#override: Some(Override::StatefulSession(session)),
    };
    any(&route::FilterConfig {
        config: Some(any(&of_route)),
        is_optional: true,
        disabled: false,
    })
}
