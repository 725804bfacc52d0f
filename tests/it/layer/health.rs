//! Active health checks: the loop over a paused clock, and each probe against what it asks.

use std::collections::VecDeque;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::uri::{Authority, Scheme};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use meshwork::layer::health::{
    Checker, GrpcProbe, Health, HttpProbe, Probe, Settings, TcpProbe, Verdict, run,
};
use meshwork::{Body, BoxError, Error, Random};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};
use tokio_test::stream_mock::StreamMockBuilder;
use tower::service_fn;

const SECOND: Duration = Duration::from_secs(1);

/// Each probe takes what the script says: `Some` is a verdict at once, `None` hangs.
#[derive(Clone, Default)]
struct Script {
    verdicts: Arc<Mutex<VecDeque<Option<Verdict>>>>,
    asked: Arc<Mutex<Vec<Instant>>>,
}

impl Probe for Script {
    async fn probe(&mut self) -> Verdict {
        self.asked.lock().unwrap().push(Instant::now());
        let next = self.verdicts.lock().unwrap().pop_front();
        match next.unwrap_or(Some(Verdict::Healthy)) {
            Some(verdict) => verdict,
            None => pending().await,
        }
    }
}

fn checker(settings: Settings) -> Checker {
    Checker::new(settings, Instant::now(), Random::seeded(1)).unwrap()
}

#[tokio::test(start_paused = true)]
async fn probes_come_an_interval_after_the_last_has_ended_and_hung_ones_are_cut() {
    let script = Script::default();
    script.verdicts.lock().unwrap().extend([
        Some(Verdict::Healthy),
        None,
        None,
        None,
        Some(Verdict::Healthy),
        Some(Verdict::Healthy),
        Some(Verdict::Unhealthy),
    ]);
    let settings = Settings {
        jitter: Duration::ZERO,
        timeout: 2 * SECOND,
        ..Settings::default()
    };
    let changes = Arc::new(Mutex::new(Vec::new()));
    let start = Instant::now();
    let told = changes.clone();
    let checking = run(checker(settings), script.clone(), move |health| {
        told.lock()
            .unwrap()
            .push((health, start.elapsed().as_secs()));
    });
    tokio::select! {
        never = checking => match never {},
        () = sleep(80 * SECOND) => {}
    }
    let asked = script.asked.lock().unwrap();
    let asked: Vec<_> = asked.iter().map(|at| (*at - start).as_secs()).collect();
    assert_eq!(asked, [0, 10, 22, 34, 46, 56, 66, 76]);
    assert_eq!(
        *changes.lock().unwrap(),
        [
            (Health::Healthy, 0),
            (Health::Unhealthy, 36),
            (Health::Healthy, 56),
            (Health::Unhealthy, 66),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn dropping_the_checks_drops_the_probe_under_way() {
    let script = Script::default();
    script.verdicts.lock().unwrap().push_back(None);
    let mut checking = tokio_test::task::spawn(run(
        checker(Settings::default()),
        script.clone(),
        |health| panic!("{health:?}"),
    ));
    assert!(checking.poll().is_pending());
    assert_eq!(Arc::strong_count(&script.asked), 2);
    drop(checking);
    assert_eq!(Arc::strong_count(&script.asked), 1);
}

/// A process that was asleep for ten minutes asks once, not sixty times.
#[tokio::test(start_paused = true)]
async fn i4_missed_checks_are_not_made_up_for() {
    let script = Script::default();
    let mut checking =
        tokio_test::task::spawn(run(checker(Settings::default()), script.clone(), |_| {}));
    assert!(checking.poll().is_pending());
    tokio::time::advance(600 * SECOND).await;
    assert!(checking.poll().is_pending());
    assert_eq!(script.asked.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn tcp_asks_whether_anybody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connector = service_fn(TcpStream::connect::<SocketAddr>);
    let mut probe = TcpProbe::new(connector, address);
    assert_eq!(probe.probe().await, Verdict::Healthy);
    drop(listener);
    assert_eq!(probe.probe().await, Verdict::Unanswered);
}

/// What an HTTP probe makes of an answer.
async fn http(status: u16, header: Option<&'static str>) -> [Verdict; 2] {
    let service = service_fn(move |request: Request<Body>| async move {
        assert_eq!(request.uri(), "http://catalog/healthz");
        assert_eq!(request.headers()["x-from"], "checks");
        assert!(http_body::Body::is_end_stream(request.body()));
        let mut response = Response::builder().status(status);
        if let Some(name) = header {
            response = response.header(name, "");
        }
        Ok::<_, Error>(
            response
                .body(Full::new(Bytes::from_static(b"text")))
                .unwrap(),
        )
    });
    let request = Request::get("http://catalog/healthz").header("x-from", "checks");
    let code = |code| StatusCode::from_u16(code).unwrap();
    let plain = HttpProbe::new(service, request.body(()).unwrap());
    let kubelet = plain
        .clone()
        .expected([code(200)..=code(399)])
        .retriable([code(400)..=code(599)]);
    let (mut plain, mut kubelet) = (plain, kubelet);
    [plain.probe().await, kubelet.probe().await]
}

#[tokio::test]
async fn http_judges_by_the_status() {
    use Verdict::{Healthy, Unanswered, Unhealthy};
    for (status, header, verdicts) in [
        (200, None, [Healthy, Healthy]),
        (204, None, [Unhealthy, Healthy]),
        (399, None, [Unhealthy, Healthy]),
        (400, None, [Unhealthy, Unanswered]),
        (503, None, [Unhealthy, Unanswered]),
        (
            200,
            Some("x-envoy-immediate-health-check-fail"),
            [Unhealthy, Unhealthy],
        ),
    ] {
        assert_eq!(http(status, header).await, verdicts, "{status} {header:?}");
    }
}

#[tokio::test]
async fn http_no_answer_and_half_an_answer_are_unanswered() {
    let request = || Request::get("http://catalog/").body(()).unwrap();
    let lost = service_fn(async |_: Request<Body>| Err::<Response<Body>, BoxError>("lost".into()));
    let verdict = HttpProbe::new(lost, request()).probe().await;
    assert_eq!(verdict, Verdict::Unanswered);

    let halved = service_fn(async |_: Request<Body>| {
        let frames = StreamMockBuilder::new()
            .next(Ok(Frame::data(Bytes::from_static(b"half"))))
            .next(Err::<_, BoxError>("broken".into()))
            .build();
        Ok::<_, BoxError>(Response::new(StreamBody::new(frames)))
    });
    let verdict = HttpProbe::new(halved, request()).probe().await;
    assert_eq!(verdict, Verdict::Unanswered);
}

/// A body without end is not read without end.
#[tokio::test]
async fn http_reads_no_more_than_it_has_to() {
    struct Endless;
    impl http_body::Body for Endless {
        type Data = Bytes;
        type Error = BoxError;
        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            let chunk = Bytes::from_static(&[0; 1_000]);
            std::task::Poll::Ready(Some(Ok(Frame::data(chunk))))
        }
    }
    let service = service_fn(async |_: Request<Body>| Ok::<_, BoxError>(Response::new(Endless)));
    let request = Request::get("http://catalog/").body(()).unwrap();
    assert_eq!(
        HttpProbe::new(service, request).probe().await,
        Verdict::Healthy
    );
}

async fn grpc<B>(answer: Response<B>) -> Verdict
where
    B: http_body::Body<Data = Bytes, Error = BoxError> + Send + 'static,
{
    let answer = Mutex::new(Some(answer));
    let service = service_fn(|request: Request<Body>| {
        assert_eq!(request.method(), "POST");
        assert_eq!(
            request.uri(),
            "http://catalog:50051/grpc.health.v1.Health/Check"
        );
        assert_eq!(request.headers()["content-type"], "application/grpc");
        assert_eq!(request.headers()["te"], "trailers");
        let answer = answer.lock().unwrap().take().unwrap();
        async move {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(&body[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
            Ok::<_, BoxError>(answer)
        }
    });
    let authority = Authority::from_static("catalog:50051");
    let mut probe = GrpcProbe::new(service, Scheme::HTTP, authority, "ab").unwrap();
    probe.probe().await
}

/// An answer of these frames; a number is the `grpc-status` of the trailers.
fn frames(
    data: &[&'static [u8]],
    status: Option<&str>,
) -> impl http_body::Body<Data = Bytes, Error = BoxError> + Send + 'static {
    let mut stream = StreamMockBuilder::new();
    for data in data {
        stream = stream.next(Ok::<_, BoxError>(Frame::data(Bytes::from_static(data))));
    }
    stream = match status {
        Some(status) => {
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", status.parse().unwrap());
            stream.next(Ok(Frame::trailers(trailers)))
        }
        None => stream.next(Err("broken".into())),
    };
    StreamBody::new(stream.build())
}

#[tokio::test]
async fn grpc_is_healthy_only_when_it_says_serving_and_ok() {
    use Verdict::{Healthy, Unanswered, Unhealthy};
    for (name, data, status, verdict) in [
        (
            "serving",
            &[&[0, 0, 0, 0, 2, 8, 1][..]][..],
            Some("0"),
            Healthy,
        ),
        (
            "in pieces",
            &[&[0, 0, 0], &[0, 2, 8], &[1]],
            Some("0"),
            Healthy,
        ),
        (
            "not serving",
            &[&[0, 0, 0, 0, 2, 8, 2]],
            Some("0"),
            Unhealthy,
        ),
        (
            "service unknown",
            &[&[0, 0, 0, 0, 2, 8, 3]],
            Some("0"),
            Unhealthy,
        ),
        ("not ok", &[&[0, 0, 0, 0, 2, 8, 1]], Some("13"), Unhealthy),
        ("no message", &[], Some("0"), Unhealthy),
        ("broken off", &[&[0, 0, 0, 0, 2, 8, 1]], None, Unanswered),
    ] {
        let found = grpc(Response::new(frames(data, status))).await;
        assert_eq!(found, verdict, "{name}");
    }
    // Without trailers the status in the headers counts.
    for (status, verdict) in [("0", Healthy), ("12", Unhealthy)] {
        let body = Full::new(Bytes::from_static(&[0, 0, 0, 0, 2, 8, 1]));
        let body = body.map_err(|never| match never {});
        let answer = Response::builder().header("grpc-status", status);
        assert_eq!(grpc(answer.body(body).unwrap()).await, verdict, "{status}");
    }
    let mut not_found = Response::new(frames(&[&[0, 0, 0, 0, 2, 8, 1]], Some("0")));
    *not_found.status_mut() = StatusCode::NOT_FOUND;
    assert_eq!(grpc(not_found).await, Unhealthy);
}

#[tokio::test]
async fn grpc_without_an_answer_is_unanswered() {
    let lost = service_fn(async |_: Request<Body>| Err::<Response<Body>, BoxError>("lost".into()));
    let authority = Authority::from_static("catalog");
    let mut probe = GrpcProbe::new(lost, Scheme::HTTP, authority, "").unwrap();
    assert_eq!(probe.probe().await, Verdict::Unanswered);
}

/// The real thing: tonic's own health service.
#[cfg(feature = "cli")]
#[tokio::test]
async fn grpc_agrees_with_the_health_service_of_tonic() {
    let (reporter, server) = tonic_health::server::health_reporter();
    let verdict = async |name: &str| {
        let authority = Authority::from_static("catalog:50051");
        let probe = GrpcProbe::new(server.clone(), Scheme::HTTP, authority, name);
        probe.unwrap().probe().await
    };
    assert_eq!(verdict("").await, Verdict::Healthy);
    assert_eq!(
        verdict("shop.Catalog").await,
        Verdict::Unhealthy,
        "NOT_FOUND"
    );
    for (status, expected) in [
        (tonic_health::ServingStatus::Serving, Verdict::Healthy),
        (tonic_health::ServingStatus::NotServing, Verdict::Unhealthy),
    ] {
        reporter.set_service_status("shop.Catalog", status).await;
        assert_eq!(verdict("shop.Catalog").await, expected);
    }
}
