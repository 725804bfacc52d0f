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

/// What a VirtualService is read for: its `gateways` say which of its rules count there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Via<'a> {
    /// A Gateway, at which callers of all kinds arrive.
    Gateway {
        /// Its namespace.
        namespace: &'a str,
        /// Its name.
        name: &'a str,
    },
    /// The services themselves, which clients of the mesh call.
    Mesh,
}

impl Via<'_> {
    /// Whether a VirtualService of the namespace `own` speaks of it.
    pub(super) fn takes(self, gateways: &[Located<String>], own: &str) -> bool {
        match self {
            Self::Gateway { .. } => self.is_among(gateways, own),
            Self::Mesh => includes_mesh(gateways),
        }
    }

    /// Whether a list names it: `name` of the own namespace, or `namespace/name`.
    fn is_among(self, gateways: &[Located<String>], own: &str) -> bool {
        gateways.iter().any(|written| match self {
            Self::Mesh => written.value == MESH,
            Self::Gateway { namespace, name } => named(written, own) == (namespace, name),
        })
    }
}

/// The namespace and the name of the Gateway that a text names.
pub(super) fn named<'w>(written: &'w str, own: &'w str) -> (&'w str, &'w str) {
    written.split_once('/').unwrap_or((own, written))
}

/// Whether a block of an object in the namespace `own` concerns this client when it calls this port.
pub(super) fn concerns(
    block: &HttpMatch,
    client: &Workload,
    port: u16,
    (via, own): (Via<'_>, &str),
) -> bool {
    // An empty list inherits from the VirtualService, which was asked already.
    (block.gateways.is_empty() || via.is_among(&block.gateways, own))
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
            concerns(&block, &client, 80, (Via::Mesh, "my-app"))
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
    fn a_gateway_is_named_with_its_namespace_or_within_it() {
        let edge = Via::Gateway {
            namespace: "edge",
            name: "public",
        };
        let list = |names: &[&str]| -> Vec<Located<String>> {
            names.iter().map(|name| (*name).to_owned().into()).collect()
        };
        assert!(edge.takes(&list(&["mesh", "edge/public"]), "shop"));
        assert!(edge.takes(&list(&["public"]), "edge"));
        assert!(!edge.takes(&list(&["public"]), "shop"));
        assert!(!edge.takes(&list(&["shop/public", "edge/other", "mesh"]), "shop"));
        assert!(!edge.takes(&[], "edge"), "an empty list is the mesh");
        assert!(Via::Mesh.takes(&[], "edge") && !Via::Mesh.takes(&list(&["public"]), "edge"));

        let client = Workload::new("edge", "public");
        let block = |names: &[&str]| {
            let gateways = list(names);
            let block = HttpMatch {
                gateways,
                ..HttpMatch::default()
            };
            concerns(&block, &client, 80, (edge, "shop"))
        };
        assert!(block(&[]) && block(&["edge/public"]));
        assert!(!block(&["mesh"]) && !block(&["public"]));
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
