//! What is explained is what happens: generated requests over generated configurations.

mod generate;

use std::collections::BTreeMap;
use std::time::Duration;

use http::Request;
use meshwork::explain::{End, Explanation, Host, Outcome, Verdict};
use meshwork::model::Fraction;
use meshwork::model::cluster::Protocol;
use meshwork::model::fault::{Amount, Delay, Fault};
use meshwork::model::matcher::RouteMatcher;
use meshwork::{Body, CallReport, Mesh, OutboundTraffic, Random};

use super::world::{
    Plan, World, call, cluster, forward, get, millis, one, retries, route, seconds, text, weighted,
};
use generate::{Drawn, Hits, action, draw, matchers, request};

/// What an endpoint has seen, as the body of its answer.
fn echo(world: &World, port: u16) {
    world.serve(port, move |request| async move {
        let headers = request.headers();
        let seen = |name: &str| {
            headers
                .get(name)
                .map_or("-", |value| value.to_str().unwrap())
        };
        text(format!("{port} {} {}", request.uri().path(), seen("x-set")))
    });
}

/// What was observed: the status, and what the endpoint had seen.
type Observed = (u16, String);

async fn observe(mesh: &Mesh, request: Request<Body>) -> Observed {
    match mesh.client().request(request).await {
        Ok(response) => {
            let location = response.headers().get("location").cloned();
            let status = response.status().as_u16();
            let body = http_body_util::BodyExt::collect(response.into_body());
            let body = body.await.unwrap().to_bytes();
            let body = String::from_utf8(body.to_vec()).unwrap();
            let location = location.map(|text| text.to_str().unwrap().to_owned());
            (status, location.unwrap_or(body))
        }
        Err(error) => (error.status().as_u16(), format!("{:?}", error.flag())),
    }
}

/// Whether an explained outcome is what was observed.
fn is(outcome: &Outcome, observed: &Observed) -> bool {
    let (status, what) = observed;
    match &outcome.end {
        End::Direct {
            status: told,
            bytes,
            ..
        } => told.as_u16() == *status && *bytes == what.len(),
        End::Redirect {
            status: told,
            location,
            ..
        } => told.as_u16() == *status && location == what,
        End::Refused(refusal) => {
            refusal.status.as_u16() == *status && *what == format!("{:?}", refusal.flag)
        }
        End::Forward(sent) => match &sent.failure {
            Some(failure) => {
                failure.status.as_u16() == *status && *what == format!("{:?}", failure.flag)
            }
            None => {
                let path = sent.uri.parse::<http::Uri>().unwrap().path().to_owned();
                let set = sent.request_changes.iter().rev().find_map(|change| {
                    let value = change.strip_prefix("set x-set: ")?;
                    Some(value.trim_matches('"').to_owned())
                });
                let set = set.unwrap_or_else(|| "-".to_owned());
                let from = |member: &meshwork::explain::Member| {
                    let port = member.address.rsplit(':').next().unwrap();
                    *what == format!("{port} {path} {set}")
                };
                *status == 200 && sent.endpoints.iter().any(from)
            }
        },
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_explained_is_what_happens() {
    let world = World::default();
    (1..=6).for_each(|port| echo(&world, port));
    let random = Random::seeded(20_260_701);
    let mut hits = Hits::default();
    let (mut surprise, mut variance, mut certain) = (0.0, 0.0, 0);
    for _ in 0..260 {
        let Drawn { resources, kinds } = draw(&random);
        let (mesh, _publisher) = world.mesh(resources).await;
        for _ in 0..16 {
            let asked = request(&random);
            let explained = mesh.explain(&asked);
            let sum: f64 = explained.outcomes.iter().map(|one| one.share).sum();
            assert!((sum - 1.0).abs() < 1e-6, "{explained}");
            let observed = observe(&mesh, asked).await;
            let matching: Vec<_> = explained
                .outcomes
                .iter()
                .filter(|one| is(one, &observed))
                .collect();
            assert!(
                !matching.is_empty(),
                "{observed:?} was not explained by\n{explained}"
            );
            count(&explained, &kinds, &mut hits);
            if explained.outcomes.len() == 1 {
                certain += 1;
                continue;
            }
            // How often the first is what happens, against how often it should be.
            let first = &explained.outcomes[0];
            let alike = |one: &&Outcome| is(one, &observed) && !std::ptr::eq(*one, first);
            if explained.outcomes.iter().filter(alike).count() == 0 || !is(first, &observed) {
                let hit = f64::from(u8::from(is(first, &observed)));
                surprise += hit - first.share;
                variance += first.share * (1.0 - first.share);
            }
        }
    }
    hits.each_at_least(50);
    assert!(certain > 1_000, "only {certain} requests had one outcome");
    assert!(variance > 50.0, "too few draws: {variance}");
    assert!(
        surprise.abs() < 5.0 * variance.sqrt(),
        "shares are off by {surprise} where {} is one deviation",
        variance.sqrt()
    );
}

/// Counts what the routes that were looked at ask, and what the taken ones do.
fn count(explained: &Explanation, kinds: &BTreeMap<String, RouteMatcher>, hits: &mut Hits) {
    for considered in &explained.routes {
        let matcher = &kinds[&*considered.name];
        let what = match considered.verdict {
            Verdict::Taken(_) => "taken",
            Verdict::Mismatch { .. } => "mismatch",
            _ => continue,
        };
        for kind in matchers(matcher) {
            hits.add(what, kind);
        }
    }
    for outcome in &explained.outcomes {
        hits.add("action", action(outcome));
    }
}

#[tokio::test(start_paused = true)]
async fn no_call_takes_longer_or_tries_more_often_than_explained() {
    let world = World::default();
    world.hung(1);
    world.broken(2);
    world.slow(3, millis(900));
    for port in 1..=3 {
        for (tries, per_try) in [(0, None), (3, Some(seconds(2))), (5, Some(millis(100)))] {
            for held in [None, Some(seconds(1))] {
                let resources = one(cluster("c", Protocol::Http1), &[port], |to| {
                    to.timeout = Some(seconds(5));
                    to.retry = Some(retries(tries, per_try));
                });
                let resources = with_delay(resources, held);
                let (mesh, _publisher) = world.mesh(resources).await;
                let explained = mesh.explain(&get("http://catalog/"));
                let End::Forward(sent) = &explained.outcomes[0].end else {
                    panic!("{explained}");
                };
                let report = CallReport::default();
                let mut request = get("http://catalog/");
                request.extensions_mut().insert(report.clone());
                let began = tokio::time::Instant::now();
                let _ = call(&mesh, request).await;
                let worst = sent.times.worst_case.expect("there is a timeout");
                assert!(began.elapsed() <= worst + millis(1), "{explained}");
                assert!(report.retries() < sent.times.attempts, "{explained}");
                if port == 1 {
                    // Nobody answers: the worst case comes true, up to pauses that are drawn.
                    let pauses = millis(250) * sent.times.attempts;
                    assert!(began.elapsed() + pauses >= worst, "{explained}");
                    assert!(
                        report.retries() < sent.times.attempts_if_slow,
                        "{explained}"
                    );
                }
            }
        }
    }
}

fn with_delay(
    mut resources: meshwork::model::Resources,
    held: Option<Duration>,
) -> meshwork::model::Resources {
    let Some(held) = held else { return resources };
    let mut routes = (*resources.routes["80"]).clone();
    let mut host = (*routes.virtual_hosts[0]).clone();
    let mut changed = (*host.routes[0]).clone();
    changed.fault = Some(Fault {
        delay: Some(Delay {
            duration: Amount::Fixed(held),
            share: Fraction::ONE,
        }),
        abort: None,
        max_active: None,
    });
    host.routes = vec![changed.into()];
    routes.virtual_hosts = vec![host.into()];
    resources.insert_routes(routes);
    resources
}

#[tokio::test(start_paused = true)]
async fn headers_that_shorten_the_time_are_in_the_explanation() {
    let world = World::default();
    let resources = one(cluster("c", Protocol::Http1), &[1], |to| {
        to.timeout = Some(seconds(5));
        to.retry = Some(retries(3, Some(seconds(2))));
    });
    let (mesh, _publisher) = world.mesh(resources).await;
    let mut request = get("http://catalog/");
    let headers = request.headers_mut();
    headers.insert("x-envoy-upstream-rq-timeout-ms", "3000".parse().unwrap());
    headers.insert("x-envoy-expected-rq-timeout-ms", "2500".parse().unwrap());
    let explained = mesh.explain(&request);
    let End::Forward(sent) = &explained.outcomes[0].end else {
        panic!("{explained}");
    };
    assert_eq!(sent.times.timeout, Some(seconds(3)));
    assert_eq!(sent.times.caller, Some(millis(2_500)));
    assert_eq!(sent.times.worst_case, Some(millis(2_500)));
    assert_eq!(sent.times.attempts_if_slow, 2);
}

#[tokio::test(start_paused = true)]
async fn unknown_hosts_and_listeners_are_explained() {
    let world = World::default();
    let (mesh, _publisher) = world.mesh(Plan::default().build()).await;
    let explained = mesh.explain(&get("http://elsewhere/"));
    assert!(matches!(explained.host, Host::Unknown), "{explained}");
    let End::Forward(sent) = &explained.outcomes[0].end else {
        panic!("{explained}");
    };
    assert_eq!(&*sent.cluster, "PassthroughCluster");
    assert_eq!(&*sent.endpoints[0].address, "elsewhere:80");
    let explained = mesh.explain_channel("xds:///nobody", &get("/")).unwrap();
    assert!(
        explained.to_string().contains("404 Not Found"),
        "{explained}"
    );
    let closed = Mesh::builder().outbound_traffic(OutboundTraffic::RegistryOnly);
    let closed = closed.start().await.unwrap();
    let explained = closed.explain(&get("http://elsewhere/"));
    assert!(
        explained.to_string().contains("502 Bad Gateway"),
        "{explained}"
    );
    assert_eq!(mesh.stats().clusters.len(), 0, "nothing was sent");
}

#[tokio::test(start_paused = true)]
async fn ejected_endpoints_and_weights_show() {
    let world = World::default();
    let plan = Plan::default()
        .cluster(cluster("v1", Protocol::Http1), &[1])
        .cluster(cluster("v2", Protocol::Http1), &[])
        .host(
            "catalog",
            vec![route(
                "split",
                RouteMatcher::everything(),
                forward(weighted(&[("v1", 90), ("v2", 10)])),
            )],
        );
    let (mesh, _publisher) = world.mesh(plan.build()).await;
    let explained = mesh.explain(&get("http://catalog/"));
    let shares: Vec<f64> = explained.outcomes.iter().map(|one| one.share).collect();
    assert_eq!(shares, [0.9, 0.1]);
    let text = explained.to_string();
    assert!(
        text.contains("503 Service Unavailable (gRPC 14, UH)"),
        "{text}"
    );
}
