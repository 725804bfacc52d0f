//! What an error says: what failed, where, and what to do.

use std::fmt;

use super::{Error, Kind, Limit, Whose};

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.inner.kind {
            Kind::Body => f.write_str("the message body broke off")?,
            Kind::NoRoute { authority } => write!(
                f,
                "no route for {authority}: no virtual host and route of the mesh match the request"
            )?,
            Kind::Blocked { authority } => write!(
                f,
                "{authority} is not in the registry and outboundTrafficPolicy REGISTRY_ONLY forbids \
                 to pass it through; add a Service or ServiceEntry, or set ALLOW_ANY"
            )?,
            Kind::Discovery { why } => write!(f, "not discovered: {why}")?,
            Kind::NoCluster => f.write_str("the route's cluster does not exist")?,
            Kind::NoEndpoint => f.write_str("no healthy endpoint")?,
            Kind::Connect => f.write_str("could not connect")?,
            Kind::Secure => f.write_str("could not secure the connection")?,
            Kind::ConnectTimeout { after } => write!(f, "could not connect within {after:?}")?,
            Kind::Reset => f.write_str("the connection broke before the response")?,
            Kind::Refused => f.write_str("the peer refused the request unseen")?,
            Kind::Overflow { limit } => {
                let (noun, field) = match limit {
                    Limit::Connections => ("connections", "connectionPool.tcp.maxConnections"),
                    Limit::Pending => (
                        "pending requests",
                        "connectionPool.http.http1MaxPendingRequests",
                    ),
                    Limit::Requests => ("requests", "connectionPool.http.http2MaxRequests"),
                    Limit::Retries => ("retries", "connectionPool.http.maxRetries"),
                };
                write!(f, "overflow: the limit of {noun} is reached")?;
                // A limit that nobody wrote down says what it is as the cause.
                if self.inner.cause.is_none() {
                    write!(f, " ({field})")?;
                }
            }
            Kind::Timeout {
                after,
                whose: Whose::Route,
            } => {
                write!(f, "no response within the route's timeout of {after:?}")?;
            }
            Kind::Timeout {
                after,
                whose: Whose::Layer,
            } => {
                write!(f, "no response within the timeout of {after:?}")?;
            }
            Kind::Timeout {
                after,
                whose: Whose::Caller,
            } => {
                write!(f, "no response within the caller's deadline of {after:?}")?;
            }
            Kind::PerTryTimeout { after } => {
                write!(f, "no response within the per-try timeout of {after:?}")?;
            }
            Kind::Idle { after } => write!(f, "no byte moved for {after:?}")?,
            Kind::RateLimited { wait, .. } => write!(
                f,
                "the local rate limit is exhausted; the next request may pass in {wait:?}"
            )?,
            Kind::Dropped { category } => write!(
                f,
                "not sent: the control plane wants a share of the requests dropped (category \
                 {category:?})"
            )?,
            Kind::Throttled => f.write_str(
                "not sent: so many recent requests failed that admission control rejects a share \
                 of them on this side",
            )?,
            Kind::Inner => f.write_str("the inner service failed")?,
            Kind::Fault { status, grpc: None } => write!(f, "injected fault: HTTP {status}")?,
            Kind::Fault {
                grpc: Some(code), ..
            } => {
                write!(f, "injected fault: gRPC status {code}")?;
            }
            Kind::Draining => f.write_str("the mesh is shutting down")?,
            Kind::Upgrade { why } => write!(f, "the protocol was not switched: {why}")?,
            Kind::UpgradeForbidden { protocol } => write!(
                f,
                "the route does not let requests switch to {protocol:?}; Istio's routes allow \
                 websocket only"
            )?,
            // Envoy's words, and all that a caller is told.
            Kind::Denied => f.write_str("RBAC: access denied")?,
            Kind::Ambiguous { why } => write!(f, "the request is ambiguous: {why}")?,
            Kind::Request { why } => write!(f, "the request cannot be sent: {why}")?,
            Kind::Config { text } => f.write_str(text)?,
        }
        if let Some(cluster) = &self.inner.place.cluster {
            write!(f, " (cluster {cluster}")?;
            if let Some(endpoint) = &self.inner.place.endpoint {
                write!(f, ", endpoint {endpoint}")?;
            }
            if self.inner.attempts > 1 {
                write!(f, ", after {} tries", self.inner.attempts)?;
            }
            f.write_str(")")?;
        }
        Ok(())
    }
}
