//! Active health checks, through the front door.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use meshwork::layer::health::Health;
use meshwork::model::Resources;
use meshwork::model::cluster::{Cluster, Protocol};
use meshwork::model::endpoint::Address;
use meshwork::model::health::{GrpcQuestion, HealthCheck, HttpQuestion, Question, TcpQuestion};
use meshwork::model::limit::Limits;
use meshwork::transport::{Connect, Connecting, Io, Settings};
use meshwork::{Event, Mesh};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::world::{World, answer, call, cluster, counted, get, one, seconds, settle, text};

fn http() -> HttpQuestion {
    HttpQuestion::get(PathAndQuery::from_static("/healthz"))
}

/// Without jitter, so that tests know when.
fn steady(question: Question) -> HealthCheck {
    HealthCheck {
        jitter: seconds(0),
        ..HealthCheck::new(question)
    }
}

fn checked(check: HealthCheck) -> Cluster {
    Cluster {
        health_check: Some(Arc::new(check)),
        ..cluster("c", Protocol::Http1)
    }
}

fn watched(ports: &[u16]) -> Resources {
    one(checked(steady(Question::Http(http()))), ports, |_| {})
}

/// Serves its number; asked for its health it answers with a status that can be set.
fn serve(world: &World, port: u16) -> Arc<AtomicU32> {
    let status = Arc::new(AtomicU32::new(200));
    let says = status.clone();
    world.serve(port, move |request: Request<Incoming>| {
        let asked = request.uri().path() == "/healthz";
        let status = says.load(Ordering::SeqCst) as u16;
        async move {
            match asked {
                true => answer(status),
                false => text(port.to_string()),
            }
        }
    });
    status
}

/// Who serves, over some calls in a row.
async fn who(mesh: &Mesh) -> Vec<String> {
    let mut who = Vec::new();
    for _ in 0..6 {
        who.push(match call(mesh, get("http://catalog/")).await {
            Ok((_, body)) => body,
            Err(error) => error.status().to_string(),
        });
    }
    who.sort();
    who.dedup();
    who
}

fn health(mesh: &Mesh) -> Vec<Option<Health>> {
    let endpoints = counted(mesh, "c").endpoints;
    endpoints.iter().map(|one| one.checked).collect()
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_says_it_is_not_well_is_left_out_until_it_passes_twice() {
    let world = World::default();
    let status = serve(&world, 1);
    serve(&world, 2);
    let (mesh, _publisher) = world.mesh(watched(&[1, 2])).await;
    let mut events = mesh.events();
    settle().await;
    assert_eq!(who(&mesh).await, ["1", "2"]);
    assert_eq!(health(&mesh), [Some(Health::Healthy); 2]);

    status.store(503, Ordering::SeqCst);
    tokio::time::sleep(seconds(11)).await;
    settle().await;
    assert_eq!(who(&mesh).await, ["2"]);
    assert_eq!(
        health(&mesh),
        [Some(Health::Unhealthy), Some(Health::Healthy)]
    );

    status.store(200, Ordering::SeqCst);
    tokio::time::sleep(seconds(10)).await;
    settle().await;
    assert_eq!(who(&mesh).await, ["2"], "one pass is not enough");
    tokio::time::sleep(seconds(10)).await;
    settle().await;
    assert_eq!(who(&mesh).await, ["1", "2"]);

    let mut told = Vec::new();
    while told.len() < 4 {
        match events.next().await.unwrap().unwrap() {
            Event::Healthy { endpoint, .. } => told.push(format!("+{endpoint}")),
            Event::Unhealthy { endpoint, .. } => told.push(format!("-{endpoint}")),
            _ => {}
        }
    }
    told[..2].sort();
    assert_eq!(
        told,
        ["+10.0.0.1:1", "+10.0.0.1:2", "-10.0.0.1:1", "+10.0.0.1:1"]
    );
    let now = counted(&mesh, "c");
    assert_eq!((now.checks, now.checks_failed), (8, 1));
}

#[tokio::test(start_paused = true)]
async fn no_answer_takes_three_misses_and_a_refusal_of_a_new_endpoint_one() {
    let world = World::default();
    serve(&world, 1);
    serve(&world, 2);
    let (mesh, publisher) = world.mesh(watched(&[1, 2])).await;
    settle().await;
    world.remove(1);
    for (round, expected) in [
        (1, vec![true, true]),
        (2, vec![true, true]),
        (3, vec![false, true]),
    ] {
        tokio::time::sleep(seconds(10)).await;
        settle().await;
        let found: Vec<_> = health(&mesh)
            .iter()
            .map(|one| *one == Some(Health::Healthy))
            .collect();
        assert_eq!(found, expected, "round {round}");
    }
    // One that joins is not used before it has passed, and nobody answers at 3.
    publisher.publish(watched(&[1, 2, 3])).await.unwrap();
    assert_eq!(who(&mesh).await, ["2"]);
    settle().await;
    assert_eq!(health(&mesh)[2], Some(Health::Unhealthy));
    serve(&world, 3);
    tokio::time::sleep(seconds(21)).await;
    settle().await;
    assert_eq!(who(&mesh).await, ["2", "3"]);
}

#[tokio::test(start_paused = true)]
async fn a_mesh_does_not_wait_for_its_first_checks_and_then_believes_them() {
    let world = World::default();
    // The check hangs at one, passes at two, and three is not there.
    let hang = Arc::new(AtomicU32::new(1));
    let hangs = hang.clone();
    world.serve(1, move |request: Request<Incoming>| {
        let asked = request.uri().path() == "/healthz" && hangs.load(Ordering::SeqCst) == 1;
        async move {
            if asked {
                std::future::pending::<()>().await;
            }
            text("1")
        }
    });
    let silent = Cluster {
        ..checked(steady(Question::Http(http())))
    };
    let (mesh, _publisher) = world.mesh(one(silent.clone(), &[1], |_| {})).await;
    assert_eq!(
        who(&mesh).await,
        ["1"],
        "it stands in while nobody is known to be well"
    );
    tokio::time::sleep(seconds(6)).await;
    settle().await;
    assert_eq!(
        who(&mesh).await,
        ["503 Service Unavailable"],
        "the check has timed out"
    );

    serve(&world, 2);
    let (mesh, _publisher) = world.mesh(one(silent, &[1, 2, 3], |_| {})).await;
    settle().await;
    assert_eq!(
        who(&mesh).await,
        ["2"],
        "one is known to be well, so no other stands in"
    );
    drop(hang);
}

#[tokio::test(start_paused = true)]
async fn checks_survive_edits_and_end_with_their_endpoint_cluster_and_mesh() {
    let world = World::default();
    let asked = Arc::new(AtomicU32::new(0));
    for port in [1, 2] {
        let asked = asked.clone();
        world.serve(port, move |request: Request<Incoming>| {
            asked.fetch_add(
                u32::from(request.uri().path() == "/healthz"),
                Ordering::SeqCst,
            );
            async move { text(port.to_string()) }
        });
    }
    let count = |asked: &AtomicU32| asked.swap(0, Ordering::SeqCst);
    let (mesh, publisher) = world.mesh(watched(&[1, 2])).await;
    settle().await;
    assert_eq!(count(&asked), 2);
    // An edit of something else asks nobody again, and forgets nothing.
    let limited = |ports| {
        let cluster = Cluster {
            limits: Limits {
                requests: 77,
                ..Limits::default()
            },
            ..checked(steady(Question::Http(http())))
        };
        one(cluster, ports, |_| {})
    };
    publisher.publish(limited(&[1, 2])).await.unwrap();
    settle().await;
    assert_eq!(
        (count(&asked), health(&mesh)),
        (0, vec![Some(Health::Healthy); 2])
    );
    tokio::time::sleep(seconds(10)).await;
    settle().await;
    assert_eq!(count(&asked), 2, "the phase is kept");
    publisher.publish(limited(&[1])).await.unwrap();
    tokio::time::sleep(seconds(10)).await;
    settle().await;
    assert_eq!(count(&asked), 1, "who left is asked no more");
    // Without checks nobody is asked, and everybody is used.
    publisher
        .publish(one(cluster("c", Protocol::Http1), &[1, 2], |_| {}))
        .await
        .unwrap();
    tokio::time::sleep(seconds(30)).await;
    assert_eq!((count(&asked), health(&mesh)), (0, vec![None; 2]));
    // Who is in use when checks are added is well until they say otherwise.
    publisher.publish(watched(&[1, 2])).await.unwrap();
    assert_eq!(who(&mesh).await, ["1", "2"]);
    settle().await;
    assert_eq!(count(&asked), 2);
    // A cluster that is gone.
    publisher
        .publish(one(cluster("d", Protocol::Http1), &[1], |_| {}))
        .await
        .unwrap();
    tokio::time::sleep(seconds(30)).await;
    settle().await;
    assert_eq!(count(&asked), 0);
    publisher.publish(watched(&[1])).await.unwrap();
    settle().await;
    assert_eq!(count(&asked), 1);
    mesh.shutdown(seconds(1)).await;
    tokio::time::sleep(seconds(30)).await;
    settle().await;
    assert_eq!(count(&asked), 0);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_mesh_asks_no_more() {
    let world = World::default();
    let asked = Arc::new(AtomicU32::new(0));
    let count = asked.clone();
    world.serve(1, move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        async { text("1") }
    });
    let (mesh, publisher) = world.mesh(watched(&[1])).await;
    settle().await;
    drop((mesh, publisher));
    let before = asked.load(Ordering::SeqCst);
    tokio::time::sleep(seconds(60)).await;
    settle().await;
    assert_eq!(asked.load(Ordering::SeqCst), before);
}

#[tokio::test(start_paused = true)]
async fn an_http_check_asks_what_it_was_told_to_over_connections_that_no_limit_counts() {
    let world = World::default();
    let (seen, mut requests) = tokio::sync::mpsc::unbounded_channel();
    world.serve(1, move |request: Request<Incoming>| {
        let headers = request.headers();
        let header = |name| {
            headers
                .get(name)
                .map_or("-", |value| value.to_str().unwrap())
                .to_owned()
        };
        let host = request
            .uri()
            .authority()
            .map_or_else(|| header("host"), ToString::to_string);
        let text = format!(
            "{:?} {} {} {host} {} {}",
            request.version(),
            request.method(),
            request.uri().path_and_query().unwrap(),
            header("user-agent"),
            header("x-check")
        );
        let _ = seen.send(text);
        async { answer(207) }
    });
    let status = |code: u16| StatusCode::from_u16(code).unwrap();
    for (protocol, version) in [(Protocol::Http1, "HTTP/1.1"), (Protocol::Http2, "HTTP/2.0")] {
        let question = HttpQuestion {
            host: Some("health.example:81".parse().unwrap()),
            method: Method::OPTIONS,
            headers: vec![(
                HeaderName::from_static("x-check"),
                HeaderValue::from_static("7"),
            )],
            expected: vec![(status(200), status(204)), (status(207), status(207))],
            protocol,
            path: PathAndQuery::from_static("/up?deep=1"),
            ..http()
        };
        let cluster = Cluster {
            limits: Limits {
                connections: 0,
                requests: 0,
                ..Limits::default()
            },
            ..checked(steady(Question::Http(question)))
        };
        let (mesh, _publisher) = world.mesh(one(cluster, &[1], |_| {})).await;
        let expected = format!("{version} OPTIONS /up?deep=1 health.example:81 meshwork/HC 7");
        assert_eq!(requests.recv().await.unwrap(), expected);
        settle().await;
        assert_eq!(health(&mesh), [Some(Health::Healthy)]);
        let now = counted(&mesh, "c");
        assert_eq!((now.requests, now.connections, now.overflows), (0, 0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn one_connection_serves_all_checks_unless_each_shall_have_its_own() {
    for (reuse, dials) in [(true, 1), (false, 4)] {
        let world = World::default();
        serve(&world, 1);
        let check = HealthCheck {
            reuse_connection: reuse,
            ..steady(Question::Http(http()))
        };
        let (mesh, _publisher) = world.mesh(one(checked(check), &[1], |_| {})).await;
        tokio::time::sleep(seconds(31)).await;
        settle().await;
        assert_eq!(counted(&mesh, "c").checks, 4);
        assert_eq!(world.dials(1), dials);
    }
}

#[tokio::test(start_paused = true)]
async fn a_cluster_without_traffic_is_asked_at_its_own_interval() {
    let world = World::default();
    serve(&world, 1);
    let check = HealthCheck {
        no_traffic_interval: Some(seconds(60)),
        ..steady(Question::Http(http()))
    };
    let (mesh, _publisher) = world.mesh(one(checked(check), &[1], |_| {})).await;
    tokio::time::sleep(seconds(59)).await;
    settle().await;
    assert_eq!(counted(&mesh, "c").checks, 1);
    who(&mesh).await;
    tokio::time::sleep(seconds(12)).await;
    settle().await;
    assert_eq!(
        counted(&mesh, "c").checks,
        3,
        "at 60 s, and then every 10 s"
    );
}

#[tokio::test(start_paused = true)]
async fn a_grpc_check_asks_the_health_service() {
    // `HealthCheckResponse { status: SERVING }` and NOT_SERVING.
    for (status, expected) in [(1_u8, Health::Healthy), (2, Health::Unhealthy)] {
        let world = World::default();
        let (seen, mut asked) = tokio::sync::mpsc::unbounded_channel();
        world.serve(1, move |request: Request<Incoming>| {
            let seen = seen.clone();
            async move {
                let path = request.uri().path().to_owned();
                let tenant = request.headers()["x-tenant"].clone();
                let body = request.into_body().collect().await.unwrap().to_bytes();
                seen.send((path, tenant, body)).unwrap();
                let mut response = text(vec![0, 0, 0, 0, 2, 8, status]);
                let headers = response.headers_mut();
                headers.insert("content-type", HeaderValue::from_static("application/grpc"));
                headers.insert("grpc-status", HeaderValue::from_static("0"));
                response
            }
        });
        let question = GrpcQuestion {
            service: "shop.Catalog".into(),
            metadata: vec![(
                HeaderName::from_static("x-tenant"),
                HeaderValue::from_static("a"),
            )],
            ..GrpcQuestion::default()
        };
        let cluster = checked(steady(Question::Grpc(question)));
        let (mesh, _publisher) = world.mesh(one(cluster, &[1], |_| {})).await;
        let (path, tenant, body) = asked.recv().await.unwrap();
        assert_eq!(path, "/grpc.health.v1.Health/Check");
        assert_eq!(tenant, "a");
        assert_eq!(&body[..], b"\0\0\0\0\x0e\x0a\x0cshop.Catalog");
        settle().await;
        assert_eq!(health(&mesh), [Some(expected)]);
    }
}

/// A server that is no HTTP server: it answers what it is sent, in two pieces.
#[derive(Clone, Copy, Debug)]
struct Parrot {
    listens: bool,
}

impl Connect for Parrot {
    fn connect(&self, _: &Address, _: &Settings) -> Connecting {
        if !self.listens {
            return Box::pin(async { Err(std::io::ErrorKind::ConnectionRefused.into()) });
        }
        let (ours, mut theirs) = tokio::io::duplex(1_024);
        tokio::spawn(async move {
            let mut word = [0; 6];
            if theirs.read_exact(&mut word).await.is_ok() {
                let _ = theirs.write_all(&word[..3]).await;
                let _ = theirs.write_all(&word[3..]).await;
            }
        });
        Box::pin(async move { Ok(Io::boxed(ours)) })
    }
}

#[tokio::test(start_paused = true)]
async fn a_tcp_check_connects_and_listens_for_what_is_expected() {
    let question = |send: &'static str, receive: &[&'static str]| TcpQuestion {
        send: send.into(),
        receive: receive.iter().map(|piece| (*piece).into()).collect(),
    };
    for (row, listens, question, healthy) in [
        ("a connection is enough", true, question("", &[]), true),
        ("nobody listens", false, question("", &[]), false),
        (
            "all pieces",
            true,
            question("ping\r\n", &["pi", "ng"]),
            true,
        ),
        (
            "in the wrong order",
            true,
            question("ping\r\n", &["ng", "pi"]),
            false,
        ),
        ("silence", true, question("", &["hello"]), false),
    ] {
        let (_publisher, feed) = {
            let cluster = checked(steady(Question::Tcp(question)));
            meshwork::source::feed(one(cluster, &[1], |_| {}))
        };
        let mesh = Mesh::builder().feed(feed).connector(Parrot { listens });
        let mesh = mesh.start().await.unwrap();
        tokio::time::sleep(seconds(6)).await;
        settle().await;
        let expected = if healthy {
            Health::Healthy
        } else {
            Health::Unhealthy
        };
        assert_eq!(health(&mesh), [Some(expected)], "{row}");
    }
}

#[tokio::test]
async fn on_sockets_a_server_that_stops_is_left_out() {
    let listen = |reply: &'static str| async move {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = hyper::service::service_fn(move |_| async move {
                    Ok::<_, std::convert::Infallible>(text(reply))
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(hyper_util::rt::TokioIo::new(stream), service),
                );
            }
        });
        (address, task)
    };
    let ((one_address, stopping), (other_address, _other)) = (listen("1").await, listen("2").await);
    let check = HealthCheck {
        interval: super::world::millis(5),
        unhealthy_threshold: NonZeroU32::MIN,
        reuse_connection: false,
        ..steady(Question::Http(http()))
    };
    let mut resources = one(checked(check), &[1, 2], |_| {});
    let mut endpoints = super::world::endpoints("c", &[1, 2]);
    endpoints.localities[0].endpoints[0].address = Address::Socket(one_address);
    endpoints.localities[0].endpoints[1].address = Address::Socket(other_address);
    resources.insert_endpoints(endpoints);
    let (_publisher, feed) = meshwork::source::feed(resources);
    let mesh = Mesh::builder().feed(feed).start().await.unwrap();
    let mut events = mesh.events();
    stopping.abort();
    let began = Instant::now();
    loop {
        if let Event::Unhealthy { endpoint, .. } = events.next().await.unwrap().unwrap() {
            assert_eq!(&*endpoint, one_address.to_string());
            break;
        }
    }
    assert!(began.elapsed() < seconds(30));
    // The event is told before the balancer is brought up to date; that follows at once.
    while who(&mesh).await != ["2"] {
        assert!(began.elapsed() < seconds(30), "it is still in use");
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_endpoints_of_a_cluster_that_had_none_are_asked_before_they_count_as_well() {
    let world = World::default();
    let (mesh, publisher) = world.mesh(watched(&[])).await;
    settle().await;
    // Nobody is there: one check is enough to know.
    publisher.publish(watched(&[9])).await.unwrap();
    settle().await;
    assert_eq!(health(&mesh), [Some(Health::Unhealthy)]);
    assert_eq!(counted(&mesh, "c").checks, 1);
    serve(&world, 1);
    publisher.publish(watched(&[9, 1])).await.unwrap();
    settle().await;
    assert_eq!(who(&mesh).await, ["1"]);
}
