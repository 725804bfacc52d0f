//! Routes that no request can reach.
//!
//! Only what is certain is said: a route after one that takes everything, and match blocks that
//! repeat an earlier one word for word. Whether one prefix covers another regular expression is
//! not worth a wrong answer.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::Checker;
use crate::source::istio::fault::Code;
use crate::source::istio::kinds::{HttpMatch, HttpRoute, StringMatch};
use crate::source::istio::yaml::Located;

pub(super) fn http(check: &mut Checker<'_>, routes: &[Located<HttpRoute>]) {
    let mut everything: Option<usize> = None;
    let mut earlier: HashMap<HttpMatch, usize> = HashMap::new();
    check.within("http", |check| {
        for (index, route) in routes.iter().enumerate() {
            check.within(index, |check| match everything {
                Some(first) => {
                    let text = format!("no request reaches this route: http[{first}] takes all");
                    check.warn(Code::Unreachable, text);
                }
                None => repetitions(check, index, route, &mut earlier),
            });
            let all = route.matches.is_empty() || route.matches.iter().any(|m| takes_all(m));
            if everything.is_none() && all {
                everything = Some(index);
            }
        }
    });
}

fn repetitions(
    check: &mut Checker<'_>,
    index: usize,
    route: &HttpRoute,
    earlier: &mut HashMap<HttpMatch, usize>,
) {
    let mut repeated = Vec::new();
    for (number, block) in route.matches.iter().enumerate() {
        match earlier.entry(condition(block)) {
            Entry::Occupied(first) => repeated.push((number, *first.get())),
            Entry::Vacant(free) => {
                free.insert(index);
            }
        }
    }
    if !repeated.is_empty() && repeated.len() == route.matches.len() {
        let text = "no request reaches this route: earlier routes have all of its matches";
        check.warn(Code::Unreachable, text);
        return;
    }
    check.within("match", |check| {
        for (number, first) in repeated {
            let text = format!("this match repeats one of http[{first}] and never decides");
            check.within(number, |check| check.warn(Code::Ineffective, text));
        }
    });
}

/// The block without what does not decide.
fn condition(block: &HttpMatch) -> HttpMatch {
    HttpMatch {
        name: None,
        stat_prefix: None,
        ..block.clone()
    }
}

fn takes_all(block: &HttpMatch) -> bool {
    let all_paths = |uri: &StringMatch| match (&uri.exact, &uri.prefix, &uri.regex) {
        (None, None, None) => true,
        (None, Some(prefix), None) => prefix == "/",
        (None, None, Some(regex)) => &**regex == ".*",
        _ => false,
    };
    block.uri.as_ref().is_none_or(all_paths)
        && HttpMatch {
            uri: None,
            ignore_uri_case: false,
            ..condition(block)
        } == HttpMatch::default()
}
