//! What is wrong with a configuration, said so that it can be fixed at once.
//!
//! A [`Fault`] names the file, line and column, the object, the field by its path, what was found
//! and what is allowed, and shows the lines around it. All faults of a set of files are collected
//! before anything is refused: somebody who moves a folder of YAML to this mesh should read one
//! list, not run a command twenty times.
//!
//! The list is bounded, because its length is up to the text that is being refused. It is ordered
//! by place, so that two runs print the same, and holds equal faults once.

mod code;
mod snippet;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

pub use code::{Code, Severity};
pub use snippet::{Snippet, Sources};

/// How many faults a [`Faults`] keeps; the rest is counted.
const FAULTS: usize = 1_000;
/// How many characters of anything quoted from the input a message holds.
const QUOTE_WIDTH: usize = 200;

/// Which object a fault is about, in the form `virtualservice my-app/catalog`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    /// Its kind, as written.
    pub kind: Arc<str>,
    /// Its namespace; empty for kinds without one.
    pub namespace: Arc<str>,
    /// Its name; empty when it has none, which is a fault of its own.
    pub name: Arc<str>,
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind.to_lowercase();
        let name = if self.name.is_empty() {
            "(no name)"
        } else {
            &*self.name
        };
        if self.namespace.is_empty() {
            write!(f, "{} {}", Printable(&kind), Printable(name))
        } else {
            let namespace = Printable(&self.namespace);
            write!(f, "{} {namespace}/{}", Printable(&kind), Printable(name))
        }
    }
}

/// One thing that is wrong, and where.
///
/// `Display` prints several lines: the place and the message, the source lines around it with a
/// caret, and the hint. [`Fault::message`] is the one-line form.
///
/// ```
/// use meshwork::source::istio::{Options, read};
///
/// let text = "apiVersion: v1\nkind: Service\nmetadata: {name: catalog}\nspec: {ports: 80}\n";
/// let read = read([("mesh/catalog.yaml", text)], &Options::default());
/// let fault = read.faults.iter().next().expect("ports must be a list");
/// assert_eq!(fault.code().as_str(), "M021");
/// assert_eq!((fault.line(), fault.column()), (4, 15));
/// assert_eq!(fault.object().map(ToString::to_string).as_deref(), Some("service default/catalog"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    file: Arc<str>,
    line: u32,
    column: u32,
    severity: Severity,
    code: Code,
    object: Option<ObjectRef>,
    path: String,
    text: String,
    hint: Option<String>,
    snippet: Option<Snippet>,
}

impl Fault {
    /// A fault at a place; without an object, a path or a hint until those are added.
    #[must_use]
    pub(crate) fn new(severity: Severity, code: Code, text: impl Into<String>) -> Self {
        Self {
            file: "".into(),
            line: 0,
            column: 0,
            severity,
            code,
            object: None,
            path: String::new(),
            text: text.into(),
            hint: None,
            snippet: None,
        }
    }

    #[must_use]
    pub(crate) fn at(mut self, file: &Arc<str>, line: u32, column: u32) -> Self {
        self.file = Arc::clone(file);
        self.line = line;
        self.column = column;
        self
    }

    #[must_use]
    pub(crate) fn object_ref(mut self, object: ObjectRef) -> Self {
        self.object = Some(object);
        self
    }

    #[must_use]
    pub(crate) fn field(mut self, path: impl Into<String>) -> Self {
        self.path = path.into();
        self
    }

    #[must_use]
    pub(crate) fn hinted(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Whether the configuration can be used in spite of it.
    #[must_use]
    pub fn severity(&self) -> Severity {
        self.severity
    }

    /// The kind of fault.
    #[must_use]
    pub fn code(&self) -> Code {
        self.code
    }

    /// The file, as its path was given.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The line, from 1; 0 when the fault concerns the file as a whole.
    #[must_use]
    pub fn line(&self) -> u32 {
        self.line
    }

    /// The column in characters, from 1; 0 when the fault concerns the file as a whole.
    #[must_use]
    pub fn column(&self) -> u32 {
        self.column
    }

    /// The object, when the text could be read far enough to name it.
    #[must_use]
    pub fn object(&self) -> Option<&ObjectRef> {
        self.object.as_ref()
    }

    /// The field by its path, such as `http[1].retries.retryOn`; empty for the whole object.
    /// Fields of `spec` are named without it.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What was found and what is allowed.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What to do, where that is known.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The source lines around it.
    #[must_use]
    pub fn snippet(&self) -> Option<&Snippet> {
        self.snippet.as_ref()
    }

    /// Object, path and text in one line:
    /// `virtualservice my-app/catalog http[1].retries.retryOn: unknown token "5xxx"`.
    #[must_use]
    pub fn message(&self) -> String {
        let mut message = String::new();
        if let Some(object) = &self.object {
            message.push_str(&object.to_string());
        }
        if !self.path.is_empty() {
            if !message.is_empty() {
                message.push(' ');
            }
            message.push_str(&Printable(&self.path).to_string());
        }
        if !message.is_empty() {
            message.push_str(": ");
        }
        message.push_str(&Printable(&self.text).to_string());
        message
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.file.is_empty() {
            write!(f, "{}:", Printable(&self.file))?;
        }
        if self.line > 0 {
            write!(f, "{}:{}:", self.line, self.column)?;
        }
        if !self.file.is_empty() || self.line > 0 {
            f.write_str(" ")?;
        }
        write!(f, "{}[{}]: {}", self.severity, self.code, self.message())?;
        if let Some(snippet) = &self.snippet {
            write!(f, "\n{snippet}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {}", Printable(hint))?;
        }
        Ok(())
    }
}

/// Text of the input in a message: control characters are escaped, because a terminal would obey
/// them, and very long text is cut.
struct Printable<'a>(&'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            if c.is_control() {
                write!(f, "{}", c.escape_default())?;
            } else {
                write!(f, "{c}")?;
            }
        }
        Ok(())
    }
}

/// Quotes a piece of the input for a message: in double quotes, cut when it is very long.
pub(crate) fn quoted(text: &str) -> String {
    let mut cut: String = text.chars().take(QUOTE_WIDTH).collect();
    if cut.len() < text.len() {
        cut.push_str("...");
    }
    format!("{cut:?}")
}

/// The nearest of the allowed words, when it is near enough to be a slip of the keyboard.
pub(crate) fn did_you_mean<'a>(
    found: &str,
    allowed: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    if found.len() > 64 {
        return None;
    }
    let lower = found.to_lowercase();
    allowed
        .into_iter()
        .map(|word| {
            let score = strsim::normalized_damerau_levenshtein(&lower, &word.to_lowercase());
            (score, word)
        })
        .filter(|(score, _)| *score >= 0.6)
        .max_by(|(left, _), (right, _)| left.total_cmp(right))
        .map(|(_, word)| word)
}

/// A bounded, ordered list of faults without repetitions.
///
/// ```
/// use meshwork::source::istio::{Options, Severity, read};
///
/// let read = read([("empty.yaml", "# nothing\n")], &Options::default());
/// assert!(!read.faults.has_errors());
/// let warnings = read.faults.iter().filter(|f| f.severity() == Severity::Warning);
/// assert_eq!(warnings.count(), 0);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    list: BTreeSet<Fault>,
    errors: usize,
    omitted: usize,
}

impl Faults {
    /// Adds a fault, unless it is there already; the thousand-and-first is only counted, except
    /// that an error takes the place of a warning.
    pub(crate) fn push(&mut self, fault: Fault) {
        if self.list.contains(&fault) {
            return;
        }
        let error = fault.severity == Severity::Error;
        if self.list.len() >= FAULTS {
            self.omitted += 1;
            let warning = self.list.iter().find(|f| f.severity == Severity::Warning);
            match warning.filter(|_| error).cloned() {
                Some(warning) => self.list.remove(&warning),
                None => {
                    self.errors += usize::from(error);
                    return;
                }
            };
        }
        self.errors += usize::from(error);
        self.list.insert(fault);
    }

    /// Adds all faults of another list.
    pub(crate) fn extend(&mut self, others: Self) {
        self.omitted += others.omitted;
        let listed = others.list.iter();
        let listed = listed.filter(|f| f.severity == Severity::Error).count();
        self.errors += others.errors - listed;
        others.list.into_iter().for_each(|fault| self.push(fault));
    }

    /// The faults by file, line and column.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Fault> {
        self.list.iter()
    }

    /// Whether a fault is listed.
    pub(crate) fn contains(&self, fault: &Fault) -> bool {
        self.list.contains(fault)
    }

    /// How many faults are listed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether one of them forbids to use the configuration.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// How many of all faults, omitted ones included, are errors.
    #[must_use]
    pub fn errors(&self) -> usize {
        self.errors
    }

    /// How many faults were found after the list was full (1,000 entries).
    #[must_use]
    pub fn omitted(&self) -> usize {
        self.omitted
    }

    /// Adds the source lines to the faults whose file is among the sources.
    pub(crate) fn show(&mut self, sources: &Sources) {
        let list = std::mem::take(&mut self.list);
        self.list = list
            .into_iter()
            .map(|mut fault| {
                if fault.snippet.is_none() {
                    fault.snippet = sources.snippet(&fault.file, fault.line, fault.column);
                }
                fault
            })
            .collect();
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for fault in &self.list {
            write!(f, "{separator}{fault}")?;
            separator = "\n";
        }
        if self.omitted > 0 {
            write!(f, "{separator}and {} more", self.omitted)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(line: u32, text: &str) -> Fault {
        Fault::new(Severity::Error, Code::Value, text).at(&"mesh/a.yaml".into(), line, 3)
    }

    #[test]
    fn display_is_place_message_snippet_hint() {
        let mut sources = Sources::default();
        sources.insert("mesh/a.yaml".into(), "one: 1\ntwo: 2\nthree: 3\nfour: 4\n");
        let object = ObjectRef {
            kind: "VirtualService".into(),
            namespace: "my-app".into(),
            name: "catalog".into(),
        };
        let mut faults = Faults::default();
        faults.push(
            fault(2, "unknown token \"5xxx\"")
                .object_ref(object)
                .field("http[1].retries.retryOn")
                .hinted("did you mean \"5xx\"?"),
        );
        faults.show(&sources);
        assert_eq!(
            faults.to_string(),
            "mesh/a.yaml:2:3: error[M021]: virtualservice my-app/catalog \
             http[1].retries.retryOn: unknown token \"5xxx\"\n\
             \x20 1 | one: 1\n\
             \x20 2 | two: 2\n\
             \x20   |   ^\n\
             \x20 3 | three: 3\n\
             \x20 hint: did you mean \"5xx\"?"
        );
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let mut faults = Faults::default();
        let mut sources = Sources::default();
        sources.insert("mesh/a.yaml".into(), "a\u{1b}[31mb");
        faults.push(fault(1, "bad \u{1b}[2J text"));
        faults.show(&sources);
        assert!(!faults.to_string().contains('\u{1b}'));
    }

    #[test]
    fn faults_are_ordered_and_unique_and_bounded() {
        let mut faults = Faults::default();
        for line in (1..=1_200).rev() {
            faults.push(fault(line, "same"));
            faults.push(fault(line, "same"));
        }
        assert_eq!(faults.len(), FAULTS);
        assert_eq!(faults.omitted(), 400, "each of 200 twice");
        assert!(faults.iter().is_sorted());
        assert!(faults.to_string().ends_with("and 400 more"));
    }

    #[test]
    fn an_error_takes_the_place_of_a_warning_in_a_full_list() {
        let mut faults = Faults::default();
        for line in 1..=1_000 {
            let warning = Fault::new(Severity::Warning, Code::NoEffect, "w");
            faults.push(warning.at(&"a".into(), line, 1));
        }
        assert!(!faults.has_errors());
        faults.push(fault(5, "error"));
        assert!(faults.has_errors());
        assert!(faults.iter().any(|f| f.severity() == Severity::Error));
        assert_eq!((faults.len(), faults.omitted()), (1_000, 1));
    }

    #[test]
    fn near_words_are_suggested_and_far_ones_are_not() {
        let allowed = ["retryOn", "attempts", "perTryTimeout"];
        assert_eq!(did_you_mean("retryon", allowed), Some("retryOn"));
        assert_eq!(did_you_mean("atempts", allowed), Some("attempts"));
        assert_eq!(did_you_mean("zebra", allowed), None);
    }
}
