//! Flags that several subcommands share: how YAML is read, and through whose eyes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use meshwork::model::identity::{SpiffeId, TrustDomain};
use meshwork::model::security::Files;
use meshwork::source::istio::{OnDuplicate, Options, Strictness};
use meshwork::source::xds::Bootstrap;
use meshwork::tls::{CsrSource, FileSource, Source};
use meshwork::{Error, Mesh, Workload};

/// How strictly the files are read.
#[derive(Clone, Copy, Debug, clap::Args)]
#[command(next_help_heading = "Reading the files")]
pub(crate) struct Reading {
    /// Unknown fields are warnings instead of errors
    #[arg(long)]
    lenient: bool,

    /// Accept security policies that are known but not enforced, with a warning instead of an error
    #[arg(long)]
    allow_unenforced: bool,

    /// What to do when kind, namespace and name stand twice
    #[arg(long, value_name = "RULE", value_enum, default_value = "error")]
    on_duplicate: Duplicate,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Duplicate {
    /// Refuse both
    Error,
    /// Take the last one, with a warning
    Last,
}

impl Reading {
    pub(crate) fn options(self) -> Options {
        Options {
            allow_unenforced: self.allow_unenforced,
            on_duplicate: match self.on_duplicate {
                Duplicate::Error => OnDuplicate::Reject,
                Duplicate::Last => OnDuplicate::Last,
            },
            strictness: if self.lenient {
                Strictness::Warn
            } else {
                Strictness::Reject
            },
            ..Options::default()
        }
    }
}

/// Who the client is.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Whose configuration")]
pub(crate) struct Client {
    /// Namespace and service account of the client; they decide which objects it sees and what
    /// short names such as `catalog` stand for
    #[arg(long, visible_alias = "from", value_name = "NAMESPACE/SERVICEACCOUNT", value_parser = identity)]
    workload: Option<Account>,

    /// A label of the client, for sourceLabels and workloadSelector; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
}

/// Namespace and service account.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Account {
    namespace: String,
    service_account: String,
}

impl Client {
    /// The workload that the flags name; `None` if they name nothing at all.
    pub(crate) fn named(&self) -> Option<Workload> {
        if self.workload.is_none() && self.labels.is_empty() {
            return None;
        }
        Some(self.workload())
    }

    /// The workload, `default/default` unless told otherwise.
    pub(crate) fn workload(&self) -> Workload {
        let workload = match &self.workload {
            Some(identity) => Workload::new(&*identity.namespace, &*identity.service_account),
            None => Workload::new("default", "default"),
        };
        self.labels.iter().fold(workload, |workload, (key, value)| {
            workload.label(key, value)
        })
    }
}

/// Who the process is to its peers, and whom it believes.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Identity")]
pub(crate) struct Identity {
    /// PEM chain of the identity; read again when it changes
    #[arg(long, value_name = "FILE", requires_all = ["tls_key", "tls_roots"])]
    tls_certificate: Option<PathBuf>,

    /// PEM key of the identity
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,

    /// PEM roots by which peers are believed
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_roots: Option<PathBuf>,

    /// An authority that signs the identity of --workload: istiod, or `meshwork serve --ca`
    #[arg(
        long,
        value_name = "HOST:PORT",
        requires = "ca_roots",
        conflicts_with = "tls_certificate"
    )]
    ca: Option<String>,

    /// PEM roots by which the authority is believed
    #[arg(long, value_name = "FILE", requires = "ca")]
    ca_roots: Option<PathBuf>,

    /// The name that the authority's certificate is for [default: its host]
    #[arg(long, value_name = "NAME", requires = "ca")]
    ca_name: Option<String>,

    /// A file with a token that proves who this is
    #[arg(long, value_name = "FILE", requires = "ca")]
    ca_token_file: Option<PathBuf>,

    /// A join token, which proves who this is until there is an identity
    #[arg(
        long,
        value_name = "TOKEN",
        env = "MESHWORK_JOIN_TOKEN",
        hide_env_values = true,
        conflicts_with = "ca_token_file"
    )]
    ca_join_token: Option<String>,

    /// The trust domain of the identity that is asked for
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    trust_domain: TrustDomain,
}

impl Identity {
    /// Whether the flags name a source.
    pub(crate) fn is_given(&self) -> bool {
        self.tls_certificate.is_some() || self.ca.is_some()
    }

    /// The source, if the flags name one.
    ///
    /// # Errors
    /// The workload makes no identity.
    pub(crate) fn source(&self, client: &Client) -> anyhow::Result<Option<Source>> {
        let path = |path: &Option<PathBuf>| path.as_deref().map(Into::into);
        if self.tls_certificate.is_some() {
            return Ok(Some(Source::from(FileSource::new(Files {
                certificate: path(&self.tls_certificate),
                key: path(&self.tls_key),
                roots: path(&self.tls_roots),
                revocations: None,
            }))));
        }
        let (Some(authority), Some(roots)) = (&self.ca, &self.ca_roots) else {
            return Ok(None);
        };
        let workload = client.workload();
        let (namespace, account) = (workload.namespace(), workload.service_account());
        let id = SpiffeId::of_service_account(&self.trust_domain, namespace, account)?;
        let mut source = CsrSource::new(authority.as_str(), id, roots);
        if let Some(name) = &self.ca_name {
            source = source.with_server_name(name.as_str());
        }
        if let Some(file) = &self.ca_token_file {
            source = source.with_token_file(file);
        } else if let Some(token) = &self.ca_join_token {
            source = source.with_join_token(token.as_str());
        }
        Ok(Some(source.into()))
    }
}

/// Waits until there is an identity, if one was asked for, so that the first call can show it.
pub(crate) async fn identified(mesh: &Mesh, patience: Duration) -> anyhow::Result<()> {
    let Some(own) = mesh.credentials() else {
        return Ok(());
    };
    let waiting = async {
        while own.identity().is_none() {
            own.changed(own.generation()).await;
        }
    };
    tokio::time::timeout(patience, waiting).await.map_err(|_| {
        anyhow::anyhow!("there is no identity after {patience:?}; the log says why (RUST_LOG=warn)")
    })
}

fn identity(text: &str) -> Result<Account, String> {
    match text.split_once('/') {
        Some((namespace, account))
            if !namespace.is_empty() && !account.is_empty() && !account.contains('/') =>
        {
            Ok(Account {
                namespace: namespace.to_owned(),
                service_account: account.to_owned(),
            })
        }
        _ => Err("expected NAMESPACE/SERVICEACCOUNT, such as my-app/order-sa".to_owned()),
    }
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE, such as app=order".to_owned()),
    }
}

/// The control planes: of a file, else those that gRPC's variables name, if they name any.
///
/// # Errors
///
/// The bootstrap cannot be read, or has faults.
pub(crate) fn bootstrap(file: Option<&Path>) -> Result<Option<Bootstrap>, Error> {
    let set = |name| std::env::var_os(name).is_some_and(|text| !text.is_empty());
    match file {
        Some(file) => Bootstrap::from_file(file).map(Some),
        None if set("GRPC_XDS_BOOTSTRAP") || set("GRPC_XDS_BOOTSTRAP_CONFIG") => {
            Bootstrap::from_env().map(Some)
        }
        None => Ok(None),
    }
}

/// Says why a path cannot be a set of files, so that a slip is not reported as faults of YAML.
pub(crate) fn must_exist(path: &Path) -> anyhow::Result<()> {
    if let Err(error) = std::fs::metadata(path) {
        anyhow::bail!(
            "cannot read {}: {error}; name a folder of YAML files, or one file",
            path.display()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_and_labels_are_told_apart_from_slips() {
        let order = identity("my-app/order-sa").expect("valid");
        assert_eq!(
            (&*order.namespace, &*order.service_account),
            ("my-app", "order-sa")
        );
        for text in ["", "my-app", "/sa", "ns/", "a/b/c"] {
            assert!(identity(text).is_err(), "{text}");
        }
        assert_eq!(label("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(label("a="), Ok(("a".into(), String::new())));
        for text in ["", "a", "=b"] {
            assert!(label(text).is_err(), "{text}");
        }
    }
}
