//! Join tokens: a file of secrets, each for one identity, which are used up.
//!
//! A line is `TOKEN NAMESPACE/SERVICEACCOUNT`, or `TOKEN NAMESPACE/SERVICEACCOUNT reusable`; `#` begins a
//! comment. The file is read for each token that is shown, so an edit counts at once, and a token that was
//! used up is taken out of it before its owner is answered: a crash in between costs a token, never lets it
//! count twice. Who edits the file holds a lock on another one beside it (`NAME.lock`), so that a
//! server and `meshwork ca token` do not write over each other, which could make a used token good again.

use std::fs;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use thiserror::Error;
use zeroize::Zeroizing;

use crate::control::lock::lock;

/// The largest file that is read, in bytes: some ten thousand tokens.
const MAX_FILE: u64 = 1 << 20;
/// Shorter tokens could be guessed, whatever the rate.
const SHORTEST: usize = 16;

/// The join tokens of a file.
#[derive(Clone)]
pub struct JoinTokens {
    path: Arc<PathBuf>,
    /// One at a time: of two that show the same token one finds it gone.
    using: Arc<Mutex<()>>,
}

/// Why no identity was found.
#[derive(Debug, Error)]
pub(super) enum NotFound {
    #[error("the file of join tokens cannot be used: {0}")]
    File(#[from] io::Error),
    #[error("line {line} of the file of join tokens: {why}")]
    Line { line: usize, why: &'static str },
    #[error("it is no join token")]
    Unknown,
}

/// A line of the file.
struct Entry<'a> {
    token: &'a str,
    namespace: &'a str,
    account: &'a str,
    reusable: bool,
}

impl JoinTokens {
    /// The tokens in this file, which only its owner may read. It need not exist yet.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: Arc::new(path.into()),
            using: Arc::default(),
        }
    }

    /// Makes a token for `identity` (`NAMESPACE/SERVICEACCOUNT`) and adds it to the file, which is made
    /// if there is none. Blocks.
    ///
    /// # Errors
    /// If the file cannot be read or written, or the system has no randomness.
    pub fn make(&self, identity: &str, reusable: bool) -> io::Result<String> {
        let mut bytes = Zeroizing::new([0_u8; 24]);
        if !crate::tls::fill(&mut *bytes) {
            return Err(io::Error::other("the system has no randomness"));
        }
        let token: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let _one_at_a_time = self.lock()?;
        let mut text = match self.read() {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Zeroizing::default(),
            Err(error) => return Err(error),
        };
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        let often = if reusable { " reusable" } else { "" };
        text.push_str(&format!("{token} {identity}{often}\n"));
        self.write(&text)?;
        Ok(token)
    }

    /// Namespace and service account that a token is for. Uses it up. Blocks.
    pub(super) fn redeem(&self, shown: &str) -> Result<(String, String), NotFound> {
        let _one_at_a_time = self.lock()?;
        let text = self.read()?;
        let mut found = None;
        for (index, line) in text.lines().enumerate() {
            let entry = entry(line).map_err(|why| NotFound::Line {
                line: index + 1,
                why,
            })?;
            // All lines are looked at, and each token to its end: how long it takes tells nothing.
            if let Some(entry) = entry
                && same(entry.token, shown)
            {
                found = Some((index, entry));
            }
        }
        let (index, entry) = found.ok_or(NotFound::Unknown)?;
        if !entry.reusable {
            self.remove(&text, index)?;
        }
        Ok((entry.namespace.to_owned(), entry.account.to_owned()))
    }

    /// Waits until nobody else edits the file, in this process or another. Blocks.
    fn lock(&self) -> io::Result<(MutexGuard<'_, ()>, fs::File)> {
        let here = lock(&self.using);
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(self.beside(".lock"))?;
        file.lock()?;
        Ok((here, file))
    }

    /// A file in the same folder.
    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(suffix);
        self.path.with_file_name(name)
    }

    fn read(&self) -> Result<Zeroizing<String>, io::Error> {
        let file = fs::File::open(&*self.path)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            let mode = file.metadata()?.mode() & 0o777;
            if mode & 0o077 != 0 {
                let why = format!("its mode is {mode:04o}; make it 0600 and its tokens new");
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
            }
        }
        let room = usize::try_from(file.metadata()?.len().min(MAX_FILE)).unwrap_or(0);
        let mut text = Zeroizing::new(String::with_capacity(room + 1));
        file.take(MAX_FILE + 1).read_to_string(&mut text)?;
        if text.len() as u64 > MAX_FILE {
            let why = format!("it has more than {MAX_FILE} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        Ok(text)
    }

    /// Writes the file without one of its lines: the old one stays whole until the new one is.
    fn remove(&self, text: &str, index: usize) -> io::Result<()> {
        let mut rest = Zeroizing::new(String::with_capacity(text.len()));
        for (number, line) in text.lines().enumerate() {
            if number != index {
                rest.push_str(line);
                rest.push('\n');
            }
        }
        self.write(&rest)
    }

    fn write(&self, text: &str) -> io::Result<()> {
        let beside = self.beside(".new");
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, &*self.path)
    }
}

/// Reads a line; `None` if it says nothing.
fn entry(line: &str) -> Result<Option<Entry<'_>>, &'static str> {
    let line = line.split('#').next().unwrap_or_default();
    let mut words = line.split_whitespace();
    let Some(token) = words.next() else {
        return Ok(None);
    };
    if token.len() < SHORTEST {
        return Err("a token has at least 16 characters");
    }
    let identity = words.next().and_then(|word| word.split_once('/'));
    let (namespace, account) = identity.ok_or("a token is followed by NAMESPACE/SERVICEACCOUNT")?;
    let reusable = match (words.next(), words.next()) {
        (None, _) => false,
        (Some("reusable"), None) => true,
        _ => return Err("nothing may follow but `reusable`"),
    };
    Ok(Some(Entry {
        token,
        namespace,
        account,
        reusable,
    }))
}

/// Whether two texts are the same, in a time that depends on their lengths alone.
fn same(one: &str, other: &str) -> bool {
    let bytes = one.bytes().zip(other.bytes());
    let differ = bytes.fold(0, |differ, (a, b)| differ | (a ^ b));
    std::hint::black_box(differ) == 0 && one.len() == other.len()
}

impl std::fmt::Debug for JoinTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("JoinTokens").field(&self.path).finish()
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const ONCE: &str = "0123456789abcdef-once";
    const OFTEN: &str = "0123456789abcdef-often";

    fn tokens(text: &str) -> (tempfile::TempDir, JoinTokens) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        (folder, JoinTokens::new(path))
    }

    fn order() -> (String, String) {
        ("my-app".to_owned(), "order".to_owned())
    }

    #[test]
    fn k3_a_join_token_counts_once_unless_it_says_otherwise() {
        let text =
            format!("# who\n{ONCE} my-app/order # a comment\n\n{OFTEN} my-app/order reusable\n");
        let (folder, tokens) = tokens(&text);
        assert_eq!(tokens.redeem(ONCE).unwrap(), order());
        assert!(matches!(tokens.redeem(ONCE), Err(NotFound::Unknown)));
        for _ in 0..3 {
            assert_eq!(tokens.redeem(OFTEN).unwrap(), order());
        }
        let left = fs::read_to_string(folder.path().join("tokens")).unwrap();
        assert_eq!(left, format!("# who\n\n{OFTEN} my-app/order reusable\n"));
        let mode = fs::metadata(folder.path().join("tokens"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn k3_of_many_that_show_one_token_one_gets_in() {
        let (_folder, tokens) = tokens(&format!("{ONCE} my-app/order\n"));
        let showing = (0..8).map(|_| {
            let tokens = tokens.clone();
            std::thread::spawn(move || tokens.redeem(ONCE).is_ok())
        });
        let showing: Vec<_> = showing.collect();
        let let_in = showing.into_iter().filter_map(|one| one.join().ok());
        assert_eq!(let_in.filter(|in_| *in_).count(), 1);
    }

    #[test]
    fn k3_a_used_token_stays_used_whoever_edits_the_file_meanwhile() {
        let (folder, tokens) = tokens("");
        // Two handles with locks of their own, as two processes have.
        let other = JoinTokens::new(folder.path().join("tokens"));
        let making = std::thread::spawn(move || {
            let made = (0..50).map(|_| other.make("a/b", false).unwrap());
            made.collect::<Vec<_>>()
        });
        for _ in 0..50 {
            let token = tokens.make("my-app/order", false).unwrap();
            assert_eq!(tokens.redeem(&token).unwrap(), order());
            assert!(tokens.redeem(&token).is_err(), "it is used up");
        }
        for token in making.join().unwrap() {
            assert!(tokens.redeem(&token).is_ok(), "none was lost");
        }
        let left = fs::read_to_string(folder.path().join("tokens")).unwrap();
        assert_eq!(left, "");
    }

    #[test]
    fn a_file_with_a_fault_lets_nobody_in() {
        for (row, text, expected) in [
            (
                "short",
                "short my-app/order",
                "line 1 of the file of join tokens: a token has",
            ),
            (
                "no identity",
                &*format!("\n{ONCE}"),
                "line 2 of the file of join tokens: a token is",
            ),
            ("more", &*format!("{ONCE} a/b twice"), "nothing may follow"),
        ] {
            let (_folder, tokens) = tokens(text);
            let error = tokens.redeem(ONCE).unwrap_err().to_string();
            assert!(error.contains(expected), "{row}: {error}");
            assert!(!error.contains(ONCE), "{row}: {error}");
        }
        let (folder, tokens) = tokens(&format!("{ONCE} my-app/order\n"));
        let path = folder.path().join("tokens");
        fs::set_permissions(path, PermissionsExt::from_mode(0o644)).unwrap();
        let error = tokens.redeem(ONCE).unwrap_err().to_string();
        assert!(error.contains("its mode is 0644"), "{error}");
        let missing = JoinTokens::new(folder.path().join("none"));
        assert!(matches!(missing.redeem(ONCE), Err(NotFound::File(_))));
    }

    #[test]
    fn a_token_that_was_made_is_believed() {
        let folder = tempfile::tempdir().unwrap();
        let tokens = JoinTokens::new(folder.path().join("tokens"));
        let once = tokens.make("my-app/order", false).unwrap();
        let often = tokens.make("my-app/order", true).unwrap();
        assert_ne!(once, often);
        assert_eq!(once.len(), 48);
        for (token, expected) in [
            (&once, true),
            (&once, false),
            (&often, true),
            (&often, true),
        ] {
            assert_eq!(tokens.redeem(token).is_ok(), expected);
        }
    }

    #[test]
    fn texts_are_the_same_to_their_ends() {
        for (one, other, expected) in [
            ("", "", true),
            ("a", "a", true),
            ("a", "ab", false),
            ("ab", "aB", false),
        ] {
            assert_eq!(same(one, other), expected, "{one} {other}");
        }
    }
}
