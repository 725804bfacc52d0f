//! Many callers at once where there is no connection, and where all connections break at once.

use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;

use http::Request;
use meshwork::model::cluster::Protocol;
use meshwork::{Body, Mesh};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{grouped, quantile};
use crate::call::{self, HOST_NAME};
use crate::mesh;
use crate::scenario::{self, Step};
use crate::wire::{self, Speaks};

const CALLERS: [u32; 3] = [100, 1_000, 5_000];

/// What became of the calls of a wave, all of which begin at once.
struct Wave {
    /// Seconds from the begin until each has ended, sorted.
    ends: Vec<f64>,
    failed: usize,
}

pub(super) fn table() -> String {
    let mut text = String::from(
        "| HTTP | callers at once | connections kept | without a connection: p50, ms | all, ms | \
         with connections: p50, ms | all, ms | all connections just broken: p50, ms | all, ms | failed |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
    );
    for (speaks, name) in [(Speaks::Http1, "1.1"), (Speaks::Http2, "2")] {
        for callers in CALLERS {
            row(&mut text, name, speaks, callers);
        }
    }
    text
}

fn row(text: &mut String, name: &str, speaks: Speaks, callers: u32) {
    let server = Server::start(speaks, None);
    let runtime = call::runtime();
    let mesh = runtime.block_on(meshed(speaks, server.address));
    let cold = runtime.block_on(wave(&mesh, callers));
    let connections = connections(&mesh);
    let warm = runtime.block_on(wave(&mesh, callers));
    // All its connections end with the server; the next one is there at once.
    let server = server.restart();
    let broken = runtime.block_on(wave(&mesh, callers));
    drop(server);
    let failed: usize = [&cold, &warm, &broken].map(|wave| wave.failed).iter().sum();
    write!(text, "| {name} | {} | {} |", grouped(callers), connections)
        .expect("a string takes all");
    for Wave { ends, .. } in [cold, warm, broken] {
        let [half, all] = [0.5, 1.0].map(|share| quantile(&ends, share) * 1e3);
        write!(text, " {half:.1} | {all:.1} |").expect("a string takes all");
    }
    writeln!(text, " {failed} |").expect("a string takes all");
}

/// A mesh with the bench config's retries and one endpoint; its limits are wider than the storm.
async fn meshed(speaks: Speaks, address: SocketAddr) -> Mesh {
    let protocol = match speaks {
        Speaks::Http1 => Protocol::Http1,
        Speaks::Http2 => Protocol::Http2,
    };
    let mut resources = scenario::resources(Step::Retry, protocol, [address].into_iter());
    for cluster in resources.clusters.values_mut() {
        std::sync::Arc::make_mut(cluster).limits = Default::default();
    }
    mesh::over_tcp(resources).await
}

fn connections(mesh: &Mesh) -> u32 {
    let stats = mesh.stats();
    let all = stats.clusters.iter().flat_map(|cluster| &cluster.endpoints);
    all.map(|endpoint| endpoint.connections as u32).sum()
}

async fn wave(mesh: &Mesh, callers: u32) -> Wave {
    let client = mesh.client();
    let mut calls = JoinSet::new();
    let began = Instant::now();
    for _ in 0..callers {
        let client = client.clone();
        calls.spawn(async move {
            let request = Request::get(format!("http://{HOST_NAME}/")).body(Body::empty());
            let answer = client.request(request.expect("it is a request")).await;
            let done = match answer {
                Ok(response) => {
                    let status = response.status();
                    let read = http_body_util::BodyExt::collect(response.into_body()).await;
                    status.is_success() && read.is_ok()
                }
                Err(_) => false,
            };
            (began.elapsed().as_secs_f64(), done)
        });
    }
    let ended = calls.join_all().await;
    let mut ends: Vec<f64> = ended.iter().map(|(end, _)| *end).collect();
    ends.sort_by(f64::total_cmp);
    Wave {
        ends,
        failed: ended.iter().filter(|(_, done)| !done).count(),
    }
}

/// A server on a thread of its own, with all its connections.
struct Server {
    address: SocketAddr,
    speaks: Speaks,
    runtime: Option<Runtime>,
}

impl Server {
    fn start(speaks: Speaks, address: Option<SocketAddr>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a process may have a few dozen runtimes");
        let address = runtime.block_on(async {
            match address {
                None => wire::listen(speaks).await,
                Some(address) => wire::listen_at(address, speaks).await,
            }
        });
        Self {
            address,
            speaks,
            runtime: Some(runtime),
        }
    }

    fn restart(mut self) -> Self {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(10));
        }
        Self::start(self.speaks, Some(self.address))
    }
}
