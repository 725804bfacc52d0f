//! `meshwork certs`: the certificates of a process.

use std::io::Write as _;
use std::process::ExitCode;

use comfy_table::{Table, presets};
use serde_json::{Value, json};

use crate::ask::{Asked, Who};
use crate::{duration, yaml};

/// Show the certificates that a running process or a control plane presents: whose they are, and when they
/// expire.
///
/// It asks an admin endpoint: of a process (Mesh::admin), or of `meshwork serve` (--admin).
///
/// Exit code: 0; 1 if one expires within --within or has expired, or nobody can be asked.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The admin endpoint
    #[arg(value_name = "HOST:PORT")]
    address: String,

    /// Exit with 1 if a certificate expires within this time
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration::parse)]
    within: std::time::Duration,

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
/// Nobody can be asked, or stdout not be written to.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let asked = Asked::at(&args.address, Who::Any).await?;
    let all = asked.with("/certs", "certificates").await?;
    let certificates = all["certificates"].as_array().cloned().unwrap_or_default();
    let soonest = certificates
        .iter()
        .filter_map(|one| one["expires_s"].as_i64())
        .min();
    let limit = i64::try_from(args.within.as_secs()).unwrap_or(i64::MAX);
    let shown = json!({"certificates": certificates});
    let text = match args.output {
        Output::Json => format!("{shown:#}\n"),
        Output::Text => text(&certificates),
        Output::Yaml => yaml::text(&shown),
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(match soonest {
        Some(left) if left <= limit => ExitCode::FAILURE,
        Some(_) | None => ExitCode::SUCCESS,
    })
}

fn text(certificates: &[Value]) -> String {
    if certificates.is_empty() {
        return "there is no certificate: connections are in plaintext\n".to_owned();
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["WHOSE", "IDENTITY", "SERIAL", "EXPIRES"]);
    for one in certificates {
        let plain = |value: &Value| value.as_str().unwrap_or("-").escape_debug().to_string();
        let left = one["expires_s"].as_i64().unwrap_or_default();
        let hours = left.unsigned_abs() / 3_600;
        let minutes = left.unsigned_abs() / 60 % 60;
        let expires = if left > 0 {
            format!("in {hours} h {minutes} min")
        } else {
            format!("{hours} h {minutes} min ago")
        };
        table.add_row([
            plain(&one["whose"]),
            plain(&one["identity"]),
            plain(&one["serial"]),
            expires,
        ]);
    }
    format!("{}\n", table.trim_fmt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_expired_is_told_apart() {
        let one = |left: i64| json!({"whose": "this process", "identity": null, "serial": "01", "expires_s": left});
        let text = text(&[one(7_260), one(-60)]);
        assert!(
            text.contains("in 2 h 1 min") && text.contains("0 h 1 min ago"),
            "{text}"
        );
        assert!(super::text(&[]).contains("no certificate"));
    }
}
