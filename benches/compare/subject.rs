//! The clients: what each is, how it is started, and what those that are Rust do in their process.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::header::{CONTENT_TYPE, HeaderValue, TE, USER_AGENT};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use meshwork::{Mesh, Workload};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::driver::{self, Caller, Generated, HOST, Load, PAYLOAD};
use crate::process::{self, Figures};
use crate::world::World;
use crate::{folder, identity};

/// Who is compared.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Subject {
    Hyper,
    TonicChannel,
    TonicBalanced,
    Tower,
    Resilience,
    TonicXds,
    Meshwork,
    MeshworkRaw,
    Envoy,
    TonicTls,
    MeshworkTls,
    EnvoyTwice,
    GrpcGo,
    Grpcio,
}

impl Subject {
    pub(crate) const ALL: [Self; 14] = [
        Self::Hyper,
        Self::TonicChannel,
        Self::TonicBalanced,
        Self::Tower,
        Self::Resilience,
        Self::TonicXds,
        Self::Meshwork,
        Self::MeshworkRaw,
        Self::Envoy,
        Self::TonicTls,
        Self::MeshworkTls,
        Self::EnvoyTwice,
        Self::GrpcGo,
        Self::Grpcio,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hyper => "hyper, raw requests",
            Self::TonicChannel => "tonic channel",
            Self::TonicBalanced => "tonic balance_list",
            Self::Tower => "tower by hand",
            Self::Resilience => "tower-resilience",
            Self::TonicXds => "tonic-xds",
            Self::Meshwork => "meshwork",
            Self::MeshworkRaw => "meshwork, raw requests",
            Self::Envoy => "tonic channel + Envoy",
            Self::TonicTls => "tonic channel, mTLS",
            Self::MeshworkTls => "meshwork, mTLS",
            Self::EnvoyTwice => "tonic channel + Envoy + mTLS + Envoy",
            Self::GrpcGo => "grpc-go xDS",
            Self::Grpcio => "grpcio xDS",
        }
    }

    pub(crate) fn names() -> String {
        Self::ALL.map(Self::name).join("; ")
    }

    /// Clients in other languages come with closed loops only.
    pub(crate) fn takes(self, load: Load) -> bool {
        matches!(load, Load::Closed { .. }) || !matches!(self, Self::GrpcGo | Self::Grpcio)
    }

    /// Builds and starts what it needs.
    pub(crate) fn prepare(self, world: &mut World) -> Result<(), String> {
        match self {
            Self::Tower | Self::Resilience | Self::TonicXds => world.build_crates(),
            Self::Envoy => world.start_envoy(),
            Self::EnvoyTwice => world.start_envoys_with_tls(),
            Self::GrpcGo => world.build_go(),
            Self::Grpcio => world.install_python(),
            _ => Ok(()),
        }
    }

    pub(crate) fn measure(
        self,
        world: &World,
        load: Load,
        time: Duration,
    ) -> Result<Figures, String> {
        let mut command = self.command(world)?;
        match load {
            Load::Closed { callers } => command.args(["--callers", &callers.to_string()]),
            Load::Open { rate } => command.args(["--rate", &rate.to_string()]),
        };
        command.args(["--milliseconds", &time.as_millis().to_string()]);
        let (server, proxies) = match self {
            Self::Envoy => (world.plain.id(), world.envoy.iter().collect()),
            Self::EnvoyTwice => (world.plain.id(), world.envoys.iter().collect()),
            Self::TonicTls | Self::MeshworkTls => (world.secured.id(), Vec::new()),
            _ => (world.plain.id(), Vec::new()),
        };
        let proxies: Vec<u32> = proxies.into_iter().map(process::Running::id).collect();
        process::measure(command, server, &proxies)
    }

    fn command(self, world: &World) -> Result<Command, String> {
        let plain = world.plain.said.as_str();
        let own = |to: &str| {
            let program = std::env::current_exe().map_err(|error| error.to_string())?;
            let mut command = Command::new(program);
            command.args(["--client", self.name(), "--to", to]);
            Ok(command)
        };
        let stable = || plain.rsplit_once(',').map_or(plain, |(stable, _)| stable);
        match self {
            Self::Tower | Self::Resilience | Self::TonicXds => {
                let mut command = Command::new(world.crates());
                let name = if self == Self::Tower {
                    "tower"
                } else {
                    self.name()
                };
                command.args([name, "--to", stable()]);
                command.arg("--bootstrap").arg(world.bootstrap("tonic-xds"));
                Ok(command)
            }
            Self::Hyper | Self::TonicChannel => own(process::first(plain)),
            Self::TonicBalanced => own(stable()),
            Self::Meshwork | Self::MeshworkRaw => own(&world.folder("plain").display().to_string()),
            Self::MeshworkTls => own(&world.folder("secured").display().to_string()),
            Self::TonicTls => {
                let mut command = own(process::first(&world.secured.said))?;
                command.arg("--identity").arg(world.identity());
                Ok(command)
            }
            Self::Envoy => own(&world.envoy.as_ref().ok_or("it does not run")?.said),
            Self::EnvoyTwice => own(&world.envoys.first().ok_or("they do not run")?.said),
            Self::GrpcGo => {
                let mut command = Command::new(world.go());
                command.env("GRPC_XDS_BOOTSTRAP", world.bootstrap("grpc-go"));
                command.env("GOMAXPROCS", "1");
                Ok(command)
            }
            Self::Grpcio => {
                let mut command = Command::new(world.python());
                command.arg(concat!(
                    env!("CARGO_MANIFEST_DIR"),
                    "/benches/compare/python/client.py"
                ));
                command.env("GRPC_XDS_BOOTSTRAP", world.bootstrap("grpcio"));
                Ok(command)
            }
        }
    }
}

/// The process of a client that is in this program.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let name = arguments.first().map(String::as_str).unwrap_or_default();
    let subject = Subject::ALL
        .into_iter()
        .find(|subject| subject.name() == name);
    let subject =
        subject.ok_or_else(|| format!("{name:?} is no client; there are {}", Subject::names()))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(called(subject, arguments))
}

async fn called(subject: Subject, arguments: &[String]) -> Result<(), String> {
    let (load, time) = driver::wished(arguments)?;
    let to = driver::value(arguments, "--to").ok_or("--to is wanted")?;
    match subject {
        Subject::Hyper => driver::run(Raw(hyper(to).await?), load, time).await,
        Subject::TonicChannel | Subject::Envoy | Subject::EnvoyTwice => {
            driver::run(Generated::new(endpoint(to)?.connect_lazy()), load, time).await
        }
        Subject::TonicBalanced => {
            let endpoints: Result<Vec<_>, _> = to.split(',').map(endpoint).collect();
            let channel = Channel::balance_list(endpoints?.into_iter());
            driver::run(Generated::new(channel), load, time).await
        }
        Subject::TonicTls => {
            let folder = driver::value(arguments, "--identity").ok_or("--identity is wanted")?;
            driver::run(Generated::new(secured(to, Path::new(folder))?), load, time).await
        }
        Subject::Meshwork | Subject::MeshworkTls => {
            let mesh = mesh(to).await?;
            let channel = mesh.channel(HOST).map_err(|error| error.to_string())?;
            driver::run(Generated::new(channel), load, time).await
        }
        Subject::MeshworkRaw => {
            let mesh = mesh(to).await?;
            let channel = mesh.channel(HOST).map_err(|error| error.to_string())?;
            driver::run(Through(channel), load, time).await
        }
        other => Err(format!("{} is not in this program", other.name())),
    }
}

fn endpoint(address: &str) -> Result<Endpoint, String> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"));
    let origin = format!("http://{HOST}").parse();
    Ok(endpoint
        .map_err(|error| error.to_string())?
        .origin(origin.expect("it is written above")))
}

/// Tonic's channel over a connector of rustls, as its own does.
fn secured(address: &str, identity: &Path) -> Result<Channel, String> {
    let (connector, address) = (
        folder::read(identity)?.connector(b"h2")?,
        address.to_owned(),
    );
    let endpoint = endpoint(&address)?;
    Ok(endpoint.connect_with_connector_lazy(service_fn(move |_| {
        let (connector, address) = (connector.clone(), address.clone());
        async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let stream = identity::secure(&connector, stream).await?;
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    })))
}

async fn mesh(folder: &str) -> Result<Mesh, String> {
    let workload = Workload::new("my-app", "order-sa").label("app", "order");
    let builder = Mesh::builder().yaml(folder).workload(workload);
    builder.start().await.map_err(|error| error.to_string())
}

type Plain = Full<Bytes>;

/// What a generated client makes of a message, without making it.
fn raw() -> Request<Plain> {
    let mut message = vec![
        0,
        0,
        0,
        0,
        2 + PAYLOAD.len() as u8,
        0x0a,
        PAYLOAD.len() as u8,
    ];
    message.extend_from_slice(PAYLOAD);
    let mut request = Request::new(Full::new(Bytes::from(message)));
    *request.method_mut() = http::Method::POST;
    *request.version_mut() = http::Version::HTTP_2;
    *request.uri_mut() = format!("http://{HOST}/bench.Catalog/Get")
        .parse()
        .expect("it is written here");
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert(USER_AGENT, HeaderValue::from_static("compare"));
    request
}

/// Reads an answer to its end.
async fn drained<B>(response: http::Response<B>) -> Result<(), String>
where
    B: http_body::Body<Data = Bytes> + Send,
    B::Error: std::fmt::Display + Send,
{
    let body = response.into_body().collect().await;
    let trailers = body.map_err(|error| error.to_string())?;
    match trailers
        .trailers()
        .and_then(|trailers| trailers.get("grpc-status"))
    {
        Some(status) if status == "0" => Ok(()),
        other => Err(format!("grpc-status is {other:?}")),
    }
}

/// hyper's own handle of a connection.
#[derive(Clone, Debug)]
struct Raw(SendRequest<Plain>);

impl Caller for Raw {
    async fn call(&mut self) -> Result<(), String> {
        self.0.ready().await.map_err(|error| error.to_string())?;
        let response = self.0.send_request(raw()).await;
        drained(response.map_err(|error| error.to_string())?).await
    }
}

async fn hyper(address: &str) -> Result<SendRequest<Plain>, String> {
    let stream = TcpStream::connect(address)
        .await
        .map_err(|error| error.to_string())?;
    stream
        .set_nodelay(true)
        .map_err(|error| error.to_string())?;
    shaken(stream).await
}

async fn shaken(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> Result<SendRequest<Plain>, String> {
    let made = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (send, connection) = made.map_err(|error| error.to_string())?;
    tokio::spawn(connection);
    Ok(send)
}

/// The mesh's channel, with requests that nobody generates.
#[derive(Clone, Debug)]
struct Through(meshwork::Channel);

impl Caller for Through {
    async fn call(&mut self) -> Result<(), String> {
        let response = tower::Service::call(&mut self.0, raw()).await;
        drained(response.map_err(|error| error.to_string())?).await
    }
}
