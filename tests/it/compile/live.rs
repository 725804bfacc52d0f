//! A directory that changes: real files, real time, and no waiting but for what must come.

use std::fs;
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;

use meshwork::source::istio::{Istio, Update, Updates};
use tokio::time::timeout;

use super::*;

/// Far above what an edit may take, so that a slow machine does not fail a test.
const PATIENCE: Duration = Duration::from_secs(20);

/// A VirtualService whose only route is called after its generation.
fn generation(number: u32) -> String {
    let spec = format!(
        "  hosts: [catalog]\n  http: [{{name: g{number}, route: [{{destination: {{host: catalog}}}}]}}]"
    );
    virtual_service("catalog.my-app", &spec)
}

fn generation_of(resources: &Resources) -> String {
    routes(resources, &format!("outbound|80||{CATALOG}"))[0]
        .name
        .to_string()
}

async fn next(updates: &mut Updates) -> Update {
    let next = timeout(PATIENCE, updates.next()).await;
    next.expect("an edit is found in time")
        .expect("the watcher runs")
}

async fn next_generation(updates: &mut Updates) -> String {
    match next(updates).await {
        Update::Resources(resources) => generation_of(&resources),
        Update::Rejected(faults) => panic!("{faults}"),
    }
}

async fn begin(path: &Path) -> (String, Updates) {
    let started = Istio::start(path, order(), Options::default()).await;
    let (resources, updates) = started.unwrap_or_else(|faults| panic!("{faults}"));
    (generation_of(&resources), updates)
}

/// A directory with the catalog and generation 0.
fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    fs::write(directory.path().join("catalog.yaml"), catalog()).expect("a file");
    fs::write(directory.path().join("rules.yaml"), generation(0)).expect("a file");
    directory
}

fn replace(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    fs::write(&beside, text).expect("a file");
    fs::rename(&beside, path).expect("renamed");
}

#[tokio::test]
async fn edit_delete_and_new_file_are_in_force_soon() {
    let directory = directory();
    let rules = directory.path().join("rules.yaml");
    let (first, mut updates) = begin(directory.path()).await;
    assert_eq!(first, "g0");

    let begin = Instant::now();
    fs::write(&rules, generation(1)).expect("a file");
    assert_eq!(next_generation(&mut updates).await, "g1");
    assert!(
        begin.elapsed() < Duration::from_secs(5),
        "{:?}",
        begin.elapsed()
    );

    replace(&rules, &generation(2));
    assert_eq!(next_generation(&mut updates).await, "g2");

    fs::remove_file(&rules).expect("removed");
    assert_eq!(next_generation(&mut updates).await, "default");

    let folder = directory.path().join("later");
    fs::create_dir(&folder).expect("a folder");
    fs::write(folder.join("rules.yaml"), generation(3)).expect("a file");
    assert_eq!(next_generation(&mut updates).await, "g3");
}

#[tokio::test]
async fn bad_edit_is_rejected_with_its_place_and_the_next_good_one_is_taken() {
    let directory = directory();
    let rules = directory.path().join("rules.yaml");
    let (_, mut updates) = begin(directory.path()).await;
    fs::write(&rules, generation(1).replace("route:", "rout:")).expect("a file");
    let Update::Rejected(faults) = next(&mut updates).await else {
        panic!("a misspelt field is an error");
    };
    let text = faults.to_string();
    assert!(text.contains("rules.yaml:6:"), "{text}");
    assert!(text.contains("route"), "{text}");
    fs::write(&rules, generation(2)).expect("a file");
    assert_eq!(next_generation(&mut updates).await, "g2");
}

#[tokio::test]
async fn start_with_faults_fails_with_all_of_them() {
    let directory = directory();
    fs::write(directory.path().join("bad.yaml"), "a: [").expect("a file");
    fs::write(directory.path().join("rules.yaml"), "kind: Service\n").expect("a file");
    let started = Istio::start(directory.path(), order(), Options::default()).await;
    let faults = started.expect_err("two files are bad");
    assert!(faults.errors() >= 2, "{faults}");
    let missing = Istio::start(directory.path().join("no"), order(), Options::default()).await;
    assert!(missing.is_err());
}

#[tokio::test]
async fn directory_that_is_replaced_is_still_watched() {
    let parent = tempfile::tempdir().expect("a temporary directory");
    let mesh = parent.path().join("mesh");
    fs::rename(directory().keep(), &mesh).expect("renamed");
    let (_, mut updates) = begin(&mesh).await;
    for number in 1..=3 {
        let fresh = directory();
        fs::write(fresh.path().join("rules.yaml"), generation(number)).expect("a file");
        fs::rename(&mesh, parent.path().join(format!("old{number}"))).expect("renamed");
        fs::rename(fresh.keep(), &mesh).expect("renamed");
        // Between the two renames there is no directory, which may be seen as an error.
        loop {
            match next(&mut updates).await {
                Update::Rejected(_) => {}
                Update::Resources(resources) => {
                    assert_eq!(generation_of(&resources), format!("g{number}"));
                    break;
                }
            }
        }
    }
}

#[cfg(unix)]
#[tokio::test]
async fn fifty_swaps_of_a_config_map_are_all_seen_whole() {
    use std::os::unix::fs::symlink;

    let mount = tempfile::tempdir().expect("a temporary directory");
    let publish = |number: u32| {
        let data = format!("..data_{number}");
        fs::create_dir(mount.path().join(&data)).expect("a folder");
        // Two files that say the same generation, as long as they are read together.
        for name in ["catalog", "rules"] {
            let text = match name {
                "catalog" => {
                    catalog().replacen("labels: {", &format!("labels: {{g: g{number}, "), 9)
                }
                _ => generation(number),
            };
            let file = mount.path().join(&data).join(format!("{name}.yaml"));
            fs::write(file, text).expect("a file");
        }
        let link = mount.path().join("..data_tmp");
        symlink(&data, &link).expect("a link");
        fs::rename(&link, mount.path().join("..data")).expect("swapped");
        if number > 0 {
            let old = mount.path().join(format!("..data_{}", number - 1));
            fs::remove_dir_all(old).expect("removed");
        }
    };
    publish(0);
    for name in ["catalog.yaml", "rules.yaml"] {
        symlink(format!("..data/{name}"), mount.path().join(name)).expect("a link");
    }
    let (first, mut updates) = begin(mount.path()).await;
    assert_eq!(first, "g0");
    for number in 1..=50 {
        publish(number);
        let Update::Resources(resources) = next(&mut updates).await else {
            panic!("a swap is never half a set");
        };
        assert_eq!(generation_of(&resources), format!("g{number}"));
        let endpoints = &resources.endpoints[&*format!("outbound|80||{CATALOG}")];
        let labels = &endpoints.localities[0].endpoints[0].labels;
        assert_eq!(&*labels["g"], format!("g{number}"));
    }
}

#[tokio::test]
async fn example_folders_of_the_article_load_and_have_their_endpoints() {
    for folder in ["canary", "resilience"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("examples/article")
            .join(folder);
        let started = Istio::start(&path, order(), Options::default()).await;
        let (resources, _updates) = started.unwrap_or_else(|faults| panic!("{faults}"));
        let subset = |name: &str| addresses(&resources, &format!("outbound|80|{name}|{CATALOG}"));
        assert_eq!(
            subset("v1"),
            ["127.0.0.1:18081", "127.0.0.1:18082"],
            "{folder}"
        );
        assert_eq!(subset("v2"), ["127.0.0.1:18083"], "{folder}");
    }
}
