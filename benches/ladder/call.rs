//! One call, the same on every rung.

use std::fmt::Debug;
use std::future::poll_fn;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, TE, USER_AGENT};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body as HttpBody;
use http_body_util::{BodyExt, Full};
use tokio::runtime::{Builder, Runtime};
use tower_service::Service;

/// The host that all calls are for.
pub(crate) const HOST_NAME: &str = "catalog.my-app.svc.cluster.local";
/// The body of requests and responses: a gRPC message of eleven bytes.
pub(crate) const MESSAGE: &[u8] = b"\0\0\0\0\x0bhello world";
pub(crate) const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// The body of a request, as a generated gRPC client sends it.
pub(crate) type RequestBody = tonic::body::Body;

/// How the target is written, as far as clients differ in what they take.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form {
    /// A whole URI: what hyper's HTTP/2 client takes.
    Absolute,
    /// A path and a `host` header: what hyper's HTTP/1.1 client takes.
    Host,
    /// A path: what a generated client hands to a channel.
    Path,
}

/// Who makes the calls of a rung.
pub(crate) trait Client {
    type Body: HttpBody<Error: Debug>;

    async fn call(&mut self, request: Request<RequestBody>) -> Response<Self::Body>;
}

/// Any tower service, as a generated client would use it.
pub(crate) struct Tower<S>(pub(crate) S);

impl<S, B> Client for Tower<S>
where
    S: Service<Request<RequestBody>, Response = Response<B>, Error: Debug>,
    B: HttpBody<Error: Debug>,
{
    type Body = B;

    async fn call(&mut self, request: Request<RequestBody>) -> Response<B> {
        poll_fn(|cx| self.0.poll_ready(cx))
            .await
            .expect("nothing on the ladder refuses");
        self.0
            .call(request)
            .await
            .expect("nothing on the ladder fails")
    }
}

/// A rung that is set up and warm.
pub(crate) trait Caller {
    /// Makes calls one after the other and runs `lap` after each.
    fn run(&mut self, calls: u32, lap: &mut dyn FnMut());
}

/// A client and the runtime that its tasks live on.
struct Running<C> {
    // Dropped first: its tasks belong to the runtime.
    client: C,
    uri: Uri,
    form: Form,
    runtime: Runtime,
}

/// How many calls it takes until every connection is made, every buffer has its size, and the
/// random choice has met every endpoint of the bench config.
const WARM: u32 = 300;

/// A runtime of one thread.
pub(crate) fn runtime() -> Runtime {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a process may have a few dozen runtimes")
}

/// Sets a rung up: makes its client on a runtime of its own and warms it.
pub(crate) fn caller<C: Client + 'static>(
    form: Form,
    client: impl AsyncFnOnce() -> C,
) -> Box<dyn Caller> {
    let runtime = runtime();
    let mut running = Running {
        client: runtime.block_on(client()),
        uri: uri(form),
        form,
        runtime,
    };
    running.run(WARM, &mut || {});
    Box::new(running)
}

impl<C: Client> Caller for Running<C> {
    fn run(&mut self, calls: u32, lap: &mut dyn FnMut()) {
        let Self {
            client,
            uri,
            form,
            runtime,
        } = self;
        runtime.block_on(calls_to(client, uri, *form, calls, lap));
    }
}

/// Makes calls one after the other and runs `lap` after each.
pub(crate) async fn make<C: Client>(client: &mut C, form: Form, calls: u32, lap: &mut dyn FnMut()) {
    calls_to(client, &uri(form), form, calls, lap).await;
}

async fn calls_to<C: Client>(
    client: &mut C,
    uri: &Uri,
    form: Form,
    calls: u32,
    lap: &mut dyn FnMut(),
) {
    for _ in 0..calls {
        let response = client.call(request(uri, form)).await;
        assert_eq!(response.status(), StatusCode::OK);
        drain(response).await;
        lap();
    }
}

fn uri(form: Form) -> Uri {
    let uri = match form {
        Form::Absolute => format!("http://{HOST_NAME}/catalog.Catalog/Get"),
        Form::Host | Form::Path => "/catalog.Catalog/Get".into(),
    };
    uri.parse().expect("it is written here")
}

/// Three static headers and one message, as the bars have it.
fn request(uri: &Uri, form: Form) -> Request<RequestBody> {
    let message = Full::new(Bytes::from_static(MESSAGE));
    let mut request = Request::new(RequestBody::new(message));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri.clone();
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, GRPC);
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert(USER_AGENT, HeaderValue::from_static("ladder"));
    match form {
        Form::Absolute | Form::Path => *request.version_mut() = Version::HTTP_2,
        Form::Host => {
            // In place of `te`, which is for HTTP/2, so that there are three as elsewhere.
            let headers = request.headers_mut();
            headers.remove(TE);
            headers.insert(HOST, HeaderValue::from_static(HOST_NAME));
        }
    }
    request
}

async fn drain<B: HttpBody<Error: Debug>>(response: Response<B>) {
    let mut body = std::pin::pin!(response.into_body());
    while let Some(frame) = body.frame().await {
        frame.expect("nothing on the ladder breaks");
    }
}
