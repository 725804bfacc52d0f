//! What it costs to record a call: nothing that is allocated.

use std::sync::Arc;

use http::{Request, Response};
use meshwork::model::cluster::Protocol;
use meshwork::{Body, Mesh, Random, source};
use tower::ServiceExt as _;

use super::world::{cluster, one, retries};
use crate::allocation;

/// A call of gRPC; the endpoint behind it answers at once with this status.
fn ask(status: &'static str) -> Request<Body> {
    let request = Request::post("/shop.Catalog/Get").header("content-type", "application/grpc");
    let request = request.header("wanted", status);
    request.body(Body::from("\0\0\0\0\x05hello")).unwrap()
}

fn answer(request: Request<Body>) -> Response<Body> {
    let mut response = Response::new(Body::from("\0\0\0\0\x05hello"));
    let status = request.headers()["wanted"].clone();
    response.headers_mut().insert("grpc-status", status);
    response
}

async fn started(metrics: bool) -> (Mesh, source::Publisher) {
    let mut resources = one(cluster("c", Protocol::Http2), &[1, 2], |forward| {
        let mut policy = retries(2, None);
        policy.on.grpc = vec![14];
        policy.backoff.base = std::time::Duration::ZERO;
        policy.backoff.max = std::time::Duration::ZERO;
        forward.retry = Some(policy);
    });
    resources.outbound_traffic = None;
    let (publisher, feed) = source::feed(resources);
    let builder = Mesh::builder().feed(feed).random(Random::seeded(7));
    let builder = builder.answering(Arc::new(answer)).metrics(metrics);
    (builder.start().await.unwrap(), publisher)
}

/// The allocations of some calls, when all that is made once has been made.
async fn counted(metrics: bool, status: &'static str) -> u64 {
    let (mesh, _publisher) = started(metrics).await;
    let channel = mesh.channel("catalog").unwrap();
    let calls = async |number: u32| {
        for _ in 0..number {
            let response = channel.clone().oneshot(ask(status)).await.unwrap();
            drop(
                http_body_util::BodyExt::collect(response.into_body())
                    .await
                    .unwrap(),
            );
        }
    };
    calls(50).await;
    let before = allocation::count();
    calls(50).await;
    allocation::count() - before
}

/// Calls that succeed, that fail, and that are tried again as often as the policy and the budget let them.
#[tokio::test(start_paused = true)]
async fn recording_allocates_nothing() {
    for status in ["0", "5", "14"] {
        let (without, with) = (counted(false, status).await, counted(true, status).await);
        assert!(without > 0, "somebody counts");
        assert_eq!(with, without, "grpc-status {status}");
    }
}
