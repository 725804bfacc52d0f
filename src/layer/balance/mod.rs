//! Picks one of many endpoints.
