//! Text to trees: one per document, within a budget.
//!
//! This reads the events of `granit-parser` and not a serde data format, for three reasons. A tree
//! of our own lets one document report all of its faults, where serde stops at the first. The
//! parser goes on with the next document after a syntax error. And it tells plain from quoted
//! scalars, without which `exact: true` could not be told from `exact: "true"`.
//!
//! Anchors are expanded when the tree is built, and every expanded node counts, so that a text of
//! a few lines cannot become a tree of a billion nodes.

use std::collections::HashMap;
use std::sync::Arc;

use granit_parser::{Event, Marker, Parser, ScalarStyle, Span, Tag};

use super::node::{Entry, Node, Scalar, Value};
use crate::source::istio::fault::{Code, Fault, Faults, Severity, quoted};

/// Bytes of one file.
pub(crate) const FILE_BYTES: usize = 8 << 20;
/// Nodes of one file, those of expanded anchors included.
const NODES: usize = 400_000;
/// Bytes of the texts of all nodes, those of expanded anchors included.
const TEXT_BYTES: usize = 2 * FILE_BYTES;
/// Nesting of one document: the deepest kind needs about fifteen.
const DEPTH: usize = 64;
/// Documents of one file.
const DOCUMENTS: usize = 20_000;

/// One document of a file.
#[derive(Debug)]
pub(crate) struct Document {
    /// From 1; empty documents count.
    pub(crate) number: u32,
    pub(crate) root: Node,
}

/// All documents of a text that could be read, and what was wrong with the others.
pub(crate) fn parse(file: &Arc<str>, text: &str) -> (Vec<Document>, Faults) {
    let mut reading = Reading::new(file);
    if text.len() > FILE_BYTES {
        reading.fault(
            (0, 0),
            Code::Unreadable,
            format!("{} bytes; at most {FILE_BYTES} are read", text.len()),
        );
        return (reading.documents, reading.faults);
    }
    let options = granit_parser::options! {
        emit_comments: false,
        flow_nesting_limit: DEPTH,
        block_nesting_limit: DEPTH,
    };
    let mut parser = Parser::new_from_str_with_options(text, options);
    // Each turn consumes input, or ends; the bound only guards against a parser that does neither.
    for _ in 0..=text.len().saturating_mul(4) + 64 {
        match parser.next_event() {
            None => break,
            Some(Ok((event, span))) => {
                if reading.event(event, span).is_err() {
                    break;
                }
            }
            Some(Err(error)) => {
                reading.fault(place(error.marker()), Code::Syntax, error.info());
                reading.abandon();
                if reading.is_full() || !matches!(parser.proceed_next_document(), Ok(true)) {
                    break;
                }
            }
        }
    }
    (reading.documents, reading.faults)
}

fn place(marker: &Marker) -> (u32, u32) {
    let bounded = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    (
        bounded(marker.line()).max(1),
        bounded(marker.col()).saturating_add(1),
    )
}

/// The budget is used up: the rest of the file is not read.
struct Exhausted;

/// A collection that is being read.
enum Frame {
    Mapping {
        anchor: usize,
        line: u32,
        column: u32,
        entries: Vec<Entry>,
        /// Place of each key, so that a mapping of n entries is not searched n times.
        seen: HashMap<String, u32>,
        key: Option<(String, u32, u32)>,
        merges: Vec<Node>,
    },
    Sequence {
        anchor: usize,
        line: u32,
        column: u32,
        items: Vec<Node>,
    },
}

/// What a subtree costs.
#[derive(Clone, Copy, Default)]
struct Size {
    nodes: usize,
    bytes: usize,
    depth: usize,
}

struct Reading<'a> {
    file: &'a Arc<str>,
    documents: Vec<Document>,
    faults: Faults,
    number: u32,
    /// Objects that were split off the current document for want of a separator.
    split: Vec<Node>,
    stack: Vec<Frame>,
    anchors: HashMap<usize, (Node, Size)>,
    nodes: usize,
    bytes: usize,
}

impl<'a> Reading<'a> {
    fn new(file: &'a Arc<str>) -> Self {
        Self {
            file,
            documents: Vec::new(),
            faults: Faults::default(),
            number: 0,
            split: Vec::new(),
            stack: Vec::new(),
            anchors: HashMap::new(),
            nodes: 0,
            bytes: 0,
        }
    }

    fn fault(&mut self, place: (u32, u32), code: Code, text: impl Into<String>) {
        self.hinted_fault(place, code, text, None);
    }

    fn hinted_fault(
        &mut self,
        (line, column): (u32, u32),
        code: Code,
        text: impl Into<String>,
        hint: Option<String>,
    ) {
        let fault = Fault::new(Severity::Error, code, text).at(self.file, line, column);
        self.faults.push(match hint {
            Some(hint) => fault.hinted(hint),
            None => fault,
        });
    }

    fn is_full(&self) -> bool {
        self.documents.len() >= DOCUMENTS || self.faults.omitted() > 0
    }

    fn abandon(&mut self) {
        self.stack.clear();
        self.split.clear();
        self.anchors.clear();
    }

    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Exhausted> {
        let (line, column) = place(&span.start);
        match event {
            Event::DocumentStart(..) => {
                self.number = self.number.saturating_add(1);
                self.abandon();
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.spend((line, column), 1, text.len())?;
                let plain = style == ScalarStyle::Plain && !self.forces_text(tag.as_deref(), line);
                let scalar = Scalar {
                    text: text.into_owned(),
                    plain,
                };
                let node = Node {
                    line,
                    column,
                    value: Value::Scalar(scalar),
                };
                self.finish(node, anchor)?;
            }
            Event::SequenceStart(_, anchor, _) => {
                self.open((line, column))?;
                let items = Vec::new();
                self.stack.push(Frame::Sequence {
                    anchor,
                    line,
                    column,
                    items,
                });
            }
            Event::MappingStart(_, anchor, _) => {
                self.open((line, column))?;
                self.stack.push(Frame::Mapping {
                    anchor,
                    line,
                    column,
                    entries: Vec::new(),
                    seen: HashMap::new(),
                    key: None,
                    merges: Vec::new(),
                });
            }
            Event::SequenceEnd | Event::MappingEnd => self.close()?,
            Event::Alias(anchor) => self.alias(anchor, (line, column))?,
            // The rest carries no data: stream marks, and events that the options turn off. The
            // enum belongs to the parser, so a catch-all is the only way to write this.
            _ => {}
        }
        Ok(())
    }

    /// Whether a tag says that a plain scalar is text; tags that say something else than YAML's
    /// core types are faults.
    fn forces_text(&mut self, tag: Option<&Tag>, line: u32) -> bool {
        let Some(tag) = tag else { return false };
        if tag.is_yaml_core_schema_tag("str") {
            return true;
        }
        if !tag.is_yaml_core_schema() && !tag.original().is_empty() && tag.original() != "!" {
            let text = format!("tag {} has no meaning here", quoted(&tag.original()));
            self.fault((line, 1), Code::Syntax, text);
        }
        tag.original() == "!"
    }

    fn spend(&mut self, place: (u32, u32), nodes: usize, bytes: usize) -> Result<(), Exhausted> {
        self.nodes = self.nodes.saturating_add(nodes);
        self.bytes = self.bytes.saturating_add(bytes);
        if self.nodes <= NODES && self.bytes <= TEXT_BYTES {
            return Ok(());
        }
        let text = format!(
            "the file has more than {NODES} nodes or {TEXT_BYTES} bytes of text, \
             expanded anchors included"
        );
        self.fault(place, Code::Budget, text);
        Err(Exhausted)
    }

    fn open(&mut self, place: (u32, u32)) -> Result<(), Exhausted> {
        self.check_depth(place, 1)?;
        self.spend(place, 1, 0)
    }

    fn check_depth(&mut self, place: (u32, u32), more: usize) -> Result<(), Exhausted> {
        if self.stack.len() + more <= DEPTH {
            return Ok(());
        }
        let text = format!("nested deeper than {DEPTH} levels");
        self.fault(place, Code::Budget, text);
        Err(Exhausted)
    }

    fn alias(&mut self, anchor: usize, place: (u32, u32)) -> Result<(), Exhausted> {
        let Some(size) = self.anchors.get(&anchor).map(|(_, size)| *size) else {
            // The parser knows the anchor, so it stands around this alias: a tree cannot hold it.
            self.fault(place, Code::Syntax, "the alias is inside of its own anchor");
            let value = Value::Scalar(Scalar {
                text: String::new(),
                plain: true,
            });
            let (line, column) = place;
            let node = Node {
                line,
                column,
                value,
            };
            return self.finish(node, 0);
        };
        self.check_depth(place, size.depth)?;
        self.spend(place, size.nodes, size.bytes)?;
        if let Some((node, _)) = self.anchors.get(&anchor) {
            let node = node.clone();
            return self.finish(node, 0);
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), Exhausted> {
        let Some(frame) = self.stack.pop() else {
            return Ok(());
        };
        let (node, anchor) = match frame {
            Frame::Sequence {
                anchor,
                line,
                column,
                items,
            } => {
                let value = Value::Sequence(items);
                (
                    Node {
                        line,
                        column,
                        value,
                    },
                    anchor,
                )
            }
            Frame::Mapping {
                anchor,
                line,
                column,
                entries,
                seen,
                merges,
                ..
            } => {
                let value = Value::Mapping(self.merged(entries, seen, merges));
                (
                    Node {
                        line,
                        column,
                        value,
                    },
                    anchor,
                )
            }
        };
        self.finish(node, anchor)
    }

    /// Adds the entries of `<<` that the mapping does not have itself; earlier ones win.
    fn merged(
        &mut self,
        mut entries: Vec<Entry>,
        mut seen: HashMap<String, u32>,
        merges: Vec<Node>,
    ) -> Vec<Entry> {
        for merge in merges {
            let place = (merge.line, merge.column);
            let parts = match merge.value {
                Value::Sequence(items) => items,
                Value::Mapping(_) | Value::Pruned | Value::Scalar(_) => vec![merge],
            };
            for part in parts {
                let Value::Mapping(inherited) = part.value else {
                    self.fault(
                        place,
                        Code::Syntax,
                        "<< takes a mapping or a list of mappings",
                    );
                    continue;
                };
                for entry in inherited {
                    if !seen.contains_key(&entry.key) {
                        seen.insert(entry.key.clone(), entry.line);
                        entries.push(entry);
                    }
                }
            }
        }
        entries
    }

    /// Puts a complete node where it belongs.
    fn finish(&mut self, mut node: Node, anchor: usize) -> Result<(), Exhausted> {
        if anchor != 0 {
            // The copy that aliases are made from counts too: anchors can stand in each other.
            let size = measure(&node);
            self.spend((node.line, node.column), size.nodes, size.bytes)?;
            self.anchors.insert(anchor, (node.clone(), size));
        }
        let depth = self.stack.len();
        match self.stack.last_mut() {
            None => self.document(node),
            Some(Frame::Sequence { items, .. }) => items.push(node),
            Some(Frame::Mapping { key: None, .. }) => self.key(node, depth),
            Some(Frame::Mapping {
                entries,
                key,
                merges,
                ..
            }) => {
                let Some((key, line, column)) = key.take() else {
                    return Ok(());
                };
                if node.is_null() {
                    // The parser places a missing value at whatever follows it.
                    (node.line, node.column) = (line, column);
                }
                if key == "<<" {
                    merges.push(node);
                } else {
                    entries.push(Entry {
                        key,
                        line,
                        column,
                        value: node,
                    });
                }
            }
        }
        Ok(())
    }

    /// Takes a node as the next key of the innermost mapping.
    fn key(&mut self, node: Node, depth: usize) {
        let place = (node.line, node.column);
        let text = match node.value {
            Value::Scalar(scalar) => scalar.text,
            Value::Mapping(_) | Value::Pruned | Value::Sequence(_) => {
                self.fault(place, Code::Syntax, "a key must be a text");
                String::new()
            }
        };
        let Some(Frame::Mapping { seen, key, .. }) = self.stack.last_mut() else {
            return;
        };
        *key = Some((text.clone(), place.0, place.1));
        let earlier = seen.insert(text.clone(), place.0);
        let Some(first) = earlier.filter(|_| text != "<<") else {
            return;
        };
        if depth == 1 && (text == "apiVersion" || text == "kind") {
            self.split_before(place, &text);
        } else {
            let fault = format!("duplicate key {}, first at line {first}", quoted(&text));
            self.hinted_fault(place, Code::DuplicateKey, fault, None);
        }
    }

    /// A second object begins in the same document: what was read so far becomes an object of its
    /// own, so that the faults of both are found at once.
    fn split_before(&mut self, place: (u32, u32), key: &str) {
        let Some(Frame::Mapping {
            line,
            column,
            entries,
            seen,
            ..
        }) = self.stack.last_mut()
        else {
            return;
        };
        let first = Node {
            line: *line,
            column: *column,
            value: Value::Mapping(std::mem::take(entries)),
        };
        (*line, *column) = place;
        seen.clear();
        seen.insert(key.to_owned(), place.0);
        self.split.push(first);
        let text = format!("a second object begins here: {key} stands twice in this document");
        let hint = format!("add a line with --- before line {}", place.0);
        self.hinted_fault(place, Code::MissingSeparator, text, Some(hint));
    }

    fn document(&mut self, root: Node) {
        let number = self.number;
        let split = std::mem::take(&mut self.split);
        for root in split.into_iter().chain([root]) {
            if self.documents.len() < DOCUMENTS {
                self.documents.push(Document { number, root });
            } else {
                let text = format!("more than {DOCUMENTS} documents");
                self.fault((root.line, root.column), Code::Budget, text);
            }
        }
    }
}

/// What a subtree costs when it is expanded once more.
fn measure(node: &Node) -> Size {
    let parts: Vec<Size> = match &node.value {
        Value::Mapping(entries) => entries
            .iter()
            .map(|entry| {
                let size = measure(&entry.value);
                Size {
                    bytes: size.bytes + entry.key.len(),
                    nodes: size.nodes + 1,
                    ..size
                }
            })
            .collect(),
        Value::Sequence(items) => items.iter().map(measure).collect(),
        Value::Scalar(scalar) => {
            return Size {
                nodes: 1,
                bytes: scalar.text.len(),
                depth: 0,
            };
        }
        Value::Pruned => return Size::default(),
    };
    parts.into_iter().fold(
        Size {
            nodes: 1,
            bytes: 0,
            depth: 1,
        },
        |sum, part| Size {
            nodes: sum.nodes + part.nodes,
            bytes: sum.bytes + part.bytes,
            depth: sum.depth.max(part.depth + 1),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Vec<Document>, Faults) {
        parse(&"test.yaml".into(), text)
    }

    fn only_fault(text: &str) -> Fault {
        let (_, faults) = read(text);
        assert_eq!(faults.len(), 1, "{faults}");
        faults.iter().next().expect("one fault").clone()
    }

    #[test]
    fn nodes_know_their_places() {
        let (documents, faults) = read("# c\na:\n  - b: 1\n    c: x\n---\nd: {e: 2}\n");
        assert!(faults.is_empty(), "{faults}");
        let a = documents[0].root.get("a").expect("a");
        let b = a.items()[0].get("b").expect("b");
        assert_eq!((b.line, b.column), (3, 8));
        assert_eq!((a.items()[0].line, a.items()[0].column), (3, 5));
        let e = documents[1].root.get("d").and_then(|d| d.get("e"));
        assert_eq!(e.map(|e| (e.line, e.column)), Some((6, 8)));
        assert_eq!(documents[1].number, 2);
    }

    #[test]
    fn empty_documents_count_and_are_null() {
        let (documents, faults) = read("---\n---\n# only a comment\n---\na: 1\n");
        assert!(faults.is_empty(), "{faults}");
        let last = documents.last().expect("one with content");
        assert!(last.root.get("a").is_some());
        assert_eq!(last.number, 3);
        assert!(
            documents[..documents.len() - 1]
                .iter()
                .all(|d| d.root.is_null())
        );
    }

    #[test]
    fn two_objects_without_a_separator_are_split_with_a_hint() {
        let text = "apiVersion: v1\nkind: A\nspec: {}\napiVersion: v1\nkind: B\n---\nkind: C\n";
        let (documents, faults) = read(text);
        assert_eq!(faults.len(), 1, "{faults}");
        let fault = faults.iter().next().expect("one fault");
        assert_eq!(fault.code(), Code::MissingSeparator);
        assert_eq!(fault.line(), 4);
        assert_eq!(fault.hint(), Some("add a line with --- before line 4"));
        let kinds: Vec<_> = documents
            .iter()
            .filter_map(|d| d.root.get("kind")?.text())
            .collect();
        assert_eq!(kinds, ["A", "B", "C"]);
    }

    #[test]
    fn a_duplicate_key_names_both_places() {
        let fault = only_fault("a:\n  b: 1\n  b: 2\n");
        assert_eq!(fault.code(), Code::DuplicateKey);
        assert_eq!(fault.text(), "duplicate key \"b\", first at line 2");
        assert_eq!((fault.line(), fault.column()), (3, 3));
    }

    #[test]
    fn a_syntax_error_does_not_hide_the_next_document() {
        let (documents, faults) = read("a: [1, 2\n---\nb: 1\n---\nc: }\n---\nd: 1\n");
        assert_eq!(faults.len(), 2, "{faults}");
        assert!(faults.iter().all(|fault| fault.code() == Code::Syntax));
        let has = |key| documents.iter().any(|d| d.root.get(key).is_some());
        assert!(has("b") && has("d"));
    }

    #[test]
    fn anchors_and_merge_keys_expand() {
        let text = "base: &base {x: 1, y: 2}\nitem: {<<: *base, y: 3}\nsame: *base\n";
        let (documents, faults) = read(text);
        assert!(faults.is_empty(), "{faults}");
        let root = &documents[0].root;
        let value = |of: &str, key| match &root.get(of)?.get(key)?.value {
            Value::Scalar(scalar) => Some(scalar.text.clone()),
            Value::Mapping(_) | Value::Pruned | Value::Sequence(_) => None,
        };
        assert_eq!(value("item", "x").as_deref(), Some("1"));
        assert_eq!(value("item", "y").as_deref(), Some("3"));
        assert_eq!(value("same", "y").as_deref(), Some("2"));
    }

    #[test]
    fn an_alias_bomb_is_refused() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            let before = level - 1;
            let aliases = vec![format!("*a{before}"); 10].join(", ");
            text.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
        }
        assert_eq!(only_fault(&text).code(), Code::Budget);
    }

    #[test]
    fn a_long_text_expanded_often_is_refused() {
        let mut text = format!("a: &a {}\nb:\n", "x".repeat(100_000));
        text.push_str(&"- *a\n".repeat(1_000));
        assert_eq!(only_fault(&text).code(), Code::Budget);
    }

    #[test]
    fn anchors_inside_of_each_other_are_refused() {
        let items = vec!["x"; 20_000].join(", ");
        let anchors: String = (0..50).map(|n| format!("&a{n} [")).collect();
        let text = format!("a: {anchors}{items}{}", "]".repeat(50));
        assert_eq!(only_fault(&text).code(), Code::Budget);
    }

    #[test]
    fn an_alias_inside_of_its_anchor_is_refused() {
        assert_eq!(only_fault("a: &a [*a]\n").code(), Code::Syntax);
    }

    #[test]
    fn deep_nesting_is_refused() {
        let (_, faults) = read(&"[".repeat(100_000));
        assert!(faults.has_errors());
        let text: String = (0..100).map(|i| format!("{}a:\n", " ".repeat(i))).collect();
        let (_, faults) = read(&text);
        assert!(faults.has_errors());
    }

    #[test]
    fn a_file_that_is_too_large_is_refused() {
        let text = " ".repeat(FILE_BYTES + 1);
        assert_eq!(only_fault(&text).code(), Code::Unreadable);
    }

    #[test]
    fn a_foreign_tag_is_refused_and_a_text_tag_quotes() {
        assert_eq!(only_fault("a: !secret x\n").code(), Code::Syntax);
        let (documents, faults) = read("a: !!str 80\n");
        assert!(faults.is_empty(), "{faults}");
        let text = documents[0].root.get("a").and_then(Node::text);
        assert_eq!(text, Some("80"));
    }
}
