//! The limits of a cluster, as an endpoint's connections respect them.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use meshwork::Limit;
use meshwork::model::cluster::Protocol;
use meshwork::transport::{Claim, Gate, Permit};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::world::{
    Dial, Server, World, call, endpoint, limited, settings, settle, start, used_up_after,
};

/// Limits that count.
#[derive(Debug)]
pub(crate) struct Limits {
    connections: u32,
    pending: u32,
    /// Whether even the first connection of an endpoint is refused at the limit.
    strict: bool,
    pub(crate) connected: Arc<AtomicU32>,
    pub(crate) waiting: Arc<AtomicU32>,
    peak: AtomicU32,
    released: Arc<Notify>,
}

impl Limits {
    pub(crate) fn new(connections: u32, pending: u32) -> Self {
        Self {
            connections,
            pending,
            strict: false,
            connected: Arc::default(),
            waiting: Arc::default(),
            peak: AtomicU32::new(0),
            released: Arc::default(),
        }
    }
}

struct Held(Arc<AtomicU32>, Arc<Notify>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
        self.1.notify_waiters();
    }
}

impl Gate for Limits {
    fn connection(&self, claim: Claim) -> Option<Permit> {
        let free = self.connected.load(Ordering::SeqCst) < self.connections;
        if !free && (claim == Claim::Further || self.strict) {
            return None;
        }
        let now = self.connected.fetch_add(1, Ordering::SeqCst) + 1;
        self.peak.fetch_max(now, Ordering::SeqCst);
        Some(Permit::new(Held(
            self.connected.clone(),
            self.released.clone(),
        )))
    }

    fn pending(&self) -> Option<Permit> {
        if self.waiting.load(Ordering::SeqCst) >= self.pending {
            return None;
        }
        self.waiting.fetch_add(1, Ordering::SeqCst);
        Some(Permit::new(Held(self.waiting.clone(), Arc::default())))
    }

    fn released(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.released.notified())
    }
}

#[tokio::test(start_paused = true)]
async fn too_many_pending_requests_overflow_at_once() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let gate = Arc::new(Limits::new(u32::MAX, 3));
        let world = World::new(|_| Dial::Hang);
        let connections = limited(settings(protocol), &world, gate.clone());
        let waiting: Vec<_> = (0..3).map(|_| start(&connections)).collect();
        settle().await;
        let since = Instant::now();
        let unanswered = call(&connections).await.unwrap_err();
        assert_eq!(since.elapsed(), Duration::ZERO);
        assert_eq!(unanswered.error.limit(), Some(Limit::Pending));
        assert!(unanswered.unsent.is_some());
        for call in waiting {
            call.abort();
        }
        settle().await;
        assert_eq!(gate.waiting.load(Ordering::SeqCst), 0);
        assert_eq!(connections.stats().pending, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn requests_wait_for_the_one_connection_in_the_order_of_their_coming() {
    let server = Server::slow(Duration::from_secs(1));
    let gate = Arc::new(Limits::new(1, u32::MAX));
    let connections = limited(settings(Protocol::Http1), &server.world1(), gate.clone());
    let since = Instant::now();
    let calls: Vec<_> = (0..10).map(|_| start(&connections)).collect();
    for (number, call) in (1..).zip(calls) {
        call.await.unwrap().unwrap();
        assert_eq!(since.elapsed().as_secs(), number);
    }
    assert_eq!(gate.peak.load(Ordering::SeqCst), 1);
    assert_eq!(gate.waiting.load(Ordering::SeqCst), 0);
    assert_eq!(connections.stats().dials, 1);
}

#[tokio::test(start_paused = true)]
async fn streams_wait_for_the_one_connection() {
    let server = Server::slow(Duration::from_secs(1)).streams(5);
    let gate = Arc::new(Limits::new(1, u32::MAX));
    let connections = limited(settings(Protocol::Http2), &server.world2(), gate.clone());
    let since = Instant::now();
    let calls: Vec<_> = (0..20).map(|_| start(&connections)).collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(since.elapsed().as_secs(), 4);
    assert_eq!(gate.peak.load(Ordering::SeqCst), 1);
    assert_eq!(server.peak.load(Ordering::SeqCst), 5);
}

/// A105: the bound of an endpoint, without any of its cluster.
#[tokio::test(start_paused = true)]
async fn requests_wait_for_the_connections_that_one_endpoint_may_have() {
    // Twelve calls of a second each, by two connections of one request or of three.
    for (protocol, streams, took) in [(Protocol::Http1, 1, 6), (Protocol::Http2, 3, 2)] {
        let server = Server::slow(Duration::from_secs(1)).streams(streams);
        let world = match protocol {
            Protocol::Http2 => server.world2(),
            Protocol::Http1 | Protocol::SameAsRequest => server.world1(),
        };
        let mut settings = settings(protocol);
        settings.connection.max_per_endpoint = std::num::NonZeroU32::new(2);
        let connections = endpoint(settings, &world);
        let since = Instant::now();
        let calls: Vec<_> = (0..12).map(|_| start(&connections)).collect();
        for call in calls {
            call.await.unwrap().unwrap();
        }
        assert_eq!(since.elapsed().as_secs(), took, "{protocol:?}");
        assert_eq!(connections.stats().dials, 2, "{protocol:?}");
    }
}

/// One that is too old makes room at once, while its request goes on.
#[tokio::test(start_paused = true)]
async fn a_connection_that_is_too_old_makes_room_for_who_waits() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let server = Server::slow(Duration::from_secs(10)).streams(1);
        let world = match protocol {
            Protocol::Http2 => server.world2(),
            Protocol::Http1 | Protocol::SameAsRequest => server.world1(),
        };
        let mut settings = settings(protocol);
        settings.connection.max_per_endpoint = std::num::NonZeroU32::MIN.into();
        settings.connection.max_age = Some(Duration::from_secs(2));
        let connections = endpoint(settings, &world);
        let since = Instant::now();
        let calls = [start(&connections), start(&connections)];
        for call in calls {
            call.await.unwrap().unwrap();
        }
        assert_eq!(since.elapsed().as_secs(), 12, "{protocol:?}");
    }
}

/// One that takes no more requests makes room while its last one is under way.
#[tokio::test(start_paused = true)]
async fn a_connection_that_is_used_up_does_not_count_for_its_endpoint() {
    let server = Server::slow(Duration::from_secs(1));
    let mut settings = used_up_after(Protocol::Http1, 1);
    settings.connection.max_per_endpoint = std::num::NonZeroU32::MIN.into();
    let connections = endpoint(settings, &server.world1());
    let since = Instant::now();
    let calls: Vec<_> = (0..4).map(|_| start(&connections)).collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(since.elapsed().as_secs(), 1, "none waits for another");
    assert_eq!(connections.stats().dials, 4);
}

/// The last place of a connection goes to one that waits; the next one does not wait for its end.
#[tokio::test(start_paused = true)]
async fn who_waits_behind_the_last_request_of_a_connection_gets_another() {
    let server = Server::slow(Duration::from_secs(3_600));
    let mut settings = used_up_after(Protocol::Http1, 2);
    settings.connection.max_per_endpoint = std::num::NonZeroU32::MIN.into();
    let connections = endpoint(settings, &server.world1());
    let since = Instant::now();
    let calls: Vec<_> = (0..3).map(|_| start(&connections)).collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(since.elapsed().as_secs(), 2 * 3_600, "B and C go together");
    assert_eq!(connections.stats().dials, 2);
}

#[tokio::test(start_paused = true)]
async fn the_limit_holds_while_used_up_connections_drain() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let server = Server::slow(Duration::from_secs(1));
        let world = match protocol {
            Protocol::Http2 => server.world2(),
            Protocol::Http1 | Protocol::SameAsRequest => server.world1(),
        };
        let gate = Arc::new(Limits::new(1, u32::MAX));
        let connections = limited(used_up_after(protocol, 2), &world, gate.clone());
        let calls: Vec<_> = (0..10).map(|_| start(&connections)).collect();
        for call in calls {
            call.await.unwrap().unwrap();
        }
        assert_eq!(connections.stats().dials, 5, "{protocol:?}");
        assert_eq!(gate.peak.load(Ordering::SeqCst), 1, "{protocol:?}");
        settle().await;
        assert_eq!(gate.connected.load(Ordering::SeqCst), 0, "{protocol:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_without_a_connection_always_gets_one() {
    let gate = Arc::new(Limits::new(1, u32::MAX));
    let world = Server::default().world1();
    let endpoints = [(); 3].map(|()| limited(settings(Protocol::Http1), &world, gate.clone()));
    for endpoint in &endpoints {
        call(endpoint).await.unwrap();
    }
    assert_eq!(gate.connected.load(Ordering::SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn a_permit_that_another_endpoint_gives_back_is_used() {
    let gate = Arc::new(Limits::new(2, u32::MAX));
    let server = Server::slow(Duration::from_secs(60));
    let (one, other) = (
        limited(settings(Protocol::Http1), &server.world1(), gate.clone()),
        limited(settings(Protocol::Http1), &server.world1(), gate.clone()),
    );
    let elsewhere = start(&other);
    let calls = [start(&one), start(&one)];
    settle().await;
    assert_eq!((one.stats().active, one.stats().pending), (1, 1));
    let since = Instant::now();
    elsewhere.abort();
    settle().await;
    assert_eq!((one.stats().active, one.stats().pending), (2, 0));
    assert!(since.elapsed() < Duration::from_secs(1));
    for call in calls {
        call.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn with_no_permit_and_nothing_to_wait_for_a_request_overflows() {
    let mut limits = Limits::new(0, u32::MAX);
    limits.strict = true;
    let gate = Arc::new(limits);
    let world = World::new(|_| Dial::Hang);
    let connections = limited(settings(Protocol::Http2), &world, gate);
    let unanswered = call(&connections).await.unwrap_err();
    assert_eq!(unanswered.error.limit(), Some(Limit::Connections));
    assert!(unanswered.unsent.is_some());
    assert_eq!(connections.stats().dials, 0);
}

#[tokio::test(start_paused = true)]
async fn both_versions_share_the_endpoint() {
    let http1 = Server::default();
    let connections = endpoint(settings(Protocol::SameAsRequest), &http1.world1());
    call(&connections).await.unwrap();
    assert_eq!(
        http1.heads.lock().unwrap()[0].version,
        http::Version::HTTP_11
    );
    let mut grpc = super::world::get();
    grpc.headers_mut()
        .insert("content-type", "application/grpc".parse().unwrap());
    // The world speaks HTTP/1.1 only, so the gRPC call cannot be connected.
    let unanswered = connections.send(grpc, ()).await.unwrap_err();
    assert!(unanswered.error.is_connect());
    call(&connections).await.unwrap();
    assert_eq!(http1.seen(), 2);
}
