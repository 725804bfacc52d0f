//! The one task of a connection: dials it, moves its bytes, and closes it when its time has come.
//!
//! Its timer serves age, idleness and the last goodbye. It is not touched by requests: when it
//! fires, the driver looks how long the connection has been idle and sets it for the rest.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::futures::Notified;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::Http;
use super::failure::{DialFailure, NoSettings};
use super::gate::{Gate, Permit, Turn, Why};
use super::remote::Remote;
use super::secure::known_as;
use super::slot::Slot;
use super::wire::{self, Counted, Sender, Wire};

/// How long a connection without requests may take to say goodbye (GOAWAY, TLS close, FIN).
const GOODBYE: Duration = Duration::from_secs(1);
/// A timer that has nothing to do looks again after that time; also the bound for longer ones.
const FAR: Duration = Duration::from_secs(86_400);
/// What tokio's timer can tell apart; an idle timeout of zero must not keep the driver spinning.
const RESOLUTION: Duration = Duration::from_millis(1);

/// Starts the task of a connection. It holds `permit` until the connection is gone, and the
/// endpoint only weakly: it ends when the endpoint is closed or dropped.
pub(super) fn spawn(
    runtime: &Handle,
    remote: &Arc<Remote>,
    http: Http,
    slot: Arc<Slot>,
    permit: Permit,
) {
    let counted = Counted::new(remote.tasks.clone());
    let mut tenure = Tenure {
        remote: Arc::downgrade(remote),
        slot,
        permit: Some(permit),
        unfinished: Some(http),
    };
    let dial = dial(remote, http);
    runtime.spawn(async move {
        run(dial, &tenure, http).await;
        tenure.unfinished = None;
        // The count falls first, so that who sees the connection gone sees the task gone too.
        drop(counted);
        drop(tenure);
    });
}

/// A connection's entry in the books; it is struck out when this is dropped, also if the task
/// panics or its runtime ends.
struct Tenure {
    remote: Weak<Remote>,
    slot: Arc<Slot>,
    permit: Option<Permit>,
    /// Which requests wait for it, until it is known that its task came to its own end.
    unfinished: Option<Http>,
}

impl Drop for Tenure {
    fn drop(&mut self) {
        // The permit first: who is woken by `gone` may need it.
        self.permit = None;
        if let Some(remote) = self.remote.upgrade() {
            // Its task panicked, or its runtime ended. To dial again at once for those who wait
            // could go on like that for ever; a failure lets them try another endpoint.
            if let Some(http) = self.unfinished {
                remote.failed(http, DialFailure::Abandoned);
            }
            remote.gone(&self.slot);
        }
    }
}

async fn run(
    dial: impl Future<Output = Result<(Sender, Wire), DialFailure>>,
    tenure: &Tenure,
    http: Http,
) {
    let Tenure { remote, slot, .. } = tenure;
    let dialled = tokio::select! {
        biased;
        () = closed(slot) => return,
        dialled = dial => dialled,
    };
    let Some(remote_now) = remote.upgrade() else {
        return;
    };
    match dialled {
        Ok((sender, wire)) => {
            let mut up = Up::new(&remote_now);
            let driver = Driver::new(wire, slot, remote, &remote_now);
            remote_now.connected(slot, sender);
            drop(remote_now);
            up.why = driver.run().await;
        }
        Err(failure) => {
            remote_now.means.gate.turned(Turn::Failed);
            remote_now.failed(http, failure);
        }
    }
}

/// A connection that is told to be up, and gone when this is dropped, however that comes.
struct Up {
    gate: Arc<dyn Gate>,
    why: Why,
}

impl Up {
    fn new(remote: &Remote) -> Self {
        remote.means.gate.turned(Turn::Connected);
        Self {
            gate: remote.means.gate.clone(),
            // Its runtime may end before the driver does.
            why: Why::Shutdown,
        }
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        self.gate.turned(Turn::Gone(self.why));
    }
}

async fn closed(slot: &Slot) {
    while !slot.is_closed() {
        slot.wake().notified().await;
    }
}

/// Connects within the cluster's connect timeout. For HTTP/2 that includes the peer's SETTINGS,
/// as gRPC demands: a peer that accepts and stays silent is as unreachable as one that does not.
fn dial(
    remote: &Remote,
    http: Http,
) -> impl Future<Output = Result<(Sender, Wire), DialFailure>> + Send + use<> {
    let settings = remote.means.settings.clone();
    let connector = remote.means.connector.clone();
    let security = remote.means.security.clone();
    let address = remote.address.clone();
    let known = known_as(&address, remote.means.hostname.as_ref());
    let count = remote.tasks.clone();
    async move {
        let limit = settings.connect_timeout;
        let dialling = async {
            let connecting = connector.connect(&address, &settings);
            let mut io = connecting.await.map_err(DialFailure::Io)?;
            if let Some(security) = &security {
                let securing = security.secure(io, &known, http.version());
                io = securing.await.map_err(DialFailure::Secure)?;
            }
            let handshake = |cause| {
                let cause = Some(Arc::new(cause));
                DialFailure::Handshake(NoSettings { cause })
            };
            let (sender, mut wire) = match http {
                Http::One => wire::http1(io).await.map_err(handshake)?,
                Http::Two => wire::http2(io, &settings.connection, count)
                    .await
                    .map_err(handshake)?,
            };
            poll_fn(|cx| match wire.poll(cx) {
                Poll::Ready(Ok(())) => {
                    let cause = None;
                    Poll::Ready(Err(DialFailure::Handshake(NoSettings { cause })))
                }
                Poll::Ready(Err(cause)) => Poll::Ready(Err(handshake(cause))),
                Poll::Pending if wire.capacity() > 0 => Poll::Ready(Ok(())),
                Poll::Pending => Poll::Pending,
            })
            .await?;
            Ok((sender, wire))
        };
        match timeout(limit, dialling).await {
            Ok(outcome) => outcome,
            Err(_) => Err(DialFailure::Elapsed(limit)),
        }
    }
}

/// A connection that is up.
struct Driver<'a> {
    wire: Wire,
    slot: &'a Arc<Slot>,
    remote: &'a Weak<Remote>,
    streams: u32,
    idle_timeout: Option<Duration>,
    dies: Option<Instant>,
    phase: Phase,
    /// The peer takes no more requests.
    left: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    /// Nothing is left to do but to say goodbye.
    Leaving,
    /// The bytes are the caller's (an upgrade); the connection counts until that one lets go of it.
    Switched,
    /// Requests may come, or are under way.
    Serving,
}

impl<'a> Driver<'a> {
    fn new(wire: Wire, slot: &'a Arc<Slot>, remote: &'a Weak<Remote>, now: &Remote) -> Self {
        let connection = &now.means.settings.connection;
        let streams = match &wire {
            Wire::One(_) => 1,
            Wire::Two(_) => connection
                .max_concurrent_streams
                .map_or(u32::MAX, u32::from),
        };
        slot.set_tunnels(wire.takes_tunnels());
        slot.touch();
        slot.set_limit(wire.capacity().min(streams));
        Self {
            wire,
            slot,
            remote,
            streams,
            idle_timeout: connection.idle_timeout,
            dies: connection
                .max_age
                .and_then(|age| Instant::now().checked_add(age)),
            phase: Phase::Serving,
            left: false,
        }
    }

    async fn run(mut self) -> Why {
        let slot = self.slot;
        let mut woken = pin!(slot.wake().notified());
        let mut alarm = pin!(sleep_until(self.next_alarm(Instant::now())));
        poll_fn(|cx| self.poll(cx, woken.as_mut(), alarm.as_mut())).await
    }

    /// Ready when the connection is gone, with the reason.
    fn poll<'n>(
        &mut self,
        cx: &mut Context<'_>,
        mut woken: Pin<&mut Notified<'n>>,
        mut alarm: Pin<&mut Sleep>,
    ) -> Poll<Why>
    where
        'a: 'n,
    {
        while woken.as_mut().poll(cx).is_ready() {
            woken.set(self.slot.wake().notified());
        }
        if self.phase == Phase::Switched {
            // Whichever side let go of the stream: the connection was closed to requests at the switch.
            return match self.slot.is_spent() {
                true => Poll::Ready(Why::Shutdown),
                false => Poll::Pending,
            };
        }
        if self.slot.is_aborted() {
            self.slot.close();
            return Poll::Ready(Why::Shutdown);
        }
        if let Poll::Ready(result) = self.wire.poll(cx) {
            return self.wire_ended(&result);
        }
        self.follow_peer();
        if self.phase == Phase::Serving && self.slot.is_spent() {
            self.phase = Phase::Leaving;
            alarm.as_mut().reset(Instant::now() + GOODBYE);
        }
        while alarm.as_mut().poll(cx).is_ready() {
            match self.phase {
                Phase::Leaving | Phase::Switched => return Poll::Ready(self.why(&Ok(()))),
                Phase::Serving => {
                    let now = Instant::now();
                    self.expire(now);
                    alarm.as_mut().reset(self.next_alarm(now));
                }
            }
        }
        Poll::Pending
    }

    /// hyper has finished: the connection is gone, or it was handed to the request that switched it.
    /// A request that asked for a switch and got another answer ends like one that got it, since
    /// nobody but its reader can tell the two apart; that delays the books and no byte.
    fn wire_ended(&mut self, result: &hyper::Result<()>) -> Poll<Why> {
        if !self.slot.is_switching() {
            let why = self.why(result);
            self.slot.close();
            return Poll::Ready(why);
        }
        self.phase = Phase::Switched;
        self.close();
        match self.slot.is_spent() {
            true => Poll::Ready(Why::Shutdown),
            false => Poll::Pending,
        }
    }

    /// Why the connection is gone: an error, the peer, or else this side, which closed it first.
    fn why(&self, result: &hyper::Result<()>) -> Why {
        match result {
            Err(error) => Why::of(error),
            Ok(()) if self.slot.is_closed() && !self.left => Why::Shutdown,
            Ok(()) => Why::Unknown,
        }
    }

    /// Takes over what the peer has said about streams.
    fn follow_peer(&mut self) {
        if self.slot.is_closed() {
            return;
        }
        if !self.wire.takes_requests() {
            self.left = true;
            self.close();
        } else if self.slot.set_limit(self.wire.capacity().min(self.streams))
            && let Some(remote) = self.remote.upgrade()
        {
            remote.stream_ended();
        }
    }

    /// Closes the connection to new requests if it is too old or was idle for too long.
    fn expire(&mut self, now: Instant) {
        let old = self.dies.is_some_and(|dies| dies <= now);
        let idle = self.slot.active() == 0
            && self.idle_timeout.is_some_and(|timeout| {
                now.saturating_duration_since(self.slot.idle_since()) >= timeout
            });
        if old || idle && self.slot.close_if_idle() {
            self.close();
        }
    }

    /// The next moment at which [`expire`](Self::expire) may have something to do.
    fn next_alarm(&self, now: Instant) -> Instant {
        let far = now + FAR;
        if self.slot.is_closed() {
            return far;
        }
        let idle = self.idle_timeout.map_or(far, |timeout| {
            let since = match self.slot.active() {
                0 => self.slot.idle_since(),
                _ => now,
            };
            since + timeout.clamp(RESOLUTION, FAR)
        });
        idle.min(self.dies.unwrap_or(far)).min(far)
    }

    fn close(&mut self) {
        self.slot.close();
        if let Some(remote) = self.remote.upgrade() {
            remote.unlink(self.slot);
            remote.made_room();
        }
    }
}
