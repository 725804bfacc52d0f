//! Endpoints: by themselves (EDS), or in the message of their cluster.

use std::collections::{BTreeMap, HashSet};
use std::num::NonZeroU32;

use super::address::{Names, address, together};
use super::metadata::{ISTIO, LabelSets, TLS, TLS_MODE, text_of};
use super::place::{Place, Quoted};
use super::{Scope, value};
use crate::model::endpoint::{Address, Endpoint, Health, Locality, LocalityEndpoints, Overload};
use crate::model::{Endpoints, Fraction};
use crate::source::xds::proto::{core, endpoint as wire};

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
        names: Names::default(),
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
    names: Names,
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
        let hostname = self
            .names
            .of(&endpoint_place.field("hostname"), &endpoint.hostname);
        let further = self.additional(&endpoint_place, endpoint)?;
        let address = together(&endpoint_place, address?, further);
        Some(Endpoint {
            address: address?,
            hostname: hostname?,
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
