//! Collects the findings of the rules, each at its field's place.

use crate::source::istio::fault::{Code, Severity};
use crate::source::istio::yaml::{FieldFault, Node, Path, Segment, Value};

/// A finding: the fault and whether it is an error.
pub(crate) type Finding = (Severity, FieldFault);

/// Walks along with the rules: it knows the path of the field that they look at, finds its place in
/// the tree, and keeps what they say.
///
/// A rule often fails only because a value could not be decoded ("no host", where the host was a
/// number). So what is said about a node that lost a value is dropped: its fault is listed already.
pub(crate) struct Checker<'a> {
    root: &'a Node,
    path: Path,
    findings: Vec<Finding>,
}

impl<'a> Checker<'a> {
    /// For the tree that an object was decoded from.
    pub(crate) fn new(root: &'a Node) -> Self {
        Self {
            root,
            path: Path::default(),
            findings: Vec::new(),
        }
    }

    pub(crate) fn into_findings(self) -> Vec<Finding> {
        self.findings
    }

    /// Runs rules one step further down.
    pub(crate) fn within<R>(
        &mut self,
        segment: impl Into<Segment>,
        rules: impl FnOnce(&mut Self) -> R,
    ) -> R {
        self.path.0.push(segment.into());
        let result = rules(self);
        self.path.0.pop();
        result
    }

    /// Runs rules for a key that the user chose.
    pub(crate) fn within_key<R>(&mut self, key: &str, rules: impl FnOnce(&mut Self) -> R) -> R {
        self.within(Segment::Key(key.to_owned()), rules)
    }

    /// Runs rules for each item of a list.
    pub(crate) fn each<'t, T>(
        &mut self,
        field: &'static str,
        items: &'t [T],
        mut rules: impl FnMut(&mut Self, &'t T),
    ) {
        self.within(field, |check| {
            for (index, item) in items.iter().enumerate() {
                check.within(index, |check| rules(check, item));
            }
        });
    }

    /// Runs rules for a block that may be absent.
    pub(crate) fn some<T>(
        &mut self,
        field: &'static str,
        block: Option<&T>,
        rules: impl FnOnce(&mut Self, &T),
    ) {
        if let Some(block) = block {
            self.within(field, |check| rules(check, block));
        }
    }

    /// The field here breaks a rule of its kind.
    pub(crate) fn error(&mut self, text: impl Into<String>) {
        self.find(Severity::Error, Code::Rule, text.into(), None);
    }

    /// As `error`, with advice.
    pub(crate) fn error_hint(&mut self, text: impl Into<String>, hint: impl Into<String>) {
        self.find(Severity::Error, Code::Rule, text.into(), Some(hint.into()));
    }

    /// A field under this one breaks a rule.
    pub(crate) fn error_at(&mut self, field: &'static str, text: impl Into<String>) {
        self.within(field, |check| check.error(text));
    }

    /// Something is accepted, but does not do what one may believe.
    pub(crate) fn warn(&mut self, code: Code, text: impl Into<String>) {
        self.find(Severity::Warning, code, text.into(), None);
    }

    /// A field under this one was given, and is refused until it is implemented.
    pub(crate) fn refuse(&mut self, field: &'static str, given: bool) {
        self.refuse_hint(field, given, None);
    }

    /// As `refuse`, with advice.
    pub(crate) fn refuse_hint(&mut self, field: &'static str, given: bool, hint: Option<&str>) {
        if given {
            self.within(field, |check| {
                let text = format!("{field} is known, not yet supported");
                let hint = hint.map(str::to_owned);
                check.find(Severity::Error, Code::NotSupported, text, hint);
            });
        }
    }

    /// A value of the field here is refused until it is implemented.
    pub(crate) fn refuse_value(&mut self, value: &str, hint: Option<&str>) {
        let text = format!("{value} is known, not yet supported");
        let hint = hint.map(str::to_owned);
        self.find(Severity::Error, Code::NotSupported, text, hint);
    }

    /// A field under this one was given and changes nothing here, for this reason.
    pub(crate) fn no_effect(&mut self, field: &'static str, given: bool, reason: &str) {
        if given {
            self.within(field, |check| {
                let text = format!("{field} has no effect in this client: {reason}");
                check.warn(Code::NoEffect, text);
            });
        }
    }

    /// A field under this one was given and is deprecated.
    pub(crate) fn deprecated(&mut self, field: &'static str, given: bool, instead: &str) {
        if given {
            self.within(field, |check| {
                check.warn(
                    Code::Deprecated,
                    format!("{field} is deprecated: {instead}"),
                );
            });
        }
    }

    /// Whether the node here was written as null, which decoding cannot tell from an empty block.
    pub(crate) fn is_null(&self) -> bool {
        let mut node = self.root;
        for segment in &self.path.0 {
            match segment.step(node) {
                Some(next) => node = next,
                None => return false,
            }
        }
        node.is_null()
    }

    fn find(&mut self, severity: Severity, code: Code, text: String, hint: Option<String>) {
        let same = self.findings.iter().filter(|(other, _)| *other == severity);
        if same.count() >= FINDINGS || self.lost_a_value() {
            return;
        }
        let (line, column) = self.path.locate(self.root);
        let fault = FieldFault {
            code,
            path: self.path.clone(),
            line,
            column,
            text,
            hint,
        };
        self.findings.push((severity, fault));
    }

    /// Whether the node here, or the one in which it is missing, had a value that was a fault.
    fn lost_a_value(&self) -> bool {
        let mut node = self.root;
        for segment in &self.path.0 {
            match segment.step(node) {
                Some(next) => node = next,
                None => break,
            }
        }
        has_pruned(node, PRUNED_DEPTH)
    }
}

/// Errors, and warnings, of one object.
const FINDINGS: usize = 500;

/// How far under a block a lost value excuses what is said about the block: its fields, and the
/// items of its lists.
const PRUNED_DEPTH: usize = 2;

fn has_pruned(node: &Node, depth: usize) -> bool {
    match &node.value {
        Value::Pruned => true,
        _ if depth == 0 => false,
        Value::Mapping(entries) => entries.iter().any(|e| has_pruned(&e.value, depth - 1)),
        Value::Scalar(_) => false,
        Value::Sequence(items) => items.iter().any(|item| has_pruned(item, depth - 1)),
    }
}
