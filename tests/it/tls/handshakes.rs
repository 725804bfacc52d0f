//! A handshake in memory, seen from both sides.

use std::error::Error as _;
use std::io;

use meshwork::model::security::{Alpn, ClientTls, Material, MutualTls, Sni, Verification};
use meshwork::tls::{
    Accepted, Acceptor, Clock, Connector, Credentials, Handshaken, Offer, Refusal, TlsStream,
    Unaccepted,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::authority::{Authority, clock, credentials};

pub(crate) type Served = Result<Accepted<DuplexStream>, Unaccepted>;

/// What a mesh asks of its servers.
pub(crate) fn mesh_tls() -> ClientTls {
    ClientTls {
        identity: Some(Material::Mesh),
        trust: Material::Mesh,
        verification: Verification::Svid,
        names: Vec::new(),
        sni: Sni::Name("outbound_.80_._.catalog.my-app.svc.cluster.local".into()),
        alpn: Alpn::Istio,
    }
}

pub(crate) fn connector(tls: &ClientTls, own: &Credentials, clock: Clock) -> Connector {
    let identity = tls.identity.is_some().then(|| own.clone());
    Connector::new(tls, identity, own.clone(), clock)
}

/// Both sides until the handshake is over; a byte goes each way, since in TLS 1.3 a client learns
/// only from the first one that it was refused.
pub(crate) async fn handshake(
    acceptor: &Acceptor,
    connector: &Connector,
) -> (Served, io::Result<TlsStream<DuplexStream>>) {
    let (theirs, ours) = tokio::io::duplex(256 << 10);
    let serving = async {
        let mut accepted = acceptor.accept(theirs, MutualTls::Strict).await?;
        accepted.write_all(b"!").await.map_err(Unaccepted::Io)?;
        accepted.flush().await.map_err(Unaccepted::Io)?;
        Ok(accepted)
    };
    let calling = async {
        let mut stream = connector.connect(ours, "127.0.0.1", Offer::Http2).await?;
        stream.read_u8().await?;
        Ok(stream)
    };
    tokio::join!(serving, calling)
}

/// The reason that an error of a handshake carries.
pub(crate) fn reason(error: &io::Error) -> Option<Refusal> {
    error.get_ref()?.downcast_ref::<Refusal>().cloned()
}

pub(crate) fn refused(served: &Served) -> Option<Refusal> {
    match served {
        Err(Unaccepted::Refused(refusal)) => Some(refusal.clone()),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn both_sides_know_each_other_and_what_was_agreed_on() {
    let mut root = Authority::new("root");
    let server = credentials(&mut root, "spiffe://td/ns/my-app/sa/catalog");
    let client = credentials(&mut root, "spiffe://td/ns/my-app/sa/order");
    let acceptor = Acceptor::new(server.clone(), clock());
    let connector = connector(&mesh_tls(), &client, clock());
    let (served, called) = handshake(&acceptor, &connector).await;
    let (served, called) = (served.unwrap(), called.unwrap());
    let Handshaken {
        tls,
        principal,
        alpn,
        sni,
        serial,
        ..
    } = served.known();
    assert!(tls);
    assert_eq!(principal.as_ref().unwrap().service_account(), Some("order"));
    assert_eq!(
        alpn.as_deref(),
        Some("h2"),
        "Istio's words are offered, never chosen"
    );
    let expected = "outbound_.80_._.catalog.my-app.svc.cluster.local";
    assert_eq!(sni.as_deref(), Some(expected));
    assert_eq!(&**serial, client.identity().unwrap().serial());
    let known = called.known();
    assert_eq!(
        known.principal.as_ref().unwrap().as_str(),
        "spiffe://td/ns/my-app/sa/catalog"
    );
    assert_eq!(
        (server.counts().accepted, client.counts().connected),
        (1, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn without_an_identity_nothing_is_presented_and_nobody_is_accepted() {
    let mut root = Authority::new("root");
    let some = credentials(&mut root, "spiffe://td/a");
    let none = Credentials::new(None, (*some.trusted()).clone());
    let acceptor = Acceptor::new(some.clone(), clock());
    let (_, called) = handshake(&acceptor, &connector(&mesh_tls(), &none, clock())).await;
    assert_eq!(reason(&called.unwrap_err()), Some(Refusal::NoIdentity));

    let acceptor = Acceptor::new(none.clone(), clock());
    let (served, called) = handshake(&acceptor, &connector(&mesh_tls(), &some, clock())).await;
    assert_eq!(refused(&served), Some(Refusal::NoIdentity));
    called.unwrap_err();

    // It comes later, and the same acceptor presents it.
    none.rotate(root.issue("spiffe://td/b").identity());
    let (served, called) = handshake(&acceptor, &connector(&mesh_tls(), &some, clock())).await;
    served.unwrap();
    called.unwrap();
    none.withdraw();
    let (served, _) = handshake(&acceptor, &connector(&mesh_tls(), &some, clock())).await;
    assert_eq!(refused(&served), Some(Refusal::NoIdentity));
}

#[tokio::test(start_paused = true)]
async fn a_client_without_a_certificate_is_refused_and_learns_of_it() {
    let mut root = Authority::new("root");
    let own = credentials(&mut root, "spiffe://td/a");
    let anonymous = ClientTls {
        identity: None,
        ..mesh_tls()
    };
    let acceptor = Acceptor::new(own.clone(), clock());
    let (served, called) = handshake(&acceptor, &connector(&anonymous, &own, clock())).await;
    assert_eq!(refused(&served), Some(Refusal::Missing));
    let error = called.unwrap_err();
    let text = error
        .source()
        .map_or(error.to_string(), ToString::to_string);
    assert!(text.contains("CertificateRequired"), "{text}");
}
