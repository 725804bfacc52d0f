//! What keeps requests together: hash policies (gRFC A42) and session cookies (gRFC A55).

use std::num::NonZeroU64;
use std::time::Duration;

use super::place::Place;
use super::value;
use crate::model::affinity::{
    HashCookie, HashPolicy, HashSource, MadeCookie, Session, SessionCookie, SessionKey,
};
use crate::source::xds::proto::route::route_action as wire;
use crate::source::xds::proto::{session as session_wire, session_cookie, session_header};

/// What gRPC's filter state of the channel is called: the same for all requests of a client.
pub(in crate::source::xds) const CHANNEL_ID: &str = "io.grpc.channel_id";

/// What a strict session is answered with whose endpoint is gone, as requests are that find none.
const UNAVAILABLE: u32 = 503;

pub(super) fn hash(place: &Place<'_>, policies: &[wire::HashPolicy]) -> Option<Vec<HashPolicy>> {
    let all: Vec<Option<Option<HashPolicy>>> = policies
        .iter()
        .enumerate()
        .map(|(index, policy)| hash_policy(&place.index(index), policy))
        .collect();
    let all: Vec<Option<HashPolicy>> = all.into_iter().collect::<Option<_>>()?;
    Some(all.into_iter().flatten().collect())
}

/// `Some(None)`: it yields nothing (gRFC A42).
fn hash_policy(place: &Place<'_>, message: &wire::HashPolicy) -> Option<Option<HashPolicy>> {
    use wire::hash_policy::PolicySpecifier as Specifier;
    let source = match &message.policy_specifier {
        None => return Some(None),
        Some(Specifier::Header(header)) => {
            let place = place.field("header");
            let name = value::header_name(&place.field("header_name"), &header.header_name);
            match &header.regex_rewrite {
                None => HashSource::Header(name?),
                Some(rewrite) => {
                    let rewrite = value::rewrite(&place.field("regex_rewrite"), rewrite);
                    let (pattern, to) = rewrite?;
                    HashSource::RewrittenHeader {
                        name: name?,
                        pattern,
                        to,
                    }
                }
            }
        }
        Some(Specifier::Cookie(cookie)) => {
            HashSource::Cookie(hash_cookie(&place.field("cookie"), cookie)?)
        }
        Some(Specifier::QueryParameter(query)) => {
            let place = place.field("query_parameter");
            HashSource::Query(value::filled(&place.field("name"), &query.name)?.into())
        }
        Some(Specifier::ConnectionProperties(properties)) if properties.source_ip => {
            HashSource::Source
        }
        Some(Specifier::FilterState(state)) if state.key == CHANNEL_ID => HashSource::Source,
        Some(Specifier::ConnectionProperties(_) | Specifier::FilterState(_)) => return Some(None),
    };
    Some(Some(HashPolicy {
        source,
        terminal: message.terminal,
    }))
}

fn hash_cookie(place: &Place<'_>, message: &wire::hash_policy::Cookie) -> Option<HashCookie> {
    let name = value::filled(&place.field("name"), &message.name);
    let made = match message.ttl {
        None => Some(None),
        Some(ttl) => value::duration(&place.field("ttl"), ttl).map(|ttl| {
            let attributes = message.attributes.iter().map(|attribute| {
                let value = (!attribute.value.is_empty()).then(|| attribute.value.as_str().into());
                (attribute.name.as_str().into(), value)
            });
            Some(MadeCookie {
                max_age: NonZeroU64::new(ttl.as_secs()),
                path: (!message.path.is_empty()).then(|| message.path.as_str().into()),
                attributes: attributes.collect(),
            })
        }),
    };
    Some(HashCookie {
        name: name?.into(),
        made: made?,
    })
}

/// `Some(None)`: there is no session state.
pub(super) fn session(
    place: &Place<'_>,
    message: &session_wire::StatefulSession,
) -> Option<Option<Session>> {
    let session_wire::StatefulSession {
        session_state,
        strict,
        stat_prefix: _,
        status_on_strict_destination_not_found: status,
    } = message;
    let strict = *strict;
    if strict && !matches!(*status, 0 | UNAVAILABLE) {
        return place
            .field("status_on_strict_destination_not_found")
            .fault(format_args!(
                "is {status}; only 503 is supported, or 0 for it"
            ));
    }
    let Some(state) = session_state else {
        return Some(None);
    };
    let place = place.field("session_state.typed_config");
    let any = place.required(state.typed_config.as_ref())?;
    if value::is::<session_header::HeaderBasedSessionState>(any) {
        let state: session_header::HeaderBasedSessionState = value::unpack(&place, any)?;
        return match state.name.parse() {
            Ok(name) => Some(Some(Session {
                key: SessionKey::Header(name),
                strict,
            })),
            Err(_) => place.field("name").fault("is no name of a header"),
        };
    }
    let state: session_cookie::CookieBasedSessionState = value::unpack(&place, any)?;
    let cookie_place = place.field("cookie");
    let cookie = cookie_place.required(state.cookie)?;
    let name = value::filled(&cookie_place.field("name"), &cookie.name);
    let ttl = value::duration_or(&cookie_place.field("ttl"), cookie.ttl, Duration::ZERO);
    let key = SessionKey::Cookie(SessionCookie {
        cookie: name?.into(),
        path: (!cookie.path.is_empty()).then(|| cookie.path.as_str().into()),
        ttl: ttl?,
    });
    Some(Some(Session { key, strict }))
}
