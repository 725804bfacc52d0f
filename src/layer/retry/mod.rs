//! Tries again what is worth it, within a budget.
