//! A connector that resolves names first.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::time::Instant;

use super::{Names, Question, Target};
use crate::model::cluster::Families;
use crate::model::endpoint::Address;
use crate::transport::{Connect, Connecting, Settings, race};

/// Resolves [`Address::Name`] and lets another connector dial the addresses, one at a time.
///
/// Each connection begins with another address than the one before, so that the connections of a
/// logical host spread over its addresses; the others are tried behind it, staggered (RFC 8305).
#[derive(Debug)]
pub(crate) struct Resolving {
    inner: Arc<dyn Connect>,
    names: Arc<Names>,
    turn: AtomicUsize,
}

impl Resolving {
    pub(crate) fn new(inner: Arc<dyn Connect>, names: Arc<Names>) -> Self {
        Self {
            inner,
            names,
            turn: AtomicUsize::new(0),
        }
    }
}

impl Connect for Resolving {
    fn connect(&self, address: &Address, settings: &Settings) -> Connecting {
        let (inner, settings) = (self.inner.clone(), settings.clone());
        let (within, began) = (settings.connect_timeout, Instant::now());
        let (host, port) = match address {
            Address::Name { host, port } => (host, *port),
            Address::Several(_) | Address::Socket(_) | Address::Unix(_) => {
                return inner.connect(address, &settings);
            }
        };
        let (question, names) = (Question::of(host), self.names.clone());
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            let targets = names.lookup(&question).await?;
            let addresses = race::interleave(candidates(&targets, settings.families, port, turn));
            let within = within.saturating_sub(began.elapsed());
            let dial = |address| inner.connect(&Address::Socket(address), &settings);
            race::first(addresses, within, dial)
                .await
                .map_err(|error| io::Error::new(error.kind(), format!("{question}: {error}")))
        })
    }
}

/// The addresses of the first priority, beginning with the one whose turn it is.
fn candidates(targets: &[Target], families: Families, port: u16, turn: usize) -> Vec<SocketAddr> {
    let targets = families.of(targets.to_vec(), |target| target.address);
    let first = targets.iter().map(|target| target.priority).min();
    let mut addresses: Vec<SocketAddr> = targets
        .iter()
        .filter(|target| Some(target.priority) == first)
        .map(|target| SocketAddr::new(target.address, target.port.unwrap_or(port)))
        .collect();
    if !addresses.is_empty() {
        let turn = turn % addresses.len();
        addresses.rotate_left(turn);
    }
    addresses
}
