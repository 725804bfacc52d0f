//! `meshwork explain`: what would this request do?

pub(crate) mod json;
pub(crate) mod servers;

use std::io;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use http::header::{HeaderName, HeaderValue};
use http::{Method, Request, Uri};
use meshwork::Mesh;
use meshwork::explain::Explanation;
use meshwork::explain::servers::Server;
use meshwork::model::endpoint::Address;
use meshwork::source::istio::compile_gateway;
use meshwork::source::{self, Feed};
use meshwork::transport::{Connect, Connecting, Settings};

use crate::USAGE;
use crate::ask::{Asked as Process, Who, escaped};
use crate::config::{self, Client, Reading};
use crate::yaml;

/// Show what would become of a request, station by station, without sending it.
///
/// The folder is compiled for the client that --from and --label name, and the mesh itself is asked:
/// which virtual host and route, why earlier routes do not match, how weights divide such requests,
/// which cluster, endpoints, timeouts, tries and limits, each with the object, file and line that says so.
/// Nothing is resolved or connected to: names of DNS are shown as names.
///
/// Exit code: 0 when it was explained, also if the answer would be an error; 1 if the folder has errors;
/// 2 for wrong arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder (or file) of Istio and Kubernetes YAML
    #[arg(value_name = "DIR", required_unless_present_any = ["process", "xds"])]
    path: Option<PathBuf>,

    /// Ask a running process at its admin endpoint instead of a folder; it answers for itself, in text
    #[arg(long, value_name = "HOST:PORT", conflicts_with_all = ["path", "xds", "channel"])]
    process: Option<String>,

    /// Ask with the configuration of a control plane, as gRPC's bootstrap file names it
    #[arg(long, value_name = "FILE", conflicts_with = "path")]
    xds: Option<PathBuf>,

    /// The request: 'GET http://catalog/items', or only a URL
    #[arg(long, value_name = "METHOD URL", value_parser = request)]
    request: Asked,

    /// A request header, such as 'x-canary: true'; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(HeaderName, HeaderValue)>,

    /// Ask as a channel to this target (host, host:port or xds:///listener) would, instead of by the
    /// host of the URL
    #[arg(long, value_name = "TARGET")]
    channel: Option<String>,

    /// Ask as an Envoy that this Gateway selects: by the routes of its servers at the port of the URL
    #[arg(
        long,
        value_name = "NAMESPACE/NAME",
        requires = "path",
        conflicts_with_all = ["process", "xds", "channel", "workload", "labels"]
    )]
    gateway: Option<String>,

    /// How the result is printed
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,

    #[command(flatten)]
    client: Client,

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

/// How long a control plane may take to answer.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

/// Method and URL.
#[derive(Clone, Debug)]
struct Asked {
    method: Method,
    uri: Uri,
}

/// Explains and prints.
///
/// # Errors
///
/// The folder has errors, or stdout cannot be written to.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut request = Request::new(());
    *request.method_mut() = args.request.method.clone();
    *request.uri_mut() = match &args.gateway {
        Some(_) => behind_tls(&args.request.uri),
        None => args.request.uri.clone(),
    };
    for (name, value) in &args.headers {
        request.headers_mut().append(name, value.clone());
    }
    if let Some(address) = &args.process {
        if !matches!(args.output, Output::Text) {
            eprintln!(
                "meshwork explain: a process answers in text: --process goes with no other --output"
            );
            return Ok(ExitCode::from(USAGE));
        }
        let text = Process::at(address, Who::Process)
            .await?
            .text(&question(args))
            .await?;
        std::io::stdout().write_all(text.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let explained = match ask(args, &request).await? {
        Ok(explained) => explained,
        Err(code) => return Ok(code),
    };
    let servers = match &args.path {
        // What the Envoy's own policies say is not asked here.
        Some(_) if args.gateway.is_some() => Vec::new(),
        Some(path) => servers::verdicts(path, args, &explained, &request),
        None => Vec::new(),
    };
    let text = match args.output {
        Output::Json => format!("{:#}\n", whole(&explained, &servers)),
        Output::Text => {
            let servers = servers.iter().map(servers::text);
            format!("{explained}{}", servers.collect::<String>())
        }
        Output::Yaml => yaml::text(&whole(&explained, &servers)),
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Asks a mesh of the folder, or one of the control plane; a code: why not was told.
async fn ask(args: &Args, request: &Request<()>) -> anyhow::Result<Result<Explanation, ExitCode>> {
    let usage = |error: &dyn std::fmt::Display| {
        eprintln!("meshwork explain: {error}");
        Ok(Err(ExitCode::from(USAGE)))
    };
    let mesh = match (&args.path, &args.xds) {
        (Some(path), _) => {
            if let Err(error) = config::must_exist(path) {
                return usage(&error);
            }
            let builder = match &args.gateway {
                Some(name) => match edge(path, name, args) {
                    Ok(feed) => Mesh::builder().feed(feed),
                    Err(code) => return Ok(Err(code)),
                },
                None => {
                    let builder = Mesh::builder().workload(args.client.workload());
                    builder.yaml_with(path, args.reading.options())
                }
            };
            builder.connector(Nobody).start().await?
        }
        (None, file) => match config::bootstrap(file.as_deref())? {
            Some(bootstrap) => Mesh::builder().xds(bootstrap).start().await?,
            None => return usage(&"name a folder, --process or --xds"),
        },
    };
    let target = match (&args.channel, &args.xds) {
        (Some(target), _) => Some(target.clone()),
        (None, Some(_)) => args.request.uri.authority().map(ToString::to_string),
        (None, None) => None,
    };
    let explained = match &target {
        None => mesh.explain(request),
        Some(target) => {
            // A control plane is asked for what a channel needs.
            let _held = match mesh.channel(target) {
                Ok(held) => held,
                Err(error) => return usage(&error),
            };
            if args.xds.is_some() {
                let known = tokio::time::timeout(PATIENCE, mesh.changed(1)).await;
                if known.is_err() {
                    eprintln!(
                        "meshwork explain: no answer of the control plane within {PATIENCE:?}"
                    );
                    return Ok(Err(ExitCode::FAILURE));
                }
            }
            match mesh.explain_channel(target, request) {
                Ok(explained) => explained,
                Err(error) => return usage(&error),
            }
        }
    };
    Ok(Ok(explained))
}

/// A request as it is where a listener has ended the encryption: all that is left of `https` is the port.
fn behind_tls(uri: &Uri) -> Uri {
    let secured = uri.scheme() == Some(&http::uri::Scheme::HTTPS);
    let Some(host) = uri.host().filter(|_| secured) else {
        return uri.clone();
    };
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let plain = format!("http://{host}:{}{path}", uri.port_u16().unwrap_or(443));
    plain.parse().unwrap_or_else(|_| uri.clone())
}

/// What an Envoy has that a Gateway selects.
fn edge(path: &Path, name: &str, args: &Args) -> Result<Feed, ExitCode> {
    let host = args.request.uri.host().unwrap_or_default();
    let options = args.reading.options();
    let Some(compiled) = compile_gateway(path, name, &host.to_ascii_lowercase(), &options) else {
        eprintln!(
            "meshwork explain: there is no Gateway {name} in {}; `meshwork check` tells what is wrong with \
             those that are written",
            path.display()
        );
        return Err(ExitCode::FAILURE);
    };
    if compiled.faults.has_errors() {
        eprintln!("{}", compiled.faults);
        return Err(ExitCode::FAILURE);
    }
    let (_, feed) = source::feed(compiled.resources);
    Ok(feed)
}

/// An explanation, and what the servers would say.
fn whole(explained: &Explanation, servers: &[Server]) -> serde_json::Value {
    let mut value = json::explanation(explained);
    value["servers"] = servers.iter().map(servers::json).collect();
    value
}

/// The path that a process is asked for.
fn question(args: &Args) -> String {
    let mut path = format!(
        "/explain?url={}&method={}",
        escaped(&args.request.uri.to_string()),
        escaped(args.request.method.as_str())
    );
    for (name, value) in &args.headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        path.push_str(&format!("&header={}", escaped(&format!("{name}:{value}"))));
    }
    path
}

/// Connects to nobody: an explanation sends nothing, and with a connector nothing is resolved.
#[derive(Debug)]
pub(crate) struct Nobody;

impl Connect for Nobody {
    fn connect(&self, _: &Address, _: &Settings) -> Connecting {
        Box::pin(async { Err(io::Error::from(io::ErrorKind::ConnectionRefused)) })
    }
}

fn request(text: &str) -> Result<Asked, String> {
    let (method, url) = match text.trim().split_once(char::is_whitespace) {
        Some((method, url)) => (method, url.trim()),
        None => ("GET", text.trim()),
    };
    let method = Method::from_bytes(method.as_bytes())
        .map_err(|_| format!("{method:?} is no method; write 'GET http://HOST[:PORT]/PATH'"))?;
    let uri: Uri = url
        .parse()
        .map_err(|error| format!("{url:?}: {error}; write http://HOST[:PORT]/PATH"))?;
    Ok(Asked { method, uri })
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let wanted = || format!("expected NAME: VALUE, such as 'x-canary: true', found {text:?}");
    let (name, value) = text.split_once(':').ok_or_else(wanted)?;
    let name = name.trim().parse().map_err(|_| wanted())?;
    let value = value.trim().parse().map_err(|_| wanted())?;
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_headers_are_told_apart_from_slips() {
        let asked = request("POST  http://catalog/items?a=b").unwrap();
        assert_eq!(
            (asked.method.as_str(), asked.uri.path()),
            ("POST", "/items")
        );
        assert_eq!(request("http://catalog").unwrap().method, Method::GET);
        assert!(request("G{T http://catalog").is_err() && request("GET http://a b").is_err());
        assert_eq!(header("A: b:c").unwrap().1, "b:c");
        assert!(header("a").is_err() && header("a b: c").is_err());
    }
}
