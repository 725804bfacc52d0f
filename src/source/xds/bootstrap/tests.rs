//! What is read of a bootstrap, and every fault with its path.

use std::collections::BTreeMap;
use std::ffi::OsString;

use serde_json::{Value, json};

use super::*;
use crate::model::endpoint::Address;

fn good() -> Value {
    json!({
        "xds_servers": [{
            "server_uri": "127.0.0.1:18000",
            "channel_creds": [{"type": "insecure"}],
            "server_features": ["xds_v3"],
        }],
        "node": {"id": "order-1", "cluster": "test",
                 "metadata": {"team": "shop", "replicas": 3},
                 "locality": {"region": "eu", "zone": "a", "sub_zone": "rack"}},
    })
}

fn faults(value: &Value) -> String {
    let error = Bootstrap::from_json(&value.to_string()).unwrap_err();
    assert!(error.is_config());
    error.to_string()
}

#[test]
fn a_file_of_grpc_is_read_as_it_is() {
    let bootstrap = Bootstrap::from_json(&good().to_string()).unwrap();
    let [server] = &*bootstrap.servers else {
        panic!("{bootstrap:?}");
    };
    assert_eq!(
        server.address,
        Address::Socket("127.0.0.1:18000".parse().unwrap())
    );
    assert_eq!(server.credentials, Credentials::Insecure);
    assert_eq!(server.features, Features::default());
    assert_eq!(&*bootstrap.node.id, "order-1");
    assert_eq!(&*bootstrap.node.locality.sub_zone, "rack");
    assert_eq!(bootstrap.node.metadata["replicas"], 3);
    assert_eq!(&*bootstrap.client_template, "%s");
    assert_eq!(bootstrap.server_template, None);
}

#[test]
fn unknown_fields_features_and_credentials_are_passed_over() {
    let mut value = good();
    value["novel"] = json!({"anything": [1, null]});
    value["xds_servers"][0]["novel"] = json!(1);
    value["xds_servers"][0]["channel_creds"] =
        json!([{"type": "google_default"}, {"type": "insecure"}, {"type": "tls"}]);
    value["xds_servers"][0]["server_features"] = json!([
        7, {"a": 1}, "novel", "xds.delta", "fail_on_data_errors",
        "resource_timer_is_transient_error", "trusted_xds_server"
    ]);
    value["certificate_providers"] = json!({"novel": {"plugin_name": "vault"}});
    let bootstrap = Bootstrap::from_json(&value.to_string()).unwrap();
    assert_eq!(
        bootstrap.servers[0].credentials,
        Credentials::Insecure,
        "the first known one"
    );
    let all = Features {
        delta: true,
        fail_on_data_errors: true,
        timer_is_transient: true,
        trusted: true,
    };
    assert_eq!(bootstrap.servers[0].features, all);
    assert_eq!(all.patience().as_secs(), 30);
    assert_eq!(Features::default().patience().as_secs(), 15);
    assert!(bootstrap.certificate_providers.is_empty());
}

#[test]
fn tls_tokens_and_providers_are_files() {
    let mut value = good();
    value["xds_servers"][0]["channel_creds"] = json!([{"type": "tls", "config": {
        "ca_certificate_file": "/ca.pem", "certificate_file": "/chain.pem",
        "private_key_file": "/key.pem", "refresh_interval": "1.5s"}}]);
    value["xds_servers"][0]["call_creds"] = json!([
        {"type": "novel"}, {"type": "jwt_token_file", "config": {"jwt_token_file": "/token"}}
    ]);
    value["certificate_providers"] = json!({"default": {"plugin_name": "file_watcher", "config": {
        "certificate_file": "/c", "private_key_file": "/k", "ca_certificate_file": "/r"}}});
    let bootstrap = Bootstrap::from_json(&value.to_string()).unwrap();
    let Credentials::Tls(tls) = &bootstrap.servers[0].credentials else {
        panic!("{bootstrap:?}");
    };
    assert_eq!(tls.refresh, Duration::from_millis(1_500));
    assert_eq!(tls.identity, Some(("/chain.pem".into(), "/key.pem".into())));
    assert_eq!(bootstrap.servers[0].tokens, [PathBuf::from("/token")]);
    let provider = &bootstrap.certificate_providers["default"];
    assert_eq!(provider.roots, Some("/r".into()));
    assert_eq!(provider.bundle_map, None);
    assert_eq!(provider.refresh, Duration::from_secs(600));
}

#[test]
fn authorities_have_servers_and_templates_of_their_own_or_those_of_all() {
    let mut value = good();
    value["authorities"] = json!({
        "a.example": {},
        "b.example": {
            "xds_servers": [{"server_uri": "dns:///b:1", "channel_creds": [{"type": "insecure"}]}],
            "client_listener_resource_name_template": "xdstp://b.example/x/%s?k=v",
            "fallback_on_reachability_only": true
        }
    });
    let bootstrap = Bootstrap::from_json(&value.to_string()).unwrap();
    let (a, b) = (
        &bootstrap.authorities["a.example"],
        &bootstrap.authorities["b.example"],
    );
    assert_eq!(a.servers, bootstrap.servers);
    assert_eq!(
        &*a.client_template,
        "xdstp://a.example/envoy.config.listener.v3.Listener/%s"
    );
    assert!(!a.on_reachability_only && b.on_reachability_only);
    assert_eq!(&*b.client_template, "xdstp://b.example/x/%s?k=v");
    let address = Address::Name {
        host: "b".into(),
        port: 1,
    };
    assert_eq!(b.servers[0].address, address);
}

#[test]
fn every_fault_is_told_with_its_path() {
    let insecure = json!([{"type": "insecure"}]);
    let server = |uri: &str| json!({"server_uri": uri, "channel_creds": insecure});
    let cases: &[(Value, &str)] = &[
        (json!([]), "the whole: found a list, allowed is an object"),
        (json!({}), "xds_servers: is missing"),
        (json!({"xds_servers": []}), "xds_servers: is empty"),
        (
            json!({"xds_servers": 1}),
            "xds_servers: found a number, allowed is a list",
        ),
        (
            json!({"xds_servers": ["a:1"]}),
            "xds_servers[0]: found a text",
        ),
        (
            json!({"xds_servers": [{"server_uri": "a:1"}]}),
            "xds_servers[0].channel_creds: is missing",
        ),
        (
            json!({"xds_servers": [{"channel_creds": insecure}]}),
            "xds_servers[0].server_uri: is missing",
        ),
        (
            json!({"xds_servers": [server("http://a:1")]}),
            "xds_servers[0].server_uri: found \"http://a:1\"",
        ),
        (
            json!({"xds_servers": [server("a:99999")]}),
            "not a number from 1 to 65535",
        ),
        (
            json!({"xds_servers": [server("unix:")]}),
            "path of the socket is missing",
        ),
        (
            json!({"xds_servers": [{"server_uri": "a:1", "channel_creds": [{"type": "google_default"}]}]}),
            "xds_servers[0].channel_creds: none of them is supported: found [\"google_default\"]",
        ),
        (
            json!({"xds_servers": [{"server_uri": "a:1", "channel_creds": [{"type": "tls", "config":
                {"certificate_file": "/c"}}]}]}),
            "xds_servers[0].channel_creds[0].config: certificate_file without private_key_file",
        ),
        (
            json!({"xds_servers": [{"server_uri": "a:1", "channel_creds": [{"type": "tls", "config":
                {"refresh_interval": "-1s"}}]}]}),
            "xds_servers[0].channel_creds[0].config.refresh_interval: found \"-1s\"",
        ),
        (
            json!({"xds_servers": [{"server_uri": "a:1", "channel_creds": insecure, "call_creds":
                [{"type": "jwt_token_file", "config": {"jwt_token_file": "/t"}}]}]}),
            "xds_servers[0]: call_creds need an encrypted channel",
        ),
        (
            json!({"xds_servers": [server("a:1/b")]}),
            "xds_servers[0].server_uri: found \"a:1/b\": it is not a host and port; a scheme is not",
        ),
        (
            json!({"xds_servers": [server(":80")]}),
            "xds_servers[0].server_uri: found \":80\": the host is missing",
        ),
        (
            json!({"xds_servers": [{"server_uri": 1, "channel_creds": insecure}]}),
            "xds_servers[0].server_uri: found a number, allowed is a text",
        ),
        (
            json!({"xds_servers": [{"server_uri": "a:1", "channel_creds": [{}]}]}),
            "xds_servers[0].channel_creds[0].type: is missing",
        ),
        (
            json!({"xds_servers": [{"server_uri": "a:1", "channel_creds": [{"type": "tls", "config":
                {"private_key_file": "/k"}}]}]}),
            "xds_servers[0].channel_creds[0].config: private_key_file without certificate_file",
        ),
        (
            json!({"xds_servers": [{"server_uri": "a:1", "channel_creds": [{"type": "tls", "config":
                {"ca_certificate_file": ""}}]}]}),
            "xds_servers[0].channel_creds[0].config.ca_certificate_file: is empty, a path is needed",
        ),
        (
            json!({"xds_servers": [{"server_uri": "a:1", "channel_creds": [{"type": "tls", "config":
                {"refresh_interval": "1m"}}]}]}),
            "refresh_interval: found \"1m\", allowed are seconds above zero such as \"600s\"",
        ),
        (
            json!({"xds_servers": [{"server_uri": "a:1", "channel_creds": [{"type": "tls"}],
                "call_creds": [{"type": "jwt_token_file"}]}]}),
            "xds_servers[0].call_creds[0].config: is missing",
        ),
        (
            json!({"xds_servers": [{"server_uri": "a:1", "channel_creds": [{"type": "tls"}],
                "call_creds": [{"type": "jwt_token_file", "config": {}}]}]}),
            "xds_servers[0].call_creds[0].config.jwt_token_file: is missing",
        ),
        (
            json!({"xds_servers": [{"server_uri": "a:1", "channel_creds": insecure,
                "server_features": "xds_v3"}]}),
            "xds_servers[0].server_features: found a text, allowed is a list",
        ),
        (
            json!({"xds_servers": [server("a:1")], "node": {"metadata": []}}),
            "node.metadata: found a list, allowed is an object",
        ),
        (
            json!({"xds_servers": [server("a:1")], "authorities": {"x": {"xds_servers": []}}}),
            "authorities[\"x\"].xds_servers: is empty, at least one server is needed",
        ),
        (
            json!({"xds_servers": [server("a:1")], "authorities": {"x": {
                "fallback_on_reachability_only": 1}}}),
            "authorities[\"x\"].fallback_on_reachability_only: found a number, allowed is true or false",
        ),
        (
            json!({"xds_servers": [server("a:1")], "certificate_providers": {"d": {}}}),
            "certificate_providers[\"d\"].plugin_name: is missing",
        ),
        (
            json!({"xds_servers": [server("a:1")], "certificate_providers": {"d": {
                "plugin_name": "file_watcher"}}}),
            "certificate_providers[\"d\"].config: is missing",
        ),
        (
            json!({"xds_servers": [server("a:1")], "node": 1}),
            "node: found a number",
        ),
        (
            json!({"xds_servers": [server("a:1")], "node": {"id": 1}}),
            "node.id: found a number",
        ),
        (
            json!({"xds_servers": [server("a:1")], "server_listener_resource_name_template": "x"}),
            "server_listener_resource_name_template: found \"x\", which has no %s",
        ),
        (
            json!({"xds_servers": [server("a:1")], "authorities": {"x": {
                "client_listener_resource_name_template": "xdstp://y/%s"}}}),
            "authorities[\"x\"].client_listener_resource_name_template: found \"xdstp://y/%s\"",
        ),
        (
            json!({"xds_servers": [server("a:1")], "certificate_providers": {"d": {
                "plugin_name": "file_watcher", "config": {}}}}),
            "certificate_providers[\"d\"].config: provides nothing",
        ),
    ];
    for (value, expected) in cases {
        let text = faults(value);
        assert!(text.contains(expected), "{value}\n{text}");
    }
}

#[test]
fn all_faults_are_told_at_once() {
    let text = faults(&json!({
        "xds_servers": [{"server_uri": "a b", "channel_creds": 1}],
        "node": {"locality": []},
        "client_default_listener_resource_name_template": 5,
    }));
    for path in [
        "server_uri",
        "channel_creds",
        "node.locality",
        "client_default_listener",
    ] {
        assert!(text.contains(path), "{path} is not in\n{text}");
    }
    let error = Bootstrap::from_json("{").unwrap_err();
    assert!(error.to_string().contains("not JSON"), "{error}");
}

#[test]
fn the_file_variable_wins_over_the_text_and_one_of_them_is_needed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bootstrap.json");
    let mut named = good();
    named["node"]["id"] = json!("of the file");
    std::fs::write(&file, named.to_string()).unwrap();
    let with = |file: Option<&Path>, text: Option<String>| {
        let all: BTreeMap<&str, OsString> = [
            file.map(|path| (FILE_VARIABLE, path.into())),
            text.map(|text| (TEXT_VARIABLE, text.into())),
        ]
        .into_iter()
        .flatten()
        .collect();
        Bootstrap::from_variables(|name| all.get(name).cloned())
    };
    let text = good().to_string();
    let id = |bootstrap: Bootstrap| bootstrap.node.id.to_string();
    assert_eq!(
        id(with(Some(&file), Some(text.clone())).unwrap()),
        "of the file"
    );
    assert_eq!(id(with(None, Some(text.clone())).unwrap()), "order-1");
    assert_eq!(
        id(with(Some(Path::new("")), Some(text)).unwrap()),
        "order-1"
    );
    let error = with(None, None).unwrap_err().to_string();
    assert!(
        error.contains(FILE_VARIABLE) && error.contains(TEXT_VARIABLE),
        "{error}"
    );
    let error = with(Some(&folder.path().join("none")), None).unwrap_err();
    assert!(error.to_string().contains("cannot be read"), "{error}");
}

#[test]
fn a_pod_without_an_agent_is_a_proxyless_client_of_istiod() {
    let variables = |extra: &[(&str, &str)]| {
        let pod = [
            ("INSTANCE_IP", "10.0.0.7"),
            ("POD_NAME", "order-1"),
            ("POD_NAMESPACE", "my-app"),
            ("SERVICE_ACCOUNT", "order-sa"),
            ("ISTIO_META_MESH_ID", "shop"),
            ("ISTIO_METAJSON_LABELS", r#"{"app": "order"}"#),
        ];
        let all = pod.iter().chain(extra).copied();
        all.map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect::<BTreeMap<_, _>>()
    };
    let bootstrap = Bootstrap::of_pod(&variables(&[]), false).unwrap();
    let node = &bootstrap.node;
    assert_eq!(
        &*node.id,
        "sidecar~10.0.0.7~order-1.my-app~my-app.svc.cluster.local"
    );
    assert_eq!(node.metadata["GENERATOR"], "grpc");
    assert_eq!(node.metadata["SERVICE_ACCOUNT"], "order-sa");
    assert_eq!(node.metadata["MESH_ID"], "shop");
    assert_eq!(node.metadata["LABELS"]["app"], "order");
    assert_eq!(&*bootstrap.servers[0].uri, "istiod.istio-system.svc:15010");
    assert_eq!(bootstrap.servers[0].credentials, Credentials::Insecure);
    let secure = Bootstrap::of_pod(&variables(&[]), true).unwrap();
    assert_eq!(&*secure.servers[0].uri, "istiod.istio-system.svc:15012");
    assert!(matches!(secure.servers[0].credentials, Credentials::Tls(_)));
    assert_eq!(secure.servers[0].tokens.len(), 1);
    let own = [
        ("ISTIOD_ADDR", "istiod:15010"),
        ("CLUSTER_DOMAIN", "example"),
    ];
    let own = Bootstrap::of_pod(&variables(&own), true).unwrap();
    assert!(own.node.id.ends_with("my-app.svc.example"));
    assert_eq!(own.servers[0].credentials, Credentials::Insecure);
    let error = Bootstrap::of_pod(&BTreeMap::new(), false)
        .unwrap_err()
        .to_string();
    for name in ["INSTANCE_IP", "POD_NAME", "POD_NAMESPACE"] {
        assert!(error.contains(&format!("{name} is not set")), "{error}");
    }
    let wrong = variables(&[("INSTANCE_IP", "here"), ("ISTIO_METAJSON_LABELS", "[]")]);
    let error = Bootstrap::of_pod(&wrong, false).unwrap_err().to_string();
    assert!(
        error.contains("no IP address") && error.contains("no JSON object"),
        "{error}"
    );
}
