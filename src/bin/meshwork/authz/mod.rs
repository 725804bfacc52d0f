//! `meshwork authz`: what policies say of a caller.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use http::{HeaderName, HeaderValue, Method, Request, Uri};
use meshwork::Workload;
use meshwork::explain::servers::{Arrival, Judgement, Spoken, judge};
use meshwork::model::Resources;
use meshwork::source::istio::kinds::{Kind, Object};
use meshwork::source::istio::{compile, read_dir};
use serde_json::{Value, json};

use crate::config::{Reading, must_exist};
use crate::{USAGE, yaml};

/// Ask what the policies of a folder say.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    question: Question,
}

#[derive(Debug, clap::Subcommand)]
enum Question {
    Can(Can),
}

/// Whether a caller may do something at a workload, and which policy decides.
///
/// The folder is read as a mesh of that workload would read it, and the functions that requests go through are
/// asked: mutual TLS (PeerAuthentication), the one reading of the path, policies (AuthorizationPolicy). Tokens and
/// external authorizers are not there to be asked: rules about tokens do not match, and who would be asked is told.
///
/// Exit code: 0 if it may; 1 if it may not, or the folder has errors; 2 for wrong arguments.
#[derive(Debug, clap::Args)]
struct Can {
    /// The caller: an identity such as spiffe://cluster.local/ns/my-app/sa/order-sa (or without spiffe://),
    /// or `anonymous` for one without
    #[arg(value_name = "PRINCIPAL")]
    principal: String,

    /// GET, POST, ...; gRPC is always POST
    #[arg(value_name = "METHOD")]
    method: Method,

    /// The path, with its query if it has one
    #[arg(value_name = "PATH")]
    path: String,

    /// The workload that is called: NAMESPACE/NAME of a pod or of what makes pods, or NAMESPACE/SERVICEACCOUNT
    #[arg(long, value_name = "NAMESPACE/NAME")]
    at: String,

    /// A label of the workload, if its pods are not in the folder; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<String>,

    /// The port of the workload that the call arrives at
    #[arg(long, value_name = "NUMBER", default_value_t = 8080)]
    port: u16,

    /// A request header, such as 'host: payment'; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,

    /// Folder (or file) of Istio and Kubernetes YAML
    #[arg(long, value_name = "DIR", default_value = "mesh")]
    config: PathBuf,

    /// How the result is printed
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,

    #[command(flatten)]
    reading: Reading,
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

/// Answers and prints.
///
/// # Errors
///
/// Stdout cannot be written to.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let Question::Can(can) = &args.question;
    let usage = |error: anyhow::Error| {
        eprintln!("meshwork authz: {error}");
        Ok(ExitCode::from(USAGE))
    };
    if let Err(error) = must_exist(&can.config) {
        return usage(error);
    }
    let options = can.reading.options();
    let read = read_dir(&can.config, &options);
    let workload = match workload(can, &read.objects) {
        Ok(workload) => workload,
        Err(error) => return usage(error),
    };
    let compiled = compile(&read.objects, &workload, &options);
    let mut faults = read.faults.iter().chain(compiled.faults.iter());
    if read.faults.has_errors() || compiled.faults.has_errors() {
        eprintln!("meshwork authz: the folder has errors; `meshwork check` tells all of them");
        if let Some(fault) =
            faults.find(|one| one.severity() == meshwork::source::istio::Severity::Error)
        {
            eprintln!("{fault}");
        }
        return Ok(ExitCode::FAILURE);
    }
    let verdict = match verdict(can, &compiled.resources) {
        Ok(verdict) => verdict,
        Err(error) => return usage(error),
    };
    let text = match can.output {
        Output::Json => format!("{:#}\n", json(&verdict)),
        Output::Text => text(&verdict, can),
        Output::Yaml => yaml::text(&json(&verdict)),
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(if verdict.allowed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The workload that is called, with the labels of its pods if the folder has them.
fn workload(can: &Can, objects: &[Object]) -> anyhow::Result<Workload> {
    let (namespace, name) = can
        .at
        .split_once('/')
        .filter(|(namespace, name)| !namespace.is_empty() && !name.is_empty())
        .ok_or_else(|| {
            anyhow::anyhow!(
                "--at {:?}: expected NAMESPACE/NAME, such as my-app/payment",
                can.at
            )
        })?;
    let mut here = objects
        .iter()
        .filter(|one| *one.meta.namespace == *namespace && *one.meta.name == *name);
    let found = here.find_map(|one| match &one.kind {
        Kind::Pod(pod) => Some((&one.meta.labels, &pod.spec.service_account_name)),
        Kind::Workload(made) => {
            let template = &made.template;
            Some((
                &template.metadata.labels,
                &template.spec.service_account_name,
            ))
        }
        _other_kinds => None,
    });
    let mut workload = match found {
        Some((labels, account)) => {
            let account = account.as_deref().unwrap_or("default");
            let workload = Workload::new(namespace, account);
            labels
                .iter()
                .fold(workload, |one, (key, value)| one.label(key, value))
        }
        None => Workload::new(namespace, name),
    };
    for label in &can.labels {
        let (key, value) = label.split_once('=').ok_or_else(|| {
            anyhow::anyhow!("--label {label:?}: expected KEY=VALUE, such as app=payment")
        })?;
        workload = workload.label(key, value);
    }
    Ok(workload)
}

fn verdict(can: &Can, resources: &Resources) -> anyhow::Result<Judgement> {
    let principal = principal(&can.principal)?;
    let spoken = principal.map_or(Spoken::Plaintext, Spoken::Mutual);
    let arrival = Arrival {
        spoken: &spoken,
        sni: None,
        port: can.port,
    };
    Ok(judge(resources, request(can)?, arrival))
}

fn principal(text: &str) -> anyhow::Result<Option<String>> {
    if matches!(text, "anonymous" | "-") {
        return Ok(None);
    }
    let full = if text.starts_with("spiffe://") {
        text.to_owned()
    } else {
        format!("spiffe://{text}")
    };
    full.parse::<meshwork::model::identity::SpiffeId>()
        .map_err(|error| {
            anyhow::anyhow!(
                "{text:?} is no identity: {error}; write cluster.local/ns/NAMESPACE/sa/ACCOUNT, or anonymous"
            )
        })?;
    Ok(Some(full))
}

fn request(can: &Can) -> anyhow::Result<Request<()>> {
    let uri: Uri = can
        .path
        .parse()
        .ok()
        .filter(|uri: &Uri| uri.path().starts_with('/') && uri.authority().is_none())
        .ok_or_else(|| anyhow::anyhow!("{:?} is no path: write /path?query", can.path))?;
    let mut request = Request::new(());
    *request.method_mut() = can.method.clone();
    *request.uri_mut() = uri;
    for text in &can.headers {
        let wanted =
            || anyhow::anyhow!("expected NAME: VALUE, such as 'x-role: admin', found {text:?}");
        let (name, value) = text.split_once(':').ok_or_else(wanted)?;
        let name: HeaderName = name.trim().parse().map_err(|_| wanted())?;
        let value: HeaderValue = value.trim().parse().map_err(|_| wanted())?;
        request.headers_mut().append(name, value);
    }
    if !request.headers().contains_key(http::header::HOST) {
        let name = can.at.split('/').next_back().unwrap_or_default();
        if let Ok(value) = HeaderValue::from_str(name) {
            request.headers_mut().insert(http::header::HOST, value);
        }
    }
    Ok(request)
}

fn text(verdict: &Judgement, can: &Can) -> String {
    let may = if verdict.allowed { "yes" } else { "no" };
    let mut text = format!(
        "{may}: {} {} {} at {}\n  {}\n",
        can.principal, can.method, can.path, can.at, verdict.why
    );
    if let Some(origin) = &verdict.origin {
        text.push_str(&format!("  {origin}\n"));
    }
    for asked in &verdict.asks {
        text.push_str(&format!("  if the external authorizer agrees: {asked}\n"));
    }
    text
}

fn json(verdict: &Judgement) -> Value {
    json!({
        "allowed": verdict.allowed,
        "why": verdict.why,
        "origin": verdict.origin,
        "asks": verdict.asks,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn principals_are_told_apart_from_slips() {
        let order = "cluster.local/ns/my-app/sa/order-sa";
        let full = format!("spiffe://{order}");
        assert_eq!(principal(order).unwrap(), Some(full.clone()));
        assert_eq!(principal(&full).unwrap(), Some(full));
        assert_eq!(principal("anonymous").unwrap(), None);
        assert!(principal("order sa").is_err());
    }
}
