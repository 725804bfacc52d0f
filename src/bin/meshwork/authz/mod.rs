//! `meshwork authz`: what policies say of a caller.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use http::{HeaderName, HeaderValue, Method, Request, Uri};
use meshwork::Workload;
use meshwork::layer::authz::{Attributes, Caller, Decision, decide, external};
use meshwork::layer::canonical::canonicalize;
use meshwork::model::Resources;
use meshwork::model::security::MutualTls;
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

/// What is said of a call.
#[derive(Debug, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) allowed: bool,
    pub(crate) why: String,
    /// The object that decides.
    pub(crate) origin: Option<String>,
    /// Authorizers that would be asked besides.
    pub(crate) asks: Vec<String>,
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
        Output::Json => format!("{:#}\n", verdict.json()),
        Output::Text => verdict.text(can),
        Output::Yaml => yaml::text(&verdict.json()),
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

fn verdict(can: &Can, resources: &Resources) -> anyhow::Result<Verdict> {
    let principal = principal(&can.principal)?;
    Ok(judge(
        resources,
        request(can)?,
        principal.as_deref(),
        can.port,
    ))
}

/// What the server with this configuration says of a request that arrives at a port of it.
pub(crate) fn judge(
    resources: &Resources,
    mut request: Request<()>,
    principal: Option<&str>,
    port: u16,
) -> Verdict {
    let denied = |why: String| Verdict {
        allowed: false,
        why,
        origin: None,
        asks: Vec::new(),
    };
    match (resources.peers.on(port), principal) {
        (MutualTls::Strict, None) => {
            return denied(format!(
                "port {port} is STRICT: a connection without a certificate is refused"
            ));
        }
        (MutualTls::Disable, Some(name)) => {
            return denied(format!(
                "port {port} is plaintext (DISABLE): the caller cannot prove that it is {name}"
            ));
        }
        (_, Some(_) | None) => {}
    }
    if let Err(ambiguous) = canonicalize(&mut request, resources.inbound.normalization) {
        return denied(format!("refused with 400: {ambiguous}"));
    }
    decided(resources, &request, principal, port)
}

/// What the policies say.
fn decided(
    resources: &Resources,
    request: &Request<()>,
    principal: Option<&str>,
    port: u16,
) -> Verdict {
    let caller = Caller {
        destination: Some(([127, 0, 0, 1], port).into()),
        principal,
        encrypted: principal.is_some(),
        ..Caller::default()
    };
    let attributes = Attributes::of(request, caller);
    let authorization = &resources.inbound.authorization;
    let asks = external(authorization, &attributes).map(|(external, policy)| {
        format!(
            "{}, because of {} ({})",
            external.provider, policy.name, policy.origin
        )
    });
    let asks = asks.collect();
    let Decision {
        allowed, policy, ..
    } = decide(authorization, &attributes, &mut |_| {});
    let why = match (allowed, policy) {
        (true, None) => "no policy is about it".to_owned(),
        (true, Some(policy)) => format!("{} allows it", policy.name),
        (false, None) => "there are policies that allow, and none allows this".to_owned(),
        (false, Some(policy)) => format!("{} denies it", policy.name),
    };
    Verdict {
        allowed,
        why,
        origin: policy.map(|policy| policy.origin.to_string()),
        asks,
    }
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

impl Verdict {
    fn text(&self, can: &Can) -> String {
        let may = if self.allowed { "yes" } else { "no" };
        let mut text = format!(
            "{may}: {} {} {} at {}\n  {}\n",
            can.principal, can.method, can.path, can.at, self.why
        );
        if let Some(origin) = &self.origin {
            text.push_str(&format!("  {origin}\n"));
        }
        for asked in &self.asks {
            text.push_str(&format!("  if the external authorizer agrees: {asked}\n"));
        }
        text
    }

    fn json(&self) -> Value {
        json!({
            "allowed": self.allowed,
            "why": self.why,
            "origin": self.origin,
            "asks": self.asks,
        })
    }
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
