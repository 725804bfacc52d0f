//! How much may be under way at once.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use http_body_util::BodyExt;
use meshwork::model::cluster::{Cluster, Connection, Protocol};
use meshwork::model::limit::Limits;
use meshwork::{CallReport, Flag, Limit, Mesh, Random};
use tokio::time::Instant;
use tower::ServiceExt;

use super::world::{
    Fed, World, call, cluster, counted, get, millis, one, retries, seconds, settle, text,
};

/// Counts what is under way at once in the backends.
#[derive(Clone, Default)]
struct Meter(Arc<(AtomicU32, AtomicU32)>);

struct Metered(Meter);

impl Meter {
    fn enter(&self) -> Metered {
        let now = self.0.0.fetch_add(1, Ordering::Relaxed) + 1;
        self.0.1.fetch_max(now, Ordering::Relaxed);
        Metered(self.clone())
    }

    fn most(&self) -> u32 {
        self.0.1.load(Ordering::Relaxed)
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        self.0.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Three backends that take up to 10 ms.
fn metered(random: &Random) -> (World, Meter) {
    let (world, meter) = (World::default(), Meter::default());
    for port in 1..=3 {
        let (meter, random) = (meter.clone(), random.clone());
        world.serve(port, move |_| {
            let metered = meter.enter();
            let pause = millis(random.below(10).into());
            async move {
                tokio::time::sleep(pause).await;
                drop(metered);
                text("done")
            }
        });
    }
    (world, meter)
}

fn limited(protocol: Protocol, limits: Limits) -> Cluster {
    Cluster {
        limits,
        ..cluster("c", protocol)
    }
}

/// How calls ended: with an answer, or at which limit.
#[derive(Debug, Default)]
struct Ends {
    answered: u32,
    requests: u32,
    pending: u32,
    dropped: u32,
}

/// Makes calls at once and drops some of them; looks at the gauges all the while.
async fn storm(mesh: &Mesh, callers: u32, cancels: bool, random: &Random, caps: &Limits) -> Ends {
    let calls: Vec<_> = (0..callers)
        .map(|_| {
            let mesh = mesh.clone();
            let patience = match cancels && random.below(2) == 0 {
                true => millis(random.below(12).into()),
                false => seconds(60),
            };
            tokio::spawn(async move {
                let call = call(&mesh, get("http://catalog/"));
                tokio::time::timeout(patience, call).await.ok()
            })
        })
        .collect();
    let mut ends = Ends::default();
    for one in calls {
        let now = counted(mesh, "c");
        assert!(now.active_requests <= caps.requests, "{now:?}");
        assert!(now.pending <= caps.pending, "{now:?}");
        // An endpoint without a connection may always open one: there are three.
        assert!(
            now.connections <= caps.connections.saturating_add(2),
            "{now:?}"
        );
        match one.await.unwrap() {
            None => ends.dropped += 1,
            Some(Ok(_)) => ends.answered += 1,
            Some(Err(error)) => match error.limit() {
                Some(Limit::Requests) => ends.requests += 1,
                Some(Limit::Pending) => ends.pending += 1,
                other => panic!("{other:?}: {error}"),
            },
        }
    }
    ends
}

#[tokio::test(start_paused = true)]
async fn g15_no_limit_is_ever_exceeded_whatever_the_load() {
    let random = Random::seeded(15);
    for turn in 0..40 {
        let protocol = match turn % 2 {
            0 => Protocol::Http1,
            _ => Protocol::Http2,
        };
        let caps = Limits {
            connections: 1 + random.below(6),
            pending: 1 + random.below(30),
            requests: 1 + random.below(30),
            ..Limits::default()
        };
        let (world, meter) = metered(&random);
        let cluster = limited(protocol, caps);
        let (mesh, _publisher) = world.mesh(one(cluster, &[1, 2, 3], |_| {})).await;
        let callers = 10 + random.below(60);
        let ends = storm(&mesh, callers, turn % 4 > 1, &random, &caps).await;
        assert!(meter.most() <= caps.requests, "{} > {caps:?}", meter.most());
        assert!(ends.answered + ends.dropped > 0, "{ends:?}");
        settle().await;
        let rest = counted(&mesh, "c");
        assert_eq!((rest.active_requests, rest.pending), (0, 0), "{caps:?}");
        // What a limit refused is counted as such and has not become an attempt.
        let refused = u64::from(ends.requests);
        assert!(rest.overflows >= refused, "{rest:?} {ends:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn g15_a_thousand_callers_and_a_cancel_storm_at_a_limit_of_a_hundred() {
    let random = Random::seeded(100);
    let (world, meter) = metered(&random);
    let caps = Limits {
        requests: 100,
        ..Limits::default()
    };
    let cluster = limited(Protocol::Http2, caps);
    let (mesh, _publisher) = world.mesh(one(cluster, &[1, 2, 3], |_| {})).await;
    let start = Instant::now();
    let refused = Arc::new(AtomicU32::new(0));
    let calls: Vec<_> = (0..1_000)
        .map(|_| {
            let (mesh, refused) = (mesh.clone(), refused.clone());
            tokio::spawn(async move {
                if call(&mesh, get("http://catalog/")).await.is_err() {
                    assert_eq!(start.elapsed(), millis(0), "refused at once");
                    refused.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
    assert_eq!((meter.most(), refused.load(Ordering::Relaxed)), (100, 900));
    for _ in 0..5 {
        let ends = storm(&mesh, 300, true, &random, &caps).await;
        assert!(ends.dropped > 10 && ends.requests > 10, "{ends:?}");
    }
    assert_eq!(meter.most(), 100);
    assert_eq!(counted(&mesh, "c").active_requests, 0);
}

#[tokio::test(start_paused = true)]
async fn an_overflow_is_503_with_the_header_and_is_never_retried() {
    let world = World::default();
    world.hung(1);
    let caps = Limits {
        requests: 1,
        ..Limits::default()
    };
    let (mesh, _publisher) = world
        .mesh(one(limited(Protocol::Http1, caps), &[1], |terms| {
            let mut policy = retries(3, None);
            policy.on.statuses = vec![http::StatusCode::SERVICE_UNAVAILABLE];
            policy.on.gateway_error = true;
            terms.retry = Some(policy);
        }))
        .await;
    let hanging = {
        let mesh = mesh.clone();
        tokio::spawn(async move { call(&mesh, get("http://catalog/")).await })
    };
    settle().await;
    let report = CallReport::default();
    let mut request = get("/");
    request.extensions_mut().insert(report.clone());
    let channel = mesh.channel("catalog").unwrap();
    let start = Instant::now();
    let response = channel.oneshot(request).await.unwrap();
    assert_eq!(start.elapsed(), millis(0));
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["x-envoy-overloaded"], "true");
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(
        body,
        "upstream connect error or disconnect/reset before headers. reset reason: overflow: the \
         limit of requests is reached (connectionPool.http.http2MaxRequests) (cluster c)"
    );
    assert_eq!(report.flags(), [Flag::UpstreamOverflow]);
    assert!(report.attempts().is_empty());
    let counted = counted(&mesh, "c");
    assert_eq!(
        (counted.overflows, counted.retries, counted.attempts),
        (1, 0, 1)
    );
    assert_eq!(counted.endpoints[0].requests, 1);
    hanging.abort();
}

#[tokio::test(start_paused = true)]
async fn pending_requests_wait_for_the_connections_and_those_beyond_are_refused() {
    let world = World::default();
    world.slow(1, seconds(1));
    let caps = Limits {
        connections: 2,
        pending: 3,
        ..Limits::default()
    };
    let (mesh, _publisher) = world
        .mesh(one(limited(Protocol::Http1, caps), &[1], |_| {}))
        .await;
    for _ in 0..2 {
        let warm = mesh.clone();
        tokio::spawn(async move { call(&warm, get("http://catalog/")).await });
    }
    settle().await;
    let start = Instant::now();
    let calls: Vec<_> = (0..5)
        .map(|_| {
            let mesh = mesh.clone();
            tokio::spawn(async move { call(&mesh, get("http://catalog/")).await })
        })
        .collect();
    settle().await;
    let now = counted(&mesh, "c");
    assert_eq!(
        (now.connections, now.pending, now.active_requests),
        (2, 3, 5)
    );
    let mut refused = 0;
    for call in calls {
        if let Err(error) = call.await.unwrap() {
            assert_eq!(error.limit(), Some(Limit::Pending));
            refused += 1;
        }
    }
    assert_eq!(refused, 2);
    assert!(
        start.elapsed() >= seconds(3),
        "two, then two, then the last"
    );
    assert_eq!(world.dials(1), 2);
    // Refused by the connections of the endpoint or by the cluster: it is one number.
    assert_eq!(counted(&mesh, "c").overflows, 2);
}

#[tokio::test(start_paused = true)]
async fn a_connection_carries_no_more_than_its_number_of_requests() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        for (most, dials) in [(1, 30), (7, 5), (10, 3), (100, 1)] {
            let world = World::default();
            world.named(1);
            let cluster = Cluster {
                connection: Connection {
                    max_requests: NonZeroU32::new(most),
                    ..Connection::default()
                },
                ..cluster("c", protocol)
            };
            let (mesh, _publisher) = world.mesh(one(cluster, &[1], |_| {})).await;
            for _ in 0..30 {
                call(&mesh, get("http://catalog/")).await.unwrap();
            }
            assert_eq!(world.dials(1), dials, "{protocol:?} {most}");
            settle().await;
            assert!(counted(&mesh, "c").connections <= 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_old_connection_is_replaced_between_requests() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let world = World::default();
        world.slow(1, seconds(1));
        let cluster = Cluster {
            connection: Connection {
                max_age: Some(seconds(10)),
                ..Connection::default()
            },
            ..cluster("c", protocol)
        };
        let (mesh, _publisher) = world.mesh(one(cluster, &[1], |_| {})).await;
        for _ in 0..25 {
            call(&mesh, get("http://catalog/")).await.unwrap();
        }
        assert_eq!(world.dials(1), 3, "{protocol:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_requests_limit_covers_the_body_of_the_response() {
    let world = World::default();
    world.serve(1, |_| async {
        let (sender, body) = Fed::body();
        tokio::spawn(async move { sender.closed().await });
        http::Response::new(body)
    });
    let caps = Limits {
        requests: 1,
        ..Limits::default()
    };
    let (mesh, _publisher) = world
        .mesh(one(limited(Protocol::Http2, caps), &[1], |_| {}))
        .await;
    let response = mesh.client().request(get("http://catalog/")).await.unwrap();
    let refused = call(&mesh, get("http://catalog/")).await.unwrap_err();
    assert!(refused.is_overloaded());
    drop(response);
    let again = mesh.client().request(get("http://catalog/")).await;
    assert_eq!(again.unwrap().status(), 200);
}
