//! `sessionPersistence` of both kinds of routes.

use http::HeaderName;

use crate::source::istio::kinds::gateway_api::{CookieConfig, SessionPersistence};
use crate::source::istio::validate::Checker;

/// The longest name (GEP-1619).
const LONGEST_NAME: usize = 128;

pub(super) fn session(check: &mut Checker<'_>, block: &SessionPersistence) {
    let SessionPersistence {
        session_name,
        absolute_timeout,
        idle_timeout,
        persistence_type,
        cookie_config,
    } = block;
    let header = persistence_type.as_deref() == Some("Header");
    if let Some(other) = persistence_type
        .as_deref()
        .filter(|one| !matches!(*one, "Cookie" | "Header"))
    {
        check.error_at("type", format!("{other:?} is neither Cookie nor Header"));
    }
    if let Some(name) = session_name.as_deref() {
        // A cookie's name is a token, as a header's is (RFC 6265 §4.1.1).
        if name.len() > LONGEST_NAME || name.parse::<HeaderName>().is_err() {
            let text = format!("{name:?} is no name of a cookie or header of up to 128 characters");
            check.error_at("sessionName", text);
        }
    }
    let permanent = cookie_config.as_ref().is_some_and(|config| {
        cookie(check, config, header);
        config.lifetime_type.as_deref() == Some("Permanent")
    });
    if permanent && absolute_timeout.is_none() {
        let text = "a Permanent cookie needs it: it is how long the cookie lives";
        check.error_at("absoluteTimeout", text);
    }
    let reason = "only a Permanent cookie has a clock, the caller's";
    check.no_effect(
        "absoluteTimeout",
        absolute_timeout.is_some() && !permanent,
        reason,
    );
    let reason =
        "the session is in what the caller sends, which does not say when it was used last";
    check.no_effect("idleTimeout", idle_timeout.is_some(), reason);
}

fn cookie(check: &mut Checker<'_>, config: &CookieConfig, header: bool) {
    check.within("cookieConfig", |check| {
        if header {
            check.error("cookieConfig is for the type Cookie, and the type is Header");
        }
        let lifetime = config.lifetime_type.as_deref();
        if let Some(other) = lifetime.filter(|one| !matches!(*one, "Permanent" | "Session")) {
            check.error_at(
                "lifetimeType",
                format!("{other:?} is neither Permanent nor Session"),
            );
        }
    });
}
