//! The forms of names: hosts, labels, namespaces, headers, regular expressions, durations.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use super::Checker;
use crate::model::matcher::Regex;
use crate::source::istio::fault::quoted;
use crate::source::istio::kinds::GoDuration;
use crate::source::istio::yaml::Located;

/// Whether a text is a DNS-1123 label: lower-case letters, digits, hyphens, at most 63.
pub(crate) fn is_dns_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    text.len() <= 63 && text.bytes().all(inner) && !starts_or_ends_with(text, "-")
}

/// Whether a text is a DNS-1123 subdomain: labels with points between, at most 253.
pub(crate) fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_dns_label)
}

fn starts_or_ends_with(text: &str, what: &str) -> bool {
    text.is_empty() || text.starts_with(what) || text.ends_with(what)
}

/// Whether a text is a host name, upper case allowed, one point at the end allowed.
fn is_host_name(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    is_dns_subdomain(&text.to_ascii_lowercase())
}

/// What is wrong with a host that may be a name, an address, or `*.suffix`.
pub(crate) fn host_fault(host: &str) -> Option<String> {
    let name = host.strip_prefix("*.").unwrap_or(host);
    if host.is_empty() {
        return Some("a host must not be empty".into());
    }
    if host == "*" || is_host_name(name) || is_address(host) {
        return None;
    }
    let text = "is no host: expected a DNS name, *.suffix or an IP address";
    Some(format!("{} {text}", quoted(host)))
}

fn is_address(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}

/// Whether a text is an IP address or a network such as `10.0.0.0/8`.
pub(crate) fn is_address_or_network(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else {
        return is_address(text);
    };
    let most = match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    bits.parse::<u8>().is_ok_and(|bits| bits <= most)
}

/// Namespaces that see an object: `.`, `*`, `~` or names.
pub(super) fn export_to(check: &mut Checker<'_>, namespaces: &[Located<String>]) {
    export_to_at(check, "exportTo", namespaces);
}

/// The same in another field.
pub(super) fn export_to_at(
    check: &mut Checker<'_>,
    field: &'static str,
    namespaces: &[Located<String>],
) {
    let mut seen = BTreeSet::new();
    check.each(field, namespaces, |check, namespace| {
        let namespace = namespace.as_str();
        if !matches!(namespace, "." | "*" | "~") && !is_dns_label(namespace) {
            let text = format!("{} is neither ., *, ~ nor a namespace", quoted(namespace));
            check.error(text);
        } else if !seen.insert(namespace) {
            check.error(format!("{} stands twice", quoted(namespace)));
        }
    });
    if seen.len() > 1 && (seen.contains("*") || seen.contains("~")) {
        check.error_at(field, "* and ~ must stand alone");
    }
}

/// Labels of workloads, in the form that Kubernetes allows.
pub(super) fn labels(check: &mut Checker<'_>, labels: &BTreeMap<String, String>) {
    for (key, value) in labels {
        check.within_key(key, |check| {
            let (prefix, name) = match key.split_once('/') {
                Some((prefix, name)) => (Some(prefix), name),
                None => (None, &**key),
            };
            if !is_label_name(name) || prefix.is_some_and(|prefix| !is_dns_subdomain(prefix)) {
                check.error(format!("{} is no label key", quoted(key)));
            }
            if !value.is_empty() && !is_label_name(value) {
                let text = "expected up to 63 letters, digits, -, _ and .";
                check.error(format!("{} is no label value: {text}", quoted(value)));
            }
        });
    }
}

fn is_label_name(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let ends = [text.bytes().next(), text.bytes().last()];
    let ends = ends
        .iter()
        .all(|b| b.is_some_and(|b| b.is_ascii_alphanumeric()));
    text.len() <= 63 && text.bytes().all(inner) && ends
}

/// The field here is the name of a header.
pub(super) fn header_name(check: &mut Checker<'_>, name: &str) {
    if http::HeaderName::from_bytes(name.as_bytes()).is_err() {
        check.error(format!("{} is no header name", quoted(name)));
    }
}

/// The field here is a regular expression.
pub(super) fn regex(check: &mut Checker<'_>, pattern: &str) {
    if pattern.is_empty() {
        check.error("a regular expression must not be empty");
    } else if let Err(fault) = Regex::new(pattern) {
        // The crate's message draws a picture of several lines; its last line says what is wrong.
        let text = fault.to_string();
        let last = text.lines().last().unwrap_or(&text);
        let reason = last.strip_prefix("error: ").unwrap_or(last);
        match fault {
            crate::model::matcher::InvalidRegex::TooLong(_) => check.error(text),
            crate::model::matcher::InvalidRegex::Syntax(_) => {
                let pattern = quoted(pattern);
                check.error(format!("{pattern} is no RE2 regular expression: {reason}"));
            }
        }
    }
}

/// The duration must be at least a millisecond, and whole milliseconds (Istio's
/// `ValidateDuration`).
pub(super) fn duration(check: &mut Checker<'_>, field: &'static str, value: Option<GoDuration>) {
    let Some(GoDuration(duration)) = value else {
        return;
    };
    if duration < Duration::from_millis(1) {
        let text = format!("{duration:?} is shorter than 1ms");
        check.error_at(field, text);
    } else if !duration.subsec_nanos().is_multiple_of(1_000_000) {
        let text = format!("{duration:?} is not a whole number of milliseconds");
        check.error_at(field, text);
    }
}

/// As [`duration`], where 0s has a meaning of its own.
pub(super) fn duration_or_zero(
    check: &mut Checker<'_>,
    field: &'static str,
    value: Option<GoDuration>,
) {
    duration(check, field, value.filter(|value| !value.0.is_zero()));
}

/// A share must lie in 0 to 100.
pub(super) fn whole_percent(check: &mut Checker<'_>, field: &'static str, value: Option<u32>) {
    if let Some(value) = value.filter(|value| *value > 100) {
        check.error_at(field, format!("{value} % is above 100 %"));
    }
}

/// A port must not be 0.
pub(super) fn port(check: &mut Checker<'_>, field: &'static str, port: Option<u16>) {
    if port == Some(0) {
        check.error_at(field, "port 0 does not exist: expected 1 to 65535");
    }
}

/// A status of a final answer.
pub(super) fn http_status(check: &mut Checker<'_>, field: &'static str, status: u16) {
    if !(200..=599).contains(&status) {
        let text = format!("status {status} is outside of 200 to 599");
        check.error_at(field, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_suffixes_and_addresses() {
        for host in [
            "catalog",
            "catalog.my-app.svc.cluster.local",
            "*.example.com",
            "*",
            "10.0.0.1",
            "fd00::1",
            "Example.com.",
        ] {
            assert_eq!(host_fault(host), None, "{host}");
        }
        for host in [
            "", "a b", "*x.com", "a..b", "-a", "a.*.b", "http://a", "a:80",
        ] {
            assert!(host_fault(host).is_some(), "{host}");
        }
    }

    #[test]
    fn networks_have_an_address_and_few_enough_bits() {
        for good in ["10.0.0.0/8", "fd00::/64", "10.0.0.1"] {
            assert!(is_address_or_network(good), "{good}");
        }
        for bad in ["10.0.0.0/33", "a/8", "10.0.0.0/", "10.0.0"] {
            assert!(!is_address_or_network(bad), "{bad}");
        }
    }

    #[test]
    fn dns_labels_are_lower_case_and_short() {
        assert!(is_dns_label("my-app-1"));
        for bad in ["", "-a", "a-", "A", "a.b", &"a".repeat(64)] {
            assert!(!is_dns_label(bad), "{bad}");
        }
    }
}
