//! Files of xDS resources in the folder that is served.

use std::fs;
use std::path::Path;

use envoy_types::pb::envoy::service::discovery::v3 as pb;
use meshwork::control::{Kind, Limits, Store};
use meshwork::source::istio::Options;

use super::streams::{message, open};
use super::world::{PATIENCE, Sotw, World, contents, node};

fn write(folder: &Path, name: &str, text: &str) {
    // As editors do: whole or not at all.
    fs::write(folder.join("next"), text).expect("a file in a temporary folder");
    fs::rename(folder.join("next"), folder.join(name)).expect("a rename");
}

fn raw(head: &str, resources: &[(&str, &str)]) -> String {
    let resources: String = resources
        .iter()
        .map(|(name, drop)| {
            format!(
                "- '@type': type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment\n  \
                 cluster_name: {name}\n  endpoints: [{{locality: {{zone: {drop}}}}}]\n"
            )
        })
        .collect();
    format!("{head}resources:\n{resources}")
}

async fn follow(folder: &Path) -> Store {
    let store = Store::follow(folder, Options::default()).await;
    store.expect("the files are good")
}

async fn edited(store: &Store, generation: u64) {
    let wait = async {
        while store.generation() < generation {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, wait)
        .await
        .expect("the edit is seen");
}

#[tokio::test]
async fn resources_are_served_under_their_label_and_pushed_by_content_alone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = folder.path();
    let two =
        |label: &str, b: &str| raw(&format!("version_info: {label}\n"), &[("a", "x"), ("b", b)]);
    write(at, "raw.yaml", &two("'1'", "x"));
    let world = World::start(follow(at).await, Limits::default()).await;
    let mut stream = Sotw::open(world.channel().await).await;
    stream.ask(Kind::Endpoints, &["a", "b"]).await;
    let first = stream.next().await.expect("a response");
    assert_eq!((&*first.version_info, first.resources.len()), ("1", 2));
    stream.answer(&first, &["a", "b"]).await;

    let before = world.server.store().generation();
    write(at, "raw.yaml", &two("'2'", "x"));
    edited(world.server.store(), before + 1).await;
    write(at, "raw.yaml", &two("'3'", "y"));
    let next = stream.next().await.expect("a response");
    assert_eq!(&*next.version_info, "3", "the label alone was no reason");
    let sent = contents(&next);
    assert!(sent.len() == 1 && sent[0].contains('b'), "{sent:?}");
    world.stop().await;
}

#[tokio::test]
async fn a_file_is_seen_by_the_nodes_that_it_names() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = folder.path();
    write(at, "all.yaml", &raw("", &[("all", "x")]));
    write(
        at,
        "one.yaml",
        &raw("nodes: [one]\n", &[("mine", "of-one")]),
    );
    write(
        at,
        "two.yaml",
        &raw("nodes: [two, three]\n", &[("mine", "of-two")]),
    );
    let world = World::start(follow(at).await, Limits::default()).await;
    for (id, mine) in [
        ("one", Some("of-one")),
        ("two", Some("of-two")),
        ("three", Some("of-two")),
        ("four", None),
    ] {
        let mut stream = Sotw::open(world.channel().await).await;
        stream.ask_as(id, Kind::Endpoints, &["all", "mine"]).await;
        let response = stream.next().await.expect("a response");
        let sent = contents(&response);
        assert_eq!(
            sent.len(),
            1 + usize::from(mine.is_some()),
            "{id}: {sent:?}"
        );
        assert!(mine.is_none_or(|mine| sent.iter().any(|text| text.contains(mine))));
        if id == "two" {
            // Those who see the same share one view.
            assert_eq!(world.server.store().views(), 1);
        }
    }
    world.stop().await;
}

#[tokio::test]
async fn an_edit_with_a_slip_changes_nothing_and_is_told() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = folder.path();
    write(at, "raw.yaml", &raw("", &[("a", "x")]));
    let world = World::start(follow(at).await, Limits::default()).await;
    let bad = raw("", &[("a", "y")]).replace("cluster_name", "clustr_name");
    write(at, "raw.yaml", &bad);
    let rejected = async {
        while world.server.store().rejections() == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, rejected)
        .await
        .expect("the edit is seen");
    let faults = world.server.store().rejected().expect("it was rejected");
    let text = faults.to_string();
    assert!(
        text.contains("did you mean \"cluster_name\"?") && text.contains("raw.yaml:3:"),
        "{text}"
    );
    let mut stream = Sotw::open(world.channel().await).await;
    stream.ask(Kind::Endpoints, &["a"]).await;
    let response = stream.next().await.expect("a response");
    assert!(contents(&response)[0].contains('x'), "as it was");
    world.stop().await;
}

/// Two variants of `a`: one for who says `env: canary`, one for who says nothing of it.
const VARIANTS: &str = "
resources:
- '@type': type.googleapis.com/envoy.service.discovery.v3.Resource
  resource_name:
    name: a
    dynamic_parameter_constraints: {constraint: {key: env, value: canary}}
  resource:
    '@type': type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment
    cluster_name: a
    endpoints: [{locality: {zone: few}}]
- '@type': type.googleapis.com/envoy.service.discovery.v3.Resource
  resource_name:
    name: a
    dynamic_parameter_constraints: {not_constraints: {constraint: {key: env, exists: {}}}}
  resource:
    '@type': type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment
    cluster_name: a
    endpoints: [{locality: {zone: all}}]
";

fn locator(name: &str, env: Option<&str>) -> pb::ResourceLocator {
    let parameters = env
        .into_iter()
        .map(|env| ("env".to_owned(), env.to_owned()));
    pb::ResourceLocator {
        name: name.into(),
        dynamic_parameters: parameters.collect(),
    }
}

#[tokio::test]
async fn d23_a_client_gets_the_variant_that_its_parameters_match() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write(folder.path(), "raw.yaml", VARIANTS);
    let world = World::start(follow(folder.path()).await, Limits::default()).await;
    let channel = world.channel().await;
    for (env, zone) in [(Some("canary"), "few"), (None, "all")] {
        let path = "/envoy.service.endpoint.v3.EndpointDiscoveryService/DeltaEndpoints";
        let opened =
            open::<pb::DeltaDiscoveryRequest, pb::DeltaDiscoveryResponse>(channel.clone(), path);
        let (sender, mut answers) = opened.await.expect("it is served");
        let ask = pb::DeltaDiscoveryRequest {
            node: node("client-1"),
            resource_locators_subscribe: vec![locator("a", env)],
            ..pb::DeltaDiscoveryRequest::default()
        };
        sender.send(ask).await.expect("open");
        let response = message(&mut answers).await;
        let [resource] = &response.resources[..] else {
            panic!("{response:?}");
        };
        let named = resource.resource_name.as_ref().expect("which variant");
        assert_eq!((&*named.name, &*resource.name), ("a", ""));
        assert!(named.dynamic_parameter_constraints.is_some());
        let body = &resource.resource.as_ref().expect("its content").value;
        let text = String::from_utf8_lossy(body).into_owned();
        assert!(text.contains(zone), "{text:?}");

        let path = "/envoy.service.endpoint.v3.EndpointDiscoveryService/StreamEndpoints";
        let opened = open::<pb::DiscoveryRequest, pb::DiscoveryResponse>(channel.clone(), path);
        let (sender, mut answers) = opened.await.expect("it is served");
        let ask = pb::DiscoveryRequest {
            node: node("client-1"),
            resource_locators: vec![locator("a", env)],
            ..pb::DiscoveryRequest::default()
        };
        sender.send(ask).await.expect("open");
        let response = message(&mut answers).await;
        let [wrapped] = &response.resources[..] else {
            panic!("{response:?}");
        };
        // S24: who sends locators takes resources in a wrapper, which says which variant it is.
        assert!(
            wrapped.type_url.ends_with("discovery.v3.Resource"),
            "{wrapped:?}"
        );
        let unwrapped = <pb::Resource as prost::Message>::decode(&*wrapped.value);
        assert_eq!(unwrapped.expect("a wrapper"), *resource);
    }
    world.stop().await;
}

#[tokio::test]
async fn d23_variants_that_are_one_or_have_two_names_are_refused_with_their_place() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (text, told) in [
        (
            VARIANTS.replace("resource_name:", "name: b\n  resource_name:"),
            "only one of the two",
        ),
        (VARIANTS.replace("    name: a\n", ""), "has no name"),
        (
            VARIANTS.replace(
                "{not_constraints: {constraint: {key: env, exists: {}}}}",
                "{constraint: {key: env, value: canary}}",
            ),
            "stands at",
        ),
        (
            VARIANTS.replace("value: canary", "values: canary"),
            "values",
        ),
    ] {
        write(folder.path(), "raw.yaml", &text);
        let faults = Store::follow(folder.path(), Options::default()).await;
        let faults = faults.expect_err(told).to_string();
        assert!(
            faults.contains(told) && faults.contains("raw.yaml:"),
            "{faults}"
        );
    }
}
