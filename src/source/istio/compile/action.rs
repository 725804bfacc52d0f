//! What an HTTP rule does with a request, apart from choosing a destination: headers, rewrites,
//! redirects, answers of its own, injected faults.

use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::{Engine as _, alphabet};
use std::time::Duration;

use bytes::Bytes;
use http::uri::{Authority, Scheme};
use http::{HeaderName, HeaderValue, StatusCode};

use crate::error::GRPC_STATUSES;
use crate::model::Fraction;
use crate::model::fault::{Abort, AbortStatus, Amount, Delay, Fault};
use crate::model::matcher::{PathMatcher, RouteMatcher};
use crate::model::route::{
    DirectResponse, HeaderChange, HeaderChanges, PathRewrite, Redirect, RedirectPort,
    RewritePattern,
};
use crate::source::istio::kinds;

/// A field of a rule that cannot be put into the model, by its path within the rule. Reading
/// refuses all of these first; they are errors here too, so that nothing is dropped in silence.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Unusable {
    pub(super) path: &'static str,
    pub(super) text: String,
}

impl Unusable {
    pub(super) fn new(path: &'static str, text: impl Into<String>) -> Self {
        Self {
            path,
            text: text.into(),
        }
    }
}

// === Headers ===

/// The changes of a `headers` block; the authority among them is [`authority`]'s.
pub(super) fn headers(block: Option<&kinds::Headers>) -> Result<HeaderChanges, Unusable> {
    let Some(kinds::Headers { request, response }) = block else {
        return Ok(HeaderChanges::default());
    };
    Ok(HeaderChanges {
        request: changes(request.as_ref(), "headers.request")?,
        response: changes(response.as_ref(), "headers.response")?,
    })
}

/// Removals, then what is set, then what is added, each by name: Envoy's and istiod's order.
fn changes(
    block: Option<&kinds::HeaderOperations>,
    path: &'static str,
) -> Result<Vec<HeaderChange>, Unusable> {
    let Some(kinds::HeaderOperations { set, add, remove }) = block else {
        return Ok(Vec::new());
    };
    let mut changes = Vec::new();
    for header in remove {
        changes.push(HeaderChange::Remove(name(header, path)?));
    }
    for (header, text) in set.iter().filter(|(header, _)| !is_authority(header)) {
        changes.push(HeaderChange::Set(name(header, path)?, value(text, path)?));
    }
    for (header, text) in add.iter().filter(|(header, _)| !is_authority(header)) {
        changes.push(HeaderChange::Add(name(header, path)?, value(text, path)?));
    }
    Ok(changes)
}

/// The authority that a `headers` block sets, by `host` or `:authority` in `set` or `add`.
pub(super) fn authority(block: Option<&kinds::Headers>) -> Result<Option<Authority>, Unusable> {
    let request = block.and_then(|block| block.request.as_ref());
    let Some(kinds::HeaderOperations { set, add, .. }) = request else {
        return Ok(None);
    };
    let mut written = set.iter().chain(add).filter(|(key, _)| is_authority(key));
    written
        .next_back()
        .map(|(_, text)| parse_authority(text, "headers.request"))
        .transpose()
}

/// Reads what is sent as `:authority`.
pub(super) fn parse_authority(text: &str, path: &'static str) -> Result<Authority, Unusable> {
    text.parse()
        .map_err(|_| Unusable::new(path, format!("{text:?} is not an authority")))
}

fn is_authority(header: &str) -> bool {
    header.eq_ignore_ascii_case("host") || header.eq_ignore_ascii_case(":authority")
}

fn name(text: &str, path: &'static str) -> Result<HeaderName, Unusable> {
    HeaderName::from_bytes(text.as_bytes())
        .map_err(|_| Unusable::new(path, format!("{text:?} is not a header name")))
}

fn value(text: &str, path: &'static str) -> Result<HeaderValue, Unusable> {
    HeaderValue::from_str(&text.replace("%%", "%"))
        .map_err(|_| Unusable::new(path, format!("{text:?} is not a header value")))
}

/// Whether a header value asks Envoy for a substitution (`%REQ(...)%`), which is sent as it stands
/// here; `%%` is a literal percent sign.
pub(super) fn has_substitution(text: &str) -> bool {
    text.replace("%%", "").matches('%').count() >= 2
}

/// Both changes, as Envoy applies the list that istiod makes of a route and its only destination:
/// all removals first, then the route's values, then the destination's.
pub(super) fn joined(route: HeaderChanges, destination: HeaderChanges) -> HeaderChanges {
    let join = |mut all: Vec<HeaderChange>, more: Vec<HeaderChange>| {
        all.extend(more);
        all.sort_by_key(|change| match change {
            HeaderChange::Remove(_) => false,
            HeaderChange::Add(..)
            | HeaderChange::AddIfAbsent(..)
            | HeaderChange::Set(..)
            | HeaderChange::SetIfPresent(..) => true,
        });
        all
    };
    HeaderChanges {
        request: join(route.request, destination.request),
        response: join(route.response, destination.response),
    }
}

// === Rewrite and redirect ===

/// How `rewrite` changes the path, which depends on what was matched: a prefix is replaced, a path
/// that was matched as a whole (also by an expression) is replaced as a whole.
pub(super) fn path_rewrite(
    rewrite: &kinds::Rewrite,
    matched: &RouteMatcher,
) -> Result<Option<PathRewrite>, Unusable> {
    let kinds::Rewrite {
        uri,
        authority: _,
        uri_regex_rewrite,
    } = rewrite;
    if let Some(regex) = uri_regex_rewrite {
        const PATH: &str = "rewrite.uriRegexRewrite";
        let pattern = regex.matches.as_ref().map_or("", |text| &text.value);
        let to = regex.rewrite.as_ref().map_or("", |text| &text.value);
        return Ok(Some(PathRewrite::Regex {
            pattern: RewritePattern::new(pattern)
                .map_err(|error| Unusable::new(PATH, error.to_string()))?,
            to: to.into(),
        }));
    }
    Ok(uri
        .as_deref()
        .filter(|uri| !uri.is_empty())
        .map(|uri| replaced(&matched.path, uri)))
}

fn replaced(matched: &PathMatcher, to: &str) -> PathRewrite {
    match matched {
        PathMatcher::Prefix(from)
        | PathMatcher::PrefixIgnoreCase(from)
        | PathMatcher::SegmentPrefix(from) => PathRewrite::Prefix {
            from: from.clone(),
            to: to.into(),
        },
        PathMatcher::Exact(_) | PathMatcher::ExactIgnoreCase(_) | PathMatcher::Regex(_) => {
            PathRewrite::Full(to.into())
        }
    }
}

/// The answer of a `redirect`.
pub(super) fn redirect(
    block: &kinds::Redirect,
    matched: &RouteMatcher,
) -> Result<Redirect, Unusable> {
    let kinds::Redirect {
        uri,
        prefix_rewrite,
        authority,
        port,
        derive_port,
        scheme,
        redirect_code,
    } = block;
    let (host, written_port) = match authority.as_deref().filter(|text| !text.is_empty()) {
        None => (None, None),
        Some(text) => {
            let authority = parse_authority(text, "redirect.authority")?;
            (Some(authority.host().into()), authority.port_u16())
        }
    };
    Ok(Redirect {
        status: redirect_status(*redirect_code)?,
        scheme: match scheme.as_deref() {
            None | Some("") => None,
            Some("http") => Some(Scheme::HTTP),
            Some("https") => Some(Scheme::HTTPS),
            Some(other) => {
                let text = format!("unknown scheme {other:?}; http and https are allowed");
                return Err(Unusable::new("redirect.scheme", text));
            }
        },
        host,
        port: match (port.or(written_port), derive_port) {
            (Some(number), _) => RedirectPort::Fixed(number),
            (None, Some(kinds::RedirectPort::FromProtocolDefault)) => RedirectPort::FromScheme,
            (None, Some(kinds::RedirectPort::FromRequestPort)) => RedirectPort::FromRequest,
            (None, None) => RedirectPort::Unchanged,
        },
        path: match (uri.as_deref(), prefix_rewrite.as_deref()) {
            (Some(uri), _) if !uri.is_empty() => Some(PathRewrite::Full(uri.into())),
            (_, Some(prefix)) if !prefix.is_empty() => Some(replaced(&matched.path, prefix)),
            (_, _) => None,
        },
    })
}

fn redirect_status(code: Option<u16>) -> Result<StatusCode, Unusable> {
    match code {
        None | Some(0) => Ok(StatusCode::MOVED_PERMANENTLY),
        Some(code @ (301 | 302 | 303 | 307 | 308)) => StatusCode::from_u16(code)
            .map_err(|error| Unusable::new("redirect.redirectCode", error.to_string())),
        Some(other) => Err(Unusable::new(
            "redirect.redirectCode",
            format!("unknown code {other}; 301, 302, 303, 307 and 308 are allowed"),
        )),
    }
}

/// The answer of a `directResponse`.
pub(super) fn direct_response(block: &kinds::DirectResponse) -> Result<DirectResponse, Unusable> {
    let kinds::DirectResponse { status, body } = block;
    let body = match body {
        None => Bytes::new(),
        Some(kinds::ResponseBody { string, bytes }) => match (string, bytes) {
            (Some(text), _) => Bytes::from(text.clone()),
            (None, Some(text)) => from_base64(text)
                .map(Bytes::from)
                .ok_or_else(|| Unusable::new("directResponse.body.bytes", "is not base64"))?,
            (None, None) => Bytes::new(),
        },
    };
    Ok(DirectResponse {
        status: StatusCode::from_u16(*status).map_err(|_| {
            Unusable::new("directResponse.status", format!("{status} is no status"))
        })?,
        body,
    })
}

// === Fault ===

/// The faults of a rule; `None` if it injects none. A share that is not said is no share: Istio
/// injects nothing then.
pub(super) fn fault(block: &kinds::FaultInjection) -> Result<Option<Fault>, Unusable> {
    let kinds::FaultInjection { delay, abort } = block;
    let delay = delay.as_ref().map(self::delay).transpose()?.flatten();
    let abort = abort.as_ref().map(self::abort).transpose()?.flatten();
    Ok((delay.is_some() || abort.is_some()).then_some(Fault {
        delay,
        abort,
        max_active: None,
    }))
}

fn delay(block: &kinds::FaultDelay) -> Result<Option<Delay>, Unusable> {
    let kinds::FaultDelay {
        fixed_delay,
        // Refused by reading.
        exponential_delay: _,
        percentage,
        percent,
    } = block;
    let percent = percent.map(f64::from);
    Ok(match fixed_delay.map(Duration::from) {
        None => None,
        Some(duration) => Some(Delay {
            duration: Amount::Fixed(duration),
            share: share(
                percentage.map(|share| share.value).or(percent),
                "fault.delay",
            )?,
        }),
    })
}

fn abort(block: &kinds::FaultAbort) -> Result<Option<Abort>, Unusable> {
    const PATH: &str = "fault.abort";
    let kinds::FaultAbort {
        http_status,
        grpc_status,
        // Refused by reading.
        http2_error: _,
        percentage,
    } = block;
    let status =
        match (http_status, grpc_status) {
            (Some(status), _) => AbortStatus::Http(
                StatusCode::from_u16(*status)
                    .map_err(|_| Unusable::new(PATH, format!("{status} is no status")))?,
            ),
            (None, Some(name)) => AbortStatus::Grpc(grpc_code(name).ok_or_else(|| {
                Unusable::new(PATH, format!("unknown gRPC status {:?}", name.value))
            })?),
            (None, None) => return Ok(None),
        };
    Ok(Some(Abort {
        status: Amount::Fixed(status),
        share: share(percentage.map(|share| share.value), PATH)?,
    }))
}

fn share(percent: Option<f64>, path: &'static str) -> Result<Fraction, Unusable> {
    percent.map_or(Ok(Fraction::ZERO), |percent| {
        Fraction::from_percent(percent).map_err(|error| Unusable::new(path, error.to_string()))
    })
}

/// The number of a gRPC status, by name or as a number.
fn grpc_code(text: &str) -> Option<u32> {
    let number = GRPC_STATUSES
        .iter()
        .position(|name| *name == text)
        .or_else(|| text.parse().ok().filter(|code| *code < GRPC_STATUSES.len()))?;
    u32::try_from(number).ok()
}

/// Base64 as proto3-JSON reads it: both alphabets, with or without padding.
fn from_base64(text: &str) -> Option<Vec<u8>> {
    const LENIENT: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    [alphabet::STANDARD, alphabet::URL_SAFE]
        .iter()
        .find_map(|alphabet| GeneralPurpose::new(alphabet, LENIENT).decode(text).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matched(path: PathMatcher) -> RouteMatcher {
        RouteMatcher {
            path,
            ..RouteMatcher::everything()
        }
    }

    fn operations(set: &[(&str, &str)], add: &[(&str, &str)], remove: &[&str]) -> kinds::Headers {
        let map = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter();
            pairs
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect()
        };
        kinds::Headers {
            request: Some(kinds::HeaderOperations {
                set: map(set),
                add: map(add),
                remove: remove.iter().map(|name| (*name).to_owned()).collect(),
            }),
            response: None,
        }
    }

    #[test]
    fn headers_are_removed_set_and_added_in_this_order_and_the_authority_is_apart() {
        let block = operations(
            &[("x-set", "1%%"), ("Host", "a.example:81")],
            &[("x-add", "2")],
            &["x-gone"],
        );
        let changes = headers(Some(&block)).unwrap().request;
        let of = HeaderName::from_static;
        let value = HeaderValue::from_static;
        assert_eq!(
            changes,
            [
                HeaderChange::Remove(of("x-gone")),
                HeaderChange::Set(of("x-set"), value("1%")),
                HeaderChange::Add(of("x-add"), value("2")),
            ]
        );
        assert_eq!(authority(Some(&block)).unwrap().unwrap(), "a.example:81");
        assert!(headers(Some(&operations(&[("bad name", "1")], &[], &[]))).is_err());
        assert!(has_substitution("%REQ(x)%") && !has_substitution("100%% of 5%"));
    }

    #[test]
    fn rewrite_replaces_what_was_matched() {
        let rewrite = kinds::Rewrite {
            uri: Some("/new".into()),
            ..kinds::Rewrite::default()
        };
        let of = |path| path_rewrite(&rewrite, &matched(path)).unwrap().unwrap();
        assert_eq!(
            of(PathMatcher::Prefix("/old".into())),
            PathRewrite::Prefix {
                from: "/old".into(),
                to: "/new".into()
            }
        );
        let whole = PathRewrite::Full("/new".into());
        assert_eq!(of(PathMatcher::Exact("/old".into())), whole);
        let regex = crate::model::matcher::Regex::new("/o.*").unwrap();
        assert_eq!(of(PathMatcher::Regex(regex)), whole);
    }

    #[test]
    fn uri_regex_rewrite_replaces_what_it_finds() {
        let rewrite = kinds::Rewrite {
            uri_regex_rewrite: Some(kinds::RegexRewrite {
                matches: Some("/v([0-9]+)".to_owned().into()),
                rewrite: Some(r"/\1".to_owned().into()),
            }),
            ..kinds::Rewrite::default()
        };
        let found = path_rewrite(&rewrite, &RouteMatcher::everything()).unwrap();
        let Some(PathRewrite::Regex { pattern, to }) = found else {
            panic!("{found:?}");
        };
        assert_eq!((pattern.compiled().as_str(), &*to), ("/v([0-9]+)", r"/\1"));
    }

    #[test]
    fn redirect_defaults_to_301_and_takes_the_port_from_the_authority() {
        let block = kinds::Redirect {
            authority: Some("b.example:8443".into()),
            scheme: Some("https".into()),
            prefix_rewrite: Some("/b".into()),
            ..kinds::Redirect::default()
        };
        let redirect = redirect(&block, &matched(PathMatcher::Prefix("/a".into()))).unwrap();
        assert_eq!(redirect.status, StatusCode::MOVED_PERMANENTLY);
        assert_eq!(redirect.host.as_deref(), Some("b.example"));
        assert_eq!(redirect.port, RedirectPort::Fixed(8_443));
        assert_eq!(redirect.scheme, Some(Scheme::HTTPS));
        assert!(matches!(redirect.path, Some(PathRewrite::Prefix { .. })));
    }

    #[test]
    fn direct_response_has_a_text_or_bytes() {
        let of = |body| {
            let block = kinds::DirectResponse { status: 418, body };
            direct_response(&block).unwrap().body
        };
        assert_eq!(of(None), "");
        let text = kinds::ResponseBody {
            string: Some("short".into()),
            bytes: None,
        };
        assert_eq!(of(Some(text)), "short");
        let bytes = kinds::ResponseBody {
            string: None,
            bytes: Some("c3RvdXQ=".to_owned().into()),
        };
        assert_eq!(of(Some(bytes)), "stout");
    }

    #[test]
    fn fault_without_a_percentage_is_never_injected() {
        let block = kinds::FaultInjection {
            delay: Some(kinds::FaultDelay {
                fixed_delay: Some(kinds::GoDuration(Duration::from_secs(1))),
                ..kinds::FaultDelay::default()
            }),
            abort: Some(kinds::FaultAbort {
                grpc_status: Some("UNAVAILABLE".to_owned().into()),
                percentage: Some(kinds::Percent { value: 0.5 }),
                ..kinds::FaultAbort::default()
            }),
        };
        let fault = fault(&block).unwrap().unwrap();
        assert_eq!(fault.delay.unwrap().share, Fraction::ZERO);
        let abort = fault.abort.unwrap();
        assert_eq!(abort.share.parts_per_million(), 5_000);
        assert_eq!(abort.status, Amount::Fixed(AbortStatus::Grpc(14)));
        assert_eq!(grpc_code("17"), None);
    }
}
