//! The kinds stay plain: serde's buffering forms lose the places of values.

use std::fs;
use std::path::{Path, PathBuf};

/// All source files of a folder and of those in it.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder of kinds");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths
        .flat_map(|path| match path.is_dir() {
            true => sources(&path),
            false => vec![path],
        })
        .collect()
}

#[test]
fn no_kind_is_tagged_untagged_or_flattened() {
    let folder = format!("{}/src/source/istio/kinds", env!("CARGO_MANIFEST_DIR"));
    let mut attributes = 0;
    for path in sources(Path::new(&folder)) {
        let text = fs::read_to_string(&path).expect("a source file");
        for line in text
            .lines()
            .filter(|line| line.trim_start().starts_with("#[serde("))
        {
            attributes += 1;
            for form in ["tag =", "untagged", "flatten"] {
                assert!(!line.contains(form), "{}: {line}", path.display());
            }
        }
    }
    assert!(attributes > 50, "the kinds have moved away from this test");
}
