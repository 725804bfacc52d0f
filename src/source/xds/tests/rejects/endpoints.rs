//! Endpoints, and bytes that are no message.

use super::{decode, number, refused};
use crate::source::xds::Kind;
use crate::source::xds::proto::{core, endpoint, percent};

pub(super) fn lb_endpoint(port: u32) -> endpoint::LbEndpoint {
    endpoint::LbEndpoint {
        host_identifier: Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(
            endpoint::Endpoint {
                address: Some(core::Address {
                    address: Some(core::address::Address::SocketAddress(core::SocketAddress {
                        address: "10.0.0.1".into(),
                        port_specifier: Some(core::socket_address::PortSpecifier::PortValue(port)),
                        ..Default::default()
                    })),
                }),
                ..Default::default()
            },
        )),
        ..Default::default()
    }
}

pub(super) fn socket(ip: &str, port: u32) -> Option<core::Address> {
    let specifier = core::socket_address::PortSpecifier::PortValue(port);
    Some(core::Address {
        address: Some(core::address::Address::SocketAddress(core::SocketAddress {
            address: ip.into(),
            port_specifier: Some(specifier),
            ..Default::default()
        })),
    })
}

pub(super) fn pipe() -> Option<core::Address> {
    let pipe = core::Pipe {
        path: "/run/a.sock".into(),
        mode: 0,
    };
    Some(core::Address {
        address: Some(core::address::Address::Pipe(pipe)),
    })
}

/// One endpoint with a further address.
fn several(port: u32, further: Option<core::Address>) -> endpoint::LocalityLbEndpoints {
    let mut all = locality(0, &[port]);
    all.lb_endpoints[0].host_identifier = Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(
        endpoint::Endpoint {
            address: socket("10.0.0.1", port),
            additional_addresses: vec![endpoint::endpoint::AdditionalAddress { address: further }],
            ..Default::default()
        },
    ));
    all
}

pub(super) fn locality(priority: u32, ports: &[u32]) -> endpoint::LocalityLbEndpoints {
    endpoint::LocalityLbEndpoints {
        locality: Some(core::Locality::default()),
        lb_endpoints: ports.iter().map(|port| lb_endpoint(*port)).collect(),
        load_balancing_weight: number(1),
        priority,
        ..Default::default()
    }
}

#[track_caller]
pub(super) fn endpoints_refused(endpoints: Vec<endpoint::LocalityLbEndpoints>, expected: &str) {
    let message = endpoint::ClusterLoadAssignment {
        cluster_name: "a".into(),
        endpoints,
        ..Default::default()
    };
    refused(Kind::Endpoints, &message, expected);
}

#[test]
fn d3_d9_endpoints_that_are_refused() {
    let nowhere = endpoint::LocalityLbEndpoints {
        locality: None,
        ..locality(0, &[1])
    };
    endpoints_refused(vec![nowhere], "endpoints[0].locality: is missing");
    endpoints_refused(
        vec![locality(0, &[1]), locality(0, &[2])],
        "endpoints[1].locality: \"//\" stands twice in priority 0",
    );
    endpoints_refused(
        vec![locality(0, &[1]), locality(2, &[2])],
        "endpoints: have priority 2 and none of priority 1",
    );
    endpoints_refused(
        vec![locality(0, &[1, 1])],
        "endpoints[0].lb_endpoints[1].endpoint.address: \"10.0.0.1:1\" stands twice",
    );
    endpoints_refused(
        vec![locality(0, &[0])],
        "socket_address.port_value: 0 is no port; 1 to 65535 is allowed",
    );
    endpoints_refused(vec![locality(0, &[70_000])], "port_value: 70000 is no port");
    for (first, further, expected) in [
        (
            1,
            socket("10.0.0.1", 1),
            "additional_addresses[0].address: \"10.0.0.1:1\" stands twice",
        ),
        (
            1,
            socket("10.0.0.1", 0),
            "additional_addresses[0].address.socket_address.port_value: 0 is no port",
        ),
        (1, None, "additional_addresses[0].address: is missing"),
        (
            1,
            pipe(),
            "endpoint.additional_addresses: only IP addresses may be several, and one of these is none",
        ),
    ] {
        endpoints_refused(vec![several(first, further)], expected);
    }
    let mut heavy = locality(0, &[1, 2]);
    heavy.lb_endpoints[0].load_balancing_weight = number(u32::MAX);
    endpoints_refused(
        vec![heavy],
        "endpoints[0].lb_endpoints: have weights whose sum is 4294967296",
    );
    let mut weightless = locality(0, &[1]);
    weightless.lb_endpoints[0].load_balancing_weight = number(0);
    endpoints_refused(
        vec![weightless],
        "lb_endpoints[0].load_balancing_weight: is 0; 1 or more is allowed",
    );
    let mut other = locality(0, &[2]);
    other.locality = Some(core::Locality {
        region: "b".into(),
        ..Default::default()
    });
    other.load_balancing_weight = number(u32::MAX);
    endpoints_refused(
        vec![locality(0, &[1]), other],
        "endpoints: of priority 0 have weights whose sum is 4294967296",
    );
    let drop = endpoint::cluster_load_assignment::policy::DropOverload {
        category: "lb".into(),
        drop_percentage: Some(percent::FractionalPercent {
            numerator: 1,
            denominator: 7,
        }),
    };
    let dropping = endpoint::ClusterLoadAssignment {
        cluster_name: "a".into(),
        policy: Some(endpoint::cluster_load_assignment::Policy {
            drop_overloads: vec![drop],
            ..Default::default()
        }),
        ..Default::default()
    };
    refused(
        Kind::Endpoints,
        &dropping,
        "policy.drop_overloads[0].drop_percentage.denominator: 7 is unknown",
    );
}

#[test]
fn d1_bytes_that_are_no_message_are_refused() {
    for kind in Kind::ALL {
        assert!(decode(kind, &[0xff, 0xff, 0xff]).is_err(), "{kind}");
    }
    // A message that is nested deeper than prost allows: matchers in matchers would be one.
    let mut deep = Vec::new();
    for _ in 0..200 {
        let mut outer = vec![0x12];
        prost::encoding::encode_varint(deep.len() as u64, &mut outer);
        outer.extend_from_slice(&deep);
        deep = outer;
    }
    for kind in Kind::ALL {
        assert!(decode(kind, &deep).is_err(), "{kind}");
    }
}

/// An endpoint at this address.
fn located(address: Option<core::Address>) -> endpoint::LocalityLbEndpoints {
    let mut all = locality(0, &[1]);
    all.lb_endpoints[0].host_identifier = Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(
        endpoint::Endpoint {
            address,
            ..Default::default()
        },
    ));
    all
}

/// A socket address with a change.
fn changed(change: impl FnOnce(&mut core::SocketAddress)) -> Option<core::Address> {
    let mut address = socket("10.0.0.1", 1);
    if let Some(core::address::Address::SocketAddress(socket)) = address
        .as_mut()
        .and_then(|address| address.address.as_mut())
    {
        change(socket);
    }
    address
}

#[test]
fn d9_addresses_that_are_refused() {
    use core::address::Address as Kind;
    use core::socket_address::PortSpecifier;
    let kind = |address: Option<Kind>| Some(core::Address { address });
    for (address, expected) in [
        (None, ": is missing"),
        (
            kind(None),
            ": is empty; socket_address and pipe are allowed",
        ),
        (
            kind(Some(Kind::EnvoyInternalAddress(Default::default()))),
            ".envoy_internal_address: is not supported; socket_address and pipe are",
        ),
        (
            kind(Some(Kind::Pipe(Default::default()))),
            ".pipe.path: is empty",
        ),
        (
            changed(|s| s.protocol = core::socket_address::Protocol::Udp.into()),
            ".socket_address.protocol: is not TCP; only TCP is allowed",
        ),
        (
            changed(|s| s.resolver_name = "x".into()),
            ".socket_address.resolver_name: names a resolver, which is not supported",
        ),
        (
            changed(|s| s.port_specifier = None),
            ".socket_address.port_value: is missing",
        ),
        (
            changed(|s| s.port_specifier = Some(PortSpecifier::NamedPort("http".into()))),
            ".socket_address.named_port: is not supported; port_value is",
        ),
        (
            changed(|s| s.address.clear()),
            ".socket_address.address: \"\" is neither an IP address nor a host name",
        ),
        (
            changed(|s| s.address = "a/b".into()),
            ".socket_address.address: \"a/b\" is neither an IP address nor a host name",
        ),
    ] {
        endpoints_refused(
            vec![located(address)],
            &format!("endpoints[0].lb_endpoints[0].endpoint.address{expected}"),
        );
    }
    // Further addresses do not stand in for the first.
    let mut headless = several(1, socket("10.0.0.1", 2));
    if let Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(endpoint)) =
        &mut headless.lb_endpoints[0].host_identifier
    {
        endpoint.address = None;
    }
    endpoints_refused(
        vec![headless],
        "endpoints[0].lb_endpoints[0].endpoint.address: is missing",
    );
}

#[test]
fn d9_an_address_stands_once_in_the_whole_resource() {
    let elsewhere = |priority: u32, all: endpoint::LocalityLbEndpoints| {
        let locality = Some(core::Locality {
            region: "b".into(),
            ..core::Locality::default()
        });
        endpoint::LocalityLbEndpoints {
            locality,
            priority,
            ..all
        }
    };
    for priority in [0, 1] {
        endpoints_refused(
            vec![locality(0, &[1]), elsewhere(priority, locality(0, &[1]))],
            "endpoints[1].lb_endpoints[0].endpoint.address: \"10.0.0.1:1\" stands twice",
        );
    }
    // A first address that is a further one of another endpoint, and the other way round.
    endpoints_refused(
        vec![
            several(1, socket("10.0.0.1", 2)),
            elsewhere(0, locality(0, &[2])),
        ],
        "endpoints[1].lb_endpoints[0].endpoint.address: \"10.0.0.1:2\" stands twice",
    );
    endpoints_refused(
        vec![
            locality(0, &[2]),
            elsewhere(0, several(1, socket("10.0.0.1", 2))),
        ],
        "endpoints[1].lb_endpoints[0].endpoint.additional_addresses[0].address: \"10.0.0.1:2\" stands",
    );
}

#[test]
fn d9_other_rules_of_endpoints() {
    use endpoint::lb_endpoint::HostIdentifier;
    use endpoint::locality_lb_endpoints::{LbConfig, LbEndpointList};
    let change = |change: fn(&mut endpoint::LocalityLbEndpoints)| {
        let mut all = locality(0, &[1]);
        change(&mut all);
        vec![all]
    };
    type Change = fn(&mut endpoint::LocalityLbEndpoints);
    let rows: [(Change, &str); 6] = [
        (
            |l| l.priority = 1,
            "endpoints: have priority 1 and none of priority 0; priorities follow each other from 0",
        ),
        (
            |l| l.lb_config = Some(LbConfig::LedsClusterLocalityConfig(Default::default())),
            "endpoints[0].leds_cluster_locality_config: is not supported; lb_endpoints are",
        ),
        (
            |l| l.lb_endpoints[0].health_status = 9,
            "endpoints[0].lb_endpoints[0].health_status: 9 is unknown; 0 to 5 are allowed",
        ),
        (
            |l| l.lb_endpoints[0].host_identifier = None,
            "endpoints[0].lb_endpoints[0].endpoint: is missing",
        ),
        (
            |l| {
                l.lb_endpoints[0].host_identifier = Some(HostIdentifier::EndpointName("x".into()));
            },
            "endpoints[0].lb_endpoints[0].endpoint_name: \"x\" is none of named_endpoints",
        ),
        (
            |l| {
                let list = LbEndpointList {
                    lb_endpoints: vec![Default::default()],
                };
                l.lb_config = Some(LbConfig::LoadBalancerEndpoints(list));
            },
            "endpoints[0].load_balancer_endpoints.lb_endpoints[0].endpoint: is missing",
        ),
    ];
    for (one, expected) in rows {
        endpoints_refused(change(one), expected);
    }
    let nameless = endpoint::ClusterLoadAssignment::default();
    refused(
        Kind::Endpoints,
        &nameless,
        "cluster_name: has 0 bytes; 1 to 4096 are allowed",
    );
    // All faults at once, also those of other fields.
    let drop = endpoint::cluster_load_assignment::policy::DropOverload::default();
    let both = endpoint::ClusterLoadAssignment {
        cluster_name: "a".into(),
        endpoints: change(|l| l.locality = None),
        policy: Some(endpoint::cluster_load_assignment::Policy {
            drop_overloads: vec![drop],
            ..Default::default()
        }),
        ..Default::default()
    };
    refused(Kind::Endpoints, &both, "endpoints[0].locality: is missing");
    refused(
        Kind::Endpoints,
        &both,
        "policy.drop_overloads[0].category: is empty",
    );
}
