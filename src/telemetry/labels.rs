//! Who calls whom, in the words of Istio's metrics.

use std::sync::Arc;

use super::meter::Reporter;

/// What does not change from request to request: who calls whom. Each text is a label of Istio's
/// metrics; what is not known is `unknown`, as there.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Labels {
    pub(crate) reporter: Reporter,
    pub(crate) source: Arc<Party>,
    /// Shared by all that call the same workload, or one of which nothing is known.
    pub(crate) destination: Arc<Party>,
    /// The host that was called.
    pub(crate) service: Box<str>,
    /// Its first part, or the cluster that stands for hosts nobody declared.
    pub(crate) service_name: Box<str>,
    pub(crate) service_namespace: Box<str>,
    /// `mutual_tls`, `none`, or `unknown`, which a caller always says (as Istio has it).
    pub(crate) security: &'static str,
}

/// One side of a request.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Party {
    pub(crate) workload: Box<str>,
    pub(crate) namespace: Box<str>,
    pub(crate) principal: Box<str>,
    pub(crate) app: Box<str>,
    pub(crate) version: Box<str>,
    pub(crate) canonical_service: Box<str>,
    pub(crate) canonical_revision: Box<str>,
    /// Of Kubernetes, where it runs.
    pub(crate) cluster: Box<str>,
}

pub(super) const UNKNOWN: &str = "unknown";

impl Party {
    /// Nobody in particular.
    pub(crate) fn unknown() -> Self {
        Self::of(|_| None, UNKNOWN, UNKNOWN)
    }

    /// What the labels of a workload say, by Istio's rules; `cluster` is where it runs unless they name another.
    pub(crate) fn of<'a>(
        label: impl Fn(&str) -> Option<&'a str>,
        namespace: &str,
        cluster: &str,
    ) -> Self {
        let first = |names: &[&str]| names.iter().find_map(|name| label(name));
        let app = first(&["app", "app.kubernetes.io/name"]);
        let canonical = first(&["service.istio.io/canonical-name"])
            .or(first(&["app.kubernetes.io/name", "app"]));
        let workload = first(&["service.istio.io/workload-name"]).or(canonical);
        let version = first(&["version", "app.kubernetes.io/version"]);
        let revision = first(&["service.istio.io/canonical-revision"]).or(version);
        let or = |text: Option<&str>, other: &str| Box::from(text.unwrap_or(other));
        Self {
            workload: or(workload, UNKNOWN),
            namespace: namespace.into(),
            principal: UNKNOWN.into(),
            app: or(app, UNKNOWN),
            version: or(version, UNKNOWN),
            canonical_service: or(canonical, UNKNOWN),
            canonical_revision: or(revision, "latest"),
            cluster: or(label("topology.istio.io/cluster"), cluster),
        }
    }
}

impl Labels {
    /// The labels in Istio's order, by their names.
    pub(crate) fn pairs(&self) -> [(&'static str, &str); 20] {
        let (source, destination) = (&self.source, &self.destination);
        [
            ("reporter", self.reporter.label()),
            ("source_workload", &source.workload),
            ("source_canonical_service", &source.canonical_service),
            ("source_canonical_revision", &source.canonical_revision),
            ("source_workload_namespace", &source.namespace),
            ("source_principal", &source.principal),
            ("source_app", &source.app),
            ("source_version", &source.version),
            ("source_cluster", &source.cluster),
            ("destination_workload", &destination.workload),
            ("destination_workload_namespace", &destination.namespace),
            ("destination_principal", &destination.principal),
            ("destination_app", &destination.app),
            ("destination_version", &destination.version),
            ("destination_service", &self.service),
            (
                "destination_canonical_service",
                &destination.canonical_service,
            ),
            (
                "destination_canonical_revision",
                &destination.canonical_revision,
            ),
            ("destination_service_name", &self.service_name),
            ("destination_service_namespace", &self.service_namespace),
            ("destination_cluster", &destination.cluster),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_those_of_istio() {
        let labels = [
            ("service.istio.io/canonical-name", "reviews"),
            ("app", "reviews-app"),
            ("version", "v2"),
        ];
        let find = |name: &str| {
            labels
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| *value)
        };
        let party = Party::of(find, "shop", "east");
        assert_eq!((&*party.app, &*party.version), ("reviews-app", "v2"));
        assert_eq!(&*party.canonical_service, "reviews");
        assert_eq!(&*party.canonical_revision, "v2");
        assert_eq!(&*party.workload, "reviews");
        assert_eq!(&*party.cluster, "east");
        let labelled = Party::of(|_| Some("west"), "shop", "east");
        assert_eq!(&*labelled.cluster, "west");
        assert_eq!(&*Party::unknown().cluster, "unknown");
        assert_eq!(&*Party::unknown().canonical_revision, "latest");
    }
}
