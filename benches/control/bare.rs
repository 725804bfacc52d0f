//! The floor: the same bytes from a server that knows nothing. A connection is bare h2, the first two
//! messages of a stream are answered with all clusters and all endpoints, a push goes to every stream, and
//! acknowledgements are thrown away unread. What it costs no server on h2 can do without.

use std::sync::Arc;

use bytes::Bytes;
use envoy_types::pb::envoy::service::discovery::v3 as pb;
use envoy_types::pb::google::protobuf::Any;
use h2::SendStream;
use meshwork::control::{Encoded, Kind};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::client::framed;
use crate::mesh;
use crate::peer::{Variant, listener, runtime};

/// Whole messages of gRPC for every stream of one variant.
#[derive(Debug)]
struct Said {
    clusters: Bytes,
    endpoints: Bytes,
    /// The endpoints that the last push moved.
    moved: Bytes,
}

/// Both variants.
type All = Arc<[Said; 2]>;

/// Serves until its input ends.
pub(crate) fn serve() {
    let runtime = runtime();
    let listener = runtime.block_on(async { listener() });
    println!("{}", listener.local_addr().expect("it is bound"));
    let pushes = watch::Sender::new(said(0));
    let begun = pushes.clone();
    runtime.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let pushes = begun.subscribe();
            tokio::spawn(async move { drop(connection(stream, pushes).await) });
        }
    });
    for line in std::io::stdin().lines() {
        let line = line.expect("lines");
        pushes.send_replace(said(line.parse().expect("a number")));
        println!("{line}");
    }
}

async fn connection(
    stream: TcpStream,
    mut pushes: watch::Receiver<All>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    stream.set_nodelay(true)?;
    let mut connection = h2::server::Builder::new()
        .handshake::<_, Bytes>(stream)
        .await?;
    let Some((request, mut respond)) = connection.accept().await.transpose()? else {
        return Ok(());
    };
    let delta = request.uri().path() == Variant::Delta.path();
    let answer = http::Response::builder()
        .header("content-type", "application/grpc")
        .body(())?;
    let mut replies = respond.send_response(answer, false)?;
    let mut requests = request.into_body();
    let talk = async {
        let (mut asked, mut rest) = (0, 0);
        pushes.borrow_and_update();
        loop {
            tokio::select! {
                data = requests.data() => {
                    let Some(data) = data.transpose()? else { return Ok(()) };
                    requests.flow_control().release_capacity(data.len())?;
                    for _ in 0..begun(&data, &mut rest) {
                        let said = &pushes.borrow()[usize::from(delta)];
                        answer_to(asked, said, &mut replies)?;
                        asked += 1;
                    }
                }
                Ok(()) = pushes.changed() => {
                    let moved = pushes.borrow_and_update()[usize::from(delta)].moved.clone();
                    replies.send_data(moved, false)?;
                }
            }
        }
    };
    tokio::select! {
        // Nobody calls again; it is what moves the connection.
        _ = connection.accept() => Ok(()),
        over = talk => over,
    }
}

fn answer_to(asked: usize, said: &Said, replies: &mut SendStream<Bytes>) -> Result<(), h2::Error> {
    match asked {
        0 => replies.send_data(said.clusters.clone(), false),
        1 => replies.send_data(said.endpoints.clone(), false),
        _ => Ok(()),
    }
}

/// How many messages begin in these bytes; `rest` is what is still to come of the one before. A prefix
/// is never cut: a client writes each message at once.
fn begun(mut data: &[u8], rest: &mut usize) -> usize {
    let mut count = 0;
    loop {
        let skipped = data.len().min(*rest);
        (data, *rest) = (&data[skipped..], *rest - skipped);
        let Some(head) = data.first_chunk::<5>() else {
            return count;
        };
        *rest = 5 + u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        count += 1;
    }
}

/// Everything that is said once so many pushes were made.
fn said(push: u32) -> All {
    let of = |kind| mesh::resources(push).filter(move |resource| resource.kind() == kind);
    Arc::new([Variant::Sotw, Variant::Delta].map(|variant| Said {
        clusters: response(variant, Kind::Cluster, of(Kind::Cluster), push),
        endpoints: response(variant, Kind::Endpoints, of(Kind::Endpoints), push),
        moved: response(variant, Kind::Endpoints, of(Kind::Endpoints).take(1), push),
    }))
}

fn response(
    variant: Variant,
    kind: Kind,
    resources: impl Iterator<Item = Encoded>,
    push: u32,
) -> Bytes {
    let any = |resource: &Encoded| Any {
        type_url: kind.type_url().into(),
        value: resource.body().to_vec(),
    };
    match variant {
        Variant::Sotw => framed(&pb::DiscoveryResponse {
            version_info: push.to_string(),
            type_url: kind.type_url().into(),
            nonce: push.to_string(),
            resources: resources.map(|resource| any(&resource)).collect(),
            ..pb::DiscoveryResponse::default()
        }),
        Variant::Delta => framed(&pb::DeltaDiscoveryResponse {
            type_url: kind.type_url().into(),
            nonce: push.to_string(),
            resources: resources
                .map(|resource| pb::Resource {
                    name: resource.name().to_string(),
                    version: resource.version().to_string(),
                    resource: Some(any(&resource)),
                    ..pb::Resource::default()
                })
                .collect(),
            ..pb::DeltaDiscoveryResponse::default()
        }),
    }
}
