//! `meshwork diff`: which requests would be decided differently?
//!
//! Two folders that differ in a hundred lines may decide every request alike, and two that differ in a
//! character may not. So it is not texts that are compared: for every route of either folder requests are
//! made up that its matcher asks for, and at every host one for each path and method that a policy of a server
//! names. Both meshes explain each of them, with what the policies of those who are called say of it, and what
//! differs is told with that request as its example.
//!
//! It is examples that are compared, so a difference that none of them meets is not found. Of policies that is
//! what only conditions (`when`), hosts and ports of operations, or callers other than the given one tell apart.

mod probe;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use http::Request;
use meshwork::Mesh;
use meshwork::explain::servers::Servers;
use meshwork::source::istio::{compile, read_dir};
use serde_json::{Value, json};

use crate::config::{self, Client, Reading};
use crate::explain::{self, Nobody};
use crate::{USAGE, yaml};
use probe::Probes;

/// Show which requests two folders would decide differently, with an example of each.
///
/// For every route of both folders, as the client that --from and --label name sees them, requests are made up
/// that ask for what its matchers want, and at every host one for each path and method that an operation of an
/// AuthorizationPolicy names, or excepts. Both folders explain each request; what differs (host, shares,
/// cluster, timeouts, tries, limits, endpoints, and what the servers that it may reach say of it: whether they
/// take the connection, and what their policies decide) is listed.
///
/// Only what an example meets is found. Regular expressions are not turned into examples: routes that have them
/// are named as not probed, unless another example reaches them. Of policies, conditions (when), hosts and ports
/// of operations, and other callers than the given one are not probed; tokens and addresses of callers are
/// unknown.
///
/// Exit code: 0 if no difference was found, 1 if there is one or a folder has errors, 2 for wrong
/// arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder (or file) as it is
    #[arg(value_name = "OLD")]
    old: PathBuf,

    /// The folder (or file) as it is to become
    #[arg(value_name = "NEW")]
    new: PathBuf,

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

/// One request that is decided differently.
#[derive(Debug)]
struct Difference {
    request: String,
    /// Field by its path, old value, new value.
    fields: Vec<(String, Value, Value)>,
}

/// Compares and prints.
///
/// # Errors
///
/// A folder has errors, or stdout cannot be written to.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    for path in [&args.old, &args.new] {
        if let Err(error) = config::must_exist(path) {
            eprintln!("meshwork diff: {error}");
            return Ok(ExitCode::from(USAGE));
        }
    }
    let (workload, options) = (args.client.workload(), args.reading.options());
    let objects = [&args.old, &args.new].map(|path| read_dir(path, &options).objects);
    let mut probes = Probes::default();
    for objects in &objects {
        probes.add(objects, &compile(objects, &workload, &options).resources);
    }
    let [old, new] = &objects;
    let mut old = Side {
        mesh: mesh(args, &args.old).await?,
        servers: Servers::new(old, &workload, &options),
    };
    let mut new = Side {
        mesh: mesh(args, &args.new).await?,
        servers: Servers::new(new, &workload, &options),
    };
    let differences: Vec<Difference> = probes
        .requests()
        .filter_map(|request| compare(&mut old, &mut new, request))
        .collect();
    let count = probes.requests().count();
    let text = match args.output {
        Output::Json => {
            let shown = as_json(&differences, count, probes.not_probed());
            format!("{shown:#}\n")
        }
        Output::Yaml => yaml::text(&as_json(&differences, count, probes.not_probed())),
        Output::Text => as_text(&differences, count, probes.not_probed()),
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(if differences.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn mesh(args: &Args, path: &Path) -> anyhow::Result<Mesh> {
    let builder = Mesh::builder()
        .workload(args.client.workload())
        .yaml_with(path, args.reading.options())
        .connector(Nobody);
    Ok(builder.start().await?)
}

/// One of the two folders.
struct Side<'a> {
    mesh: Mesh,
    servers: Servers<'a>,
}

impl Side<'_> {
    /// All that it says of a request, by path.
    fn tell(&mut self, request: &Request<()>) -> BTreeMap<String, Value> {
        let explained = self.mesh.explain(request);
        let mut flat = BTreeMap::new();
        flatten("", &explain::json::explanation(&explained), &mut flat);
        let servers = self.servers.say(&explained, request);
        let servers = servers.iter().map(explain::servers::json).collect();
        flatten("servers", &Value::Array(servers), &mut flat);
        flat
    }
}

fn compare(old: &mut Side<'_>, new: &mut Side<'_>, request: &Request<()>) -> Option<Difference> {
    let (was, is) = (old.tell(request), new.tell(request));
    let paths: std::collections::BTreeSet<&String> = was.keys().chain(is.keys()).collect();
    let value =
        |side: &BTreeMap<String, Value>, path| side.get(path).cloned().unwrap_or(Value::Null);
    let fields = paths
        .into_iter()
        .map(|path| (path.clone(), value(&was, path), value(&is, path)));
    // What is not said is what is said to be nothing.
    let fields: Vec<_> = fields.filter(|(_, was, is)| was != is).collect();
    let mut text = format!("{} {}", request.method(), request.uri());
    for (name, value) in request.headers() {
        text.push_str(&format!(
            "  {name}: {}",
            String::from_utf8_lossy(value.as_bytes())
        ));
    }
    (!fields.is_empty()).then_some(Difference {
        request: text,
        fields,
    })
}

/// The decision without where it comes from, how it was found, and what changes by the minute.
fn flatten(path: &str, value: &Value, flat: &mut BTreeMap<String, Value>) {
    const LEFT_OUT: [&str; 7] = [
        "generation",
        "routes",
        "origin",
        "endpoints_origin",
        "limit",
        "domains",
        "now",
    ];
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                // Of limits the number counts, of retries the words that tell how much is left do not.
                let told = name == "limit" && value.is_number();
                if told || !LEFT_OUT.contains(&name.as_str()) {
                    flatten(&join(path, name), value, flat);
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                // What has a name is found by it, so that one more does not shift all others.
                let name = ["name", "address", "workload"];
                let name = name.iter().find_map(|name| item[name].as_str());
                let key = name.map_or_else(|| index.to_string(), str::to_owned);
                flatten(&format!("{path}[{key}]"), item, flat);
            }
        }
        scalar => {
            flat.insert(path.to_owned(), scalar.clone());
        }
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

fn as_text(differences: &[Difference], count: usize, not_probed: &[String]) -> String {
    let mut text = String::new();
    for difference in differences {
        text.push_str(&format!("{}\n", difference.request));
        for (path, old, new) in &difference.fields {
            text.push_str(&format!("  {path}: {old} -> {new}\n"));
        }
    }
    if !not_probed.is_empty() {
        text.push_str(&format!(
            "not probed, because of a regular expression: {}\n",
            not_probed.join(", ")
        ));
    }
    text.push_str(&format!(
        "{} of {count} requests are decided differently\n",
        differences.len()
    ));
    text
}

fn as_json(differences: &[Difference], count: usize, not_probed: &[String]) -> Value {
    let differences: Vec<Value> = differences
        .iter()
        .map(|difference| {
            let fields = difference
                .fields
                .iter()
                .map(|(path, old, new)| json!({"field": path, "old": old, "new": new}));
            json!({"request": difference.request, "fields": fields.collect::<Vec<_>>()})
        })
        .collect();
    json!({"requests": count, "differences": differences, "not_probed": not_probed})
}
