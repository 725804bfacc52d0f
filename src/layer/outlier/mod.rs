//! Ejects endpoints that fail.
