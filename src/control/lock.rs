//! Mutexes that are held for a look or a change, and never while something else is waited for.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Who panicked with it has left a whole value: each holder changes it in one step.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
