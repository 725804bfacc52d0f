use prost::Message as _;
use serde_json::json;

use super::*;
use crate::source::xds::proto::{cluster, core};

const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";

fn object(json: serde_json::Value) -> serde_json::Map<String, serde_json::Value> {
    json.as_object().expect("an object").clone()
}

fn of(json: serde_json::Value) -> Result<Vec<u8>, Vec<Misfit>> {
    read(&descriptor(CLUSTER).expect("it is known"), object(json))
}

#[test]
fn the_descriptors_decode() {
    let pool = DescriptorPool::decode(DESCRIPTORS).expect("a descriptor set");
    assert!(pool.all_messages().count() > 1_000);
    assert!(SENSITIVE.iter().all(|name| {
        let (message, field) = name.rsplit_once('.').expect("a field of a message");
        pool.get_message_by_name(message)
            .is_some_and(|message| message.get_field_by_name(field).is_some())
    }));
}

#[test]
fn both_spellings_are_one_message_and_it_is_printed_as_it_was_written() {
    let snake = json!({
        "name": "c", "type": "EDS", "connect_timeout": "1.500s",
        "eds_cluster_config": {"eds_config": {"ads": {}, "resource_api_version": "V3"}},
        "metadata": {"filter_metadata": {"b": {"x": 1.0}, "a": {"y": [true, null, "z"]}}},
    });
    let camel = json!({
        "name": "c", "type": "EDS", "connectTimeout": "1.5s",
        "edsClusterConfig": {"edsConfig": {"ads": {}, "resourceApiVersion": "V3"}},
        "metadata": {"filterMetadata": {"a": {"y": [true, null, "z"]}, "b": {"x": 1}}},
    });
    let bytes = of(snake.clone()).expect("it fits");
    assert_eq!(bytes, of(camel).expect("it fits"));
    let message = cluster::Cluster::decode(&*bytes).expect("it decodes");
    assert_eq!((&*message.name, message.r#type()), ("c", 3));
    let mut expected = snake;
    expected["@type"] = CLUSTER.into();
    assert_eq!(print(CLUSTER, &bytes), expected);
}

trait TypeOf {
    fn r#type(&self) -> i32;
}

impl TypeOf for cluster::Cluster {
    fn r#type(&self) -> i32 {
        match self.cluster_discovery_type {
            Some(cluster::cluster::ClusterDiscoveryType::Type(kind)) => kind,
            _ => -1,
        }
    }
}

#[test]
fn equal_messages_are_equal_bytes_also_inside_of_others() {
    let metadata = || {
        let entries = (0..30).map(|index| (format!("k{index}"), json!({"x": index})));
        json!({"filter_metadata": serde_json::Value::Object(entries.collect())})
    };
    let typed = json!({
        "@type": "type.googleapis.com/envoy.config.core.v3.Metadata",
        "filter_metadata": metadata()["filter_metadata"],
    });
    let json = json!({
        "name": "c",
        "metadata": {"filter_metadata": metadata()["filter_metadata"]},
        "typed_extension_protocol_options": {"a": typed, "b": typed},
    });
    let one = of(json.clone()).expect("it fits");
    assert!((0..10).all(|_| of(json.clone()).expect("it fits") == one));
}

#[test]
fn all_unknown_fields_are_told_at_once_with_their_paths() {
    let misfits = of(json!({
        "nam": "c",
        "load_assignment": {"endpoints": [{"priorty": 1}]},
        "transport_socket": {"name": "x", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "snii": "x",
        }},
        "typed_extension_protocol_options": {"a": {"@type": "type.googleapis.com/no.Such"}},
    }))
    .expect_err("it does not fit");
    let told: Vec<(&str, Option<&str>)> = misfits
        .iter()
        .map(|misfit| (&*misfit.path, misfit.hint.as_deref()))
        .collect();
    assert_eq!(
        told,
        [
            (
                "load_assignment.endpoints[0].priorty",
                Some("did you mean \"priority\"?")
            ),
            ("nam", Some("did you mean \"name\"?")),
            (
                "transport_socket.typed_config.snii",
                Some("did you mean \"sni\"?")
            ),
            ("typed_extension_protocol_options.a.@type", None),
        ]
    );
    assert!(misfits[3].text.contains("no.Such"));
}

#[test]
fn a_value_of_another_type_is_told_with_its_path() {
    for (json, path) in [
        (json!({"name": 7}), "name"),
        (json!({"type": "NOSUCH"}), "type"),
        (json!({"connect_timeout": "soon"}), "connect_timeout"),
        (
            json!({"load_assignment": {"endpoints": [{"priority": "x"}]}}),
            "load_assignment.endpoints[0].priority",
        ),
    ] {
        let misfits = of(json).expect_err("it does not fit");
        assert_eq!(misfits[0].path, path);
    }
}

#[test]
fn unknown_types_and_broken_bytes_are_shown_in_base64() {
    let shown = print("type.googleapis.com/no.Such", b"\x01\x02");
    assert_eq!(
        shown,
        json!({"@type": "type.googleapis.com/no.Such", "value": "AQI="})
    );
    let broken = print(CLUSTER, b"\xff");
    assert_eq!(broken["value"], "/w==");
    let mut holder = core::TypedExtensionConfig {
        name: "x".into(),
        typed_config: None,
    };
    holder.typed_config = Some(crate::source::xds::proto::Any {
        type_url: "type.googleapis.com/no.Such".into(),
        value: vec![1, 2],
    });
    let url = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig";
    assert_eq!(
        print(url, &holder.encode_to_vec())["typed_config"]["value"],
        "AQI="
    );
}

#[test]
fn secrets_are_not_shown_at_any_depth() {
    const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
    let of = descriptor(SECRET).expect("it is known");
    let json = json!({
        "name": "s",
        "tls_certificate": {
            "certificate_chain": {"inline_string": "public"},
            "private_key": {"inline_string": "PRIVATE"},
        },
    });
    let bytes = read(&of, object(json.clone())).expect("it fits");
    let shown = print(SECRET, &bytes);
    assert!(!shown.to_string().contains("PRIVATE"), "{shown}");
    assert_eq!(
        shown["tls_certificate"]["private_key"],
        json!({"inline_string": REDACTED})
    );
    assert_eq!(
        shown["tls_certificate"]["certificate_chain"]["inline_string"],
        "public"
    );
    let url = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig";
    let holder = core::TypedExtensionConfig {
        name: "x".into(),
        typed_config: Some(crate::source::xds::proto::Any {
            type_url: SECRET.into(),
            value: bytes,
        }),
    };
    let shown = print(url, &holder.encode_to_vec()).to_string();
    assert!(
        shown.contains("public") && !shown.contains("PRIVATE"),
        "{shown}"
    );
}
