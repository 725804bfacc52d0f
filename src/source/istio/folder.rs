//! The files of a folder of configuration.
//!
//! A folder is read as `kubectl apply -R -f` would: all YAML and JSON files below it, in the order
//! of their paths. A mounted ConfigMap keeps its data under `..data`, a link that is swapped as a
//! whole, and shows each file by a link of its own; so links to files are followed, and names that
//! begin with two points are not, which would read everything twice. Links to folders are not
//! followed: they can form circles.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Options;
use super::fault::{Code, Fault, Severity};
use super::read::{Read, Reader};
use super::yaml::FILE_BYTES;

/// Files of one folder.
const FILES: usize = 10_000;
/// Bytes of all files of one folder.
const FOLDER_BYTES: u64 = 256 << 20;
/// Folders inside of each other.
const DEPTH: usize = 32;
/// Entries of all folders, whatever their names.
const ENTRIES: usize = 200_000;

/// Reads every `*.yaml`, `*.yml` and `*.json` below a folder, or the one file that the path names.
///
/// What cannot be read is a fault of its own (`M001`), so that one unreadable file does not hide
/// the faults of the others. It blocks; call it from `tokio::task::spawn_blocking` in async code.
///
/// At most 10,000 files, 8 MiB each and 256 MiB together, are read; more is a fault.
///
/// ```
/// use meshwork::source::istio::{Options, read_dir};
///
/// let read = read_dir("no/such/folder", &Options::default());
/// assert!(read.faults.has_errors());
/// ```
pub fn read_dir(path: impl AsRef<Path>, options: &Options) -> Read {
    Texts::read(path.as_ref()).objects(options)
}

/// The texts of a folder at one moment: what a watcher compares.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Texts {
    files: Vec<(Arc<str>, Arc<str>)>,
    faults: Vec<Fault>,
}

impl Texts {
    /// Reads every file, and notes what cannot be read. It blocks.
    pub(super) fn read(path: &Path) -> Self {
        let mut listing = Listing::default();
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => listing.folder(path, 0),
            Ok(_) => listing.files.push(path.to_owned()),
            Err(error) => listing.fault(path, error.to_string()),
        }
        listing.files.sort();
        let mut left = FOLDER_BYTES;
        let mut files = Vec::new();
        for file in std::mem::take(&mut listing.files) {
            match text(&file, left) {
                Ok(text) => {
                    left -= text.len() as u64;
                    files.push((name(&file), text.into()));
                }
                Err(reason) => listing.fault(&file, reason),
            }
        }
        Self {
            files,
            faults: listing.faults,
        }
    }

    /// What the texts say.
    pub(crate) fn objects(&self, options: &Options) -> Read {
        let mut reader = Reader::new(options);
        for (file, text) in &self.files {
            reader.file(file, text);
        }
        for fault in &self.faults {
            reader.faults.push(fault.clone());
        }
        reader.finish()
    }
}

fn name(path: &Path) -> Arc<str> {
    path.to_string_lossy().into()
}

fn text(path: &Path, left: u64) -> Result<String, String> {
    let file = fs::File::open(path).map_err(|error| error.to_string())?;
    let size = file.metadata().map_err(|error| error.to_string())?;
    if !size.is_file() {
        return Err("is neither a file nor a folder".into());
    }
    let most = left.min(FILE_BYTES as u64);
    let mut bytes = Vec::new();
    // One byte more than allowed tells that there is more, also when the file grows meanwhile.
    let read = file.take(most + 1).read_to_end(&mut bytes);
    read.map_err(|error| error.to_string())?;
    if bytes.len() as u64 > most {
        return Err(format!(
            "is too large: at most {FILE_BYTES} bytes of a file and {FOLDER_BYTES} of a folder \
             are read"
        ));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        format!("is not UTF-8: the byte at offset {at} is no character")
    })
}

#[derive(Default)]
struct Listing {
    files: Vec<PathBuf>,
    entries: usize,
    faults: Vec<Fault>,
}

impl Listing {
    fn fault(&mut self, path: &Path, reason: impl Into<String>) {
        let fault = Fault::new(Severity::Error, Code::Unreadable, reason);
        self.faults.push(fault.at(&name(path), 0, 0));
    }

    fn folder(&mut self, path: &Path, depth: usize) {
        if depth > DEPTH {
            self.fault(
                path,
                format!("more than {DEPTH} folders inside of each other"),
            );
            return;
        }
        let entries = match fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error) => return self.fault(path, error.to_string()),
        };
        for entry in entries {
            self.entries += 1;
            if self.files.len() >= FILES || self.entries > ENTRIES {
                self.fault(
                    path,
                    format!("more than {FILES} files or {ENTRIES} entries"),
                );
                return;
            }
            match entry {
                Ok(entry) => self.entry(&entry, depth),
                Err(error) => self.fault(path, error.to_string()),
            }
        }
    }

    fn entry(&mut self, entry: &fs::DirEntry, depth: usize) {
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with('.') {
            return;
        }
        let configuration = is_configuration(&path);
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => self.folder(&path, depth + 1),
            Ok(kind) if kind.is_symlink() && configuration => match fs::metadata(&path) {
                Ok(target) if target.is_file() => self.files.push(path),
                Ok(_) => {}
                Err(error) => self.fault(&path, error.to_string()),
            },
            Ok(_) if configuration => self.files.push(path),
            Ok(_) => {}
            Err(error) => self.fault(&path, error.to_string()),
        }
    }
}

fn is_configuration(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| matches!(extension, "yaml" | "yml" | "json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: NAME}\n\
                           spec: {ports: [{port: 80}]}\n";

    fn write(path: PathBuf, name: &str) {
        fs::write(path, SERVICE.replace("NAME", name)).expect("a file in a temporary folder");
    }

    fn names(path: &Path) -> Vec<String> {
        let read = read_dir(path, &Options::default());
        assert!(read.faults.is_empty(), "{}", read.faults);
        let name = |object: &super::super::kinds::Object| object.meta.name.to_string();
        read.objects.iter().map(name).collect()
    }

    #[test]
    fn files_are_read_below_a_folder_in_path_order() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir(folder.path().join("b")).expect("a folder");
        write(folder.path().join("c.json"), "third");
        write(folder.path().join("b/x.yml"), "second");
        write(folder.path().join("a.yaml"), "first");
        write(folder.path().join(".hidden.yaml"), "hidden");
        write(folder.path().join("notes.txt"), "text");
        assert_eq!(names(folder.path()), ["first", "second", "third"]);
        assert_eq!(names(&folder.path().join("a.yaml")), ["first"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_mounted_config_map_is_read_once() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let data = folder.path().join("..2026_01_31");
        fs::create_dir(&data).expect("a folder");
        write(data.join("mesh.yaml"), "mesh");
        symlink("..2026_01_31", folder.path().join("..data")).expect("a link");
        symlink("..data/mesh.yaml", folder.path().join("mesh.yaml")).expect("a link");
        assert_eq!(names(folder.path()), ["mesh"]);
    }

    #[test]
    fn what_cannot_be_read_is_a_fault_and_the_rest_is_read() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        write(folder.path().join("good.yaml"), "good");
        fs::write(folder.path().join("bad.yaml"), b"a: \xff").expect("a file");
        let large = vec![b' '; FILE_BYTES + 1];
        fs::write(folder.path().join("large.yaml"), large).expect("a file");
        let read = read_dir(folder.path(), &Options::default());
        let texts: Vec<_> = read.faults.iter().map(Fault::text).collect();
        assert_eq!(read.objects.len(), 1);
        assert_eq!(texts.len(), 2, "{texts:?}");
        assert!(texts[0].starts_with("is not UTF-8: the byte at offset 3"));
        assert!(texts[1].starts_with("is too large"));
    }

    #[test]
    fn a_missing_folder_is_a_fault() {
        let read = read_dir("no/such/folder", &Options::default());
        assert_eq!(read.faults.len(), 1);
    }
}
