//! The little of Markdown that the docs use: headings, tables, links, code in backticks.

/// A row of a table.
#[derive(Debug)]
pub(crate) struct Row {
    /// Line in the file, from 1.
    pub(crate) line: usize,
    /// The heading above the table.
    pub(crate) heading: String,
    /// The table's header cells.
    pub(crate) header: Vec<String>,
    pub(crate) cells: Vec<String>,
}

/// The rows of all tables.
pub(crate) fn rows(text: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut heading = String::new();
    let mut header: Option<Vec<String>> = None;
    for (line, text) in prose(text) {
        if text.starts_with('#') {
            heading = text.trim_start_matches('#').trim().to_owned();
            header = None;
        } else if let Some(inner) = text.strip_prefix('|') {
            let cells = cells(inner);
            match &header {
                None => header = Some(cells),
                Some(_) if cells.iter().all(|cell| cell.trim_matches('-').is_empty()) => {}
                Some(header) => rows.push(Row {
                    line,
                    heading: heading.clone(),
                    header: header.clone(),
                    cells,
                }),
            }
        } else {
            header = None;
        }
    }
    rows
}

/// Splits at `|`, except at `\|`.
fn cells(inner: &str) -> Vec<String> {
    let inner = inner.trim_end().strip_suffix('|').unwrap_or(inner);
    let inner = inner.replace("\\|", "\u{0}");
    inner
        .split('|')
        .map(|cell| cell.trim().replace('\u{0}', "|"))
        .collect()
}

/// What stands in backticks.
pub(crate) fn codes(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The targets of links, with their lines.
pub(crate) fn links(text: &str) -> Vec<(usize, String)> {
    let mut links = Vec::new();
    for (line, text) in prose(text) {
        for part in text.split("](").skip(1) {
            if let Some((target, _)) = part.split_once(')') {
                links.push((line, target.to_owned()));
            }
        }
    }
    links
}

/// The anchors of the headings, as GitHub makes them.
pub(crate) fn anchors(text: &str) -> Vec<String> {
    prose(text)
        .filter(|(_, line)| line.starts_with('#'))
        .map(|(_, line)| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = title
                .chars()
                .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

/// The lines outside of fenced code.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        (!fence && !fenced).then_some((index + 1, line))
    })
}

#[test]
fn tables_links_and_anchors_are_read() {
    let text =
        "# A `b` c\n| x | test |\n| --- | --- |\n| `1 \\| 2` | `t` |\n```\n[no](no)\n```\n[a](b#c)";
    let rows = rows(text);
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].line, &*rows[0].heading), (4, "A `b` c"));
    assert_eq!(rows[0].header, ["x", "test"]);
    assert_eq!(rows[0].cells, ["`1 | 2`", "`t`"]);
    assert_eq!(codes(&rows[0].cells[0]).collect::<Vec<_>>(), ["1 | 2"]);
    assert_eq!(links(text), [(8, "b#c".to_owned())]);
    assert_eq!(anchors(text), ["a-b-c"]);
}
