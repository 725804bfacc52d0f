//! What endpoints say of their load beside their responses (ORCA out of band, gRPC A51).
//!
//! A cluster that weighs its endpoints by their reports ([`WeightedRoundRobin`]) may want them from
//! a stream of their own instead of response headers: an endpoint that gets few requests is known as
//! well as one that gets many, and one that is asked for the first time too. Each endpoint has one
//! task that keeps `xds.service.orca.v3.OpenRcaService/StreamCoreMetrics` open on the connections
//! that its requests use, and hands what it reads to the [signals](crate::layer::balance::Signals) that picks look at.
//!
//! The task belongs to the cluster that runs and ends with its endpoint, with the wish, and with the
//! mesh. A stream that ends is begun again after a second, then later each time, up to two minutes,
//! a fifth more or less; an endpoint that does not know the service is left alone (A51). Nobody is
//! preferred or avoided for a report that cannot be read: its stream ends and is begun again.

use std::collections::{HashMap, HashSet};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, TE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, Version};
use http_body::Body as _;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};

use super::endpoint::Endpoint;
use super::health::{Ended, authority, lock};
use super::link::Environment;
use crate::body::Body;
use crate::layer::balance::Report;
use crate::layer::classify::grpc_status;
use crate::model;
use crate::model::balancing::WeightedRoundRobin;
use crate::model::cluster::Balancing;
use crate::model::endpoint::Address;
use crate::protobuf::put_number;
use crate::random::Random;

const PATH: &str = "/xds.service.orca.v3.OpenRcaService/StreamCoreMetrics";
const UNIMPLEMENTED: u32 = 12;
/// The longest report that is read; a few numbers with names are a hundredth of it.
const LONGEST_REPORT: usize = 64 << 10;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(120);
const GROWTH: f64 = 1.6;
/// Nobody is asked for more than that.
const SHORTEST_PERIOD: Duration = Duration::from_millis(100);

/// The streams to the endpoints of one cluster; one that wants none keeps nothing for them.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    // Held by edits, never by requests.
    tasks: OnceLock<Box<Mutex<HashMap<Address, Task>>>>,
}

#[derive(Debug)]
struct Task {
    rules: WeightedRoundRobin,
    endpoint: Arc<Endpoint>,
    _running: Ended,
}

impl Reports {
    /// Ends all streams.
    pub(crate) fn end(&self) {
        if let Some(tasks) = self.tasks.get() {
            lock(tasks).clear();
        }
    }

    /// Listens to these endpoints, and no others, if `model` wants that: O(endpoints).
    pub(super) fn set(
        &self,
        model: &model::Cluster,
        endpoints: impl Iterator<Item = Arc<Endpoint>>,
        environment: &Environment,
    ) {
        let Some((rules, period)) = wanted(model) else {
            self.end();
            return;
        };
        let Ok(runtime) = Handle::try_current() else {
            // The runtime is being torn down: nobody will pick any more.
            return;
        };
        let mut tasks = lock(self.tasks.get_or_init(Box::default));
        let mut staying = HashSet::new();
        for endpoint in endpoints {
            staying.insert(endpoint.address().clone());
            let same = tasks
                .get(endpoint.address())
                .is_some_and(|task| task.rules == *rules && Arc::ptr_eq(&task.endpoint, &endpoint));
            if same {
                continue;
            }
            let listening = Listening {
                authority: authority(endpoint.cluster(), endpoint.label()),
                endpoint: endpoint.clone(),
                period,
                random: environment.random.clone(),
                rules: rules.clone(),
            };
            let address = endpoint.address().clone();
            let task = Task {
                rules: rules.clone(),
                endpoint,
                _running: Ended::new(runtime.spawn(listening.run())),
            };
            tasks.insert(address, task);
        }
        tasks.retain(|address, _| staying.contains(address));
    }
}

/// How reports are weighed, and how often they shall come, if they shall come out of band.
pub(super) fn wanted(model: &model::Cluster) -> Option<(&WeightedRoundRobin, Duration)> {
    match &model.balancing {
        Balancing::WeightedRoundRobin(rules) => Some((rules, rules.out_of_band?)),
        _ => None,
    }
}

/// One endpoint that is listened to.
struct Listening {
    authority: Authority,
    endpoint: Arc<Endpoint>,
    period: Duration,
    random: Random,
    rules: WeightedRoundRobin,
}

/// How a stream ended.
enum End {
    /// `heard`: after a report.
    Broken { heard: bool },
    /// The endpoint does not know the service.
    Unknown,
}

impl Listening {
    async fn run(self) {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.listen().await {
                End::Unknown => {
                    let endpoint = &**self.endpoint.label();
                    tracing::info!(endpoint, "reports no load out of band");
                    return;
                }
                End::Broken { heard: true } => pause = FIRST_PAUSE,
                End::Broken { heard: false } => {}
            }
            sleep(self.random.around(pause)).await;
            pause = pause.mul_f64(GROWTH).min(LONGEST_PAUSE);
        }
    }

    async fn listen(&self) -> End {
        let sent = self.endpoint.connections.send(self.request(), ()).await;
        let Ok(response) = sent else {
            return End::Broken { heard: false };
        };
        let (head, mut body) = response.into_parts();
        if head.status == StatusCode::NOT_FOUND || is_unknown(&head.headers) {
            return End::Unknown;
        }
        let (mut buffer, mut heard) = (BytesMut::new(), false);
        loop {
            let frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
            let Some(Ok(frame)) = frame else {
                return End::Broken { heard };
            };
            match frame.into_data() {
                Ok(data) => buffer.extend_from_slice(&data),
                Err(frame) => {
                    let trailers = frame.into_trailers();
                    return match trailers.is_ok_and(|trailers| is_unknown(&trailers)) {
                        true => End::Unknown,
                        false => End::Broken { heard },
                    };
                }
            }
            while let Some(message) = next(&mut buffer) {
                let asked = &self.rules.utilization;
                let report = message.ok();
                let report = report.and_then(|message| Report::decode(&message, asked));
                let Some(report) = report else {
                    return End::Broken { heard };
                };
                let signals = &self.endpoint.record.signals;
                signals.report(&report, &self.rules, Instant::now());
                heard = true;
            }
        }
    }

    fn request(&self) -> Request<Body> {
        let mut request = Request::new(Body::from(question(self.period)));
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_2;
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(Scheme::HTTP);
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(PathAndQuery::from_static(PATH));
        let target = Uri::from_parts(parts);
        *request.uri_mut() = target.expect("scheme, authority and path are all there");
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
        request
    }
}

fn is_unknown(trailers: &HeaderMap) -> bool {
    grpc_status(trailers) == Some(UNIMPLEMENTED)
}

/// The next whole message; `Err`: it is too long, or compressed, which nobody offered.
fn next(buffer: &mut BytesMut) -> Option<Result<Bytes, ()>> {
    let head: [u8; 5] = *buffer.first_chunk()?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    if head[0] != 0 || length > LONGEST_REPORT {
        return Some(Err(()));
    }
    if buffer.len() < 5 + length {
        return None;
    }
    buffer.advance(5);
    Some(Ok(buffer.split_to(length).freeze()))
}

/// `OrcaLoadReportRequest { google.protobuf.Duration report_interval = 1; }` in a gRPC frame: one
/// field of one message is no reason for prost in a cluster.
fn question(period: Duration) -> Bytes {
    let period = period.max(SHORTEST_PERIOD);
    let mut interval = Vec::new();
    for (field, number) in [(1, period.as_secs()), (2, u64::from(period.subsec_nanos()))] {
        // proto3 leaves out zeros.
        if number > 0 {
            put_number(&mut interval, field, number);
        }
    }
    // Less than a hundred bytes, whatever the period.
    let length = interval.len() as u8;
    let mut out = BytesMut::with_capacity(usize::from(length) + 7);
    out.put_slice(&[0, 0, 0, 0, length + 2, 1 << 3 | 2, length]);
    out.put_slice(&interval);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_is_a_duration_in_a_frame() {
        let ten = question(Duration::from_secs(10));
        assert_eq!(&*ten, [0, 0, 0, 0, 4, 0x0a, 2, 0x08, 10]);
        let short = question(Duration::ZERO);
        // 100 ms are 100,000,000 ns.
        assert_eq!(
            &*short,
            [0, 0, 0, 0, 7, 0x0a, 5, 0x10, 0x80, 0xc2, 0xd7, 0x2f]
        );
        assert!(question(Duration::MAX).len() < 40);
    }

    #[test]
    fn messages_come_in_whatever_pieces_and_none_is_too_long() {
        let mut buffer = BytesMut::new();
        for byte in [0, 0, 0, 0, 2, 7] {
            buffer.put_u8(byte);
            assert_eq!(next(&mut buffer), None);
        }
        buffer.put_slice(&[8, 0, 0, 0, 0, 0]);
        assert_eq!(next(&mut buffer), Some(Ok(Bytes::from_static(&[7, 8]))));
        assert_eq!(next(&mut buffer), Some(Ok(Bytes::new())));
        assert_eq!(next(&mut buffer), None);
        for head in [[1, 0, 0, 0, 1], [0, 1, 0, 0, 0]] {
            let mut buffer = BytesMut::from(&head[..]);
            assert_eq!(next(&mut buffer), Some(Err(())));
        }
    }
}
