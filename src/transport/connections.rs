//! The front door: an endpoint's connections.

use std::fmt;
use std::sync::{Arc, OnceLock};

use http::uri::Authority;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;

use super::connect::Connect;
use super::failure::{Sent, Unanswered, classify};
use super::gate::Gate;
use super::lease::{Lease, Returned};
use super::outgoing::Held;
use super::reach::{Means, Reach, Stand};
use super::remote::Remote;
use super::request::prepare;
use super::response::{Guard, guarded};
use super::secure::Secure;
use super::upgrade::{Handshake, switched};
use super::{Http, Settings};
use crate::body::Body;
use crate::error::{Error, Kind};
use crate::model::endpoint::Address;

/// How often a request that was not sent is tried on another connection. Connections that break
/// are found out by their drivers, so one try is nearly always enough; the bound is for a peer
/// that closes each connection as soon as it is made.
const RESENDS: usize = 3;

/// The connections to one endpoint.
///
/// Shared by `Arc` among all requests. When the last `Arc` is dropped, it is
/// [closed](Self::close).
pub struct Connections {
    address: Address,
    peer: Peer,
}

/// A function that answers requests in place of a peer.
pub type Answer = Arc<dyn Fn(Request<Body>) -> Response<Body> + Send + Sync>;

enum Peer {
    // Behind one pointer more, since nobody has many of them and of the others there are many.
    Answer(Arc<Stand>),
    Remote {
        means: Arc<Means>,
        /// The keeping of connections, made when there is something to keep: most endpoints of a
        /// large cluster never get a request from one process.
        made: OnceLock<Arc<Remote>>,
    },
}

/// What an endpoint's connections are doing. All zero for [`Connections::answering`].
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub struct Stats {
    /// Requests under way: from the moment they have a connection until their response has ended.
    pub active: usize,
    /// Connections that are up, those that only finish their last requests among them.
    pub connections: usize,
    /// Connections that are being made.
    pub dialling: usize,
    /// How many connections were ever begun.
    pub dials: u64,
    /// HTTP/1.1 connections without a request.
    pub idle: usize,
    /// Requests that wait for a connection.
    pub pending: usize,
    /// Tasks: one for each connection, and one for each HTTP/2 stream that waits for the head of
    /// its response or is still sending its request.
    pub tasks: usize,
}

impl Connections {
    /// The connections to `address`; none is made before the first request.
    ///
    /// `gate` is asked for permits of the cluster's limits; [`Unlimited`](super::Unlimited) has
    /// none.
    #[must_use]
    pub fn new(
        address: Address,
        settings: Arc<Settings>,
        connector: Arc<dyn Connect>,
        gate: Arc<dyn Gate>,
    ) -> Arc<Self> {
        Self::secured(address, settings, connector, gate, None)
    }

    /// As [`new`](Self::new), with connections that are secured by `security` before any request
    /// goes over them; `None`: they are not.
    #[must_use]
    pub fn secured(
        address: Address,
        settings: Arc<Settings>,
        connector: Arc<dyn Connect>,
        gate: Arc<dyn Gate>,
        security: Option<Arc<dyn Secure>>,
    ) -> Arc<Self> {
        let means = Means {
            cluster: Arc::default(),
            hostname: None,
            settings,
            connector,
            gate,
            security,
        };
        Arc::new(Self::by(address, &Reach::Remote(Arc::new(means))))
    }

    /// The connections to `address`, which is reached as others are.
    pub(crate) fn by(address: Address, reach: &Reach) -> Self {
        let peer = match reach {
            Reach::Answer(stand) => Peer::Answer(stand.clone()),
            Reach::Remote(means) => Peer::Remote {
                means: means.clone(),
                made: OnceLock::new(),
            },
        };
        Self { address, peer }
    }

    /// An endpoint without a peer: `answer` makes each response. It is the bottom rung of the
    /// benchmarks' ladder and a stand-in for tests; requests reach it as they were made.
    ///
    /// ```
    /// use std::sync::{Arc, OnceLock};
    /// use http::{Request, Response};
    /// use meshwork::Body;
    /// use meshwork::transport::Connections;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let endpoint = Connections::answering(Arc::new(|_request| Response::new(Body::from("hello"))));
    /// let response = endpoint.send(Request::new(Body::empty()), ()).await.unwrap();
    /// assert_eq!(response.status(), 200);
    /// # }
    /// ```
    #[must_use]
    pub fn answering(answer: Answer) -> Arc<Self> {
        let nowhere = Address::Name {
            host: Arc::default(),
            port: 0,
        };
        let stand = Stand {
            cluster: Arc::default(),
            hostname: None,
            secured: false,
            answer,
        };
        Arc::new(Self::by(nowhere, &Reach::Answer(Arc::new(stand))))
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// The name of the cluster; empty for connections of none.
    pub(crate) fn cluster(&self) -> &Arc<str> {
        match &self.peer {
            Peer::Answer(stand) => &stand.cluster,
            Peer::Remote { means, .. } => &means.cluster,
        }
    }

    pub(crate) fn hostname(&self) -> Option<&Arc<Authority>> {
        match &self.peer {
            Peer::Answer(stand) => stand.hostname.as_ref(),
            Peer::Remote { means, .. } => means.hostname.as_ref(),
        }
    }

    /// Whether they are encrypted, or would be if there were any.
    pub(crate) fn are_secured(&self) -> bool {
        match &self.peer {
            Peer::Answer(stand) => stand.secured,
            Peer::Remote { means, .. } => means.security.is_some(),
        }
    }

    /// The keeping of connections, from now on if there was none.
    fn remote<'a>(&self, means: &Arc<Means>, made: &'a OnceLock<Arc<Remote>>) -> &'a Arc<Remote> {
        made.get_or_init(|| Arc::new(Remote::new(self.address.clone(), means.clone())))
    }

    /// The keeping of connections, if there is something to keep.
    fn kept(&self) -> Option<&Arc<Remote>> {
        match &self.peer {
            Peer::Answer(_) => None,
            Peer::Remote { made, .. } => made.get(),
        }
    }

    /// Sends `request` and returns the head of its response; `guard` lives in the response's body
    /// and hears how that ended.
    ///
    /// The request is made fit for the version of HTTP that it goes by: HTTP/1.1 gets `Host` and a
    /// path, HTTP/2 a scheme and an authority, and headers for one hop (`connection`, `te` other
    /// than `trailers`, ...) are removed. There is no timeout but that of connecting.
    ///
    /// A request that asks to [switch protocols](super::upgrade) may be answered with 101, and its
    /// stream is then in the response. The body of one with `Expect: 100-continue` is held back over
    /// HTTP/1.1 until the peer asks for it, answers, or has said nothing for a second
    /// (RFC 9110 §10.1.1); over HTTP/2, where hyper tells nothing of 1xx answers, it is not.
    ///
    /// Must be polled within a tokio runtime, whose tasks then own the connection.
    ///
    /// # Errors
    ///
    /// [`Unanswered`] with an error that
    /// [is overloaded](Error::is_overloaded): a limit of the gate is reached;
    /// [is connect](Error::is_connect): no connection could be made;
    /// [is draining](Error::is_draining): closed;
    /// [is reset](Error::is_reset): the connection broke or the peer refused the stream;
    /// [is body](Error::is_body): the request's body failed.
    /// [is upgrade](Error::is_upgrade): the peer takes no upgrade over HTTP/2.
    /// A request without authority and `Host`, or with method CONNECT, cannot be sent.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future resets the stream, or closes the HTTP/1.1 connection, gives back its
    /// place among those who wait and drops `guard`. The request may have been processed.
    pub async fn send<G: Guard>(
        &self,
        mut request: Request<Body>,
        guard: G,
    ) -> Result<Response<Body>, Unanswered> {
        match self.exchange(&mut request).await {
            Ok(answered) => Ok(answered.guarded(guard)),
            Err(Lost { error, unsent }) => Err(Unanswered {
                error,
                unsent: unsent.then_some(request),
            }),
        }
    }

    /// Sends a request that stays in its place until it leaves, so that futures around this one
    /// need not carry it; what is left there has no meaning, unless the request is
    /// [unsent](Lost::unsent). Otherwise as [`send`](Self::send).
    pub(crate) async fn exchange(&self, request: &mut Request<Body>) -> Result<Answered, Lost> {
        match &self.peer {
            Peer::Answer(stand) => {
                let response = (stand.answer)(std::mem::take(request));
                Ok(Answered::new(Answerer::Function(response)))
            }
            Peer::Remote { means, made } => exchange(self.remote(means, made), request).await,
        }
    }

    /// Replaces the connections that there are: they finish their requests and take no more, and the
    /// next request gets a connection of its own time. It is for rotations of an identity.
    pub fn renew(&self) {
        if let Some(remote) = self.kept() {
            remote.renew();
        }
    }

    /// Keeps no connection any longer than a request needs it: what an endpoint becomes when an edit
    /// takes it out of its cluster. Idle connections close at once, busy ones when their last
    /// response has ended. Requests that wait for one, or that still come from somebody who chose
    /// this endpoint before the edit, are served, by connections of their own. Doing so again
    /// changes nothing.
    pub fn retire(&self) {
        match &self.peer {
            Peer::Answer(_) => {}
            Peer::Remote { means, made } => self.remote(means, made).retire(),
        }
    }

    /// Takes no more requests. Idle connections close at once, busy ones when their last response
    /// has ended; requests that wait for a connection come back unsent, with an error that
    /// [is draining](Error::is_draining). Doing so again changes nothing.
    pub fn close(&self) {
        match &self.peer {
            Peer::Answer(_) => {}
            Peer::Remote { means, made } => self.remote(means, made).close(),
        }
    }

    /// What the connections are doing at this moment. Takes a lock: not for the path of a request.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let stats = self.kept().map(|remote| remote.stats());
        stats.unwrap_or_default()
    }
}

async fn exchange(remote: &Arc<Remote>, request: &mut Request<Body>) -> Result<Answered, Lost> {
    let http = Http::of(remote.means.settings.protocol, request);
    let handshake = Handshake::of(request);
    prepare(request, http, handshake.as_ref())
        .map_err(|why| Lost::unsent(Error::new(Kind::Request { why })))?;
    let held = Held::of(request, http);
    let mut resends = 0;
    let lost = loop {
        let mut lease = match remote.lease(http).await {
            Ok(lease) => lease,
            Err(failure) => break Lost::unsent(failure.into()),
        };
        if handshake.is_some() && !lease.may_switch() {
            let why = "the endpoint takes no extended CONNECT over HTTP/2 (RFC 8441)";
            break Lost::unsent(Error::new(Kind::Upgrade { why }));
        }
        match lease.exchange(request, held.as_ref()).await {
            Ok(response) => return answered(response, lease, handshake, http),
            Err(Returned { unsent: true, .. }) if resends < RESENDS => resends += 1,
            Err(Returned { error, unsent }) => {
                let sent = if unsent { Sent::No } else { Sent::Perhaps };
                let error = classify(error, sent);
                break Lost { error, unsent };
            }
        }
    };
    if let (Some(handshake), true) = (&handshake, lost.unsent) {
        handshake.restore(request);
    }
    Err(lost)
}

/// Ties the response, or the stream that it switched to, to what it keeps alive.
fn answered(
    mut response: Response<Incoming>,
    lease: Lease,
    handshake: Option<Handshake>,
    http: Http,
) -> Result<Answered, Lost> {
    match handshake {
        Some(handshake) if handshake.completed(&mut response, http) => {
            Ok(Answered::new(Answerer::Switched(response, lease)))
        }
        None if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
            let error = Error::new(Kind::Reset).caused_by("it switched protocols unasked");
            let unsent = false;
            Err(Lost { error, unsent })
        }
        Some(_) | None => Ok(Answered::new(Answerer::Peer(response, lease))),
    }
}

/// A response whose head has come, with what its connection has to keep.
pub(crate) struct Answered {
    by: Answerer,
}

enum Answerer {
    Function(Response<Body>),
    Peer(Response<Incoming>, Lease),
    /// The connection speaks another protocol from here on.
    Switched(Response<Incoming>, Lease),
}

impl Answered {
    fn new(by: Answerer) -> Self {
        Self { by }
    }

    /// The response, in whose body `guard` lives from here on.
    pub(crate) fn guarded<G: Guard>(self, guard: G) -> Response<Body> {
        match self.by {
            Answerer::Function(response) => guarded(response, None, guard),
            Answerer::Peer(response, lease) => guarded(response, Some(lease), guard),
            Answerer::Switched(response, lease) => switched(response, lease, guard),
        }
    }
}

/// No response came.
#[derive(Debug)]
pub(crate) struct Lost {
    pub(crate) error: Error,
    /// Whether the request is in its place as it was: no byte of it left this process and nothing
    /// of its body was read.
    pub(crate) unsent: bool,
}

impl Lost {
    fn unsent(error: Error) -> Self {
        Self {
            error,
            unsent: true,
        }
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        if let Some(remote) = self.kept() {
            remote.close();
        }
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.peer {
            Peer::Answer(_) => f.write_str("Connections(answering)"),
            Peer::Remote { .. } => f
                .debug_struct("Connections")
                .field("address", &self.address)
                .field("stats", &self.stats())
                .finish(),
        }
    }
}
