//! The attributes that conditions of an `AuthorizationPolicy` may name.

use http::HeaderName;

/// An attribute, by its key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Attribute {
    Audiences,
    Claim(Vec<Box<str>>),
    DestinationIp,
    DestinationPort,
    Header(HeaderName),
    Namespace,
    Presenter,
    Principal,
    RemoteIp,
    RequestPrincipal,
    ServiceAccount,
    Sni,
    SourceIp,
    TrustDomain,
}

/// Why a key names no attribute.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum NoAttribute {
    /// It names one of Envoy's dynamic metadata.
    Experimental,
    /// A header or claim that has no name.
    Name,
    /// Istio had it once.
    Obsolete,
    /// Nobody knows it.
    Unknown,
}

/// The keys without brackets, for suggestions.
pub(super) const KEYS: &[&str] = &[
    "connection.sni",
    "destination.ip",
    "destination.port",
    "remote.ip",
    "request.auth.audiences",
    "request.auth.claims[name]",
    "request.auth.presenter",
    "request.auth.principal",
    "request.headers[name]",
    "source.ip",
    "source.namespace",
    "source.principal",
    "source.serviceAccount",
    "source.trustDomain",
];

impl Attribute {
    pub(super) fn parse(key: &str) -> Result<Self, NoAttribute> {
        if let Some(rest) = key.strip_prefix("request.headers") {
            let [name] = &brackets(rest).ok_or(NoAttribute::Name)?[..] else {
                return Err(NoAttribute::Name);
            };
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| NoAttribute::Name)?;
            return Ok(Self::Header(name));
        }
        if let Some(rest) = key.strip_prefix("request.auth.claims") {
            let path = brackets(rest).ok_or(NoAttribute::Name)?;
            return Ok(Self::Claim(path));
        }
        Ok(match key {
            "connection.sni" => Self::Sni,
            "destination.ip" => Self::DestinationIp,
            "destination.port" => Self::DestinationPort,
            "remote.ip" => Self::RemoteIp,
            "request.auth.audiences" => Self::Audiences,
            "request.auth.presenter" => Self::Presenter,
            "request.auth.principal" => Self::RequestPrincipal,
            "source.ip" => Self::SourceIp,
            "source.namespace" => Self::Namespace,
            "source.principal" => Self::Principal,
            "source.serviceAccount" => Self::ServiceAccount,
            "source.trustDomain" => Self::TrustDomain,
            "destination.name" | "destination.namespace" | "destination.user" => {
                return Err(NoAttribute::Obsolete);
            }
            _ if key.starts_with("destination.labels") => return Err(NoAttribute::Obsolete),
            _ if key.starts_with("experimental.") => return Err(NoAttribute::Experimental),
            _ => return Err(NoAttribute::Unknown),
        })
    }
}

/// The names in `[a][b]`, of which there is at least one.
fn brackets(text: &str) -> Option<Vec<Box<str>>> {
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    let names: Vec<Box<str>> = inner.split("][").map(Into::into).collect();
    let mut all = names.iter();
    let good = all.all(|name| !name.is_empty() && !name.contains(['[', ']']));
    good.then_some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_name_attributes_headers_and_nested_claims() {
        let header = Attribute::Header(HeaderName::from_static("x-role"));
        assert_eq!(Attribute::parse("request.headers[X-Role]"), Ok(header));
        let claim = Attribute::Claim(vec!["a".into(), "b.c".into()]);
        assert_eq!(Attribute::parse("request.auth.claims[a][b.c]"), Ok(claim));
        for key in KEYS {
            assert!(Attribute::parse(key).is_ok(), "{key}");
        }
    }

    #[test]
    fn what_names_nothing_says_why() {
        for (key, why) in [
            ("request.headers", NoAttribute::Name),
            ("request.headers[]", NoAttribute::Name),
            ("request.headers[a b]", NoAttribute::Name),
            ("request.headers[a][b]", NoAttribute::Name),
            ("request.auth.claims[a", NoAttribute::Name),
            ("request.auth.claims[a][]", NoAttribute::Name),
            ("request.auth.claims[[a]]", NoAttribute::Name),
            ("destination.labels[app]", NoAttribute::Obsolete),
            ("destination.user", NoAttribute::Obsolete),
            ("experimental.envoy.filters.a[b]", NoAttribute::Experimental),
            ("source.user", NoAttribute::Unknown),
            ("", NoAttribute::Unknown),
        ] {
            assert_eq!(Attribute::parse(key), Err(why), "{key}");
        }
    }
}
