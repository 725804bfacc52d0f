//! A directory of texts that people, editors, `kubectl` and ConfigMap volumes change.
//!
//! Two things find a change: the operating system's events, at once, and a look at the files
//! themselves, twice in a second. The look decides; events only say when it is worth one. They
//! cannot be more than that: a watch follows an inode, so it goes blind when a directory is
//! replaced or a symlink on the way to it is turned, on some file systems (network mounts, shared
//! folders of virtual machines) it never sees anything, and its queue overflows. If a look finds
//! what no event announced, the watch is made anew.
//!
//! A file is written in several steps and a set of files in more, so a set is taken when two looks
//! a moment apart agree. That costs 50 ms and needs no knowledge of how the writer writes: rename,
//! truncate and write, one file or twenty. Together with the interval of the looks, a complete edit
//! is handed on within a second even where no event ever comes.
//!
//! What is compared is the text, not a time or a size: a file system's clock is coarse enough for
//! two edits to look like one, and an equal text is no change whatever its time says.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::sync::mpsc::Sender;
use tokio::time::sleep;

use super::live::blocking;

/// Two looks that agree are this far apart.
const SETTLE: Duration = Duration::from_millis(50);
/// How long a directory without events goes without a look. With [`SETTLE`], and time to read and
/// compile, it stays below a second.
const INTERVAL: Duration = Duration::from_millis(500);

/// Decides when a set of texts is whole and new: the sequence of looks goes in, sets come out.
///
/// It has no clock and does no IO; [`Settling::unsettled`] says whether the next look is due soon.
#[derive(Debug)]
struct Settling<T> {
    taken: T,
    seen: Option<T>,
}

impl<T: Clone + PartialEq> Settling<T> {
    /// Starts from a set that was handed on already.
    fn new(taken: T) -> Self {
        Self { taken, seen: None }
    }

    /// Takes note of a look; yields the set if it is whole and another one than the last.
    fn look(&mut self, now: T) -> Option<T> {
        if now == self.taken {
            // Also an edit that was taken back before it was whole.
            self.seen = None;
            None
        } else if self.seen.as_ref() == Some(&now) {
            self.seen = None;
            self.taken = now.clone();
            Some(now)
        } else {
            self.seen = Some(now);
            None
        }
    }

    /// Whether an edit is under way.
    fn unsettled(&self) -> bool {
        self.seen.is_some()
    }
}

/// What a watcher looks at.
pub(super) trait Place: Send {
    /// What is seen; equal values are the same set.
    type Set: Clone + PartialEq + Send;

    /// One look. It may take its time: the watcher waits.
    fn look(&mut self) -> impl Future<Output = Self::Set> + Send;

    /// Watches for events again, because the last watch missed something.
    fn renew(&mut self, wake: &Arc<Notify>) -> impl Future<Output = ()> + Send;
}

/// Hands on what `make` makes of every whole and new set, until nobody listens any more.
///
/// `taken` is the set that the listener has already. One update waits to be received at most, and
/// what comes after it is made of what is there then: a slow listener skips sets, but the last one
/// that it hears of is never an old one.
pub(super) async fn watch<P, U, M, F>(mut place: P, taken: P::Set, mut make: M, updates: Sender<U>)
where
    P: Place,
    M: FnMut(P::Set) -> F,
    F: Future<Output = U>,
{
    let wake = Arc::new(Notify::new());
    let mut settling = Settling::new(taken);
    place.renew(&wake).await;
    // The first look is at once: something may have changed before the watch was there.
    let mut announced = true;
    while !updates.is_closed() {
        let set = settling.look(place.look().await);
        if settling.unsettled() && !announced {
            place.renew(&wake).await;
        }
        if let Some(set) = set
            && updates.send(make(set).await).await.is_err()
        {
            return;
        }
        announced = if settling.unsettled() {
            // More events of the same edit do not hurry the second look.
            sleep(SETTLE).await;
            true
        } else {
            tokio::select! {
                () = updates.closed() => return,
                () = wake.notified() => true,
                () = sleep(INTERVAL) => false,
            }
        };
    }
}

/// A directory on disk.
#[derive(Debug)]
pub(super) struct Directory<R> {
    path: PathBuf,
    read: R,
    watcher: Option<RecommendedWatcher>,
}

impl<R> Directory<R> {
    /// `read` reads all of it.
    pub(super) fn new(path: &Path, read: R) -> Self {
        Self {
            path: path.to_owned(),
            read,
            watcher: None,
        }
    }
}

impl<R, S> Place for Directory<R>
where
    R: Fn(&Path) -> S + Clone + Send + Sync + 'static,
    S: Clone + PartialEq + Send + 'static,
{
    type Set = S;

    async fn look(&mut self) -> S {
        let path = self.path.clone();
        let read = self.read.clone();
        blocking(move || read(&path)).await
    }

    async fn renew(&mut self, wake: &Arc<Notify>) {
        let path = self.path.clone();
        let wake = Arc::clone(wake);
        self.watcher = None;
        self.watcher = match blocking(move || watcher(&path, wake)).await {
            Ok(watcher) => Some(watcher),
            Err(error) => {
                tracing::debug!(%error, path = %self.path.display(), "no file events; looking");
                None
            }
        };
    }
}

fn watcher(path: &Path, wake: Arc<Notify>) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Reading is what this program does itself.
        let read = event.is_ok_and(|event| event.kind.is_access());
        if !read {
            wake.notify_one();
        }
    })?;
    watcher.watch(path, RecursiveMode::Recursive)?;
    Ok(watcher)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::sync::mpsc;
    use tokio::time::{Instant, timeout};

    use super::*;

    #[test]
    fn a_set_is_taken_when_two_looks_agree_and_it_is_new() {
        let mut settling = Settling::new(0);
        let rows = [
            ("nothing new", 0, None),
            ("first half of an edit", 1, None),
            ("second half", 2, None),
            ("whole", 2, Some(2)),
            ("unchanged", 2, None),
            ("begun", 3, None),
            ("taken back", 2, None),
            ("begun again", 3, None),
            ("whole again", 3, Some(3)),
            ("back to an older one", 0, None),
            ("is news too", 0, Some(0)),
        ];
        for (row, now, expected) in rows {
            assert_eq!(settling.look(now), expected, "{row}");
        }
        assert!(!settling.unsettled());
    }

    /// A place whose set the test writes, with or without an event.
    #[derive(Clone, Default)]
    struct Slate(Arc<Mutex<State>>);

    #[derive(Default)]
    struct State {
        set: u32,
        renewed: u32,
        wake: Option<Arc<Notify>>,
    }

    impl Slate {
        fn write(&self, set: u32) {
            self.0.lock().expect("no test panics with it").set = set;
        }

        fn event(&self) {
            let state = self.0.lock().expect("no test panics with it");
            state.wake.as_ref().expect("watched").notify_one();
        }

        fn renewed(&self) -> u32 {
            self.0.lock().expect("no test panics with it").renewed
        }
    }

    impl Place for Slate {
        type Set = u32;

        async fn look(&mut self) -> u32 {
            self.0.lock().expect("no test panics with it").set
        }

        async fn renew(&mut self, wake: &Arc<Notify>) {
            let mut state = self.0.lock().expect("no test panics with it");
            state.renewed += 1;
            state.wake = Some(wake.clone());
        }
    }

    /// Starts a watcher of a slate that says 0 and waits until it is idle.
    async fn watched() -> (Slate, mpsc::Receiver<u32>, tokio::task::JoinHandle<()>) {
        let slate = Slate::default();
        let (sender, receiver) = mpsc::channel(1);
        let task = tokio::spawn(watch(slate.clone(), 0, async |set| set, sender));
        while slate.renewed() == 0 {
            tokio::task::yield_now().await;
        }
        (slate, receiver, task)
    }

    #[tokio::test(start_paused = true)]
    async fn an_edit_with_an_event_is_in_force_after_it_has_settled() {
        let (slate, mut updates, _task) = watched().await;
        sleep(Duration::from_millis(20)).await;
        let start = Instant::now();
        slate.write(1);
        slate.event();
        assert_eq!(updates.recv().await, Some(1));
        assert_eq!(start.elapsed(), SETTLE);
        assert_eq!(slate.renewed(), 1, "the event came");
    }

    #[tokio::test(start_paused = true)]
    async fn an_edit_without_an_event_is_found_within_a_second_and_the_watch_is_renewed() {
        let (slate, mut updates, _task) = watched().await;
        sleep(Duration::from_millis(1)).await;
        let start = Instant::now();
        slate.write(1);
        assert_eq!(updates.recv().await, Some(1));
        assert!(start.elapsed() <= Duration::from_millis(600));
        assert_eq!(slate.renewed(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_half_written_set_is_never_handed_on() {
        let (slate, mut updates, _task) = watched().await;
        for half in 1..=20 {
            slate.write(half);
            slate.event();
            sleep(Duration::from_millis(30)).await;
            assert!(updates.try_recv().is_err(), "the writer is not done");
        }
        assert_eq!(updates.recv().await, Some(20));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_listener_hears_of_the_last_set() {
        let (slate, mut updates, _task) = watched().await;
        for set in 1..=5 {
            slate.write(set);
            sleep(Duration::from_secs(2)).await;
        }
        let mut heard = vec![];
        while let Ok(Some(set)) = timeout(Duration::from_secs(5), updates.recv()).await {
            heard.push(set);
        }
        assert_eq!(heard.last(), Some(&5));
        assert!(heard.len() < 5, "bounded: {heard:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_watcher_ends_when_its_listener_is_gone() {
        let (_slate, updates, task) = watched().await;
        drop(updates);
        task.await.expect("ends");
    }
}
