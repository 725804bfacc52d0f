//! Counts the allocations of a test, and the bytes that they hold: those of its own thread, so that the
//! others do not matter.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static LIVE: Cell<i64> = const { Cell::new(0) };
}

/// How many allocations this thread has made. One that grows counts as another.
pub(crate) fn count() -> u64 {
    COUNT.get()
}

/// How many bytes this thread has asked for and not given back. What another thread gives back stays.
pub(crate) fn live() -> i64 {
    LIVE.get()
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn note(size: usize) {
    COUNT.set(COUNT.get() + 1);
    hold(size as i64);
}

fn hold(bytes: i64) {
    LIVE.set(LIVE.get() + bytes);
}

// SAFETY: every method does what `System` does with the same arguments, whose contract is the one that the
// caller of the method has to keep; counting touches thread-locals without destructors.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        hold(-(layout.size() as i64));
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        hold(-(layout.size() as i64));
        unsafe { System.dealloc(pointer, layout) }
    }
}
