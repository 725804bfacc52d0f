use std::time::Duration;

use http::Request;

use super::*;
use crate::body::Body;
use crate::model::cluster::{Connection, Families, Protocol};
use crate::transport::{Connect, Connecting, Io, Settings, Unlimited, wire};

/// No further connection is ever made.
#[derive(Debug)]
struct Nowhere;

impl Connect for Nowhere {
    fn connect(&self, _: &Address, _: &Settings) -> Connecting {
        Box::pin(std::future::pending())
    }
}

fn remote() -> Arc<Remote> {
    let address = Address::Name {
        host: Arc::default(),
        port: 0,
    };
    let means = Means {
        cluster: Arc::default(),
        hostname: None,
        settings: Arc::new(Settings {
            protocol: Protocol::Http2,
            connect_timeout: Duration::from_secs(10),
            families: Families::Both,
            connection: Connection::default(),
        }),
        connector: Arc::new(Nowhere),
        gate: Arc::new(Unlimited),
        security: None,
    };
    Arc::new(Remote::new(address, Arc::new(means)))
}

#[tokio::test]
async fn a_connection_that_hands_a_request_back_gets_no_other_even_before_its_driver_looks() {
    let remote = remote();
    let (ours, _theirs) = tokio::io::duplex(1_024);
    let (sender, wire) = wire::http2(Io::boxed(ours), &Connection::default(), Arc::default())
        .await
        .unwrap();
    let slot = Arc::new(Slot::new(0, None));
    slot.set_limit(100);
    remote.connected(&slot, sender);
    // hyper has let go of it; the driver, which would unlink it, has not been polled since.
    drop(wire);
    let mut lease = remote.lease(Http::Two).await.unwrap();
    let mut request = Request::new(Body::empty());
    let returned = lease.exchange(&mut request, None).await.unwrap_err();
    assert!(returned.unsent);
    assert!(remote.stream().is_none());
}
