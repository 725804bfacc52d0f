//! Identities in files: rows A4, A5 and A12.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use meshwork::Mesh;
use meshwork::model::security::Files;
use meshwork::tls::{Bundle, Credentials, FileSource, Refusal, Trust};

use super::authority::{Authority, Issued, bundle_map};
use super::trust::chain_refused_for;

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

/// The roots that count for a trust domain.
fn roots_of(credentials: &Credentials, domain: &str) -> Option<Bundle> {
    let trusted = credentials.trusted();
    trusted.domain(&domain.parse().unwrap()).cloned()
}

#[tokio::test]
async fn a12_federated_files_count_for_their_domain_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (mut own, partner, next) = (
        Authority::new("own"),
        Authority::new("partner"),
        Authority::new("next"),
    );
    write(folder.path(), &own.issue("spiffe://td/a"), own.pem());
    let roots = folder.path().join("partner.crt");
    fs::write(&roots, partner.pem()).unwrap();
    let source = FileSource::new(files(folder.path()))
        .federated_with("partner".parse().unwrap(), &roots)
        .every(LOOK);
    let mesh = Mesh::builder().identity(source).start().await.unwrap();
    let credentials = mesh.credentials().unwrap();
    assert_eq!(roots_of(&credentials, "td"), Some(own.bundle()));
    assert_eq!(roots_of(&credentials, "partner"), Some(partner.bundle()));
    let before = credentials.generation();
    let beside = folder.path().join("partner.new");
    fs::write(&beside, format!("{}{}", partner.pem(), next.pem())).unwrap();
    fs::rename(&beside, &roots).unwrap();
    credentials.changed(before).await;
    let both = roots_of(&credentials, "partner").unwrap();
    assert_eq!(both.roots().count(), 2);
    assert_eq!(roots_of(&credentials, "td"), Some(own.bundle()));
}

#[tokio::test]
async fn a12_a_bundle_map_is_read_again_and_one_with_a_fault_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (mut own, partner) = (Authority::new("own"), Authority::new("partner"));
    write(folder.path(), &own.issue("spiffe://td/a"), own.pem());
    let map = folder.path().join("bundles.json");
    let put = |text: String| {
        let beside = folder.path().join("bundles.new");
        fs::write(&beside, text).unwrap();
        fs::rename(&beside, &map).unwrap();
    };
    put(bundle_map(&[("td", &own), ("partner", &partner)]));
    let source = FileSource::new(files(folder.path()))
        .bundle_map(&map)
        .every(LOOK);
    let mesh = Mesh::builder().identity(source).start().await.unwrap();
    let credentials = mesh.credentials().unwrap();
    assert_eq!(roots_of(&credentials, "td"), Some(own.bundle()));
    assert_eq!(roots_of(&credentials, "partner"), Some(partner.bundle()));
    let before = credentials.generation();
    put(r#"{"trust_domains": {"td": {"keys": [{"use": "x509-svid"}]}}}"#.into());
    while credentials.counts().renewal_failures == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        credentials.generation(),
        before,
        "the old map stays in force"
    );
    assert_eq!(roots_of(&credentials, "partner"), Some(partner.bundle()));
    put(bundle_map(&[("td", &own)]));
    credentials.changed(before).await;
    assert_eq!(roots_of(&credentials, "partner"), None);
    assert_eq!(roots_of(&credentials, "td"), Some(own.bundle()));
}

#[tokio::test(start_paused = true)]
async fn a12_an_empty_bundle_map_lets_no_root_of_the_files_vouch_for_an_identity() {
    let folder = tempfile::tempdir().unwrap();
    let mut own = Authority::new("own");
    write(folder.path(), &own.issue("spiffe://td/a"), own.pem());
    let map = folder.path().join("bundles.json");
    let source = FileSource::new(files(folder.path())).bundle_map(&map);
    let server = Credentials::new(
        Some(own.issue("spiffe://td/x").identity()),
        Trust::default(),
    );
    let credentials = Credentials::default();
    fs::write(&map, bundle_map(&[("td", &own)])).unwrap();
    source.load(&credentials).unwrap();
    let trust = Trust::clone(&credentials.trusted());
    assert_eq!(chain_refused_for(trust, &server).await, None);
    fs::write(&map, bundle_map(&[])).unwrap();
    source.load(&credentials).unwrap();
    let trust = Trust::clone(&credentials.trusted());
    assert!(trust.roots().is_some());
    assert_eq!(
        chain_refused_for(trust, &server).await,
        Some(Refusal::WrongDomain("td".parse().unwrap()))
    );
}

#[test]
fn a12_a_domain_that_is_told_twice_is_refused_and_each_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let (mut own, partner) = (Authority::new("own"), Authority::new("partner"));
    write(folder.path(), &own.issue("spiffe://td/a"), own.pem());
    let (map, roots) = (
        folder.path().join("bundles.json"),
        folder.path().join("partner.crt"),
    );
    fs::write(&map, bundle_map(&[("td", &own), ("partner", &partner)])).unwrap();
    fs::write(&roots, partner.pem()).unwrap();
    let source = || FileSource::new(files(folder.path()));
    let domain = |name: &str| {
        name.parse::<meshwork::model::identity::TrustDomain>()
            .unwrap()
    };
    for (row, source, told) in [
        (
            "an alias beside a map",
            source().bundle_map(&map).trusted_for(domain("alias")),
            &["trusted_for(alias): "][..],
        ),
        (
            "files of a domain beside a map",
            source()
                .federated_with(domain("partner"), &roots)
                .bundle_map(&map)
                .trusted_for(domain("alias")),
            &["trusted_for(alias): ", "federated_with(partner): "],
        ),
        (
            "two files",
            source()
                .federated_with(domain("partner"), &roots)
                .federated_with(domain("partner"), folder.path().join("ca.crt")),
            &["federated_with(partner): "],
        ),
        (
            "an alias with files of its own",
            source()
                .trusted_for(domain("partner"))
                .federated_with(domain("partner"), &roots),
            &["federated_with(partner): "],
        ),
        (
            "the own domain",
            source().federated_with(domain("td"), &roots),
            &["federated_with(td): "],
        ),
    ] {
        let credentials = Credentials::default();
        let fault = source.load(&credentials).unwrap_err().to_string();
        for told in told {
            assert!(fault.contains(told), "{row}: {fault}");
        }
        assert_eq!(*credentials.trusted(), Trust::default(), "{row}");
    }
    // Without roots among the own files, those of the own domain may be in a file of their own.
    let without = FileSource::new(Files {
        roots: None,
        ..files(folder.path())
    });
    let credentials = Credentials::default();
    let alone = without.federated_with(domain("td"), folder.path().join("ca.crt"));
    alone.load(&credentials).unwrap();
    assert_eq!(roots_of(&credentials, "td"), Some(own.bundle()));
}

/// No file that comes later could mend it, so nobody has to find it in a log.
#[tokio::test]
async fn a_source_that_contradicts_itself_is_an_error_of_the_start_and_a_missing_file_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let roots = folder.path().join("partner.crt");
    let nothing = Files {
        certificate: None,
        key: None,
        roots: None,
        revocations: None,
    };
    let all = files(folder.path());
    let (partner, alias) = ("partner".parse().unwrap(), "alias".parse().unwrap());
    let source = |files: &Files| FileSource::new(files.clone()).every(LOOK);
    let lists = Files {
        certificate: None,
        revocations: all.roots.clone(),
        ..nothing.clone()
    };
    let half = Files {
        key: None,
        ..all.clone()
    };
    let other_half = Files {
        certificate: None,
        ..all.clone()
    };
    for (row, contradicting, told) in [
        (
            "an alias and files beside a map",
            source(&all)
                .federated_with(partner, &roots)
                .bundle_map(&roots)
                .trusted_for(alias),
            &["trusted_for(alias): ", "federated_with(partner): "][..],
        ),
        (
            "half a pair",
            source(&half),
            &["tls.crt: no key is named; both are needed or neither"],
        ),
        (
            "the other half",
            source(&other_half),
            &["tls.key: no certificate is named; both are needed or neither"],
        ),
        (
            "nothing",
            source(&nothing),
            &["neither a certificate nor roots are named; one is needed"],
        ),
        (
            "nobody to revoke, and an alias that nobody vouches for",
            source(&lists).trusted_for("other".parse().unwrap()),
            &[
                "ca.crt: no roots are named",
                "trusted_for(other): no roots are named",
            ],
        ),
    ] {
        let builder = Mesh::builder().identity(contradicting.clone());
        let builder = builder.credential("named", contradicting);
        let refused = builder.start().await.expect_err(row).to_string();
        for place in ["identity: ", "credential named: "] {
            let told_there = refused.lines().find(|line| line.contains(place));
            let line = told_there.unwrap_or_else(|| panic!("{row}: {refused}"));
            for told in told {
                assert!(line.contains(told), "{row}: {refused}");
            }
        }
    }
    // Nothing of it is there yet, and all of it may come.
    let mesh = Mesh::builder()
        .identity(source(&all))
        .start()
        .await
        .unwrap();
    let credentials = mesh.credentials().unwrap();
    assert!(credentials.identity().is_none());
    let mut root = Authority::new("root");
    let before = credentials.generation();
    write(folder.path(), &root.issue("spiffe://td/a"), root.pem());
    credentials.changed(before).await;
    assert!(credentials.identity().is_some());
    // By the identity that is there by now, its trust domain has two places.
    fs::write(&roots, root.pem()).unwrap();
    let twice = source(&all).federated_with("td".parse().unwrap(), &roots);
    let refused = Mesh::builder().identity(twice).start().await;
    let refused = refused.expect_err("told twice").to_string();
    assert!(refused.contains("federated_with(td): "), "{refused}");
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
