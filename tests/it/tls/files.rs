//! Identities in files: rows A4 and A5.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use meshwork::Mesh;
use meshwork::model::security::Files;
use meshwork::tls::{Credentials, FileSource};

use super::authority::{Authority, Issued};

const LOOK: Duration = Duration::from_millis(10);

fn files(folder: &Path) -> Files {
    let path = |name: &str| Some(Arc::from(folder.join(name).as_path()));
    Files {
        certificate: path("tls.crt"),
        key: path("tls.key"),
        roots: path("ca.crt"),
        revocations: None,
    }
}

fn write(folder: &Path, issued: &Issued, roots: &str) {
    fs::write(folder.join("tls.crt"), &issued.chain).unwrap();
    fs::write(folder.join("tls.key"), &issued.key).unwrap();
    fs::write(folder.join("ca.crt"), roots).unwrap();
}

async fn mesh(folder: &Path) -> (Mesh, Credentials) {
    let source = FileSource::new(files(folder)).every(LOOK);
    let mesh = Mesh::builder().identity(source).start().await.unwrap();
    let credentials = mesh.credentials().unwrap();
    (mesh, credentials)
}

#[tokio::test]
async fn files_are_taken_at_the_start_and_again_when_they_change() {
    let folder = tempfile::tempdir().unwrap();
    let mut root = Authority::new("root");
    write(folder.path(), &root.issue("spiffe://td/a"), root.pem());
    let (_mesh, credentials) = mesh(folder.path()).await;
    assert_eq!(
        credentials.identity().unwrap().id().unwrap().as_str(),
        "spiffe://td/a"
    );
    assert!(
        credentials
            .trusted()
            .domain(&"td".parse().unwrap())
            .is_some()
    );
    let before = credentials.generation();
    write(folder.path(), &root.issue("spiffe://td/b"), root.pem());
    credentials.changed(before).await;
    assert_eq!(
        credentials.identity().unwrap().id().unwrap().as_str(),
        "spiffe://td/b"
    );
}

#[tokio::test]
async fn a4_a_torn_write_is_refused_and_the_next_look_takes_the_pair() {
    let folder = tempfile::tempdir().unwrap();
    let mut root = Authority::new("root");
    write(folder.path(), &root.issue("spiffe://td/a"), root.pem());
    let (_mesh, credentials) = mesh(folder.path()).await;
    let before = credentials.generation();
    let next = root.issue("spiffe://td/b");
    fs::write(folder.path().join("tls.crt"), &next.chain).unwrap();
    while credentials.counts().renewal_failures == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        credentials.generation(),
        before,
        "the old pair stays in force"
    );
    assert_eq!(
        credentials.identity().unwrap().id().unwrap().as_str(),
        "spiffe://td/a"
    );
    fs::write(folder.path().join("tls.key"), &next.key).unwrap();
    credentials.changed(before).await;
    assert_eq!(
        credentials.identity().unwrap().id().unwrap().as_str(),
        "spiffe://td/b"
    );
}

/// The kubelet writes a folder beside and swaps one symbolic link.
#[cfg(unix)]
#[tokio::test]
async fn a5_five_hundred_swaps_of_a_link_are_each_seen() {
    const SWAPS: usize = 500;
    let folder = tempfile::tempdir().unwrap();
    let mut root = Authority::new("root");
    let swap = |number: usize, issued: &Issued, roots: &str| {
        let data = folder.path().join(format!("..{number}"));
        fs::create_dir(&data).unwrap();
        write(&data, issued, roots);
        let link = folder.path().join("..data_tmp");
        std::os::unix::fs::symlink(&data, &link).unwrap();
        fs::rename(&link, folder.path().join("..data")).unwrap();
    };
    swap(0, &root.issue("spiffe://td/0"), root.pem());
    let (_mesh, credentials) = mesh(&folder.path().join("..data")).await;
    let descriptors = || {
        fs::read_dir("/proc/self/fd")
            .map(Iterator::count)
            .unwrap_or(0)
    };
    let before = descriptors();
    for number in 1..=SWAPS {
        let generation = credentials.generation();
        swap(
            number,
            &root.issue(&format!("spiffe://td/{number}")),
            root.pem(),
        );
        credentials.changed(generation).await;
        let id = credentials.identity().unwrap().id().unwrap().to_string();
        assert_eq!(id, format!("spiffe://td/{number}"));
        fs::remove_dir_all(folder.path().join(format!("..{}", number - 1))).unwrap();
    }
    assert_eq!(credentials.counts().rotations, SWAPS as u64 + 1);
    // Other tests of this process open files too.
    assert!(descriptors() < before + 200, "descriptors are kept");
}

#[tokio::test]
async fn a_mesh_starts_without_its_files_and_has_an_identity_when_they_come() {
    let folder = tempfile::tempdir().unwrap();
    let (_mesh, credentials) = mesh(folder.path()).await;
    assert_eq!(credentials.identity(), None);
    assert!(credentials.counts().renewal_failures > 0);
    let mut root = Authority::new("root");
    write(folder.path(), &root.issue("spiffe://td/a"), root.pem());
    while credentials.identity().is_none() {
        credentials.changed(credentials.generation()).await;
    }
    assert_eq!(
        credentials.identity().unwrap().id().unwrap().as_str(),
        "spiffe://td/a"
    );
}
