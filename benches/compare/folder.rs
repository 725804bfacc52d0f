//! The certificates of the runs with mutual TLS in files, as configurations name them.

use std::path::Path;

use crate::identity::Pems;

pub(crate) const AUTHORITY: &str = "ca.pem";
pub(crate) const LEAF: &str = "leaf.pem";
pub(crate) const KEY: &str = "key.pem";

/// Makes certificates and writes them into a folder.
pub(crate) fn write(folder: &Path) -> Result<(), String> {
    let pems = Pems::make()?;
    for (name, content) in [
        (AUTHORITY, pems.authority),
        (LEAF, pems.leaf),
        (KEY, pems.key),
    ] {
        std::fs::write(folder.join(name), content).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// The certificates of a folder.
pub(crate) fn read(folder: &Path) -> Result<Pems, String> {
    let read = |name| std::fs::read_to_string(folder.join(name)).map_err(|error| error.to_string());
    Ok(Pems {
        authority: read(AUTHORITY)?,
        leaf: read(LEAF)?,
        key: read(KEY)?,
    })
}
