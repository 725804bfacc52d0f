//! Who the client is: what the configuration of a mesh is looked at from.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::endpoint::Locality;

/// The domain that Kubernetes services live in, unless told otherwise.
const CLUSTER_DOMAIN: &str = "cluster.local";

/// Istio's name for the cluster where nothing else is said.
const CLUSTER: &str = "Kubernetes";

/// The identity of a client.
///
/// Istio's objects describe the mesh as a whole; which of them concern a client follows from its
/// namespace (`exportTo`, `sourceNamespace`, short names), its labels (`sourceLabels`,
/// `workloadSelector`) and its locality (failover).
///
/// ```
/// use meshwork::Workload;
///
/// let order = Workload::new("my-app", "order-sa")
///     .label("app", "order")
///     .label("version", "v1");
/// assert_eq!(order.namespace(), "my-app");
/// assert_eq!(order.labels()["version"], "v1");
/// assert_eq!(order.cluster_domain(), "cluster.local");
/// ```
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Workload {
    namespace: Arc<str>,
    service_account: Arc<str>,
    labels: BTreeMap<String, String>,
    locality: Option<Locality>,
    cluster_domain: Arc<str>,
    cluster: Arc<str>,
}

impl Workload {
    /// A workload without labels and locality, in the cluster domain `cluster.local`.
    ///
    /// Empty texts stand for what Kubernetes puts in their place: `default`.
    #[must_use]
    pub fn new(namespace: impl Into<Arc<str>>, service_account: impl Into<Arc<str>>) -> Self {
        let or_default = |text: Arc<str>| {
            if text.is_empty() {
                "default".into()
            } else {
                text
            }
        };
        Self {
            namespace: or_default(namespace.into()),
            service_account: or_default(service_account.into()),
            labels: BTreeMap::new(),
            locality: None,
            cluster_domain: CLUSTER_DOMAIN.into(),
            cluster: CLUSTER.into(),
        }
    }

    /// Adds a label, in place of the one of that name.
    #[must_use]
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// Keeps only the labels of which a function says yes.
    #[cfg(feature = "control-plane")]
    pub(crate) fn retain_labels(&mut self, stays: impl Fn(&str) -> bool) {
        self.labels.retain(|key, _| stays(key));
    }

    /// Says where the workload runs. Without it no endpoint is near or far.
    #[must_use]
    pub fn with_locality(mut self, locality: Locality) -> Self {
        self.locality = Some(locality);
        self
    }

    /// Sets the domain that Kubernetes services live in, without dots at its ends.
    #[must_use]
    pub fn with_cluster_domain(mut self, domain: &str) -> Self {
        self.cluster_domain = domain.trim_matches('.').to_ascii_lowercase().into();
        self
    }

    /// Sets the name of the Kubernetes cluster where it runs, as Istio's `CLUSTER_ID` has it: the label
    /// `source_cluster` or `destination_cluster` of metrics, by which Kiali finds them. Without it, or with an
    /// empty one, that is Istio's default: `Kubernetes`.
    #[must_use]
    pub fn with_cluster(mut self, cluster: &str) -> Self {
        let cluster = Some(cluster).filter(|cluster| !cluster.is_empty());
        self.cluster = cluster.unwrap_or(CLUSTER).into();
        self
    }

    /// Its namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Its service account.
    #[must_use]
    pub fn service_account(&self) -> &str {
        &self.service_account
    }

    /// Its labels.
    #[must_use]
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.labels
    }

    /// Where it runs, if it was said.
    #[must_use]
    pub fn locality(&self) -> Option<&Locality> {
        self.locality.as_ref()
    }

    /// The domain that Kubernetes services live in.
    #[must_use]
    pub fn cluster_domain(&self) -> &str {
        &self.cluster_domain
    }

    /// The name of the Kubernetes cluster where it runs.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.cluster
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_names_are_those_of_kubernetes_and_the_last_label_wins() {
        let workload = Workload::new("", "").label("app", "a").label("app", "b");
        assert_eq!(workload.namespace(), "default");
        assert_eq!(workload.service_account(), "default");
        assert_eq!(workload.labels()["app"], "b");
        assert_eq!(
            workload
                .with_cluster_domain(".Mesh.Example.")
                .cluster_domain(),
            "mesh.example"
        );
        let workload = Workload::new("", "").with_cluster("east");
        assert_eq!(workload.cluster(), "east");
        assert_eq!(workload.with_cluster("").cluster(), "Kubernetes");
    }
}
