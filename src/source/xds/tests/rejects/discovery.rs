//! Where a cluster's endpoints come from.

use prost::Name;

use super::clusters::cluster_refused;
use super::endpoints::{locality, pipe, socket};
use super::{number, seconds};
use crate::source::xds::extra::any;
use crate::source::xds::proto::{Any, aggregate, cluster, core, dns, endpoint, router};

/// The values of `Cluster.DiscoveryType`.
const STATIC: i32 = 0;
const STRICT_DNS: i32 = 1;
const LOGICAL_DNS: i32 = 2;
const ORIGINAL_DST: i32 = 4;

pub(super) fn assignment(
    endpoints: Vec<endpoint::LocalityLbEndpoints>,
) -> Option<endpoint::ClusterLoadAssignment> {
    Some(endpoint::ClusterLoadAssignment {
        cluster_name: "a".into(),
        endpoints,
        ..Default::default()
    })
}

#[track_caller]
fn refused_as(kind: i32, change: impl FnOnce(&mut cluster::Cluster), expected: &str) {
    use cluster::cluster::ClusterDiscoveryType as Type;
    cluster_refused(
        |c| {
            c.cluster_discovery_type = Some(Type::Type(kind));
            c.eds_cluster_config = None;
            c.load_assignment = assignment(vec![locality(0, &[1])]);
            change(c);
        },
        expected,
    );
}

/// A cluster of an extension with this configuration.
pub(super) fn custom(config: Any) -> Option<cluster::cluster::ClusterDiscoveryType> {
    Some(cluster::cluster::ClusterDiscoveryType::ClusterType(
        cluster::cluster::CustomClusterType {
            name: "x".into(),
            typed_config: Some(config),
        },
    ))
}

#[track_caller]
fn custom_refused(config: Any, expected: &str) {
    let expected = format!("cluster_type.typed_config{expected}");
    refused_as(
        STATIC,
        |c| c.cluster_discovery_type = custom(config),
        &expected,
    );
}

#[test]
fn d8_endpoints_of_another_source_are_refused() {
    use core::config_source::ConfigSourceSpecifier as Specifier;
    let from = |specifier: Option<Specifier>| cluster::cluster::EdsClusterConfig {
        eds_config: Some(core::ConfigSource {
            config_source_specifier: specifier,
            ..core::ConfigSource::default()
        }),
        service_name: String::new(),
    };
    for (specifier, expected) in [
        (
            Some(Specifier::Path("/x".into())),
            "names another source; \"ads\" and \"self\" are allowed",
        ),
        (
            Some(Specifier::ApiConfigSource(Default::default())),
            "names another source",
        ),
        (None, "names no source; \"ads\" and \"self\" are allowed"),
    ] {
        cluster_refused(
            |c| c.eds_cluster_config = Some(from(specifier)),
            &format!("eds_cluster_config.eds_config: {expected}"),
        );
    }
    // What no discovery is said of has that of the first value, and needs endpoints of its own.
    cluster_refused(
        |c| c.cluster_discovery_type = None,
        "load_assignment: is missing",
    );
}

#[test]
fn d8_logical_dns_is_exactly_one_name() {
    type Change = fn(&mut endpoint::ClusterLoadAssignment);
    let rows: [(Change, &str); 10] = [
        (
            |a| a.endpoints.clear(),
            ": has 0 localities; LOGICAL_DNS allows exactly 1",
        ),
        (
            |a| a.endpoints.push(locality(1, &[2])),
            ": has 2 localities; LOGICAL_DNS allows exactly 1",
        ),
        (
            |a| a.endpoints[0].lb_endpoints.clear(),
            "[0].lb_endpoints: has 0 endpoints; LOGICAL_DNS allows exactly 1",
        ),
        (
            |a| a.endpoints = vec![locality(0, &[1, 2])],
            "[0].lb_endpoints: has 2 endpoints; LOGICAL_DNS allows exactly 1",
        ),
        (
            |a| at(a, pipe()),
            "[0].lb_endpoints[0].endpoint.address: is no socket_address; LOGICAL_DNS looks up one \
             name",
        ),
        (
            |a| at(a, None),
            "[0].lb_endpoints[0].endpoint.address: is missing",
        ),
        (
            |a| at(a, socket("a b", 1)),
            "[0].lb_endpoints[0].endpoint.address.socket_address.address: \"a b\" is neither an IP \
             address nor a host name",
        ),
        (
            |a| changed(a, |socket| socket.resolver_name = "x".into()),
            "[0].lb_endpoints[0].endpoint.address.socket_address.resolver_name: names a resolver",
        ),
        (
            |a| changed(a, |socket| socket.port_specifier = None),
            "[0].lb_endpoints[0].endpoint.address.socket_address.port_value: is missing",
        ),
        (
            |a| {
                changed(a, |socket| {
                    let named = core::socket_address::PortSpecifier::NamedPort("http".into());
                    socket.port_specifier = Some(named);
                });
            },
            "[0].lb_endpoints[0].endpoint.address.socket_address.named_port: is not supported",
        ),
    ];
    for (change, expected) in rows {
        refused_as(
            LOGICAL_DNS,
            |c| c.load_assignment.iter_mut().for_each(change),
            &format!("load_assignment.endpoints{expected}"),
        );
    }
}

/// Gives the only endpoint another address.
fn at(assignment: &mut endpoint::ClusterLoadAssignment, address: Option<core::Address>) {
    use endpoint::lb_endpoint::HostIdentifier;
    assignment.endpoints[0].lb_endpoints[0].host_identifier =
        Some(HostIdentifier::Endpoint(endpoint::Endpoint {
            address,
            ..endpoint::Endpoint::default()
        }));
}

/// The same with a changed socket address.
fn changed(
    assignment: &mut endpoint::ClusterLoadAssignment,
    change: impl FnOnce(&mut core::SocketAddress),
) {
    let mut address = socket("catalog", 80);
    if let Some(core::address::Address::SocketAddress(socket)) = address
        .as_mut()
        .and_then(|address| address.address.as_mut())
    {
        change(socket);
    }
    at(assignment, address);
}

#[test]
fn d8_clusters_of_dns_that_are_refused() {
    refused_as(
        STRICT_DNS,
        |c| c.load_assignment = None,
        "load_assignment: is missing",
    );
    for kind in [STRICT_DNS, LOGICAL_DNS] {
        refused_as(
            kind,
            |c| c.dns_refresh_rate = seconds(0),
            "dns_refresh_rate: is zero; more than 0 s is allowed",
        );
        refused_as(
            kind,
            |c| c.dns_lookup_family = 9,
            "dns_lookup_family: 9 is unknown; AUTO (0)",
        );
    }
    let often = dns::DnsCluster {
        dns_refresh_rate: seconds(0),
        ..dns::DnsCluster::default()
    };
    custom_refused(any(&often), ".dns_refresh_rate: is zero");
    let family = dns::DnsCluster {
        dns_lookup_family: 9,
        ..dns::DnsCluster::default()
    };
    custom_refused(any(&family), ".dns_lookup_family: 9 is unknown; AUTO (1)");
}

#[test]
fn d8_clusters_of_other_types_that_are_refused() {
    custom_refused(
        any(&router::Router::default()),
        ": \"envoy.extensions.filters.http.router.v3.Router\" is no cluster that is known here",
    );
    refused_as(
        STATIC,
        |c| {
            c.cluster_discovery_type = Some(cluster::cluster::ClusterDiscoveryType::ClusterType(
                Default::default(),
            ));
        },
        "cluster_type.typed_config: is missing",
    );
    let broken = Any {
        type_url: aggregate::ClusterConfig::type_url(),
        value: vec![0xff],
    };
    custom_refused(
        broken,
        ": is no envoy.extensions.clusters.aggregate.v3.ClusterConfig",
    );
    let of = |names: &[&str]| {
        any(&aggregate::ClusterConfig {
            clusters: names.iter().map(|name| (*name).to_owned()).collect(),
        })
    };
    custom_refused(
        of(&[]),
        ".clusters: is empty; an aggregate has at least one cluster",
    );
    custom_refused(of(&["b", ""]), ".clusters[1]: is empty");
    let original = |config: cluster::cluster::OriginalDstLbConfig, expected: &str| {
        let expected = format!("original_dst_lb_config{expected}");
        let config = cluster::cluster::LbConfig::OriginalDstLbConfig(config);
        refused_as(ORIGINAL_DST, |c| c.lb_config = Some(config), &expected);
    };
    let none = cluster::cluster::OriginalDstLbConfig::default;
    original(
        cluster::cluster::OriginalDstLbConfig {
            use_http_header: true,
            ..none()
        },
        ": takes the destination from a header or metadata",
    );
    original(
        cluster::cluster::OriginalDstLbConfig {
            metadata_key: Some(Default::default()),
            ..none()
        },
        ": takes the destination from a header or metadata",
    );
    original(
        cluster::cluster::OriginalDstLbConfig {
            upstream_port_override: number(70_000),
            ..none()
        },
        ".upstream_port_override: 70000 is no port; 0 to 65535 is allowed",
    );
}
