//! What grows: with the configuration, with connections that come at once, with edits under load, and
//! with the features that are built.
//!
//! `--scale` measures the first three, `--build` the last; each has a section of its own in
//! docs/PERFORMANCE.md.

mod build;
mod configuration;
mod storm;
mod swaps;

pub(crate) use build::tables as build;

/// All tables of `--scale`.
pub(crate) fn tables() -> String {
    let tables = [configuration::table(), storm::table(), swaps::table()];
    tables.join("\n")
}

/// The value below which this share of all is, of values that are sorted.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len() - 1;
    sorted[((last as f64 * share).ceil() as usize).min(last)]
}

/// A number of things, as people write it.
fn grouped(number: u32) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
