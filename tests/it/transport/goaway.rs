//! A server that lets its connections grow one second old (row H1).

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use meshwork::Body;
use meshwork::model::cluster::Protocol;
use meshwork::transport::Connections;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::world::{Chunks, Dial, World, call, endpoint, settings};

const SECOND: Duration = Duration::from_secs(1);

/// How many chunks a long stream has, one each second: it outlives the age of its connection.
const CHUNKS: usize = 4;

/// How long it goes on, on a paused clock. `MESHWORK_SOAK_SECONDS=600` is what the row asks for, and is
/// four minutes of work without optimizations.
fn seconds() -> u64 {
    let asked = std::env::var("MESHWORK_SOAK_SECONDS").ok();
    asked.map_or(10, |text| text.parse().expect("a number of seconds"))
}

async fn answer(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    if request.uri().path() != "/long" {
        return Ok(Response::new(Body::from("hello")));
    }
    let (sender, chunks) = mpsc::channel(1);
    tokio::spawn(async move {
        for _ in 0..CHUNKS {
            sleep(SECOND).await;
            let sent = sender.send(Ok(Bytes::from_static(b"."))).await;
            sent.expect("the stream is still read");
        }
    });
    Ok(Response::new(Body::new(Chunks(chunks))))
}

/// Serves a connection for a second, then says that it takes no more and finishes what it has.
async fn serve(io: DuplexStream) {
    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    let mut connection = pin!(builder.serve_connection(TokioIo::new(io), service_fn(answer)));
    tokio::select! {
        _ = connection.as_mut() => return,
        () = sleep(SECOND) => connection.as_mut().graceful_shutdown(),
    }
    // A client that goes away is no concern of the server's.
    let _ = connection.await;
}

async fn long(connections: Arc<Connections>) -> usize {
    let request = Request::get("http://catalog/long");
    let request = request.body(Body::empty()).unwrap();
    let response = connections.send(request, ()).await.unwrap();
    let body = response.into_body().collect().await.unwrap();
    body.to_bytes().len()
}

#[tokio::test(start_paused = true)]
async fn h1_goaway_each_second_beside_long_streams_loses_no_request() {
    let served = Arc::<AtomicUsize>::default();
    let world = World::new({
        let served = served.clone();
        move |_| {
            served.fetch_add(1, Ordering::Relaxed);
            Dial::accept(|io| drop(tokio::spawn(serve(io))))
        }
    });
    let connections = endpoint(settings(Protocol::Http2), &world);
    let mut streams = Vec::new();
    for _ in 0..seconds() {
        streams.push(tokio::spawn(long(connections.clone())));
        for _ in 0..1_000 {
            assert_eq!(call(&connections).await.unwrap(), "hello");
            sleep(Duration::from_millis(1)).await;
        }
    }
    for stream in streams {
        assert_eq!(stream.await.unwrap(), CHUNKS, "no stream is cut");
    }
    let dials = served.load(Ordering::Relaxed) as u64;
    // Connections grow a second old, and a little more until the next request comes.
    assert!(dials >= seconds() * 9 / 10, "{dials} connections");
    sleep(2 * SECOND).await;
    let stats = connections.stats();
    assert_eq!((stats.active, stats.tasks, stats.connections), (0, 0, 0));
}
