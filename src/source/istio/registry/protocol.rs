//! What is spoken on a port: `appProtocol`, else the prefix of the port's name.

/// What a port speaks, as far as a client must know.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(in crate::source::istio) enum PortProtocol {
    /// HTTP/1.1.
    Http,
    /// HTTP/2 or gRPC.
    Http2,
    /// Bytes that HTTP rules do not apply to (TCP, TLS, HTTPS, databases).
    Tcp,
    /// UDP or SCTP, which no request can be sent to.
    Udp,
    /// Not said; Envoy would sniff. Requests are sent as they were made.
    Unknown,
}

/// Ports that are TCP when nothing is said: SMTP, DNS, MySQL, MongoDB (Istio's list).
const WELL_KNOWN_TCP: [u16; 4] = [25, 53, 3_306, 27_017];

impl PortProtocol {
    /// The protocol of a Kubernetes service port.
    pub(super) fn of_service_port(
        number: u16,
        name: &str,
        application: Option<&str>,
        transport: Option<&str>,
    ) -> Self {
        if transport.is_some_and(|transport| !transport.eq_ignore_ascii_case("tcp")) {
            return Self::Udp;
        }
        let said = application.unwrap_or(name).to_ascii_lowercase();
        let parsed = match said.as_str() {
            "kubernetes.io/h2c" => Self::Http2,
            "kubernetes.io/ws" => Self::Http,
            "kubernetes.io/wss" => Self::Tcp,
            name if name == "grpc-web" || name.starts_with("grpc-web-") => Self::Http2,
            name => Self::named(name.split('-').next().unwrap_or(name)),
        };
        if parsed == Self::Unknown && WELL_KNOWN_TCP.contains(&number) {
            Self::Tcp
        } else {
            parsed
        }
    }

    /// The protocol that a `ServiceEntry` port names.
    pub(super) fn of_entry_port(protocol: Option<&str>) -> Self {
        protocol.map_or(Self::Unknown, |name| {
            Self::named(&name.to_ascii_lowercase())
        })
    }

    fn named(name: &str) -> Self {
        match name {
            "http" => Self::Http,
            "http2" | "grpc" | "grpc-web" => Self::Http2,
            "https" | "tls" | "tcp" | "mongo" | "mysql" | "redis" | "hbone" => Self::Tcp,
            "udp" => Self::Udp,
            _ => Self::Unknown,
        }
    }

    /// Whether the `http` rules of a VirtualService apply.
    pub(in crate::source::istio) fn routes_http(self) -> bool {
        match self {
            Self::Http | Self::Http2 | Self::Unknown => true,
            Self::Tcp | Self::Udp => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocol_of_a_service_port() {
        use PortProtocol::{Http, Http2, Tcp, Udp, Unknown};
        let rows = [
            ("name alone", 80, "http", None, None, Http),
            (
                "prefix before the hyphen",
                80,
                "grpc-api",
                None,
                None,
                Http2,
            ),
            ("grpc-web is one word", 80, "grpc-web-x", None, None, Http2),
            ("any case", 80, "HTTP2", None, None, Http2),
            (
                "appProtocol has priority",
                80,
                "tcp",
                Some("http"),
                None,
                Http,
            ),
            ("h2c", 80, "x", Some("kubernetes.io/h2c"), None, Http2),
            ("ws", 80, "x", Some("kubernetes.io/ws"), None, Http),
            ("wss", 80, "x", Some("kubernetes.io/wss"), None, Tcp),
            ("https is opaque", 443, "https", None, None, Tcp),
            ("no prefix", 80, "web", None, None, Unknown),
            ("httpx is not http", 80, "httpx", None, None, Unknown),
            ("well-known", 3_306, "db", None, None, Tcp),
            ("transport", 80, "http", None, Some("UDP"), Udp),
        ];
        for (row, number, name, application, transport, expected) in rows {
            let found = PortProtocol::of_service_port(number, name, application, transport);
            assert_eq!(found, expected, "{row}");
        }
        assert_eq!(PortProtocol::of_entry_port(Some("GRPC-Web")), Http2);
        assert_eq!(PortProtocol::of_entry_port(None), Unknown);
    }
}
