//! First states in turns, over bodies in memory and a clock that stands still.

use std::convert::Infallible;
use std::pin::Pin;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use envoy_types::pb::envoy::config::core::v3::Node as WireNode;
use envoy_types::pb::envoy::service::discovery::v3::DiscoveryRequest;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use prost::Message as _;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::super::*;
use crate::control::{Content, Encoded, Limits, Store};
use crate::random::Random;

const TURNS: usize = 3;

/// A server of one cluster, with three turns of ten seconds.
fn house() -> Arc<House> {
    let store = Store::new();
    let cluster = Encoded::new(Kind::Cluster, "a", b"1");
    store.publish(Content::default().with_resources([cluster]));
    let limits = Limits {
        initial_syncs: TURNS,
        initial_sync: Duration::from_secs(10),
        ..Limits::default()
    };
    House::new(store, limits, Random::seeded(1))
}

/// A client that has asked for all clusters.
struct Asking {
    says: UnboundedSender<Bytes>,
    hears: Pin<Box<Replies>>,
}

impl Asking {
    fn of(house: &Arc<House>) -> Self {
        let (says, said) = unbounded_channel();
        let frames = UnboundedReceiverStream::new(said);
        let body = StreamBody::new(frames.map(|bytes| Ok::<_, Infallible>(Frame::data(bytes))));
        let method = Method {
            variant: Variant::Sotw,
            only: None,
        };
        let hears = Box::pin(start(house, method, None, body));
        let client = Self { says, hears };
        client.say("");
        client
    }

    fn say(&self, nonce: &str) {
        let request = DiscoveryRequest {
            node: Some(WireNode {
                id: "client".into(),
                ..WireNode::default()
            }),
            type_url: Kind::Cluster.type_url().into(),
            response_nonce: nonce.into(),
            ..DiscoveryRequest::default()
        };
        let request = request.encode_to_vec();
        let mut framed = BytesMut::new();
        framed.put_u8(0);
        framed.put_u32(u32::try_from(request.len()).expect("a small request"));
        framed.extend_from_slice(&request);
        self.says.send(framed.freeze()).expect("somebody reads");
    }

    /// Reads until something of the body has come.
    async fn hears(&mut self) {
        let frame = self.hears.frame().await.expect("a frame");
        assert!(frame.is_ok_and(|frame| frame.is_data()));
    }
}

#[tokio::test(start_paused = true)]
async fn k6_who_answers_nothing_keeps_its_turn_for_a_tenth_of_its_time() {
    let house = house();
    let begun = Instant::now();
    let mut silent: Vec<Asking> = (0..TURNS).map(|_| Asking::of(&house)).collect();
    for client in &mut silent {
        client.hears().await;
    }
    let mut late = Asking::of(&house);
    // The streams learn that their responses went out when the next ones are asked for.
    let reading = silent.iter_mut().map(|client| client.hears.frame());
    let mut reading: Vec<_> = reading.map(tokio_test::task::spawn).collect();
    reading.iter_mut().for_each(|reading| drop(reading.poll()));
    let early = timeout(Duration::from_millis(900), late.hears()).await;
    assert!(early.is_err(), "there are three turns");
    let report = crate::control::Report::of(&house);
    assert_eq!((report.opened, report.waiting), (TURNS as u64, 1));
    late.hears().await;
    assert!(begun.elapsed() < Duration::from_millis(1_100));
}

#[tokio::test(start_paused = true)]
async fn k6_who_does_not_read_keeps_its_turn_for_all_of_its_time_and_who_answers_gives_it_back() {
    let house = house();
    let begun = Instant::now();
    let mut unread: Vec<Asking> = (0..TURNS).map(|_| Asking::of(&house)).collect();
    for client in &mut unread {
        client.hears().await;
    }
    let mut late = Asking::of(&house);
    let early = timeout(Duration::from_millis(9_900), late.hears()).await;
    assert!(early.is_err(), "there are three turns");
    late.hears().await;
    assert!(begun.elapsed() < Duration::from_millis(10_100));
    // The other two turns are free, and this one when it has answered.
    late.say("1");
    let mut others: Vec<Asking> = (0..TURNS).map(|_| Asking::of(&house)).collect();
    for client in &mut others {
        client.hears().await;
        client.say("1");
    }
    assert!(begun.elapsed() < Duration::from_millis(10_100));
}

#[tokio::test(start_paused = true)]
async fn who_leaves_while_it_waits_for_its_turn_gives_its_place_back() {
    let house = house();
    let mut first: Vec<Asking> = (0..TURNS).map(|_| Asking::of(&house)).collect();
    for client in &mut first {
        client.hears().await;
    }
    let waits = Asking::of(&house);
    while crate::control::Report::of(&house).waiting == 0 {
        tokio::task::yield_now().await;
    }
    drop(waits);
    while house.streams() > TURNS {
        tokio::task::yield_now().await;
    }
    let report = crate::control::Report::of(&house);
    assert_eq!((report.waiting, report.opened), (0, TURNS as u64));
}
