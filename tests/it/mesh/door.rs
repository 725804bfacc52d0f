//! What the door costs a request that passes: what is allocated for it.

use std::convert::Infallible;
use std::future::ready;

use http::{HeaderValue, Request, Response, Uri};
use meshwork::inbound::Peer;
use meshwork::{Body, Mesh};
use tower::{Layer, Service, ServiceExt as _, service_fn};

use super::world::{Plan, World};
use crate::allocation;

const MANY: u64 = 50;

/// A request with headers that nobody has to copy, from a caller whose address is known.
fn request() -> Request<Body> {
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = Uri::from_static("http://server/items?page=2");
    for (name, value) in [
        ("accept", "application/json"),
        ("user-agent", "a program"),
        ("x-request-id", "7"),
        ("x-tenant", "blue"),
        ("x-tenant", "green"),
    ] {
        let value = HeaderValue::from_static(value);
        request.headers_mut().append(name, value);
    }
    let address = "10.0.0.7:4321".parse().ok();
    request
        .extensions_mut()
        .insert(Peer::plaintext(address, None));
    request
}

/// The allocations of requests to a handler that answers at once, when all that is made once has been made.
async fn counted<S>(service: S) -> u64
where
    S: Service<Request<Body>, Error = Infallible> + Clone,
{
    let calls = async |requests: Vec<Request<Body>>| {
        for request in requests {
            let Ok(response) = service.clone().oneshot(request).await;
            drop(response);
        }
    };
    let many = || (0..MANY).map(|_| request()).collect();
    calls(many()).await;
    let requests = many();
    let before = allocation::count();
    calls(requests).await;
    allocation::count() - before
}

async fn with_the_door_of(mesh: &Mesh) -> u64 {
    let handler = || service_fn(|_: Request<Body>| ready(Ok(Response::new(Body::empty()))));
    let bare = counted(handler()).await;
    counted(mesh.inbound_layer().layer(handler())).await - bare
}

/// One for what judges it again, should it outlive an edit, and one for the headers that are judged then.
#[tokio::test(start_paused = true)]
async fn a_request_that_passes_costs_two_allocations_whatever_its_headers() {
    let world = World::default();
    let (mesh, _publisher) = world.mesh(Plan::default().build()).await;
    assert_eq!(with_the_door_of(&mesh).await, 2 * MANY);
}
