//! Connections in memory, whose clock stands still: how long they last, and what ends their calls.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::client::conn::http2;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::*;
use crate::control::{Ca, Store, services};
use crate::random::Random;
use crate::tls::Authority;

/// Longer than anything here lasts.
const HOURS: Duration = Duration::from_secs(7_200);
const ADS: &str =
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";

/// A request that says something first, and ends when its other side is dropped.
struct Said {
    first: Option<Bytes>,
    ends: oneshot::Receiver<Infallible>,
}

impl http_body::Body for Said {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(http_body::Frame::data(first))));
        }
        match Pin::new(&mut self.ends).poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(never)) => match never {},
            Poll::Ready(Err(_)) => Poll::Ready(None),
        }
    }
}

/// A connection to a server, and what serves it.
struct Stage {
    house: Arc<House>,
    sender: http2::SendRequest<Said>,
    serving: JoinHandle<()>,
    connection: JoinHandle<Result<(), hyper::Error>>,
    _ends: watch::Sender<bool>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.connection.abort();
        self.serving.abort();
    }
}

impl Stage {
    /// `window`: how many bytes of an answer are taken unread.
    async fn set(limits: Limits, office: Option<Arc<Office>>, window: u32) -> Self {
        let house = House::new(Store::new(), limits, Random::seeded(1));
        let (_health, routes) = services::all(&house);
        let answering = Answering {
            house: house.clone(),
            office,
            routes,
            calls: Calls::default(),
            address: IpAddr::from([127, 0, 0, 1]),
            principal: None,
        };
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let ends = watch::Sender::new(false);
        let serving = tokio::spawn(speak(theirs, answering, peer, ends.subscribe()));
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(window)
            .handshake(TokioIo::new(ours))
            .await
            .expect("it speaks HTTP/2");
        Self {
            house,
            sender,
            serving,
            connection: tokio::spawn(connection),
            _ends: ends,
        }
    }

    /// Sends the head of a request, and its first bytes; it ends when what this yields is dropped.
    fn call(
        &mut self,
        path: &str,
        first: Option<&'static [u8]>,
    ) -> (
        oneshot::Sender<Infallible>,
        impl Future<Output = Response<Incoming>> + use<>,
    ) {
        let (says, ends) = oneshot::channel();
        let first = first.map(Bytes::from_static);
        let request = Request::post(format!("http://c{path}"))
            .header(http::header::CONTENT_TYPE, "application/grpc")
            .body(Said { first, ends })
            .expect("a request");
        let answer = self.sender.send_request(request);
        let answer = async move {
            let answer = timeout(HOURS, answer).await;
            answer
                .expect("it does not wait for ever")
                .expect("an answer")
        };
        (says, answer)
    }

    /// How long it lasts from here on.
    async fn lasts(&mut self) -> Duration {
        let begun = Instant::now();
        let over = timeout(HOURS, &mut self.serving).await;
        over.expect("it ends by itself").expect("without a panic");
        begun.elapsed()
    }
}

/// An office of an authority in this folder.
fn office(folder: &tempfile::TempDir) -> Arc<Office> {
    let path = folder.path().join("authority.pem");
    let id = "spiffe://td/ns/mesh-system/sa/meshwork"
        .parse()
        .expect("an identity");
    let domain = "td".parse().expect("a trust domain");
    let now = crate::tls::Clock::system().now();
    let authority = Authority::create(&path, domain, now).expect("an authority");
    let (office, _keeper) = Ca::new(path, authority, id).open().expect("it is usable");
    office
}

fn status<B>(response: &Response<B>) -> &str {
    let status = response.headers().get("grpc-status");
    status.map_or("none", |code| code.to_str().expect("a number"))
}

#[tokio::test(start_paused = true)]
async fn a_connection_lasts_as_long_as_its_streams_and_a_while_longer() {
    let limits = Limits {
        hello: Duration::from_secs(86_400),
        ..Limits::default()
    };
    let mut stage = Stage::set(limits, None, 64 << 10).await;
    let (says, answer) = stage.call(ADS, None);
    let response = answer.await;
    let over = timeout(HOURS, &mut stage.serving).await;
    assert!(over.is_err(), "it has a stream");
    drop((says, response));
    let (lasted, idle) = (stage.lasts().await, limits.idle);
    assert!(
        lasted >= idle && lasted < idle + PING_INTERVAL,
        "{lasted:?}"
    );
}

/// Whoever sends a head alone neither stays nor keeps its connection.
#[tokio::test(start_paused = true)]
async fn k6_a_call_whose_request_does_not_come_ends_and_so_does_its_connection() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let office = office(&folder);
    for path in [CREATE, CHECK, "/grpc.health.v1.Health/Watch"] {
        let limits = Limits::default();
        let mut stage = Stage::set(limits, Some(office.clone()), 64 << 10).await;
        let begun = Instant::now();
        let (_says, answer) = stage.call(path, None);
        let response = answer.await;
        assert_eq!(status(&response), "4", "{path}");
        let waited = begun.elapsed();
        let hello = limits.hello;
        assert!(
            waited >= hello && waited < hello + Duration::from_secs(1),
            "{path}: {waited:?}"
        );
        let lasted = stage.lasts().await;
        let idle = limits.idle;
        assert!(
            lasted >= idle && lasted < idle + PING_INTERVAL,
            "{path}: {lasted:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn k6_requests_for_certificates_have_places_of_their_own() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let limits = Limits {
        streams: 1,
        ..Limits::default()
    };
    let mut stage = Stage::set(limits, Some(office(&folder)), 64 << 10).await;
    let (_watches, watching) = stage.call("/grpc.health.v1.Health/Watch", None);
    let (_one, first) = stage.call(CREATE, None);
    let (_other, second) = stage.call(CREATE, None);
    let (watching, first, second) = tokio::join!(watching, first, second);
    // The watch keeps neither out, and of the two only the later one finds no place.
    assert_eq!(status(&watching), "4");
    assert_eq!([status(&first), status(&second)], ["4", "8"]);
    let report = crate::control::Report::of(&stage.house);
    assert_eq!((report.turned_away, report.calls_turned_away), (0, 1));
    let (_again, again) = stage.call(CREATE, None);
    assert_eq!(status(&again.await), "4", "the place was given back");
}

/// An answer that cannot be delivered ends its connection at once, whatever else is on it.
#[tokio::test(start_paused = true)]
async fn k6_an_answer_that_nobody_takes_ends_its_connection() {
    let limits = Limits {
        hello: Duration::from_secs(60),
        write: Duration::from_secs(10),
        ..Limits::default()
    };
    let mut stage = Stage::set(limits, None, 0).await;
    // An empty message: the server's health as a whole.
    let (says, answer) = stage.call(CHECK, Some(&[0; 5]));
    drop(says);
    let unread = answer.await;
    tokio::time::advance(Duration::from_secs(30)).await;
    let (_says, stream) = stage.call(ADS, None);
    let _stream = stream.await;
    let (lasted, left) = (stage.lasts().await, Duration::from_secs(40));
    assert!(
        lasted >= left && lasted < left + Duration::from_secs(1),
        "{lasted:?}"
    );
    drop(unread);
}
