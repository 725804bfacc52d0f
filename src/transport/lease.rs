//! A request's place on a connection, from the moment it is granted until the response ended.

use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;

use super::Http;
use super::failure::Sent;
use super::outgoing::{Held, Outgoing, Upload};
use super::remote::Remote;
use super::slot::Slot;
use super::wire::Sender;
use crate::body::Body;

/// A place on a connection. Dropping it gives the place back: an HTTP/2 stream ends alone, an
/// HTTP/1.1 connection ends with its request unless that was [complete](Self::complete) or never
/// sent.
#[derive(Debug)]
pub(super) struct Lease {
    remote: Arc<Remote>,
    slot: Arc<Slot>,
    http: Http,
    /// An HTTP/1.1 connection's only sender comes back to the endpoint with the lease. A copy of
    /// an HTTP/2 connection's is dropped once it is used: a connection closes when no sender and
    /// no stream is left.
    sender: Option<Sender>,
    upload: Option<Upload>,
    sent: Sent,
}

/// A request that got no response.
#[derive(Debug)]
pub(super) struct Returned {
    pub(super) error: hyper::Error,
    /// Whether nothing of the request was sent, which then is where it was.
    pub(super) unsent: bool,
}

impl Lease {
    /// A place that [`Slot::enter`] has just granted.
    pub(super) fn new(remote: Arc<Remote>, slot: Arc<Slot>, sender: Sender) -> Self {
        let http = match &sender {
            Sender::One(_) => Http::One,
            Sender::Two(_) => Http::Two,
        };
        Self {
            remote,
            slot,
            http,
            sender: Some(sender),
            upload: None,
            sent: Sent::No,
        }
    }

    pub(super) fn slot(&self) -> &Slot {
        &self.slot
    }

    /// The request that is sent next may switch the connection to another protocol. False if the
    /// peer takes no such request.
    pub(super) fn may_switch(&self) -> bool {
        match self.http {
            Http::One => {
                self.slot.set_switching(true);
                true
            }
            Http::Two => self.slot.takes_tunnels(),
        }
    }

    /// Sends the request that is in this place and waits for the head of its response. Dropping the
    /// future, and then the lease, resets the stream or closes the connection.
    pub(super) async fn exchange(
        &mut self,
        request: &mut Request<Body>,
        held: Option<&Held>,
    ) -> Result<Response<Incoming>, Returned> {
        let outcome = match &mut self.sender {
            Some(Sender::One(sender)) => {
                // The response before was read to its end; the connection may yet have to notice.
                if !sender.is_ready()
                    && let Err(error) = sender.ready().await
                {
                    self.end();
                    let unsent = true;
                    return Err(Returned { error, unsent });
                }
                self.sent = Sent::Perhaps;
                let sending = sender.try_send_request(outgoing(request, held, &mut self.upload));
                sending.await
            }
            Some(Sender::Two(sender)) => {
                let sending = sender.try_send_request(outgoing(request, held, &mut self.upload));
                self.sent = Sent::Perhaps;
                self.sender = None;
                sending.await
            }
            None => unreachable!(
                "`new` fills it and only this method, which is called once, empties it"
            ),
        };
        outcome.map_err(|error| self.returned(error, request))
    }

    /// Puts a request that was not sent back into its place.
    fn returned(
        &mut self,
        mut error: TrySendError<Request<Outgoing>>,
        request: &mut Request<Body>,
    ) -> Returned {
        let unsent = error.take_message();
        self.end();
        Returned {
            error: error.into_error(),
            unsent: match unsent {
                Some(outgoing) => {
                    // The connection is over. Its driver may take a while to see that, and until then
                    // the request would find this one again and again.
                    self.remote.unlink(&self.slot);
                    *request = outgoing.map(Outgoing::into_body);
                    true
                }
                None => false,
            },
        }
    }

    /// The response was read to its end: an HTTP/1.1 connection can carry the next request,
    /// unless this request's body is still on its way.
    pub(super) fn complete(mut self) {
        let uploaded = self.upload.as_ref().is_none_or(Upload::is_closed);
        if uploaded && let Some(Sender::One(_)) = &self.sender {
            self.sent = Sent::No;
        }
    }

    /// Ends the connection of an HTTP/1.1 request with it.
    fn end(&mut self) {
        self.sent = Sent::Perhaps;
    }
}

/// The request as it leaves; its place is empty then.
fn outgoing(
    request: &mut Request<Body>,
    held: Option<&Held>,
    upload: &mut Option<Upload>,
) -> Request<Outgoing> {
    if let Some(held) = held {
        held.listen(request);
    }
    std::mem::take(request).map(|body| {
        let (body, leash) = Outgoing::new(body, held);
        *upload = leash;
        body
    })
}

impl Drop for Lease {
    fn drop(&mut self) {
        match (self.http, self.sender.take(), self.sent) {
            (Http::One, Some(sender), Sent::No) => self.remote.give_back(sender, &self.slot),
            (Http::One, sender, Sent::No | Sent::Perhaps) => {
                self.slot.abort();
                self.slot.leave();
                drop(sender);
            }
            (Http::Two, sender, Sent::No | Sent::Perhaps) => {
                drop(sender);
                self.slot.leave();
                self.remote.stream_ended();
            }
        }
    }
}
