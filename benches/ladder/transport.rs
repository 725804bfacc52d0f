//! The mesh's connections to one endpoint, without a mesh around them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use meshwork::Body;
use meshwork::model::cluster::{Connection, Families, Protocol};
use meshwork::model::endpoint::Address;
use meshwork::transport::{Connect, Connections, Settings, TcpConnector, Unlimited};

use crate::call::{Client, RequestBody};
use crate::wire::{self, Memory, Speaks};

/// Calls over one endpoint's connections.
pub(crate) struct Direct(Arc<Connections>);

impl Client for Direct {
    type Body = Body;

    async fn call(&mut self, request: Request<RequestBody>) -> Response<Body> {
        let response = self.0.send(request.map(Body::new), ()).await;
        response.expect("nothing on the ladder fails")
    }
}

impl Direct {
    /// To the endpoint that answers at once.
    pub(crate) fn answering() -> Self {
        let answer = |_: Request<Body>| wire::message().map(Body::from);
        Self(Connections::answering(Arc::new(answer)))
    }

    pub(crate) fn in_memory(speaks: Speaks) -> Self {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
        Self::new(nowhere, Memory { speaks, tls: None }, speaks)
    }

    pub(crate) fn tcp(address: SocketAddr) -> Self {
        Self::new(address, TcpConnector, Speaks::Http2)
    }

    fn new(address: SocketAddr, connector: impl Connect, speaks: Speaks) -> Self {
        let settings = Settings {
            protocol: match speaks {
                Speaks::Http1 => Protocol::Http1,
                Speaks::Http2 => Protocol::Http2,
            },
            connect_timeout: Duration::from_secs(10),
            families: Families::Both,
            connection: Connection::default(),
        };
        Self(Connections::new(
            Address::from(address),
            Arc::new(settings),
            Arc::new(connector),
            Arc::new(Unlimited),
        ))
    }
}
