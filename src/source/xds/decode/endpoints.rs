//! Endpoints: by themselves (EDS), or in the message of their cluster.

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;

use super::place::{Place, Quoted};
use super::{Scope, value};
use crate::model::endpoint::{
    Address, Endpoint, HASH_KEY, Health, Locality, LocalityEndpoints, Overload, Several,
};
use crate::model::{Endpoints, Fraction};
use crate::source::xds::proto::{core, endpoint as wire};

/// The key of metadata that Envoy balances by, and that labels stand under.
pub(in crate::source::xds) const LABELS: &str = "envoy.lb";
/// What is no label among them: what an endpoint is hashed by (gRPC A76).
pub(in crate::source::xds) const HASHED_BY: &str = "hash_key";
/// Where a label of that name is, which Envoy would take for what the endpoint is hashed by.
pub(in crate::source::xds) const OWN_LABELS: &str = "meshwork.labels";
/// The key of metadata that Envoy chooses transports by.
pub(in crate::source::xds) const TLS: &str = "envoy.transport_socket_match";
/// What Istio writes there of an endpoint that speaks its mutual TLS.
pub(in crate::source::xds) const TLS_MODE: &str = "tlsMode";
pub(in crate::source::xds) const ISTIO: &str = "istio";
/// The longest host name of DNS.
const MAX_HOST: usize = 253;

/// A resource of its own.
pub(super) fn endpoints(
    scope: Scope<'_>,
    place: &Place<'_>,
    message: &wire::ClusterLoadAssignment,
) -> Option<Endpoints> {
    assignment(scope, place, message, true)
}

/// In its cluster's message, where no locality need be said (Envoy's own examples say none).
pub(super) fn inline(
    scope: Scope<'_>,
    place: &Place<'_>,
    message: &wire::ClusterLoadAssignment,
) -> Option<Endpoints> {
    assignment(scope, place, message, false)
}

fn assignment(
    scope: Scope<'_>,
    place: &Place<'_>,
    message: &wire::ClusterLoadAssignment,
    located: bool,
) -> Option<Endpoints> {
    let list = place.field("endpoints");
    let mut reader = Reader {
        message,
        located,
        addresses: HashSet::new(),
        labels: LabelSets::default(),
    };
    let mut all = Vec::with_capacity(message.endpoints.len());
    for (index, locality) in message.endpoints.iter().enumerate() {
        all.push(reader.locality(&list.index(index), locality));
    }
    let overloads = overloads(&place.field("policy"), message);
    let localities: Vec<LocalityEndpoints> = all.into_iter().collect::<Option<_>>()?;
    rules(&list, &localities)?;
    Some(Endpoints {
        name: message.cluster_name.as_str().into(),
        localities,
        overloads: overloads?,
        origin: scope.origin(&message.cluster_name),
    })
}

/// What holds for all localities together.
fn rules(place: &Place<'_>, localities: &[LocalityEndpoints]) -> Option<()> {
    let mut seen = HashSet::new();
    let mut sums: BTreeMap<u32, u64> = BTreeMap::new();
    let mut fine = Some(());
    for (index, one) in localities.iter().enumerate() {
        if !seen.insert((one.priority, &one.locality)) {
            fine = place.index(index).field("locality").fault(format_args!(
                "{} stands twice in priority {}; each stands once",
                Shown(&one.locality),
                one.priority
            ));
        }
        let sum = sums.entry(one.priority).or_default();
        *sum += u64::from(one.weight.map_or(0, NonZeroU32::get));
    }
    for (expected, (priority, sum)) in (0u32..).zip(sums) {
        if priority != expected {
            return place.fault(format_args!(
                "have priority {priority} and none of priority {expected}; priorities follow each \
                 other from 0"
            ));
        }
        if sum > u64::from(u32::MAX) {
            fine = place.fault(format_args!(
                "of priority {priority} have weights whose sum is {sum}; at most {} is allowed",
                u32::MAX
            ));
        }
    }
    fine
}

struct Shown<'a>(&'a Locality);

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Locality {
            region,
            zone,
            sub_zone,
        } = self.0;
        Quoted(&format!("{region}/{zone}/{sub_zone}")).fmt(f)
    }
}

/// What is dropped, by category. One without a share drops nothing.
fn overloads(place: &Place<'_>, message: &wire::ClusterLoadAssignment) -> Option<Vec<Overload>> {
    let policy = message.policy.clone().unwrap_or_default();
    let list = place.field("drop_overloads");
    let drops = policy.drop_overloads.iter().enumerate();
    let all: Vec<Option<Overload>> = drops
        .map(|(index, one)| {
            let place = list.index(index);
            let category = value::filled(&place.field("category"), &one.category);
            let share = match one.drop_percentage {
                Some(share) => value::fraction(&place.field("drop_percentage"), share),
                None => Some(Fraction::ZERO),
            };
            Some(Overload {
                category: category?.into(),
                share: share?,
            })
        })
        .collect();
    all.into_iter().collect()
}

struct Reader<'a> {
    message: &'a wire::ClusterLoadAssignment,
    located: bool,
    addresses: HashSet<Address>,
    labels: LabelSets,
}

impl Reader<'_> {
    fn locality(
        &mut self,
        place: &Place<'_>,
        message: &wire::LocalityLbEndpoints,
    ) -> Option<LocalityEndpoints> {
        use wire::locality_lb_endpoints::LbConfig;
        let locality = match &message.locality {
            Some(found) => Some(Locality {
                region: found.region.as_str().into(),
                zone: found.zone.as_str().into(),
                sub_zone: found.sub_zone.as_str().into(),
            }),
            None if self.located => place.field("locality").fault("is missing"),
            None => Some(Locality::default()),
        };
        let (list, field) = match &message.lb_config {
            None => (&message.lb_endpoints, "lb_endpoints"),
            Some(LbConfig::LoadBalancerEndpoints(list)) => {
                (&list.lb_endpoints, "load_balancer_endpoints.lb_endpoints")
            }
            Some(LbConfig::LedsClusterLocalityConfig(_)) => {
                return place
                    .field("leds_cluster_locality_config")
                    .fault("is not supported; lb_endpoints are");
            }
        };
        let list_place = place.field(field);
        let mut endpoints = Vec::with_capacity(list.len());
        let mut sum = 0u64;
        let mut faulty = false;
        for (index, message) in list.iter().enumerate() {
            match self.endpoint(&list_place.index(index), message) {
                Some(endpoint) => {
                    sum += u64::from(endpoint.weight.get());
                    endpoints.push(endpoint);
                }
                None => faulty = true,
            }
        }
        if sum > u64::from(u32::MAX) {
            return list_place.fault(format_args!(
                "have weights whose sum is {sum}; at most {} is allowed",
                u32::MAX
            ));
        }
        if faulty {
            return None;
        }
        Some(LocalityEndpoints {
            locality: locality?,
            priority: message.priority,
            weight: NonZeroU32::new(value::number_or(message.load_balancing_weight, 0)),
            endpoints: endpoints.into(),
        })
    }

    fn endpoint(&mut self, place: &Place<'_>, message: &wire::LbEndpoint) -> Option<Endpoint> {
        use wire::lb_endpoint::HostIdentifier;
        let endpoint = match &message.host_identifier {
            Some(HostIdentifier::Endpoint(endpoint)) => Some(endpoint),
            Some(HostIdentifier::EndpointName(name)) => {
                match self.message.named_endpoints.get(name) {
                    Some(endpoint) => Some(endpoint),
                    None => place
                        .field("endpoint_name")
                        .fault(format_args!("{} is none of named_endpoints", Quoted(name))),
                }
            }
            None => place.field("endpoint").fault("is missing"),
        };
        let weight = value::nonzero_or(
            &place.field("load_balancing_weight"),
            message.load_balancing_weight,
            NonZeroU32::MIN,
        );
        let health = health(place, message.health_status);
        let labels = self.labels.of(message.metadata.as_ref());
        let meshed = text_of(message.metadata.as_ref(), TLS, TLS_MODE) == Some(ISTIO);
        let endpoint_place = place.field("endpoint");
        let endpoint = endpoint?;
        let address_place = endpoint_place.field("address");
        let address = address(&address_place, endpoint.address.as_ref());
        if let Some(address) = &address
            && !self.addresses.insert(address.clone())
        {
            return address_place.fault(format_args!(
                "{} stands twice; each address stands once",
                Quoted(&address.to_string())
            ));
        }
        let further = self.additional(&endpoint_place, endpoint)?;
        let address = together(&endpoint_place, address?, further);
        Some(Endpoint {
            address: address?,
            weight: weight?,
            health: health?,
            labels,
            meshed,
        })
    }

    /// Further addresses of an endpoint (gRFC A61), each of which stands once among all.
    fn additional(&mut self, place: &Place<'_>, endpoint: &wire::Endpoint) -> Option<Vec<Address>> {
        let list = place.field("additional_addresses");
        let mut all = Some(Vec::new());
        for (index, further) in endpoint.additional_addresses.iter().enumerate() {
            let place = list.index(index);
            let place = place.field("address");
            match address(&place, further.address.as_ref()) {
                Some(found) if !self.addresses.insert(found.clone()) => {
                    all = place.fault(format_args!(
                        "{} stands twice; each address stands once",
                        Quoted(&found.to_string())
                    ));
                }
                Some(found) => all.iter_mut().for_each(|all| all.push(found.clone())),
                None => all = None,
            }
        }
        all
    }
}

/// One endpoint with all of its addresses. Only IP addresses are tried beside each other.
fn together(place: &Place<'_>, first: Address, further: Vec<Address>) -> Option<Address> {
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

/// Only what is healthy or unknown is used (gRFC A27); the others stay known, for panic and drain.
fn health(place: &Place<'_>, status: i32) -> Option<Health> {
    use core::HealthStatus as Status;
    match Status::try_from(status) {
        Ok(Status::Unknown | Status::Healthy) => Some(Health::Healthy),
        Ok(Status::Draining) => Some(Health::Draining),
        Ok(Status::Unhealthy | Status::Timeout | Status::Degraded) => Some(Health::Unhealthy),
        Err(_) => place
            .field("health_status")
            .fault(format_args!("{status} is unknown; 0 to 5 are allowed")),
    }
}

fn address(place: &Place<'_>, message: Option<&core::Address>) -> Option<Address> {
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

/// A text of an endpoint's metadata.
fn text_of<'m>(metadata: Option<&'m core::Metadata>, filter: &str, key: &str) -> Option<&'m str> {
    use envoy_types::pb::google::protobuf::value::Kind;
    let value = metadata?.filter_metadata.get(filter)?.fields.get(key)?;
    match &value.kind {
        Some(Kind::StringValue(text)) => Some(text),
        _ => None,
    }
}

/// Labels that many endpoints have in common are kept once.
#[derive(Default)]
struct LabelSets {
    seen: HashSet<Arc<BTreeMap<Box<str>, Box<str>>>>,
}

impl LabelSets {
    fn of(&mut self, metadata: Option<&core::Metadata>) -> Arc<BTreeMap<Box<str>, Box<str>>> {
        use envoy_types::pb::google::protobuf::value::Kind;
        let found = metadata.and_then(|metadata| metadata.filter_metadata.get(LABELS));
        let mut labels: BTreeMap<Box<str>, Box<str>> = found
            .into_iter()
            .flat_map(|labels| &labels.fields)
            .filter_map(|(key, value)| match &value.kind {
                Some(Kind::StringValue(text)) => {
                    let name = match key.as_str() {
                        HASHED_BY => HASH_KEY,
                        label => label,
                    };
                    Some((name.into(), text.as_str().into()))
                }
                _ => None,
            })
            .collect();
        if let Some(text) = text_of(metadata, OWN_LABELS, HASHED_BY) {
            labels.insert(HASHED_BY.into(), text.into());
        }
        if let Some(same) = self.seen.get(&labels) {
            return same.clone();
        }
        let labels = Arc::new(labels);
        self.seen.insert(labels.clone());
        labels
    }
}
