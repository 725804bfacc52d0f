//! What a server of gRPC does with the RBAC filters of a listener (gRFC A41): a slow reader of the
//! messages, written from the gRFC and not from what writes them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Mutex;

use prost::Message;

use crate::model::authorization::Network;
use crate::model::matcher::Regex;
use crate::source::xds::proto::{
    Any, core, hcm, listener, matcher, rbac as wire, rbac_filter, route, tls,
};

/// One call, as a server of gRPC sees it.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) path: String,
    pub(crate) authority: String,
    pub(crate) method: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    /// The name in the certificate; `None`: none was presented.
    pub(crate) identity: Option<String>,
}

impl Default for Call {
    fn default() -> Self {
        Self {
            path: "/pkg.Stock/Get".to_owned(),
            authority: "stock:80".to_owned(),
            method: "POST".to_owned(),
            headers: Vec::new(),
            source: [10, 1, 2, 3].into(),
            destination: [10, 9, 9, 9].into(),
            identity: None,
        }
    }
}

/// Whether the filters of the only chain let a call pass.
pub(crate) fn passes(listener: &listener::Listener, call: &Call) -> bool {
    filters(listener).iter().all(|(name, config)| {
        if !name.starts_with("envoy.filters.http.rbac") {
            return true;
        }
        let filter: rbac_filter::Rbac = unpack(config);
        let rules = filter.rules.expect("without rules, a filter does nothing");
        let matched = rules.policies.values().any(|policy| {
            policy.permissions.iter().any(|one| permission(one, call))
                && policy.principals.iter().any(|one| principal(one, call))
        });
        match wire::rbac::Action::try_from(rules.action).expect("an action") {
            wire::rbac::Action::Allow => matched,
            wire::rbac::Action::Deny => !matched,
            wire::rbac::Action::Log => true,
        }
    })
}

/// The TLS of the only chain.
pub(crate) fn tls_of(listener: &listener::Listener) -> Option<tls::DownstreamTlsContext> {
    let socket = chain(listener).transport_socket.as_ref()?;
    let Some(core::transport_socket::ConfigType::TypedConfig(config)) = &socket.config_type else {
        panic!("{socket:?}");
    };
    Some(unpack(config))
}

/// Names and configurations of the HTTP filters.
pub(crate) fn filters(listener: &listener::Listener) -> Vec<(String, Any)> {
    let [filter] = &chain(listener).filters[..] else {
        panic!("{listener:?}");
    };
    let Some(listener::filter::ConfigType::TypedConfig(config)) = &filter.config_type else {
        panic!("{filter:?}");
    };
    let manager: hcm::HttpConnectionManager = unpack(config);
    let filters = manager.http_filters.into_iter();
    let config = |filter: hcm::HttpFilter| match filter.config_type {
        Some(hcm::http_filter::ConfigType::TypedConfig(config)) => (filter.name, config),
        other => panic!("{other:?}"),
    };
    filters.map(config).collect()
}

fn chain(listener: &listener::Listener) -> &listener::FilterChain {
    let [chain] = &listener.filter_chains[..] else {
        panic!("{listener:?}");
    };
    chain
}

fn unpack<M: Message + Default + prost::Name>(any: &Any) -> M {
    assert_eq!(any.type_url, M::type_url());
    M::decode(&*any.value).expect("it decodes")
}

fn permission(rule: &wire::Permission, call: &Call) -> bool {
    use wire::permission::Rule;
    match rule.rule.as_ref().expect("a rule") {
        Rule::AndRules(set) => {
            assert!(!set.rules.is_empty());
            set.rules.iter().all(|one| permission(one, call))
        }
        Rule::OrRules(set) => {
            assert!(!set.rules.is_empty());
            set.rules.iter().any(|one| permission(one, call))
        }
        Rule::Any(any) => *any,
        Rule::Header(matcher) => header(matcher, call),
        Rule::UrlPath(path) => url_path(path, call),
        Rule::DestinationIp(range) => within(range, call.destination),
        Rule::NotRule(inner) => !permission(inner, call),
        other => panic!("gRPC does not know {other:?}"),
    }
}

fn principal(principal: &wire::Principal, call: &Call) -> bool {
    use wire::principal::Identifier;
    match principal.identifier.as_ref().expect("an identifier") {
        Identifier::AndIds(set) => {
            assert!(!set.ids.is_empty());
            set.ids.iter().all(|one| self::principal(one, call))
        }
        Identifier::OrIds(set) => {
            assert!(!set.ids.is_empty());
            set.ids.iter().any(|one| self::principal(one, call))
        }
        Identifier::Any(any) => *any,
        Identifier::Authenticated(who) => match (&call.identity, &who.principal_name) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(name), Some(wanted)) => text(wanted, name),
        },
        Identifier::DirectRemoteIp(range) | Identifier::RemoteIp(range) => {
            within(range, call.source)
        }
        Identifier::Header(matcher) => header(matcher, call),
        Identifier::UrlPath(path) => url_path(path, call),
        Identifier::NotId(inner) => !self::principal(inner, call),
        other => panic!("gRPC does not know {other:?}"),
    }
}

fn url_path(path: &matcher::PathMatcher, call: &Call) -> bool {
    let Some(matcher::path_matcher::Rule::Path(wanted)) = &path.rule else {
        panic!("{path:?}");
    };
    text(wanted, call.path.split('?').next().expect("a part"))
}

fn header(wanted: &route::HeaderMatcher, call: &Call) -> bool {
    use route::header_matcher::HeaderMatchSpecifier as Specifier;
    let name = wanted.name.as_str();
    assert!(
        name != ":scheme" && !name.starts_with("grpc-"),
        "gRPC refuses {name}"
    );
    assert!(!wanted.treat_missing_header_as_empty, "gRPC ignores it");
    let values: Vec<&str> = match name {
        ":authority" | "host" => vec![&call.authority],
        ":method" => vec![&call.method],
        ":path" => vec![&call.path],
        _ => {
            let all = call.headers.iter().filter(|(own, _)| own == name);
            all.map(|(_, value)| &**value).collect()
        }
    };
    let joined = (!values.is_empty()).then(|| values.join(","));
    let holds = match wanted.header_match_specifier.as_ref().expect("a question") {
        Specifier::PresentMatch(present) => joined.is_some() == *present,
        _ if joined.is_none() => return false,
        Specifier::StringMatch(matcher) => text(matcher, &joined.unwrap_or_default()),
        Specifier::RangeMatch(range) => {
            let number = joined.unwrap_or_default().parse::<i64>();
            number.is_ok_and(|number| (range.start..range.end).contains(&number))
        }
        other => panic!("not written here: {other:?}"),
    };
    holds != wanted.invert_match
}

fn text(wanted: &matcher::StringMatcher, found: &str) -> bool {
    use matcher::string_matcher::MatchPattern as Pattern;
    let fold = |text: &str| match wanted.ignore_case {
        true => text.to_ascii_lowercase(),
        false => text.to_owned(),
    };
    let found = fold(found);
    match wanted.match_pattern.as_ref().expect("a pattern") {
        Pattern::Exact(text) => found == fold(text),
        Pattern::Prefix(text) | Pattern::Suffix(text) | Pattern::Contains(text)
            if text.is_empty() =>
        {
            panic!("gRPC refuses empty parts")
        }
        Pattern::Prefix(text) => found.starts_with(&fold(text)),
        Pattern::Suffix(text) => found.ends_with(&fold(text)),
        Pattern::Contains(text) => found.contains(&fold(text)),
        Pattern::SafeRegex(regex) => compiled(&regex.regex).matches(&found),
        other => panic!("gRPC does not know {other:?}"),
    }
}

/// Compiled once: tests ask the same few patterns of thousands of calls.
fn compiled(pattern: &str) -> Regex {
    static KNOWN: Mutex<BTreeMap<String, Regex>> = Mutex::new(BTreeMap::new());
    let mut known = KNOWN.lock().expect("no panic while it is held");
    let compile = || Regex::new(pattern).expect("RE2");
    known.entry(pattern.into()).or_insert_with(compile).clone()
}

fn within(range: &core::CidrRange, address: IpAddr) -> bool {
    let bits = range.prefix_len.as_ref().map_or(0, |bits| bits.value);
    let prefix: IpAddr = range.address_prefix.parse().expect("an address");
    let longest = if prefix.is_ipv4() { 32 } else { 128 };
    assert!(bits <= longest, "{range:?}");
    // Families apart, as in gRPC: one form never matches the other.
    prefix.is_ipv4() == address.is_ipv4()
        && Network::new(prefix, u8::try_from(bits).expect("at most 128")).contains(address)
}
