//! What the process does to a mesh: pauses, runtimes that end, runtimes of every kind (rows I4 and
//! I6 of the catalogue).

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use meshwork::model::cluster::{Cluster, Protocol};
use meshwork::model::endpoint::Address;
use meshwork::model::outlier::Outlier;
use meshwork::model::{Percent, Resources};
use meshwork::{CallOptions, Mesh};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;

use super::world::{
    Break, World, call, cluster, counted, get, one, retries, seconds, settle, text,
};

fn runtime(threads: usize) -> Runtime {
    let mut builder = match threads {
        0 => Builder::new_current_thread(),
        threads => {
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(threads);
            builder
        }
    };
    builder.enable_all().build().unwrap()
}

/// A server in a runtime of its own, and the resources that lead to it.
fn server(runtime: &Runtime, protocol: Protocol) -> Resources {
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = hyper::service::service_fn(|request: Request<Incoming>| async move {
                if request.uri().path() == "/hang" {
                    std::future::pending::<()>().await;
                }
                Ok::<_, Break>(text("here"))
            });
            tokio::spawn(async move {
                let _ = auto::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    let mut resources = one(cluster("c", protocol), &[1], |to| {
        to.retry = Some(retries(2, None));
    });
    let mut endpoints = super::world::endpoints("c", &[1]);
    endpoints.localities[0].endpoints[0].address = Address::Socket(address);
    resources.insert_endpoints(endpoints);
    resources
}

#[test]
fn i6_a_mesh_goes_on_in_one_runtime_when_the_one_that_it_was_started_in_has_ended() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        for threads in [0, 2] {
            let serving = runtime(2);
            let (_publisher, feed) = meshwork::source::feed(server(&serving, protocol));
            let first = runtime(threads);
            let mesh = first.block_on(Mesh::builder().feed(feed).start()).unwrap();
            assert_eq!(
                first
                    .block_on(call(&mesh, get("http://catalog/")))
                    .unwrap()
                    .1,
                "here"
            );
            let second = runtime(threads);
            // The connection that the first runtime drives serves the second too, where the first
            // has threads of its own.
            if threads > 0 {
                let called = second.block_on(call(&mesh, get("http://catalog/")));
                assert_eq!(called.unwrap().1, "here");
            }
            let hanging = mesh.clone();
            let hanging =
                first.spawn(async move { call(&hanging, get("http://catalog/hang")).await });
            first.shutdown_timeout(Duration::from_secs(5));
            assert!(second.block_on(hanging).unwrap_err().is_cancelled());
            for _ in 0..3 {
                let called = second.block_on(call(&mesh, get("http://catalog/")));
                assert_eq!(called.unwrap().1, "here", "{protocol:?} {threads}");
            }
            // Outside of any runtime a mesh can still be looked at and dropped.
            drop(second);
            assert_eq!(counted(&mesh, "c").active_requests, 0);
            drop(mesh);
        }
    }
}

#[test]
fn i6_dropping_a_runtime_with_calls_and_streams_under_way_panics_nowhere() {
    let serving = runtime(2);
    let resources = server(&serving, Protocol::Http2);
    for threads in [0, 2] {
        let (publisher, feed) = meshwork::source::feed(resources.clone());
        let running = runtime(threads);
        let mesh = running
            .block_on(Mesh::builder().feed(feed).start())
            .unwrap();
        let calls: Vec<_> = (0..50)
            .map(|_| {
                let mesh = mesh.clone();
                running.spawn(async move { call(&mesh, get("http://catalog/hang")).await })
            })
            .collect();
        running.block_on(async {
            while counted(&mesh, "c").active_requests < 50 {
                tokio::task::yield_now().await;
            }
        });
        running.shutdown_timeout(Duration::from_secs(5));
        for call in calls {
            let ended = serving.block_on(call);
            assert!(ended.unwrap_err().is_cancelled(), "a task has panicked");
        }
        assert_eq!(counted(&mesh, "c").active_requests, 0);
        drop((mesh, publisher));
    }
}

#[tokio::test(start_paused = true)]
async fn i4_after_a_pause_of_ten_minutes_each_deadline_fails_once_and_nothing_is_made_up_for() {
    let world = World::default();
    let asked = Arc::new(AtomicU32::new(0));
    let hangs = asked.clone();
    world.serve(1, move |request: Request<Incoming>| {
        let hang = request.uri().path() == "/hang";
        hangs.fetch_add(1, Ordering::SeqCst);
        async move {
            if hang {
                std::future::pending::<()>().await;
            }
            text("here")
        }
    });
    let watched = Cluster {
        outlier: Some(Arc::new(Outlier {
            interval: seconds(1),
            max_ejection: Percent::HUNDRED,
            ..Outlier::default()
        })),
        ..cluster("c", Protocol::Http1)
    };
    let resources = one(watched, &[1], |to| {
        to.timeout = Some(seconds(5));
        to.retry = Some(retries(3, Some(seconds(2))));
    });
    let (mesh, _publisher) = world.mesh(resources).await;
    let calls: Vec<_> = (0..20)
        .map(|number| {
            let mesh = mesh.clone();
            tokio::spawn(async move {
                let mut request = get("http://catalog/hang");
                // Half of them have no retries, so that both timers are among them.
                if number % 2 == 0 {
                    let options = CallOptions::new().without_retries();
                    request.extensions_mut().insert(options);
                }
                call(&mesh, request).await.unwrap_err()
            })
        })
        .collect();
    settle().await;
    assert_eq!(asked.swap(0, Ordering::SeqCst), 20);
    // The machine sleeps: all timers are due at once when it wakes up.
    tokio::time::advance(seconds(600)).await;
    let woken = Instant::now();
    for call in calls {
        let error = call.await.unwrap();
        assert!(error.is_timeout(), "{error}");
    }
    assert_eq!(woken.elapsed(), Duration::ZERO, "nobody waits any longer");
    assert_eq!(
        asked.load(Ordering::SeqCst),
        0,
        "a deadline that has passed begins no try"
    );
    tokio::time::sleep(seconds(31)).await;
    assert_eq!(call(&mesh, get("http://catalog/")).await.unwrap().1, "here");
}
