//! Whatever comes, there is an answer and no panic.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Request, Uri};
use meshwork::model::cluster::{Balancing, Cluster, Connection, Keepalive, Protocol};
use meshwork::model::fault::{Amount, Delay, Fault};
use meshwork::model::limit::{Limits, RetryLimit};
use meshwork::model::outlier::{FailurePercentage, LocalOrigin, Outlier, SuccessRate};
use meshwork::model::retry::Backoff;
use meshwork::model::route::{Destination, Destinations, Forward, HeaderChanges, OwnFault};
use meshwork::model::{Fraction, Percent, Resources};
use meshwork::{Body, CallOptions, Mesh, OutboundTraffic};
use proptest::prelude::*;

use super::world::{Plan, World, all_to, call, cluster, forward, one, retries, route, seconds};

/// Runs a case on a paused clock; one that does not end within a day of it has no answer.
fn answered(case: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    let ended = runtime.block_on(async { tokio::time::timeout(seconds(86_400), case).await });
    ended.expect("an answer within a day");
}

fn world() -> World {
    let world = World::default();
    world.named(1);
    world.status(2, 503);
    world.broken(4);
    world
}

/// Zero, the least, the usual, a century, and more than clocks can say.
fn durations() -> impl Strategy<Value = Duration> {
    const CENTURY: u64 = 100 * 365 * 86_400;
    prop_oneof![
        Just(Duration::ZERO),
        Just(Duration::from_nanos(1)),
        Just(Duration::from_millis(1)),
        Just(Duration::from_secs(10)),
        Just(Duration::from_secs(CENTURY)),
        Just(Duration::MAX),
    ]
}

fn counts() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), Just(1), Just(2), Just(1_000), Just(u32::MAX)]
}

fn percents() -> impl Strategy<Value = Percent> {
    (0u32..=100).prop_map(|percent| Percent::new(percent).unwrap())
}

fn outliers() -> impl Strategy<Value = Outlier> {
    let times = (durations(), durations(), durations());
    (
        times,
        counts(),
        counts(),
        percents(),
        percents(),
        any::<[bool; 4]>(),
    )
        .prop_map(
            |((interval, base, longest), some, other, percent, enforcing, flags)| Outlier {
                consecutive_5xx: NonZeroU32::new(some),
                consecutive_gateway: NonZeroU32::new(other),
                local_origin: flags[0].then_some(LocalOrigin {
                    consecutive: NonZeroU32::new(some),
                }),
                error_statuses: if flags[1] {
                    vec![0, 200, u16::MAX]
                } else {
                    vec![]
                },
                success_rate: flags[2].then_some(SuccessRate {
                    stdev_factor: other,
                    enforcing,
                    minimum_hosts: some,
                    request_volume: other,
                }),
                failure_percentage: flags[3].then_some(FailurePercentage {
                    threshold: percent,
                    enforcing,
                    minimum_hosts: other,
                    request_volume: some,
                }),
                interval,
                base_ejection_time: base,
                max_ejection_time: longest,
                max_ejection: percent,
                always_eject_one: flags[0],
            },
        )
}

fn connections() -> impl Strategy<Value = Connection> {
    (counts(), durations(), durations(), durations(), durations()).prop_map(
        |(count, age, idle, interval, timeout)| Connection {
            max_requests: NonZeroU32::new(count),
            max_per_endpoint: NonZeroU32::new(count),
            max_age: (age > Duration::ZERO).then_some(age),
            idle_timeout: Some(idle),
            max_concurrent_streams: NonZeroU32::new(count),
            http2_keepalive: Some(Keepalive { interval, timeout }),
            tcp_keepalive: None,
            proxy_protocol: None,
        },
    )
}

fn clusters() -> impl Strategy<Value = Cluster> {
    let kinds = (
        prop_oneof![
            Just(Protocol::Http1),
            Just(Protocol::Http2),
            Just(Protocol::SameAsRequest)
        ],
        prop_oneof![
            Just(Balancing::LeastRequest),
            Just(Balancing::Random),
            Just(Balancing::RoundRobin)
        ],
        prop_oneof![
            Just(RetryLimit::Budget),
            counts().prop_map(RetryLimit::Concurrent),
            (percents(), counts(), 0_u64..3).prop_map(|(percent, minimum, seconds)| {
                RetryLimit::Share {
                    percent,
                    minimum,
                    interval: Duration::from_secs(seconds),
                }
            }),
        ],
    );
    let limits = (counts(), counts(), counts());
    (
        kinds.boxed(),
        limits,
        durations(),
        connections().boxed(),
        percents(),
        proptest::option::of(outliers().prop_map(Arc::new).boxed()),
    )
        .prop_map(
            |(kinds, limits, connect_timeout, connection, panic_threshold, outlier)| {
                let (protocol, balancing, retries) = kinds;
                Cluster {
                    balancing,
                    panic_threshold,
                    connect_timeout,
                    connection,
                    limits: Limits {
                        connections: limits.0,
                        pending: limits.1,
                        requests: limits.2,
                        retries,
                    },
                    outlier,
                    ..cluster("c", protocol)
                }
            },
        )
}

#[derive(Clone, Debug)]
struct Terms {
    timeout: Option<Duration>,
    idle: Option<Duration>,
    retries: u32,
    per_try: Option<Duration>,
    backoff: (Duration, Duration),
    delay: Option<Duration>,
}

fn terms() -> impl Strategy<Value = Terms> {
    let maybe = || proptest::option::of(durations());
    let backoff = (durations(), durations());
    (maybe(), maybe(), 0u32..5, maybe(), backoff, maybe()).prop_map(
        |(timeout, idle, retries, per_try, backoff, delay)| Terms {
            timeout,
            idle,
            retries,
            per_try,
            backoff,
            delay,
        },
    )
}

impl Terms {
    fn apply(&self, forward: &mut Forward) {
        forward.timeout = self.timeout;
        forward.idle_timeout = self.idle;
        let mut policy = retries(self.retries, self.per_try);
        policy.backoff = Backoff {
            base: self.backoff.0,
            max: self.backoff.1,
        };
        forward.retry = Some(policy);
    }

    fn resources(&self, cluster: Cluster, ports: &[u16]) -> Resources {
        let mut terms = forward(Destinations::single("c"));
        self.apply(&mut terms);
        let everything = meshwork::model::matcher::RouteMatcher::everything();
        let mut route = route("all", everything, terms);
        route.fault = self.delay.map(|duration| Fault {
            delay: Some(Delay {
                duration: Amount::Fixed(duration),
                share: Fraction::ONE,
            }),
            abort: None,
            max_active: None,
        });
        Plan::default()
            .cluster(cluster, ports)
            .host("catalog", vec![route])
            .build()
    }
}

/// Three calls, and an edit between them; nobody waits longer than a minute.
async fn use_it(resources: Resources, edited: Resources) {
    let (mesh, publisher) = world().mesh(resources).await;
    for turn in 0..3 {
        let mut request = Request::post("http://catalog/")
            .body(Body::from("x"))
            .unwrap();
        let options = CallOptions::new().timeout(seconds(60));
        request.extensions_mut().insert(options);
        match call(&mesh, request).await {
            Ok((status, _)) => assert!([200, 503].contains(&status)),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
        if turn == 1 {
            publisher.publish(edited.clone()).await.unwrap();
        }
    }
    assert_eq!(mesh.shutdown(seconds(1)).await, 0);
}

fn header_names() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("grpc-timeout".to_owned()),
        Just("x-envoy-upstream-rq-timeout-ms".to_owned()),
        Just("x-envoy-upstream-rq-per-try-timeout-ms".to_owned()),
        Just("x-envoy-expected-rq-timeout-ms".to_owned()),
        Just("x-envoy-attempt-count".to_owned()),
        Just("x-envoy-fault-delay-request".to_owned()),
        Just("content-type".to_owned()),
        Just("host".to_owned()),
        Just("connection".to_owned()),
        Just("te".to_owned()),
        Just("upgrade".to_owned()),
        Just("transfer-encoding".to_owned()),
        Just("content-length".to_owned()),
        "[a-z!#$%&'*+.^_`|~-]{1,20}",
    ]
}

fn header_values() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        "[0-9]{0,20}[HMSmun]?".prop_map(String::into_bytes),
        proptest::collection::vec(any::<u8>(), 0..40),
        Just(b"application/grpc".to_vec()),
        Just(b"18446744073709551616".to_vec()),
    ]
}

proptest! {
    #![proptest_config(crate::properties(48))]

    #[test]
    fn any_configuration_answers(
        terms in terms().boxed(),
        cluster in clusters().boxed(),
        edited in clusters().boxed(),
        ports in proptest::collection::vec(1u16..5, 0..5),
    ) {
        let resources = terms.resources(cluster, &ports);
        answered(use_it(resources, terms.resources(edited, &[1])));
    }

    #[test]
    fn any_headers_are_answered(
        headers in proptest::collection::vec((header_names(), header_values()), 0..8),
        method in "[A-Z!#$%&'*+.^_`|~-]{1,12}",
        body in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        answered(async {
            let resources = one(cluster("c", Protocol::SameAsRequest), &[1, 2], |terms| {
                terms.timeout = Some(seconds(5));
                terms.retry = Some(retries(1, None));
            });
            let (mesh, _publisher) = world().mesh(resources).await;
            let mut request = Request::builder().method(method.as_str()).uri("http://catalog/");
            for (name, value) in &headers {
                if let (Ok(name), Ok(value)) =
                    (HeaderName::try_from(name), HeaderValue::try_from(value.as_slice()))
                {
                    request = request.header(name, value);
                }
            }
            let request = request.body(Body::from(body.clone())).unwrap();
            let _ = call(&mesh, request).await;
            assert_eq!(mesh.shutdown(seconds(1)).await, 0);
        });
    }

    #[test]
    fn any_uri_is_answered(text in prop_oneof![
        "\\PC{0,60}",
        "http://[a-zA-Z0-9.:@%\\[\\]_-]{0,40}(/[ -~]{0,20})?",
        "(http|https|ftp|)(://)?catalog[:0-9]{0,8}[/?#%a-z]{0,12}",
    ]) {
        let Ok(uri) = text.parse::<Uri>() else { return Ok(()) };
        answered(async move {
            for policy in [OutboundTraffic::AllowAny, OutboundTraffic::RegistryOnly] {
                let (publisher, feed) = meshwork::source::feed(
                    Plan::default()
                        .cluster(cluster("c", Protocol::Http1), &[1])
                        .host("catalog", vec![all_to("c")])
                        .host("*.test", vec![all_to("c")])
                        .build(),
                );
                let mesh = Mesh::builder().feed(feed).connector(world()).outbound_traffic(policy);
                let mesh = mesh.start().await.unwrap();
                let request = || Request::get(uri.clone()).body(Body::empty()).unwrap();
                let _ = call(&mesh, request()).await;
                let channel = mesh.channel("catalog").unwrap();
                let response = tower::ServiceExt::oneshot(channel, request()).await.unwrap();
                assert!(response.status().as_u16() >= 200);
                drop(publisher);
            }
        });
    }

    #[test]
    fn any_target_is_refused_or_answered(target in prop_oneof![
        "\\PC{0,40}",
        "(xds:///|xds://|http://|dns:///)?[a-z0-9.:_\\[\\]-]{0,40}",
    ]) {
        answered(async move {
            let (mesh, _publisher) = world().mesh(Plan::default().build()).await;
            match mesh.channel(&target) {
                Err(error) => assert!(error.is_config() && !error.to_string().is_empty()),
                Ok(channel) => {
                    let request = Request::get("/").body(Body::empty()).unwrap();
                    let answer = tower::ServiceExt::oneshot(channel, request).await;
                    assert!(answer.is_ok(), "a channel answers");
                }
            }
        });
    }

    #[test]
    fn any_weights_are_refused_or_rolled(weights in proptest::collection::vec(counts(), 0..5)) {
        let sum: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
        let destinations = weights.iter().map(|weight| Destination {
            cluster: "c".into(),
            weight: *weight,
            headers: HeaderChanges::default(),
            authority_rewrite: None,
            fault: OwnFault::AsRoute,
        });
        let split = Destinations::weighted(destinations.collect());
        assert_eq!(split.is_some(), (1..=u64::from(u32::MAX)).contains(&sum));
        let Some(split) = split else { return Ok(()) };
        answered(async move {
            let everything = meshwork::model::matcher::RouteMatcher::everything();
            let plan = Plan::default()
                .cluster(cluster("c", Protocol::Http1), &[1])
                .host("catalog", vec![route("split", everything, forward(split))]);
            let (mesh, _publisher) = world().mesh(plan.build()).await;
            for _ in 0..5 {
                let request = Request::get("http://catalog/").body(Body::empty()).unwrap();
                assert_eq!(call(&mesh, request).await.unwrap().0, 200);
            }
        });
    }
}
