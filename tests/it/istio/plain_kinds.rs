//! The kinds stay plain: serde's buffering forms lose the places of values.

use std::fs;

#[test]
fn no_kind_is_tagged_untagged_or_flattened() {
    let folder = format!("{}/src/source/istio/kinds", env!("CARGO_MANIFEST_DIR"));
    let mut attributes = 0;
    for file in fs::read_dir(folder).expect("the folder of the kinds") {
        let path = file.expect("an entry").path();
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
