//! Listeners for Envoy, which has none by itself: an address, and the routes of one port number.
//!
//! Applications send their requests to such a listener and name the service that they mean as the
//! authority. Which listeners there are is nobody's business but the operator's, so they are
//! declared, and a wildcard subscription of an Envoy gets these and never the API listeners of gRPC.

use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::listener::v3 as listener;
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::google::protobuf::Any;
use prost::Message as _;
use thiserror::Error;

use super::kind::Kind;
use super::resource::Encoded;
use super::view::encoded;

/// A listener that Envoys open.
///
/// ```
/// use meshwork::control::Egress;
///
/// let egress: Egress = "127.0.0.1:15001".parse()?;
/// assert_eq!(egress.port, 80);
/// let egress: Egress = "127.0.0.1:15002=8080".parse()?;
/// assert_eq!(egress.port, 8080);
/// # Ok::<(), meshwork::control::InvalidEgress>(())
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Egress {
    /// Where it listens.
    pub address: SocketAddr,
    /// Whose routes it has: those of all services with this port.
    pub port: u16,
}

/// Why a text is no [`Egress`].
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error(
    "{0:?} is no listener: expected ADDRESS:PORT or ADDRESS:PORT=SERVICEPORT, such as 127.0.0.1:15001=80"
)]
pub struct InvalidEgress(Box<str>);

impl FromStr for Egress {
    type Err = InvalidEgress;

    fn from_str(text: &str) -> Result<Self, InvalidEgress> {
        let (address, port) = text.split_once('=').unwrap_or((text, "80"));
        match (address.parse(), port.parse()) {
            (Ok(address), Ok(port)) if port > 0 => Ok(Self { address, port }),
            _ => Err(InvalidEgress(text.into())),
        }
    }
}

impl Egress {
    pub(super) fn encode(self) -> Encoded {
        let name = format!("egress_{}_{}", self.address.ip(), self.address.port());
        let message = self.message(&name);
        encoded(Kind::Listener, name.into(), &message.encode_to_vec())
    }

    /// Its routes where no service has its port. Envoy opens none of its first listeners before the routes of all
    /// are there, and an Envoy of the delta variant waits for ever for those of which it is told that they are
    /// not.
    pub(super) fn no_routes(self) -> Encoded {
        let message = RouteConfiguration {
            name: self.port.to_string(),
            ..Default::default()
        };
        let name = Arc::from(&*message.name);
        encoded(Kind::Routes, name, &message.encode_to_vec())
    }

    fn message(self, name: &str) -> listener::Listener {
        let manager = self.manager(name).encode_to_vec();
        let message = "network.http_connection_manager.v3.HttpConnectionManager";
        listener::Listener {
            name: name.into(),
            address: Some(socket_address(self.address)),
            filter_chains: vec![listener::FilterChain {
                filters: vec![filter(message, manager)],
                ..Default::default()
            }],
            traffic_direction: core::TrafficDirection::Outbound as i32,
            ..Default::default()
        }
    }

    fn manager(self, name: &str) -> hcm::HttpConnectionManager {
        hcm::HttpConnectionManager {
            stat_prefix: name.into(),
            route_specifier: Some(hcm::http_connection_manager::RouteSpecifier::Rds(
                hcm::Rds {
                    config_source: Some(ads()),
                    route_config_name: self.port.to_string(),
                },
            )),
            http_filters: vec![
                http_filter("envoy.filters.http.fault", "http.fault.v3.HTTPFault"),
                http_filter("envoy.filters.http.router", "http.router.v3.Router"),
            ],
            ..Default::default()
        }
    }
}

/// The stream that the listener itself comes by.
pub(super) fn ads() -> core::ConfigSource {
    core::ConfigSource {
        resource_api_version: core::ApiVersion::V3 as i32,
        config_source_specifier: Some(core::config_source::ConfigSourceSpecifier::Ads(
            core::AggregatedConfigSource::default(),
        )),
        ..Default::default()
    }
}

pub(super) fn socket_address(address: SocketAddr) -> core::Address {
    core::Address {
        address: Some(core::address::Address::SocketAddress(core::SocketAddress {
            address: address.ip().to_string(),
            port_specifier: Some(core::socket_address::PortSpecifier::PortValue(
                address.port().into(),
            )),
            ..Default::default()
        })),
    }
}

/// The last filter of a chain, which is the only one.
pub(super) fn filter(message: &str, value: Vec<u8>) -> listener::Filter {
    listener::Filter {
        name: message.into(),
        config_type: Some(listener::filter::ConfigType::TypedConfig(any(
            &format!("filters.{message}"),
            value,
        ))),
    }
}

pub(super) fn http_filter(name: &str, message: &str) -> hcm::HttpFilter {
    hcm::HttpFilter {
        name: name.into(),
        config_type: Some(hcm::http_filter::ConfigType::TypedConfig(any(
            &format!("filters.{message}"),
            Vec::new(),
        ))),
        ..Default::default()
    }
}

/// A message of Envoy's extensions.
pub(super) fn any(message: &str, value: Vec<u8>) -> Any {
    Any {
        type_url: format!("type.googleapis.com/envoy.extensions.{message}"),
        value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_has_its_address_and_the_routes_of_a_port() {
        let egress: Egress = "[::1]:15001=8080".parse().expect("a listener");
        let encoded = egress.encode();
        assert_eq!(&**encoded.name(), "egress_::1_15001");
        assert_eq!(encoded.references(), [(Kind::Routes, "8080".into())]);
        let message = listener::Listener::decode(encoded.body()).expect("it decodes");
        assert!(message.api_listener.is_none());
    }

    #[test]
    fn other_texts_are_refused_with_what_is_allowed() {
        for text in [
            "",
            "15001",
            "localhost:1",
            "127.0.0.1:1=0",
            "127.0.0.1:1=x",
            "127.0.0.1",
        ] {
            let error = text.parse::<Egress>().expect_err(text).to_string();
            assert!(error.contains("ADDRESS:PORT=SERVICEPORT"), "{error}");
        }
    }
}
