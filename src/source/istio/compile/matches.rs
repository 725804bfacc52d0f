//! Match blocks of a VirtualService: what is decided here and now, and what is left to ask of each
//! request.
//!
//! Port, gateways, source labels and source namespace are facts of the client, so they cost
//! nothing later: a block that they rule out has no route at all.

use http::HeaderName;

use crate::model::matcher::{
    HeaderKey, HeaderMatcher, HeaderTest, InvalidRegex, PathMatcher, QueryMatcher, Regex,
    RouteMatcher, StringMatcher,
};
use crate::source::istio::kinds::{HttpMatch, StringMatch};
use crate::source::istio::registry::selects;
use crate::source::istio::yaml::Located;
use crate::workload::Workload;

/// The name by which gateways lists mean the services themselves.
pub(super) const MESH: &str = "mesh";

/// What cannot be asked; reading refuses all of it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum Unaskable {
    /// A header's name.
    #[error("{0:?} is not a header name")]
    Header(String),
    /// A regular expression.
    #[error(transparent)]
    Regex(#[from] InvalidRegex),
}

/// Whether a gateways list speaks of the services themselves; an empty one does.
pub(super) fn includes_mesh(gateways: &[Located<String>]) -> bool {
    gateways.is_empty() || gateways.iter().any(|gateway| gateway.value == MESH)
}

/// Whether a block concerns this client when it calls this port of the service.
pub(super) fn concerns(block: &HttpMatch, client: &Workload, port: u16) -> bool {
    // An empty list inherits from the VirtualService, which was asked already.
    includes_mesh(&block.gateways)
        && block.port.is_none_or(|wanted| wanted == port)
        && selects(&block.source_labels, client.labels())
        && block
            .source_namespace
            .as_deref()
            .is_none_or(|namespace| namespace.is_empty() || namespace == client.namespace())
}

/// The questions of a block.
pub(super) fn matcher(block: &HttpMatch) -> Result<RouteMatcher, Unaskable> {
    let HttpMatch {
        name: _,
        uri,
        scheme,
        method,
        authority,
        headers,
        port: _,
        source_labels: _,
        gateways: _,
        query_params,
        ignore_uri_case,
        without_headers,
        source_namespace: _,
        stat_prefix: _,
    } = block;
    let mut asked = Vec::new();
    for (key, wanted) in [
        (HeaderKey::Method, method),
        (HeaderKey::Scheme, scheme),
        (HeaderKey::Authority, authority),
    ] {
        if let Some(wanted) = wanted {
            asked.push(header(key, wanted, false)?);
        }
    }
    for (name, wanted) in headers {
        asked.push(header(field(name)?, wanted, false)?);
    }
    for (name, wanted) in without_headers {
        asked.push(header(field(name)?, wanted, true)?);
    }
    let query = query_params.iter().map(|(name, wanted)| {
        Ok(QueryMatcher {
            name: name.as_str().into(),
            value: text(wanted)?,
        })
    });
    Ok(RouteMatcher {
        path: path(uri.as_ref(), *ignore_uri_case)?,
        headers: asked,
        query: query.collect::<Result<_, Unaskable>>()?,
        share: None,
    })
}

/// `headers` also takes the pseudo-headers by their names on the wire.
fn field(name: &str) -> Result<HeaderKey, Unaskable> {
    Ok(match name.to_ascii_lowercase().as_str() {
        ":authority" => HeaderKey::Authority,
        ":method" => HeaderKey::Method,
        ":scheme" => HeaderKey::Scheme,
        lower => HeaderKey::Field(
            HeaderName::from_bytes(lower.as_bytes())
                .map_err(|_| Unaskable::Header(name.to_owned()))?,
        ),
    })
}

fn header(key: HeaderKey, wanted: &StringMatch, without: bool) -> Result<HeaderMatcher, Unaskable> {
    Ok(HeaderMatcher {
        key,
        test: match text(wanted)? {
            None => HeaderTest::Present,
            Some(value) => HeaderTest::Value(value),
        },
        invert: without,
        missing_is_empty: without,
    })
}

/// A test of a text; `None` asks only whether it is there, which is also what an empty `exact` and
/// the expression `*` mean in Istio.
fn text(wanted: &StringMatch) -> Result<Option<StringMatcher>, Unaskable> {
    let StringMatch {
        exact,
        prefix,
        regex,
    } = wanted;
    Ok(
        if let Some(exact) = exact.as_deref().filter(|text| !text.is_empty()) {
            Some(StringMatcher::Exact(exact.into()))
        } else if let Some(prefix) = prefix.as_deref().filter(|text| !text.is_empty()) {
            Some(StringMatcher::Prefix(prefix.into()))
        } else if let Some(regex) = regex.as_ref().filter(|regex| regex.value != "*") {
            Some(StringMatcher::Regex(Regex::new(regex)?))
        } else {
            None
        },
    )
}

fn path(uri: Option<&StringMatch>, ignore_case: bool) -> Result<PathMatcher, Unaskable> {
    let wanted = match uri {
        Some(wanted) => text(wanted)?,
        None => None,
    };
    Ok(match wanted {
        Some(StringMatcher::Exact(path)) if ignore_case => PathMatcher::ExactIgnoreCase(path),
        Some(StringMatcher::Prefix(path)) if ignore_case => PathMatcher::PrefixIgnoreCase(path),
        Some(StringMatcher::Exact(path)) => PathMatcher::Exact(path),
        Some(StringMatcher::Prefix(path)) => PathMatcher::Prefix(path),
        Some(StringMatcher::Regex(path)) => PathMatcher::Regex(path),
        // `text` makes no others.
        Some(
            StringMatcher::Contains(_)
            | StringMatcher::ContainsIgnoreCase(_)
            | StringMatcher::ExactIgnoreCase(_)
            | StringMatcher::PrefixIgnoreCase(_)
            | StringMatcher::Suffix(_)
            | StringMatcher::SuffixIgnoreCase(_),
        )
        | None => PathMatcher::Prefix("/".into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact(text: &str) -> StringMatch {
        StringMatch {
            exact: Some(text.to_owned()),
            ..StringMatch::default()
        }
    }

    #[test]
    fn match_port_gateways_source_labels_and_namespace_are_decided_for_the_client() {
        let client = Workload::new("my-app", "order").label("app", "order");
        let block = |change: &dyn Fn(&mut HttpMatch)| {
            let mut block = HttpMatch::default();
            change(&mut block);
            concerns(&block, &client, 80)
        };
        let labels = |value: &str| [("app".to_owned(), value.to_owned())].into();
        assert!(block(&|_| {}));
        assert!(block(&|b| b.port = Some(80)) && !block(&|b| b.port = Some(81)));
        assert!(block(&|b| b.source_labels = labels("order")));
        assert!(!block(&|b| b.source_labels = labels("cart")));
        assert!(block(&|b| b.source_namespace = Some("my-app".into())));
        assert!(!block(&|b| b.source_namespace = Some("other".into())));
        assert!(!block(&|b| b.gateways = vec!["ns/edge".to_owned().into()]));
        assert!(block(
            &|b| b.gateways = vec!["ns/edge".to_owned().into(), "mesh".to_owned().into()]
        ));
    }

    #[test]
    fn empty_header_matcher_asks_for_presence_and_without_headers_inverts() {
        let block = HttpMatch {
            headers: [("X-Here".to_owned(), StringMatch::default())].into(),
            without_headers: [("x-gone".to_owned(), exact("1"))].into(),
            ..HttpMatch::default()
        };
        let matcher = matcher(&block).unwrap();
        assert_eq!(matcher.headers[0].test, HeaderTest::Present);
        assert_eq!(
            matcher.headers[0].key,
            HeaderKey::Field(HeaderName::from_static("x-here"))
        );
        assert!(matcher.headers[1].invert && matcher.headers[1].missing_is_empty);
    }

    #[test]
    fn ignore_uri_case_concerns_exact_and_prefix_only() {
        let of = |uri: StringMatch| path(Some(&uri), true).unwrap();
        let prefix = StringMatch {
            prefix: Some("/a".into()),
            ..StringMatch::default()
        };
        let regex = StringMatch {
            regex: Some("/a.*".to_owned().into()),
            ..StringMatch::default()
        };
        assert!(matches!(of(exact("/a")), PathMatcher::ExactIgnoreCase(_)));
        assert!(matches!(of(prefix), PathMatcher::PrefixIgnoreCase(_)));
        assert!(matches!(of(regex), PathMatcher::Regex(_)));
    }
}
