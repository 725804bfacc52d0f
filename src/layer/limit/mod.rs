//! Limits what is under way at once.
