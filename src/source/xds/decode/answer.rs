//! Routes that are answered here: redirects and direct responses.

use bytes::Bytes;
use http::StatusCode;
use http::uri::Scheme;

use super::action::{self, Parts};
use super::place::{Place, Quoted};
use super::value;
use crate::model::route::{DirectResponse, PathRewrite, Redirect, RedirectPort};
use crate::source::xds::extra::RedirectPortSource;
use crate::source::xds::proto::{core, route as wire};

/// The longest body, in bytes (the model's bound).
const MAX_BODY: usize = 1 << 20;

pub(super) fn direct(
    place: &Place<'_>,
    message: &wire::DirectResponseAction,
) -> Option<DirectResponse> {
    let wire::DirectResponseAction {
        status,
        body,
        body_format,
    } = message;
    if body_format.is_some() {
        return place
            .field("body_format")
            .fault("is not supported; \"body\" is");
    }
    let status = value::status(&place.field("status"), *status);
    let body = body.as_ref().map_or(Some(Bytes::new()), |body| {
        self::body(&place.field("body"), body)
    });
    Some(DirectResponse {
        status: status?,
        body: body?,
    })
}

fn body(place: &Place<'_>, source: &core::DataSource) -> Option<Bytes> {
    use core::data_source::Specifier;
    let bytes = match &source.specifier {
        None => &[][..],
        Some(Specifier::InlineBytes(bytes)) => bytes,
        Some(Specifier::InlineString(text)) => text.as_bytes(),
        Some(Specifier::Filename(_) | Specifier::EnvironmentVariable(_)) => {
            return place.fault(
                "is read from this machine, which is not supported; inline_bytes and inline_string \
                 are allowed",
            );
        }
    };
    if bytes.len() > MAX_BODY {
        return place.fault(format_args!(
            "has {} bytes; at most {MAX_BODY} are allowed",
            bytes.len()
        ));
    }
    Some(Bytes::copy_from_slice(bytes))
}

pub(super) fn redirect(
    place: &Place<'_>,
    message: &wire::RedirectAction,
    parts: &Parts<'_>,
) -> Option<Redirect> {
    use wire::redirect_action::RedirectResponseCode as Code;
    if message.strip_query {
        return place
            .field("strip_query")
            .fault("is true, which is not supported; the query stays");
    }
    let status = match Code::try_from(message.response_code) {
        Ok(Code::MovedPermanently) => Some(StatusCode::MOVED_PERMANENTLY),
        Ok(Code::Found) => Some(StatusCode::FOUND),
        Ok(Code::SeeOther) => Some(StatusCode::SEE_OTHER),
        Ok(Code::TemporaryRedirect) => Some(StatusCode::TEMPORARY_REDIRECT),
        Ok(Code::PermanentRedirect) => Some(StatusCode::PERMANENT_REDIRECT),
        Err(_) => place.field("response_code").fault(format_args!(
            "{} is unknown; 0 to 4 are allowed",
            message.response_code
        )),
    };
    let scheme = scheme(place, message);
    let path = path(place, message, parts);
    let port = port(&place.field("port_redirect"), message.port_redirect, parts);
    Some(Redirect {
        status: status?,
        scheme: scheme?,
        host: (!message.host_redirect.is_empty()).then(|| message.host_redirect.as_str().into()),
        port: port?,
        path: path?,
    })
}

fn port(place: &Place<'_>, port: u32, parts: &Parts<'_>) -> Option<RedirectPort> {
    if port == 0 {
        return Some(
            match RedirectPortSource::try_from(parts.extra.redirect_port) {
                Ok(RedirectPortSource::FromRequest) => RedirectPort::FromRequest,
                Ok(RedirectPortSource::FromScheme) => RedirectPort::FromScheme,
                Ok(RedirectPortSource::Unchanged) | Err(_) => RedirectPort::Unchanged,
            },
        );
    }
    match u16::try_from(port) {
        Ok(port) => Some(RedirectPort::Fixed(port)),
        Err(_) => place.fault(format_args!("{port} is no port; 0 to 65535 is allowed")),
    }
}

fn scheme(place: &Place<'_>, message: &wire::RedirectAction) -> Option<Option<Scheme>> {
    use wire::redirect_action::SchemeRewriteSpecifier as Specifier;
    match &message.scheme_rewrite_specifier {
        None | Some(Specifier::HttpsRedirect(false)) => Some(None),
        Some(Specifier::HttpsRedirect(true)) => Some(Some(Scheme::HTTPS)),
        Some(Specifier::SchemeRedirect(text)) => match Scheme::try_from(text.as_str()) {
            Ok(scheme) => Some(Some(scheme)),
            Err(_) => place
                .field("scheme_redirect")
                .fault(format_args!("{} is no scheme", Quoted(text))),
        },
    }
}

fn path(
    place: &Place<'_>,
    message: &wire::RedirectAction,
    parts: &Parts<'_>,
) -> Option<Option<PathRewrite>> {
    use wire::redirect_action::PathRewriteSpecifier as Specifier;
    match &message.path_rewrite_specifier {
        None => Some(action::removed_prefix(parts)),
        Some(Specifier::PathRedirect(path)) => Some(Some(PathRewrite::Full(path.as_str().into()))),
        Some(Specifier::PrefixRewrite(to)) => Some(Some(action::prefix_rewrite(to, parts))),
        Some(Specifier::RegexRewrite(rewrite)) => {
            action::regex_rewrite(&place.field("regex_rewrite"), rewrite, parts).map(Some)
        }
        Some(Specifier::PathRewrite(_)) => place
            .field("path_rewrite")
            .fault("is not supported; path_redirect, prefix_rewrite and regex_rewrite are"),
    }
}
