//! An endpoint's connections and who waits for one.
//!
//! HTTP/2 requests find a connection without a lock: the connections that take streams are one
//! immutable list behind an atomic pointer, and a place on a connection is one atomic operation.
//! All else (HTTP/1.1's idle list, waiting, dialling, closing) happens under one mutex, which is
//! held for a few instructions and never across an await. A lease takes the lock when it is dropped,
//! so no lease is dropped with the lock held.
//!
//! One function, [`advance`](Remote::advance), brings waiters and connections together. Whatever
//! could help a waiter calls it: a new waiter, a finished dial, an ended stream or response, a
//! raised limit, a closed connection, a permit given back elsewhere in the cluster. So there is
//! one place to get right, and no message that could be lost.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use hyper::client::conn::{http1, http2};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::Http;
use super::connections::Stats;
use super::driver;
use super::failure::{DialFailure, Failure};
use super::gate::{Claim, Permit};
use super::lease::Lease;
use super::outgoing::Outgoing;
use super::reach::Means;
use super::slot::{Entry, Slot};
use super::wire::Sender;
use crate::error::Limit;
use crate::model::endpoint::Address;

/// How many HTTP/1.1 connections an endpoint keeps without a request. More than that is the echo
/// of a burst.
const MAX_IDLE: usize = 128;

/// One endpoint.
#[derive(Debug)]
pub(super) struct Remote {
    pub(super) address: Address,
    pub(super) means: Arc<Means>,
    /// The HTTP/2 connections that may take a stream, oldest first: the first is filled before
    /// the next, so that the others become idle and close.
    links: ArcSwap<Vec<Link>>,
    /// How many HTTP/2 requests wait. Written under the lock, read without.
    waiting: AtomicUsize,
    dials: AtomicU64,
    pub(super) tasks: Arc<AtomicUsize>,
    state: Mutex<State>,
}

/// An HTTP/2 connection.
#[derive(Clone, Debug)]
struct Link {
    slot: Arc<Slot>,
    sender: http2::SendRequest<Outgoing>,
}

#[derive(Debug, Default)]
struct State {
    tenancy: Tenancy,
    /// The id of the next connection or waiter.
    next: u64,
    /// All connections that exist, from dial to end, by id.
    open: BTreeMap<u64, Open>,
    /// HTTP/1.1 connections without a request; the last was used last.
    idle: Vec<Idle>,
    one: Queue,
    two: Queue,
}

/// How long connections are kept.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Tenancy {
    /// For requests to come.
    #[default]
    Kept,
    /// For the requests that are here.
    Retired,
    /// Not at all: whoever comes is turned away.
    Closed,
}

#[derive(Debug)]
struct Open {
    slot: Arc<Slot>,
    http: Http,
    dialling: bool,
}

#[derive(Debug)]
struct Idle {
    slot: Arc<Slot>,
    sender: http1::SendRequest<Outgoing>,
}

/// Who waits for a connection of one version of HTTP, first come, first served.
#[derive(Debug, Default)]
struct Queue {
    waiters: BTreeMap<u64, oneshot::Sender<Result<Lease, Failure>>>,
    dialling: usize,
}

/// A connection to be made, which is in the books already.
struct Dial {
    runtime: Handle,
    slot: Arc<Slot>,
    permit: Permit,
}

/// A place in a [`Queue`], which ends when it is dropped.
struct Ticket<'a> {
    remote: &'a Remote,
    http: Http,
    id: u64,
}

impl State {
    fn queue(&mut self, http: Http) -> &mut Queue {
        match http {
            Http::One => &mut self.one,
            Http::Two => &mut self.two,
        }
    }

    fn next_id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

impl Remote {
    pub(super) fn new(address: Address, means: Arc<Means>) -> Self {
        Self {
            address,
            means,
            links: ArcSwap::from_pointee(Vec::new()),
            waiting: AtomicUsize::new(0),
            dials: AtomicU64::new(0),
            tasks: Arc::new(AtomicUsize::new(0)),
            state: Mutex::default(),
        }
    }

    /// Nothing under this lock can panic half-way through a change, so a poisoned one is whole.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place on a connection, waiting for one if need be. Cancel-safe.
    pub(super) async fn lease(self: &Arc<Self>, http: Http) -> Result<Lease, Failure> {
        // Nobody overtakes those who wait.
        if http == Http::Two
            && self.waiting.load(SeqCst) == 0
            && let Some((lease, entry)) = self.stream()
        {
            if entry == Entry::Last {
                self.unlink(lease.slot());
            }
            return Ok(lease);
        }
        self.queued(http).await
    }

    /// A place on an HTTP/2 connection, without a lock.
    fn stream(self: &Arc<Self>) -> Option<(Lease, Entry)> {
        self.links.load().iter().find_map(|link| {
            let entry = link.slot.enter()?;
            let sender = Sender::Two(link.sender.clone());
            let lease = Lease::new(self.clone(), link.slot.clone(), sender);
            Some((lease, entry))
        })
    }

    async fn queued(self: &Arc<Self>, http: Http) -> Result<Lease, Failure> {
        let permit;
        let (ticket, mut granted) = {
            let mut state = self.state();
            if state.tenancy == Tenancy::Closed {
                return Err(Failure::Closed);
            }
            if http == Http::One
                && state.one.waiters.is_empty()
                && let Some(lease) = self.take_idle(&mut state)
            {
                return Ok(lease);
            }
            permit = self.means.gate.pending();
            if permit.is_none() {
                return Err(Failure::Overflow(Limit::Pending));
            }
            let (grant, granted) = oneshot::channel();
            let id = state.next_id();
            state.queue(http).waiters.insert(id, grant);
            self.count_waiting(&state);
            let remote: &Self = self;
            (Ticket { remote, http, id }, granted)
        };
        // Listening begins before looking, so that no release falls between the two.
        let mut released = self.means.gate.released();
        self.advance(http);
        let outcome = loop {
            tokio::select! {
                biased;
                outcome = &mut granted => break outcome.unwrap_or(Err(Failure::Closed)),
                () = &mut released => {
                    released = self.means.gate.released();
                    self.advance(http);
                }
            }
        };
        drop((ticket, permit));
        outcome
    }

    fn count_waiting(&self, state: &State) {
        self.waiting.store(state.two.waiters.len(), SeqCst);
    }

    /// Gives what is free to who waits, and dials for the others.
    pub(super) fn advance(self: &Arc<Self>, http: Http) {
        let (mut unwanted, mut dials) = (Vec::new(), Vec::new());
        let mut state = self.state();
        self.serve(&mut state, http, &mut unwanted);
        let failed = self.dial_for_waiters(&mut state, http, &mut dials);
        drop(state);
        // Dropping a lease locks, and may advance again. So does a task that a runtime which shuts
        // down drops instead of spawning it.
        drop(unwanted);
        for Dial {
            runtime,
            slot,
            permit,
        } in dials
        {
            driver::spawn(&runtime, self, http, slot, permit);
        }
        if let Some((waiters, failure)) = failed {
            fail(waiters, &failure);
        }
    }

    /// Serves waiters in order. Leases that nobody took any more go to `unwanted`.
    fn serve(self: &Arc<Self>, state: &mut State, http: Http, unwanted: &mut Vec<Lease>) {
        while !state.queue(http).waiters.is_empty() {
            let lease = match http {
                Http::One => self.take_idle(state),
                Http::Two => self.stream().map(|(lease, entry)| {
                    if entry == Entry::Last {
                        self.unlink_in(state, lease.slot());
                    }
                    lease
                }),
            };
            let Some(lease) = lease else { break };
            if let Some((_, waiter)) = state.queue(http).waiters.pop_first()
                && let Err(Ok(lease)) = waiter.send(Ok(lease))
            {
                unwanted.push(lease);
            }
        }
        self.count_waiting(state);
    }

    /// One dial at a time for all HTTP/2 requests, which may share the connection, and one for
    /// each HTTP/1.1 request. Returns the waiters for whom there is nothing to wait.
    fn dial_for_waiters(
        self: &Arc<Self>,
        state: &mut State,
        http: Http,
        dials: &mut Vec<Dial>,
    ) -> Option<(Waiters, Failure)> {
        loop {
            if state.tenancy == Tenancy::Closed {
                return None;
            }
            let queue = state.queue(http);
            let wanted = match http {
                Http::One => queue.waiters.len(),
                Http::Two => queue.waiters.len().min(1),
            };
            if queue.dialling >= wanted {
                return None;
            }
            if self.is_full(state, http) {
                // Who waits is served when a request or a connection ends.
                return None;
            }
            let Ok(runtime) = Handle::try_current() else {
                // The runtime is being torn down: nothing will ever be dialled.
                return Some((self.take_waiters(state, http), Failure::Closed));
            };
            let claim = match state.open.is_empty() {
                true => Claim::First,
                false => Claim::Further,
            };
            let Some(permit) = self.means.gate.connection(claim) else {
                let alone = claim == Claim::First;
                return alone.then(|| {
                    let waiters = self.take_waiters(state, http);
                    (waiters, Failure::Overflow(Limit::Connections))
                });
            };
            let id = state.next_id();
            let slot = Arc::new(Slot::new(id, self.means.settings.connection.max_requests));
            let open = Open {
                slot: slot.clone(),
                http,
                dialling: true,
            };
            state.open.insert(id, open);
            state.queue(http).dialling += 1;
            self.dials.fetch_add(1, Relaxed);
            dials.push(Dial {
                runtime,
                slot,
                permit,
            });
        }
    }

    /// A connection takes no more requests, so that it does not count for the endpoint's bound any more.
    pub(super) fn made_room(self: &Arc<Self>) {
        if self.means.settings.connection.max_per_endpoint.is_some() {
            self.advance(Http::One);
            self.advance(Http::Two);
        }
    }

    /// Whether there are as many connections of this version as there may be.
    fn is_full(&self, state: &State, http: Http) -> bool {
        let Some(most) = self.means.settings.connection.max_per_endpoint else {
            return false;
        };
        let counts = |open: &&Open| open.http == http && !open.slot.is_closed();
        state.open.values().filter(counts).count() >= most.get() as usize
    }

    fn take_waiters(&self, state: &mut State, http: Http) -> Waiters {
        let waiters = std::mem::take(&mut state.queue(http).waiters);
        self.count_waiting(state);
        waiters
    }

    /// A dial has succeeded.
    pub(super) fn connected(self: &Arc<Self>, slot: &Arc<Slot>, sender: Sender) {
        let http = {
            let mut state = self.state();
            self.dial_ended(&mut state, slot);
            if slot.is_closed() {
                return;
            }
            match sender {
                Sender::One(sender) => {
                    let slot = slot.clone();
                    state.idle.push(Idle { slot, sender });
                    Http::One
                }
                Sender::Two(sender) => {
                    let slot = slot.clone();
                    let mut links = Vec::clone(&self.links.load());
                    links.push(Link { slot, sender });
                    self.links.store(Arc::new(links));
                    Http::Two
                }
            }
        };
        self.advance(http);
        self.let_go_if_retired();
    }

    fn dial_ended(&self, state: &mut State, slot: &Slot) {
        if let Some(open) = state.open.get_mut(&slot.id())
            && open.dialling
        {
            open.dialling = false;
            let http = open.http;
            state.queue(http).dialling -= 1;
        }
    }

    /// A dial has failed. As in Envoy, all who wait hear of it at once: one that waits on behind a
    /// dead endpoint would only lose the time that it needs to try another.
    pub(super) fn failed(&self, http: Http, failure: DialFailure) {
        let waiters = self.take_waiters(&mut self.state(), http);
        fail(waiters, &Failure::Dial(Arc::new(failure)));
    }

    /// A connection, or the attempt to make one, is over and its permit given back.
    pub(super) fn gone(self: &Arc<Self>, slot: &Arc<Slot>) {
        {
            let mut state = self.state();
            self.dial_ended(&mut state, slot);
            self.unlink_in(&mut state, slot);
            state.open.remove(&slot.id());
        }
        self.advance(Http::One);
        self.advance(Http::Two);
    }

    /// Forgets the sender of a connection that takes no more requests. hyper closes a connection
    /// when its last sender is gone and its last response has ended.
    pub(super) fn unlink(&self, slot: &Slot) {
        self.unlink_in(&mut self.state(), slot);
    }

    fn unlink_in(&self, state: &mut State, slot: &Slot) {
        state.idle.retain(|idle| idle.slot.id() != slot.id());
        let links = self.links.load();
        if links.iter().any(|link| link.slot.id() == slot.id()) {
            let others = links.iter().filter(|link| link.slot.id() != slot.id());
            self.links.store(Arc::new(others.cloned().collect()));
        }
    }

    /// An HTTP/2 stream has ended and its place is free.
    pub(super) fn stream_ended(self: &Arc<Self>) {
        if self.waiting.load(SeqCst) > 0 {
            self.advance(Http::Two);
        }
    }

    /// An HTTP/1.1 connection is free again.
    pub(super) fn give_back(self: &Arc<Self>, sender: Sender, slot: &Arc<Slot>) {
        let mut unwanted = Vec::new();
        let mut state = self.state();
        slot.set_switching(false);
        slot.leave();
        if let Sender::One(sender) = sender
            && !slot.is_closed()
            && !sender.is_closed()
        {
            let slot = slot.clone();
            state.idle.push(Idle { slot, sender });
            self.serve(&mut state, Http::One, &mut unwanted);
            if state.tenancy == Tenancy::Kept && state.idle.len() > MAX_IDLE {
                // The one that was idle for longest; without its sender it closes.
                state.idle.remove(0).slot.close();
            }
        }
        drop(state);
        drop(unwanted);
        if slot.is_closed() {
            // Who waits behind the one that took its last place needs another.
            self.made_room();
        }
        self.let_go_if_retired();
    }

    /// The connection that was used last, preferring one that is known to be ready.
    fn take_idle(self: &Arc<Self>, state: &mut State) -> Option<Lease> {
        loop {
            let ready = state.idle.iter().rposition(|idle| idle.sender.is_ready());
            let index = ready.or_else(|| state.idle.len().checked_sub(1))?;
            let Idle { slot, sender } = state.idle.remove(index);
            if !sender.is_closed() && slot.enter().is_some() {
                return Some(Lease::new(self.clone(), slot, Sender::One(sender)));
            }
        }
    }

    /// Keeps no connection any longer than a request needs it. Requests that wait, or that still
    /// come from somebody who holds the endpoint, are served by connections of their own.
    pub(super) fn retire(self: &Arc<Self>) {
        let mut state = self.state();
        if state.tenancy == Tenancy::Kept {
            state.tenancy = Tenancy::Retired;
        }
        drop(state);
        self.let_go_if_retired();
        // Whoever waited for a place on a connection that has just been let go needs another.
        self.advance(Http::One);
        self.advance(Http::Two);
    }

    /// Takes no request any more on the connections that there are; those to come are as good as
    /// ever. Connections that are being made begin again.
    pub(super) fn renew(self: &Arc<Self>) {
        let mut state = self.state();
        for open in state.open.values() {
            open.slot.close();
        }
        let idle = self.let_go(&mut state);
        drop(state);
        drop(idle);
        self.advance(Http::One);
        self.advance(Http::Two);
    }

    fn let_go_if_retired(&self) {
        let mut state = self.state();
        if state.tenancy == Tenancy::Kept {
            return;
        }
        for open in state.open.values().filter(|open| !open.dialling) {
            open.slot.close();
        }
        let idle = self.let_go(&mut state);
        drop(state);
        drop(idle);
    }

    /// Takes no more requests; connections close with their last response.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.tenancy = Tenancy::Closed;
        let one = self.take_waiters(&mut state, Http::One);
        let two = self.take_waiters(&mut state, Http::Two);
        for open in state.open.values() {
            open.slot.close();
        }
        let idle = self.let_go(&mut state);
        drop(state);
        drop(idle);
        fail(one, &Failure::Closed);
        fail(two, &Failure::Closed);
    }

    /// Forgets all senders. The idle ones are to be dropped without the lock.
    fn let_go(&self, state: &mut State) -> Vec<Idle> {
        self.links.store(Arc::new(Vec::new()));
        std::mem::take(&mut state.idle)
    }

    pub(super) fn stats(&self) -> Stats {
        let state = self.state();
        let dialling = state.open.values().filter(|open| open.dialling).count();
        Stats {
            connections: state.open.len() - dialling,
            dialling,
            idle: state.idle.len(),
            active: state
                .open
                .values()
                .map(|open| open.slot.active() as usize)
                .sum(),
            pending: state.one.waiters.len() + state.two.waiters.len(),
            dials: self.dials.load(Relaxed),
            tasks: self.tasks.load(Relaxed),
        }
    }
}

type Waiters = BTreeMap<u64, oneshot::Sender<Result<Lease, Failure>>>;

fn fail(waiters: Waiters, failure: &Failure) {
    for waiter in waiters.into_values() {
        // One that has gone meanwhile needs no answer.
        let _ = waiter.send(Err(failure.clone()));
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut state = self.remote.state();
        state.queue(self.http).waiters.remove(&self.id);
        self.remote.count_waiting(&state);
    }
}

#[cfg(test)]
mod tests;
