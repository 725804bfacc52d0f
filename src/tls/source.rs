//! Where the mesh's own credentials come from.

use std::future::Future;
use std::pin::Pin;

use super::credentials::Credentials;
use super::files::FileSource;

/// Where a mesh has its identity and its trust from; for
/// [`Builder::identity`](crate::Builder::identity).
#[derive(Debug)]
pub struct Source(Kind);

#[derive(Debug)]
enum Kind {
    Credentials(Credentials),
    Files(FileSource),
}

/// What keeps credentials fresh.
pub(crate) type Upkeep = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Source {
    /// The credentials at this moment, and the task that renews them.
    pub(crate) fn start(self) -> (Credentials, Option<Upkeep>) {
        match self.0 {
            Kind::Credentials(credentials) => (credentials, None),
            Kind::Files(files) => {
                let credentials = files.load_now();
                let watching = files.watch(credentials.downgrade());
                (credentials, Some(Box::pin(watching)))
            }
        }
    }
}

/// The program renews them itself.
impl From<Credentials> for Source {
    fn from(credentials: Credentials) -> Self {
        Self(Kind::Credentials(credentials))
    }
}

/// They are in files that somebody else renews.
impl From<FileSource> for Source {
    fn from(files: FileSource) -> Self {
        Self(Kind::Files(files))
    }
}
