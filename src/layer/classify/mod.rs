//! Tells success from failure.
