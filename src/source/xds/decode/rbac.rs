//! Who may call: the RBAC filter (gRFC A41, A59).
//!
//! A stage for each filter of the chain; a request has to pass all of them. What cannot be asked here
//! refuses the listener: a condition that is left out would let requests pass, or stop them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::place::{Place, Quoted};
use super::{Scope, claims, matches, value};
use crate::model::authorization::{
    Action, Audit, AuditLogger, Condition, Enforcement, Network, PathPattern, PeerPattern, Policy,
    PortRange, Stage,
};
use crate::model::matcher::{HeaderMatcher, StringMatcher};
use crate::source::xds::proto::{core, matcher, percent, rbac as wire, rbac_filter, route};

/// So deep conditions may be nested; prost stops at a hundred messages.
const MAX_DEPTH: usize = 32;

/// What is told of rules that a plugin of Envoy would decide.
const EXTENSION: &str = "is an extension, which is not supported";
/// What is told of callers that are described by what nothing here knows.
const FOREIGN: &str = "is of a kind that is not supported; authenticated, source_ip, header, url_path \
                       and metadata are";

/// `Some(None)`: the filter does nothing.
pub(super) fn stage(
    scope: Scope<'_>,
    place: &Place<'_>,
    name: &str,
    message: &rbac_filter::Rbac,
) -> Option<Option<Stage>> {
    let refused = [
        ("matcher", message.matcher.is_some()),
        ("shadow_rules", message.shadow_rules.is_some()),
        ("shadow_matcher", message.shadow_matcher.is_some()),
    ];
    let mut fine = Some(());
    for (field, set) in refused {
        if set {
            fine = place.field(field).fault("is not supported; rules are");
        }
    }
    let Some(rules) = &message.rules else {
        return fine.map(|()| None);
    };
    let place = place.field("rules");
    let action = match rules.action {
        0 => Action::Allow,
        1 => Action::Deny,
        // Nothing is denied by it and nobody reads what it would write (gRFC A41).
        2 => return fine.map(|()| None),
        other => {
            return place.field("action").fault(format_args!(
                "{other} is unknown; ALLOW (0), DENY (1) and LOG (2) are allowed"
            ));
        }
    };
    let audit = audit(&place.field("audit_logging_options"), rules);
    let list = place.field("policies");
    let ordered: BTreeMap<&String, &wire::Policy> = rules.policies.iter().collect();
    let policies: Vec<Option<Policy>> = ordered
        .into_iter()
        .map(|(key, policy)| {
            let condition = self::policy(&list.key(key), policy)?;
            Some(Policy {
                name: key.as_str().into(),
                condition,
                origin: scope.origin(name),
            })
        })
        .collect();
    fine?;
    let policies = policies.into_iter().collect::<Option<_>>()?;
    let (audit, loggers) = audit?;
    Some(Some(Stage {
        name: name.into(),
        action,
        policies,
        enforcement: Enforcement::Enforced,
        audit,
        loggers,
    }))
}

fn audit(place: &Place<'_>, rules: &wire::Rbac) -> Option<(Audit, Vec<AuditLogger>)> {
    let Some(options) = &rules.audit_logging_options else {
        return Some((Audit::Never, Vec::new()));
    };
    let when = match options.audit_condition {
        0 => Audit::Never,
        1 => Audit::OnDeny,
        2 => Audit::OnAllow,
        3 => Audit::Always,
        other => {
            return place
                .field("audit_condition")
                .fault(format_args!("{other} is unknown; 0 to 3 are allowed"));
        }
    };
    let list = place.field("logger_configs");
    let mut loggers = Vec::new();
    for (index, config) in options.logger_configs.iter().enumerate() {
        let place = list.index(index);
        let place = place.field("audit_logger");
        let logger = config.audit_logger.as_ref();
        let any = logger.and_then(|logger| logger.typed_config.as_ref());
        match any.map(value::type_name) {
            Some("envoy.extensions.rbac.audit_loggers.stream.v3.StdoutAuditLog") => {
                loggers.push(AuditLogger::Stdout);
            }
            _ if config.is_optional => {}
            Some(other) => {
                return place.fault(format_args!(
                    "{} is no audit logger that is known here; StdoutAuditLog is, or mark it as \
                     optional",
                    Quoted(other)
                ));
            }
            None => return place.fault("is missing"),
        }
    }
    Some((when, loggers))
}

fn policy(place: &Place<'_>, message: &wire::Policy) -> Option<Condition> {
    let refused = [
        ("condition", message.condition.is_some()),
        ("checked_condition", message.checked_condition.is_some()),
    ];
    let mut fine = Some(());
    for (field, set) in refused {
        if set {
            fine = place
                .field(field)
                .fault("is an expression of CEL, which is not supported");
        }
    }
    if message.permissions.is_empty() || message.principals.is_empty() {
        return place.fault("has no permissions or no principals; one of each is needed");
    }
    let permissions = place.field("permissions");
    let all = message.permissions.iter().enumerate();
    let permitted: Vec<Option<Condition>> = all
        .map(|(index, one)| permission(&permissions.index(index), one, 0))
        .collect();
    let principals = place.field("principals");
    let all = message.principals.iter().enumerate();
    let meant: Vec<Option<Condition>> = all
        .map(|(index, one)| principal(&principals.index(index), one, 0))
        .collect();
    fine?;
    let permitted = permitted.into_iter().collect::<Option<_>>()?;
    let meant = meant.into_iter().collect::<Option<_>>()?;
    Some(Condition::All(vec![
        Condition::Any(permitted),
        Condition::Any(meant),
    ]))
}

pub(super) fn deeper(place: &Place<'_>, depth: usize) -> Option<usize> {
    if depth >= MAX_DEPTH {
        return place.fault(format_args!("is nested deeper than {MAX_DEPTH} conditions"));
    }
    Some(depth + 1)
}

fn permission(place: &Place<'_>, message: &wire::Permission, depth: usize) -> Option<Condition> {
    use wire::permission::Rule;
    let depth = deeper(place, depth)?;
    let set = |field: &str, set: &wire::permission::Set| -> Option<Vec<Condition>> {
        let list = place.field(field);
        let list = list.field("rules");
        let all = set.rules.iter().enumerate();
        all.map(|(index, one)| permission(&list.index(index), one, depth))
            .collect()
    };
    match message.rule.as_ref() {
        Some(Rule::AndRules(rules)) => set("and_rules", rules).map(Condition::All),
        Some(Rule::OrRules(rules)) => set("or_rules", rules).map(Condition::Any),
        Some(Rule::NotRule(rule)) => {
            permission(&place.field("not_rule"), rule, depth).map(Condition::not)
        }
        Some(Rule::Any(any)) => Some(always(*any)),
        Some(Rule::Header(matcher)) => header(&place.field("header"), matcher),
        Some(Rule::UrlPath(path)) => url_path(&place.field("url_path"), path),
        Some(Rule::DestinationIp(range)) => {
            network(&place.field("destination_ip"), range).map(Condition::DestinationIp)
        }
        Some(Rule::DestinationPort(port)) => {
            let place = place.field("destination_port");
            match u16::try_from(*port) {
                Ok(port) => Some(Condition::DestinationPort(PortRange::one(port))),
                Err(_) => place.fault(format_args!("{port} is no port; 0 to 65535 is allowed")),
            }
        }
        Some(Rule::DestinationPortRange(range)) => {
            ports(&place.field("destination_port_range"), *range)
        }
        Some(Rule::Metadata(metadata)) => claims::metadata(&place.field("metadata"), metadata),
        Some(Rule::RequestedServerName(name)) => {
            let place = place.field("requested_server_name");
            matches::string_matcher(&place, name).map(Condition::Sni)
        }
        Some(Rule::Matcher(_)) => place.field("matcher").fault(EXTENSION),
        Some(Rule::UriTemplate(_)) => place.field("uri_template").fault(EXTENSION),
        Some(Rule::SourcedMetadata(_)) => place
            .field("sourced_metadata")
            .fault("is not supported; metadata is"),
        None => place.fault("says nothing; \"any: true\" is for everything"),
    }
}

fn principal(place: &Place<'_>, message: &wire::Principal, depth: usize) -> Option<Condition> {
    use wire::principal::Identifier as Id;
    let depth = deeper(place, depth)?;
    let set = |field: &str, set: &wire::principal::Set| -> Option<Vec<Condition>> {
        let list = place.field(field);
        let list = list.field("ids");
        let all = set.ids.iter().enumerate();
        all.map(|(index, one)| principal(&list.index(index), one, depth))
            .collect()
    };
    match message.identifier.as_ref() {
        Some(Id::AndIds(ids)) => set("and_ids", ids).map(Condition::All),
        Some(Id::OrIds(ids)) => set("or_ids", ids).map(Condition::Any),
        Some(Id::NotId(id)) => principal(&place.field("not_id"), id, depth).map(Condition::not),
        Some(Id::Any(any)) => Some(always(*any)),
        Some(Id::Authenticated(by)) => match &by.principal_name {
            None => Some(Condition::Encrypted),
            Some(name) => {
                let place = place.field("authenticated.principal_name");
                let name = matches::string_matcher(&place, name)?;
                Some(Condition::Peer(PeerPattern::Name(name)))
            }
        },
        // No proxy is believed, so the client is who is connected (gRFC A41).
        Some(Id::SourceIp(range)) => source(&place.field("source_ip"), range),
        Some(Id::DirectRemoteIp(range)) => source(&place.field("direct_remote_ip"), range),
        Some(Id::RemoteIp(range)) => source(&place.field("remote_ip"), range),
        Some(Id::Header(matcher)) => header(&place.field("header"), matcher),
        Some(Id::UrlPath(path)) => url_path(&place.field("url_path"), path),
        Some(Id::Metadata(metadata)) => claims::metadata(&place.field("metadata"), metadata),
        Some(Id::FilterState(_)) => place.field("filter_state").fault(FOREIGN),
        Some(Id::SourcedMetadata(_)) => place.field("sourced_metadata").fault(FOREIGN),
        Some(Id::Custom(_)) => place.field("custom").fault(FOREIGN),
        None => place.fault("says nothing; \"any: true\" is for everybody"),
    }
}

fn source(place: &Place<'_>, range: &core::CidrRange) -> Option<Condition> {
    network(place, range).map(Condition::SourceIp)
}

fn always(holds: bool) -> Condition {
    match holds {
        true => Condition::always(),
        false => Condition::never(),
    }
}

/// What callers say in headers that the transport owns is no ground for a decision.
fn header(place: &Place<'_>, message: &route::HeaderMatcher) -> Option<Condition> {
    let name = message.name.to_ascii_lowercase();
    if name == ":scheme" || name.starts_with("grpc-") {
        return place.field("name").fault(format_args!(
            "{} may not be matched by RBAC; other headers, :authority, :method and :path may",
            Quoted(&message.name)
        ));
    }
    if name == ":path" {
        return path_header(place, message);
    }
    let matcher: HeaderMatcher = matches::header(place, message)?;
    Some(Condition::Header(matcher))
}

/// `:path` as a header is what HTTP calls so: the query belongs to it, unlike to `url_path`.
fn path_header(place: &Place<'_>, message: &route::HeaderMatcher) -> Option<Condition> {
    use route::header_matcher::HeaderMatchSpecifier as Specifier;
    let condition = match &message.header_match_specifier {
        Some(Specifier::PresentMatch(present)) => always(*present),
        Some(Specifier::ExactMatch(text)) => {
            Condition::PathAndQuery(StringMatcher::Exact(text.as_str().into()))
        }
        Some(Specifier::StringMatch(text)) => {
            let text = matches::string_matcher(&place.field("string_match"), text)?;
            Condition::PathAndQuery(text)
        }
        Some(_) | None => {
            return place.fault(
                "asks for :path in a way that is not supported; string_match, exact_match and \
                 url_path are",
            );
        }
    };
    Some(match message.invert_match {
        true => condition.not(),
        false => condition,
    })
}

fn url_path(place: &Place<'_>, message: &matcher::PathMatcher) -> Option<Condition> {
    use matcher::path_matcher::Rule;
    match &message.rule {
        Some(Rule::Path(text)) => {
            let text = matches::string_matcher(&place.field("path"), text)?;
            Some(Condition::Path(PathPattern::Text(text)))
        }
        None => place.fault("has no path"),
    }
}

/// A range of addresses; more bits than an address has are all of them.
pub(super) fn network(place: &Place<'_>, message: &core::CidrRange) -> Option<Network> {
    let Ok(address) = message.address_prefix.parse::<IpAddr>() else {
        return place.field("address_prefix").fault(format_args!(
            "{} is no IP address",
            Quoted(&message.address_prefix)
        ));
    };
    let bits = value::number_or(message.prefix_len, 0);
    Some(Network::new(address, u8::try_from(bits).unwrap_or(u8::MAX)))
}

/// From the first to before the last.
fn ports(place: &Place<'_>, range: percent::Int32Range) -> Option<Condition> {
    let percent::Int32Range { start, end } = range;
    let last = end.checked_sub(1).and_then(|last| u16::try_from(last).ok());
    match (u16::try_from(start), last) {
        (Ok(first), Some(last)) if first <= last => {
            Some(Condition::DestinationPort(PortRange { first, last }))
        }
        _ => place.fault(format_args!(
            "{start} to {end} is no range of ports; 0 to 65536 is, without the end"
        )),
    }
}
