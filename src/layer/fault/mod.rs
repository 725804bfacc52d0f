//! Injects delays and aborts.
