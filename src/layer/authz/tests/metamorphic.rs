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
const NAMES: &[&str] = &["spiffe://td/ns/a/sa/x", "spiffe://td/ns/b/sa/y"];
const ADDRESSES: &[&str] = &["10.1.2.3", "::ffff:10.1.2.3", "11.0.0.1", "fd00::1"];

struct Draw(Random);

impl Draw {
    fn below(&self, bound: usize) -> usize {
        self.0.below(u32::try_from(bound).unwrap()) as usize
    }

    fn of<T: Copy>(&self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    fn text(&self, from: &[&str]) -> StringMatcher {
        let text = self.of(from);
        match self.below(6) {
            0 => StringMatcher::Prefix(text[..text.len() / 2].into()),
            1 => StringMatcher::Suffix(text[text.len() / 2..].into()),
            2 => StringMatcher::Prefix("".into()),
            _ => exact(text),
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
        match self.below(if depth == 0 { 7 } else { 10 }) {
            0 => Condition::Header(header("x-role", HeaderTest::Value(self.text(ROLES)))),
            1 => Condition::Host(self.text(HOSTS)),
            2 => Condition::Method(self.text(METHODS)),
            3 => {
                let path = self.path();
                path_of(self.text(&[&path, "/admin"]))
            }
            4 => Condition::Peer(PeerPattern::Name(self.text(NAMES))),
            5 => Condition::Peer(PeerPattern::Namespace(self.text(&["a", "b"]))),
            6 => Condition::SourceIp(self.of(&["10.0.0.0/8", "fd00::/8"]).parse().unwrap()),
            7 => Condition::All(many(self)),
            8 => Condition::Any(many(self)),
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
        request.body(()).unwrap()
    }

    fn caller(&self) -> Caller<'static> {
        Caller {
            principal: (self.below(3) > 0).then(|| self.of(NAMES)),
            source: (self.below(5) > 0).then(|| self.of(ADDRESSES).parse().unwrap()),
            ..Caller::default()
        }
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
        match self.below(8) {
            0 => host = host.to_uppercase(),
            1 => host.push('.'),
            2 => host.push_str(":8080"),
            3 => path = self.encoded(&path),
            4 => path = path.replacen('/', self.of(&["//", "/./", "/x/../", "/%2e/", "/\\"]), 1),
            5 => path = path.replacen('/', self.of(&["/%2f", "/%5c", "/x%2f..%2f"]), 1),
            6 => self.repeat(&mut changed),
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

    /// A second field of a header that is there.
    fn repeat(&self, request: &mut Request<()>) {
        if request.headers().contains_key("x-role") {
            let value = self.of(ROLES).parse().unwrap();
            request.headers_mut().append("x-role", value);
        }
    }

    /// Spaces around a value, or another element in it.
    fn space(&self, request: &mut Request<()>) {
        if let Some(value) = request.headers_mut().get_mut("x-role") {
            let text = value.to_str().unwrap();
            let text = match self.below(3) {
                0 => format!(" {text} "),
                1 => format!("{text}, {}", self.of(ROLES)),
                _ => format!("{},{text}", self.of(ROLES)),
            };
            *value = text.parse().unwrap();
        }
    }
}

fn path_of(matcher: StringMatcher) -> Condition {
    super::path(matcher)
}

fn outcome(
    policies: &Authorization,
    request: &Request<()>,
    caller: Caller<'_>,
    mode: Normalization,
) -> bool {
    let mut request = {
        let mut copy = Request::builder()
            .method(request.method())
            .uri(request.uri());
        *copy.headers_mut().unwrap() = request.headers().clone();
        copy.body(()).unwrap()
    };
    canonicalize(&mut request, mode).is_ok() && passes_from(policies, &request, caller)
}

fn pairs() -> usize {
    let set = std::env::var("MESHWORK_AUTHZ_PAIRS").ok();
    set.and_then(|text| text.parse().ok()).unwrap_or(1_000_000)
}

#[test]
fn c26_what_is_denied_stays_denied_in_every_writing() {
    let draw = Draw(Random::seeded(26));
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
    let draw = Draw(Random::seeded(27));
    let (mut passed, mut denied) = (0, 0);
    for _ in 0..10_000 {
        let policies = draw.policies();
        for _ in 0..5 {
            let (mut request, caller) = (draw.request(), draw.caller());
            if draw.below(2) == 0 {
                request = draw.rewritten(&request);
            }
            let found = passes_from(&policies, &request, caller);
            let expected = reference::allowed(&policies, &request, &caller);
            assert_eq!(found, expected, "{policies:#?}\n{request:?}\n{caller:?}");
            *(if found { &mut passed } else { &mut denied }) += 1;
        }
    }
    assert!(passed > 5_000 && denied > 5_000, "{passed} {denied}");
}
