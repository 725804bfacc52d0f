//! Files of xDS resources in the folder that is served.

use std::fs;
use std::path::Path;

use meshwork::control::{Kind, Limits, Store};
use meshwork::source::istio::Options;

use super::world::{PATIENCE, Sotw, World, contents};

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
