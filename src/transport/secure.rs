//! How a byte stream is made secure before HTTP is spoken over it.

use std::fmt;
use std::sync::Arc;

use http::Version;
use http::uri::Authority;
use thiserror::Error;

use super::connect::{Connecting, Io};
use crate::model::endpoint::Address;

/// Encrypts a stream that a [`Connect`](super::Connect) has opened.
///
/// It is a step of its own, behind connecting, so that whoever opens streams (sockets, a resolver, a
/// network in memory) need not know of it.
pub trait Secure: fmt::Debug + Send + Sync + 'static {
    /// Secures a stream to `address`, over which this version of HTTP will be spoken. An endpoint
    /// that is known by a [host name](crate::model::endpoint::Endpoint::hostname) has that here in the
    /// place of its IP address.
    ///
    /// What it takes counts against the
    /// [connect timeout](super::Settings::connect_timeout); the future is dropped when that has
    /// passed.
    ///
    /// # Errors
    ///
    /// Why the peer is not believed, or that the stream broke. There is no way back to plaintext:
    /// the connection is not made then. If this side has nothing to show, the inner error is
    /// [`Unprepared`].
    fn secure(&self, io: Io, address: &Address, version: Version) -> Connecting;
}

/// An endpoint by what it is secured as: its host name, or its address if it has none.
pub(crate) fn known_as(address: &Address, hostname: Option<&Arc<Authority>>) -> Address {
    let Some(name) = hostname else {
        return address.clone();
    };
    let own = match address {
        Address::Name { port, .. } => *port,
        Address::Several(all) => all.first().port(),
        Address::Socket(one) => one.port(),
        Address::Unix(_) => 0,
    };
    Address::Name {
        host: name.host().into(),
        port: name.port_u16().unwrap_or(own),
    }
}

/// This side lacks what it would have to show the peer: an identity, or one that is still valid.
///
/// It is the inner error of the [`io::Error`](std::io::Error) that [`Secure::secure`] yields, and says
/// nothing about the endpoint: see [`is_exhausted`](super::is_exhausted).
#[derive(Clone, Debug, Error)]
#[error("{0}")]
pub struct Unprepared(Arc<str>);

impl Unprepared {
    /// What is lacking.
    #[must_use]
    pub fn new(why: impl Into<Arc<str>>) -> Self {
        Self(why.into())
    }
}
