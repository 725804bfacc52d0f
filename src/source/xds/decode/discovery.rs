//! Where a cluster's endpoints come from.

use std::sync::Arc;
use std::time::Duration;

use super::place::{Place, Quoted};
use super::{Scope, endpoints, value};
use crate::model::Endpoints;
use crate::model::cluster::{Discovery, Dns, Families, Lookup};
use crate::source::xds::extra::ClusterExtra;
use crate::source::xds::proto::{
    self, aggregate, cluster as wire, core, dns, dns_common, endpoint,
};

/// Envoy's default of `dns_refresh_rate`, for answers whose TTL is not known.
const REFRESH: Duration = Duration::from_secs(5);

type Found = (Discovery, Option<Endpoints>);

pub(super) fn discovery(
    scope: Scope<'_>,
    place: &Place<'_>,
    message: &wire::Cluster,
    extra: &ClusterExtra,
) -> Option<Found> {
    use wire::cluster::ClusterDiscoveryType as Discovered;
    use wire::cluster::DiscoveryType as Type;
    let inline = Inline {
        scope,
        place,
        message,
        extra,
    };
    let number = match &message.cluster_discovery_type {
        // The first value of the enum.
        None => 0,
        Some(Discovered::Type(number)) => *number,
        Some(Discovered::ClusterType(custom)) => {
            return inline.custom(&place.field("cluster_type"), custom);
        }
    };
    match Type::try_from(number) {
        Ok(Type::Eds) => eds(place, message),
        Ok(Type::Static) => {
            let (name, endpoints) = inline.endpoints()?;
            Some((Discovery::Endpoints(name), endpoints))
        }
        Ok(Type::StrictDns) => inline.dns(Lookup::Each),
        Ok(Type::LogicalDns) => inline.dns(Lookup::One),
        Ok(Type::OriginalDst) => original_destination(place, message),
        Err(_) => place.field("type").fault(format_args!(
            "{number} is unknown; STATIC (0), STRICT_DNS (1), LOGICAL_DNS (2), EDS (3) and \
             ORIGINAL_DST (4) are allowed"
        )),
    }
}

fn eds(place: &Place<'_>, message: &wire::Cluster) -> Option<Found> {
    let place = place.field("eds_cluster_config");
    let config = place.required(message.eds_cluster_config.as_ref())?;
    let source = value::own_stream(&place.field("eds_config"), config.eds_config.as_ref());
    let name = match config.service_name.as_str() {
        "" if message.name.starts_with("xdstp:") => {
            return place
                .field("service_name")
                .fault("is empty, and the name of an xdstp cluster names no endpoints (gRFC A47)");
        }
        "" => message.name.as_str(),
        name => name,
    };
    source?;
    Some((Discovery::Endpoints(name.into()), None))
}

/// Whether the cluster is a list of others.
pub(super) fn is_aggregate(message: &wire::Cluster) -> bool {
    use wire::cluster::ClusterDiscoveryType as Discovered;
    let Some(Discovered::ClusterType(custom)) = &message.cluster_discovery_type else {
        return false;
    };
    let any = custom.typed_config.as_ref();
    any.is_some_and(value::is::<aggregate::ClusterConfig>)
}

/// The clusters of an aggregate (gRFC A37). They need not exist.
fn aggregated(place: &Place<'_>, any: &proto::Any) -> Option<Found> {
    let config: aggregate::ClusterConfig = value::unpack(place, any)?;
    let place = place.field("clusters");
    if config.clusters.is_empty() {
        return place.fault("is empty; an aggregate has at least one cluster");
    }
    let members = config.clusters.iter().enumerate();
    let members: Vec<Option<Arc<str>>> = members
        .map(|(index, name)| value::filled(&place.index(index), name).map(Arc::from))
        .collect();
    let members: Vec<Arc<str>> = members.into_iter().collect::<Option<_>>()?;
    Some((Discovery::Aggregate(members), None))
}

fn original_destination(place: &Place<'_>, message: &wire::Cluster) -> Option<Found> {
    let Some(wire::cluster::LbConfig::OriginalDstLbConfig(config)) = &message.lb_config else {
        return Some((Discovery::Passthrough, None));
    };
    let place = place.field("original_dst_lb_config");
    if config.use_http_header || config.metadata_key.is_some() {
        return place.fault(
            "takes the destination from a header or metadata, which is not supported; it is the \
             request's authority",
        );
    }
    let Some(port) = config.upstream_port_override else {
        return Some((Discovery::Passthrough, None));
    };
    let place = place.field("upstream_port_override");
    match u16::try_from(port.value) {
        Ok(port) => Some((Discovery::OnDemand { port }, None)),
        Err(_) => place.fault(format_args!(
            "{} is no port; 0 to 65535 is allowed",
            port.value
        )),
    }
}

fn families(place: &Place<'_>, number: i32) -> Option<Families> {
    use wire::cluster::DnsLookupFamily as Family;
    match Family::try_from(number) {
        Ok(Family::Auto | Family::All) => Some(Families::Both),
        Ok(Family::V4Only) => Some(Families::V4),
        Ok(Family::V6Only) => Some(Families::V6),
        Ok(Family::V4Preferred) => Some(Families::PreferV4),
        Err(_) => place.fault(format_args!(
            "{number} is unknown; AUTO (0), V4_ONLY (1), V6_ONLY (2), V4_PREFERRED (3) and ALL (4) \
             are allowed"
        )),
    }
}

/// The same of `DnsCluster`, whose numbers are others.
fn families_of_extension(place: &Place<'_>, number: i32) -> Option<Families> {
    use dns_common::DnsLookupFamily as Family;
    match Family::try_from(number) {
        Ok(Family::Unspecified | Family::Auto | Family::All) => Some(Families::Both),
        Ok(Family::V4Only) => Some(Families::V4),
        Ok(Family::V6Only) => Some(Families::V6),
        Ok(Family::V4Preferred) => Some(Families::PreferV4),
        Err(_) => place.fault(format_args!(
            "{number} is unknown; AUTO (1), V4_ONLY (2), V6_ONLY (3), V4_PREFERRED (4) and ALL (5) \
             are allowed"
        )),
    }
}

/// A cluster whose endpoints are in its own message.
struct Inline<'a> {
    scope: Scope<'a>,
    place: &'a Place<'a>,
    message: &'a wire::Cluster,
    extra: &'a ClusterExtra,
}

impl Inline<'_> {
    fn custom(
        &self,
        place: &Place<'_>,
        custom: &wire::cluster::CustomClusterType,
    ) -> Option<Found> {
        let config_place = place.field("typed_config");
        let any = config_place.required(custom.typed_config.as_ref())?;
        if value::is::<dns::DnsCluster>(any) {
            let config: dns::DnsCluster = value::unpack(&config_place, any)?;
            let lookup = match config.all_addresses_in_single_endpoint {
                true => Lookup::One,
                false => Lookup::Each,
            };
            let families = families_of_extension(
                &config_place.field("dns_lookup_family"),
                config.dns_lookup_family,
            );
            return self.dns_of_any_shape(&config_place, lookup, families, config.dns_refresh_rate);
        }
        if value::is::<aggregate::ClusterConfig>(any) {
            return aggregated(&config_place, any);
        }
        config_place.fault(format_args!(
            "{} is no cluster that is known here; envoy.extensions.clusters.dns.v3.DnsCluster and \
             envoy.extensions.clusters.aggregate.v3.ClusterConfig are",
            Quoted(value::type_name(any))
        ))
    }

    fn dns(&self, lookup: Lookup) -> Option<Found> {
        if lookup == Lookup::One {
            self.single_name()?;
        }
        let place = self.place.field("dns_lookup_family");
        let families = families(&place, self.message.dns_lookup_family);
        self.dns_of_any_shape(self.place, lookup, families, self.message.dns_refresh_rate)
    }

    /// `place` is where the settings of the lookup stand.
    fn dns_of_any_shape(
        &self,
        place: &Place<'_>,
        lookup: Lookup,
        families: Option<Families>,
        refresh: Option<proto::Duration>,
    ) -> Option<Found> {
        let refresh = value::positive_or(&place.field("dns_refresh_rate"), refresh, REFRESH);
        let (name, endpoints) = self.endpoints()?;
        let dns = Dns {
            endpoints: name,
            lookup,
            families: families?,
            refresh: refresh?,
        };
        Some((Discovery::Dns(dns), endpoints))
    }

    /// `LOGICAL_DNS` is one name (gRFC A37, and Envoy).
    fn single_name(&self) -> Option<()> {
        let place = self.place.field("load_assignment");
        let assignment = place.required(self.message.load_assignment.as_ref())?;
        let place = place.field("endpoints");
        let [locality] = assignment.endpoints.as_slice() else {
            return place.fault(format_args!(
                "has {} localities; LOGICAL_DNS allows exactly 1",
                assignment.endpoints.len()
            ));
        };
        let place = place.index(0);
        let place = place.field("lb_endpoints");
        let [one] = locality.lb_endpoints.as_slice() else {
            return place.fault(format_args!(
                "has {} endpoints; LOGICAL_DNS allows exactly 1",
                locality.lb_endpoints.len()
            ));
        };
        if is_pipe(assignment, one) {
            return place
                .index(0)
                .field("endpoint.address")
                .fault("is no socket_address; LOGICAL_DNS looks up one name");
        }
        Some(())
    }

    /// The endpoints of the message, under a name of their own: that of the cluster could be the
    /// name of endpoints that come by themselves.
    fn endpoints(&self) -> Option<(Arc<str>, Option<Endpoints>)> {
        let name: Arc<str> = match &self.extra.endpoints {
            Some(name) => name.as_str().into(),
            None => inline_name(&self.message.name),
        };
        if self.extra.no_endpoints {
            return Some((name, None));
        }
        let place = self.place.field("load_assignment");
        let assignment = place.required(self.message.load_assignment.as_ref())?;
        let mut endpoints = endpoints::inline(self.scope, &place, assignment)?;
        endpoints.name = name.clone();
        Some((name, Some(endpoints)))
    }
}

fn is_pipe(all: &endpoint::ClusterLoadAssignment, one: &endpoint::LbEndpoint) -> bool {
    use endpoint::lb_endpoint::HostIdentifier;
    let found = match &one.host_identifier {
        Some(HostIdentifier::Endpoint(found)) => Some(found),
        Some(HostIdentifier::EndpointName(name)) => all.named_endpoints.get(name),
        None => None,
    };
    let address = found.and_then(|found| found.address.as_ref());
    let kind = address.and_then(|address| address.address.as_ref());
    matches!(kind, Some(core::address::Address::Pipe(_)))
}

/// The name of the endpoints that a cluster of this name contains.
fn inline_name(cluster: &str) -> Arc<str> {
    format!("{cluster}#load_assignment").into()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::source::xds::decode::place::Faults;

    #[test]
    fn families_are_numbered_in_two_ways() {
        let faults = RefCell::<Faults>::default();
        let place = Place::root(&faults);
        let (both, four, six) = (Families::Both, Families::V4, Families::V6);
        let preferred = Families::PreferV4;
        for (number, expected) in (0..).zip([both, four, six, preferred, both]) {
            assert_eq!(families(&place, number), Some(expected), "{number}");
        }
        for (number, expected) in (0..).zip([both, both, four, six, preferred, both]) {
            let found = families_of_extension(&place, number);
            assert_eq!(found, Some(expected), "{number}");
        }
        assert!(faults.borrow().is_empty());
        assert_eq!(families(&place, 5), None);
        assert_eq!(families_of_extension(&place, 6), None);
        let told = faults.into_inner().into_list();
        assert_eq!(told.len(), 2);
        assert!(told[0].text.starts_with("5 is unknown; AUTO (0)"));
        assert!(told[1].text.starts_with("6 is unknown; AUTO (1)"));
    }
}
