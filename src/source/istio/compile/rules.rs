//! Which DestinationRule concerns a host, as seen by one client.
//!
//! Istio looks in three places and takes the first that has one: the client's namespace, the
//! service's namespace, the root namespace. Within a place the most specific host counts, and
//! rules of one host are merged where their audience is the same. Nothing is merged across places.
//! Every rule here follows `PushContext.destinationRule` and `mergeDestinationRule`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::host::{covers, expand, specificity};
use crate::source::istio::defaults::Defaults;
use crate::source::istio::fault::{Code, Faults};
use crate::source::istio::kinds::{DestinationRule, Kind, Object, Subset, TrafficPolicy};
use crate::source::istio::registry::{View, Visibility, origin, place, selects, warning};
use crate::source::istio::yaml::Located;
use crate::workload::Workload;

/// All DestinationRules, by age.
#[derive(Debug)]
pub(super) struct Rules<'a> {
    all: Vec<Rule<'a>>,
    /// Indices of the rules of a host by its name.
    by_host: BTreeMap<Arc<str>, Vec<usize>>,
    /// Indices of the rules whose host has a star.
    patterns: Vec<usize>,
    /// Policy in this namespace is for the whole mesh.
    root: &'a str,
}

/// One DestinationRule as it was written.
#[derive(Debug)]
struct Rule<'a> {
    object: &'a Object,
    spec: &'a DestinationRule,
    host: Arc<str>,
    visibility: Visibility,
}

/// What is in force for a host: one rule, or several that were merged.
#[derive(Clone, Debug)]
pub(super) struct Effective<'a> {
    /// The policies of the host.
    pub(super) policy: Option<&'a Located<TrafficPolicy>>,
    /// The object that wrote `policy`.
    pub(super) policy_object: &'a Object,
    /// The subsets and who wrote them; names are unique.
    pub(super) subsets: Vec<(&'a Object, &'a Located<Subset>)>,
    selector: Option<&'a BTreeMap<String, String>>,
    visibility: Visibility,
}

impl<'a> Rules<'a> {
    /// Reads the rules; `objects` are in the order of age.
    pub(super) fn new(objects: &[&'a Object], domain: &str, defaults: Defaults<'a>) -> Self {
        let mut all: Vec<Rule<'a>> = objects
            .iter()
            .filter_map(|&object| match &object.kind {
                Kind::DestinationRule(spec) => Some(Rule::new(object, spec, domain, defaults)),
                Kind::AuthorizationPolicy(_)
                | Kind::EndpointSlice(_)
                | Kind::Endpoints(_)
                | Kind::MeshConfig(_)
                | Kind::GrpcRoute(_)
                | Kind::HttpRoute(_)
                | Kind::HttpLocalRateLimitPolicy(_)
                | Kind::LinkerdServer(_)
                | Kind::Namespace(_)
                | Kind::BackendTlsPolicy(_)
                | Kind::BackendTrafficPolicy(_)
                | Kind::ReferenceGrant(_)
                | Kind::PeerAuthentication(_)
                | Kind::Pod(_)
                | Kind::RequestAuthentication(_)
                | Kind::Service(_)
                | Kind::ServiceAccount(_)
                | Kind::ServiceEntry(_)
                | Kind::Gateway(_)
                | Kind::Sidecar(_)
                | Kind::Telemetry(_)
                | Kind::WorkloadGroup(_)
                | Kind::VirtualService(_)
                | Kind::Workload(_)
                | Kind::WorkloadEntry(_) => None,
            })
            .collect();
        // Stable: rules with a selector first, then by age.
        all.sort_by_key(|rule| rule.selector().is_none());
        let mut by_host: BTreeMap<Arc<str>, Vec<usize>> = BTreeMap::new();
        let mut patterns = Vec::new();
        for (index, rule) in all.iter().enumerate() {
            if rule.host.starts_with('*') {
                patterns.push(index);
            } else {
                by_host.entry(rule.host.clone()).or_default().push(index);
            }
        }
        Self {
            all,
            by_host,
            patterns,
            root: defaults.root_namespace(),
        }
    }

    /// The rules that speak of a host, in the order of all.
    fn covering(&self, host: &str) -> Vec<&Rule<'a>> {
        let named = self.by_host.get(host).into_iter().flatten();
        let patterns = self.patterns.iter();
        let mut indices: Vec<usize> = named
            .chain(patterns.filter(|index| covers(&self.all[**index].host, host)))
            .copied()
            .collect();
        indices.sort_unstable();
        indices.into_iter().map(|index| &self.all[index]).collect()
    }

    /// The rule that a client uses for a host that is declared in the namespace `home`.
    pub(super) fn find(
        &self,
        host: &str,
        home: &str,
        client: &Workload,
        faults: &mut Faults,
    ) -> Option<Effective<'a>> {
        let covering = self.covering(host);
        let merged = places(&covering, (home, self.root), client.namespace())
            .into_iter()
            .map(most_specific)
            .find(|rules| !rules.is_empty())
            .map(|rules| merge(&rules, faults))?;
        choose(merged, client)
    }

    /// Rules that the client could use and whose host no service of the view has.
    pub(super) fn without_service(
        &self,
        client: &str,
        view: &View<'_>,
    ) -> impl Iterator<Item = (&'a Object, &'a Located<String>, &str)> {
        self.all
            .iter()
            .filter(move |rule| rule.visibility.includes(client))
            .filter(move |rule| {
                if rule.host.starts_with('*') {
                    !view.services().any(|one| covers(&rule.host, &one.host))
                } else {
                    view.service(&rule.host).is_none()
                }
            })
            .map(|rule| (rule.object, &rule.spec.host, &*rule.host))
    }
}

impl<'a> Rule<'a> {
    fn new(
        object: &'a Object,
        spec: &'a DestinationRule,
        domain: &str,
        defaults: Defaults<'_>,
    ) -> Self {
        let namespace = &object.meta.namespace;
        let exported = spec.export_to.iter().map(|entry| entry.value.as_str());
        Self {
            object,
            spec,
            host: expand(&spec.host, namespace, domain),
            // A rule for some workloads of a namespace is never seen outside of it.
            visibility: if spec.workload_selector.is_some() {
                Visibility::private(namespace)
            } else {
                defaults.destination_rule(exported, namespace)
            },
        }
    }

    fn selector(&self) -> Option<&'a BTreeMap<String, String>> {
        self.spec
            .workload_selector
            .as_ref()
            .map(|selector| &selector.match_labels)
    }

    fn effective(&self, faults: &mut Faults) -> Effective<'a> {
        let mut effective = Effective {
            policy: self.spec.traffic_policy.as_ref(),
            policy_object: self.object,
            subsets: Vec::new(),
            selector: self.selector(),
            visibility: self.visibility.clone(),
        };
        effective.add_subsets(self, faults);
        effective
    }
}

/// The rules of the three places, in the order in which they are asked.
fn places<'r, 'a>(
    rules: &[&'r Rule<'a>],
    (home, root): (&str, &str),
    client: &str,
) -> [Vec<&'r Rule<'a>>; 3] {
    let of = |namespace: &str, keep: &dyn Fn(&Rule<'a>) -> bool| -> Vec<&'r Rule<'a>> {
        rules
            .iter()
            .copied()
            .filter(|rule| &*rule.object.meta.namespace == namespace && keep(rule))
            .collect()
    };
    let exported = |rule: &Rule<'a>| rule.visibility.includes(client);
    // A client in the root namespace takes the public rules there last, not first.
    let local = of(client, &|rule| {
        rule.visibility.includes(client) && (client != root || rule.visibility.is_private(client))
    });
    [local, of(home, &exported), of(root, &exported)]
}

/// Those of one place whose host is the most specific one.
fn most_specific<'r, 'a>(rules: Vec<&'r Rule<'a>>) -> Vec<&'r Rule<'a>> {
    let best = rules.iter().map(|rule| specificity(&rule.host)).max();
    let mut rules = rules;
    rules.retain(|rule| Some(specificity(&rule.host)) == best);
    rules
}

/// Merges the rules of one host: subsets are put together and the oldest policy counts, where the
/// audience (`exportTo`, `workloadSelector`) is the same. A rule with a wider `exportTo` is merged
/// into the narrower one and also stands for itself.
fn merge<'a>(rules: &[&Rule<'a>], faults: &mut Faults) -> Vec<Effective<'a>> {
    let mut entries: Vec<Effective<'a>> = Vec::new();
    for rule in rules {
        let mut alone = true;
        for entry in &mut entries {
            if rule.selector() != entry.selector {
                continue;
            }
            let same = rule.visibility == entry.visibility;
            if same || rule.visibility.lists_all_of(&entry.visibility) {
                entry.take_in(rule, faults);
                alone &= !same;
            }
        }
        if alone {
            entries.push(rule.effective(faults));
        }
    }
    entries
}

/// The first entry whose selector takes the client, else the last one without a selector.
fn choose<'a>(entries: Vec<Effective<'a>>, client: &Workload) -> Option<Effective<'a>> {
    let selected = entries.iter().position(|entry| {
        entry
            .selector
            .is_some_and(|labels| selects(labels, client.labels()))
    });
    let index = selected.or_else(|| entries.iter().rposition(|entry| entry.selector.is_none()))?;
    entries.into_iter().nth(index)
}

impl<'a> Effective<'a> {
    fn take_in(&mut self, rule: &Rule<'a>, faults: &mut Faults) {
        match (self.policy, &rule.spec.traffic_policy) {
            (Some(_), Some(ignored)) => faults.push(
                warning(
                    rule.object,
                    Code::Conflict,
                    place(ignored),
                    format!(
                        "has no effect: {} says the trafficPolicy of the host {} already",
                        origin(self.policy_object),
                        rule.host
                    ),
                )
                .field("trafficPolicy"),
            ),
            (None, Some(policy)) => {
                self.policy = Some(policy);
                self.policy_object = rule.object;
            }
            (Some(_) | None, None) => {}
        }
        self.add_subsets(rule, faults);
    }

    fn add_subsets(&mut self, rule: &Rule<'a>, faults: &mut Faults) {
        for (index, subset) in rule.spec.subsets.iter().enumerate() {
            match self.subset(&subset.name) {
                Some((first, _)) => faults.push(
                    warning(
                        rule.object,
                        Code::Conflict,
                        place(&subset.name),
                        format!(
                            "has no effect: {} has a subset {:?} of the host {} already",
                            origin(first),
                            subset.name.value,
                            rule.host
                        ),
                    )
                    .field(format!("subsets[{index}].name")),
                ),
                None => self.subsets.push((rule.object, subset)),
            }
        }
    }

    /// The subset of that name.
    pub(super) fn subset(&self, name: &str) -> Option<(&'a Object, &'a Located<Subset>)> {
        let mut all = self.subsets.iter();
        all.find(|(_, subset)| subset.name.value == name).copied()
    }
}
