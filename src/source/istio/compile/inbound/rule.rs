//! A rule as an expression: (one of `from`) and (one of `to`) and (all of `when`).

use crate::model::authorization::{
    Condition, Network, PathPattern, PeerPattern, PortRange, Template,
};
use crate::model::matcher::{HeaderKey, HeaderMatcher, HeaderTest, StringMatcher};
use crate::source::istio::kinds::{AccessRule, RuleCondition, RuleOperation, RuleSource};
use crate::source::istio::when::Attribute;
use crate::source::istio::yaml::Located;

use super::principal::{Domains, service_account};

/// The expression of a rule; `None` if a text in it cannot be read, which reading has refused
/// before: who compiles objects made by hand must not let such a rule open a door.
pub(super) fn condition(
    rule: &AccessRule,
    namespace: &str,
    domains: &Domains<'_>,
) -> Option<Condition> {
    let mut all = Vec::new();
    if !rule.from.is_empty() {
        let sources = rule.from.iter().map(|from| {
            let written = from.source.as_ref()?;
            source(written, namespace, domains)
        });
        all.push(Condition::Any(sources.collect::<Option<_>>()?));
    }
    if !rule.to.is_empty() {
        let operations = rule.to.iter().map(|to| operation(to.operation.as_ref()?));
        all.push(Condition::Any(operations.collect::<Option<_>>()?));
    }
    for one in &rule.when {
        all.push(when(one, namespace, domains)?);
    }
    Some(Condition::All(all))
}

/// Istio's texts: exact, `prefix*`, `*suffix`, or `*` for anything that is there.
pub(super) fn pattern(text: &str) -> StringMatcher {
    match (text.strip_prefix('*'), text.strip_suffix('*')) {
        (Some(""), _) => StringMatcher::Prefix("".into()),
        (Some(suffix), _) => StringMatcher::Suffix(suffix.into()),
        (None, Some(prefix)) => StringMatcher::Prefix(prefix.into()),
        (None, None) => StringMatcher::Exact(text.into()),
    }
}

type Texts = [Located<String>];

/// Conditions that must all hold.
#[derive(Default)]
struct All(Vec<Condition>);

impl All {
    /// One of the wanted values, and none of the others.
    fn add(
        &mut self,
        (wanted, unwanted): (&Texts, &Texts),
        make: impl Fn(&str) -> Option<Condition>,
    ) -> Option<()> {
        let any = |texts: &Texts| -> Option<Condition> {
            let made = texts.iter().map(|text| make(text.as_str()));
            Some(Condition::Any(made.collect::<Option<_>>()?))
        };
        if !wanted.is_empty() {
            self.0.push(any(wanted)?);
        }
        if !unwanted.is_empty() {
            self.0.push(any(unwanted)?.not());
        }
        Some(())
    }
}

fn source(source: &RuleSource, namespace: &str, domains: &Domains<'_>) -> Option<Condition> {
    let RuleSource {
        principals,
        not_principals,
        request_principals,
        not_request_principals,
        namespaces,
        not_namespaces,
        service_accounts,
        not_service_accounts,
        trust_domains,
        not_trust_domains,
        ip_blocks,
        not_ip_blocks,
        remote_ip_blocks,
        not_remote_ip_blocks,
    } = source;
    let mut all = All::default();
    all.add((principals, not_principals), |text| {
        Some(domains.principal(text))
    })?;
    all.add((request_principals, not_request_principals), |text| {
        Some(Condition::RequestPrincipal(pattern(text)))
    })?;
    all.add((namespaces, not_namespaces), |text| {
        Some(Condition::Peer(PeerPattern::Namespace(pattern(text))))
    })?;
    all.add((service_accounts, not_service_accounts), |text| {
        Some(service_account(text, namespace))
    })?;
    all.add((trust_domains, not_trust_domains), |text| {
        Some(Condition::Peer(PeerPattern::TrustDomain(pattern(text))))
    })?;
    all.add((ip_blocks, not_ip_blocks), |text| {
        network(text, Condition::SourceIp)
    })?;
    all.add((remote_ip_blocks, not_remote_ip_blocks), |text| {
        network(text, Condition::RemoteIp)
    })?;
    Some(Condition::All(all.0))
}

fn operation(operation: &RuleOperation) -> Option<Condition> {
    let RuleOperation {
        hosts,
        not_hosts,
        ports,
        not_ports,
        methods,
        not_methods,
        paths,
        not_paths,
    } = operation;
    let mut all = All::default();
    all.add((hosts, not_hosts), |text| {
        Some(Condition::Host(pattern(text)))
    })?;
    all.add((ports, not_ports), port)?;
    all.add((methods, not_methods), |text| {
        Some(Condition::Method(pattern(text)))
    })?;
    all.add((paths, not_paths), |text| {
        let pattern = if Template::is_meant(text) {
            PathPattern::Template(text.parse().ok()?)
        } else {
            PathPattern::Text(pattern(text))
        };
        Some(Condition::Path(pattern))
    })?;
    Some(Condition::All(all.0))
}

fn when(when: &RuleCondition, namespace: &str, domains: &Domains<'_>) -> Option<Condition> {
    let attribute = Attribute::parse(&when.key).ok()?;
    let mut all = All::default();
    all.add((&when.values, &when.not_values), |text| {
        attribute_is(&attribute, text, namespace, domains)
    })?;
    Some(Condition::All(all.0))
}

fn attribute_is(
    attribute: &Attribute,
    text: &str,
    namespace: &str,
    domains: &Domains<'_>,
) -> Option<Condition> {
    Some(match attribute {
        Attribute::Audiences => Condition::Audience(pattern(text)),
        Attribute::Claim(path) => Condition::Claim {
            path: path.clone(),
            value: pattern(text),
        },
        Attribute::DestinationIp => network(text, Condition::DestinationIp)?,
        Attribute::DestinationPort => port(text)?,
        Attribute::Header(name) => Condition::Header(HeaderMatcher {
            key: HeaderKey::Field(name.clone()),
            test: match text {
                "*" => HeaderTest::Present,
                text => HeaderTest::Value(pattern(text)),
            },
            invert: false,
            missing_is_empty: false,
        }),
        Attribute::Namespace => Condition::Peer(PeerPattern::Namespace(pattern(text))),
        Attribute::Presenter => Condition::Presenter(pattern(text)),
        Attribute::Principal => domains.principal(text),
        Attribute::RemoteIp => network(text, Condition::RemoteIp)?,
        Attribute::RequestPrincipal => Condition::RequestPrincipal(pattern(text)),
        Attribute::ServiceAccount => service_account(text, namespace),
        Attribute::Sni => Condition::Sni(pattern(text)),
        Attribute::SourceIp => network(text, Condition::SourceIp)?,
        Attribute::TrustDomain => Condition::Peer(PeerPattern::TrustDomain(pattern(text))),
    })
}

fn network(text: &str, make: impl Fn(Network) -> Condition) -> Option<Condition> {
    text.parse().ok().map(make)
}

fn port(text: &str) -> Option<Condition> {
    let port = text.parse().ok()?;
    Some(Condition::DestinationPort(PortRange::one(port)))
}
