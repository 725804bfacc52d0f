//! A server, asked over HTTP by an operator or a scraper.
//!
//! It answers reads alone and changes nothing. Of secrets it shows that they are there. Programs ask
//! for client status (CSDS) on the server's port instead.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::uri::Authority;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::ca::Office;
use super::dump;
use super::house::{Connected, House, Report};
use super::kind::Kind;
use super::page;
use crate::tls::Credentials;

/// How many connections are served at once; more wait in the system's queue.
const CONNECTIONS: usize = 64;
/// How long the head of a request may take, and a connection be without one.
const HEAD: Duration = Duration::from_secs(10);
/// How long nothing is accepted after accepting failed.
const PAUSE: Duration = Duration::from_millis(100);

const HELP: &str = "/                  a page for people\n\
                    /status.json       the same for programs\n\
                    /ready             200 while it serves, 503 while it drains\n\
                    /stats/prometheus  counters, for Prometheus\n\
                    /clients           who is there, what it has and what it refused\n\
                    /config_dump?node=ID  all that one node was sent, as JSON\n\
                    /rejected          the faults of the last edit, if it was rejected\n";

const FOREIGN: &str =
    "this address is asked by the name localhost or by its number, not by another name\n";

/// Whether the one who asks named this machine by a number or as itself. A page in a browser on this
/// machine could otherwise read what is here by a name that it controls (DNS rebinding).
fn is_local(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST);
    let authority = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    authority.is_some_and(|authority| {
        let host = authority.host();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
    })
}

/// Answers until it is dropped.
pub(super) async fn serve(
    listener: TcpListener,
    house: Arc<House>,
    office: Option<Arc<Office>>,
    credentials: Option<Credentials>,
) {
    let local = listener.local_addr();
    let loopback = local.is_ok_and(|address| address.ip().is_loopback());
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    let (house, office) = (house.clone(), office.clone());
                    let credentials = credentials.clone();
                    let service = service_fn(move |request: Request<Incoming>| {
                        let (method, path) = (request.method(), request.uri().path());
                        let asked = Asked {
                            house: &house,
                            office: office.as_deref(),
                            credentials: credentials.as_ref(),
                        };
                        let answer = match loopback && !is_local(request.headers()) {
                            true => text(StatusCode::FORBIDDEN, FOREIGN.into()),
                            false if path == "/config_dump" && *method == Method::GET => {
                                dump(&house, request.uri().query().unwrap_or_default())
                            }
                            false => answer(asked, method, path),
                        };
                        std::future::ready(Ok::<_, Infallible>(answer))
                    });
                    let connection = http1::Builder::new()
                        .timer(TokioTimer::new())
                        .header_read_timeout(HEAD)
                        .serve_connection(TokioIo::new(stream), service);
                    connections.spawn(async move {
                        // What breaks here breaks for the one who asked, who sees it.
                        let _ = connection.await;
                    });
                }
                Err(error) => {
                    tracing::warn!(target: "meshwork::control", %error, "admin cannot accept");
                    tokio::time::sleep(PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Who is asked.
#[derive(Clone, Copy)]
struct Asked<'a> {
    house: &'a House,
    office: Option<&'a Office>,
    credentials: Option<&'a Credentials>,
}

fn answer(asked: Asked<'_>, method: &Method, path: &str) -> Response<String> {
    let Asked {
        house,
        office,
        credentials,
    } = asked;
    if !matches!(*method, Method::GET | Method::HEAD) {
        return text(
            StatusCode::METHOD_NOT_ALLOWED,
            "it answers GET alone\n".into(),
        );
    }
    if let Some(asset) = page::asset(path) {
        return asset;
    }
    match path {
        "/status.json" => {
            let state = page::state::state(house, credentials);
            page::answer("application/json", state.to_string())
        }
        "/help" => text(StatusCode::OK, HELP.into()),
        "/ready" if house.drains() => text(StatusCode::SERVICE_UNAVAILABLE, "draining\n".into()),
        "/ready" => text(StatusCode::OK, "serving\n".into()),
        "/metrics" | "/stats/prometheus" => {
            let mut all = metrics(house);
            if let Some(office) = office {
                office.metrics(&mut all);
            }
            text(StatusCode::OK, all)
        }
        "/clients" => text(StatusCode::OK, clients(house)),
        "/rejected" => match house.store.rejected() {
            Some(faults) => text(StatusCode::OK, format!("{faults}\n")),
            None => text(StatusCode::NO_CONTENT, String::new()),
        },
        other => text(
            StatusCode::NOT_FOUND,
            format!("no {other} here; there are:\n{HELP}"),
        ),
    }
}

/// What the node of `?node=ID` was sent. An id is compared as it is in the query and with its escapes
/// resolved.
fn dump(house: &House, query: &str) -> Response<String> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let Some((_, id)) = pairs.find(|(name, id)| *name == "node" && !id.is_empty()) else {
        let help = "say which node: /config_dump?node=ID; /clients has them all\n";
        return text(StatusCode::BAD_REQUEST, help.into());
    };
    let found = dump::of_node(house, id).or_else(|| dump::of_node(house, &unescaped(id)?));
    let Some(found) = found else {
        let help = format!("no stream of a node {id:?}; /clients has them all\n");
        return text(StatusCode::NOT_FOUND, help);
    };
    let mut response = text(StatusCode::OK, format!("{found:#}\n"));
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// With `%7E` as `~`; `None` if it is not UTF-8 or has no such escapes.
fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut parts = text.split('%');
    bytes.extend_from_slice(parts.next()?.as_bytes());
    for part in parts {
        bytes.push(u8::from_str_radix(part.get(..2)?, 16).ok()?);
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).ok()
}

fn text(status: StatusCode, body: String) -> Response<String> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let plain = header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

/// Prometheus' text format. Every name begins with `meshwork_control_`.
fn metrics(house: &House) -> String {
    let report = Report::of(house);
    let mut out = String::new();
    let mut one = |name: &str, kind: &str, help: &str, value: u64| {
        // A String takes everything.
        let _ = write!(
            out,
            "# HELP meshwork_control_{name} {help}\n# TYPE meshwork_control_{name} {kind}\n\
             meshwork_control_{name} {value}\n"
        );
    };
    one(
        "streams",
        "gauge",
        "Streams that are open.",
        report.streams as u64,
    );
    one(
        "streams_opened_total",
        "counter",
        "Streams that were served.",
        report.opened,
    );
    one(
        "streams_turned_away_total",
        "counter",
        "Streams beyond the limit.",
        report.turned_away,
    );
    one(
        "streams_stuck_total",
        "counter",
        "Streams ended because nobody read them.",
        report.stuck,
    );
    one(
        "stale_requests_total",
        "counter",
        "Requests about an old response.",
        report.stale,
    );
    one(
        "sent_bytes_total",
        "counter",
        "Bytes of responses.",
        report.bytes,
    );
    one(
        "generation",
        "gauge",
        "Number of the content in force.",
        house.store.generation(),
    );
    one(
        "edits_rejected_total",
        "counter",
        "Edits with faults.",
        house.store.rejections(),
    );
    let rejected = u64::from(house.store.rejected().is_some());
    one(
        "edit_rejected",
        "gauge",
        "Whether the last edit was rejected.",
        rejected,
    );
    one(
        "views",
        "gauge",
        "Views in use.",
        house.store.views() as u64,
    );
    for (name, help, value) in [
        (
            "responses_total",
            "Responses.",
            Report::pushed as fn(&Report, Kind) -> u64,
        ),
        (
            "acknowledged_total",
            "Responses that were acknowledged.",
            Report::acknowledged,
        ),
        (
            "refused_total",
            "Responses that were refused.",
            Report::refused,
        ),
    ] {
        let _ = write!(
            out,
            "# HELP meshwork_control_{name} {help}\n# TYPE meshwork_control_{name} counter\n"
        );
        for kind in Kind::ALL {
            let value = value(&report, kind);
            let _ = writeln!(out, "meshwork_control_{name}{{type=\"{kind}\"}} {value}");
        }
    }
    out
}

/// One line for each stream, and one for each kind that it refused.
fn clients(house: &House) -> String {
    let mut out = String::new();
    for client in house.clients() {
        let client = Connected::of(&client);
        let node = &client.node;
        let (sent, acknowledged) = client.resources;
        let _ = writeln!(
            out,
            "{}\t{}\t{}\t{}/{}\t{:?}\t{acknowledged} of {sent} acknowledged\t{} s",
            node.id().escape_debug(),
            client.scope,
            node.user_agent().escape_debug(),
            node.workload().namespace().escape_debug(),
            node.workload().service_account().escape_debug(),
            node.dialect(),
            client.age.as_secs(),
        );
        for (kind, version, error) in &client.refusals {
            let _ = writeln!(out, "\trefused {kind} {version}: {}", error.escape_debug());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Content, Limits, Store};
    use crate::random::Random;

    fn alone(house: &House) -> Asked<'_> {
        Asked {
            house,
            office: None,
            credentials: None,
        }
    }

    fn ask(house: &House, path: &str) -> (StatusCode, String) {
        let answer = answer(alone(house), &Method::GET, path);
        (answer.status(), answer.into_body())
    }

    #[test]
    fn a_loopback_address_is_asked_by_its_own_names() {
        let asked = |host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().expect("a value"));
            is_local(&headers)
        };
        for host in ["localhost", "LOCALHOST:15014", "127.0.0.1:1", "[::1]:1"] {
            assert!(asked(host), "{host}");
        }
        for host in [
            "evil.example",
            "127.0.0.1.evil.example:1",
            "localhost.evil.example",
            "a b",
        ] {
            assert!(!asked(host), "{host}");
        }
        assert!(!is_local(&HeaderMap::new()));
    }

    #[test]
    fn it_tells_readiness_counters_and_rejections_and_changes_nothing() {
        let store = Store::new();
        store.publish(Content::default());
        let house = House::new(store.clone(), Limits::default(), Random::seeded(1));
        assert_eq!(ask(&house, "/ready").0, StatusCode::OK);
        assert_eq!(ask(&house, "/rejected").0, StatusCode::NO_CONTENT);
        let read = crate::source::istio::read([("bad.yaml", "kind: [")], &Default::default());
        store.reject(read.faults);
        let (status, body) = ask(&house, "/rejected");
        assert_eq!(status, StatusCode::OK);
        assert!(body.contains("bad.yaml"), "{body}");
        house.counts.refused(Kind::Routes);
        let (_, body) = ask(&house, "/stats/prometheus");
        for line in [
            "meshwork_control_generation 1",
            "meshwork_control_edits_rejected_total 1",
            "meshwork_control_edit_rejected 1",
            "meshwork_control_refused_total{type=\"RDS\"} 1",
        ] {
            assert!(
                body.lines().any(|one| one == line),
                "{line} is not in\n{body}"
            );
        }
        house.begin_drain();
        assert_eq!(ask(&house, "/ready").0, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(ask(&house, "/secret").0, StatusCode::NOT_FOUND);
        assert_eq!(dump(&house, "").status(), StatusCode::BAD_REQUEST);
        assert_eq!(dump(&house, "node=nobody").status(), StatusCode::NOT_FOUND);
        let post = answer(alone(&house), &Method::POST, "/ready");
        assert_eq!(post.status(), StatusCode::METHOD_NOT_ALLOWED);
    }
}
