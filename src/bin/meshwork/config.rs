//! Flags that several subcommands share: how YAML is read, and through whose eyes.

use std::path::Path;

use meshwork::source::istio::{OnDuplicate, Options, Strictness};
use meshwork::source::xds::Bootstrap;
use meshwork::{Error, Workload};

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
    workload: Option<Identity>,

    /// A label of the client, for sourceLabels and workloadSelector; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
}

/// Namespace and service account.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Identity {
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

fn identity(text: &str) -> Result<Identity, String> {
    match text.split_once('/') {
        Some((namespace, account))
            if !namespace.is_empty() && !account.is_empty() && !account.contains('/') =>
        {
            Ok(Identity {
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
