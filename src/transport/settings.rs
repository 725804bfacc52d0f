//! How connections are made and kept, and which version of HTTP a request goes by.

use std::time::Duration;

use http::{Request, Version, header};

use crate::model::cluster::{Connection, Discovery, Families, Protocol};

/// How connections to the endpoints of a cluster are made and kept.
///
/// Settings do not change under a connection: when a cluster's are edited, its endpoints get new
/// [`Connections`](super::Connections) and the old ones are
/// [retired](super::Connections::retire).
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Settings {
    /// Which protocol is spoken.
    pub protocol: Protocol,
    /// How long connecting may take, for HTTP/2 until the peer's SETTINGS have arrived
    /// (`connectionPool.tcp.connectTimeout`, Istio's default is 10 s).
    pub connect_timeout: Duration,
    /// Which addresses of an endpoint that is a name are dialled.
    pub families: Families,
    /// How connections are kept.
    pub connection: Connection,
}

/// A version of HTTP on the wire.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Http {
    One,
    Two,
}

impl Http {
    /// As the `http` crate writes it.
    pub(super) fn version(self) -> Version {
        match self {
            Self::One => Version::HTTP_11,
            Self::Two => Version::HTTP_2,
        }
    }

    /// The version in which `request` is sent.
    pub(super) fn of<B>(protocol: Protocol, request: &Request<B>) -> Self {
        match protocol {
            Protocol::Http1 => Self::One,
            Protocol::Http2 => Self::Two,
            Protocol::SameAsRequest if request.version() == Version::HTTP_2 => Self::Two,
            Protocol::SameAsRequest => {
                let content = request.headers().get(header::CONTENT_TYPE);
                match content.is_some_and(|value| is_grpc(value.as_bytes())) {
                    true => Self::Two,
                    false => Self::One,
                }
            }
        }
    }
}

/// gRPC (`application/grpc`, `application/grpc+proto`) exists on HTTP/2 only. gRPC-Web goes as it
/// came.
fn is_grpc(content: &[u8]) -> bool {
    content
        .strip_prefix(b"application/grpc")
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

impl From<&crate::model::Cluster> for Settings {
    fn from(cluster: &crate::model::Cluster) -> Self {
        Self {
            protocol: cluster.protocol,
            connect_timeout: cluster.connect_timeout,
            families: match &cluster.discovery {
                Discovery::Dns(dns) => dns.families,
                Discovery::Aggregate(_)
                | Discovery::Endpoints(_)
                | Discovery::OnDemand { .. }
                | Discovery::Passthrough => Families::Both,
            },
            connection: cluster.connection.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_as_request_sends_grpc_and_http2_as_http2_and_the_rest_as_http1() {
        for (row, version, content, expected) in [
            ("plain", Version::HTTP_11, "text/plain", Http::One),
            ("HTTP/2", Version::HTTP_2, "text/plain", Http::Two),
            (
                "gRPC",
                Version::HTTP_11,
                "application/grpc+proto",
                Http::Two,
            ),
            (
                "gRPC-Web",
                Version::HTTP_11,
                "application/grpc-web",
                Http::One,
            ),
        ] {
            let request = Request::builder()
                .version(version)
                .header("content-type", content)
                .body(())
                .unwrap();
            assert_eq!(
                Http::of(Protocol::SameAsRequest, &request),
                expected,
                "{row}"
            );
            assert_eq!(Http::of(Protocol::Http1, &request), Http::One, "{row}");
            assert_eq!(Http::of(Protocol::Http2, &request), Http::Two, "{row}");
        }
    }
}
