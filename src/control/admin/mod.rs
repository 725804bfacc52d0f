//! A server, asked over HTTP by an operator or a scraper.
//!
//! It answers reads, and changes nothing but levels of events. Of secrets it shows that they are there. The port
//! answers gRPC too: client status (CSDS) and health, as the server's own port does, so that
//! `grpcdebug` can be pointed at either.

mod text;

use std::sync::Arc;

use envoy_types::pb::envoy::service::status::v3::client_status_discovery_service_server::ClientStatusDiscoveryServiceServer;
use http::{Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use tokio::net::TcpListener;

use super::ca::Office;
use super::csds::Csds;
use super::dump;
use super::house::House;
use super::page;
use crate::body::Body;
use crate::operator::{self, Answering, From, Levels, Operated, parameters};
use crate::source::xds::{Serves, Services};
use crate::tls::Credentials;

const HELP: &str = "/                  a page for people\n\
                    /status.json       the same for programs\n\
                    /ready             200 while it serves, 503 while it drains\n\
                    /stats             counters, a line for each\n\
                    /stats/prometheus  counters, for Prometheus\n\
                    /clients           who is there, what it has and what it refused\n\
                    /clusters          what clients report of clusters, a line for each fact\n\
                    /config_dump?node=ID  all that one node was sent, as JSON\n\
                    /certs             the certificate of the server, as JSON; no key\n\
                    /rejected          the faults of the last edit, if it was rejected\n\
                    /logging           levels of events; POST ?level=debug or ?TARGET=LEVEL changes them\n";

/// What the operator's port hands requests to.
pub(super) struct Desk {
    pub(super) house: Arc<House>,
    pub(super) office: Option<Arc<Office>>,
    pub(super) credentials: Option<Credentials>,
    pub(super) levels: Option<Arc<Levels>>,
}

/// Answers until it is dropped.
pub(super) async fn serve(listener: TcpListener, desk: Desk) {
    let house = desk.house.clone();
    let serves: Serves = Arc::new(move || !house.drains());
    let status = ClientStatusDiscoveryServiceServer::new(Csds::for_operator(desk.house.clone()));
    let services = Services::new(status, serves);
    operator::serve(listener, Arc::new(Asked { desk, services })).await;
}

struct Asked {
    desk: Desk,
    services: Services,
}

impl Operated for Asked {
    fn answer(&self, request: &Request<()>, from: From) -> Response<Body> {
        self.desk.answer(request, from).map(Body::from)
    }

    fn call(&self, request: Request<Incoming>) -> Answering {
        self.services.answer(request)
    }
}

impl Desk {
    fn answer(&self, request: &Request<()>, from: From) -> Response<String> {
        let (method, path) = (request.method(), request.uri().path());
        let query = request.uri().query().unwrap_or_default();
        let reads = matches!(*method, Method::GET | Method::HEAD);
        if path == "/logging" && (reads || *method == Method::POST) {
            let (status, said) = Levels::answer(self.levels.as_deref(), method, query, from);
            return text(status, said);
        }
        if !reads {
            return text(
                StatusCode::METHOD_NOT_ALLOWED,
                "it answers GET alone\n".into(),
            );
        }
        page::asset(path).unwrap_or_else(|| self.read(path, query))
    }

    fn read(&self, path: &str, query: &str) -> Response<String> {
        let house = &*self.house;
        match path {
            "/status.json" => {
                let state = page::state::state(house, self.credentials.as_ref());
                page::answer("application/json", state.to_string())
            }
            "/help" => text(StatusCode::OK, HELP.into()),
            "/ready" if house.drains() => {
                text(StatusCode::SERVICE_UNAVAILABLE, "draining\n".into())
            }
            "/ready" => text(StatusCode::OK, "serving\n".into()),
            "/metrics" | "/stats/prometheus" => text(StatusCode::OK, self.metrics()),
            "/stats" => text(StatusCode::OK, text::plain(&self.metrics())),
            "/clients" => text(StatusCode::OK, text::clients(house)),
            "/clusters" => text(StatusCode::OK, text::clusters(house)),
            "/certs" => {
                let certificates = page::state::certificates(self.credentials.as_ref());
                let shown = serde_json::json!({"certificates": certificates});
                page::answer("application/json", format!("{shown:#}\n"))
            }
            "/config_dump" => dump(house, query),
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

    fn metrics(&self) -> String {
        let mut all = text::metrics(&self.house);
        if let Some(office) = &self.office {
            office.metrics(&mut all);
        }
        all
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
    let unescaped = parameters(query, "node").next().unwrap_or_default();
    let found = dump::of_node(house, id).or_else(|| dump::of_node(house, &unescaped));
    let Some(found) = found else {
        let help = format!("no stream of a node {id:?}; /clients has them all\n");
        return text(StatusCode::NOT_FOUND, help);
    };
    let mut response = text(StatusCode::OK, format!("{found:#}\n"));
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

fn text(status: StatusCode, body: String) -> Response<String> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        headers.insert(name, header::HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Content, Kind, Limits, Store};
    use crate::random::Random;

    fn desk(house: &Arc<House>) -> Desk {
        Desk {
            house: house.clone(),
            office: None,
            credentials: None,
            levels: None,
        }
    }

    fn send(house: &Arc<House>, method: Method, path: &str) -> (StatusCode, String) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .body(())
            .expect("a request");
        let from = From {
            loopback: true,
            page: false,
        };
        let answer = desk(house).answer(&request, from);
        (answer.status(), answer.into_body())
    }

    fn ask(house: &Arc<House>, path: &str) -> (StatusCode, String) {
        send(house, Method::GET, path)
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
        let (_, plain) = ask(&house, "/stats");
        for line in [
            "meshwork_control_generation: 1",
            "meshwork_control_refused_total{type=\"RDS\"}: 1",
        ] {
            assert!(
                plain.lines().any(|one| one == line),
                "{line} is not in\n{plain}"
            );
        }
        house.begin_drain();
        assert_eq!(ask(&house, "/ready").0, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(ask(&house, "/secret").0, StatusCode::NOT_FOUND);
        assert_eq!(ask(&house, "/config_dump").0, StatusCode::BAD_REQUEST);
        assert_eq!(
            ask(&house, "/config_dump?node=nobody").0,
            StatusCode::NOT_FOUND
        );
        let post = |path| send(&house, Method::POST, path).0;
        assert_eq!(post("/ready"), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(post("/logging?level=debug"), StatusCode::NOT_IMPLEMENTED);
        assert!(ask(&house, "/logging").1.starts_with("meshwork: "));
        let (_, certs) = ask(&house, "/certs");
        assert!(certs.contains("\"certificates\": []"), "{certs}");
    }
}
