//! A condition as an expression in what gRPC's RBAC knows (gRFC A41).
//!
//! RBAC has two languages that share three words: a policy is permissions and principals, of which
//! one each must match, addresses of the caller and identities are words of principals only, and the
//! address of the server of permissions only. So a condition becomes an [`Expr`] whose negations
//! stand at its leaves, and is [split](Expr::split) into policies of the two kinds.

use crate::layer::authz::Lean;
use crate::model::authorization::{Condition, Network, PathPattern, PeerPattern, Template};
use crate::model::matcher::{HeaderKey, HeaderMatcher, HeaderTest, StringMatcher};
use crate::source::xds::encode::{matches, value};
use crate::source::xds::proto::{core, matcher, route};

use super::text;

/// The most policies that one condition becomes.
pub(super) const MOST: usize = 64;

/// Headers of one hop, which gRPC's policies and the door do not see.
const OF_ONE_HOP: &[&str] = &[
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// An expression without negations but at the leaves.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expr {
    /// Without any, it holds.
    All(Vec<Self>),
    /// Without any, it does not.
    Any(Vec<Self>),
    Leaf {
        leaf: Leaf,
        negated: bool,
    },
}

/// A question that RBAC knows.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Leaf {
    /// The peer has presented a certificate that is believed.
    Authenticated,
    DestinationIp(core::CidrRange),
    DirectIp(core::CidrRange),
    Header(Box<route::HeaderMatcher>),
    Path(Box<matcher::StringMatcher>),
    Peer(Box<matcher::StringMatcher>),
    RemoteIp(core::CidrRange),
}

impl Leaf {
    fn is_of_permissions(&self) -> bool {
        matches!(self, Self::DestinationIp(_))
    }

    fn is_of_principals(&self) -> bool {
        match self {
            Self::Authenticated | Self::DirectIp(_) | Self::Peer(_) | Self::RemoteIp(_) => true,
            Self::DestinationIp(_) | Self::Header(_) | Self::Path(_) => false,
        }
    }
}

/// One policy: all of the permissions and all of the principals.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Split {
    pub(super) permissions: Vec<Expr>,
    pub(super) principals: Vec<Expr>,
}

impl Expr {
    pub(super) fn always() -> Self {
        Self::All(Vec::new())
    }

    pub(super) fn never() -> Self {
        Self::Any(Vec::new())
    }

    pub(super) fn is_never(&self) -> bool {
        matches!(self, Self::Any(any) if any.is_empty())
    }

    fn is_always(&self) -> bool {
        matches!(self, Self::All(all) if all.is_empty())
    }

    pub(super) fn leaf(leaf: Leaf) -> Self {
        Self::Leaf {
            leaf,
            negated: false,
        }
    }

    /// All of them, as short as it can be said.
    fn all(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut kept = Vec::new();
        for part in parts {
            match part {
                never if never.is_never() => return never,
                Self::All(inner) => kept.extend(inner),
                other => kept.push(other),
            }
        }
        match <[Self; 1]>::try_from(kept) {
            Ok([one]) => one,
            Err(kept) => Self::All(kept),
        }
    }

    /// One of them.
    pub(super) fn any(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut kept = Vec::new();
        for part in parts {
            match part {
                always if always.is_always() => return always,
                Self::Any(inner) => kept.extend(inner),
                other => kept.push(other),
            }
        }
        match <[Self; 1]>::try_from(kept) {
            Ok([one]) => one,
            Err(kept) => Self::Any(kept),
        }
    }

    pub(super) fn negated(self) -> Self {
        match self {
            Self::All(all) => Self::any(all.into_iter().map(Self::negated)),
            Self::Any(any) => Self::all(any.into_iter().map(Self::negated)),
            Self::Leaf { leaf, negated } => Self::Leaf {
                leaf,
                negated: !negated,
            },
        }
    }

    /// Whether words of permissions are in it, and words of principals.
    fn sides(&self) -> (bool, bool) {
        match self {
            Self::All(parts) | Self::Any(parts) => {
                let sides = parts.iter().map(Self::sides);
                sides.fold((false, false), |sum, one| (sum.0 || one.0, sum.1 || one.1))
            }
            Self::Leaf { leaf, .. } => (leaf.is_of_permissions(), leaf.is_of_principals()),
        }
    }

    fn is_mixed(&self) -> bool {
        self.sides() == (true, true)
    }

    /// How many policies it would become.
    fn count(&self) -> usize {
        match self {
            _ if !self.is_mixed() => 1,
            Self::All(parts) => parts.iter().map(Self::count).fold(1, usize::saturating_mul),
            Self::Any(parts) => parts.iter().map(Self::count).fold(0, usize::saturating_add),
            Self::Leaf { .. } => 1,
        }
    }

    /// The policies that say it, of which one must match; `None`: more than [`MOST`].
    pub(super) fn split(self) -> Option<Vec<Split>> {
        match self.count() {
            count if count > MOST => None,
            _ if self.is_never() => Some(Vec::new()),
            _ => Some(self.alternatives()),
        }
    }

    fn alternatives(self) -> Vec<Split> {
        let (of_permissions, of_principals) = self.sides();
        match self {
            Self::All(parts) if of_principals => {
                let mut all = vec![Split::default()];
                for part in parts {
                    let own = part.alternatives();
                    all = all
                        .iter()
                        .flat_map(|one| own.iter().map(|other| one.joined(other)))
                        .collect();
                }
                all
            }
            Self::Any(parts) if of_permissions && of_principals => {
                parts.into_iter().flat_map(Self::alternatives).collect()
            }
            other if of_principals => vec![Split {
                permissions: Vec::new(),
                principals: vec![other],
            }],
            other if other.is_always() => vec![Split::default()],
            other => vec![Split {
                permissions: vec![other],
                principals: Vec::new(),
            }],
        }
    }
}

impl Split {
    fn joined(&self, other: &Self) -> Self {
        let join = |one: &[Expr], other: &[Expr]| [one, other].concat();
        Self {
            permissions: join(&self.permissions, &other.permissions),
            principals: join(&self.principals, &other.principals),
        }
    }
}

/// What reads conditions on one port.
pub(super) struct Reader {
    /// The port that requests arrive at.
    pub(super) port: u16,
    /// Whether something was met that gRPC does not know.
    pub(super) doubted: bool,
}

impl Reader {
    /// The condition as gRPC can say it: at least what it takes with [`Lean::Broad`], at most with
    /// [`Lean::Narrow`].
    pub(super) fn expr(&mut self, condition: &Condition, lean: Lean) -> Expr {
        match condition {
            Condition::All(all) => Expr::all(all.iter().map(|one| self.expr(one, lean))),
            Condition::Any(any) => Expr::any(any.iter().map(|one| self.expr(one, lean))),
            Condition::Not(inner) => self.expr(inner, lean.turned()).negated(),
            Condition::Audience(_)
            | Condition::Claim { .. }
            | Condition::Presenter(_)
            | Condition::RequestPrincipal(_)
            | Condition::Sni(_)
            | Condition::TokenMetadata { .. } => self.doubt(lean),
            Condition::DestinationIp(network) => within(network, Leaf::DestinationIp),
            Condition::DestinationPort(ports) => constant(ports.contains(self.port)),
            Condition::Encrypted => Expr::leaf(Leaf::Authenticated),
            Condition::Header(matcher) => self.header(matcher, lean),
            Condition::Host(wanted) => self.host(wanted, lean),
            Condition::Method(wanted) => pseudo(":method", wanted),
            Condition::Path(pattern) => path(pattern),
            Condition::PathAndQuery(wanted) => pseudo(":path", wanted),
            Condition::Peer(pattern) => self.peer(pattern, lean),
            Condition::RemoteIp(network) => within(network, Leaf::RemoteIp),
            Condition::SourceIp(network) => within(network, Leaf::DirectIp),
        }
    }

    /// What stands for a question that gRPC does not know.
    pub(super) fn doubt(&mut self, lean: Lean) -> Expr {
        self.doubted = true;
        constant(lean.in_doubt())
    }

    fn header(&mut self, matcher: &HeaderMatcher, lean: Lean) -> Expr {
        let inner = if matcher.invert { lean.turned() } else { lean };
        let name = match &matcher.key {
            HeaderKey::Scheme => return self.doubt(lean),
            HeaderKey::Authority => return self.authority(matcher, lean),
            HeaderKey::Field(name) if *name == http::header::HOST => {
                return self.authority(matcher, lean);
            }
            HeaderKey::Method => ":method",
            HeaderKey::Field(name) => name.as_str(),
        };
        // gRPC refuses the first, and shows policies no bytes.
        let unseen = name.starts_with("grpc-") || name.ends_with("-bin");
        if unseen || matcher.missing_is_empty {
            return self.doubt(lean);
        }
        if OF_ONE_HOP.contains(&name) {
            let present = matches!(matcher.test, HeaderTest::Present);
            return constant(present && matcher.invert);
        }
        let present = || leaf(name, Specifier::PresentMatch(true));
        let holds = match &matcher.test {
            HeaderTest::Present if matcher.invert => return present().negated(),
            HeaderTest::Present => return present(),
            HeaderTest::Range { .. } => range(name, matcher, inner),
            HeaderTest::Value(wanted) => valued(name, wanted, inner),
        };
        match matcher.invert {
            true => Expr::all([present(), holds.negated()]),
            false => holds,
        }
    }

    fn authority(&mut self, matcher: &HeaderMatcher, lean: Lean) -> Expr {
        let inner = if matcher.invert { lean.turned() } else { lean };
        let holds = match &matcher.test {
            HeaderTest::Present => Expr::always(),
            HeaderTest::Range { .. } => self.doubt(inner),
            HeaderTest::Value(wanted) => self.host(wanted, inner),
        };
        match matcher.invert {
            true => holds.negated(),
            false => holds,
        }
    }

    /// As the door compares hosts: in lower case, and a policy that denies also without the port and
    /// the point at the end.
    fn host(&mut self, wanted: &StringMatcher, lean: Lean) -> Expr {
        if lean == Lean::Broad && !matches::is_everything(wanted) {
            let host = text::pattern(wanted);
            let pattern = format!("(?i:{host})\\.?(?::[0-9]*)?");
            return string(":authority", text::expression(&pattern));
        }
        match wanted {
            StringMatcher::Regex(_) => self.doubt(lean),
            other => pseudo(":authority", &text::folded(other)),
        }
    }

    /// Identities by their text. "There is one" is asked as a text that is not empty, since a server
    /// with credentials of its own may know callers that are encrypted and nobody.
    fn peer(&mut self, pattern: &PeerPattern, lean: Lean) -> Expr {
        let broad = lean == Lean::Broad;
        let parts = match pattern {
            PeerPattern::Name(wanted) => match text::message(wanted) {
                Some(message) => return identity(message),
                None if broad => vec![".+".to_owned()],
                None => vec!["spiffe://.+".to_owned()],
            },
            PeerPattern::Namespace(wanted) => match text::segment(wanted) {
                None => return self.doubt(lean),
                Some(name) if broad => vec![mentioned("ns", &name)],
                Some(name) => vec![format!("spiffe://[^/]+/ns/{name}/sa/[^/]+")],
            },
            PeerPattern::ServiceAccount { namespace, account } => {
                let exact = |text: &str| crate::source::xds::decode::escaped(text);
                let (namespace, account) = (exact(namespace), exact(account));
                match broad {
                    true => vec![mentioned("ns", &namespace), mentioned("sa", &account)],
                    false => vec![format!("spiffe://[^/]+/ns/{namespace}/sa/{account}")],
                }
            }
            PeerPattern::TrustDomain(wanted) => match text::segment(wanted) {
                None => return self.doubt(lean),
                Some(name) => vec![format!("spiffe://{name}(?:/.*)?")],
            },
        };
        let parts = parts.iter().map(|pattern| text::expression(pattern));
        Expr::all(parts.map(identity))
    }
}

/// An identity in whose path a word is followed by a name.
fn mentioned(word: &str, name: &str) -> String {
    format!("spiffe://[^/]+/(?:.*/)?{word}/{name}(?:/.*)?")
}

fn identity(message: matcher::StringMatcher) -> Expr {
    Expr::leaf(Leaf::Peer(Box::new(message)))
}

fn constant(holds: bool) -> Expr {
    match holds {
        true => Expr::always(),
        false => Expr::never(),
    }
}

use route::header_matcher::HeaderMatchSpecifier as Specifier;

fn leaf(name: &str, specifier: Specifier) -> Expr {
    Expr::leaf(Leaf::Header(Box::new(route::HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(specifier),
        ..route::HeaderMatcher::default()
    })))
}

pub(super) fn string(name: &str, message: matcher::StringMatcher) -> Expr {
    leaf(name, Specifier::StringMatch(message))
}

/// A pseudo-header, of which every request has one.
fn pseudo(name: &str, wanted: &StringMatcher) -> Expr {
    text::message(wanted).map_or_else(Expr::always, |message| string(name, message))
}

/// gRPC joins the values of a header with commas. A policy that denies looks at each; one that
/// allows takes a list only if it says the whole of it.
fn valued(name: &str, wanted: &StringMatcher, lean: Lean) -> Expr {
    let Some(message) = text::message(wanted) else {
        return leaf(name, Specifier::PresentMatch(true));
    };
    if lean == Lean::Broad {
        let wanted = text::pattern(wanted);
        let pattern = format!(r"(?:.*,)?[ \t]*(?:{wanted})[ \t]*(?:,.*)?");
        return string(name, text::expression(&pattern));
    }
    let whole = matches!(
        wanted,
        StringMatcher::Exact(_) | StringMatcher::ExactIgnoreCase(_)
    );
    match whole {
        true => string(name, message),
        false => Expr::all([string(name, message), list(name).negated()]),
    }
}

fn range(name: &str, matcher: &HeaderMatcher, lean: Lean) -> Expr {
    let plain = HeaderMatcher {
        invert: false,
        ..matcher.clone()
    };
    let message = matches::test(&plain.test);
    let whole = leaf(name, message);
    match lean {
        Lean::Broad => Expr::any([whole, list(name)]),
        Lean::Narrow => whole,
    }
}

/// There is a comma in it.
fn list(name: &str) -> Expr {
    string(name, matches::string(&StringMatcher::Contains(",".into())))
}

fn path(pattern: &PathPattern) -> Expr {
    let message = match pattern {
        PathPattern::Template(template) => Some(text::expression(&template_pattern(template))),
        PathPattern::Text(wanted) => text::message(wanted),
    };
    message.map_or_else(Expr::always, |message| {
        Expr::leaf(Leaf::Path(Box::new(message)))
    })
}

/// `{*}` is one segment, `{**}` any characters.
fn template_pattern(template: &Template) -> String {
    let written = template.to_string();
    let segments = written.split('/').map(|segment| match segment {
        "{*}" => "[^/]+".to_owned(),
        "{**}" => ".*".to_owned(),
        plain => crate::source::xds::decode::escaped(plain),
    });
    segments.collect::<Vec<_>>().join("/")
}

/// A range of addresses; one of IPv4 also in the form in which a socket of both kinds sees it.
fn within(network: &Network, make: impl Fn(core::CidrRange) -> Leaf) -> Expr {
    let range = |address: String, bits: u8| {
        Expr::leaf(make(core::CidrRange {
            address_prefix: address,
            prefix_len: Some(value::number(u32::from(bits))),
        }))
    };
    let own = range(network.address().to_string(), network.bits());
    match network.address() {
        std::net::IpAddr::V4(four) => {
            let mapped = four.to_ipv6_mapped().to_string();
            Expr::any([own, range(mapped, network.bits() + 96)])
        }
        std::net::IpAddr::V6(_) => own,
    }
}
