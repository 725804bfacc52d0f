//! Edits of a directory, as the source tells them. Row E11 of the catalogue of failures.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use meshwork::Workload;
use meshwork::model::Resources;
use meshwork::source::istio::{Istio, Options, Update, Updates};
use tempfile::TempDir;
use tokio::time::timeout;

fn yaml(host: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: catalog, namespace: shop}}
spec:
  hosts: [{host}.test]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  endpoints: [{{address: 127.0.0.1}}]
"
    )
}

/// In one step: half of an edit that lasts is an edit too.
fn write(folder: &Path, text: &[u8]) {
    let aside = folder.join(".catalog.yaml.new");
    std::fs::write(&aside, text).unwrap();
    std::fs::rename(aside, folder.join("catalog.yaml")).unwrap();
}

/// The next edit that is taken in, or refused.
async fn next(updates: &mut Updates) -> Update {
    let next = timeout(Duration::from_secs(60), updates.next()).await;
    next.expect("an edit is told").expect("the watcher lives")
}

fn hosts(resources: &Resources) -> Vec<&str> {
    let names = resources.clusters.keys();
    names
        .filter_map(|name| name.strip_prefix("outbound|80||"))
        .collect()
}

async fn good(updates: &mut Updates) -> Arc<Resources> {
    match next(updates).await {
        Update::Resources(resources) => resources,
        Update::Rejected(faults) => panic!("refused: {faults}"),
    }
}

async fn refused(updates: &mut Updates) -> String {
    match next(updates).await {
        Update::Resources(resources) => panic!("taken: {:?}", hosts(&resources)),
        Update::Rejected(faults) => faults.to_string(),
    }
}

async fn start(folder: &TempDir) -> Updates {
    let client = Workload::new("shop", "order");
    let started = Istio::start(folder.path(), client, Options::default()).await;
    let (resources, updates) = started.unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(hosts(&resources), ["first.test"]);
    updates
}

#[tokio::test]
async fn e11_what_cannot_be_read_is_told_once_for_each_content_and_changes_nothing() {
    let folder = TempDir::new().unwrap();
    write(folder.path(), yaml("first").as_bytes());
    let mut updates = start(&folder).await;
    let whole = yaml("second");
    for (row, text, expected) in [
        (
            "an unknown field",
            whole.replace("hosts:", "hots:").into_bytes(),
            "hots",
        ),
        (
            "half of a write",
            whole.as_bytes()[..whole.len() / 2].to_vec(),
            "catalog.yaml",
        ),
        (
            "a key twice",
            format!("{whole}spec: {{}}\n").into_bytes(),
            "spec",
        ),
        (
            "an object twice",
            format!("{whole}---\n{whole}").into_bytes(),
            "catalog",
        ),
        ("no text", vec![0xff, 0xfe, 0x00], "catalog.yaml"),
    ] {
        write(folder.path(), &text);
        let told = refused(&mut updates).await;
        assert!(told.contains(expected), "{row}: {told}");
        // The same content again is no other edit: what is told next is the good one.
        write(folder.path(), &text);
        write(folder.path(), yaml("first").as_bytes());
        assert_eq!(hosts(&*good(&mut updates).await), ["first.test"], "{row}");
    }
}

#[tokio::test]
async fn e11_an_empty_file_and_one_that_is_gone_leave_what_the_others_say() {
    let folder = TempDir::new().unwrap();
    write(folder.path(), yaml("first").as_bytes());
    let mut updates = start(&folder).await;
    let other = folder.path().join("other.yaml");
    let text = yaml("other").replace("name: catalog", "name: other");
    std::fs::write(folder.path().join(".other"), text).unwrap();
    std::fs::rename(folder.path().join(".other"), &other).unwrap();
    assert_eq!(
        hosts(&*good(&mut updates).await),
        ["first.test", "other.test"]
    );
    write(folder.path(), b"");
    assert_eq!(hosts(&*good(&mut updates).await), ["other.test"]);
    write(folder.path(), yaml("first").as_bytes());
    assert_eq!(
        hosts(&*good(&mut updates).await),
        ["first.test", "other.test"]
    );
    std::fs::remove_file(&other).unwrap();
    assert_eq!(hosts(&*good(&mut updates).await), ["first.test"]);
}

/// As fast as a disk takes them: those in between may be skipped, the last one never is, and none
/// is seen after a later one.
#[tokio::test]
async fn e11_of_a_hundred_edits_in_a_row_the_last_is_in_force() {
    let folder = TempDir::new().unwrap();
    write(folder.path(), yaml("first").as_bytes());
    let mut updates = start(&folder).await;
    let path = folder.path().to_owned();
    let writing = tokio::task::spawn_blocking(move || {
        for edit in 1..=100 {
            write(&path, yaml(&format!("edit-{edit:03}")).as_bytes());
        }
    });
    let mut last = String::new();
    while last != "edit-100.test" {
        let resources = good(&mut updates).await;
        let [host] = *hosts(&resources) else {
            panic!("{:?}", hosts(&resources));
        };
        assert!(*host > *last, "{host} after {last}");
        last = host.to_owned();
    }
    writing.await.unwrap();
}
