//! Several addresses of one host: which first, and when the next (Happy Eyeballs, RFC 8305).

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::task::JoinSet;

use super::Io;

/// How long an address is tried alone before the next is tried beside it (RFC 8305 §5), at most.
const STAGGER: Duration = Duration::from_millis(250);
/// How many addresses are tried for one connection.
const MAX_TRIES: usize = 16;

/// Puts the families in turn, beginning with IPv6 if there is any; the order within a family
/// stays (RFC 8305 §4).
pub(crate) fn interleave(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let (six, four): (Vec<_>, Vec<_>) = addresses.into_iter().partition(SocketAddr::is_ipv6);
    let (mut six, mut four) = (six.into_iter(), four.into_iter());
    let mut mixed = Vec::new();
    loop {
        let pair = [six.next(), four.next()];
        if pair == [None, None] {
            return mixed;
        }
        mixed.extend(pair.into_iter().flatten());
    }
}

/// The same for addresses in an order of preference: the family of the first begins (gRFC A61).
pub(crate) fn in_turn(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let begins = addresses.first().map(SocketAddr::is_ipv4);
    let mut mixed = interleave(addresses);
    if begins == Some(true) {
        // Each pair the other way round; what is left of one family has no pair.
        let pairs = mixed.chunks_mut(2);
        pairs
            .filter(|pair| pair.len() == 2 && pair[0].is_ipv6() && pair[1].is_ipv4())
            .for_each(|pair| pair.swap(0, 1));
    }
    mixed
}

/// Dials the addresses in order, the next one when the one before has failed or has taken a
/// quarter of a second, and returns the first connection; the other dials are dropped. Where that
/// would be too late for some, as connecting is to be over `within` this time, each has an equal part of it.
///
/// Cancel-safe: dropping the future drops all dials.
///
/// # Errors
///
/// The last failure, when all have failed; at most 16 addresses are tried.
pub(crate) async fn first<F>(
    addresses: Vec<SocketAddr>,
    within: Duration,
    mut dial: impl FnMut(SocketAddr) -> F,
) -> io::Result<Io>
where
    F: Future<Output = io::Result<Io>> + Send + 'static,
{
    let mut waiting = addresses.into_iter().take(MAX_TRIES);
    // At most sixteen, and at least one.
    let share = within / (waiting.len() as u32).max(1);
    let pause = share.min(STAGGER);
    let mut dials = JoinSet::new();
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "no address");
    loop {
        match waiting.next() {
            Some(address) => {
                dials.spawn(dial(address));
            }
            None if dials.is_empty() => return Err(failure),
            None => {}
        }
        let stagger = async {
            match waiting.len() {
                0 => std::future::pending().await,
                _ => tokio::time::sleep(pause).await,
            }
        };
        tokio::select! {
            biased;
            Some(ended) = dials.join_next() => match ended {
                Ok(Ok(io)) => return Ok(io),
                Ok(Err(error)) => failure = error,
                Err(error) => failure = io::Error::other(error),
            },
            () = stagger => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use tokio::time::Instant;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn families_take_turns_and_ipv6_begins() {
        let mixed = interleave(addresses(&[
            "1.1.1.1:1",
            "2.2.2.2:1",
            "[::1]:1",
            "3.3.3.3:1",
        ]));
        let expected = addresses(&["[::1]:1", "1.1.1.1:1", "2.2.2.2:1", "3.3.3.3:1"]);
        assert_eq!(mixed, expected);
        assert!(interleave(Vec::new()).is_empty());
    }

    #[test]
    fn the_family_of_the_preferred_address_begins() {
        for (given, expected) in [
            (
                &["1.1.1.1:1", "2.2.2.2:1", "[::1]:1"][..],
                &["1.1.1.1:1", "[::1]:1", "2.2.2.2:1"][..],
            ),
            (
                &["[::1]:1", "1.1.1.1:1", "[::2]:1"],
                &["[::1]:1", "1.1.1.1:1", "[::2]:1"],
            ),
            (
                &["1.1.1.1:1", "[::1]:1", "[::2]:1"],
                &["1.1.1.1:1", "[::1]:1", "[::2]:1"],
            ),
            (&["1.1.1.1:1", "2.2.2.2:1"], &["1.1.1.1:1", "2.2.2.2:1"]),
        ] {
            assert_eq!(in_turn(addresses(given)), addresses(expected));
        }
        assert!(in_turn(Vec::new()).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn silent_address_delays_by_a_quarter_second_and_a_refusal_not_at_all() {
        let begun = Instant::now();
        let dialled = Arc::new(Mutex::new(Vec::new()));
        let log = dialled.clone();
        let connection = first(
            addresses(&["1.1.1.1:1", "2.2.2.2:2", "3.3.3.3:3", "4.4.4.4:4"]),
            Duration::from_secs(10),
            move |address| {
                log.lock()
                    .unwrap()
                    .push((address.port(), begun.elapsed().as_millis()));
                async move {
                    match address.port() {
                        1 => std::future::pending().await,
                        2 => Err(io::ErrorKind::ConnectionRefused.into()),
                        _ => Ok(Io::boxed(tokio::io::duplex(1).0)),
                    }
                }
            },
        );
        connection.await.unwrap();
        assert_eq!(*dialled.lock().unwrap(), [(1, 0), (2, 250), (3, 250)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_time_is_shared_so_that_the_other_family_has_its_turn() {
        let within = Duration::from_millis(200);
        let begun = Instant::now();
        let dial = |address: SocketAddr| async move {
            match address.is_ipv6() {
                true => std::future::pending().await,
                false => Ok(Io::boxed(tokio::io::duplex(1).0)),
            }
        };
        let connecting = first(addresses(&["[::1]:1", "1.1.1.1:1"]), within, dial);
        let connected = tokio::time::timeout(within, connecting).await;
        connected.expect("in time").unwrap();
        assert_eq!(begun.elapsed(), Duration::from_millis(100));
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_failure_is_told_when_all_fail() {
        let refuse = |_| async { Err(io::ErrorKind::ConnectionRefused.into()) };
        let within = Duration::from_secs(10);
        let error = first(addresses(&["1.1.1.1:1", "2.2.2.2:2"]), within, refuse)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let error = first(Vec::new(), within, refuse).await.unwrap_err();
        assert_eq!(error.to_string(), "no address");
    }
}
