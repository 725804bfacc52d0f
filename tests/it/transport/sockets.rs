//! The same over real sockets, in real time.

use std::error::Error as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use meshwork::model::cluster::{Protocol, TcpKeepalive};
use meshwork::model::endpoint::Address;
use meshwork::transport::{Connections, Settings, TcpConnector, Unlimited};
use tokio::net::TcpListener;

use super::world::{Server, call, settings, start};

fn dialling(address: Address, settings: Settings) -> Arc<Connections> {
    Connections::new(
        address,
        Arc::new(settings),
        Arc::new(TcpConnector),
        Arc::new(Unlimited),
    )
}

async fn listen(server: Server, protocol: Protocol) -> Address {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            match protocol {
                Protocol::Http2 => tokio::spawn(server.clone().http2(stream)),
                Protocol::Http1 | Protocol::SameAsRequest => {
                    tokio::spawn(server.clone().http1(stream))
                }
            };
        }
    });
    address.into()
}

#[tokio::test]
async fn both_versions_over_tcp() {
    for (protocol, most) in [(Protocol::Http1, 16), (Protocol::Http2, 1)] {
        let server = Server::default();
        let mut settings = settings(protocol);
        settings.connection.tcp_keepalive = Some(TcpKeepalive {
            probes: Some(3),
            time: Some(Duration::from_secs(30)),
            interval: Some(Duration::from_millis(1)),
        });
        let connections = dialling(listen(server.clone(), protocol).await, settings);
        for _ in 0..20 {
            let calls: Vec<_> = (0..16).map(|_| start(&connections)).collect();
            for call in calls {
                assert_eq!(call.await.unwrap().unwrap(), "hello");
            }
        }
        assert_eq!(server.seen(), 320);
        let dials = connections.stats().dials;
        assert!((1..=most).contains(&dials), "{protocol:?}: {dials}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_unix_socket_is_an_address_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        Server::default().http2(stream).await;
    });
    let address = Address::Unix(path.as_path().into());
    let connections = dialling(address, settings(Protocol::Http2));
    assert_eq!(call(&connections).await.unwrap(), "hello");
}

#[tokio::test]
async fn a_port_where_nobody_listens_refuses() {
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = unused.local_addr().unwrap();
    drop(unused);
    let connections = dialling(address.into(), settings(Protocol::Http1));
    let unanswered = call(&connections).await.unwrap_err();
    assert!(unanswered.error.is_connect() && !unanswered.error.is_timeout());
    let cause = unanswered.error.source().unwrap();
    let cause = cause.downcast_ref::<io::Error>().unwrap();
    assert_eq!(cause.kind(), io::ErrorKind::ConnectionRefused);
    assert!(unanswered.unsent.is_some());
}
