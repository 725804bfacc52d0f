//! istiod without an agent: the node that `pilot-agent` would have written, from the environment.
//!
//! istiod decides by the node what a client may see: the id names address, pod and namespace
//! (`sidecar~10.0.0.7~order-1.my-app~my-app.svc.cluster.local`), and `GENERATOR: grpc` in the metadata
//! asks for the resources of a proxyless client. A pod knows these by the downward API, under the
//! names of variables that Istio's own templates use.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::Bootstrap;
use crate::error::Error;

/// istiod in its usual place, without and with TLS.
const PLAINTEXT: &str = "istiod.istio-system.svc:15010";
const TLS: &str = "istiod.istio-system.svc:15012";
/// Where a pod finds istiod's root and a token for it, if it is mounted as Istio's templates do.
const ROOTS: &str = "/var/run/secrets/istio/root-cert.pem";
const TOKEN: &str = "/var/run/secrets/tokens/istio-token";
/// Variables that become metadata under their own names.
const PREFIX: &str = "ISTIO_META_";

impl Bootstrap {
    /// A client of istiod without an agent beside it.
    ///
    /// | variable | default | what it is |
    /// | --- | --- | --- |
    /// | `ISTIOD_ADDR` | `istiod.istio-system.svc:15012` with a root and a token, else `:15010` | where istiod is |
    /// | `INSTANCE_IP` | needed | the pod's address |
    /// | `POD_NAME`, `POD_NAMESPACE` | needed | who it is |
    /// | `SERVICE_ACCOUNT`, `CLUSTER_ID` | | as its name says; the latter stands beside the token too |
    /// | `CLUSTER_DOMAIN` | `cluster.local` | of its services |
    /// | `ISTIO_META_*`, `ISTIO_METAJSON_LABELS` | | further metadata |
    ///
    /// Port 15012 is spoken to with TLS, by the root in `/var/run/secrets/istio/root-cert.pem` and the
    /// token in `/var/run/secrets/tokens/istio-token`; any other port in plaintext.
    ///
    /// # Errors
    /// All variables that are missing or wrong.
    pub fn istio() -> Result<Self, Error> {
        let mounted = std::path::Path::new(TOKEN).exists();
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        Self::of_pod(&variables.collect(), mounted)
    }

    pub(super) fn of_pod(
        variables: &std::collections::BTreeMap<String, String>,
        mounted: bool,
    ) -> Result<Self, Error> {
        let mut faults = Vec::new();
        let get = |name: &str| variables.get(name).filter(|text| !text.is_empty());
        let mut needed = |name: &str| match get(name) {
            Some(text) => text.clone(),
            None => {
                faults.push(format!("\n  {name} is not set"));
                String::new()
            }
        };
        let (address, pod, namespace) = (
            needed("INSTANCE_IP"),
            needed("POD_NAME"),
            needed("POD_NAMESPACE"),
        );
        if !address.is_empty() && address.parse::<IpAddr>().is_err() {
            faults.push(format!(
                "\n  INSTANCE_IP is {address:?}, which is no IP address"
            ));
        }
        let labels = match get("ISTIO_METAJSON_LABELS").map(|text| serde_json::from_str(text)) {
            None => Value::Object(Map::new()),
            Some(Ok(labels @ Value::Object(_))) => labels,
            Some(_) => {
                faults.push("\n  ISTIO_METAJSON_LABELS is no JSON object".into());
                Value::Null
            }
        };
        if !faults.is_empty() {
            return Err(Error::config(format!(
                "the environment does not say who this pod is to istiod:{}",
                faults.concat()
            )));
        }
        let mut metadata = Map::new();
        for (name, value) in variables {
            if let Some(name) = name.strip_prefix(PREFIX) {
                metadata.insert(name.into(), json!(value));
            }
        }
        metadata.insert("GENERATOR".into(), json!("grpc"));
        metadata.insert("INSTANCE_IPS".into(), json!(address));
        metadata.insert("NAMESPACE".into(), json!(namespace));
        metadata.insert("LABELS".into(), labels);
        for name in ["SERVICE_ACCOUNT", "CLUSTER_ID"] {
            if let Some(value) = get(name) {
                metadata.insert(name.into(), json!(value));
            }
        }
        let domain = get("CLUSTER_DOMAIN").map_or("cluster.local", String::as_str);
        let default = if mounted { TLS } else { PLAINTEXT };
        let server = get("ISTIOD_ADDR").map_or(default, String::as_str);
        let bootstrap = json!({
            "xds_servers": [server_entry(server)],
            "node": {
                "id": format!("sidecar~{address}~{pod}.{namespace}~{namespace}.svc.{domain}"),
                "metadata": metadata,
            },
            "server_listener_resource_name_template": "xds.istio.io/grpc/lds/inbound/%s",
        });
        Self::read(
            &bootstrap.to_string(),
            "made from the environment for istiod",
        )
    }
}

fn server_entry(uri: &str) -> Value {
    if uri.ends_with(":15012") {
        return json!({
            "server_uri": uri,
            "channel_creds": [{"type": "tls", "config": {"ca_certificate_file": ROOTS}}],
            "call_creds": [{"type": "jwt_token_file", "config": {"jwt_token_file": TOKEN}}],
        });
    }
    json!({"server_uri": uri, "channel_creds": [{"type": "insecure"}]})
}
