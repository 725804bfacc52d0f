//! The source lines around a place.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// How many characters of a source line a snippet shows.
const SNIPPET_WIDTH: usize = 120;

/// Up to three source lines with a caret under the place of a fault.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Snippet {
    first: u32,
    lines: Vec<String>,
    line: u32,
    column: u32,
}

impl Snippet {
    /// The lines with their numbers.
    pub fn lines(&self) -> impl Iterator<Item = (u32, &str)> {
        (self.first..).zip(self.lines.iter().map(String::as_str))
    }

    /// Cuts the lines around a place out of a text; `None` when the text has no such line.
    fn cut(text: &str, line: u32, column: u32) -> Option<Self> {
        let first = line.checked_sub(1)?.max(1);
        // A long line is shown from a little before the caret.
        let skip = (column as usize).saturating_sub(SNIPPET_WIDTH * 3 / 4);
        let lines: Vec<String> = text
            .lines()
            .skip(first as usize - 1)
            .take((line - first) as usize + 2)
            .map(|line| {
                let cut: String = line.chars().skip(skip).take(SNIPPET_WIDTH).collect();
                cut.chars().map(visible).collect()
            })
            .collect();
        if lines.len() <= (line - first) as usize {
            return None;
        }
        Some(Self {
            first,
            lines,
            line,
            column: column.saturating_sub(u32::try_from(skip).unwrap_or(0)),
        })
    }
}

impl fmt::Display for Snippet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = u64::from(self.first) + self.lines.len() as u64;
        let width = last.to_string().len();
        let mut separator = "";
        for (number, line) in self.lines() {
            write!(f, "{separator}  {number:width$} | {}", line.trim_end())?;
            separator = "\n";
            if number == self.line && self.column > 0 {
                let before = self.column as usize - 1;
                write!(f, "\n  {:width$} | {:before$}^", "", "")?;
            }
        }
        Ok(())
    }
}

/// One column per character, so that the caret stays under its place.
fn visible(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}

/// The texts that were read, by file name: later stages show their lines too.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Sources {
    texts: BTreeMap<Arc<str>, Arc<str>>,
}

impl Sources {
    pub(crate) fn insert(&mut self, file: Arc<str>, text: &str) {
        self.texts.insert(file, text.into());
    }

    /// Up to three lines around a place; `None` when the file or the line is unknown.
    #[must_use]
    pub fn snippet(&self, file: &str, line: u32, column: u32) -> Option<Snippet> {
        Snippet::cut(self.texts.get(file)?, line, column)
    }
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.texts.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snippets_at_the_ends_of_a_text_are_shorter() {
        let snippet = |line| Snippet::cut("a\nb\nc", line, 1).map(|s| s.to_string());
        assert_eq!(
            snippet(1).as_deref(),
            Some("  1 | a\n    | ^\n  2 | b"),
            "first"
        );
        assert_eq!(
            snippet(3).as_deref(),
            Some("  2 | b\n  3 | c\n    | ^"),
            "last"
        );
        assert_eq!(snippet(0), None);
        assert_eq!(snippet(4), None);
    }

    #[test]
    fn a_long_line_is_cut_around_the_caret() {
        let text = format!("{}X{}", "a".repeat(500), "b".repeat(500));
        let shown = Snippet::cut(&text, 1, 501).expect("line 1").to_string();
        let (line, caret) = shown.split_once('\n').expect("two lines");
        assert_eq!(line.find('X'), caret.find('^'));
        assert!(line.chars().count() < 140);
    }
}
