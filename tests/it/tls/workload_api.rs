//! Identities from an agent over a Unix socket: row A19.

use std::convert::Infallible;
use std::path::PathBuf;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use meshwork::Mesh;
use meshwork::tls::{Bundle, Credentials, WorkloadApi};
use prost::Message;
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::authority::{Authority, Issued, clock};
use super::told::Log;

#[derive(Clone, PartialEq, Message)]
struct Update {
    #[prost(message, repeated, tag = "1")]
    svids: Vec<Svid>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    crl: Vec<Vec<u8>>,
    #[prost(map = "string, bytes", tag = "3")]
    federated: std::collections::HashMap<String, Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct Svid {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(bytes = "vec", tag = "2")]
    chain: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    bundle: Vec<u8>,
    #[prost(string, tag = "5")]
    hint: String,
}

type Sent = Result<Frame<Bytes>, Infallible>;

/// An agent, and the streams that were opened at it.
struct Agent {
    folder: TempDir,
    streams: mpsc::UnboundedReceiver<mpsc::UnboundedSender<Sent>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Agent {
    fn start() -> Self {
        Self::at(TempDir::new().unwrap())
    }

    fn at(folder: TempDir) -> Self {
        let path = folder.path().join("agent.sock");
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(path).unwrap();
        let (opened, streams) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let opened = opened.clone();
                let answer = service_fn(move |request: Request<Incoming>| {
                    let opened = opened.clone();
                    async move {
                        assert_eq!(request.uri().path(), "/SpiffeWorkloadAPI/FetchX509SVID");
                        assert_eq!(request.headers()["workload.spiffe.io"], "true");
                        let (sender, frames) = mpsc::unbounded_channel::<Sent>();
                        opened.send(sender).unwrap();
                        let body = StreamBody::new(UnboundedReceiverStream::new(frames));
                        let mut response = Response::new(body.boxed());
                        let grpc = "application/grpc".parse().unwrap();
                        response.headers_mut().insert("content-type", grpc);
                        Ok::<_, Infallible>(response)
                    }
                });
                connections.spawn(async move {
                    let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), answer);
                    let _ = serving.await;
                });
            }
        });
        Self {
            folder,
            streams,
            task,
        }
    }

    fn endpoint(&self) -> String {
        let path: PathBuf = self.folder.path().join("agent.sock");
        format!("unix://{}", path.display())
    }

    /// The next stream that is opened.
    async fn stream(&mut self) -> mpsc::UnboundedSender<Sent> {
        self.streams.recv().await.expect("a stream is opened")
    }
}

fn send(stream: &mpsc::UnboundedSender<Sent>, update: &Update) {
    let message = update.encode_to_vec();
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(message.len() as u32);
    frame.put_slice(&message);
    // In two parts: a message need not come at once.
    let rest = frame.split_off(3);
    for part in [frame, rest] {
        stream.send(Ok(Frame::data(part.freeze()))).unwrap();
    }
}

fn end(stream: &mpsc::UnboundedSender<Sent>, code: &'static str) {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", code.parse().unwrap());
    let _ = stream.send(Ok(Frame::trailers(trailers)));
}

fn der(pem: &str) -> Vec<u8> {
    Bundle::from_pem(pem.as_bytes())
        .map(|bundle| bundle.roots().flatten().copied().collect())
        .unwrap_or_default()
}

fn svid(root: &Authority, issued: &Issued, id: &str, hint: &str) -> Svid {
    let chain = issued.identity().chain().flatten().copied().collect();
    let key = rcgen::KeyPair::from_pem(&issued.key).unwrap();
    Svid {
        id: id.into(),
        chain,
        key: key.serialize_der(),
        bundle: der(root.pem()),
        hint: hint.into(),
    }
}

const ID: &str = "spiffe://td/ns/my-app/sa/order";

fn update(root: &mut Authority) -> Update {
    let issued = root.issue(ID);
    Update {
        svids: vec![svid(root, &issued, ID, "")],
        ..Update::default()
    }
}

async fn mesh(agent: &Agent) -> (Mesh, Credentials) {
    let api = WorkloadApi::new(&agent.endpoint()).unwrap();
    let mesh = Mesh::builder()
        .identity(api)
        .clock(clock())
        .start()
        .await
        .unwrap();
    let own = mesh.credentials().unwrap();
    (mesh, own)
}

fn domains(own: &Credentials) -> Vec<String> {
    let trust = own.trusted();
    trust
        .domains()
        .map(|(domain, _)| domain.to_string())
        .collect()
}

#[tokio::test]
async fn a19_each_message_is_all_that_the_process_is_and_trusts() {
    let (mut root, mut foreign) = (Authority::new("root"), Authority::new("foreign"));
    let mut agent = Agent::start();
    let (_mesh, own) = mesh(&agent).await;
    let stream = agent.stream().await;
    let mut first = update(&mut root);
    first
        .federated
        .insert("spiffe://other".into(), der(foreign.pem()));
    // Nobody but the own domain's bundle speaks for it.
    first
        .federated
        .insert("spiffe://td".into(), der(foreign.pem()));
    send(&stream, &first);
    own.changed(1).await;
    let identity = own.identity().unwrap();
    assert_eq!(identity.id().unwrap().as_str(), ID);
    assert_eq!(domains(&own), ["other", "td"]);
    let td = "td".parse().unwrap();
    assert_eq!(own.trusted().domain(&td), Some(&root.bundle()));

    // The same again is no rotation; the next one shows that it was read.
    send(&stream, &first);
    let mut second = first.clone();
    second.federated.remove("spiffe://other");
    let generation = own.generation();
    send(&stream, &second);
    own.changed(generation).await;
    assert_eq!(own.generation(), generation + 1);
    assert_eq!(own.identity().unwrap(), identity);
    assert_eq!(
        domains(&own),
        ["td"],
        "a domain that is not there is not trusted"
    );

    // A list counts for all roots.
    let mut third = second.clone();
    let list = foreign.revoke(&[7]);
    let list = list
        .lines()
        .filter(|line| !line.starts_with('-'))
        .collect::<String>();
    third.crl =
        vec![base64::Engine::decode(&base64::engine::general_purpose::STANDARD, list).unwrap()];
    let generation = own.generation();
    send(&stream, &third);
    own.changed(generation).await;
    assert!(format!("{:?}", own.trusted()).contains("revocation_lists: 1"));
    let _ = foreign.issue("spiffe://other/x");
}

#[tokio::test]
async fn a19_a_message_that_cannot_be_used_changes_nothing() {
    let mut root = Authority::new("root");
    let mut agent = Agent::start();
    let (_mesh, own) = mesh(&agent).await;
    let stream = agent.stream().await;
    let first = update(&mut root);
    send(&stream, &first);
    own.changed(1).await;
    let identity = own.identity();
    let other = root.issue("spiffe://td/ns/my-app/sa/other");
    let mut mismatched = first.clone();
    mismatched.svids[0].id = "spiffe://td/ns/bank/sa/admin".into();
    let mut foreign_key = first.clone();
    foreign_key.svids[0].key = rcgen::KeyPair::from_pem(&other.key)
        .unwrap()
        .serialize_der();
    let mut no_roots = first.clone();
    no_roots.svids[0].bundle.clear();
    let mut torn = first.clone();
    torn.svids[0].chain.pop();
    for bad in [Update::default(), mismatched, foreign_key, no_roots, torn] {
        send(&stream, &bad);
    }
    stream
        .send(Ok(Frame::data(Bytes::from_static(b"\0\0\0\0\x01\x0b"))))
        .unwrap();
    let good = update(&mut root);
    send(&stream, &good);
    own.changed(2).await;
    assert_eq!((own.generation(), own.counts().renewal_failures), (3, 6));
    assert_ne!(own.identity(), identity);
}

#[tokio::test]
async fn a19_of_several_the_first_is_taken_or_the_one_that_was_asked_for() {
    let mut root = Authority::new("root");
    let names = ["spiffe://td/a", "spiffe://td/b", "spiffe://td/c"];
    let [a, b, c] = names.map(|id| (root.issue(id), id));
    let update = Update {
        svids: vec![
            svid(&root, &a.0, a.1, "external"),
            svid(&root, &b.0, b.1, "internal"),
            svid(&root, &c.0, c.1, "internal"),
        ],
        ..Update::default()
    };
    for (hint, expected) in [(None, "spiffe://td/a"), (Some("internal"), "spiffe://td/b")] {
        let mut agent = Agent::start();
        let api = WorkloadApi::new(&agent.endpoint()).unwrap();
        let api = hint.map_or(api.clone(), |hint| api.with_hint(hint));
        let mesh = Mesh::builder()
            .identity(api)
            .clock(clock())
            .start()
            .await
            .unwrap();
        send(&agent.stream().await, &update);
        let own = mesh.credentials().unwrap();
        own.changed(1).await;
        assert_eq!(own.identity().unwrap().id().unwrap().as_str(), expected);
    }
}

#[tokio::test]
async fn a19_an_agent_that_restarts_is_found_again_and_the_identity_stays_meanwhile() {
    let mut root = Authority::new("root");
    let mut agent = Agent::start();
    let (_mesh, own) = mesh(&agent).await;
    let stream = agent.stream().await;
    send(&stream, &update(&mut root));
    own.changed(1).await;
    let before = own.identity();
    drop(stream);
    let stream = agent.stream().await;
    assert_eq!(
        own.identity(),
        before,
        "a stream that ended takes nothing away"
    );
    assert_eq!(own.counts().renewal_failures, 1);
    send(&stream, &update(&mut root));
    own.changed(2).await;
    assert_ne!(own.identity(), before);
}

#[tokio::test]
async fn a19_an_agent_that_denies_takes_the_identity_and_is_asked_again() {
    let mut root = Authority::new("root");
    let mut agent = Agent::start();
    let (_mesh, own) = mesh(&agent).await;
    let stream = agent.stream().await;
    send(&stream, &update(&mut root));
    own.changed(1).await;
    assert!(own.identity().is_some());
    end(&stream, "7");
    own.changed(2).await;
    assert!(own.identity().is_none(), "PERMISSION_DENIED takes it away");
    send(&agent.stream().await, &update(&mut root));
    own.changed(3).await;
    assert!(own.identity().is_some());
}

#[tokio::test]
async fn a19_an_agent_that_does_not_understand_is_not_asked_again() {
    let (log, _guard) = Log::listen();
    let mut root = Authority::new("root");
    let mut agent = Agent::start();
    let (_mesh, own) = mesh(&agent).await;
    let stream = agent.stream().await;
    send(&stream, &update(&mut root));
    own.changed(1).await;
    end(&stream, "3");
    log.until("it is not asked again").await;
    assert!(own.identity().is_some(), "what it has, it keeps");
    assert_eq!(own.counts().renewal_failures, 1);
    assert!(agent.streams.try_recv().is_err());
}
