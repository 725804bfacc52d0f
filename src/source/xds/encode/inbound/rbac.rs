//! Policies as RBAC filters, one for each action.

use std::collections::HashMap;

use prost::{Message, Name};

use super::rule::{Expr, Leaf, Reader, Split, string};
use super::{Authorizers, Port, authorizer, filter};
use crate::layer::authz::Lean;
use crate::model::authorization::{Action, Audit, Condition, Enforcement, Policy, Stage};
use crate::model::inbound::Authorizer;
use crate::model::matcher::{HeaderKey, HeaderMatcher, HeaderTest, StringMatcher};
use crate::model::token::Location;
use crate::source::xds::encode::loss::Loss;
use crate::source::xds::encode::{Pen, canonical, matches};
use crate::source::xds::proto::{Any, hcm, matcher, rbac as wire, rbac_filter};

use wire::permission::Rule;
use wire::principal::{Authenticated, Identifier};

/// The filters of a port, all of which must let a request pass.
pub(super) fn filters(
    pen: &mut Pen<'_>,
    port: Port<'_>,
    strict: bool,
    authorizers: Authorizers,
) -> Vec<hcm::HttpFilter> {
    let mut reader = Reader {
        port: port.number,
        doubted: false,
    };
    let mut filters = Filters::default();
    if strict {
        let nobody = Expr::leaf(Leaf::Authenticated).negated();
        filters.deny("plaintext", vec![("plaintext".to_owned(), nobody)]);
    }
    let tokens = tokens(port, &mut reader);
    if !tokens.is_empty() {
        pen.lose(Loss::Tokens);
        filters.deny("tokens", tokens);
    }
    let authorization = &port.inbound.authorization;
    for external in &authorization.external {
        let policies = policies(&external.policies, Lean::Broad, &mut reader);
        let name = format!("external.{}", external.provider);
        let known = port.inbound.authorizers.get(&external.provider);
        match known.filter(|_| authorizers == Authorizers::Asked) {
            Some(authorizer) => filters.ask(&name, authorizer, policies),
            None => {
                pen.lose(Loss::ExternalAuthorizers);
                filters.deny(&name, policies);
            }
        }
    }
    for stage in &authorization.stages {
        filters.stage(pen, stage, &mut reader);
    }
    pen.lose_if(reader.doubted, Loss::Conditions);
    pen.lose_if(!port.inbound.limits.is_empty(), Loss::LocalLimits);
    filters.all
}

/// Requests with a token: gRPC verifies none, so each may be one that is no good.
fn tokens(port: Port<'_>, reader: &mut Reader) -> Vec<(String, Expr)> {
    let locations = port.inbound.tokens.iter().flat_map(|rule| &rule.locations);
    let contained = |header: &str, text: String| {
        let text = StringMatcher::Contains(text.into());
        string(header, matches::string(&text))
    };
    let tokens = locations.map(|location| match location {
        Location::Cookie(name) => contained("cookie", format!("{name}=")),
        Location::Parameter(name) => contained(":path", format!("{name}=")),
        Location::Header { name, prefix } => {
            let header = HeaderMatcher {
                key: HeaderKey::Field(name.clone()),
                test: HeaderTest::Value(StringMatcher::PrefixIgnoreCase(prefix.clone())),
                invert: false,
                missing_is_empty: false,
            };
            reader.expr(&Condition::Header(header), Lean::Broad)
        }
    });
    let numbered = tokens.enumerate();
    numbered
        .map(|(index, expr)| (format!("token[{index}]"), expr))
        .collect()
}

fn policies(all: &[Policy], lean: Lean, reader: &mut Reader) -> Vec<(String, Expr)> {
    let read = all.iter().map(|policy| {
        (
            policy.name.to_string(),
            reader.expr(&policy.condition, lean),
        )
    });
    read.collect()
}

/// Filters by names that are not given twice.
#[derive(Default)]
struct Filters {
    all: Vec<hcm::HttpFilter>,
}

impl Filters {
    fn stage(&mut self, pen: &mut Pen<'_>, stage: &Stage, reader: &mut Reader) {
        let Stage {
            name: _,
            action,
            policies: all,
            enforcement,
            audit,
            loggers,
        } = stage;
        let pretends = *enforcement == Enforcement::DryRun;
        let written_down = *audit != Audit::Never || !loggers.is_empty();
        pen.lose_if(
            pretends || written_down || *action == Action::Audit,
            Loss::Audits,
        );
        match action {
            Action::Audit => {}
            Action::Allow | Action::Deny if pretends => {}
            Action::Allow => {
                let policies = policies(all, Lean::Narrow, reader);
                self.allow(policies);
            }
            Action::Deny => {
                let policies = policies(all, Lean::Broad, reader);
                self.deny("DENY", policies);
            }
        }
    }

    /// Asks an authorizer about what one of the policies takes.
    fn ask(&mut self, name: &str, authorizer: &Authorizer, policies: Vec<(String, Expr)>) {
        let named = named(policies, || vec![Split::default()]);
        if !named.is_empty() {
            self.all
                .extend(authorizer::filters(name, authorizer, named));
        }
    }

    /// Denies what one of the policies takes.
    fn deny(&mut self, name: &str, policies: Vec<(String, Expr)>) {
        let everything = || vec![Split::default()];
        let named = named(policies, everything);
        if !named.is_empty() {
            let name = format!("envoy.filters.http.rbac.{name}");
            self.push(name, wire::rbac::Action::Deny, named);
        }
    }

    /// Denies what none of the policies takes. Without any that takes something, the filter has one
    /// that takes nothing: an empty list has been read as no list.
    fn allow(&mut self, policies: Vec<(String, Expr)>) {
        let mut named = named(policies, Vec::new);
        if named.is_empty() {
            let nobody = wire::Policy {
                permissions: vec![negated_permission(permission_of(Rule::Any(true)))],
                principals: vec![principal_of(Identifier::Any(true))],
                ..wire::Policy::default()
            };
            named.insert("nobody".to_owned(), nobody);
        }
        let name = "envoy.filters.http.rbac".to_owned();
        self.push(name, wire::rbac::Action::Allow, named);
    }

    fn push(
        &mut self,
        mut name: String,
        action: wire::rbac::Action,
        policies: HashMap<String, wire::Policy>,
    ) {
        if self.all.iter().any(|filter| filter.name == name) {
            name = format!("{name}.{}", self.all.len());
        }
        let message = rbac_filter::Rbac {
            rules: Some(wire::Rbac {
                action: action.into(),
                policies,
                audit_logging_options: None,
            }),
            ..rbac_filter::Rbac::default()
        };
        let config = Any {
            type_url: rbac_filter::Rbac::type_url(),
            value: canonical::sorted(message.encode_to_vec(), &canonical::RBAC),
        };
        self.all.push(filter(&name, config));
    }
}

/// Policies under names that are not given twice; `too_many` stands for a condition that would
/// become more than can be said.
fn named(
    policies: Vec<(String, Expr)>,
    too_many: impl Fn() -> Vec<Split>,
) -> HashMap<String, wire::Policy> {
    let mut named = HashMap::new();
    for (name, expr) in policies {
        let alternatives = expr.split().unwrap_or_else(&too_many);
        for split in alternatives {
            let mut own = name.clone();
            while named.contains_key(&own) {
                own = format!("{name}#{}", named.len());
            }
            named.insert(own, policy(split));
        }
    }
    named
}

fn policy(split: Split) -> wire::Policy {
    wire::Policy {
        permissions: vec![permission(Expr::All(split.permissions))],
        principals: vec![principal(Expr::All(split.principals))],
        ..wire::Policy::default()
    }
}

fn permission_of(rule: Rule) -> wire::Permission {
    wire::Permission { rule: Some(rule) }
}

fn negated_permission(inner: wire::Permission) -> wire::Permission {
    permission_of(Rule::NotRule(Box::new(inner)))
}

fn permission(expr: Expr) -> wire::Permission {
    let set = |parts: Vec<Expr>| wire::permission::Set {
        rules: parts.into_iter().map(permission).collect(),
    };
    match expr {
        Expr::All(mut parts) if parts.len() == 1 => permission(parts.remove(0)),
        Expr::All(parts) if parts.is_empty() => permission_of(Rule::Any(true)),
        Expr::All(parts) => permission_of(Rule::AndRules(set(parts))),
        Expr::Any(parts) if parts.is_empty() => negated_permission(permission_of(Rule::Any(true))),
        Expr::Any(parts) => permission_of(Rule::OrRules(set(parts))),
        Expr::Leaf { leaf, negated } => {
            let own = permission_of(match leaf {
                Leaf::DestinationIp(range) => Rule::DestinationIp(range),
                Leaf::Header(header) => Rule::Header(*header),
                Leaf::Path(path) => Rule::UrlPath(url_path(*path)),
                // Words of principals are split off before; none of them lets anybody pass here.
                Leaf::Authenticated | Leaf::DirectIp(_) | Leaf::Peer(_) | Leaf::RemoteIp(_) => {
                    Rule::NotRule(Box::new(permission_of(Rule::Any(true))))
                }
            });
            match negated {
                true => negated_permission(own),
                false => own,
            }
        }
    }
}

fn principal_of(identifier: Identifier) -> wire::Principal {
    wire::Principal {
        identifier: Some(identifier),
    }
}

fn negated_principal(inner: wire::Principal) -> wire::Principal {
    principal_of(Identifier::NotId(Box::new(inner)))
}

fn principal(expr: Expr) -> wire::Principal {
    let set = |parts: Vec<Expr>| wire::principal::Set {
        ids: parts.into_iter().map(principal).collect(),
    };
    match expr {
        Expr::All(mut parts) if parts.len() == 1 => principal(parts.remove(0)),
        Expr::All(parts) if parts.is_empty() => principal_of(Identifier::Any(true)),
        Expr::All(parts) => principal_of(Identifier::AndIds(set(parts))),
        Expr::Any(parts) if parts.is_empty() => {
            negated_principal(principal_of(Identifier::Any(true)))
        }
        Expr::Any(parts) => principal_of(Identifier::OrIds(set(parts))),
        Expr::Leaf { leaf, negated } => {
            let authenticated =
                |principal_name| Identifier::Authenticated(Authenticated { principal_name });
            let own = principal_of(match leaf {
                Leaf::Authenticated => authenticated(None),
                Leaf::DirectIp(range) => Identifier::DirectRemoteIp(range),
                Leaf::Header(header) => Identifier::Header(*header),
                Leaf::Path(path) => Identifier::UrlPath(url_path(*path)),
                Leaf::Peer(name) => authenticated(Some(*name)),
                Leaf::RemoteIp(range) => Identifier::RemoteIp(range),
                // Words of permissions are split off before.
                Leaf::DestinationIp(_) => {
                    Identifier::NotId(Box::new(principal_of(Identifier::Any(true))))
                }
            });
            match negated {
                true => negated_principal(own),
                false => own,
            }
        }
    }
}

fn url_path(path: matcher::StringMatcher) -> matcher::PathMatcher {
    matcher::PathMatcher {
        rule: Some(matcher::path_matcher::Rule::Path(path)),
    }
}
