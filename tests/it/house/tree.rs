//! The files of this package.

use std::fs;
use std::path::{Path, PathBuf};

/// A text file of the package.
pub(crate) struct File {
    /// From the root of the package, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// All files below a folder with this extension, in the order of their paths.
pub(crate) fn files(folder: &str, extension: &str) -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join(folder)];
    let mut found: Vec<PathBuf> = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the package") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found.iter().map(|path| file(root, path)).collect()
}

/// The files beside `Cargo.toml` with this extension.
#[cfg(feature = "yaml")]
pub(crate) fn top(extension: &str) -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let entries = fs::read_dir(root).expect("the package");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let paths = paths.filter(|path| path.extension().is_some_and(|found| found == extension));
    paths.map(|path| file(root, &path)).collect()
}

fn file(root: &Path, path: &Path) -> File {
    let relative = path.strip_prefix(root).expect("a path below the root");
    File {
        path: relative.to_str().expect("UTF-8").replace('\\', "/"),
        text: fs::read_to_string(path).expect("a text file"),
    }
}

impl File {
    /// The modules that lead to this file: `src/layer/retry/mod.rs` is `layer`, `retry`.
    pub(crate) fn modules(&self) -> Vec<&str> {
        let path = self.path.strip_suffix(".rs").unwrap_or(&self.path);
        let path = path.strip_suffix("/mod").unwrap_or(path);
        let inside = path
            .strip_prefix("src/")
            .or_else(|| path.strip_prefix("tests/it/"))
            .unwrap_or(path);
        inside.split('/').collect()
    }

    /// The lines with their numbers from 1, without comments.
    pub(crate) fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().filter_map(|(index, line)| {
            // A `//` in a text (a URL) cuts more than a comment; what is looked for stands before.
            let code = line.split("//").next().unwrap_or_default();
            (!code.trim().is_empty()).then_some((index + 1, code))
        })
    }
}

/// The words of a line of code that could be names.
pub(crate) fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
}
