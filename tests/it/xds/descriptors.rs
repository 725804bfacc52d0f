//! The descriptor set of Envoy's API is committed, so that a build needs no protobuf compiler and no
//! build script; this keeps it, and the list of sensitive fields, equal to the proto files that
//! `envoy-types` ships.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use prost::Message as _;
use protox::file::{File, FileResolver, GoogleFileResolver};

const HERE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/source/xds/json");

/// Folders below `envoy/` that resources and their extensions come from.
const FOLDERS: &[&str] = &[
    "admin",
    "config",
    "extensions",
    "service/discovery",
    "service/load_stats",
    "service/runtime",
    "service/status",
    "type",
];

/// Where cargo has put the sources of `envoy-types`.
fn protos() -> PathBuf {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--offline",
            "--all-features",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("cargo tells its metadata");
    let packages = metadata["packages"].as_array().expect("packages");
    let package = packages
        .iter()
        .find(|package| package["name"] == "envoy-types")
        .expect("it is a dependency");
    let manifest = package["manifest_path"].as_str().expect("a path");
    Path::new(manifest).with_file_name("proto")
}

/// Finds files as an include path does, and makes names plain that this compiler reads otherwise than
/// protoc: `common.aws.…` in a package of `envoy.extensions.filters` is of `envoy.extensions.common`,
/// although there is an `envoy.extensions.filters.common`.
struct Plain {
    includes: Vec<PathBuf>,
    /// Folders of `envoy/extensions/common`.
    common: Vec<String>,
}

impl FileResolver for Plain {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        let found = self.includes.iter().map(|include| include.join(name));
        let Some(path) = found.into_iter().find(|path| path.is_file()) else {
            return GoogleFileResolver::new().open_file(name);
        };
        let mut text = fs::read_to_string(path).expect("a text");
        if name.starts_with("envoy/extensions/") {
            for folder in &self.common {
                let short = format!(" common.{folder}.");
                text = text.replace(
                    &short,
                    &format!(" .envoy.extensions{}", short.replacen(' ', ".", 1)),
                );
            }
        }
        File::from_source(name, &text)
    }
}

fn folders(of: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(of).expect("a folder");
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.retain(|path| path.is_dir());
    paths.sort();
    paths
}

fn files(root: &Path, folder: &Path, all: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files(root, &path, all);
        } else if path
            .extension()
            .is_some_and(|extension| extension == "proto")
        {
            let name = path.strip_prefix(root).expect("below it");
            all.insert(name.to_str().expect("a text").replace('\\', "/"));
        }
    }
}

fn compiled() -> protox::Compiler {
    let protos = protos();
    let mut includes = folders(&protos);
    // One of them keeps its files a folder deeper.
    includes.push(protos.join("cel-spec/proto"));
    let root = protos.join("data-plane-api");
    let mut all = BTreeSet::new();
    for folder in FOLDERS {
        files(&root, &root.join("envoy").join(folder), &mut all);
    }
    // A package `envoy.extensions.config` would hide `envoy.config` from this compiler. What is in it
    // (validators of proxies' configuration) is no part of a resource.
    all.retain(|name| !name.starts_with("envoy/extensions/config/"));
    let extensions = root.join("envoy/extensions");
    let shared: BTreeSet<_> = folders(&extensions.join("filters/common"))
        .iter()
        .filter_map(|path| path.file_name().map(ToOwned::to_owned))
        .collect();
    let common = folders(&extensions.join("common")).into_iter();
    let common = common.filter_map(|path| {
        let name = path.file_name()?.to_owned();
        let shared = shared.contains(&name);
        (!shared).then(|| name.to_string_lossy().into_owned())
    });
    let common = common.collect();
    let mut compiler = protox::Compiler::with_file_resolver(Plain { includes, common });
    compiler.include_imports(true);
    compiler.open_files(all).expect("the protos are valid");
    compiler
}

#[test]
fn the_committed_descriptors_are_those_of_envoy_types() {
    let compiler = compiled();
    // Without the rules of validation, which nobody here reads and which are most of the bytes.
    let generated = compiler.file_descriptor_set().encode_to_vec();
    settle("descriptor.bin", &generated);

    let pool = compiler.descriptor_pool();
    let sensitive = pool
        .get_extension_by_name("udpa.annotations.sensitive")
        .expect("it is imported");
    let mut marked = BTreeSet::new();
    for message in pool.all_messages() {
        for field in message.fields() {
            let options = field.options();
            if options.get_extension(&sensitive).as_bool() == Some(true) {
                marked.insert(format!("{}\n", field.full_name()));
            }
        }
    }
    assert!(marked.len() > 20, "{marked:?}");
    let marked: String = marked.into_iter().collect();
    settle("sensitive.txt", marked.as_bytes());
}

/// Writes or compares a file of the module.
fn settle(name: &str, generated: &[u8]) {
    let path = Path::new(HERE).join(name);
    if std::env::var_os("MESHWORK_BLESS").is_some() {
        fs::write(&path, generated).expect("the worktree can be written");
    }
    assert!(
        fs::read(&path).unwrap_or_default() == generated,
        "{} is not what envoy-types ships; run this test with MESHWORK_BLESS=1 and commit the result",
        path.display()
    );
}
