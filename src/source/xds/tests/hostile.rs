//! Messages that no control plane means well by: rows D1 and D2 of the catalogue.

use std::collections::BTreeSet;
use std::sync::Arc;

use prost::Message;

use super::decode;
use crate::source::xds::Kind;
use crate::source::xds::ads::message::{Content, Incoming, Raw, Response};
use crate::source::xds::decode::Messages;
use crate::source::xds::proto::{cluster, core};
use crate::source::xds::reading::Reading;
use crate::source::xds::resource::Context;

fn good_cluster(name: &str) -> cluster::Cluster {
    let ads = core::config_source::ConfigSourceSpecifier::Ads(Default::default());
    cluster::Cluster {
        name: name.to_owned(),
        cluster_discovery_type: Some(cluster::cluster::ClusterDiscoveryType::Type(
            cluster::cluster::DiscoveryType::Eds.into(),
        )),
        eds_cluster_config: Some(cluster::cluster::EdsClusterConfig {
            eds_config: Some(core::ConfigSource {
                config_source_specifier: Some(ads),
                ..core::ConfigSource::default()
            }),
            service_name: String::new(),
        }),
        ..cluster::Cluster::default()
    }
}

fn incoming(outer: Option<&str>, type_url: &str, bytes: Vec<u8>) -> Incoming {
    Incoming {
        name: outer.map(Arc::from),
        version: None,
        ttl: None,
        content: Content::Message(Raw {
            type_url: type_url.into(),
            bytes: bytes.into(),
        }),
    }
}

/// What is read of these resources where only `wanted` was asked for.
fn read(resources: Vec<Incoming>, wanted: &[&str]) -> Reading {
    let (server, version) = (Arc::from("test"), Arc::from("1"));
    let providers = BTreeSet::new();
    let context = Context {
        server: &server,
        version: &version,
        certificate_providers: &providers,
        trusted: false,
    };
    let response = Response {
        type_url: Kind::Cluster.type_url().into(),
        version: version.clone(),
        resources,
        ..Response::default()
    };
    Reading::new(
        Kind::Cluster,
        response,
        &Messages::default(),
        context,
        |name| wanted.contains(&name),
    )
}

#[test]
fn d1_messages_that_are_nested_too_deep_are_refused_and_not_followed() {
    use envoy_types::pb::google::protobuf::{Struct, Value, value};
    for (depth, fine) in [(20, true), (101, false), (1_000, false)] {
        let mut structure = Struct::default();
        for _ in 0..depth {
            let kind = Some(value::Kind::StructValue(structure));
            structure = Struct {
                fields: [("s".to_owned(), Value { kind })].into(),
            };
        }
        let mut message = good_cluster("c");
        message.metadata = Some(core::Metadata {
            filter_metadata: [("deep".to_owned(), structure)].into(),
            ..core::Metadata::default()
        });
        let decoded = decode(Kind::Cluster, &message.encode_to_vec());
        match decoded {
            Ok(_) => assert!(fine, "{depth}"),
            Err(rejection) => {
                assert!(!fine, "{depth}: {rejection}");
                assert!(
                    rejection.to_string().contains("recursion limit"),
                    "{rejection}"
                );
            }
        }
    }
}

#[test]
fn d1_a_blob_of_sixteen_megabytes_is_refused_in_few_words() {
    for blob in [
        vec![0xff; 16 << 20],
        vec![0x00; 16 << 20],
        vec![0x0a; 16 << 20],
    ] {
        let rejection = decode(Kind::Cluster, &blob).unwrap_err();
        assert!(rejection.to_string().len() < 1_000, "{rejection}");
    }
    // A name that long is not repeated either.
    let rejection = decode(
        Kind::Cluster,
        &good_cluster(&"n".repeat(16 << 20)).encode_to_vec(),
    )
    .unwrap_err();
    assert_eq!(rejection.name, None);
    assert_eq!(
        rejection.to_string(),
        "name: has 16777216 bytes; 1 to 4096 are allowed"
    );
}

#[test]
fn d1_resources_of_another_type_or_in_a_second_envelope_are_refused() {
    let bytes = good_cluster("c").encode_to_vec();
    let envelope = "type.googleapis.com/envoy.service.discovery.v3.Resource";
    for type_url in [
        Kind::Listener.type_url(),
        "",
        "type.googleapis.com/envoy.config.cluster.v3.ClusterX",
        envelope,
    ] {
        let reading = read(vec![incoming(Some("c"), type_url, bytes.clone())], &["c"]);
        assert!(reading.good.is_empty(), "{type_url}");
        let text = &reading.refused["c"];
        assert!(text.contains("in a response of"), "{type_url}: {text}");
    }
}

#[test]
fn d2_a_name_that_is_empty_twice_or_another_outside_is_refused() {
    let bytes = |name: &str| good_cluster(name).encode_to_vec();
    let url = Kind::Cluster.type_url();
    let reading = read(vec![incoming(None, url, bytes(""))], &["c"]);
    let refusal = reading.refusal().unwrap();
    assert!(
        refusal.contains("resource index 0: name: has 0 bytes"),
        "{refusal}"
    );
    let twice = vec![
        incoming(None, url, bytes("c")),
        incoming(None, url, bytes("c")),
    ];
    let reading = read(twice, &["c"]);
    assert!(reading.good.is_empty());
    assert_eq!(reading.refused["c"], "is twice in one response");
    let other = vec![incoming(Some("d"), url, bytes("c"))];
    let reading = read(other, &["c", "d"]);
    assert!(reading.good.is_empty());
    let text = &reading.refused["d"];
    assert_eq!(text, "is called \"d\" outside and \"c\" inside");
}

#[test]
fn d2_names_that_nobody_asked_for_neither_count_nor_refuse() {
    let url = Kind::Cluster.type_url();
    let mut all: Vec<Incoming> = (0..1_000)
        .map(|number| {
            let bytes = good_cluster(&format!("other {number}")).encode_to_vec();
            incoming(None, url, bytes)
        })
        .collect();
    // One of them is wrong, which is for those who asked for it.
    all.push(incoming(
        None,
        url,
        cluster::Cluster {
            name: "bad".to_owned(),
            lb_policy: 99,
            ..good_cluster("bad")
        }
        .encode_to_vec(),
    ));
    all.push(incoming(None, url, good_cluster("c").encode_to_vec()));
    let reading = read(all, &["c"]);
    assert_eq!(reading.good.keys().collect::<Vec<_>>(), [&Arc::from("c")]);
    assert_eq!(reading.refusal(), None);
}

#[test]
fn d2_names_of_any_kind_are_survived() {
    for name in [
        "xdstp:",
        "xdstp://",
        "xdstp:///",
        "xdstp://a",
        "xdstp://a/b?c&d=%zz#e",
        "xdstp://a/envoy.config.cluster.v3.Cluster/%ff",
        "\u{0}",
        "\u{202e}x",
    ] {
        let mut message = good_cluster(name);
        if let Some(config) = &mut message.eds_cluster_config {
            config.service_name = "e".to_owned();
        }
        let bytes = message.encode_to_vec();
        let reading = read(vec![incoming(None, Kind::Cluster.type_url(), bytes)], &[]);
        assert_eq!(reading.refusal(), None, "{name:?}: nobody asked for it");
    }
}
