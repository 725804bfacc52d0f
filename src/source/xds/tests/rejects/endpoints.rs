//! Endpoints, and bytes that are no message.

use super::{decode, number, refused};
use crate::source::xds::Kind;
use crate::source::xds::proto::{core, endpoint, percent};

fn lb_endpoint(port: u32) -> endpoint::LbEndpoint {
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

fn socket(ip: &str, port: u32) -> Option<core::Address> {
    let specifier = core::socket_address::PortSpecifier::PortValue(port);
    Some(core::Address {
        address: Some(core::address::Address::SocketAddress(core::SocketAddress {
            address: ip.into(),
            port_specifier: Some(specifier),
            ..Default::default()
        })),
    })
}

fn pipe() -> Option<core::Address> {
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

fn locality(priority: u32, ports: &[u32]) -> endpoint::LocalityLbEndpoints {
    endpoint::LocalityLbEndpoints {
        locality: Some(core::Locality::default()),
        lb_endpoints: ports.iter().map(|port| lb_endpoint(*port)).collect(),
        load_balancing_weight: number(1),
        priority,
        ..Default::default()
    }
}

#[track_caller]
fn endpoints_refused(endpoints: Vec<endpoint::LocalityLbEndpoints>, expected: &str) {
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
