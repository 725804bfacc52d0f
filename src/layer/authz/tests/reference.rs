//! The decision again, slowly, to compare with.
//!
//! Negations are pushed down to the questions first; each question is asked of a list of readings
//! of the request, of which one or all must say yes. There is no early return and no lean that is
//! passed on: a mistake in one of the two is not a mistake in the other.

use super::*;
use crate::model::authorization::SpiffeParts;

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
    caller: &Caller<'_>,
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

fn answer(flat: &Flat<'_>, request: &Request<()>, caller: &Caller<'_>, doubt: bool) -> bool {
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
    fn say(&self, wanted: &StringMatcher, doubt: bool) -> bool {
        if doubt {
            let mut all = self.written.iter().chain(&self.others);
            all.any(|text| wanted.matches(text))
        } else {
            !self.written.is_empty() && self.written.iter().all(|text| wanted.matches(text))
        }
    }
}

fn asked(leaf: &Condition, request: &Request<()>, caller: &Caller<'_>, doubt: bool) -> bool {
    match leaf {
        Condition::Header(matcher) => {
            let HeaderKey::Field(name) = &matcher.key else {
                panic!("not generated");
            };
            let HeaderTest::Value(wanted) = &matcher.test else {
                panic!("not generated");
            };
            let readings = fields(request, name);
            let parts = !matches!(wanted, StringMatcher::Exact(_));
            let elements = readings.elements.iter().all(|text| wanted.matches(text));
            readings.say(wanted, doubt) && (doubt || !parts || elements)
        }
        Condition::Host(wanted) => host(request).say(&lowered(wanted), doubt),
        Condition::Method(wanted) => wanted.matches(request.method().as_str()),
        Condition::Path(PathPattern::Text(wanted)) => wanted.matches(request.uri().path()),
        Condition::Peer(PeerPattern::Name(wanted)) => {
            caller.principal.is_some_and(|name| wanted.matches(name))
        }
        Condition::Peer(PeerPattern::Namespace(wanted)) => {
            let parts = caller.principal.and_then(SpiffeParts::of);
            parts
                .and_then(SpiffeParts::istio)
                .is_some_and(|(ns, _)| wanted.matches(ns))
        }
        Condition::SourceIp(network) => caller.source.map_or(doubt, |ip| network.contains(ip)),
        other => panic!("not generated: {other:?}"),
    }
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
        other => other.clone(),
    }
}
