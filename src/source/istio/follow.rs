//! A directory that is followed: what its texts become, at the start and after each edit.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{self, Receiver};

use super::fault::Faults;
use super::folder::Texts;
use super::live::blocking;
use super::watch::{Directory, watch};

/// How often a set with faults is looked at again at the start, in case it is being written.
const STARTING_LOOKS: u32 = 5;
/// The time between these.
const STARTING_PAUSE: Duration = Duration::from_millis(50);

/// Reads a directory (or a single file), makes something of it, and begins to watch it.
///
/// `load` runs on a blocking thread: at the start, and for each distinct content of the directory
/// afterwards. What it makes is received in order; a receiver that is slower than the edits skips
/// some, but never the last. The watching task ends when the receiver is dropped.
///
/// # Errors
/// What `load` says of the directory as it is. A set that is being written while it is read is
/// given a quarter of a second to become whole.
pub(crate) async fn follow<T: Send + 'static>(
    path: &Path,
    load: impl Fn(&Texts) -> Result<T, Faults> + Send + Sync + 'static,
) -> Result<(T, Receiver<Result<T, Faults>>), Faults> {
    let load = Arc::new(load);
    let (texts, first) = first(path, &load).await?;
    let (sender, receiver) = mpsc::channel(1);
    let make = move |texts| {
        let load = Arc::clone(&load);
        async move { blocking(move || load(&texts)).await }
    };
    tokio::spawn(watch(
        Directory::new(path, Texts::read),
        texts,
        make,
        sender,
    ));
    Ok((first, receiver))
}

/// The first set, which must be good.
async fn first<T: Send + 'static>(
    path: &Path,
    load: &Arc<impl Fn(&Texts) -> Result<T, Faults> + Send + Sync + 'static>,
) -> Result<(Texts, T), Faults> {
    let mut looks = 0;
    loop {
        let (path, load) = (path.to_owned(), Arc::clone(load));
        let (texts, loaded) = blocking(move || {
            let texts = Texts::read(&path);
            let loaded = load(&texts);
            (texts, loaded)
        })
        .await;
        looks += 1;
        match loaded {
            Ok(loaded) => return Ok((texts, loaded)),
            Err(faults) if looks >= STARTING_LOOKS => return Err(faults),
            Err(_) => tokio::time::sleep(STARTING_PAUSE).await,
        }
    }
}
