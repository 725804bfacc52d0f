//! What keeps requests together: the key of a hash, the cookie of a session.
//!
//! All of it is looked at only for routes that ask for it, and keys only where the chosen cluster
//! balances by hash, so that other requests pay for two tests of a flag.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Request};
use smallvec::SmallVec;

use crate::body::Body;
use crate::error::{Error, Kind};
use crate::layer::balance::{Ask, HashKey};
use crate::model::affinity::{HashPolicy, HashSource, MadeCookie, Session, SessionKey};
use crate::model::route::Forward;
use crate::random::Random;
use crate::snapshot::{Cluster, Endpoint, Member};

use super::{Call, Chosen, Core, rewrite};

/// What ties one request to an endpoint.
#[derive(Debug)]
pub(super) struct Bond<'a> {
    key: Option<HashKey>,
    /// The endpoint of its session.
    pub(super) remembered: Option<&'a str>,
    session: Option<&'a Session>,
    cluster: &'a str,
    /// Who served it, if a session is to remember that.
    served: Option<Arc<Endpoint>>,
    /// Cookies that were made for it.
    made: SmallVec<[HeaderValue; 1]>,
}

impl<'a> Bond<'a> {
    pub(super) fn new(
        core: &Core,
        chosen: &'a Chosen,
        call: &Call,
        forward: &'a Forward,
        request: &Request<Body>,
    ) -> Result<Self, Error> {
        let mut bond = Self {
            key: call.options.hash_key,
            remembered: chosen.remembered.as_deref(),
            session: forward.affinity.session.as_ref(),
            cluster: chosen.cluster_name().map_or("", |name| name),
            served: None,
            made: SmallVec::new(),
        };
        if bond.key.is_none() && chosen.cluster()?.hashes() {
            bond.hash(&forward.affinity.hash, request, core);
        }
        Ok(bond)
    }

    /// Envoy's combination: each key is mixed into those before it, until a terminal one is there.
    fn hash(&mut self, policies: &[HashPolicy], request: &Request<Body>, core: &Core) {
        for policy in policies {
            let key = self.part(&policy.source, request, core);
            self.key = match (self.key, key) {
                (Some(before), Some(key)) => Some(before.and(key)),
                (before, key) => before.or(key),
            };
            if policy.terminal && self.key.is_some() {
                return;
            }
        }
    }

    fn part(
        &mut self,
        source: &HashSource,
        request: &Request<Body>,
        core: &Core,
    ) -> Option<HashKey> {
        match source {
            HashSource::Cookie(wanted) => {
                if let Some(value) = cookie(request.headers(), &wanted.name) {
                    return Some(HashKey::of(value));
                }
                let made = wanted.made.as_ref()?;
                let (key, value) = make(&wanted.name, made, core.random())?;
                self.made.push(value);
                Some(key)
            }
            HashSource::Header(name) => {
                let mut values = request.headers().get_all(name).iter().peekable();
                values.peek()?;
                Some(HashKey::of_all(values.map(HeaderValue::as_bytes)))
            }
            HashSource::Query(name) => {
                let pairs = request.uri().query()?.split('&');
                let mut pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
                let (_, value) = pairs.find(|(key, _)| *key == &**name)?;
                Some(HashKey::of(value))
            }
            HashSource::RewrittenHeader { name, pattern, to } => {
                let value = request.headers().get(name)?.to_str().ok()?;
                Some(HashKey::of(&*rewrite::regex(pattern, to, value)))
            }
            HashSource::Source => Some(core.environment.source),
        }
    }

    /// What the balancer is asked for.
    pub(super) fn ask(&self, cluster: &Cluster) -> Ask {
        if !cluster.balancer.hashes() {
            return Ask::default();
        }
        Ask {
            key: self.key.map(|key| key.0),
            // This one has its permit already.
            in_flight: cluster.running.limits.active_requests().saturating_sub(1),
            ..Ask::default()
        }
    }

    /// The endpoint of its session, if that can be picked.
    ///
    /// # Errors
    /// It cannot be, and the session goes nowhere else.
    pub(super) fn endpoint(&self, cluster: &Cluster) -> Result<Option<Arc<Member>>, Error> {
        let Some(key) = self.remembered else {
            return Ok(None);
        };
        match (cluster.balancer.named(key), self.session) {
            (None, Some(session)) if session.strict => Err(Error::new(Kind::NoEndpoint)),
            (found, _) => Ok(found),
        }
    }

    /// An endpoint answered.
    pub(super) fn served_by(&mut self, endpoint: &Arc<Endpoint>) {
        if self.session.is_some() {
            self.served = Some(endpoint.clone());
        }
    }

    /// Writes the cookies that bring the next request to the same endpoint.
    pub(super) fn remember(&mut self, headers: &mut HeaderMap) {
        for made in self.made.drain(..) {
            headers.append(SET_COOKIE, made);
        }
        let (Some(session), Some(served)) = (self.session, &self.served) else {
            return;
        };
        if self.remembered == Some(&**served.label()) {
            return;
        }
        let value = BASE64_STANDARD.encode(format!("{};{}", served.label(), self.cluster));
        let session = match &session.key {
            SessionKey::Cookie(session) => session,
            SessionKey::Header(name) => {
                // base64 is made of visible characters only.
                if let Ok(value) = HeaderValue::try_from(value) {
                    headers.insert(name, value);
                }
                return;
            }
        };
        let life = Life {
            seconds: session.ttl.as_secs(),
            path: session.path.as_deref(),
            attributes: &[],
        };
        if let Some(written) = set_cookie(&session.cookie, &value, &life) {
            headers.append(SET_COOKIE, written);
        }
    }
}

/// Which destination and endpoint the session of a request was with, if it can still be served
/// there: the cluster must be one of the route's (gRPC A55). A strict session that was with another
/// cluster is with the endpoint without a name, which nobody is.
pub(super) fn remembered<B>(forward: &Forward, request: &Request<B>) -> Option<(usize, Box<str>)> {
    let headers = request.headers();
    let session = forward.affinity.session.as_ref()?;
    let value = match &session.key {
        SessionKey::Cookie(session) => {
            let covers = |path: &str| covers(path, request.uri().path());
            if !session.path.as_deref().is_none_or(covers) {
                return None;
            }
            cookie(headers, &session.cookie)?
        }
        SessionKey::Header(name) => headers.get(name)?.to_str().ok()?,
    };
    let value = BASE64_STANDARD.decode(value).ok()?;
    let (addresses, cluster) = std::str::from_utf8(&value).ok()?.split_once(';')?;
    let all = forward.destinations.all();
    let Some(destination) = all.iter().position(|one| &*one.cluster == cluster) else {
        return session.strict.then(|| (0, "".into()));
    };
    // An endpoint has one address here; others write several, the first of which it is known by.
    let address = addresses.split(',').next()?;
    Some((destination, address.into()))
}

/// Whether a cookie's path covers the path of a request (RFC 6265 §5.1.4).
fn covers(cookie: &str, path: &str) -> bool {
    path.strip_prefix(cookie)
        .is_some_and(|rest| rest.is_empty() || cookie.ends_with('/') || rest.starts_with('/'))
}

/// The value of a cookie, without quotes.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(COOKIE).iter();
    let pairs = lines.filter_map(|line| line.to_str().ok());
    let pairs = pairs.flat_map(|line| line.split(';'));
    let mut pairs = pairs.filter_map(|pair| pair.trim().split_once('='));
    let (_, value) = pairs.find(|(key, _)| *key == name)?;
    let bare = value
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    Some(bare.unwrap_or(value))
}

/// A new cookie: its key, and what the response says of it. `None` if its name or an attribute
/// cannot be sent, which then makes no key either.
fn make(name: &str, made: &MadeCookie, random: &Random) -> Option<(HashKey, HeaderValue)> {
    let value = format!("{:016x}", random.draw());
    let life = Life {
        seconds: made.max_age.map_or(0, std::num::NonZeroU64::get),
        path: made.path.as_deref(),
        attributes: &made.attributes,
    };
    let written = set_cookie(name, &value, &life)?;
    Some((HashKey::of(&value), written))
}

/// How long and where a cookie lives.
struct Life<'a> {
    /// Zero: as long as the session.
    seconds: u64,
    path: Option<&'a str>,
    attributes: &'a [(Box<str>, Option<Box<str>>)],
}

/// A cookie in Envoy's form.
fn set_cookie(name: &str, value: &str, life: &Life<'_>) -> Option<HeaderValue> {
    use std::fmt::Write as _;
    let mut text = format!("{name}=\"{value}\"");
    // Writing to a string does not fail.
    if life.seconds > 0 {
        let _ = write!(text, "; Max-Age={}", life.seconds);
    }
    if let Some(path) = life.path.filter(|path| !path.is_empty()) {
        let _ = write!(text, "; Path={path}");
    }
    for (attribute, value) in life.attributes {
        let _ = match value {
            None => write!(text, "; {attribute}"),
            Some(value) => write!(text, "; {attribute}={value}"),
        };
    }
    text.push_str("; HttpOnly");
    HeaderValue::from_str(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(COOKIE, HeaderValue::from_static(line));
        }
        headers
    }

    #[test]
    fn cookies_are_found_in_any_line_and_lose_their_quotes() {
        let headers = headers(&["a=1; b=\"2\"", "c; d=x=y;e=\""]);
        for (name, value) in [
            ("a", Some("1")),
            ("b", Some("2")),
            ("c", None),
            ("d", Some("x=y")),
            ("e", Some("\"")),
            ("f", None),
        ] {
            assert_eq!(cookie(&headers, name), value, "{name}");
        }
    }

    #[test]
    fn paths_of_cookies_cover_what_is_below() {
        for (cookie, path, covered) in [
            ("/", "/a", true),
            ("/a", "/a", true),
            ("/a", "/a/b", true),
            ("/a/", "/a/b", true),
            ("/a", "/ab", false),
            ("/a/b", "/a", false),
        ] {
            assert_eq!(covers(cookie, path), covered, "{cookie} {path}");
        }
    }

    #[test]
    fn made_cookies_have_envoys_form() {
        let made = MadeCookie {
            max_age: std::num::NonZeroU64::new(60),
            path: Some("/shop".into()),
            attributes: vec![
                ("SameSite".into(), Some("Strict".into())),
                ("Secure".into(), None),
            ],
        };
        let (key, written) = make("user", &made, &Random::seeded(1)).unwrap();
        let text = written.to_str().unwrap();
        let value = text.split('"').nth(1).unwrap();
        assert_eq!(key, HashKey::of(value));
        let rest = text.strip_prefix(&format!("user=\"{value}\"")).unwrap();
        assert_eq!(
            rest,
            "; Max-Age=60; Path=/shop; SameSite=Strict; Secure; HttpOnly"
        );
        assert!(make("a\nb", &made, &Random::seeded(1)).is_none());
    }
}
