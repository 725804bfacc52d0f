//! The docs are true: every named test exists, every field of every kind is told of, no link is
//! dead.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use meshwork::source::istio::schema;

use super::markdown::{Row, anchors, codes, links, rows};
use super::tree::{File, files, top};

fn docs() -> Vec<File> {
    let docs = files("docs", "md");
    assert!(docs.len() > 10, "the docs have moved away from this test");
    docs
}

fn kinds() -> Vec<File> {
    let docs = docs().into_iter();
    docs.filter(|file| file.path.starts_with("docs/kinds/"))
        .collect()
}

// === Tests that are named ===

/// Every test of the package: its name and the modules that it stands in.
fn tests() -> BTreeMap<String, Vec<String>> {
    let mut tests: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in files("src", "rs").into_iter().chain(files("tests", "rs")) {
        let place = file.modules().join("::");
        for name in tests_of(&file) {
            tests.entry(name).or_default().push(place.clone());
        }
    }
    tests
}

fn tests_of(file: &File) -> Vec<String> {
    let mut names = Vec::new();
    let mut marked = false;
    let mut rules = false;
    for (_, code) in file.code() {
        let code = code.trim();
        if code.starts_with("#[test") || code.starts_with("#[tokio::test") {
            marked = true;
        } else if let Some((_, rest)) = code.split_once("fn ") {
            let name = rest.split(['(', '<']).next().unwrap_or_default();
            if std::mem::take(&mut marked) {
                names.push(name.to_owned());
            }
        } else if code == "rule_tests! {" {
            rules = true;
        } else if code == "}" {
            rules = false;
        } else if let Some((name, check)) = code.split_once(": ").filter(|_| rules) {
            // `name: check(shape, "text")`; a line of a text has no name before its colon.
            let is_name = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            if is_name
                && ["refuses", "warns", "accepts"]
                    .iter()
                    .any(|c| check.starts_with(c))
            {
                names.push(name.to_owned());
            }
        }
    }
    names
}

/// Whether a table's last column names tests.
fn names_tests(row: &Row) -> bool {
    matches!(
        row.header.last().map(String::as_str),
        Some("test" | "tests")
    )
}

#[test]
fn every_named_test_exists() {
    let tests = tests();
    assert!(tests.len() > 400, "only {} tests were found", tests.len());
    let mut named = 0;
    for file in docs() {
        for row in rows(&file.text).iter().filter(|row| names_tests(row)) {
            let place = format!("{}:{}", file.path, row.line);
            assert_eq!(
                row.cells.len(),
                row.header.len(),
                "{place}: cells are missing"
            );
            let cell = row.cells.last().expect("a cell");
            assert_ne!(codes(cell).count(), 0, "{place}: no test is named");
            for path in codes(cell) {
                named += 1;
                let (modules, name) = path.rsplit_once("::").unwrap_or(("", path));
                let places = tests.get(name).map(Vec::as_slice).unwrap_or_default();
                let inside = |place: &String| {
                    format!("{place}::").ends_with(&format!("{modules}::")) || modules.is_empty()
                };
                assert!(
                    places.iter().any(inside),
                    "{place}: there is no test {path}"
                );
            }
        }
    }
    assert!(named > 200, "only {named} tests are named");
}

// === Fields ===

/// The fields of every type that the schema knows.
fn fields() -> BTreeSet<(String, String)> {
    let schema = schema();
    let types = schema["$defs"].as_object().expect("definitions");
    let fields = types.iter().flat_map(|(name, body)| {
        let fields = body["properties"].as_object().into_iter().flatten();
        fields.map(move |(field, _)| (name.clone(), field.clone()))
    });
    fields.collect()
}

/// The fields that the tables of the kinds tell of, each with its place. A table is about the type
/// whose name stands in backticks in its heading.
fn told() -> BTreeMap<(String, String), String> {
    let mut told = BTreeMap::new();
    for file in kinds() {
        for row in rows(&file.text) {
            if row.header.first().map(String::as_str) != Some("field") {
                continue;
            }
            let place = format!("{}:{}", file.path, row.line);
            let whose = match file.path.ends_with("HTTPLocalRateLimitPolicy.md") {
                true => "differs from Linkerd, and why",
                false => "differs from Istio, and why",
            };
            let header = ["field", "what it does here", whose, "test"];
            assert_eq!(row.header, header, "{place}");
            let about = codes(&row.heading).next();
            let about = about.unwrap_or_else(|| panic!("{place}: the heading names no type"));
            let field = codes(&row.cells[0]).next();
            let field = field.unwrap_or_else(|| panic!("{place}: no field is named"));
            let twice = told.insert((about.to_owned(), field.to_owned()), place.clone());
            assert_eq!(twice, None, "{place}: {about} {field} stands twice");
        }
    }
    told
}

#[test]
fn every_field_of_every_kind_has_a_row_and_no_row_is_left_over() {
    let fields = fields();
    assert!(
        fields.len() > 200,
        "only {} fields were found",
        fields.len()
    );
    let mut told = told();
    told.retain(|(about, _), _| about != "metadata");
    let missing: Vec<_> = fields
        .iter()
        .filter(|field| !told.contains_key(*field))
        .collect();
    assert!(
        missing.is_empty(),
        "no table of docs/kinds has {missing:#?}"
    );
    let surplus: Vec<_> = told
        .iter()
        .filter(|(field, _)| !fields.contains(*field))
        .collect();
    assert!(surplus.is_empty(), "the schema does not have {surplus:#?}");
}

#[test]
fn every_value_of_a_choice_is_told_of() {
    let schema = schema();
    let all: String = kinds().into_iter().map(|file| file.text).collect();
    let mut seen = 0;
    for (name, body) in schema["$defs"].as_object().expect("definitions") {
        for choice in body["oneOf"].as_array().into_iter().flatten() {
            let value = choice["const"].as_str().expect("a choice of texts");
            seen += 1;
            assert!(
                all.contains(&format!("`{value}`")),
                "docs/kinds has no `{value}` of {name}"
            );
        }
    }
    assert!(seen > 20, "only {seen} values were found");
}

#[test]
fn every_kind_is_in_the_index() {
    let index = kinds()
        .into_iter()
        .find(|file| file.path.ends_with("/README.md"));
    let index = index.expect("docs/kinds/README.md");
    let other = kinds()
        .into_iter()
        .find(|file| file.path.ends_with("/other.md"));
    let other = rows(&other.expect("docs/kinds/other.md").text);
    let listed = |table: &[Row], kind: &str| {
        table
            .iter()
            .any(|row| codes(&row.cells[0]).any(|code| code == kind))
    };
    let schema = schema();
    let read: Vec<&str> = schema["oneOf"]
        .as_array()
        .expect("kinds")
        .iter()
        .filter_map(|kind| kind["properties"]["kind"]["const"].as_str())
        .collect();
    let index = rows(&index.text);
    for kind in &read {
        assert!(listed(&index, kind), "docs/kinds/README.md has no {kind}");
    }
    // The catalogue is private, and its lines are regular.
    let catalog = files("src/source/istio/kinds", "rs").into_iter();
    let catalog = catalog.filter(|file| file.path.ends_with("/catalog.rs"));
    let text: String = catalog.map(|file| file.text).collect();
    let known = text.split("const CATALOG").nth(1).expect("the catalogue");
    let known = known.split("];").next().expect("its end");
    let names: BTreeSet<&str> = known.split('"').skip(1).step_by(2).collect();
    let names = names
        .into_iter()
        .filter(|name| name.starts_with(char::is_uppercase));
    let mut idle = 0;
    for kind in names.filter(|kind| !read.contains(kind)) {
        idle += 1;
        assert!(listed(&other, kind), "docs/kinds/other.md has no {kind}");
    }
    assert!(idle > 4, "only {idle} kinds without effect were found");
}

/// A doc of a kind begins with its name.
#[test]
fn every_doc_of_a_kind_is_headed_by_it() {
    for file in kinds() {
        let name = file.path.rsplit('/').next().unwrap_or_default();
        let name = name.trim_end_matches(".md");
        if name.starts_with(char::is_uppercase) && name != "README" {
            let first = file.text.lines().next().unwrap_or_default();
            assert!(
                first.starts_with("# ") && first.contains(name),
                "{}: {first}",
                file.path
            );
        }
    }
}

// === Links ===

#[test]
fn no_link_is_dead() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let above = top("md").into_iter();
    let mut seen = 0;
    for file in above.chain(docs()) {
        for (line, target) in links(&file.text) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            seen += 1;
            let place = format!("{}:{line}: {target}", file.path);
            let (path, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let here = root.join(&file.path);
            let folder = here.parent().expect("a folder");
            let led = if path.is_empty() {
                here.clone()
            } else {
                folder.join(path)
            };
            assert!(led.exists(), "{place} does not exist");
            if !anchor.is_empty() {
                let text = std::fs::read_to_string(&led).expect("a text");
                assert!(
                    anchors(&text).iter().any(|a| a == anchor),
                    "{place} has no such heading"
                );
            }
        }
    }
    assert!(seen > 20, "only {seen} links were found");
}

// === Dependencies ===

#[test]
fn every_dependency_has_a_line() {
    let manifest = top("toml")
        .into_iter()
        .find(|file| file.path == "Cargo.toml");
    let manifest = manifest.expect("Cargo.toml").text;
    let mut named = BTreeSet::new();
    let mut within = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            within = matches!(line, "[dependencies]" | "[dev-dependencies]");
        } else if let Some((name, _)) = line.split_once(" = ").filter(|_| within) {
            named.insert(name.to_owned());
        }
    }
    assert!(
        named.len() > 30,
        "only {} dependencies were found",
        named.len()
    );
    let design = docs()
        .into_iter()
        .find(|file| file.path == "docs/DESIGN.md");
    let tables = rows(&design.expect("docs/DESIGN.md").text);
    let tables = tables.iter().filter(|row| row.header[0] == "crate");
    let told: BTreeSet<String> = tables
        .flat_map(|row| codes(&row.cells[0]))
        .map(str::to_owned)
        .collect();
    assert_eq!(told, named, "docs/DESIGN.md and Cargo.toml");
}
