//! What is written down of decisions.

use std::io::Write;
use std::time::SystemTime;

use crate::layer::authz::{Attributes, Observation};
use crate::model::authorization::{Action, AuditLogger, Enforcement};
use crate::snapshot::InboundCounts;

/// Counts what a stage said and tells it to those who listen: a `tracing` event with the target
/// `meshwork::audit`, and the stage's own loggers.
pub(super) fn write(counts: &InboundCounts, seen: &Observation<'_>, attributes: &Attributes<'_>) {
    if seen.stage.enforcement == Enforcement::DryRun && !seen.allowed {
        counts.dry_run_denied();
    }
    if seen.stage.action == Action::Audit && seen.policy.is_some() {
        counts.audited();
    }
    tracing::info!(
        target: "meshwork::audit",
        policy = seen.policy.map(|policy| &*policy.name),
        action = ?seen.stage.action,
        dry_run = seen.stage.enforcement == Enforcement::DryRun,
        allowed = seen.allowed,
        method = attributes.request.method,
        path = attributes.request.path,
        principal = attributes.caller.principal,
        "authorization"
    );
    for logger in &seen.stage.loggers {
        match logger {
            AuditLogger::Stdout => {
                let line = line(seen, attributes, SystemTime::now());
                // Nobody can be told that the standard output is gone.
                let _ = writeln!(std::io::stdout().lock(), "{line}");
            }
        }
    }
}

/// gRFC A59's `StdoutAuditLog`: one JSON object on a line.
fn line(seen: &Observation<'_>, attributes: &Attributes<'_>, now: SystemTime) -> String {
    let matched = seen.policy.map(|policy| &*policy.name).unwrap_or_default();
    let fields = [
        ("timestamp", httpdate::fmt_http_date(now)),
        ("rpc_method", attributes.request.path.to_owned()),
        (
            "principal",
            attributes.caller.principal.unwrap_or_default().to_owned(),
        ),
        ("policy_name", seen.stage.name.to_string()),
        ("matched_rule", matched.to_owned()),
    ];
    let mut text = String::from("{\"grpc_audit_log\":{");
    for (name, value) in fields {
        text.push_str(&format!("\"{name}\":{},", quoted(&value)));
    }
    text.push_str(&format!("\"authorized\":{}}}}}", seen.allowed));
    text
}

/// A JSON string (RFC 8259 7).
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => {
                quoted.push('\\');
                quoted.push(character);
            }
            control if control < ' ' => {
                quoted.push_str(&format!("\\u{:04x}", u32::from(control)));
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::authz::Caller;
    use crate::model::authorization::{Condition, Policy, Stage};

    #[test]
    fn a_line_is_json_whatever_the_caller_writes() {
        let stage = Stage::enforced(Action::Deny, vec![Policy::new("no", Condition::always())]);
        let request = http::Request::get("http://a/p.S/%22M").body(()).unwrap();
        let caller = Caller {
            principal: Some("CN=\"a\\b\"\n"),
            ..Caller::default()
        };
        let seen = Observation {
            stage: &stage,
            policy: stage.policies.first(),
            allowed: false,
        };
        let line = line(
            &seen,
            &Attributes::of(&request, caller),
            SystemTime::UNIX_EPOCH,
        );
        assert_eq!(
            line,
            "{\"grpc_audit_log\":{\"timestamp\":\"Thu, 01 Jan 1970 00:00:00 GMT\",\
             \"rpc_method\":\"/p.S/%22M\",\"principal\":\"CN=\\\"a\\\\b\\\"\\u000a\",\
             \"policy_name\":\"\",\"matched_rule\":\"no\",\"authorized\":false}}"
        );
    }
}
