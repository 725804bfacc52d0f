//! C26: whatever is denied stays denied when it is written in another way.
//!
//! Policies and requests are drawn from a small vocabulary, so that they meet; each request that
//! is denied is changed in the ways by which policies have been passed by, and must be denied
//! or refused again. `MESHWORK_AUTHZ_PAIRS` sets how many pairs are tried (default 1,000,000).

use super::*;
use crate::random::Random;

const SEGMENTS: &[&str] = &["admin", "public", "a", "b"];
const ROLES: &[&str] = &["admin", "reader", "user"];
const HOSTS: &[&str] = &["secret.com", "public.com", "a.secret.com"];
const METHODS: &[&str] = &["GET", "POST"];
const NAMES: &[&str] = &[
    "spiffe://td/ns/a/sa/x",
    "spiffe://td/ns/b/sa/y",
    "spiffe://alias/ns/a/sa/x",
    "spiffe://td.evil/ns/a/sa/x",
];
const DOMAINS: &[&str] = &["td", "alias", "td.evil"];
const LEVELS: &[&str] = &["5", "50", "-5"];
const PORTS: &[u16] = &[80, 8080];
const USERS: &[&str] = &["iss/admin", "iss/user"];
/// Expressions, each matched as a whole.
const ROLE_EXPRESSIONS: &[&str] = &["admin|user", "ad.*", ".*er"];
const HOST_EXPRESSIONS: &[&str] = &["(a\\.)?secret\\.com", "public.*"];
const PATH_EXPRESSIONS: &[&str] = &["/admin(/.*)?", "/(a|b)/[^/]*"];
/// What a template means, in other words.
type Meaning = fn(&str) -> bool;
pub(super) const TEMPLATES: &[(&str, Meaning)] = &[
    ("/admin/{*}", |path| {
        let rest = path.strip_prefix("/admin/");
        rest.is_some_and(|rest| !rest.is_empty() && !rest.contains('/'))
    }),
    ("/{*}/admin", |path| {
        let inner = path.strip_prefix('/');
        let inner = inner.and_then(|inner| inner.strip_suffix("/admin"));
        inner.is_some_and(|inner| !inner.is_empty() && !inner.contains('/'))
    }),
    ("/admin/{**}", |path| path.starts_with("/admin/")),
    ("/{**}/admin", |path| {
        path.starts_with('/') && path.ends_with("/admin") && path.len() > "/admin".len()
    }),
];
const ADDRESSES: &[&str] = &["10.1.2.3", "::ffff:10.1.2.3", "11.0.0.1", "fd00::1"];

/// What is drawn, and what would be dear to make for each draw.
struct Draw {
    random: Random,
    roles: Vec<Regex>,
    hosts: Vec<Regex>,
    paths: Vec<Regex>,
    templates: Vec<Template>,
    tokens: Vec<Token>,
}

fn tokens() -> Vec<Token> {
    let text = |text: &str| Claim::Text(text.into());
    let groups = [
        text("admin"),
        text("user"),
        Claim::List(vec!["reader".into(), "admin".into()]),
        Claim::Bool(true),
        Claim::Object(vec![("role".into(), text("reader"))]),
    ];
    let of = |(at, claim): (usize, Claim)| Token {
        principal: Some(USERS[at % 2].into()),
        audiences: SEGMENTS[..at % 3].iter().map(|&one| one.into()).collect(),
        claims: vec![("groups".into(), claim)],
        ..Token::default()
    };
    groups.into_iter().enumerate().map(of).collect()
}

impl Draw {
    fn seeded(seed: u64) -> Self {
        let all = |from: &[&str]| from.iter().map(|one| Regex::new(one).unwrap()).collect();
        let templates = TEMPLATES.iter().map(|(text, _)| text.parse().unwrap());
        Self {
            random: Random::seeded(seed),
            roles: all(ROLE_EXPRESSIONS),
            hosts: all(HOST_EXPRESSIONS),
            paths: all(PATH_EXPRESSIONS),
            templates: templates.collect(),
            tokens: tokens(),
        }
    }

    fn below(&self, bound: usize) -> usize {
        self.random.below(u32::try_from(bound).unwrap()) as usize
    }

    fn of<T: Copy>(&self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    fn text(&self, from: &[&str]) -> StringMatcher {
        let text = self.of(from);
        match self.below(8) {
            0 => StringMatcher::Prefix(text[..text.len() / 2].into()),
            1 => StringMatcher::Suffix(text[text.len() / 2..].into()),
            2 => StringMatcher::Prefix("".into()),
            3 => StringMatcher::Contains(text[1..].into()),
            4 => StringMatcher::ExactIgnoreCase(text.to_uppercase().into()),
            _ => exact(text),
        }
    }

    /// The same, or an expression.
    fn pattern(&self, from: &[&str], expressions: &[Regex]) -> StringMatcher {
        match self.below(6) {
            0 => StringMatcher::Regex(expressions[self.below(expressions.len())].clone()),
            _ => self.text(from),
        }
    }

    fn header(&self) -> HeaderMatcher {
        let from = i64::from(self.random.below(3)) * 5 - 5;
        let (name, test) = match self.below(6) {
            0 => ("x-role", HeaderTest::Present),
            1 => ("x-level", HeaderTest::Range { from, to: from + 8 }),
            2 => ("x-level", HeaderTest::Value(self.text(LEVELS))),
            _ => (
                "x-role",
                HeaderTest::Value(self.pattern(ROLES, &self.roles)),
            ),
        };
        HeaderMatcher {
            invert: self.below(3) == 0,
            missing_is_empty: self.below(4) == 0,
            ..header(name, test)
        }
    }

    fn where_to(&self) -> PathPattern {
        if self.below(4) == 0 {
            return PathPattern::Template(self.templates[self.below(TEMPLATES.len())].clone());
        }
        let path = self.path();
        PathPattern::Text(self.pattern(&[&path, "/admin"], &self.paths))
    }

    fn who(&self) -> PeerPattern {
        match self.below(4) {
            0 => PeerPattern::Namespace(self.text(&["aa", "b"])),
            1 => PeerPattern::TrustDomain(self.text(DOMAINS)),
            2 => PeerPattern::ServiceAccount {
                namespace: self.of(&["a", "b"]).into(),
                account: self.of(&["x", "y"]).into(),
            },
            _ => PeerPattern::Name(self.text(NAMES)),
        }
    }

    fn of_token(&self) -> Condition {
        match self.below(4) {
            0 => Condition::RequestPrincipal(self.text(USERS)),
            1 => Condition::Audience(self.text(SEGMENTS)),
            2 => Condition::Claim {
                path: vec!["groups".into(), "role".into()],
                value: self.text(ROLES),
            },
            _ => Condition::Claim {
                path: vec!["groups".into()],
                value: self.pattern(ROLES, &self.roles),
            },
        }
    }

    fn path(&self) -> String {
        let count = 1 + self.below(3);
        (0..count)
            .map(|_| format!("/{}", self.of(SEGMENTS)))
            .collect()
    }

    fn condition(&self, depth: usize) -> Condition {
        let many = |draw: &Self| {
            (0..draw.below(3))
                .map(|_| draw.condition(depth - 1))
                .collect()
        };
        let network = || self.of(&["10.0.0.0/8", "fd00::/8"]).parse().unwrap();
        match self.below(if depth == 0 { 12 } else { 17 }) {
            0 | 1 => Condition::Header(self.header()),
            2 => Condition::Host(self.pattern(HOSTS, &self.hosts)),
            3 => Condition::Method(self.text(METHODS)),
            4 | 5 => Condition::Path(self.where_to()),
            6 => Condition::Peer(self.who()),
            7 => self.of_token(),
            8 => Condition::SourceIp(network()),
            9 => Condition::RemoteIp(network()),
            10 => Condition::DestinationPort(PortRange::one(self.of(PORTS))),
            11 => Condition::Encrypted,
            12 | 13 => Condition::All(many(self)),
            14 | 15 => Condition::Any(many(self)),
            _ => self.condition(depth - 1).not(),
        }
    }

    fn policies(&self) -> Authorization {
        let stage = |action| {
            let policies = (0..1 + self.below(2)).map(|_| Policy::new("p", self.condition(3)));
            Stage::enforced(action, policies.collect())
        };
        let stages = match self.below(4) {
            0 => vec![stage(Action::Allow)],
            1 => vec![stage(Action::Deny)],
            _ => vec![stage(Action::Deny), stage(Action::Allow)],
        };
        Authorization {
            stages,
            ..Authorization::default()
        }
    }

    fn request(&self) -> Request<()> {
        let target = format!("http://{}{}", self.of(HOSTS), self.path());
        let mut request = Request::builder().method(self.of(METHODS)).uri(target);
        for _ in 0..self.below(3) {
            request = request.header("x-role", self.of(ROLES));
        }
        if self.below(2) == 0 {
            request = request.header("x-level", self.of(LEVELS));
        }
        request.body(()).unwrap()
    }

    fn caller(&self) -> Asking<'_> {
        let address = || (self.below(5) > 0).then(|| self.of(ADDRESSES).parse().unwrap());
        let port = (self.below(5) > 0).then(|| ([10, 0, 0, 2], self.of(PORTS)).into());
        let principal = (self.below(3) > 0).then(|| self.of(NAMES));
        let caller = Caller {
            principal,
            source: address(),
            remote: address(),
            destination: port,
            encrypted: principal.is_some(),
            ..Caller::default()
        };
        let token = (self.below(3) > 0).then(|| &self.tokens[self.below(self.tokens.len())]);
        (caller, token)
    }

    /// The same request for a handler that reads kindly.
    fn rewritten(&self, request: &Request<()>) -> Request<()> {
        let mut changed = Request::builder()
            .method(request.method())
            .uri(request.uri());
        *changed.headers_mut().unwrap() = request.headers().clone();
        let mut changed = changed.body(()).unwrap();
        let mut host = request.uri().authority().unwrap().to_string();
        let mut path = request.uri().path().to_owned();
        match self.below(9) {
            0 => host = host.to_uppercase(),
            1 => host.push_str(self.of(&[".", ".."])),
            2 => host.push_str(":8080"),
            3 => path = self.encoded(&path),
            4 => path = path.replacen('/', self.of(&["//", "/./", "/x/../", "/%2e/", "/\\"]), 1),
            5 => path = path.replacen('/', self.of(&["/%2f", "/%5c", "/x%2f..%2f"]), 1),
            6 => self.repeat(&mut changed),
            7 => self.name(&mut changed),
            _ => self.space(&mut changed),
        }
        *changed.uri_mut() = format!("http://{host}{path}").parse().unwrap();
        changed
    }

    fn encoded(&self, path: &str) -> String {
        let at = self.below(path.len());
        let byte = path.as_bytes()[at];
        let (before, behind) = (&path[..at], &path[at + 1..]);
        if byte == b'/' {
            return path.to_owned();
        }
        format!("{before}%{byte:02x}{behind}")
    }

    /// A header, and what else it may say.
    fn field(&self) -> (&'static str, &'static [&'static str]) {
        self.of(&[("x-role", ROLES), ("x-level", LEVELS)])
    }

    /// A second field of a header that is there.
    fn repeat(&self, request: &mut Request<()>) {
        let (name, values) = self.field();
        if request.headers().contains_key(name) {
            let value = self.of(values).parse().unwrap();
            request.headers_mut().append(name, value);
        }
    }

    /// The name of a header in the other case, as it is written in HTTP/1.1.
    fn name(&self, request: &mut Request<()>) {
        let (name, _) = self.field();
        let other = http::HeaderName::from_bytes(name.to_uppercase().as_bytes()).unwrap();
        let values: Vec<_> = request.headers().get_all(name).iter().cloned().collect();
        request.headers_mut().remove(name);
        for value in values {
            request.headers_mut().append(other.clone(), value);
        }
    }

    /// Spaces around a value, or another element in it.
    fn space(&self, request: &mut Request<()>) {
        let (name, values) = self.field();
        if let Some(value) = request.headers_mut().get_mut(name) {
            let text = value.to_str().unwrap();
            let text = match self.below(3) {
                0 => format!(" {text} "),
                1 => format!("{text}, {}", self.of(values)),
                _ => format!("{},{text}", self.of(values)),
            };
            *value = text.parse().unwrap();
        }
    }
}

/// Who asks, and by which token.
pub(super) type Asking<'a> = (Caller<'a>, Option<&'a Token>);

fn passes_of(policies: &Authorization, request: &Request<()>, (caller, token): Asking<'_>) -> bool {
    let attributes = Attributes::of(request, caller).with_token(token);
    decide(policies, &attributes, &mut |_| {}).allowed
}

fn outcome(
    policies: &Authorization,
    request: &Request<()>,
    caller: Asking<'_>,
    mode: Normalization,
) -> bool {
    let mut request = {
        let mut copy = Request::builder()
            .method(request.method())
            .uri(request.uri());
        *copy.headers_mut().unwrap() = request.headers().clone();
        copy.body(()).unwrap()
    };
    canonicalize(&mut request, mode).is_ok() && passes_of(policies, &request, caller)
}

fn pairs() -> usize {
    let set = std::env::var("MESHWORK_AUTHZ_PAIRS").ok();
    set.and_then(|text| text.parse().ok()).unwrap_or(1_000_000)
}

#[test]
fn c26_what_is_denied_stays_denied_in_every_writing() {
    let draw = Draw::seeded(26);
    let (mut tried, mut denied) = (0, 0);
    let wanted = pairs();
    while tried < wanted {
        let policies = draw.policies();
        for _ in 0..20 {
            let (request, caller) = (draw.request(), draw.caller());
            let mode = draw.of(&[Normalization::Reject, Normalization::DecodeAndMergeSlashes]);
            if outcome(&policies, &request, caller, mode) {
                tried += 1;
                continue;
            }
            denied += 1;
            for _ in 0..8 {
                tried += 1;
                let changed = draw.rewritten(&request);
                assert!(
                    !outcome(&policies, &changed, caller, mode),
                    "{policies:#?}\ndenied: {request:?}\nallowed: {changed:?}\n{caller:?} {mode:?}"
                );
            }
        }
    }
    let met = denied > wanted / 100 && denied < wanted / 2;
    assert!(
        met,
        "{denied} of {wanted}: policies and requests do not meet"
    );
}

#[test]
fn c26_the_decision_is_that_of_a_slow_reference() {
    let draw = Draw::seeded(27);
    let (mut passed, mut denied) = (0, 0);
    for _ in 0..10_000 {
        let policies = draw.policies();
        for _ in 0..5 {
            let (mut request, caller) = (draw.request(), draw.caller());
            if draw.below(2) == 0 {
                request = draw.rewritten(&request);
            }
            let found = passes_of(&policies, &request, caller);
            let expected = reference::allowed(&policies, &request, &caller);
            assert_eq!(found, expected, "{policies:#?}\n{request:?}\n{caller:?}");
            *(if found { &mut passed } else { &mut denied }) += 1;
        }
    }
    assert!(passed > 5_000 && denied > 5_000, "{passed} {denied}");
}
