//! Where an endpoint is, and what it is known by.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use http::uri::Authority;

use super::place::{Place, Quoted};
use super::value;
use crate::model::endpoint::{Address, Several};
use crate::source::xds::proto::core;

/// The longest host name of DNS.
const MAX_HOST: usize = 253;

/// One endpoint with all of its addresses. Only IP addresses are tried beside each other.
pub(super) fn together(
    place: &Place<'_>,
    first: Address,
    further: Vec<Address>,
) -> Option<Address> {
    if further.is_empty() {
        return Some(first);
    }
    let socket = |address: &Address| match address {
        Address::Socket(address) => Some(*address),
        Address::Name { .. } | Address::Several(_) | Address::Unix(_) => None,
    };
    let others: Option<Vec<SocketAddr>> = further.iter().map(socket).collect();
    match (socket(&first), others) {
        (Some(first), Some(others)) => Some(Address::Several(Several::new(first, others))),
        _ => place
            .field("additional_addresses")
            .fault("only IP addresses may be several, and one of these is none"),
    }
}

pub(super) fn address(place: &Place<'_>, message: Option<&core::Address>) -> Option<Address> {
    use core::address::Address as Kind;
    match place.required(message)?.address.as_ref() {
        Some(Kind::SocketAddress(socket)) => socket_address(&place.field("socket_address"), socket),
        Some(Kind::Pipe(pipe)) => {
            let path = value::filled(&place.field("pipe.path"), &pipe.path)?;
            Some(Address::Unix(Arc::from(Path::new(path))))
        }
        Some(Kind::EnvoyInternalAddress(_)) => place
            .field("envoy_internal_address")
            .fault("is not supported; socket_address and pipe are"),
        None => place.fault("is empty; socket_address and pipe are allowed"),
    }
}

fn socket_address(place: &Place<'_>, message: &core::SocketAddress) -> Option<Address> {
    use core::socket_address::PortSpecifier;
    if message.protocol != 0 {
        return place
            .field("protocol")
            .fault("is not TCP; only TCP is allowed");
    }
    if !message.resolver_name.is_empty() {
        return place
            .field("resolver_name")
            .fault("names a resolver, which is not supported; leave it empty");
    }
    let port = match &message.port_specifier {
        Some(PortSpecifier::PortValue(port)) => {
            match u16::try_from(*port).ok().filter(|port| *port > 0) {
                Some(port) => Some(port),
                None => place
                    .field("port_value")
                    .fault(format_args!("{port} is no port; 1 to 65535 is allowed")),
            }
        }
        Some(PortSpecifier::NamedPort(_)) => place
            .field("named_port")
            .fault("is not supported; port_value is"),
        None => place.field("port_value").fault("is missing"),
    };
    let host = message.address.as_str();
    if let Ok(address) = host.parse::<IpAddr>() {
        return Some(Address::Socket(SocketAddr::new(address, port?)));
    }
    let valid = !host.is_empty()
        && host.len() <= MAX_HOST
        && host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
    if !valid {
        return place.field("address").fault(format_args!(
            "{} is neither an IP address nor a host name",
            Quoted(host)
        ));
    }
    Some(Address::Name {
        host: host.into(),
        port: port?,
    })
}

/// Host names that many endpoints have in common are kept once.
#[derive(Default)]
pub(super) struct Names {
    seen: HashSet<Arc<Authority>>,
}

impl Names {
    /// `Some(None)`: it has none.
    pub(super) fn of(&mut self, place: &Place<'_>, text: &str) -> Option<Option<Arc<Authority>>> {
        let Some(name) = value::authority(place, text)? else {
            return Some(None);
        };
        if let Some(same) = self.seen.get(&name) {
            return Some(Some(same.clone()));
        }
        let name = Arc::new(name);
        self.seen.insert(name.clone());
        Some(Some(name))
    }
}
