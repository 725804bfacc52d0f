//! Counts allocations, exactly.
//!
//! The counters are those of the calling thread. A rung runs on one thread, client, connection and
//! server together, so they see all that a call costs and nothing that another thread does.

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};

/// The system's allocator, with a count beside it.
pub(crate) struct Counting;

/// How many allocations there were, and of how many bytes. A reallocation counts as an allocation
/// of its new size: it may well be one.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Count {
    pub(crate) allocations: u64,
    pub(crate) bytes: u64,
}

thread_local! {
    static COUNT: Cell<Count> = const { Cell::new(Count { allocations: 0, bytes: 0 }) };
    /// Bytes that are allocated and not freed. Below zero where another thread's are freed.
    static LIVE: Cell<i64> = const { Cell::new(0) };
    /// Whether allocations are traced; off while one is, because that allocates.
    static TRACING: Cell<bool> = const { Cell::new(false) };
    static TRACES: RefCell<Vec<Trace>> = const { RefCell::new(Vec::new()) };
}

/// One allocation and where it was made.
#[derive(Debug)]
pub(crate) struct Trace {
    pub(crate) bytes: usize,
    pub(crate) place: Backtrace,
}

/// What this thread has allocated up to now.
pub(crate) fn count() -> Count {
    COUNT.get()
}

/// Bytes that this thread has allocated and not freed.
pub(crate) fn live() -> i64 {
    LIVE.get()
}

fn hold(bytes: usize) {
    LIVE.set(LIVE.get() + bytes as i64);
}

fn free(bytes: usize) {
    LIVE.set(LIVE.get() - bytes as i64);
}

/// Runs `work` and returns where it allocated on this thread.
pub(crate) fn trace(work: impl FnOnce()) -> Vec<Trace> {
    TRACING.set(true);
    work();
    TRACING.set(false);
    TRACES.take()
}

fn note(bytes: usize) {
    let Count {
        allocations,
        bytes: sum,
    } = COUNT.get();
    COUNT.set(Count {
        allocations: allocations + 1,
        bytes: sum + bytes as u64,
    });
    if TRACING.replace(false) {
        let place = Backtrace::force_capture();
        TRACES.with_borrow_mut(|traces| traces.push(Trace { bytes, place }));
        TRACING.set(true);
    }
}

impl Trace {
    /// The places that led to the allocation, innermost first, without the standard library's.
    pub(crate) fn places(&self) -> String {
        const SHOWN: usize = 10;
        let text = self.place.to_string();
        let frames: Vec<&str> = text.lines().map(str::trim).collect();
        let mut shown = String::new();
        let places = frames.windows(2).filter(|pair| {
            let place = pair[1].starts_with("at ");
            let foreign = ["/rustc/", "benches/ladder/allocation.rs"];
            place && !foreign.iter().any(|part| pair[1].contains(part))
        });
        for pair in places.take(SHOWN) {
            let place = pair[1]
                .rsplit_once("/registry/src/")
                .map_or(pair[1], |(_, rest)| rest);
            shown.push_str(&format!("    {}\n        {place}\n", pair[0]));
        }
        shown
    }
}

impl std::ops::Sub for Count {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            allocations: self.allocations - earlier.allocations,
            bytes: self.bytes - earlier.bytes,
        }
    }
}

// SAFETY: every method does what `System` does with the same arguments, whose contract is the one
// that the caller of the method has to keep; counting touches thread-locals without destructors,
// and tracing, which allocates, switches itself off first.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        hold(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        hold(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        free(layout.size());
        hold(size);
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        free(layout.size());
        unsafe { System.dealloc(pointer, layout) }
    }
}
