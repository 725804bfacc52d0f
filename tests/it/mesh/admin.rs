//! The admin endpoint, asked over real sockets.

use std::net::SocketAddr;

use meshwork::model::cluster::Protocol;
use meshwork::model::route::{HeaderChange, HeaderChanges};
use meshwork::{Mesh, source};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::world::{World, call, cluster, get, one};

/// Asks for a path under this name of the host; head and body of the answer.
async fn ask_as(address: SocketAddr, host: &str, request: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let text = format!("{request} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect(&answer);
    (head.to_owned(), body.to_owned())
}

async fn ask(address: SocketAddr, path: &str) -> (String, String) {
    ask_as(address, "localhost", &format!("GET {path}")).await
}

async fn world() -> (World, Mesh, SocketAddr) {
    let world = World::default();
    world.named(1);
    let mut resources = one(cluster("c", Protocol::Http1), &[1], |_| {});
    let mut routes = (*resources.routes["80"]).clone();
    let mut host = (*routes.virtual_hosts[0]).clone();
    let mut route = (*host.routes[0]).clone();
    let set = |name: &'static str, value: &'static str| {
        HeaderChange::Set(name.parse().unwrap(), value.parse().unwrap())
    };
    route.headers = HeaderChanges {
        request: vec![set("authorization", "Basic c2VzYW1l"), set("x-team", "red")],
        response: Vec::new(),
    };
    host.routes = vec![route.into()];
    routes.virtual_hosts = vec![host.into()];
    resources.insert_routes(routes);
    let (_, feed) = source::feed(resources);
    let mesh = Mesh::builder().feed(feed).connector(world.clone());
    let mesh = mesh.start().await.unwrap();
    let address = mesh.admin(([127, 0, 0, 1], 0).into()).await.unwrap();
    (world, mesh, address)
}

#[tokio::test]
async fn every_path_of_the_index_answers() {
    let (_world, mesh, address) = world().await;
    call(&mesh, get("http://catalog/")).await.unwrap();
    let (_, index) = ask(address, "/").await;
    let paths: Vec<&str> = index
        .lines()
        .map(|line| line.split(' ').next().unwrap())
        .collect();
    assert_eq!(paths.len(), 8, "{index}");
    for path in paths {
        let path = match path {
            "/explain" => "/explain?url=http://catalog/items&method=POST&header=x:1".to_owned(),
            other => other.to_owned(),
        };
        let (head, body) = ask(address, &path).await;
        assert!(head.starts_with("HTTP/1.1 200"), "{path}: {head}");
        assert!(head.contains("cache-control: no-store"), "{head}");
        assert!(!body.is_empty(), "{path}");
    }
    for (path, part) in [
        ("/ready", "LIVE"),
        ("/stats", "cluster.c.requests: 1"),
        ("/stats", "inbound.denied: 0"),
        ("/stats?format=json", "\"inbound\":{\"requests\":0"),
        ("/stats?format=json", "\"requests\":1"),
        (
            "/stats?format=prometheus",
            "meshwork_cluster_requests_total{cluster=\"c\"} 1",
        ),
        (
            "/stats/prometheus",
            "istio_requests_total{reporter=\"source\"",
        ),
        ("/clusters", "c::10.0.0.1:1::rq_total::1"),
        ("/clusters?format=json", "\"address\":\"10.0.0.1:1\""),
        ("/config_dump", "\"matches\":\"any request\""),
        ("/explain?url=http://catalog/", "10.0.0.1:1"),
    ] {
        let (_, body) = ask(address, path).await;
        assert!(body.contains(part), "{path}: {body}");
    }
    let (head, _) = ask(address, "/stats/prometheus").await;
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");
}

#[tokio::test]
async fn no_path_shows_a_secret() {
    let (_world, _mesh, address) = world().await;
    for path in [
        "/config_dump",
        "/explain?url=http://catalog/",
        "/stats",
        "/clusters",
    ] {
        let (_, body) = ask(address, path).await;
        assert!(!body.contains("c2VzYW1l"), "{path}: {body}");
    }
    let (_, body) = ask(address, "/config_dump").await;
    assert!(
        body.contains("a value that is not shown") && body.contains("red"),
        "{body}"
    );
}

#[tokio::test]
async fn what_changes_something_and_what_is_unknown_is_refused() {
    let (_world, _mesh, address) = world().await;
    for (request, status) in [
        ("POST /ready", "405"),
        ("PUT /logging", "405"),
        ("GET /logging?level=debug", "400"),
        ("POST /logging?level=debug", "501"),
        ("DELETE /", "405"),
        ("GET /nothing", "404"),
        ("GET /explain", "400"),
        ("GET /explain?url=a%20b", "400"),
        ("GET /stats?format=xml", "400"),
        ("HEAD /ready", "200"),
    ] {
        let (head, _) = ask_as(address, "127.0.0.1", request).await;
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status}")),
            "{request}: {head}"
        );
    }
}

#[tokio::test]
async fn a_page_that_rebinds_its_name_reads_nothing() {
    let (_world, _mesh, address) = world().await;
    let (head, body) = ask_as(address, "evil.example", "GET /config_dump").await;
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");
    assert!(!body.contains("catalog"), "{body}");
}

#[tokio::test]
async fn only_loopback_addresses_unless_a_listener_is_given() {
    let mesh = Mesh::builder().start().await.unwrap();
    let error = mesh.admin(([0, 0, 0, 0], 0).into()).await.unwrap_err();
    assert!(error.to_string().contains("Mesh::admin_on"), "{error}");
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let error = mesh.admin(address).await.unwrap_err();
    assert!(error.to_string().contains(&address.to_string()), "{error}");
    let given = mesh.admin_on(taken).unwrap();
    assert_eq!(given, address);
    assert!(ask(address, "/ready").await.1.contains("LIVE"));
}

#[tokio::test]
async fn it_ends_with_its_mesh_and_does_not_keep_it() {
    let (_world, mesh, address) = world().await;
    assert!(ask(address, "/ready").await.1.contains("LIVE"));
    drop(mesh);
    // The listener is closed when its task has ended; until then connections may still be taken.
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_draining_mesh_is_not_ready() {
    let (world, mesh, address) = world().await;
    world.hung(1);
    let waits = tokio::spawn({
        let mesh = mesh.clone();
        async move { call(&mesh, get("http://catalog/")).await.is_err() }
    });
    while mesh.stats().clusters[0].active_requests == 0 {
        tokio::task::yield_now().await;
    }
    let ending = tokio::spawn({
        let mesh = mesh.clone();
        async move { mesh.shutdown(std::time::Duration::from_secs(3_600)).await }
    });
    while ask(address, "/ready").await.1 != "DRAINING\n" {
        tokio::task::yield_now().await;
    }
    waits.abort();
    let _ = waits.await;
    assert_eq!(ending.await.unwrap(), 0);
}

#[tokio::test]
async fn levels_are_those_of_the_programs_subscriber() {
    let (_world, _mesh, address) = world().await;
    let (_, text) = ask(address, "/logging").await;
    assert!(text.lines().count() >= 10, "{text}");
    for line in text.lines() {
        let (target, level) = line.split_once(": ").expect(line);
        assert!(target.starts_with("meshwork"), "{line}");
        assert!(
            ["off", "error", "warn", "info", "debug", "trace"].contains(&level),
            "{line}"
        );
    }
}

#[tokio::test]
async fn an_operator_changes_levels_and_a_page_does_not() {
    use tracing_subscriber::layer::SubscriberExt as _;
    use tracing_subscriber::{EnvFilter, reload};

    let own = "warn";
    let (filter, handle) = reload::Layer::new(EnvFilter::new(own));
    // The endpoint is served by this thread too.
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(filter));
    let set = move |wanted: &str| {
        handle.reload(EnvFilter::try_new(format!("{own},{wanted}"))?)?;
        Ok(())
    };
    let mesh = Mesh::builder().log_levels(set).start().await.unwrap();
    let address = mesh.admin(([127, 0, 0, 1], 0).into()).await.unwrap();
    let level = async |target: &str| {
        let (_, text) = ask(address, "/logging").await;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(target)?.strip_prefix(": "));
        line.expect(&text).to_owned()
    };
    assert_eq!(level("meshwork::tls").await, "warn");
    let (head, text) = ask_as(address, "localhost", "POST /logging?meshwork::tls=trace").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head} {text}");
    assert!(text.contains("meshwork::tls: trace\n"), "{text}");
    assert_eq!(level("meshwork::dns").await, "warn");
    ask_as(address, "localhost", "POST /logging?level=debug").await;
    assert_eq!(level("meshwork::tls").await, "debug");
    assert_eq!(level("meshwork::dns").await, "debug");
    // The headers of a page's form, behind that of the host.
    let host = "localhost\r\norigin: https://evil.example";
    let (head, _) = ask_as(address, host, "POST /logging?level=off").await;
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");
    assert_eq!(level("meshwork::tls").await, "debug");
    ask_as(address, "localhost", "POST /logging?level=default").await;
    assert_eq!(level("meshwork::tls").await, "warn");
}
