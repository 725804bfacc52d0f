//! What the streams of a server have in common: limits, counts, who is there, and the end.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep_until};
use tonic::Status;

use super::ads::Stream;
use super::kind::Kind;
use super::limits::{Limits, after};
use super::lock::lock;
use super::lrs::Loads;
use super::node::Node;
use super::seats::{Seat, Seats};
use super::store::Store;
use super::stream::{Method, SharedStream};
use crate::model::identity::SpiffeId;
use crate::random::Random;

/// Calls of client status on the server's own port at a time: an answer holds all that the clients have.
const STATUS_CALLS: usize = 2;

/// What a server owns.
#[derive(Debug)]
pub(super) struct House {
    pub(super) limits: Limits,
    pub(super) store: Store,
    pub(super) counts: Counts,
    pub(super) loads: Loads,
    turns: Arc<Semaphore>,
    /// Streams that wait for such a turn.
    waiting: Seats,
    random: Random,
    streams: Seats,
    /// Calls of other services than discovery.
    side_calls: Seats,
    /// Watches of health and requests for certificates, which strangers may make: each apart, so that these
    /// keep nobody else out.
    watches: Seats,
    certificates: Seats,
    status_calls: Arc<Semaphore>,
    clients: Mutex<Clients>,
    /// When streams may begin to end, once that is known.
    drain: watch::Sender<Option<Instant>>,
    tasks: Mutex<tokio::task::JoinSet<()>>,
}

#[derive(Debug, Default)]
struct Clients {
    last: u64,
    by_number: BTreeMap<u64, Weak<Client>>,
}

/// A client on one stream.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) node: Node,
    /// Who it is by its certificate.
    pub(super) principal: Option<SpiffeId>,
    pub(super) method: Method,
    pub(super) since: Instant,
    /// Locked for one step at a time, by the stream's task or by somebody who looks.
    pub(super) stream: SharedStream,
    number: u64,
    house: Weak<House>,
}

impl Client {
    /// What tells streams of one node apart: their number and what they are.
    pub(super) fn scope(&self) -> String {
        let kind = self.method.only.map_or("ADS", Kind::word);
        format!("{} {kind} {:?}", self.number, self.method.variant)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(house) = self.house.upgrade() {
            lock(&house.clients).by_number.remove(&self.number);
        }
    }
}

impl House {
    pub(super) fn new(store: Store, limits: Limits, random: Random) -> Arc<Self> {
        let limits = limits.that_let_in();
        Arc::new(Self {
            turns: Arc::new(Semaphore::new(limits.initial_syncs)),
            waiting: Seats::new("streams that wait", usize::MAX),
            limits,
            store,
            counts: Counts::default(),
            loads: Loads::default(),
            random,
            streams: Seats::new("streams", limits.streams),
            side_calls: Seats::new("calls of other services than discovery", limits.streams),
            watches: Seats::new("watches of health", limits.streams),
            certificates: Seats::new("requests for certificates", limits.streams),
            status_calls: Arc::new(Semaphore::new(STATUS_CALLS)),
            clients: Mutex::default(),
            drain: watch::Sender::new(None),
            tasks: Mutex::default(),
        })
    }

    /// A place for a stream.
    ///
    /// # Errors
    /// All are taken.
    pub(super) fn seat(&self) -> Result<Seat, Status> {
        self.streams.take()
    }

    /// A place for a call of another service than discovery; there are as many, so that neither keeps the
    /// other out.
    ///
    /// # Errors
    /// All are taken.
    pub(super) fn side_seat(&self) -> Result<Seat, Status> {
        self.side_calls.take()
    }

    /// A place for a watch of health; there are as many.
    ///
    /// # Errors
    /// All are taken.
    pub(super) fn watch_seat(&self) -> Result<Seat, Status> {
        self.watches.take()
    }

    /// A place for a request for a certificate; there are as many, so that whoever has none yet is kept out
    /// by nothing else.
    ///
    /// # Errors
    /// All are taken.
    pub(super) fn certificate_seat(&self) -> Result<Seat, Status> {
        self.certificates.take()
    }

    /// A place for a call of client status.
    ///
    /// # Errors
    /// All are taken.
    pub(super) fn status_call(&self) -> Result<OwnedSemaphorePermit, Status> {
        let place = self.status_calls.clone().try_acquire_owned();
        place.map_err(|_| {
            Status::resource_exhausted(format!(
                "{STATUS_CALLS} calls of client status are under way, which is the limit of this port"
            ))
        })
    }

    /// Waits for the turn of a stream to get its first state. It is cancel safe; who is dropped loses its
    /// place among those that wait.
    pub(super) async fn turn(&self) -> OwnedSemaphorePermit {
        let _waits = self.waiting.take();
        let turn = self.turns.clone().acquire_owned().await;
        turn.expect("nobody closes the semaphore")
    }

    /// How many streams there are.
    pub(super) fn streams(&self) -> usize {
        self.streams.taken()
    }

    pub(super) fn register(
        self: &Arc<Self>,
        (node, principal): (Node, Option<SpiffeId>),
        method: Method,
        stream: Stream,
    ) -> Arc<Client> {
        self.counts.opened.fetch_add(1, Relaxed);
        let mut clients = lock(&self.clients);
        clients.last += 1;
        let client = Arc::new(Client {
            node,
            principal,
            method,
            since: Instant::now(),
            stream: Mutex::new(stream),
            number: clients.last,
            house: Arc::downgrade(self),
        });
        clients
            .by_number
            .insert(client.number, Arc::downgrade(&client));
        client
    }

    /// Who is there, in the order in which they came.
    pub(super) fn clients(&self) -> Vec<Arc<Client>> {
        let clients = lock(&self.clients);
        clients
            .by_number
            .values()
            .filter_map(Weak::upgrade)
            .collect()
    }

    /// Runs the task of a stream, which ends with the server.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = lock(&self.tasks);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    /// Begins the end: streams end one by one.
    pub(super) fn begin_drain(&self) {
        self.drain.send_replace(Some(Instant::now()));
    }

    /// Whether the end has begun.
    pub(super) fn drains(&self) -> bool {
        self.drain.borrow().is_some()
    }

    /// Ends every stream that is left.
    pub(super) fn end(&self) {
        lock(&self.tasks).abort_all();
    }

    pub(super) fn drained(&self) -> Drained {
        Drained {
            begins: self.drain.subscribe(),
            // Of half the time, so that the last ones still have time to say so.
            delay: (self.limits.drain / 2).mul_f64(self.random.unit()),
        }
    }
}

/// When one stream is to end.
#[derive(Debug)]
pub(super) struct Drained {
    begins: watch::Receiver<Option<Instant>>,
    delay: Duration,
}

impl Drained {
    /// The server begins to end. It is cancel safe.
    pub(super) async fn begun(&mut self) {
        self.instant().await;
    }

    /// It is this stream's turn to end. It is cancel safe.
    pub(super) async fn reached(&mut self) {
        let begun = self.instant().await;
        sleep_until(after(begun, self.delay)).await;
    }

    async fn instant(&mut self) -> Instant {
        let begun = self
            .begins
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|begun| *begun);
        match begun {
            Some(begun) => begun,
            // The house is gone, and its tasks with it.
            None => std::future::pending().await,
        }
    }
}

/// What a server has counted.
#[derive(Debug, Default)]
pub(super) struct Counts {
    opened: AtomicU64,
    stuck: AtomicU64,
    stale: AtomicU64,
    bytes: AtomicU64,
    pushed: [AtomicU64; Kind::COUNT],
    acknowledged: [AtomicU64; Kind::COUNT],
    refused: [AtomicU64; Kind::COUNT],
}

impl Counts {
    pub(super) fn pushed(&self, kind: Kind, bytes: usize) {
        self.pushed[kind.index()].fetch_add(1, Relaxed);
        self.bytes.fetch_add(bytes as u64, Relaxed);
    }

    pub(super) fn acknowledged(&self, kind: Kind) {
        self.acknowledged[kind.index()].fetch_add(1, Relaxed);
    }

    pub(super) fn refused(&self, kind: Kind) {
        self.refused[kind.index()].fetch_add(1, Relaxed);
    }

    pub(super) fn stale(&self) {
        self.stale.fetch_add(1, Relaxed);
    }

    pub(super) fn stuck(&self) {
        self.stuck.fetch_add(1, Relaxed);
    }
}

/// What a server has done so far, and who is there.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// Streams that are open.
    pub streams: usize,
    /// Streams of these that wait for their turn to get their first state.
    pub waiting: usize,
    /// Streams that were ever served.
    pub opened: u64,
    /// Streams that were refused because of [`Limits::streams`].
    pub turned_away: u64,
    /// Calls of the other services, and requests for certificates, that were refused because of it.
    pub calls_turned_away: u64,
    /// Streams that were ended because nobody read them.
    pub stuck: u64,
    /// Requests that were about a response that was not the last one.
    pub stale: u64,
    /// Bytes of responses.
    pub bytes: u64,
    pushed: [u64; Kind::COUNT],
    acknowledged: [u64; Kind::COUNT],
    refused: [u64; Kind::COUNT],
}

impl Report {
    pub(super) fn of(house: &House) -> Self {
        let read =
            |counts: &[AtomicU64; Kind::COUNT]| counts.each_ref().map(|one| one.load(Relaxed));
        let counts = &house.counts;
        Self {
            streams: house.streams(),
            waiting: house.waiting.taken(),
            opened: counts.opened.load(Relaxed),
            turned_away: house.streams.refused(),
            calls_turned_away: [&house.side_calls, &house.watches, &house.certificates]
                .map(Seats::refused)
                .iter()
                .sum(),
            stuck: counts.stuck.load(Relaxed),
            stale: counts.stale.load(Relaxed),
            bytes: counts.bytes.load(Relaxed),
            pushed: read(&counts.pushed),
            acknowledged: read(&counts.acknowledged),
            refused: read(&counts.refused),
        }
    }

    /// Responses of a kind.
    #[must_use]
    pub fn pushed(&self, kind: Kind) -> u64 {
        self.pushed[kind.index()]
    }

    /// Responses of a kind that were acknowledged.
    #[must_use]
    pub fn acknowledged(&self, kind: Kind) -> u64 {
        self.acknowledged[kind.index()]
    }

    /// Responses of a kind that were refused.
    #[must_use]
    pub fn refused(&self, kind: Kind) -> u64 {
        self.refused[kind.index()]
    }
}

/// A stream of a client.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Connected {
    /// Who it is.
    pub node: Node,
    /// The number of the stream, what it serves and its variant: `7 ADS Delta`.
    pub scope: String,
    /// For how long it has been there.
    pub age: Duration,
    /// Resources that it was sent, and how many of them it has acknowledged.
    pub resources: (usize, usize),
    /// The same for each kind of which it has something: kind, sent, acknowledged.
    pub kinds: Vec<(Kind, usize, usize)>,
    /// What it last refused, by kind: version and text.
    pub refusals: Vec<(Kind, Arc<str>, Arc<str>)>,
}

impl Connected {
    pub(super) fn of(client: &Client) -> Self {
        let stream = lock(&client.stream);
        let mut resources = (0, 0);
        let mut kinds: BTreeMap<Kind, (usize, usize)> = BTreeMap::new();
        let mut refusals: Vec<(Kind, Arc<str>, Arc<str>)> = Vec::new();
        for (kind, held) in stream.held() {
            resources.0 += usize::from(held.sent.is_some());
            resources.1 += usize::from(held.acked);
            let of_kind = kinds.entry(kind).or_default();
            of_kind.0 += usize::from(held.sent.is_some());
            of_kind.1 += usize::from(held.acked);
            if let Some((version, text)) = held.error
                && refusals.iter().all(|(known, ..)| *known != kind)
            {
                refusals.push((kind, version.clone(), text.clone()));
            }
        }
        Self {
            node: client.node.clone(),
            scope: client.scope(),
            age: client.since.elapsed(),
            resources,
            kinds: kinds
                .into_iter()
                .map(|(kind, (sent, acknowledged))| (kind, sent, acknowledged))
                .collect(),
            refusals,
        }
    }
}
