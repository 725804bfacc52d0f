//! `meshwork status`: the clients of a control plane.

use std::io::Write as _;
use std::process::ExitCode;

use comfy_table::{Table, presets};
use serde_json::{Value, json};

use crate::ask::{Asked, Who};
use crate::yaml;

/// Show the clients of a control plane: whether each has acknowledged what it was sent, what it refused and
/// why, and for how long it has been there.
///
/// SYNCED: everything was acknowledged. STALE: something was sent and not acknowledged yet. NACKED: the client
/// refused something and goes on with what it had; the reason is that of the client. It asks the admin
/// endpoint of `meshwork serve` (--admin).
///
/// Exit code: 0 if all clients are synced; 1 if one is not, or the server cannot be asked.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The admin endpoint of the server
    #[arg(value_name = "HOST:PORT")]
    address: String,

    /// How it is printed
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Output {
    /// One JSON object
    Json,
    /// For people
    Text,
    /// The JSON object as YAML
    Yaml,
}

/// Asks and prints.
///
/// # Errors
///
/// The server cannot be asked, or stdout not be written to.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let asked = Asked::at(&args.address, Who::Server).await?;
    let all = asked.with("/status.json", "clients").await?;
    let clients = all["clients"].as_array().cloned().unwrap_or_default();
    let synced = clients.iter().all(|one| one["state"] == "SYNCED");
    let shown = json!({
        "generation": all["generation"],
        "rejected": all["rejected"],
        "clients": clients,
    });
    let text = match args.output {
        Output::Json => format!("{shown:#}\n"),
        Output::Text => text(&shown),
        Output::Yaml => yaml::text(&shown),
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(if synced {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn text(shown: &Value) -> String {
    let mut out = String::new();
    if let Some(faults) = shown["rejected"].as_str() {
        out.push_str(&format!(
            "the last edit was rejected, generation {} stays in force:\n{faults}\n\n",
            shown["generation"]
        ));
    }
    let clients = shown["clients"].as_array().map(Vec::as_slice);
    let clients = clients.unwrap_or_default();
    if clients.is_empty() {
        out.push_str("no client is connected\n");
        return out;
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["STATE", "NODE", "WORKLOAD", "VIEW", "ACKNOWLEDGED", "AGE"]);
    let plain = |value: &Value| {
        value
            .as_str()
            .unwrap_or_default()
            .escape_debug()
            .to_string()
    };
    for one in clients {
        let kinds = one["resources"].as_object().into_iter().flatten();
        let kinds: Vec<String> = kinds
            .map(|(kind, count)| format!("{kind} {}/{}", count["acknowledged"], count["sent"]))
            .collect();
        table.add_row([
            plain(&one["state"]),
            plain(&one["node"]),
            plain(&one["workload"]),
            plain(&one["dialect"]),
            kinds.join(" "),
            format!("{} s", one["age_s"]),
        ]);
    }
    out.push_str(&table.trim_fmt());
    out.push('\n');
    for one in clients {
        let refusals = one["refusals"].as_array().into_iter().flatten();
        for refused in refusals {
            out.push_str(&format!(
                "{} refused {} {}: {}\n",
                plain(&one["node"]),
                plain(&refused["type"]),
                plain(&refused["version"]),
                plain(&refused["error"]),
            ));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_with_their_reason_and_terminals_are_safe() {
        let client = |state: &str, refusals: Value| {
            json!({
                "state": state, "node": "order\u{1b}[31m", "workload": "shop/order-sa", "dialect": "Grpc",
                "resources": {"CDS": {"sent": 2, "acknowledged": 1}}, "age_s": 7, "refusals": refusals,
            })
        };
        let reason = json!([{"type": "CDS", "version": "9", "error": "cluster a: lb_policy"}]);
        let shown = json!({
            "generation": 3,
            "rejected": "a.yaml:1: bad",
            "clients": [client("NACKED", reason), client("SYNCED", json!([]))],
        });
        let text = text(&shown);
        for part in [
            "generation 3 stays in force:\na.yaml:1: bad",
            "NACKED",
            "CDS 1/2",
            "7 s",
            "refused CDS 9: cluster a: lb_policy",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains('\u{1b}'), "{text:?}");
        let nobody = super::text(&json!({"rejected": null, "clients": []}));
        assert_eq!(nobody, "no client is connected\n");
    }
}
