//! What changes while callers call: certificates, roots, modes. No request is lost: rows A1, A2 and B6.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use http::StatusCode;
use meshwork::Mesh;
use meshwork::model::cluster::Protocol;
use meshwork::model::security::{MutualTls, Security};
use meshwork::tls::{Bundle, Connector, Credentials, Offer, Trust};
use tokio::net::TcpStream;

use super::authority::{Authority, clock, credentials, trust};
use super::handshakes::mesh_tls;
use super::ports::{ask, client, peers, server, tls};

/// Callers in a loop until they are told to stop; none may fail.
struct Load {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    fn on(meshes: &[&Mesh], callers: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let served = Arc::new(AtomicU64::new(0));
        let mut tasks = Vec::new();
        for mesh in meshes {
            for _ in 0..callers {
                let (mesh, stop, served) = (Mesh::clone(mesh), stop.clone(), served.clone());
                tasks.push(tokio::spawn(async move {
                    while !stop.load(Relaxed) {
                        let (status, text) = ask(&mesh).await.expect("no request fails");
                        assert_eq!(status, StatusCode::OK);
                        assert!(text.starts_with("spiffe://td/caller "), "{text}");
                        served.fetch_add(1, Relaxed);
                    }
                }));
            }
        }
        Self {
            stop,
            served,
            tasks,
        }
    }

    /// Waits until this many more requests were served.
    async fn more(&self, requests: u64) {
        let goal = self.served.load(Relaxed) + requests;
        while self.served.load(Relaxed) < goal {
            assert!(
                self.tasks.iter().all(|task| !task.is_finished()),
                "a request failed"
            );
            tokio::task::yield_now().await;
        }
    }

    async fn end(self) -> u64 {
        self.stop.store(true, Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        self.served.load(Relaxed)
    }
}

fn once(model: &mut meshwork::model::Cluster) {
    model.connection.max_requests = std::num::NonZeroU32::new(1);
}

#[tokio::test]
async fn a1_a_thousand_rotations_on_both_sides_lose_no_request_and_each_is_shown() {
    const ROTATIONS: u64 = 1_000;
    let mut root = Authority::new("root");
    let own = credentials(&mut root, "spiffe://td/server");
    let caller = credentials(&mut root, "spiffe://td/caller");
    let server = server(own.clone(), MutualTls::Strict).await;
    let address = server.address;
    let (two, _p) = client(caller.clone(), address, Protocol::Http2, tls(), |_| {}).await;
    let (fresh, _q) = client(caller.clone(), address, Protocol::Http2, tls(), once).await;
    let load = Load::on(&[&two], 4);
    let observer = Connector::new(&mesh_tls(), Some(caller.clone()), caller.clone(), clock());
    for _ in 0..ROTATIONS {
        own.rotate(root.issue("spiffe://td/server").identity());
        caller.rotate(root.issue("spiffe://td/caller").identity());
        // The stamp: what a new handshake shows on either side is the newest.
        let stream = TcpStream::connect(address).await.unwrap();
        let stream = observer.connect(stream, "a", Offer::Http2).await.unwrap();
        assert_eq!(&*stream.known().serial, own.identity().unwrap().serial());
        let (_, text) = ask(&fresh).await.expect("no request fails");
        let expected = format!("spiffe://td/caller {}", caller.identity().unwrap().serial());
        assert_eq!(text, expected);
        load.more(1).await;
    }
    let served = load.end().await;
    assert!(served >= ROTATIONS, "{served}");
    assert_eq!(
        (own.counts().rotations, caller.counts().rotations),
        (ROTATIONS, ROTATIONS)
    );
    assert_eq!(
        (own.counts().refused, own.counts().cut, caller.counts().cut),
        (0, 0, 0)
    );
}

#[tokio::test]
async fn a2_a_root_is_replaced_in_three_steps_under_load_without_a_lost_request() {
    for server_first in [true, false] {
        let (mut old, mut new) = (Authority::new("old"), Authority::new("new"));
        let own = credentials(&mut old, "spiffe://td/server");
        let caller = credentials(&mut old, "spiffe://td/caller");
        let server = server(own.clone(), MutualTls::Strict).await;
        let address = server.address;
        let (one, _p) = client(caller.clone(), address, Protocol::Http1, tls(), |_| {}).await;
        let (two, _q) = client(caller.clone(), address, Protocol::Http2, tls(), |_| {}).await;
        let load = Load::on(&[&one, &two], 2);
        load.more(50).await;
        let both = format!("{}{}", old.pem(), new.pem());
        let both = Bundle::from_pem(both.as_bytes()).unwrap();
        let both = Trust::default().with_domain("td".parse().unwrap(), both);
        let mut order = [
            (&own, "spiffe://td/server"),
            (&caller, "spiffe://td/caller"),
        ];
        if !server_first {
            order.reverse();
        }
        for (peer, _) in order {
            peer.trust(both.clone());
            load.more(100).await;
        }
        for (peer, id) in order {
            peer.rotate(new.issue(id).identity());
            load.more(100).await;
        }
        for (peer, _) in order {
            peer.trust(trust(&new));
            load.more(100).await;
        }
        assert!(load.end().await > 600);
        assert_eq!(
            (own.counts().cut, caller.counts().cut),
            (0, 0),
            "none had to be cut"
        );
        // What the old root has signed is nobody any more.
        let late = Credentials::new(Some(old.issue("spiffe://td/caller").identity()), both);
        let (late, _r) = client(late, address, Protocol::Http2, tls(), |_| {}).await;
        ask(&late).await.unwrap_err();
    }
}

#[tokio::test]
async fn b6_strict_drains_plaintext_and_no_mutual_request_is_lost() {
    let mut root = Authority::new("root");
    let own = credentials(&mut root, "spiffe://td/server");
    let caller = credentials(&mut root, "spiffe://td/caller");
    let server = server(own, MutualTls::Permissive).await;
    let address = server.address;
    let (mutual, _p) = client(caller.clone(), address, Protocol::Http2, tls(), |_| {}).await;
    let plain = |protocol| {
        client(
            caller.clone(),
            address,
            protocol,
            Security::Plaintext,
            |_| {},
        )
    };
    let (one, _q) = plain(Protocol::Http1).await;
    let (two, _r) = plain(Protocol::Http2).await;
    assert_eq!(ask(&one).await.unwrap().1, "nobody ");
    assert_eq!(ask(&two).await.unwrap().1, "nobody ");
    let load = Load::on(&[&mutual], 4);
    load.more(20).await;
    for _ in 0..10 {
        server
            .publisher
            .publish(peers(MutualTls::Strict))
            .await
            .unwrap();
        for mesh in [&one, &two] {
            match ask(mesh).await {
                Ok((status, text)) => assert_eq!(status, StatusCode::FORBIDDEN, "{text}"),
                Err(error) => assert!(error.is_connect() || error.is_reset(), "{error:?}"),
            }
        }
        load.more(20).await;
        server
            .publisher
            .publish(peers(MutualTls::Permissive))
            .await
            .unwrap();
        load.more(20).await;
    }
    load.end().await;
    assert_eq!(ask(&two).await.unwrap().1, "nobody ", "it is welcome again");
}
