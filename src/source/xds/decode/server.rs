//! Listeners of servers (gRFC A36): addresses, chains, TLS.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::listener::{Manager, Side};
use super::place::{Place, Quoted};
use super::{Scope, listener, rbac, security, value};
use crate::model::authorization::Network;
use crate::model::server::{ChainMatch, Distance, ServerTls};
use crate::source::xds::proto::{core, hcm, listener as wire, raw_buffer, tls};
use crate::source::xds::resource::Resource;
use crate::source::xds::server::{ChainTemplate, Template};

pub(super) fn server(
    scope: Scope<'_>,
    place: &Place<'_>,
    message: &wire::Listener,
) -> Option<Resource> {
    let fine = restrictions(place, message);
    let address = address(&place.field("address"), message.address.as_ref());
    let list = place.field("filter_chains");
    let mut chains = Vec::new();
    let mut faulty = false;
    for (index, one) in message.filter_chains.iter().enumerate() {
        match chain(scope, &list.index(index), one) {
            Some(Some(chain)) => chains.push(chain),
            Some(None) => {}
            None => faulty = true,
        }
    }
    let default_chain = match &message.default_filter_chain {
        None => Some(None),
        Some(one) => {
            let place = place.field("default_filter_chain");
            let chain = chain(scope, &place, one);
            chain.map(|chain| {
                chain.map(|chain| ChainTemplate {
                    matches: ChainMatch::default(),
                    ..chain
                })
            })
        }
    };
    if faulty {
        return None;
    }
    fine?;
    let default_chain = default_chain?;
    if chains.is_empty() && default_chain.is_none() {
        return list.fault("has no chain that could match, and there is no default_filter_chain");
    }
    apart(&list, &chains)?;
    Some(Resource::Server(Arc::new(Template {
        name: message.name.as_str().into(),
        address: address?,
        chains,
        default_chain,
        origin: scope.origin(&message.name),
    })))
}

fn restrictions(place: &Place<'_>, message: &wire::Listener) -> Option<()> {
    let refused = [
        ("listener_filters", !message.listener_filters.is_empty()),
        (
            "use_original_dst",
            message.use_original_dst.is_some_and(|flag| flag.value),
        ),
        (
            "additional_addresses",
            !message.additional_addresses.is_empty(),
        ),
    ];
    let mut fine = Some(());
    for (field, set) in refused {
        if set {
            fine = place.field(field).fault("is not supported; leave it out");
        }
    }
    fine
}

fn address(place: &Place<'_>, message: Option<&core::Address>) -> Option<SocketAddr> {
    use core::address::Address as Kind;
    use core::socket_address::PortSpecifier;
    let Some(Kind::SocketAddress(socket)) = &place.required(message)?.address else {
        return place.fault("is no socket_address; only that is supported");
    };
    let place = place.field("socket_address");
    let ip: IpAddr = match socket.address.parse() {
        Ok(ip) => ip,
        Err(_) => {
            return place
                .field("address")
                .fault(format_args!("{} is no IP address", Quoted(&socket.address)));
        }
    };
    match &socket.port_specifier {
        Some(PortSpecifier::PortValue(port)) => match u16::try_from(*port) {
            Ok(port) => Some(SocketAddr::new(ip, port)),
            Err(_) => place
                .field("port_value")
                .fault(format_args!("{port} is no port; 0 to 65535 is allowed")),
        },
        Some(PortSpecifier::NamedPort(_)) | None => {
            place.fault("has no port_value; a server has one")
        }
    }
}

/// `Some(None)`: it can never match here.
fn chain(
    scope: Scope<'_>,
    place: &Place<'_>,
    message: &wire::FilterChain,
) -> Option<Option<ChainTemplate>> {
    let matches = chain_match(
        &place.field("filter_chain_match"),
        message.filter_chain_match.as_ref(),
    );
    let network = place.field("filters");
    let manager = manager(&network, &message.filters);
    let manager = manager
        .and_then(|(place, message)| listener::manager(scope, &place, &message, Side::Server));
    let tls = match &message.transport_socket {
        None => Some(None),
        Some(socket) => downstream(scope, &place.field("transport_socket"), socket),
    };
    let Manager { routes, filters } = manager?;
    let (matches, tls) = (matches?, tls?);
    Some(matches.map(|matches| ChainTemplate {
        name: message.name.as_str().into(),
        matches,
        tls,
        filters,
        routes,
    }))
}

/// Exactly one network filter, which manages HTTP.
fn manager<'a>(
    place: &'a Place<'a>,
    filters: &[wire::Filter],
) -> Option<(Place<'a>, hcm::HttpConnectionManager)> {
    use wire::filter::ConfigType;
    let [filter] = filters else {
        return place.fault(format_args!(
            "has {} entries; exactly one HttpConnectionManager is supported",
            filters.len()
        ));
    };
    let Some(ConfigType::TypedConfig(any)) = &filter.config_type else {
        return place.index(0).field("typed_config").fault("is missing");
    };
    let manager = value::unpack(&place.index(0).field("typed_config"), any)?;
    Some((place.index(0), manager))
}

/// `Some(None)`: something is asked that no connection of gRPC or HTTP has here.
fn chain_match(
    place: &Place<'_>,
    message: Option<&wire::FilterChainMatch>,
) -> Option<Option<ChainMatch>> {
    let Some(message) = message else {
        return Some(Some(ChainMatch::default()));
    };
    let ranges = |field: &str, all: &[core::CidrRange]| -> Option<Vec<Network>> {
        let list = place.field(field);
        let all: Vec<Option<Network>> = all
            .iter()
            .enumerate()
            .map(|(index, range)| rbac::network(&list.index(index), range))
            .collect();
        all.into_iter().collect()
    };
    let destinations = ranges("prefix_ranges", &message.prefix_ranges);
    let sources = ranges("source_prefix_ranges", &message.source_prefix_ranges);
    let distance = match message.source_type {
        0 => Some(Distance::Any),
        1 => Some(Distance::Same),
        2 => Some(Distance::External),
        other => place
            .field("source_type")
            .fault(format_args!("{other} is unknown; 0 to 2 are allowed")),
    };
    let list = place.field("source_ports");
    let ports = message.source_ports.iter().enumerate();
    let ports: Vec<Option<u16>> = ports
        .map(|(index, port)| match u16::try_from(*port) {
            Ok(port) => Some(port),
            Err(_) => list.index(index).fault(format_args!("{port} is no port")),
        })
        .collect();
    // Without its condition a chain would be one for more connections than were meant.
    let unread = [
        ("address_suffix", !message.address_suffix.is_empty()),
        ("suffix_len", message.suffix_len.is_some()),
        (
            "direct_source_prefix_ranges",
            !message.direct_source_prefix_ranges.is_empty(),
        ),
    ];
    let mut known = Some(());
    for (field, _) in unread.into_iter().filter(|(_, given)| *given) {
        known = place.field(field).fault("is not supported");
    }
    let never = message.destination_port.is_some()
        || !message.server_names.is_empty()
        || !message.application_protocols.is_empty()
        || !matches!(message.transport_protocol.as_str(), "" | "raw_buffer");
    let found = ChainMatch {
        destinations: destinations?,
        distance: distance?,
        sources: sources?,
        source_ports: ports.into_iter().collect::<Option<_>>()?,
    };
    known?;
    Some((!never).then_some(found))
}

/// No two chains may match the same connections equally well.
fn apart(place: &Place<'_>, chains: &[ChainTemplate]) -> Option<()> {
    let mut seen = HashSet::new();
    let mut fine = Some(());
    for (index, chain) in chains.iter().enumerate() {
        let ChainMatch {
            destinations,
            distance,
            sources,
            source_ports,
        } = &chain.matches;
        let ranges = |all: &[Network]| -> Vec<Option<Network>> {
            match all {
                [] => vec![None],
                some => some.iter().copied().map(Some).collect(),
            }
        };
        let ports: Vec<Option<u16>> = match source_ports.as_slice() {
            [] => vec![None],
            some => some.iter().copied().map(Some).collect(),
        };
        let mut twice = false;
        for destination in ranges(destinations) {
            for source in ranges(sources) {
                for port in &ports {
                    let key = (
                        destination.map(|one| (one.address(), one.bits())),
                        *distance,
                        source.map(|one| (one.address(), one.bits())),
                        *port,
                    );
                    twice |= !seen.insert(key);
                }
            }
        }
        if twice {
            fine = place
                .index(index)
                .field("filter_chain_match")
                .fault("matches what another chain matches too; each match stands once");
        }
    }
    fine
}

/// `Some(None)`: plain text, and it says so.
fn downstream(
    scope: Scope<'_>,
    place: &Place<'_>,
    socket: &core::TransportSocket,
) -> Option<Option<ServerTls>> {
    use core::transport_socket::ConfigType;
    let place = place.field("typed_config");
    let Some(ConfigType::TypedConfig(any)) = &socket.config_type else {
        return place.fault("is missing");
    };
    if value::is::<raw_buffer::RawBuffer>(any) {
        return Some(None);
    }
    if !value::is::<tls::DownstreamTlsContext>(any) {
        return place.fault(format_args!(
            "{} is no transport that is known here; DownstreamTlsContext and RawBuffer are",
            Quoted(value::type_name(any))
        ));
    }
    let message: tls::DownstreamTlsContext = value::guarded(&place, any)?;
    let mut fine = Some(());
    if message.require_sni.is_some_and(|flag| flag.value) {
        fine = place
            .field("require_sni")
            .fault("is not supported; leave it out");
    }
    if message.ocsp_staple_policy != 0 {
        fine = place
            .field("ocsp_staple_policy")
            .fault("is not LENIENT_STAPLING, which alone is supported");
    }
    let required = message
        .require_client_certificate
        .is_some_and(|flag| flag.value);
    let place = place.field("common_tls_context");
    let common = place.required(message.common_tls_context.as_ref())?;
    let found = security::server(scope, &place, common, required);
    fine?;
    found.map(Some)
}
