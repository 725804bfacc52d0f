use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many bytes replays may keep: of one request, and of all that share this value.
#[derive(Clone, Debug)]
pub(crate) struct Buffers {
    per_request: usize,
    pool: Arc<Pool>,
}

/// The bytes that all replays together keep.
#[derive(Debug)]
pub(in crate::body) struct Pool {
    used: AtomicUsize,
    limit: usize,
}

impl Buffers {
    /// `per_request` bytes for each request and `total` for all together.
    pub(crate) fn new(per_request: usize, total: usize) -> Self {
        Self {
            per_request,
            pool: Arc::new(Pool {
                used: AtomicUsize::new(0),
                limit: total,
            }),
        }
    }

    /// The same total with another limit for each request.
    pub(crate) fn with_per_request(&self, per_request: usize) -> Self {
        Self {
            per_request,
            pool: self.pool.clone(),
        }
    }

    pub(in crate::body) fn per_request(&self) -> usize {
        self.per_request
    }

    pub(in crate::body) fn pool(&self) -> Arc<Pool> {
        self.pool.clone()
    }

    /// How many bytes are kept at the moment.
    pub(crate) fn used(&self) -> usize {
        self.pool.used.load(Ordering::Relaxed)
    }
}

impl Default for Buffers {
    /// 64 KiB for each request, 64 MiB for all.
    fn default() -> Self {
        Self::new(64 * 1024, 64 * 1024 * 1024)
    }
}

impl Pool {
    /// Counts `bytes` more; `false`, and nothing is counted, if that exceeds the total.
    pub(in crate::body) fn reserve(&self, bytes: usize) -> bool {
        let grow = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.limit);
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, grow)
            .is_ok()
    }

    pub(in crate::body) fn release(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}
