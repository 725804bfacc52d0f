//! Requests that the routes of a configuration ask for.

use std::collections::{BTreeMap, BTreeSet};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use meshwork::model::Resources;
use meshwork::model::matcher::{
    HeaderKey, HeaderTest, PathMatcher, QueryMatcher, RouteMatcher, StringMatcher,
};
use meshwork::model::route::{Domain, VirtualHost};

/// Requests to ask two configurations about, each once.
#[derive(Debug, Default)]
pub(super) struct Probes {
    requests: BTreeMap<String, Request<()>>,
    not_probed: Vec<String>,
}

impl Probes {
    /// Adds requests for all routes of hosts by port.
    pub(super) fn add(&mut self, resources: &Resources) {
        for (name, routes) in &resources.routes {
            // Other route configurations hold the same virtual hosts, for channels.
            let Ok(port) = name.parse::<u16>() else {
                continue;
            };
            for host in &routes.virtual_hosts {
                self.host(host, port);
            }
        }
    }

    fn host(&mut self, host: &VirtualHost, port: u16) {
        let Some(authority) = host.domains.iter().find_map(authority) else {
            return;
        };
        let authority = match port {
            80 => authority,
            port => format!("{}:{port}", authority.split(':').next().unwrap_or_default()),
        };
        self.insert(Example::any(), &authority);
        for route in &host.routes {
            match Example::of(&route.matcher) {
                Some(example) => self.insert(example, &authority),
                None => {
                    let name = format!("{} of {authority}", route.name);
                    if !self.not_probed.contains(&name) {
                        self.not_probed.push(name);
                    }
                }
            }
        }
    }

    fn insert(&mut self, example: Example, authority: &str) {
        let authority = example.authority.as_deref().unwrap_or(authority);
        let query: Vec<String> = example.query.iter().cloned().collect();
        let query = if query.is_empty() {
            String::new()
        } else {
            format!("?{}", query.join("&"))
        };
        let Ok(uri) = format!("http://{authority}{}{query}", example.path).parse::<Uri>() else {
            return;
        };
        let mut request = Request::new(());
        *request.uri_mut() = uri;
        *request.method_mut() = example.method;
        *request.headers_mut() = example.headers;
        let key = format!(
            "{} {} {:?}",
            request.uri(),
            request.method(),
            request.headers()
        );
        self.requests.insert(key, request);
    }

    pub(super) fn requests(&self) -> impl Iterator<Item = &Request<()>> {
        self.requests.values()
    }

    /// Routes that no example could be made for.
    pub(super) fn not_probed(&self) -> &[String] {
        &self.not_probed
    }
}

/// An authority that a domain covers.
fn authority(domain: &Domain) -> Option<String> {
    match domain {
        Domain::Exact(text) => Some(text.to_string()),
        Domain::Prefix(text) => Some(format!("{text}example")),
        Domain::Suffix(text) => Some(format!("example{text}")),
        Domain::Any => Some("example.invalid".to_owned()),
    }
}

/// What one route asks for.
struct Example {
    method: Method,
    authority: Option<String>,
    path: String,
    query: BTreeSet<String>,
    headers: HeaderMap,
}

impl Example {
    fn any() -> Self {
        Self {
            method: Method::GET,
            authority: None,
            path: "/".to_owned(),
            query: BTreeSet::new(),
            headers: HeaderMap::new(),
        }
    }

    /// `None` where only a regular expression says what matches.
    fn of(matcher: &RouteMatcher) -> Option<Self> {
        let mut example = Self::any();
        example.path = path(&matcher.path)?;
        for header in &matcher.headers {
            let wanted = match &header.test {
                HeaderTest::Present => "present".to_owned(),
                HeaderTest::Range { from, .. } => from.to_string(),
                HeaderTest::Value(value) => text(value)?,
                _ => return None,
            };
            // What must not be so is so where nothing is said, unless the header must be there.
            let value = if header.invert {
                format!("not-{wanted}")
            } else {
                wanted
            };
            match &header.key {
                HeaderKey::Authority => example.authority = Some(value),
                HeaderKey::Method => example.method = Method::from_bytes(value.as_bytes()).ok()?,
                HeaderKey::Field(_) if header.invert && header.missing_is_empty => {}
                HeaderKey::Field(_) if header.invert && header.test == HeaderTest::Present => {}
                HeaderKey::Field(name) => example.set(name, &value)?,
                _ => {}
            }
        }
        for query in &matcher.query {
            example.query.insert(parameter(query)?);
        }
        Some(example)
    }

    fn set(&mut self, name: &HeaderName, value: &str) -> Option<()> {
        self.headers
            .insert(name, HeaderValue::from_str(value).ok()?);
        Some(())
    }
}

fn path(matcher: &PathMatcher) -> Option<String> {
    let path = match matcher {
        PathMatcher::Exact(text) | PathMatcher::ExactIgnoreCase(text) => text.to_string(),
        PathMatcher::Prefix(text)
        | PathMatcher::PrefixIgnoreCase(text)
        | PathMatcher::SegmentPrefix(text) => text.to_string(),
        PathMatcher::Regex(regex) if regex.pattern() == ".*" => "/".to_owned(),
        _ => return None,
    };
    Some(if path.starts_with('/') {
        path
    } else {
        format!("/{path}")
    })
}

fn text(matcher: &StringMatcher) -> Option<String> {
    match matcher {
        StringMatcher::Exact(text)
        | StringMatcher::ExactIgnoreCase(text)
        | StringMatcher::Contains(text)
        | StringMatcher::Prefix(text)
        | StringMatcher::PrefixIgnoreCase(text)
        | StringMatcher::Suffix(text) => Some(text.to_string()),
        StringMatcher::Regex(regex) if regex.pattern() == ".*" => Some("any".to_owned()),
        _ => None,
    }
}

fn parameter(query: &QueryMatcher) -> Option<String> {
    let value = match &query.value {
        None => "1".to_owned(),
        Some(value) => text(value)?,
    };
    Some(format!("{}={value}", query.name))
}
