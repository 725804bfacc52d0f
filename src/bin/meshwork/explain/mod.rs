//! `meshwork explain`: what would this request do?

pub(crate) mod json;

use std::io;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use http::header::{HeaderName, HeaderValue};
use http::{Method, Request, Uri};
use meshwork::Mesh;
use meshwork::model::endpoint::Address;
use meshwork::transport::{Connect, Connecting, Settings};

use crate::USAGE;
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
    #[arg(value_name = "DIR")]
    path: PathBuf,

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
    if let Err(error) = config::must_exist(&args.path) {
        eprintln!("meshwork explain: {error}");
        return Ok(ExitCode::from(USAGE));
    }
    let mesh = Mesh::builder()
        .workload(args.client.workload())
        .yaml_with(&args.path, args.reading.options())
        .connector(Nobody)
        .start()
        .await?;
    let mut request = Request::new(());
    *request.method_mut() = args.request.method.clone();
    *request.uri_mut() = args.request.uri.clone();
    for (name, value) in &args.headers {
        request.headers_mut().append(name, value.clone());
    }
    let explained = match &args.channel {
        None => mesh.explain(&request),
        Some(target) => match mesh.explain_channel(target, &request) {
            Ok(explained) => explained,
            Err(error) => {
                eprintln!("meshwork explain: {error}");
                return Ok(ExitCode::from(USAGE));
            }
        },
    };
    let text = match args.output {
        Output::Json => format!("{:#}\n", json::explanation(&explained)),
        Output::Text => explained.to_string(),
        Output::Yaml => yaml::text(&json::explanation(&explained)),
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
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
