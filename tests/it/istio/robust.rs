//! No text makes the reader panic, hang or grow without bound.

use std::time::Duration;
use tokio::time::Instant;

use meshwork::source::istio::{Options, Read, read};
use proptest::prelude::*;

const ALL: &str = include_str!("../article/all.yaml");
const CATALOG: &str = include_str!("../../../examples/article/canary/catalog.yaml");

fn survive(text: &str) -> Read {
    let read = read([("test.yaml", text)], &Options::default());
    // Showing is part of the promise: places may lie behind the end of the text.
    let shown = read.faults.to_string();
    assert_eq!(shown.is_empty(), read.faults.is_empty());
    assert!(!shown.chars().any(|c| c.is_control() && c != '\n'));
    read
}

/// What YAML, the kinds and their rules give a meaning to.
const WORDS: &[&str] = &[
    "\n",
    "  ",
    "- ",
    ": ",
    ":",
    "{",
    "}",
    "[",
    "]",
    ", ",
    "\"",
    "'",
    "#",
    "&a ",
    "*a",
    "<<: ",
    "---\n",
    "...\n",
    "|\n",
    ">-\n",
    "!!str ",
    "!x ",
    "?",
    "%YAML 1.2\n",
    "~",
    "null",
    "true",
    "0",
    "-1",
    "70000",
    "1e400",
    "5s",
    "99999999999999999999h",
    "\t",
    "\u{feff}",
    "\u{0}",
    "\u{85}",
    "apiVersion: networking.istio.io/v1\n",
    "kind: VirtualService\n",
    "kind: DestinationRule\n",
    "kind: List\n",
    "items:\n",
    "metadata: {name: a}\n",
    "spec:\n",
    "hosts: ",
    "http:\n",
    "match: ",
    "route: ",
    "retries: ",
    "retryOn: ",
    "weight: ",
    "trafficPolicy: ",
    "regex: ",
    "(a*)*",
    "\u{e9}",
    "\u{1f980}",
];

proptest! {
    #![proptest_config(crate::properties(128))]

    #[test]
    fn any_text_is_survived(text in any::<String>()) {
        survive(&text);
    }

    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        survive(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn any_sequence_of_meaningful_words_is_survived(
        words in proptest::collection::vec(proptest::sample::select(WORDS), 0..60),
    ) {
        survive(&words.concat());
    }

    #[test]
    fn any_change_of_a_good_text_is_survived(
        catalog in any::<bool>(),
        changes in proptest::collection::vec(
            (any::<prop::sample::Index>(), 0_usize..20, proptest::sample::select(WORDS)),
            1..8,
        ),
    ) {
        let mut text: Vec<char> = if catalog { CATALOG } else { ALL }.chars().collect();
        for (at, removed, inserted) in changes {
            let from = at.index(text.len() + 1);
            let to = (from + removed).min(text.len());
            text.splice(from..to, inserted.chars());
        }
        survive(&text.into_iter().collect::<String>());
    }
}

#[test]
fn an_alias_bomb_is_refused_quickly() {
    let start = Instant::now();
    let mut text = String::from("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n");
    text.push_str("  a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..30 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        text.push_str(&format!("  a{level}: &a{level} [{aliases}]\n"));
    }
    let read = survive(&text);
    let codes: Vec<_> = read
        .faults
        .iter()
        .map(|fault| fault.code().as_str())
        .collect();
    assert_eq!(codes, ["M005"]);
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn many_faults_in_one_document_end() {
    let routes = "  - {nothing: 1, timeout: x, retries: {attempts: y}}\n".repeat(5_000);
    let read = survive(&format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: a}}\n\
         spec:\n  hosts: [a]\n  http:\n{routes}"
    ));
    assert!(read.faults.len() > 60 && read.objects.is_empty());
}

#[test]
fn many_broken_documents_end() {
    let read = survive(&"a: [\n---\n".repeat(20_000));
    assert!(read.faults.has_errors());
    assert!(read.faults.len() <= 1_000);
}

/// A VirtualService with this spec.
fn service(spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: a}}\n\
         spec:\n{spec}"
    )
}

#[test]
fn what_is_written_very_often_does_not_take_for_ever() {
    let start = Instant::now();
    let hosts = (0..40_000)
        .map(|n| format!("  - h{n}\n"))
        .collect::<String>();
    let headers = (0..40_000)
        .map(|n| format!("        h{n}: {{}}\n"))
        .collect::<String>();
    let blocks = (0..20_000)
        .map(|n| format!("    - uri: {{prefix: /{n}}}\n"))
        .collect::<String>();
    let route = "  - route: [{destination: {host: a}}]\n    match:\n";
    for text in [
        service(&format!(
            "  hosts:\n{hosts}  http:\n{route}    - port: 80\n"
        )),
        service(&format!(
            "  hosts: [a]\n  http:\n{route}    - withoutHeaders:\n{headers}"
        )),
        service(&format!("  hosts: [a]\n  http:\n{route}{blocks}")),
        service(&format!(
            "  hosts: [a]\n  http:\n{route}    - port: 80\n    retries: {{attempts: 1, \
             retryOn: \"{}\"}}\n",
            "x,".repeat(500_000)
        )),
    ] {
        survive(&text);
    }
    let bound = Duration::from_secs(20);
    assert!(start.elapsed() < bound, "{:?}", start.elapsed());
}

#[test]
fn a_very_long_name_is_not_repeated() {
    let name = "a".repeat(1_000_000);
    let read = survive(
        &service("  hosts: [b, b, b, b, b]\n").replace("name: a", &format!("name: {name}")),
    );
    assert!(read.faults.len() > 4);
    assert!(read.faults.to_string().len() < 100_000);
}
