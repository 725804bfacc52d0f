//! How many calls of a sort there may be at a time.
//!
//! Each sort has seats of its own, so that none keeps another one out. Whoever finds none is refused at once:
//! a queue would be of callers who have given up. A refusal is counted; it is logged once, and again only after
//! half of the seats have been free, since a server that is full gives back and takes seats all the time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

use tonic::Status;

/// The seats of one sort.
#[derive(Debug)]
pub(super) struct Seats {
    /// Of what, as the log and whoever is refused are told: many of them.
    what: &'static str,
    most: usize,
    taken: Arc<AtomicUsize>,
    refused: AtomicU64,
    /// Whether it was told that there are none left.
    told: AtomicBool,
}

/// A seat, until it is dropped.
#[derive(Debug)]
pub(super) struct Seat(Arc<AtomicUsize>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Seats {
    /// So many `what` at a time.
    pub(super) fn new(what: &'static str, most: usize) -> Self {
        Self {
            what,
            most,
            taken: Arc::default(),
            refused: AtomicU64::new(0),
            told: AtomicBool::new(false),
        }
    }

    /// A seat.
    ///
    /// # Errors
    /// All are taken.
    pub(super) fn take(&self) -> Result<Seat, Status> {
        let most = self.most;
        let one_more = |taken: usize| (taken < most).then_some(taken + 1);
        if let Ok(before) = self.taken.fetch_update(Relaxed, Relaxed, one_more) {
            if before < most.div_ceil(2) {
                self.told.store(false, Relaxed);
            }
            return Ok(Seat(self.taken.clone()));
        }
        self.refused.fetch_add(1, Relaxed);
        if !self.told.swap(true, Relaxed) {
            tracing::warn!(
                target: "meshwork::control",
                most,
                "the limit of {} is reached; further ones are turned away",
                self.what,
            );
        }
        let text = format!("{most} {} are open, which is the limit", self.what);
        Err(Status::resource_exhausted(text))
    }

    /// How many are taken.
    pub(super) fn taken(&self) -> usize {
        self.taken.load(Relaxed)
    }

    /// How many callers were refused.
    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k6_who_finds_no_seat_is_refused_by_the_name_of_what_is_full_and_counted() {
        let (streams, others) = (Seats::new("streams", 2), Seats::new("other calls", 1));
        let held = [streams.take(), streams.take()].map(|seat| seat.expect("free"));
        let _other = others.take().expect("free");
        let refused = others.take().expect_err("full");
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        assert_eq!(
            refused.message(),
            "1 other calls are open, which is the limit"
        );
        assert_eq!((streams.refused(), others.refused()), (0, 1));
        streams.take().expect_err("full");
        assert_eq!((streams.taken(), streams.refused()), (2, 1));
        drop(held);
        assert_eq!(streams.taken(), 0);
        streams.take().expect("free");
    }

    #[test]
    fn a_server_that_stays_full_says_so_once() {
        let seats = Seats::new("streams", 4);
        let mut held: Vec<Seat> = (0..4).filter_map(|_| seats.take().ok()).collect();
        for _ in 0..10 {
            seats.take().expect_err("full");
            assert!(seats.told.load(Relaxed));
            held.pop();
            held.push(seats.take().expect("given back"));
            assert!(seats.told.load(Relaxed), "it is as good as full");
        }
        held.truncate(1);
        held.push(seats.take().expect("given back"));
        assert!(!seats.told.load(Relaxed), "half of the seats were free");
    }
}
