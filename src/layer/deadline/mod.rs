//! Carries the time that is left from caller to callee.
