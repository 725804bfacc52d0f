//! From JSON to a bootstrap.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::json::{Faults, Json};
use super::server::{Tls, target};
use super::{Authority, Bootstrap, CertificateProvider, Credentials, Features, Node, Server};
use crate::error::Error;
use crate::model::endpoint::Locality;

/// What stands for the name in a template.
const HOLE: &str = "%s";
/// How often files are looked at, where a bootstrap does not say (gRFC A65).
const REFRESH: Duration = Duration::from_secs(600);

impl Bootstrap {
    /// Reads `text`, which came from `place`.
    pub(super) fn read(text: &str, place: &str) -> Result<Self, Error> {
        let value: Value = serde_json::from_str(text)
            .map_err(|error| Error::config(format!("{place} is not JSON")).caused_by(error))?;
        let faults = Faults::default();
        let bootstrap = bootstrap(&Json::new(&value, &faults));
        let list = faults.into_list();
        if list.is_empty() {
            return Ok(bootstrap);
        }
        let list: Vec<String> = list.iter().map(|fault| format!("\n  {fault}")).collect();
        Err(Error::config(format!(
            "the xDS bootstrap {place} has faults:{}",
            list.concat()
        )))
    }
}

fn bootstrap(root: &Json<'_>) -> Bootstrap {
    let servers = match root.object().and_then(|_| root.required("xds_servers")) {
        Some(list) => servers(&list),
        None => Vec::new(),
    };
    let node = root.field("node").map(|node| self::node(&node));
    let providers = root.field("certificate_providers");
    let authorities = root.field("authorities");
    Bootstrap {
        authorities: authorities
            .map_or_else(BTreeMap::new, |all| self::authorities(&all, &servers)),
        servers,
        node: node.unwrap_or_default(),
        certificate_providers: providers.map_or_else(BTreeMap::new, |all| self::providers(&all)),
        client_template: root
            .field("client_default_listener_resource_name_template")
            .and_then(|template| self::template(&template))
            .unwrap_or_else(|| HOLE.into()),
        server_template: root
            .field("server_listener_resource_name_template")
            .and_then(|template| self::template(&template)),
        cache: None,
    }
}

fn template(json: &Json<'_>) -> Option<Box<str>> {
    let text = json.text()?;
    if !text.contains(HOLE) {
        json.fault(format!("found {text:?}, which has no {HOLE} for the name"));
    }
    Some(text.into())
}

fn servers(list: &Json<'_>) -> Vec<Arc<Server>> {
    let entries = list.list();
    if entries.is_empty() && list.value().is_array() {
        list.fault("is empty, at least one server is needed");
    }
    let servers = entries.iter().filter_map(server);
    servers.map(Arc::new).collect()
}

fn server(json: &Json<'_>) -> Option<Server> {
    json.object()?;
    let uri = json.required("server_uri").and_then(|uri| {
        let text = uri.text()?;
        match target(text) {
            Ok((address, authority)) => Some((text, address, authority)),
            Err(why) => {
                uri.fault(format!(
                    "found {text:?}: {why}; allowed are \"host:port\", \"dns:///host:port\" and \
                     \"unix:///path\""
                ));
                None
            }
        }
    });
    let credentials = json
        .required("channel_creds")
        .and_then(|list| credentials(&list));
    let tokens = json.field("call_creds").map(|list| tokens(&list));
    let tokens = tokens.unwrap_or_default();
    let (uri, address, authority) = uri?;
    let credentials = credentials?;
    let local = matches!(address, crate::model::endpoint::Address::Unix(_));
    if !tokens.is_empty() && credentials == Credentials::Insecure && !local {
        json.fault(
            "call_creds need an encrypted channel, and the first supported channel_creds are \
             insecure: anybody on the way could read the token",
        );
    }
    Some(Server {
        uri: uri.into(),
        address,
        authority,
        credentials,
        tokens,
        features: json
            .field("server_features")
            .map(|list| features(&list))
            .unwrap_or_default(),
    })
}

/// The first that is known (gRFC A27).
fn credentials(list: &Json<'_>) -> Option<Credentials> {
    let mut unknown = Vec::new();
    for entry in list.list() {
        let Some(kind) = entry.required("type") else {
            continue;
        };
        match kind.text()? {
            "insecure" => return Some(Credentials::Insecure),
            "tls" => return Some(Credentials::Tls(tls(entry.field("config").as_ref()))),
            other => unknown.push(format!("{other:?}")),
        }
    }
    if list.value().is_array() {
        list.fault(format!(
            "none of them is supported: found [{}], allowed are \"insecure\" and \"tls\"",
            unknown.join(", ")
        ));
    }
    None
}

fn tls(config: Option<&Json<'_>>) -> Tls {
    let Some(config) = config else {
        return Tls {
            roots: None,
            identity: None,
            refresh: REFRESH,
        };
    };
    Tls {
        roots: path(config, "ca_certificate_file"),
        identity: identity(config),
        refresh: refresh(config),
    }
}

fn path(json: &Json<'_>, name: &str) -> Option<PathBuf> {
    let field = json.field(name)?;
    let text = field.text()?;
    if text.is_empty() {
        field.fault("is empty, a path is needed");
    }
    Some(text.into())
}

fn identity(config: &Json<'_>) -> Option<(PathBuf, PathBuf)> {
    let chain = path(config, "certificate_file");
    let key = path(config, "private_key_file");
    match (chain, key) {
        (Some(chain), Some(key)) => Some((chain, key)),
        (None, None) => None,
        (Some(_), None) => {
            config.fault("certificate_file without private_key_file, both or neither are needed");
            None
        }
        (None, Some(_)) => {
            config.fault("private_key_file without certificate_file, both or neither are needed");
            None
        }
    }
}

fn refresh(config: &Json<'_>) -> Duration {
    let field = config.field("refresh_interval");
    field.and_then(|field| field.duration()).unwrap_or(REFRESH)
}

/// All that are known (gRFC A97).
fn tokens(list: &Json<'_>) -> Vec<PathBuf> {
    let mut tokens = Vec::new();
    for entry in list.list() {
        let kind = entry.required("type").and_then(|kind| kind.text());
        if kind == Some("jwt_token_file")
            && let Some(config) = entry.required("config")
            && config.required("jwt_token_file").is_some()
        {
            tokens.extend(path(&config, "jwt_token_file"));
        }
    }
    tokens
}

/// Entries of any JSON type are legal, and those that are not known say nothing.
fn features(list: &Json<'_>) -> Features {
    let mut features = Features::default();
    for entry in list.list() {
        match entry.value().as_str() {
            Some("fail_on_data_errors") => features.fail_on_data_errors = true,
            Some("resource_timer_is_transient_error") => features.timer_is_transient = true,
            Some("trusted_xds_server") => features.trusted = true,
            Some("xds.delta") => features.delta = true,
            // `xds_v3` is the only version that there is, and `ignore_resource_deletion` (gRFC A53) is
            // what happens in any case (gRFC A88).
            Some(_) | None => {}
        }
    }
    features
}

fn node(json: &Json<'_>) -> Node {
    if json.object().is_none() {
        return Node::default();
    }
    let text = |json: &Json<'_>, name: &str| -> Box<str> {
        let field = json.field(name);
        field
            .and_then(|field| field.text())
            .unwrap_or_default()
            .into()
    };
    let metadata = json.field("metadata").and_then(|field| field.object());
    let locality = json
        .field("locality")
        .filter(|field| field.object().is_some());
    Node {
        id: text(json, "id"),
        cluster: text(json, "cluster"),
        metadata: metadata.cloned().unwrap_or_default(),
        locality: locality.map_or_else(Locality::default, |field| Locality {
            region: text(&field, "region"),
            zone: text(&field, "zone"),
            sub_zone: text(&field, "sub_zone"),
        }),
    }
}

/// Instances of plugins that are not known are passed over: a resource that names one is refused.
fn providers(json: &Json<'_>) -> BTreeMap<Arc<str>, CertificateProvider> {
    let mut providers = BTreeMap::new();
    for (name, entry) in json.members() {
        if entry.object().is_none() {
            continue;
        }
        let plugin = entry
            .required("plugin_name")
            .and_then(|plugin| plugin.text());
        if plugin == Some("file_watcher")
            && let Some(config) = entry.required("config")
        {
            let provider = CertificateProvider {
                identity: identity(&config),
                roots: path(&config, "ca_certificate_file"),
                bundle_map: path(&config, "spiffe_trust_bundle_map_file"),
                refresh: refresh(&config),
            };
            let CertificateProvider {
                identity,
                roots,
                bundle_map,
                ..
            } = &provider;
            if identity.is_none() && roots.is_none() && bundle_map.is_none() {
                config.fault(
                    "provides nothing: certificate_file with private_key_file, \
                     ca_certificate_file, or spiffe_trust_bundle_map_file, is needed",
                );
            }
            providers.insert(name.into(), provider);
        }
    }
    providers
}

fn authorities(json: &Json<'_>, top: &[Arc<Server>]) -> BTreeMap<Arc<str>, Authority> {
    let mut authorities = BTreeMap::new();
    for (name, entry) in json.members() {
        if entry.object().is_none() {
            continue;
        }
        let begin = format!("xdstp://{name}/");
        let written = entry.field("client_listener_resource_name_template");
        let template = written.and_then(|field| {
            let text = template(&field)?;
            if !text.starts_with(&begin) {
                field.fault(format!(
                    "found {text:?}, which does not begin with {begin:?}"
                ));
            }
            Some(text)
        });
        let own = entry.field("xds_servers").map(|list| servers(&list));
        let reachability = entry.field("fallback_on_reachability_only");
        let authority = Authority {
            servers: own.unwrap_or_else(|| top.to_vec()),
            client_template: template.unwrap_or_else(|| {
                format!("{begin}envoy.config.listener.v3.Listener/{HOLE}").into()
            }),
            on_reachability_only: reachability.and_then(|field| field.boolean()) == Some(true),
        };
        authorities.insert(name.into(), authority);
    }
    authorities
}
