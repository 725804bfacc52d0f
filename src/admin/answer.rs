//! The answers, by path.

use std::fmt::Write as _;

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};

use super::json::Json;
use super::{Inspect, certs, dump};
use crate::body::Body;
use crate::model::Resources;
use crate::operator::{From, Levels, parameters};
use crate::outbound::Core;
use crate::snapshot::{ClusterStats, RouteStats, Stats};

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const PROMETHEUS: &str = crate::telemetry::prometheus::CONTENT_TYPE;

/// The paths, each with what it shows.
const PATHS: [(&str, &str); 8] = [
    (
        "/ready",
        "200 LIVE once a configuration is in force, 503 before and while draining",
    ),
    (
        "/stats",
        "counters and gauges, a line for each; ?format=json, ?format=prometheus",
    ),
    ("/stats/prometheus", "all metrics, for Prometheus"),
    (
        "/clusters",
        "clusters and their endpoints, a line for each fact; ?format=json",
    ),
    (
        "/config_dump",
        "the configuration in force, with origins, as JSON",
    ),
    (
        "/certs",
        "the certificates that connections present and believe, as JSON; no keys",
    ),
    (
        "/logging",
        "the levels at which the program's subscriber takes events of the mesh; POST ?level=debug or \
         ?TARGET=LEVEL changes them",
    ),
    (
        "/explain",
        "what would become of a request: ?url=http://HOST/PATH, &method=M, &header=NAME:VALUE (repeatable)",
    ),
];

/// What is answered, and in which type.
struct Page(StatusCode, &'static str, String);

pub(super) fn answer(
    inspect: &dyn Inspect,
    levels: Option<&Levels>,
    request: &Request<()>,
    from: From,
) -> Response<Body> {
    let Page(status, kind, text) = match request.uri().path() {
        // The one path that knows more than reading.
        "/logging" if is_known(request.method()) => {
            let query = request.uri().query().unwrap_or_default();
            let (status, text) = Levels::answer(levels, request.method(), query, from);
            Page(status, TEXT, text)
        }
        _ => page(inspect, request),
    };
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        let allowed = match request.uri().path() {
            "/logging" => "GET, HEAD, POST",
            _ => "GET, HEAD",
        };
        headers.insert(ALLOW, HeaderValue::from_static(allowed));
    }
    response
}

/// Whether a method is one of those that read, or the one that changes levels.
fn is_known(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::POST)
}

fn page(inspect: &dyn Inspect, request: &Request<()>) -> Page {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return plain(
            StatusCode::METHOD_NOT_ALLOWED,
            "nothing can be changed here; use GET\n",
        );
    }
    let Some(core) = inspect.core() else {
        return plain(StatusCode::SERVICE_UNAVAILABLE, "the mesh is gone\n");
    };
    let query = request.uri().query().unwrap_or_default();
    let format = parameters(query, "format").next();
    match (request.uri().path(), format.as_deref()) {
        ("/ready", _) => ready(&core),
        ("/stats/prometheus", _) | ("/stats", Some("prometheus")) => Page(
            StatusCode::OK,
            PROMETHEUS,
            inspect.metrics().unwrap_or_default(),
        ),
        ("/stats", format) => shown(format, lines(&stats(&core)), || numbers(&stats(&core))),
        ("/clusters", format) => {
            shown(format, clusters(&stats(&core)), || described(&stats(&core)))
        }
        ("/config_dump", _) => {
            let (generation, resources) = in_force(&core);
            let dump = dump::dump(generation, &resources);
            Page(StatusCode::OK, JSON, format!("{dump}\n"))
        }
        ("/certs", _) => Page(StatusCode::OK, JSON, format!("{}\n", certs::certs(&core))),
        ("/explain", _) => explain(inspect, query),
        ("/", _) => plain(StatusCode::OK, &index()),
        (path, _) => plain(
            StatusCode::NOT_FOUND,
            &format!("there is no {path:?} here; there are\n{}", index()),
        ),
    }
}

fn plain(status: StatusCode, text: &str) -> Page {
    Page(status, TEXT, text.to_owned())
}

fn shown(format: Option<&str>, text: String, json: impl FnOnce() -> Json) -> Page {
    match format {
        None | Some("text") => Page(StatusCode::OK, TEXT, text),
        Some("json") => Page(StatusCode::OK, JSON, format!("{}\n", json())),
        Some(other) => plain(
            StatusCode::BAD_REQUEST,
            &format!("format={other:?}: expected text or json\n"),
        ),
    }
}

fn index() -> String {
    let lines = PATHS
        .iter()
        .map(|(path, what)| format!("{path:<18} {what}\n"));
    lines.collect()
}

/// The configuration in force, and its number.
pub(super) fn in_force(core: &Core) -> (u64, Resources) {
    let snapshot = core.live.load_full();
    (snapshot.generation(), snapshot.resources())
}

/// Whether requests are taken.
#[cfg(feature = "xds")]
pub(super) fn is_ready(core: &Core) -> bool {
    let Page(status, ..) = ready(core);
    status == StatusCode::OK
}

fn ready(core: &Core) -> Page {
    if core.drain.is_draining() {
        plain(StatusCode::SERVICE_UNAVAILABLE, "DRAINING\n")
    } else if core.live.load().generation() == 0 {
        plain(StatusCode::SERVICE_UNAVAILABLE, "INITIALIZING\n")
    } else {
        plain(StatusCode::OK, "LIVE\n")
    }
}

fn stats(core: &Core) -> Stats {
    core.live.load().stats(
        core.buffers.used(),
        core.inbound.stats(),
        core.environment.tallies.read(),
    )
}

/// The numbers of a cluster by name.
fn counted(one: &ClusterStats) -> [(&'static str, u64); 15] {
    [
        ("requests", one.requests),
        ("failures", one.failures),
        ("attempts", one.attempts),
        ("retries", one.retries),
        ("retries_denied", one.retries_denied),
        ("hedges", one.hedges),
        ("overflows", one.overflows),
        ("mirrored", one.mirrored),
        ("mirrors_dropped", one.mirrors_dropped),
        ("ejections", one.ejections),
        ("readmissions", one.readmissions),
        ("retry_budget", one.retry_budget.into()),
        ("active_requests", one.active_requests.into()),
        ("connections", one.connections.into()),
        ("pending", one.pending.into()),
    ]
}

/// The numbers of the door by name.
fn at_the_door(stats: &Stats) -> impl Iterator<Item = (&'static str, u64)> {
    let told = stats.inbound.told().map(|(name, _, number)| (name, number));
    told.into_iter().chain(stats.inbound.refused())
}

/// What is told of the routes that are counted, under the names of Envoy's numbers.
fn answered(one: &RouteStats) -> [(&'static str, u64); 6] {
    let [first, second, third, fourth, fifth] = one.answers;
    [
        ("upstream_rq_1xx", first),
        ("upstream_rq_2xx", second),
        ("upstream_rq_3xx", third),
        ("upstream_rq_4xx", fourth),
        ("upstream_rq_5xx", fifth),
        ("upstream_rq_timeout", one.timeouts),
    ]
}

fn lines(stats: &Stats) -> String {
    let mut text = format!(
        "config.generation: {}\nbuffered_bytes: {}\n",
        stats.generation, stats.buffered_bytes
    );
    for (name, number) in at_the_door(stats) {
        let _ = writeln!(text, "inbound.{name}: {number}");
    }
    for cluster in &stats.clusters {
        for (name, number) in counted(cluster) {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "cluster.{}.{name}: {number}", cluster.name);
        }
    }
    for route in &stats.routes {
        for (name, number) in answered(route) {
            let _ = writeln!(text, "route.{}.{name}: {number}", route.prefix);
        }
    }
    text
}

fn numbers(stats: &Stats) -> Json {
    let clusters = stats.clusters.iter().map(|cluster| {
        let mut fields = vec![("name", Json::from(&*cluster.name))];
        fields.extend(counted(cluster).map(|(name, number)| (name, number.into())));
        Json::Object(fields)
    });
    let inbound = at_the_door(stats).map(|(name, number)| (name, number.into()));
    let routes = stats.routes.iter().map(|route| {
        let mut fields = vec![("prefix", Json::from(&*route.prefix))];
        fields.extend(answered(route).map(|(name, number)| (name, number.into())));
        Json::Object(fields)
    });
    Json::Object(vec![
        ("generation", stats.generation.into()),
        ("buffered_bytes", (stats.buffered_bytes as u64).into()),
        ("inbound", Json::Object(inbound.collect())),
        ("clusters", clusters.collect()),
        ("routes", routes.collect()),
    ])
}

/// In the form of Envoy's `/clusters`.
fn clusters(stats: &Stats) -> String {
    let mut text = String::new();
    for cluster in &stats.clusters {
        for one in &cluster.endpoints {
            let health = if one.ejected {
                "/failed_outlier_check"
            } else {
                "healthy"
            };
            let success = one.requests.saturating_sub(one.failures);
            for (name, value) in [
                ("rq_total", one.requests.to_string()),
                ("rq_success", success.to_string()),
                ("rq_error", one.failures.to_string()),
                ("rq_active", one.active_requests.to_string()),
                ("cx_active", one.connections.to_string()),
                ("health_flags", health.to_owned()),
            ] {
                let _ = writeln!(text, "{}::{}::{name}::{value}", cluster.name, one.address);
            }
        }
    }
    text
}

fn described(stats: &Stats) -> Json {
    let clusters = stats.clusters.iter().map(|cluster| {
        let endpoints = cluster.endpoints.iter().map(|one| {
            Json::Object(vec![
                ("address", (*one.address).into()),
                ("requests", one.requests.into()),
                ("failures", one.failures.into()),
                ("active_requests", one.active_requests.into()),
                ("connections", (one.connections as u64).into()),
                ("timed", one.timed.into()),
                ("time_ms", Json::Number(one.time.as_secs_f64() * 1_000.0)),
                ("ejected", one.ejected.into()),
            ])
        });
        let mut fields = vec![("name", Json::from(&*cluster.name))];
        fields.extend(counted(cluster).map(|(name, number)| (name, number.into())));
        fields.push(("endpoints", endpoints.collect()));
        Json::Object(fields)
    });
    Json::Object(vec![
        ("generation", stats.generation.into()),
        ("clusters", clusters.collect()),
    ])
}

fn explain(inspect: &dyn Inspect, query: &str) -> Page {
    let asked = match asked(query) {
        Ok(asked) => asked,
        Err(why) => return plain(StatusCode::BAD_REQUEST, &format!("{why}\n")),
    };
    match inspect.explain(&asked) {
        Some(text) => plain(StatusCode::OK, &text),
        None => plain(StatusCode::SERVICE_UNAVAILABLE, "the mesh is gone\n"),
    }
}

/// The request that is asked about.
fn asked(query: &str) -> Result<Request<()>, String> {
    let mut request = Request::new(());
    let url = parameters(query, "url").next();
    let url = url.ok_or("expected ?url=http://HOST/PATH, found none")?;
    *request.uri_mut() = url
        .parse::<Uri>()
        .map_err(|error| format!("url={url:?}: {error}; expected http://HOST/PATH"))?;
    if let Some(method) = parameters(query, "method").next() {
        *request.method_mut() = Method::from_bytes(method.as_bytes())
            .map_err(|_| format!("method={method:?} is no method"))?;
    }
    for header in parameters(query, "header") {
        let wanted = || format!("header={header:?}: expected NAME:VALUE");
        let (name, value) = header.split_once(':').ok_or_else(wanted)?;
        let name = name.trim().parse::<HeaderName>().map_err(|_| wanted())?;
        let value = value.trim().parse::<HeaderValue>().map_err(|_| wanted())?;
        request.headers_mut().append(name, value);
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_a_question_are_told() {
        for (query, why) in [
            ("", "found none"),
            ("url=a%20b", "expected http://HOST/PATH"),
            ("url=http://a&method=a%20b", "is no method"),
            ("url=http://a&header=x", "expected NAME:VALUE"),
        ] {
            assert!(asked(query).unwrap_err().contains(why), "{query}");
        }
        assert_eq!(
            asked("url=http://a&header=x:1").unwrap().headers()["x"],
            "1"
        );
    }
}
