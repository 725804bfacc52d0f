//! What is wrong with a configuration, said so that it can be fixed at once.
//!
//! A [`Fault`] names the file, line and column, the object, the field by its path, what was found
//! and what is allowed, and shows the lines around it. All faults of a set of files are collected
//! before anything is refused: somebody who moves a folder of YAML to this mesh should read one
//! list, not run a command twenty times.
//!
//! The list is bounded, because its length is up to the text that is being refused. It is ordered
//! by place, so that two runs print the same, and holds equal faults once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// How many faults a [`Faults`] keeps; the rest is counted.
const FAULTS: usize = 1_000;
/// How many characters of a source line a snippet shows.
const SNIPPET_WIDTH: usize = 120;
/// How many characters of anything quoted from the input a message holds.
const QUOTE_WIDTH: usize = 200;

/// Whether a configuration with this fault can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Severity {
    /// It cannot; nothing of the new configuration takes effect.
    Error,
    /// It can, but something in it does not do what one may believe.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// Declares the codes once: variant, number, Istio's code for the same thing, meaning.
macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $istio:expr, $meaning:literal;)*) => {
        /// The kind of a fault, with a number that does not change between versions.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Code {
            $(#[doc = $meaning] $name,)*
        }

        impl Code {
            /// Every code, in the order of the numbers.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The number, such as `M021`.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// The code under which `istioctl analyze` reports the same thing, if it does.
            #[must_use]
            pub fn istio(self) -> Option<&'static str> {
                match self { $(Self::$name => $istio,)* }
            }

            /// One line on what it means.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning,)* }
            }
        }
    };
}

codes! {
    Unreadable = "M001", None, "The file cannot be read, is not UTF-8, or is too large.";
    Syntax = "M002", None, "The text is not YAML.";
    DuplicateKey = "M003", None, "The same key stands twice in one mapping.";
    MissingSeparator = "M004", None, "Two objects follow each other without a line of three hyphens.";
    Budget = "M005", None, "The document is too deep, too large, or expands its anchors too often.";
    NotAnObject = "M010", None, "The document is not an object with apiVersion and kind.";
    UnknownKind = "M011", None, "The API group has no such kind.";
    Version = "M012", None, "The kind does not exist in this apiVersion.";
    NotEnforced = "M013", None, "The kind is known, but what it says is not enforced.";
    NotRead = "M014", None, "The kind does not concern a mesh and is not read.";
    DuplicateObject = "M015", None, "Kind, namespace and name stand twice in one set of files.";
    Metadata = "M016", Some("IST0106"), "Name, namespace or another part of the metadata is not valid.";
    UnknownField = "M020", Some("IST0106"), "The kind has no such field.";
    Value = "M021", Some("IST0106"), "The value has the wrong type, form or range.";
    NotSupported = "M022", None, "The field is known, but not yet supported.";
    NoEffect = "M023", None, "The field has no effect in this client.";
    Deprecated = "M024", Some("IST0002"), "The field is deprecated.";
    Rule = "M030", Some("IST0106"), "The object breaks a rule of its kind.";
    Unreachable = "M031", Some("IST0130"), "No request can reach the route.";
    Ineffective = "M032", Some("IST0131"), "The match block repeats an earlier one.";
    NotFound = "M040", Some("IST0101"), "A host, subset or port that is referred to does not exist.";
    HostClaimed = "M041", Some("IST0109"), "Several VirtualServices claim the same host; one wins.";
    PortRequired = "M042", Some("IST0112"), "The service has several ports, so the destination must name one.";
    SubsetEmpty = "M043", Some("IST0173"), "The labels of the subset select no endpoint.";
    HostUnknown = "M044", Some("IST0174"), "The host of the DestinationRule is in no registry.";
    Conflict = "M045", None, "Two objects say different things about the same; one wins.";
    PortName = "M046", Some("IST0118"), "The name of the port does not say its protocol.";
    NoEndpoints = "M047", None, "Nothing is known of who serves the host.";
    Suspicious = "M050", None, "Valid, but probably not what was meant.";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

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

    #[test]
    fn codes_are_unique_and_ascending() {
        let numbers: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert!(numbers.is_sorted_by(|left, right| left < right));
        assert!(Code::ALL.iter().all(|code| code.meaning().ends_with('.')));
    }
}
