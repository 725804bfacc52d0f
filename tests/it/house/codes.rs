//! Every code has a section in docs/CODES.md whose examples are true.

use std::collections::BTreeMap;

use meshwork::source::istio::{Code, Fault, Options, check};

/// What no text of a few lines can show: a file that is not UTF-8 or too large, one that is too deep, a field
/// that is not there yet.
const WITHOUT_EXAMPLE: [Code; 3] = [Code::Unreadable, Code::Budget, Code::NotSupported];

/// A section: its text, and its examples by what they show.
#[derive(Default)]
struct Section {
    text: String,
    examples: BTreeMap<String, String>,
}

fn sections() -> BTreeMap<String, Section> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/CODES.md");
    let text = std::fs::read_to_string(path).expect("docs/CODES.md");
    let mut sections: BTreeMap<String, Section> = BTreeMap::new();
    let mut current = String::new();
    let mut example: Option<String> = None;
    for line in text.lines() {
        if line.starts_with("# ") {
            current.clear();
        }
        if let Some(code) = line.strip_prefix("## ") {
            current = code.to_owned();
            sections.entry(current.clone()).or_default();
            continue;
        }
        let Some(section) = sections.get_mut(&current) else {
            continue;
        };
        match (&example, line.strip_prefix("```")) {
            (None, Some(kind)) => example = Some(kind.trim_start_matches("yaml ").to_owned()),
            (Some(_), Some(_)) => example = None,
            (Some(kind), None) => {
                let text = section.examples.entry(kind.clone()).or_default();
                text.push_str(line);
                text.push('\n');
            }
            (None, None) => section.text.push_str(line),
        }
    }
    sections
}

fn codes(example: &str) -> Vec<Code> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("a.yaml"), example).expect("a file");
    let checked = check(folder.path(), &[], &Options::default());
    checked.faults.iter().map(Fault::code).collect()
}

#[test]
fn every_code_has_a_page_and_its_examples_are_true() {
    let mut sections = sections();
    for code in Code::ALL {
        let section = sections.remove(code.as_str());
        let section = section.unwrap_or_else(|| panic!("docs/CODES.md has no section {code}"));
        assert!(
            section.text.contains(code.meaning()),
            "{code}: its meaning is another"
        );
        assert!(
            section.text.contains(&format!("`{code:?}`")),
            "{code}: its name is missing"
        );
        for istio in code.istio() {
            let said = section.text.contains(istio);
            assert!(said, "{code} is {istio} to istioctl");
        }
        if WITHOUT_EXAMPLE.contains(code) {
            continue;
        }
        let found = codes(&section.examples["fires"]);
        assert!(found.contains(code), "the example of {code} has {found:?}");
        let found = codes(&section.examples["silent"]);
        assert!(!found.contains(code), "the counterexample of {code} has it");
    }
    let left: Vec<_> = sections.keys().collect();
    assert!(left.is_empty(), "there are no codes {left:?}");
}

#[test]
fn every_code_of_istioctl_is_told() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/CODES.md");
    let text = std::fs::read_to_string(path).expect("docs/CODES.md");
    let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in text.lines().filter(|line| line.starts_with("| IST")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [_, istio, name, here, why, _] = cells[..] else {
            panic!("a row of five cells: {row}");
        };
        assert!(!name.is_empty(), "{row}");
        let here: Vec<String> = Code::ALL
            .iter()
            .map(|code| code.as_str())
            .filter(|code| here.contains(&format!("[{code}]")))
            .map(str::to_owned)
            .collect();
        assert!(!here.is_empty() || !why.is_empty(), "no reason: {row}");
        assert!(
            told.insert(istio.to_owned(), here).is_none(),
            "twice: {row}"
        );
    }
    let mut known: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for code in Code::ALL {
        for istio in code.istio() {
            let codes = known.entry((*istio).to_owned()).or_default();
            codes.push(code.as_str().to_owned());
        }
    }
    told.retain(|_, here| !here.is_empty());
    assert_eq!(told, known);
}
