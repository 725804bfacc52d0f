//! Where an authority is kept between two lives of its process.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Duration;

use zeroize::Zeroizing;

use super::super::pem::Unusable;
use super::Authority;
use super::roots::{Roots, WHAT};
use crate::model::identity::TrustDomain;

/// The largest file that is read: two roots are a hundredth of it.
const MAX_FILE: u64 = 256 << 10;

impl Authority {
    /// Reads an authority from its file. Blocks.
    ///
    /// # Errors
    /// If it cannot be read, if others than its owner may read or write it, or if what it holds is no
    /// authority.
    pub fn load(path: &Path) -> Result<Self, Unusable> {
        let file = File::open(path).map_err(|error| fault(path, &error))?;
        guarded(&file).map_err(|error| fault(path, &error))?;
        let length = file.metadata().map_err(|error| fault(path, &error))?.len();
        if length > MAX_FILE {
            let why = format!("{length} bytes; at most {MAX_FILE} are allowed");
            return Err(fault(path, &why));
        }
        let room = usize::try_from(length).unwrap_or(0).saturating_add(1);
        let mut text = Zeroizing::new(Vec::with_capacity(room));
        file.take(MAX_FILE)
            .read_to_end(&mut text)
            .map_err(|error| fault(path, &error))?;
        Self::new(Roots::from_pem(&text).map_err(|error| fault(path, &error))?)
    }

    /// Makes an authority with a new root and its file, which must not exist yet. Blocks.
    ///
    /// # Errors
    /// If there is such a file, or it cannot be written.
    pub fn create(path: &Path, domain: TrustDomain, now: Duration) -> Result<Self, Unusable> {
        let authority = Self::generate(domain, now)?;
        // A link fails where the name is taken, so of two that begin at once one wins whole.
        let made = authority
            .write_beside(path)
            .and_then(|beside| {
                let linked = fs::hard_link(&beside, path);
                fs::remove_file(&beside)?;
                linked
            })
            .and_then(|()| settle(path));
        made.map_err(|error| fault(path, &error))?;
        Ok(authority)
    }

    /// Writes the file anew: after a crash there is the old one or the new one. Blocks.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), Unusable> {
        self.write_beside(path)
            .and_then(|beside| fs::rename(beside, path))
            .and_then(|()| settle(path))
            .map_err(|error| fault(path, &error))
    }

    /// Writes all to a new file in the same folder, for its owner alone.
    fn write_beside(&self, path: &Path) -> io::Result<std::path::PathBuf> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.new", std::process::id()));
        let beside = path.with_file_name(name);
        // What a crash has left behind under this name is nobody's.
        match fs::remove_file(&beside) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&beside)?;
        file.write_all(self.shared.roots.to_pem().as_bytes())?;
        file.sync_all()?;
        Ok(beside)
    }
}

/// Makes the name itself survive a crash.
fn settle(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if cfg!(unix) && !folder.as_os_str().is_empty() => {
            File::open(folder)?.sync_all()
        }
        Some(_) | None => Ok(()),
    }
}

/// Whether nobody but the owner may read or write the file.
#[cfg(unix)]
fn guarded(file: &File) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let mode = file.metadata()?.mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let why = format!(
        "its mode is {mode:04o}: others than its owner may use the keys in it; make it 0600, and \
         replace the root if others have"
    );
    Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
}

#[cfg(not(unix))]
fn guarded(_: &File) -> io::Result<()> {
    Ok(())
}

fn fault(path: &Path, why: &dyn std::fmt::Display) -> Unusable {
    Unusable::new(WHAT, format!("{}: {why}", path.display()))
}
