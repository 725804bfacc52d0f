//! Where the mesh's own credentials come from.

use std::future::Future;
use std::pin::Pin;

use super::clock::Clock;
use super::credentials::Credentials;
use super::csr::CsrSource;
use super::files::FileSource;
use super::pem::Unusable;
#[cfg(feature = "spiffe")]
use super::workload_api::WorkloadApi;
use crate::random::Random;

/// Where a mesh has its identity and its trust from; for
/// [`Builder::identity`](crate::Builder::identity).
#[derive(Debug)]
pub struct Source(Kind);

#[derive(Debug)]
enum Kind {
    Credentials(Credentials),
    Csr(CsrSource),
    Files(FileSource),
    #[cfg(feature = "spiffe")]
    WorkloadApi(WorkloadApi),
}

/// What keeps credentials fresh.
pub(crate) type Upkeep = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Source {
    /// Whether there could ever be credentials: a missing file may come, a contradiction stays.
    ///
    /// # Errors
    /// If what it was told contradicts itself, or what is there by now.
    pub(crate) fn consistent(&self) -> Result<(), Unusable> {
        match &self.0 {
            Kind::Files(files) => files.consistent(),
            Kind::Credentials(_) | Kind::Csr(_) => Ok(()),
            #[cfg(feature = "spiffe")]
            Kind::WorkloadApi(_) => Ok(()),
        }
    }

    /// The credentials at this moment, and the task that renews them.
    pub(crate) fn start(self, clock: Clock, random: &Random) -> (Credentials, Option<Upkeep>) {
        match self.0 {
            Kind::Credentials(credentials) => (credentials, None),
            Kind::Csr(source) => {
                let credentials = Credentials::default();
                let keeping = source.keep(credentials.downgrade(), clock, random.clone());
                (credentials, Some(Box::pin(keeping)))
            }
            #[cfg(feature = "spiffe")]
            Kind::WorkloadApi(agent) => {
                let credentials = Credentials::default();
                let keeping = agent.keep(credentials.downgrade(), clock, random.clone());
                (credentials, Some(Box::pin(keeping)))
            }
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

/// An authority signs them.
impl From<CsrSource> for Source {
    fn from(source: CsrSource) -> Self {
        Self(Kind::Csr(source))
    }
}

/// An agent on this machine gives them.
#[cfg(feature = "spiffe")]
impl From<WorkloadApi> for Source {
    fn from(agent: WorkloadApi) -> Self {
        Self(Kind::WorkloadApi(agent))
    }
}
