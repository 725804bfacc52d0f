//! The PROXY protocol's header (haproxy's `proxy-protocol.txt`, versions 1 and 2).

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;

use tokio::io::AsyncWrite;

use crate::model::cluster::ProxyProtocol;

/// Version 2 begins with these bytes, which no other protocol begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Writes the header for a connection with these ends, before anything else is written.
pub(super) async fn announce<S: AsyncWrite + Unpin>(
    stream: &mut S,
    version: ProxyProtocol,
    ends: Option<(SocketAddr, SocketAddr)>,
) -> io::Result<()> {
    let header = header(version, ends);
    let (mut stream, mut rest) = (Pin::new(stream), &header[..]);
    while !rest.is_empty() {
        match poll_fn(|cx| stream.as_mut().poll_write(cx, rest)).await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => rest = &rest[written..],
        }
    }
    Ok(())
}

/// The header; `ends` are the own and the peer's address, both of one family.
fn header(version: ProxyProtocol, ends: Option<(SocketAddr, SocketAddr)>) -> Vec<u8> {
    match version {
        ProxyProtocol::V1 => text(ends).into_bytes(),
        ProxyProtocol::V2 => bytes(ends),
    }
}

fn text(ends: Option<(SocketAddr, SocketAddr)>) -> String {
    let family = match ends {
        Some((SocketAddr::V4(_), SocketAddr::V4(_))) => "TCP4",
        Some((SocketAddr::V6(_), SocketAddr::V6(_))) => "TCP6",
        Some(_) | None => return "PROXY UNKNOWN\r\n".to_owned(),
    };
    ends.map_or_else(String::new, |(own, peer)| {
        let (own_ip, peer_ip) = (own.ip(), peer.ip());
        format!(
            "PROXY {family} {own_ip} {peer_ip} {} {}\r\n",
            own.port(),
            peer.port()
        )
    })
}

fn bytes(ends: Option<(SocketAddr, SocketAddr)>) -> Vec<u8> {
    /// Version 2, "of somebody".
    const PROXY: u8 = 0x21;
    /// Version 2, "of the sender itself": nothing is told.
    const LOCAL: u8 = 0x20;
    let mut addresses = Vec::with_capacity(36);
    let (command, family) = match ends {
        Some((SocketAddr::V4(own), SocketAddr::V4(peer))) => {
            addresses.extend(own.ip().octets());
            addresses.extend(peer.ip().octets());
            (PROXY, 0x11)
        }
        Some((SocketAddr::V6(own), SocketAddr::V6(peer))) => {
            addresses.extend(own.ip().octets());
            addresses.extend(peer.ip().octets());
            (PROXY, 0x21)
        }
        Some(_) | None => (LOCAL, 0),
    };
    if let (PROXY, Some((own, peer))) = (command, ends) {
        addresses.extend(own.port().to_be_bytes());
        addresses.extend(peer.port().to_be_bytes());
    }
    let mut header = SIGNATURE.to_vec();
    header.extend([command, family]);
    // 36 at most.
    header.extend((addresses.len() as u16).to_be_bytes());
    header.extend(addresses);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_tell_both_ends_or_nothing() {
        let ends = |own: &str, peer: &str| Some((own.parse().unwrap(), peer.parse().unwrap()));
        let four = ends("10.0.0.7:40000", "10.0.0.1:80");
        let six = ends("[2001:db8::7]:40000", "[2001:db8::1]:80");
        let mixed = ends("10.0.0.7:40000", "[2001:db8::1]:80");
        for (ends, line) in [
            (four, "PROXY TCP4 10.0.0.7 10.0.0.1 40000 80\r\n"),
            (six, "PROXY TCP6 2001:db8::7 2001:db8::1 40000 80\r\n"),
            (mixed, "PROXY UNKNOWN\r\n"),
            (None, "PROXY UNKNOWN\r\n"),
        ] {
            assert_eq!(header(ProxyProtocol::V1, ends), line.as_bytes());
        }
        let mut expected = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
        expected.extend([10, 0, 0, 7, 10, 0, 0, 1, 0x9c, 0x40, 0, 80]);
        assert_eq!(header(ProxyProtocol::V2, four), expected);
        let long = header(ProxyProtocol::V2, six);
        assert_eq!(
            (long.len(), long[12], long[13], long[15]),
            (52, 0x21, 0x21, 36)
        );
        for ends in [mixed, None] {
            let nothing = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
            assert_eq!(header(ProxyProtocol::V2, ends), nothing);
        }
    }
}
