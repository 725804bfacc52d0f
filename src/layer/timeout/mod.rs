//! Gives up in time.
