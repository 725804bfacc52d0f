//! Names of resources: plain ones, and `xdstp://authority/type/id?parameters` (xRFC TP1, gRFC A47).
//!
//! Two `xdstp` names that differ in the order of their parameters are one name, so all are kept in
//! the order of their keys, which is also how they are asked for.

use std::sync::Arc;

const SCHEME: &str = "xdstp:";

/// The name as it is kept. A name that is no proper `xdstp` URI is left as it is: it is a server's to
/// say that there is no such thing.
pub(crate) fn canonical(name: &str) -> Arc<str> {
    let Some((before, parameters)) = name.split_once('?').filter(|_| is_federated(name)) else {
        return name.into();
    };
    let (parameters, fragment) = match parameters.split_once('#') {
        Some((parameters, fragment)) => (parameters, Some(fragment)),
        None => (parameters, None),
    };
    let mut sorted: Vec<&str> = parameters.split('&').collect();
    sorted.sort_unstable();
    let mut text = format!("{before}?{}", sorted.join("&"));
    if let Some(fragment) = fragment {
        text.push('#');
        text.push_str(fragment);
    }
    text.into()
}

/// The authority whose servers are asked for the name; empty for plain names.
pub(crate) fn authority(name: &str) -> &str {
    let Some(rest) = name.strip_prefix(SCHEME) else {
        return "";
    };
    let rest = rest.strip_prefix("//").unwrap_or("");
    rest.split_once('/')
        .map_or(rest, |(authority, _)| authority)
}

pub(crate) fn is_federated(name: &str) -> bool {
    name.starts_with(SCHEME)
}

/// Fills a template in. A name within an `xdstp` URI is percent-encoded as its path asks for.
pub(crate) fn fill(template: &str, name: &str) -> Arc<str> {
    let name = if is_federated(template) {
        std::borrow::Cow::Owned(encoded(name))
    } else {
        name.into()
    };
    canonical(&template.replace("%s", &name))
}

/// Leaves what RFC 3986 allows in a path.
fn encoded(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => text.push(byte.into()),
            b'-' | b'.' | b'_' | b'~' | b'/' | b':' | b'@' | b'!' | b'$' | b'&' | b'\'' | b'('
            | b')' | b'*' | b'+' | b',' | b';' | b'=' => text.push(byte.into()),
            other => text.push_str(&format!("%{other:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c18_parameters_have_one_order_and_plain_names_none() {
        let name = "xdstp://a/envoy.config.listener.v3.Listener/x?b=2&a=1";
        let sorted = "xdstp://a/envoy.config.listener.v3.Listener/x?a=1&b=2";
        assert_eq!(&*canonical(name), sorted);
        assert_eq!(&*canonical(sorted), sorted);
        assert_eq!(&*canonical("xdstp://a/t/x?b&a#f"), "xdstp://a/t/x?a&b#f");
        assert_eq!(&*canonical("outbound|80?b&a"), "outbound|80?b&a");
    }

    #[test]
    fn c18_the_authority_says_whom_to_ask() {
        assert_eq!(authority("catalog:80"), "");
        assert_eq!(authority("xdstp://a.example/t/x"), "a.example");
        assert_eq!(authority("xdstp:///t/x"), "");
        assert_eq!(authority("xdstp:t"), "");
    }

    #[test]
    fn c18_templates_encode_what_a_path_cannot_hold() {
        let template = "xdstp://a/envoy.config.listener.v3.Listener/%s?k=v";
        assert_eq!(
            &*fill(template, "shop one/[::1]:80"),
            "xdstp://a/envoy.config.listener.v3.Listener/shop%20one/%5B::1%5D:80?k=v"
        );
        assert_eq!(&*fill("%s", "shop one"), "shop one");
        assert_eq!(
            &*fill("grpc/server?a=%s", "[::]:80"),
            "grpc/server?a=[::]:80"
        );
    }
}
