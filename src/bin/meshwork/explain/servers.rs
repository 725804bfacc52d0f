//! What the policies of those who are called say, as far as the folder has them.

use std::path::Path;

use http::Request;
use meshwork::explain::Explanation;
use meshwork::explain::servers::{Server, Servers};
use meshwork::source::istio::read_dir;
use serde_json::{Value, json};

use super::Args;

/// What each workload says that the request may go to.
pub(super) fn verdicts(
    path: &Path,
    args: &Args,
    explained: &Explanation,
    request: &Request<()>,
) -> Vec<Server> {
    let options = args.reading.options();
    let read = read_dir(path, &options);
    let client = args.client.workload();
    Servers::new(&read.objects, &client, &options).say(explained, request)
}

pub(crate) fn json(server: &Server) -> Value {
    let Server { judgement, .. } = server;
    json!({
        "workload": server.workload,
        "port": server.port,
        "peer_authentication": server.mutual_tls.as_str(),
        "spoken": server.spoken.as_str(),
        "allowed": judgement.allowed,
        "why": judgement.why,
        "origin": judgement.origin,
        "asks": judgement.asks,
    })
}

pub(super) fn text(server: &Server) -> String {
    let Server { judgement, .. } = server;
    let says = if judgement.allowed {
        "allows it"
    } else {
        "denies it"
    };
    let mut text = format!(
        "server {} at port {} ({}), asked in {}, {says}: {}",
        server.workload,
        server.port,
        server.mutual_tls.as_str(),
        server.spoken.as_str(),
        judgement.why
    );
    if let Some(origin) = &judgement.origin {
        text.push_str(&format!("  {origin}"));
    }
    text.push('\n');
    for asked in &judgement.asks {
        text.push_str(&format!("  if the external authorizer agrees: {asked}\n"));
    }
    text
}
