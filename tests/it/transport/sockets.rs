//! The same over real sockets, in real time.

use std::error::Error as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use meshwork::model::cluster::{Protocol, TcpKeepalive};
use meshwork::model::endpoint::{Address, Several};
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

/// gRFC A61: they are one endpoint, and whichever answers serves it.
#[tokio::test]
async fn an_endpoint_with_several_addresses_is_reached_at_the_one_that_answers() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let refusing = gone.local_addr().unwrap();
    drop(gone);
    let server = Server::default();
    let Address::Socket(serving) = listen(server.clone(), Protocol::Http2).await else {
        panic!("a listener of TCP has a socket's address");
    };
    for (first, other) in [(refusing, serving), (serving, refusing)] {
        let address = Address::Several(Several::new(first, [other]));
        assert_eq!(address.to_string(), format!("{first},{other}"));
        let connections = dialling(address, settings(Protocol::Http2));
        assert_eq!(call(&connections).await.unwrap(), "hello");
        assert_eq!(connections.stats().dials, 1);
    }
    assert_eq!(server.seen(), 2);
    let nobody = Address::Several(Several::new(refusing, [refusing]));
    let connections = dialling(nobody, settings(Protocol::Http2));
    let unanswered = call(&connections).await.unwrap_err();
    assert!(unanswered.error.is_connect());
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
