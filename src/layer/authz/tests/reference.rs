//! The decision again, slowly, to compare with.
//!
//! Negations are pushed down to the questions first; each question is asked of a list of readings
//! of the request, of which one or all must say yes. There is no early return and no lean that is
//! passed on: a mistake in one of the two is not a mistake in the other.

use super::metamorphic::{Asking, TEMPLATES};
use super::*;

/// A condition with its negations at the leaves.
enum Flat<'c> {
    All(Vec<Flat<'c>>),
    Any(Vec<Flat<'c>>),
    /// The question, and whether the answer should be no.
    Leaf(&'c Condition, bool),
}

fn flat(condition: &Condition, negated: bool) -> Flat<'_> {
    match condition {
        Condition::All(all) if negated => Flat::Any(all.iter().map(|c| flat(c, true)).collect()),
        Condition::All(all) => Flat::All(all.iter().map(|c| flat(c, false)).collect()),
        Condition::Any(any) if negated => Flat::All(any.iter().map(|c| flat(c, true)).collect()),
        Condition::Any(any) => Flat::Any(any.iter().map(|c| flat(c, false)).collect()),
        Condition::Not(inner) => flat(inner, !negated),
        leaf => Flat::Leaf(leaf, negated),
    }
}

/// Whether policies let the request pass.
pub(super) fn allowed(
    policies: &Authorization,
    request: &Request<()>,
    caller: &Asking<'_>,
) -> bool {
    policies.stages.iter().all(|stage| {
        let doubt = stage.action != Action::Allow;
        let matches: Vec<bool> = stage
            .policies
            .iter()
            .map(|policy| answer(&flat(&policy.condition, false), request, caller, doubt))
            .collect();
        match (stage.enforcement, stage.action) {
            (Enforcement::DryRun, _) | (_, Action::Audit) => true,
            (Enforcement::Enforced, Action::Allow) => matches.contains(&true),
            (Enforcement::Enforced, Action::Deny) => !matches.contains(&true),
        }
    })
}

fn answer(flat: &Flat<'_>, request: &Request<()>, caller: &Asking<'_>, doubt: bool) -> bool {
    match flat {
        Flat::All(all) => {
            let answers: Vec<bool> = all
                .iter()
                .map(|f| answer(f, request, caller, doubt))
                .collect();
            !answers.contains(&false)
        }
        Flat::Any(any) => {
            let answers: Vec<bool> = any
                .iter()
                .map(|f| answer(f, request, caller, doubt))
                .collect();
            answers.contains(&true)
        }
        // A question that should be answered with no is asked in the opposite doubt.
        Flat::Leaf(leaf, negated) => asked(leaf, request, caller, doubt != *negated) != *negated,
    }
}

/// All readings of a text that is there once, and perhaps others.
struct Readings {
    written: Vec<String>,
    others: Vec<String>,
    /// Of a list.
    elements: Vec<String>,
}

impl Readings {
    fn say(&self, wanted: impl Fn(&str) -> bool, doubt: bool) -> bool {
        if doubt {
            let mut all = self.written.iter().chain(&self.others);
            all.any(|text| wanted(text))
        } else {
            !self.written.is_empty() && self.written.iter().all(|text| wanted(text))
        }
    }
}

fn asked(leaf: &Condition, request: &Request<()>, asking: &Asking<'_>, doubt: bool) -> bool {
    let (caller, token) = asking;
    match leaf {
        Condition::Header(matcher) => field(matcher, request, doubt != matcher.invert),
        Condition::Host(wanted) => {
            let wanted = lowered(wanted);
            host(request).say(|host| wanted.matches(host), doubt)
        }
        Condition::Method(wanted) => wanted.matches(request.method().as_str()),
        Condition::Path(PathPattern::Text(wanted)) => wanted.matches(request.uri().path()),
        Condition::Path(PathPattern::Template(template)) => {
            let same = |text: &str| text.parse().is_ok_and(|other: Template| other == *template);
            let (_, means) = TEMPLATES.iter().find(|(text, _)| same(text)).unwrap();
            means(request.uri().path())
        }
        Condition::Peer(pattern) => caller.principal.is_some_and(|name| peer(pattern, name)),
        Condition::Encrypted => caller.encrypted,
        Condition::RequestPrincipal(wanted) => {
            let principal = token.and_then(|token| token.principal.as_deref());
            principal.is_some_and(|principal| wanted.matches(principal))
        }
        Condition::Audience(wanted) => token.is_some_and(|token| {
            let matching = token.audiences.iter().filter(|one| wanted.matches(one));
            matching.count() > 0
        }),
        Condition::Claim { path, value } => {
            let groups = token.map(|token| &token.claims[0].1);
            let claim = match (groups, path.len()) {
                (Some(Claim::Object(fields)), 2) => Some(&fields[0].1),
                (_, 2) => None,
                (groups, _) => groups,
            };
            claim.is_some_and(|claim| match claim {
                Claim::Text(text) => value.matches(text),
                Claim::List(items) => items.iter().filter(|one| value.matches(one)).count() > 0,
                Claim::Bool(_) | Claim::Object(_) | Claim::Other => doubt,
            })
        }
        Condition::DestinationPort(ports) => caller
            .destination
            .map_or(doubt, |to| (ports.first..=ports.last).contains(&to.port())),
        Condition::RemoteIp(network) => caller.remote.map_or(doubt, |ip| network.contains(ip)),
        Condition::SourceIp(network) => caller.source.map_or(doubt, |ip| network.contains(ip)),
        other => panic!("not generated: {other:?}"),
    }
}

fn peer(pattern: &PeerPattern, name: &str) -> bool {
    // All that are drawn are of Istio's form.
    let parts: Vec<&str> = name.split('/').collect();
    let [_, _, domain, _, namespace, _, account] = parts[..] else {
        panic!("not generated: {name}");
    };
    match pattern {
        PeerPattern::Name(wanted) => wanted.matches(name),
        PeerPattern::Namespace(wanted) => wanted.matches(namespace),
        PeerPattern::ServiceAccount {
            namespace: wanted,
            account: own,
        } => (&**wanted, &**own) == (namespace, account),
        PeerPattern::TrustDomain(wanted) => wanted.matches(domain),
    }
}

fn field(matcher: &HeaderMatcher, request: &Request<()>, doubt: bool) -> bool {
    let HeaderKey::Field(name) = &matcher.key else {
        panic!("not generated");
    };
    let readings = fields(request, name);
    let absent = readings.written.is_empty();
    let holds = match &matcher.test {
        HeaderTest::Present if absent => return matcher.invert,
        _ if absent && !matcher.missing_is_empty => return false,
        HeaderTest::Present => true,
        HeaderTest::Range { .. } if absent => false,
        HeaderTest::Range { from, to } => {
            let within = |text: &str| {
                text.parse()
                    .is_ok_and(|level| (*from..*to).contains(&level))
            };
            readings.say(within, doubt)
        }
        HeaderTest::Value(wanted) if absent => wanted.matches(""),
        HeaderTest::Value(wanted) => {
            let whole = matches!(
                wanted,
                StringMatcher::Exact(_) | StringMatcher::ExactIgnoreCase(_)
            );
            let elements = readings.elements.iter().all(|text| wanted.matches(text));
            readings.say(|text| wanted.matches(text), doubt) && (doubt || whole || elements)
        }
    };
    holds != matcher.invert
}

fn fields(request: &Request<()>, name: &http::HeaderName) -> Readings {
    let values = request.headers().get_all(name).iter();
    let written: Vec<String> = values.map(|v| v.to_str().unwrap().to_owned()).collect();
    let elements: Vec<String> = written
        .iter()
        .flat_map(|value| value.split(','))
        .map(|element| element.trim().to_owned())
        .collect();
    let mut others = elements.clone();
    if written.len() > 1 {
        others.push(written.join(","));
    }
    Readings {
        written,
        others,
        elements,
    }
}

fn host(request: &Request<()>) -> Readings {
    let written = request.uri().authority().unwrap().as_str().to_lowercase();
    let (name, port) = match written.split_once(':') {
        Some((name, port)) => (name.to_owned(), format!(":{port}")),
        None => (written.clone(), String::new()),
    };
    let plain = name.trim_end_matches('.').to_owned();
    let others = vec![name, plain.clone(), plain + &port];
    Readings {
        written: vec![written],
        others,
        elements: Vec::new(),
    }
}

fn lowered(wanted: &StringMatcher) -> StringMatcher {
    match wanted {
        StringMatcher::Exact(text) => exact(&text.to_lowercase()),
        StringMatcher::Prefix(text) => StringMatcher::Prefix(text.to_lowercase().into()),
        StringMatcher::Suffix(text) => StringMatcher::Suffix(text.to_lowercase().into()),
        StringMatcher::Contains(text) => StringMatcher::Contains(text.to_lowercase().into()),
        other => other.clone(),
    }
}
