//! Configurations and requests from a small vocabulary, so that they meet.

use std::collections::BTreeMap;

use http::uri::Authority;
use http::{HeaderName, HeaderValue, Request, StatusCode};
use meshwork::explain::{End, Outcome};
use meshwork::model::cluster::Protocol;
use meshwork::model::fault::{Abort, AbortStatus, Amount, Fault};
use meshwork::model::matcher::{
    HeaderKey, HeaderMatcher, HeaderTest, PathMatcher, QueryMatcher, Regex, RouteMatcher,
    StringMatcher,
};
use meshwork::model::route::{
    Action, Destinations, DirectResponse, Forward, HeaderChange, HeaderChanges, PathRewrite,
    Redirect, RedirectPort, RewritePattern, Route,
};
use meshwork::model::{Fraction, Resources};
use meshwork::{Body, Random};

use crate::mesh::world::{Plan, cluster, forward, route, weighted};

/// A configuration and the matchers of its routes.
pub(super) struct Drawn {
    pub(super) resources: Resources,
    pub(super) kinds: BTreeMap<String, RouteMatcher>,
}

/// How often each thing was met.
#[derive(Default)]
pub(super) struct Hits(BTreeMap<(&'static str, &'static str), usize>);

impl Hits {
    pub(super) fn add(&mut self, what: &'static str, kind: &'static str) {
        *self.0.entry((what, kind)).or_default() += 1;
    }

    pub(super) fn each_at_least(&self, least: usize) {
        const STRINGS: [&str; 7] = [
            "contains",
            "exact",
            "exact in any case",
            "prefix",
            "prefix in any case",
            "regex",
            "suffix",
        ];
        const PATHS: [&str; 6] = [
            "path exact",
            "path exact in any case",
            "path prefix",
            "path prefix in any case",
            "path regex",
            "path segments",
        ];
        const HEADERS: [&str; 7] = [
            "header field",
            "header method",
            "header authority",
            "header present",
            "header range",
            "header inverted",
            "header missing is empty",
        ];
        const ACTIONS: [&str; 8] = [
            "abort",
            "direct",
            "forward",
            "no cluster",
            "no endpoint",
            "no route",
            "redirect",
            "rewritten",
        ];
        for what in ["taken", "mismatch"] {
            let kinds = STRINGS.iter().chain(&PATHS).chain(&HEADERS);
            for kind in kinds.chain(&["query", "query present"]) {
                self.met(what, kind, least);
            }
        }
        self.met("taken", "share", least);
        ACTIONS
            .iter()
            .for_each(|kind| self.met("action", kind, least));
    }

    fn met(&self, what: &'static str, kind: &'static str, least: usize) {
        let found = self.0.get(&(what, kind)).copied().unwrap_or_default();
        assert!(found >= least, "{what} {kind}: {found} of {:#?}", self.0);
    }
}

fn pick<'a, T>(random: &Random, all: &'a [T]) -> &'a T {
    &all[random.below(all.len() as u32) as usize]
}

fn chance(random: &Random, one_in: u32) -> bool {
    random.below(one_in) == 0
}

pub(super) fn draw(random: &Random) -> Drawn {
    let mut plan = Plan::default()
        .cluster(cluster("v1", Protocol::Http1), &[1, 2])
        .cluster(cluster("v2", Protocol::Http1), &[3, 4])
        .cluster(cluster("v3", Protocol::Http1), &[5, 6])
        .cluster(cluster("empty", Protocol::Http1), &[]);
    let mut kinds = BTreeMap::new();
    let mut routes = Vec::new();
    for number in 0..4 + random.below(4) {
        let name = format!("r{number}");
        let matcher = matcher(random);
        kinds.insert(name.clone(), matcher.clone());
        routes.push(drawn_route(random, &name, matcher));
    }
    plan = plan.host("catalog", routes);
    Drawn {
        resources: plan.build(),
        kinds,
    }
}

fn drawn_route(random: &Random, name: &str, matcher: RouteMatcher) -> Route {
    let mut to = forward(match random.below(7) {
        0 => Destinations::single("missing"),
        1 => Destinations::single("empty"),
        2 | 3 => weighted(&[("v1", 9), ("v2", 5), ("empty", 1)]),
        _ => Destinations::single(*pick(random, &["v1", "v2", "v3"])),
    });
    rewrite(random, &mut to);
    let mut route = route(name, matcher, to);
    match random.below(6) {
        0 => {
            route.action = Action::Direct(DirectResponse {
                status: StatusCode::IM_A_TEAPOT,
                body: "direct".into(),
            });
        }
        1 => route.action = Action::Redirect(redirect(random)),
        _ => {}
    }
    if chance(random, 3) {
        let value = HeaderValue::from_static(["one", "two"][random.below(2) as usize]);
        let set = HeaderChange::Set(HeaderName::from_static("x-set"), value);
        route.headers = HeaderChanges {
            request: vec![set],
            response: Vec::new(),
        };
    }
    if chance(random, 5) {
        route.fault = Some(Fault {
            delay: None,
            abort: Some(Abort {
                status: Amount::Fixed(AbortStatus::Http(StatusCode::GONE)),
                share: *pick(
                    random,
                    &[Fraction::ONE, Fraction::from_percent(30.0).unwrap()],
                ),
            }),
            max_active: None,
        });
    }
    route
}

fn rewrite(random: &Random, to: &mut Forward) {
    to.path_rewrite = match random.below(6) {
        0 => Some(PathRewrite::Full("/full".into())),
        1 => Some(PathRewrite::Prefix {
            from: "/".into(),
            to: "/new/".into(),
        }),
        2 => Some(PathRewrite::Regex {
            pattern: RewritePattern::new("a").unwrap(),
            to: "xy".into(),
        }),
        _ => None,
    };
    if chance(random, 4) {
        to.authority_rewrite = Some(Authority::from_static("other.example"));
    }
}

fn redirect(random: &Random) -> Redirect {
    Redirect {
        status: StatusCode::FOUND,
        scheme: None,
        host: chance(random, 2).then(|| "elsewhere".into()),
        port: *pick(
            random,
            &[
                RedirectPort::Unchanged,
                RedirectPort::Fixed(8443),
                RedirectPort::FromRequest,
                RedirectPort::FromScheme,
            ],
        ),
        path: chance(random, 2).then(|| PathRewrite::Full("/moved".into())),
    }
}

/// One question of each kind with the same chance.
fn matcher(random: &Random) -> RouteMatcher {
    let mut matcher = RouteMatcher::everything();
    match random.below(12) {
        0..=3 => matcher.path = path(random),
        4..=8 => matcher.headers.push(header(random)),
        9 | 10 => matcher.query.push(QueryMatcher {
            name: "q".into(),
            value: chance(random, 2).then(|| string(random, "1")),
        }),
        _ => {}
    }
    if chance(random, 8) {
        matcher.share = Fraction::from_percent(40.0).ok();
    }
    matcher
}

fn path(random: &Random) -> PathMatcher {
    let text = *pick(random, &["/a", "/a/b", "/A"]);
    match random.below(6) {
        0 => PathMatcher::Exact(text.into()),
        1 => PathMatcher::ExactIgnoreCase(text.into()),
        2 => PathMatcher::Prefix(text.into()),
        3 => PathMatcher::PrefixIgnoreCase(text.into()),
        4 => PathMatcher::Regex(Regex::new("/a(/.*)?").unwrap()),
        _ => PathMatcher::SegmentPrefix(text.into()),
    }
}

fn string(random: &Random, text: &str) -> StringMatcher {
    match random.below(7) {
        0 => StringMatcher::Contains(text.into()),
        1 => StringMatcher::Exact(text.into()),
        2 => StringMatcher::ExactIgnoreCase(text.into()),
        3 => StringMatcher::Prefix(text.into()),
        4 => StringMatcher::PrefixIgnoreCase(text.into()),
        5 => StringMatcher::Regex(Regex::new(&format!("{text}.*")).unwrap()),
        _ => StringMatcher::Suffix(text.into()),
    }
}

fn header(random: &Random) -> HeaderMatcher {
    let (key, value) = match random.below(6) {
        0 => (HeaderKey::Method, "GET"),
        1 => (HeaderKey::Authority, "catalog"),
        _ => (HeaderKey::Field(HeaderName::from_static("x")), "5"),
    };
    let test = match (&key, random.below(5)) {
        (HeaderKey::Field(_), 0) => HeaderTest::Present,
        (HeaderKey::Field(_), 1) => HeaderTest::Range { from: 1, to: 10 },
        _ => HeaderTest::Value(string(random, value)),
    };
    HeaderMatcher {
        key,
        test,
        invert: chance(random, 3),
        missing_is_empty: chance(random, 3),
    }
}

/// A request of the same vocabulary.
pub(super) fn request(random: &Random) -> Request<Body> {
    let path = pick(random, &["/", "/a", "/A", "/a/b", "/ab"]);
    let query = pick(random, &["", "?q", "?q=1", "?q=12&q=1", "?p=1"]);
    let authority = pick(random, &["catalog", "catalog:80"]);
    let mut request = Request::builder()
        .method(*pick(random, &["GET", "POST"]))
        .uri(format!("http://{authority}{path}{query}"));
    for value in *pick(random, &[&[][..], &["5"], &["50"], &["a5"], &["5", "a"]]) {
        request = request.header("x", *value);
    }
    request.body(Body::empty()).unwrap()
}

/// The kinds of questions that a route asks.
pub(super) fn matchers(matcher: &RouteMatcher) -> Vec<&'static str> {
    let mut kinds = Vec::new();
    match &matcher.path {
        PathMatcher::Exact(_) => kinds.push("path exact"),
        PathMatcher::ExactIgnoreCase(_) => kinds.push("path exact in any case"),
        PathMatcher::Prefix(_) if matcher.path.is_everything() => {}
        PathMatcher::Prefix(_) => kinds.push("path prefix"),
        PathMatcher::PrefixIgnoreCase(_) => kinds.push("path prefix in any case"),
        PathMatcher::Regex(_) => kinds.push("path regex"),
        PathMatcher::SegmentPrefix(_) => kinds.push("path segments"),
        other => panic!("{other:?}"),
    }
    for header in &matcher.headers {
        kinds.push(match header.key {
            HeaderKey::Authority => "header authority",
            HeaderKey::Field(_) => "header field",
            HeaderKey::Method => "header method",
            _ => "header of another kind",
        });
        match &header.test {
            HeaderTest::Present => kinds.push("header present"),
            HeaderTest::Range { .. } => kinds.push("header range"),
            HeaderTest::Value(value) => kinds.push(word(value)),
            other => panic!("{other:?}"),
        }
        if header.invert {
            kinds.push("header inverted");
        }
        if header.missing_is_empty {
            kinds.push("header missing is empty");
        }
    }
    for query in &matcher.query {
        kinds.push("query");
        kinds.push(query.value.as_ref().map_or("query present", word));
    }
    if matcher.share.is_some() {
        kinds.push("share");
    }
    kinds
}

fn word(matcher: &StringMatcher) -> &'static str {
    match matcher {
        StringMatcher::Contains(_) => "contains",
        StringMatcher::Exact(_) => "exact",
        StringMatcher::ExactIgnoreCase(_) => "exact in any case",
        StringMatcher::Prefix(_) => "prefix",
        StringMatcher::PrefixIgnoreCase(_) => "prefix in any case",
        StringMatcher::Regex(_) => "regex",
        StringMatcher::Suffix(_) => "suffix",
        other => panic!("{other:?}"),
    }
}

/// What becomes of a request, in a word.
pub(super) fn action(outcome: &Outcome) -> &'static str {
    match &outcome.end {
        End::Direct { .. } => "direct",
        End::Redirect { .. } => "redirect",
        End::Forward(sent) if sent.failure.is_some() => "no endpoint",
        End::Forward(sent) if sent.uri.contains("/new/") || sent.uri.contains("/full") => {
            "rewritten"
        }
        End::Forward(_) => "forward",
        End::Refused(refusal) => match refusal.status.as_u16() {
            404 => "no route",
            410 => "abort",
            503 => "no cluster",
            other => panic!("{other}"),
        },
        other => panic!("{other:?}"),
    }
}
