//! Requests that the routes of a configuration ask for.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use meshwork::model::Resources;
use meshwork::model::matcher::{
    HeaderKey, HeaderTest, PathMatcher, QueryMatcher, RouteMatcher, StringMatcher,
};
use meshwork::model::route::{Domain, VirtualHost};
use meshwork::source::istio::kinds::{Kind, Object, RuleOperation};

/// Requests to ask two configurations about, each once.
#[derive(Debug, Default)]
pub(super) struct Probes {
    requests: BTreeMap<String, Request<()>>,
    not_probed: Vec<String>,
}

impl Probes {
    /// Adds requests for all routes of hosts by port, and for what policies ask about at each of these: a route may
    /// lead to servers of any namespace, whatever its host is called.
    pub(super) fn add(&mut self, objects: &[Object], resources: &Resources) {
        let asked = asked_of(objects);
        for (name, routes) in &resources.routes {
            // Other route configurations hold the same virtual hosts, for channels.
            let Ok(port) = name.parse::<u16>() else {
                continue;
            };
            for host in &routes.virtual_hosts {
                let Some(authority) = authority_at(host, port) else {
                    continue;
                };
                self.host(host, &authority);
                for (path, method) in &asked {
                    let (path, method) = (path.clone(), method.clone());
                    self.insert(
                        Example {
                            path,
                            method,
                            ..Example::any()
                        },
                        &authority,
                    );
                }
            }
        }
    }

    fn host(&mut self, host: &VirtualHost, authority: &str) {
        self.insert(Example::any(), authority);
        for route in &host.routes {
            match Example::of(&route.matcher) {
                Some(example) => self.insert(example, authority),
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

/// The paths and methods that policies of servers ask about, whatever their namespace and selector.
fn asked_of(objects: &[Object]) -> HashSet<(String, Method)> {
    let policies = objects.iter().filter_map(|object| match &object.kind {
        Kind::AuthorizationPolicy(policy) => Some(policy),
        _other_kinds => None,
    });
    let rules = policies.flat_map(|policy| &policy.rules);
    let operations = rules.flat_map(|rule| &rule.to);
    operations
        .filter_map(|to| to.operation.as_ref())
        .flat_map(|operation| asked_by(operation))
        .collect()
}

/// Each path with each method, those that are excepted too.
fn asked_by(operation: &RuleOperation) -> Vec<(String, Method)> {
    let RuleOperation {
        paths,
        not_paths,
        methods,
        not_methods,
        ..
    } = operation;
    let paths = paths.iter().chain(not_paths).map(|path| asked(path));
    let mut paths: Vec<String> = paths.collect();
    let methods = methods.iter().chain(not_methods);
    let methods = methods.filter_map(|method| Method::from_bytes(method.as_bytes()).ok());
    let mut methods: Vec<Method> = methods.collect();
    if paths.is_empty() {
        paths.push("/".to_owned());
    }
    if methods.is_empty() {
        methods.push(Method::GET);
    }
    let of_path = |path: String| {
        methods
            .iter()
            .map(move |method| (path.clone(), method.clone()))
    };
    paths.into_iter().flat_map(of_path).collect()
}

/// A path that a policy's text covers: `prefix*`, `*suffix`, and templates with `{*}` and `{**}`.
fn asked(text: &str) -> String {
    let path = text.replace("{**}", "example").replace("{*}", "example");
    let path = match path.strip_prefix('*') {
        Some(suffix) if !suffix.is_empty() => format!("/example{suffix}"),
        Some(_) | None => path.trim_end_matches('*').to_owned(),
    };
    match path.starts_with('/') {
        true => path,
        false => format!("/{path}"),
    }
}

/// An authority of a virtual host at a port.
fn authority_at(host: &VirtualHost, port: u16) -> Option<String> {
    let authority = host.domains.iter().find_map(authority)?;
    Some(match port {
        80 => authority,
        port => format!("{}:{port}", authority.split(':').next().unwrap_or_default()),
    })
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
