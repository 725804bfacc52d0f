//! Calls that nobody waits for any more leave nothing behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http_body_util::BodyExt;
use meshwork::Random;
use meshwork::model::cluster::Protocol;
use meshwork::transport::{Connections, Guard};

use super::limits::Limits;
use super::world::{Server, get, limited, settings, settle, upload, used_up_after};

struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Guard for Counted {}

/// One call: with an upload that never ends, or without; reads the response.
async fn attempt(connections: &Arc<Connections>, endless: bool, guard: Counted) {
    let (_frames, request) = match endless {
        true => {
            let (frames, request) = upload();
            (Some(frames), request)
        }
        false => (None, get()),
    };
    if let Ok(response) = connections.send(request, guard).await {
        let _ = response.into_body().collect().await;
    }
}

/// Drops 1,000 calls after a random number of polls and of milliseconds.
async fn drop_a_thousand(connections: &Arc<Connections>, seed: u64) {
    let random = Random::seeded(seed);
    let guards = Arc::new(AtomicUsize::new(0));
    let mut calls = Vec::new();
    for _ in 0..1_000 {
        let (connections, guard) = (connections.clone(), Counted::new(&guards));
        let endless = random.below(4) == 0;
        let patience = random.below(6);
        let polls = random.below(12);
        calls.push(tokio::spawn(async move {
            let call = attempt(&connections, endless, guard);
            tokio::select! {
                biased;
                () = async {
                    for _ in 0..polls {
                        tokio::task::yield_now().await;
                    }
                    tokio::time::sleep(Duration::from_millis(patience.into())).await;
                } => {}
                () = call => {}
            }
        }));
        if random.below(10) == 0 {
            settle().await;
        }
    }
    for call in calls {
        call.await.unwrap();
    }
    assert_eq!(guards.load(Ordering::SeqCst), 0, "guards");
}

#[tokio::test(start_paused = true)]
async fn g13_a_thousand_dropped_calls_leave_nothing_behind() {
    for (protocol, seed) in [
        (Protocol::Http1, 1),
        (Protocol::Http1, 2),
        (Protocol::Http2, 3),
        (Protocol::Http2, 4),
    ] {
        for settings in [settings(protocol), used_up_after(protocol, 3)] {
            let gate = Arc::new(Limits::new(20, 100));
            let server = Server::slow(Duration::from_millis(2)).streams(8);
            let world = match protocol {
                Protocol::Http2 => server.world2(),
                Protocol::Http1 | Protocol::SameAsRequest => server.world1(),
            };
            let connections = limited(settings, &world, gate.clone());
            drop_a_thousand(&connections, seed).await;
            tokio::time::sleep(Duration::from_secs(2)).await;
            let stats = connections.stats();
            assert_eq!((stats.active, stats.pending, stats.dialling), (0, 0, 0));
            assert_eq!(stats.tasks, stats.connections, "one task for each");
            let connected = gate.connected.load(Ordering::SeqCst) as usize;
            assert_eq!(connected, stats.connections);
            assert_eq!(gate.waiting.load(Ordering::SeqCst), 0);
            assert!(server.seen() > 100, "some got through: {}", server.seen());

            // What is left still works, and ends.
            attempt(&connections, false, Counted::new(&Arc::default())).await;
            connections.retire();
            tokio::time::sleep(Duration::from_secs(2)).await;
            let stats = connections.stats();
            assert_eq!((stats.connections, stats.tasks), (0, 0));
            assert_eq!(gate.connected.load(Ordering::SeqCst), 0);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g13_dropped_calls_on_two_threads_leave_nothing_behind() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let gate = Arc::new(Limits::new(20, 100));
        let server = Server::slow(Duration::from_millis(2)).streams(8);
        let world = match protocol {
            Protocol::Http2 => server.world2(),
            Protocol::Http1 | Protocol::SameAsRequest => server.world1(),
        };
        let connections = limited(settings(protocol), &world, gate.clone());
        drop_a_thousand(&connections, 5).await;
        connections.retire();
        let ended = async {
            while connections.stats().tasks + connections.stats().connections > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), ended)
            .await
            .unwrap_or_else(|_| panic!("{:?}", connections.stats()));
        assert_eq!(gate.connected.load(Ordering::SeqCst), 0);
        assert_eq!(gate.waiting.load(Ordering::SeqCst), 0);
    }
}
