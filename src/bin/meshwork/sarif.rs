//! Faults in SARIF 2.1.0, for code scanning.

use std::collections::BTreeSet;

use meshwork::source::istio::{Checked, Code, Fault, Severity};
use serde_json::{Value, json};

/// The report of one folder.
pub(crate) fn report(checked: &Checked) -> Value {
    let used: BTreeSet<Code> = checked.faults.iter().map(Fault::code).collect();
    let rules: Vec<Value> = used.iter().map(|code| rule(*code)).collect();
    let index = |code: Code| used.iter().position(|one| *one == code);
    let results: Vec<Value> = checked
        .faults
        .iter()
        .map(|fault| result(fault, index(fault.code())))
        .collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "meshwork",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            }},
            "results": results,
        }],
    })
}

fn rule(code: Code) -> Value {
    json!({
        "id": code.as_str(),
        "name": format!("{code:?}"),
        "shortDescription": {"text": code.meaning()},
        "help": {"text": format!("{} See docs/CODES.md#{}.", code.meaning(), code.as_str().to_lowercase())},
        "properties": {"istio": code.istio()},
    })
}

fn result(fault: &Fault, rule: Option<usize>) -> Value {
    let level = match fault.severity() {
        Severity::Error => "error",
        _ => "warning",
    };
    let text = match fault.hint() {
        Some(hint) => format!("{}; {hint}", fault.message()),
        None => fault.message(),
    };
    let mut place = json!({"artifactLocation": {"uri": fault.file()}});
    if fault.line() > 0 {
        place["region"] = json!({"startLine": fault.line(), "startColumn": fault.column().max(1)});
    }
    json!({
        "ruleId": fault.code().as_str(),
        "ruleIndex": rule,
        "level": level,
        "message": {"text": text},
        "locations": [{"physicalLocation": place}],
    })
}
