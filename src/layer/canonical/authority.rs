//! The authority of a request.

use super::Ambiguous;

/// What is said of an authority that cannot be read.
pub(super) fn invalid() -> Ambiguous {
    Ambiguous::new("the authority is no host with an optional port")
}

/// A host, or an IPv6 address in brackets, and perhaps a port.
///
/// Of what RFC 3986 allows in a host, user information, sub-delimiters (`a,b`) and percent-encoding are
/// refused: no host needs them, and each was a way around a policy.
pub(super) fn check(authority: &str) -> Result<(), Ambiguous> {
    if authority.contains('@') {
        return Err(Ambiguous::new("the authority has user information"));
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']').ok_or_else(invalid)?;
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(invalid());
            }
            let port = match port {
                "" => None,
                port => Some(port.strip_prefix(':').ok_or_else(invalid)?),
            };
            return check_port(port);
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    if host.is_empty() || !host.bytes().all(allowed) {
        return Err(invalid());
    }
    check_port(port)
}

fn check_port(port: Option<&str>) -> Result<(), Ambiguous> {
    match port {
        Some(port) if !port.bytes().all(|byte| byte.is_ascii_digit()) => Err(invalid()),
        // `host:` is the default port (RFC 3986 3.2.3), but no policy expects it.
        Some("") => Err(invalid()),
        Some(port) if port.parse::<u16>().is_err() => Err(invalid()),
        Some(_) | None => Ok(()),
    }
}
