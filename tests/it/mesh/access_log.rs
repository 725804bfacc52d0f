//! A line for each call.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};

use http::{HeaderMap, HeaderValue, Request};
use http_body_util::BodyExt as _;
use hyper::body::Frame;
use meshwork::model::cluster::Protocol;
use meshwork::{AccessLog, Body, Mesh, source};

use super::world::{
    Fed, Plan, World, all_to, answer, call, cluster, get, millis, one, retries, seconds, to,
};

/// What was written.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn all(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

async fn mesh(world: &World, log: AccessLog) -> Mesh {
    world.named(1);
    world.status(2, 503);
    world.hung(3);
    let plan = Plan::default()
        .cluster(cluster("ok", Protocol::Http1), &[1])
        .cluster(cluster("bad", Protocol::Http1), &[2])
        .cluster(cluster("slow", Protocol::Http1), &[3])
        .host("ok", vec![all_to("ok")])
        .host(
            "bad",
            vec![to("bad", |to| to.retry = Some(retries(2, None)))],
        )
        .host(
            "slow",
            vec![to("slow", |to| to.timeout = Some(millis(250)))],
        )
        .host("nowhere", vec![]);
    let (_, feed) = source::feed(plan.build());
    let builder = Mesh::builder().feed(feed).connector(world.clone());
    builder.access_log(log).start().await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn istios_text_tells_how_each_request_ended() {
    let (world, lines) = (World::default(), Lines::default());
    let mesh = mesh(&world, AccessLog::text().to(lines.clone())).await;
    let request = Request::post("http://ok/items?a=b")
        .header("user-agent", "test")
        .header("x-request-id", "7")
        .body(Body::from("12345"));
    call(&mesh, request.unwrap()).await.unwrap();
    for host in ["bad", "slow", "nowhere"] {
        let _ = call(&mesh, get(&format!("http://{host}/"))).await;
    }
    mesh.shutdown(seconds(1)).await;
    let lines = lines.all();
    assert_eq!(lines.len(), 4, "{lines:#?}");
    let after_time = |line: &str| line.split_once("] ").unwrap().1.to_owned();
    let expected = [
        "\"POST /items?a=b HTTP/1.1\" 200 - via_upstream - \"-\" 5 1 0 - \"-\" \"test\" \"7\" \"ok\" \
         \"10.0.0.1:1\" ok - - - - all",
        "\"GET / HTTP/1.1\" 503 URX via_upstream - \"-\" 0 0 ",
        "\"GET / HTTP/1.1\" 504 UT response_timeout - \"-\" 0 0 250 - \"-\" \"-\" \"-\" \"slow\" \
         \"10.0.0.1:3\" slow - - - - all",
        "\"GET / HTTP/1.1\" 404 NR route_not_found - \"-\" 0 0 0 - \"-\" \"-\" \"-\" \"nowhere\" \"-\" \
         - - - - - -",
    ];
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.starts_with("[20") && line.contains("Z] "), "{line}");
        assert!(after_time(line).starts_with(expected), "{line}\n{expected}");
    }
}

#[tokio::test(start_paused = true)]
async fn json_has_istios_keys_and_survives_what_callers_write() {
    let (world, lines) = (World::default(), Lines::default());
    let mesh = mesh(&world, AccessLog::json().to(lines.clone())).await;
    let hostile = http::HeaderValue::from_bytes(b"a\"b\\c\t\xff").unwrap();
    let request = Request::get("http://ok/")
        .header("user-agent", hostile)
        .body(Body::empty());
    call(&mesh, request.unwrap()).await.unwrap();
    mesh.shutdown(seconds(1)).await;
    let lines = lines.all();
    let json: serde_json::Value = serde_json::from_str(&lines[0]).expect(&lines[0]);
    assert_eq!(json["response_code"], 200);
    assert_eq!(json["upstream_cluster"], "ok");
    assert_eq!(json["upstream_host"], "10.0.0.1:1");
    assert_eq!(json["request_id"], serde_json::Value::Null);
    assert_eq!(json["user_agent"], "a_b\\c_\u{fffd}");
    let keys: BTreeSet<&str> = json.as_object().unwrap().keys().map(|key| &**key).collect();
    let istios = "start_time method path protocol response_code response_flags response_code_details \
         connection_termination_details upstream_transport_failure_reason bytes_received bytes_sent duration \
         upstream_service_time x_forwarded_for user_agent request_id authority upstream_host upstream_cluster \
         upstream_local_address downstream_local_address downstream_remote_address requested_server_name \
         route_name";
    assert_eq!(keys, istios.split_whitespace().collect());
}

/// A mesh of one cluster, whose lines are of this format.
async fn told(world: &World, protocol: Protocol, format: &str) -> (Mesh, Lines) {
    let lines = Lines::default();
    let (_, feed) = source::feed(one(cluster("c", protocol), &[1], |_| {}));
    let builder = Mesh::builder().feed(feed).connector(world.clone());
    let log = AccessLog::format(format).unwrap().to(lines.clone());
    (builder.access_log(log).start().await.unwrap(), lines)
}

#[tokio::test(start_paused = true)]
async fn why_there_is_no_connection_is_told() {
    // Nobody listens.
    let world = World::default();
    let format = "%UPSTREAM_TRANSPORT_FAILURE_REASON%|%RESPONSE_FLAGS%|%RESPONSE_CODE%";
    let (mesh, lines) = told(&world, Protocol::Http1, format).await;
    let _ = call(&mesh, get("http://catalog/")).await;
    world.named(1);
    mesh.shutdown(seconds(1)).await;
    assert_eq!(lines.all(), ["connection_refused|UF|503"]);
}

#[tokio::test(start_paused = true)]
async fn trailers_are_told_and_are_no_headers() {
    let world = World::default();
    world.serve(1, |_| async {
        let trailers = [("x-sum", "7"), ("grpc-status", "0")]
            .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
        let trailers = Frame::trailers(HeaderMap::from_iter(trailers));
        let (frames, body) = Fed::body();
        frames.send(Ok(trailers)).await.unwrap();
        answer(200).map(|_| body)
    });
    let (mesh, lines) = told(
        &world,
        Protocol::Http2,
        "%TRAILER(X-SUM)%|%TRAILER(X-NONE?GRPC-STATUS):1%|%RESP(X-SUM)%|%TRAILER(X-NONE)%",
    )
    .await;
    let response = mesh.client().request(get("http://catalog/")).await.unwrap();
    response.into_body().collect().await.unwrap();
    mesh.shutdown(seconds(1)).await;
    assert_eq!(lines.all(), ["7|0|-|-"]);
}

#[tokio::test(start_paused = true)]
async fn a_format_of_ones_own_knows_envoys_operators() {
    let (world, lines) = (World::default(), Lines::default());
    let log = AccessLog::format(
        "%REQ(X-A?X-B):3%|%REQ(X-C)%|%ATTEMPT_COUNT%|%RESP(X-NONE)%|%PROTOCOL%|100%%",
    );
    let mesh = mesh(&world, log.unwrap().to(lines.clone())).await;
    let request = Request::get("http://bad/")
        .header("x-b", "abcdef")
        .body(Body::empty());
    let _ = call(&mesh, request.unwrap()).await;
    mesh.shutdown(seconds(1)).await;
    assert_eq!(lines.all(), ["abc|-|3|-|HTTP/1.1|100%"]);
}

/// Waits for a word before each line.
struct Slow(Receiver<()>, Lines);

impl Write for Slow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // The test is over when nobody is there to say it.
        let _ = self.0.recv();
        self.1.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_log_that_is_stuck_and_what_is_lost_is_counted() {
    let (world, lines) = (World::default(), Lines::default());
    let (go, wait) = channel();
    let log = AccessLog::text().to(Slow(wait, lines.clone()));
    let mesh = mesh(&world, log).await;
    for _ in 0..1_100 {
        call(&mesh, get("http://ok/")).await.unwrap();
    }
    let metrics = mesh.metrics();
    let lost = metrics.lines().find_map(|line| {
        line.strip_prefix("meshwork_access_log_dropped_total ")?
            .parse::<usize>()
            .ok()
    });
    let lost = lost.expect(&metrics);
    // The queue has 1024 places, and one line may be with the writer.
    assert!((75..=76).contains(&lost), "{lost}");
    drop(go);
    mesh.shutdown(seconds(1)).await;
    assert_eq!(lines.all().len(), 1_100 - lost);
}
