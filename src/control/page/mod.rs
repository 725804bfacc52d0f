//! The status page: a server, for people.
//!
//! One page that asks for [`status.json`](state) every two seconds. Its assets are in the binary, so that
//! there is nothing to install, build or fetch, and a page of one version never meets a server of
//! another. What it shows (names of nodes, words of refusals) comes from clients: the page sets it as
//! text, never as HTML, and the browser is told to run and load nothing but what is served here.

pub(super) mod state;

use http::{HeaderValue, Response, StatusCode, header};

/// What the browser may do: ask this server, and nobody else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Path, content type and content.
const ASSETS: [(&str, &str, &str); 4] = [
    ("/", "text/html; charset=utf-8", include_str!("index.html")),
    (
        "/app.js",
        "text/javascript; charset=utf-8",
        include_str!("app.js"),
    ),
    ("/icon.svg", "image/svg+xml", include_str!("icon.svg")),
    (
        "/style.css",
        "text/css; charset=utf-8",
        include_str!("style.css"),
    ),
];

/// A part of the page; `None`: it has no such part.
pub(super) fn asset(path: &str) -> Option<Response<String>> {
    let (_, kind, content) = ASSETS.iter().find(|(at, ..)| *at == path)?;
    Some(answer(kind, (*content).to_owned()))
}

/// An answer for a browser.
pub(super) fn answer(kind: &'static str, content: String) -> Response<String> {
    let mut response = Response::new(content);
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_needs_nothing_from_elsewhere_and_no_part_is_missing() {
        for (path, _, content) in ASSETS {
            let elsewhere = content.replace("http://www.w3.org/", "").contains("://");
            assert!(!elsewhere, "{path} names another server");
            for word in [
                "innerHTML",
                "insertAdjacent",
                "document.write",
                "eval(",
                " style=\"",
                "onclick",
            ] {
                assert!(!content.contains(word), "{path} has {word}");
            }
        }
        let (_, _, index) = ASSETS[0];
        for quoted in index.split('"').skip(1).step_by(2) {
            let file = [".js", ".css", ".svg"]
                .iter()
                .any(|end| quoted.ends_with(end));
            assert!(!file || asset(&format!("/{quoted}")).is_some(), "{quoted}");
        }
        let response = asset("/").expect("a page");
        assert_eq!(response.headers()["content-security-policy"], POLICY);
        assert!(asset("/other").is_none());
    }

    #[test]
    fn every_input_has_a_label_and_every_table_and_section_a_name() {
        let (_, _, index) = ASSETS[0];
        for id in ["filter", "troubled"] {
            let named = index.contains(&format!("for=\"{id}\""))
                || index.contains(&format!("<label><input id=\"{id}\""));
            assert!(named, "{id}");
        }
        for section in index.split("<section").skip(1) {
            let head = section.split('>').next().unwrap_or_default();
            assert!(head.contains("aria-label"), "{head}");
        }
        assert_eq!(index.matches("<h1>").count(), 1);
        assert!(index.contains("<html lang=\"en\">") && index.contains("name=\"viewport\""));
    }
}
