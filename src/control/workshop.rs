//! Where views are made: the processors that make them, and what all views of all contents share.

use std::num::NonZero;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::interned::Interned;
use super::resource::Encoded;
use super::told::Told;

/// It outlives contents.
#[derive(Debug)]
pub(super) struct Workshop {
    pub(super) told: Told,
    pub(super) interned: Interned<Encoded>,
    /// How many views are made at a time: it is work for processors, and each takes the memory of a mesh.
    makers: Arc<Semaphore>,
}

impl Default for Workshop {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self {
            told: Told::default(),
            interned: Interned::default(),
            makers: Arc::new(Semaphore::new(processors)),
        }
    }
}

impl Workshop {
    /// Waits for a processor to make a view. It is cancel safe.
    pub(super) async fn maker(&self) -> OwnedSemaphorePermit {
        let maker = self.makers.clone().acquire_owned().await;
        maker.expect("nobody closes the semaphore")
    }
}
