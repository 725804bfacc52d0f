//! A server's stream of load reports: there while a cluster that came from it wants them.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::service::load_stats::v3 as wire;
use http::uri::PathAndQuery;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic_prost::ProstCodec;

use super::Driver;
use super::connection::{LARGEST, Outgoing, Wire, next, told};
use crate::source::xds::load::{Reporter, Wanted};

const PATH: &str = "/envoy.service.load_stats.v3.LoadReportingService/StreamLoadStats";
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(120);
/// How long the last report may take.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Reports to a server as long as anything wants it, for ever.
pub(super) async fn keep(driver: Arc<Driver>, server: usize) {
    let mut changed = driver.changed.subscribe();
    let mut pause = FIRST_PAUSE;
    loop {
        changed.borrow_and_update();
        if driver.reporting(server).is_empty() {
            // Cannot fail: the driver holds the sender.
            let _ = changed.changed().await;
            continue;
        }
        let Ended { why, heard } = stream(&driver, server).await;
        let Some(why) = why else {
            pause = FIRST_PAUSE;
            continue;
        };
        if heard {
            pause = FIRST_PAUSE;
        }
        tracing::debug!(target: "meshwork::source::xds", why, ?pause, "load is not reported");
        tokio::time::sleep(driver.random.around(pause)).await;
        pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
    }
}

/// How a stream ended.
struct Ended {
    /// `None`: nothing is to be reported any more.
    why: Option<String>,
    /// Whether the server had said what it wants.
    heard: bool,
}

async fn stream(driver: &Driver, server: usize) -> Ended {
    let broken = |why: String, heard| Ended {
        why: Some(why),
        heard,
    };
    let Some(to) = driver.read(|client| client.server(server)) else {
        return broken("there is no such server".into(), false);
    };
    let connection = match Wire::new(driver, &to, driver.pace(server)).await {
        Ok(connection) => connection,
        Err(error) => return broken(error.to_string(), false),
    };
    let (outgoing, messages) = mpsc::channel(1);
    let origin = connection.origin.clone();
    let mut grpc =
        tonic::client::Grpc::with_origin(connection, origin).max_decoding_message_size(LARGEST);
    let codec = ProstCodec::<wire::LoadStatsRequest, wire::LoadStatsResponse>::default();
    let request = tonic::Request::new(Outgoing::new(messages));
    let mut opening = pin!(grpc.streaming(request, PathAndQuery::from_static(PATH), codec));
    let mut responses = None;
    let mut reporter = Reporter::default();
    let mut names = driver.reporting(server);
    reporter.begin((driver.loads)(&names), Instant::now());
    // There is room: it is the first.
    let _ = outgoing.try_send(wire::LoadStatsRequest {
        node: Some(driver.reporter.clone()),
        cluster_stats: Vec::new(),
    });
    let mut wanted: Option<Wanted> = None;
    let mut due = Instant::now();
    let mut changed = driver.changed.subscribe();
    loop {
        changed.borrow_and_update();
        let wanting = driver.reporting(server);
        let ends = wanting.is_empty();
        if !ends {
            names = wanting;
        }
        let now = Instant::now();
        if let Some(wanted) = &wanted
            && (ends || due <= now)
        {
            let stats = report(driver, &mut reporter, &names, wanted, now);
            // What the connection does not take is with the next one: a slow server is no backlog.
            let _ = outgoing.try_send(stats);
            due = now + wanted.every;
        }
        if ends {
            // The last report is on its way when the server answers the end of this side.
            drop(outgoing);
            let _ = tokio::time::timeout(LAST_WORDS, next(&mut responses)).await;
            return Ended {
                why: None,
                heard: wanted.is_some(),
            };
        }
        let is_due = async {
            match &wanted {
                Some(_) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            opened = &mut opening, if responses.is_none() => match opened {
                Ok(opened) => responses = Some(opened.into_inner()),
                Err(status) => return broken(told(&status), false),
            },
            response = next(&mut responses) => match response {
                Ok(Some(response)) => {
                    let new = Wanted::of(response);
                    due = Instant::now() + new.every;
                    wanted = Some(new);
                }
                Ok(None) => return broken("the server ended the stream".into(), wanted.is_some()),
                Err(status) => return broken(told(&status), wanted.is_some()),
            },
            () = is_due => {}
            // Cannot fail: the driver holds the sender.
            _ = changed.changed() => {}
        }
    }
}

fn report(
    driver: &Driver,
    reporter: &mut Reporter,
    names: &BTreeSet<Arc<str>>,
    wanted: &Wanted,
    now: Instant,
) -> wire::LoadStatsRequest {
    wire::LoadStatsRequest {
        node: None,
        cluster_stats: reporter.report((driver.loads)(names), wanted, now),
    }
}
