//! Endpoints.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;

use envoy_types::pb::google::protobuf::{Struct, Value, value::Kind as ValueKind};

use super::loss::Loss;
use super::{Dialect, Pen, value};
use crate::model::Endpoints;
use crate::model::endpoint::{
    Address, Endpoint, HASH_KEY, Health, Locality, LocalityEndpoints, Overload,
};
use crate::source::xds::decode::{HASHED_BY, ISTIO, LABELS, OWN_LABELS, TLS, TLS_MODE};
use crate::source::xds::proto::{core, endpoint as wire};

pub(super) fn assignment(pen: &mut Pen<'_>, model: &Endpoints) -> wire::ClusterLoadAssignment {
    let Endpoints {
        name,
        localities,
        overloads,
        origin: _,
    } = model;
    let mut all: Vec<_> = localities
        .iter()
        .map(|model| locality(pen, model))
        .collect();
    if pen.is_grpc() {
        // A locality without endpoints would keep its priority without anybody in it.
        all.retain(|locality| !locality.lb_endpoints.is_empty());
        close_gaps(&mut all);
    }
    wire::ClusterLoadAssignment {
        cluster_name: name.to_string(),
        endpoints: all,
        policy: (!overloads.is_empty()).then(|| policy(overloads)),
        ..wire::ClusterLoadAssignment::default()
    }
}

fn policy(overloads: &[Overload]) -> wire::cluster_load_assignment::Policy {
    use wire::cluster_load_assignment::policy::DropOverload;
    let drop = |model: &Overload| DropOverload {
        category: model.category.to_string(),
        drop_percentage: Some(value::fraction(model.share)),
    };
    wire::cluster_load_assignment::Policy {
        drop_overloads: overloads.iter().map(drop).collect(),
        ..wire::cluster_load_assignment::Policy::default()
    }
}

/// The first name of a set, which is all that gRPC's `LOGICAL_DNS` has.
pub(super) fn single_name(pen: &mut Pen<'_>, model: &Endpoints) -> wire::ClusterLoadAssignment {
    let all = model
        .localities
        .iter()
        .flat_map(|locality| &locality.endpoints);
    let mut names = all.filter(|endpoint| matches!(endpoint.address, Address::Name { .. }));
    let first = names.next().map(|model| endpoint(pen, model));
    pen.lose_if(names.next().is_some(), Loss::DnsNames);
    wire::ClusterLoadAssignment {
        cluster_name: model.name.to_string(),
        endpoints: vec![wire::LocalityLbEndpoints {
            locality: Some(core::Locality::default()),
            lb_endpoints: first.into_iter().collect(),
            load_balancing_weight: Some(value::number(1)),
            ..wire::LocalityLbEndpoints::default()
        }],
        ..wire::ClusterLoadAssignment::default()
    }
}

/// Priorities from 0 on, each the next one.
fn close_gaps(localities: &mut [wire::LocalityLbEndpoints]) {
    let mut used: Vec<u32> = localities.iter().map(|one| one.priority).collect();
    used.sort_unstable();
    used.dedup();
    for one in localities {
        if let Ok(place) = used.binary_search(&one.priority) {
            // No more places than there are priorities.
            one.priority = u32::try_from(place).unwrap_or(one.priority);
        }
    }
}

fn locality(pen: &mut Pen<'_>, model: &LocalityEndpoints) -> wire::LocalityLbEndpoints {
    let LocalityEndpoints {
        locality,
        priority,
        weight,
        endpoints,
    } = model;
    let Locality {
        region,
        zone,
        sub_zone,
    } = locality;
    // gRPC reads IP addresses only.
    let known = |endpoint: &&Endpoint| {
        !pen.is_grpc() || matches!(endpoint.address, Address::Several(_) | Address::Socket(_))
    };
    let known: Vec<&Endpoint> = endpoints.iter().filter(known).collect();
    pen.lose_if(known.len() < endpoints.len(), Loss::AddressKind);
    let sum: u64 = known.iter().map(|one| u64::from(one.weight.get())).sum();
    let weight = weight.map(NonZeroU32::get).or(pen
        .is_grpc()
        .then(|| u32::try_from(sum).unwrap_or(u32::MAX).max(1)));
    wire::LocalityLbEndpoints {
        locality: Some(core::Locality {
            region: region.to_string(),
            zone: zone.to_string(),
            sub_zone: sub_zone.to_string(),
        }),
        lb_endpoints: known
            .into_iter()
            .map(|model| endpoint(pen, model))
            .collect(),
        load_balancing_weight: weight.map(value::number),
        priority: *priority,
        ..wire::LocalityLbEndpoints::default()
    }
}

fn endpoint(pen: &mut Pen<'_>, model: &Endpoint) -> wire::LbEndpoint {
    let Endpoint {
        address,
        hostname,
        weight,
        health,
        labels,
        meshed,
    } = model;
    let health = match health {
        Health::Draining => core::HealthStatus::Draining,
        Health::Healthy => core::HealthStatus::Healthy,
        Health::Unhealthy => core::HealthStatus::Unhealthy,
    };
    let lost = match pen.dialect {
        Dialect::Envoy => labels.contains_key(HASHED_BY),
        Dialect::Grpc => !labels.is_empty(),
        Dialect::Meshwork => false,
    };
    pen.lose_if(lost, Loss::Labels);
    let metadata = match pen.is_grpc() {
        true => None,
        false => self::metadata(labels, *meshed, pen.is_meshwork()),
    };
    wire::LbEndpoint {
        health_status: health.into(),
        metadata,
        load_balancing_weight: Some(value::number(weight.get())),
        host_identifier: Some(wire::lb_endpoint::HostIdentifier::Endpoint(
            wire::Endpoint {
                address: Some(self::address(address)),
                additional_addresses: additional(address),
                hostname: hostname
                    .as_ref()
                    .map(ToString::to_string)
                    .unwrap_or_default(),
                ..wire::Endpoint::default()
            },
        )),
    }
}

type Labels = BTreeMap<Box<str>, Box<str>>;

/// `whole`: also what other clients would take for something else.
fn metadata(labels: &Labels, meshed: bool, whole: bool) -> Option<core::Metadata> {
    let mut all = HashMap::new();
    if let Some(text) = labels.get(HASHED_BY).filter(|_| whole) {
        let fields = HashMap::from([text_value(HASHED_BY, text)]);
        all.insert(OWN_LABELS.to_owned(), Struct { fields });
    }
    if !labels.is_empty() {
        // A label of that name would be what the endpoint is hashed by.
        let told = labels.iter().filter_map(|(key, text)| match &**key {
            HASHED_BY => None,
            HASH_KEY => Some(text_value(HASHED_BY, text)),
            label => Some(text_value(label, text)),
        });
        let fields: HashMap<_, _> = told.collect();
        if !fields.is_empty() {
            all.insert(LABELS.to_owned(), Struct { fields });
        }
    }
    if meshed {
        let fields = HashMap::from([text_value(TLS_MODE, ISTIO)]);
        all.insert(TLS.to_owned(), Struct { fields });
    }
    (!all.is_empty()).then(|| core::Metadata {
        filter_metadata: all,
        typed_filter_metadata: HashMap::new(),
    })
}

fn text_value(key: &str, text: &str) -> (String, Value) {
    let kind = Some(ValueKind::StringValue(text.to_owned()));
    (key.to_owned(), Value { kind })
}

/// All addresses of an endpoint but the first.
fn additional(model: &Address) -> Vec<wire::endpoint::AdditionalAddress> {
    let Address::Several(all) = model else {
        return Vec::new();
    };
    let further = all.all().skip(1);
    let further = further.map(|one| wire::endpoint::AdditionalAddress {
        address: Some(address(&Address::Socket(one))),
    });
    further.collect()
}

fn address(model: &Address) -> core::Address {
    use core::address::Address as Kind;
    let socket = |address: String, port: u16| {
        Kind::SocketAddress(core::SocketAddress {
            address,
            port_specifier: Some(core::socket_address::PortSpecifier::PortValue(u32::from(
                port,
            ))),
            ..core::SocketAddress::default()
        })
    };
    core::Address {
        address: Some(match model {
            Address::Name { host, port } => socket(host.to_string(), *port),
            Address::Several(all) => socket(all.first().ip().to_string(), all.first().port()),
            Address::Socket(address) => socket(address.ip().to_string(), address.port()),
            Address::Unix(path) => Kind::Pipe(core::Pipe {
                path: path.to_string_lossy().into_owned(),
                mode: 0,
            }),
        }),
    }
}
