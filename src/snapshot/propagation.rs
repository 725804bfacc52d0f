//! What endpoints report with their responses, added up by locality for reports of load (gRFC A85).
//!
//! Only clusters that name metrics keep anything here, and only they pay for it: a response of theirs is
//! added up under a lock that is held for a few additions, behind the pick and behind the answer. The sums
//! grow for as long as the cluster is there; a report is the difference to the one before. Names that match
//! `named_metrics.*` are the endpoints' own, so that their number is bounded, apart from those that were asked
//! for. A number above 1e9, or below -1e9, is left out, so that sums stay exact enough.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, OnceLock, PoisonError};

use smallvec::SmallVec;

use crate::layer::balance::Metric;
use crate::model::cluster::LoadMetric;
use crate::model::endpoint::Locality;

/// So many metrics that nobody asked for by name are told apart in a locality, as many in a response are
/// looked at; what comes after them is left out.
const METRICS: usize = 64;
/// The largest number that is added up, either side of zero. A single larger one could leave a sum, which
/// only grows, too coarse for all that follow.
const LARGEST: f64 = 1e9;

/// The sums by locality and by the name of the metric, in xDS's words.
pub(crate) type Reported = BTreeMap<Locality, BTreeMap<Box<str>, Sum>>;

/// What was reported of one metric.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Sum {
    /// The responses that had it.
    pub(crate) requests: u64,
    pub(crate) total: f64,
}

/// The sums of a cluster; one that wants none keeps nothing for them.
#[derive(Debug, Default)]
pub(crate) struct Propagation {
    // Held for the additions of one response, and while a report is made.
    sums: OnceLock<Box<Mutex<Reported>>>,
}

/// What one response says, as far as it is wanted: names in one text, whatever their number.
#[derive(Debug)]
pub(crate) struct Gathering<'w> {
    wanted: &'w [LoadMetric],
    names: String,
    /// Where a name is in `names`, whether it was asked for, and the number.
    found: SmallVec<[(Range<usize>, bool, f64); 8]>,
    asked: usize,
    others: usize,
    sane: bool,
}

impl<'w> Gathering<'w> {
    pub(crate) fn of(wanted: &'w [LoadMetric]) -> Self {
        Self {
            wanted,
            names: String::new(),
            found: SmallVec::new(),
            asked: 0,
            others: 0,
            sane: true,
        }
    }

    /// Takes one number; `None` if the report is damaged, and then all of it counts for nothing.
    pub(crate) fn take(&mut self, metric: Metric<'_>, value: f64) -> Option<()> {
        self.sane &= sane(metric, value);
        if !self.sane {
            return None;
        }
        let Some(asked) = wants(self.wanted, metric).filter(|_| value.abs() <= LARGEST) else {
            return Some(());
        };
        let (seen, most) = match asked {
            true => (&mut self.asked, self.wanted.len()),
            false => (&mut self.others, METRICS),
        };
        if *seen < most {
            *seen += 1;
            let start = self.names.len();
            write_name(&mut self.names, metric);
            self.found.push((start..self.names.len(), asked, value));
        }
        Some(())
    }
}

impl Propagation {
    /// Adds what a response says.
    pub(crate) fn add(&self, locality: &Locality, gathered: &Gathering<'_>) {
        if !gathered.sane || gathered.found.is_empty() {
            return;
        }
        let sums = self.sums.get_or_init(Box::default);
        let mut sums = sums.lock().unwrap_or_else(PoisonError::into_inner);
        if !sums.contains_key(locality) {
            sums.insert(locality.clone(), BTreeMap::new());
        }
        let Some(sums) = sums.get_mut(locality) else {
            return;
        };
        for (name, asked, value) in &gathered.found {
            let name = &gathered.names[name.clone()];
            let sum = match sums.get_mut(name) {
                Some(sum) => sum,
                None => {
                    let others = sums.keys().filter(|own| !is_asked(gathered.wanted, own));
                    if !asked && others.count() >= METRICS {
                        continue;
                    }
                    sums.entry(name.into()).or_default()
                }
            };
            sum.requests += 1;
            sum.total += value;
        }
    }

    /// What there is up to now.
    #[cfg_attr(
        not(feature = "xds"),
        allow(dead_code, reason = "only control planes are told of it")
    )]
    pub(crate) fn read(&self) -> Reported {
        let sums = self.sums.get().map(|sums| {
            let sums = sums.lock().unwrap_or_else(PoisonError::into_inner);
            sums.clone()
        });
        sums.unwrap_or_default()
    }
}

/// Whether a metric that is wanted was asked for by its name.
fn is_asked(wanted: &[LoadMetric], name: &str) -> bool {
    let Some(own) = name.strip_prefix("named_metrics.") else {
        // Those of the protocol are few.
        return true;
    };
    let by_name = |one: &LoadMetric| matches!(one, LoadMetric::Named(name) if **name == *own);
    wanted.iter().any(by_name)
}

/// Whether a metric is wanted, and then whether it was asked for by its name.
fn wants(wanted: &[LoadMetric], metric: Metric<'_>) -> Option<bool> {
    let asked = |one: &LoadMetric| match (one, metric) {
        (LoadMetric::Application, Metric::Application)
        | (LoadMetric::Cpu, Metric::Cpu)
        | (LoadMetric::Memory, Metric::Memory) => true,
        (LoadMetric::Named(name), Metric::Named(own)) => **name == *own,
        _ => false,
    };
    let all = matches!(metric, Metric::Named(_)) && wanted.contains(&LoadMetric::AllNamed);
    match wanted.iter().any(asked) {
        true => Some(true),
        false => all.then_some(false),
    }
}

/// The name of a metric that can be wanted, in xDS's words.
fn write_name(out: &mut String, metric: Metric<'_>) {
    let (map, name) = match metric {
        Metric::Application => ("", "application_utilization"),
        Metric::Cpu => ("", "cpu_utilization"),
        Metric::Memory => ("", "mem_utilization"),
        Metric::Named(name) => ("named_metrics.", name),
        Metric::Cost(_)
        | Metric::Errors
        | Metric::Other
        | Metric::Requests
        | Metric::Utilization(_) => ("", ""),
    };
    out.push_str(map);
    out.push_str(name);
}

/// The ranges of gRPC A51; what the application names may be any number.
fn sane(metric: Metric<'_>, value: f64) -> bool {
    match metric {
        Metric::Application | Metric::Cpu | Metric::Errors | Metric::Requests => {
            value.is_finite() && value >= 0.0
        }
        Metric::Memory => (0.0..=1.0).contains(&value),
        Metric::Cost(_) | Metric::Named(_) | Metric::Utilization(_) => value.is_finite(),
        Metric::Other => true,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;
    use crate::layer::balance::written;

    fn taken(wanted: &[&str], reports: &[&str]) -> Vec<(String, u64, f64)> {
        let wanted: Vec<_> = wanted
            .iter()
            .filter_map(|text| LoadMetric::parse(text))
            .collect();
        let propagation = Propagation::default();
        for report in reports {
            let mut headers = HeaderMap::new();
            let value = format!("TEXT {report}").parse().unwrap();
            headers.insert("endpoint-load-metrics", value);
            let mut gathering = Gathering::of(&wanted);
            let whole = written(&headers, &mut |metric, value| gathering.take(metric, value));
            if whole.is_some() {
                propagation.add(&Locality::default(), &gathering);
            }
        }
        let all = propagation.read().into_values().flatten();
        all.map(|(name, sum)| (name.into(), sum.requests, sum.total))
            .collect()
    }

    fn row(name: &str, requests: u64, total: f64) -> (String, u64, f64) {
        (name.to_owned(), requests, total)
    }

    #[test]
    fn what_is_wanted_is_added_up_and_nothing_else() {
        let reports = [
            "cpu_utilization=0.5, named_metrics.queue=3, named_metrics.other=1, eps=2",
            "cpu_utilization=0.25, mem_utilization=0.75",
        ];
        assert_eq!(taken(&[], &reports), []);
        assert_eq!(
            taken(
                &["cpu_utilization", "named_metrics.queue", "nonsense"],
                &reports
            ),
            [
                row("cpu_utilization", 2, 0.75),
                row("named_metrics.queue", 1, 3.0)
            ]
        );
        assert_eq!(
            taken(&["named_metrics.*", "mem_utilization"], &reports),
            [
                row("mem_utilization", 1, 0.75),
                row("named_metrics.other", 1, 1.0),
                row("named_metrics.queue", 1, 3.0)
            ]
        );
    }

    #[test]
    fn a_report_with_a_number_out_of_range_counts_for_nothing() {
        for report in [
            "cpu_utilization=-1",
            "cpu_utilization=1, mem_utilization=1.5",
            "named_metrics.a=NaN, cpu_utilization=1",
            "cpu_utilization=1, eps=-2",
            "cpu_utilization=1, x",
        ] {
            assert_eq!(
                taken(&["cpu_utilization", "named_metrics.*"], &[report]),
                [],
                "{report}"
            );
        }
        assert_eq!(
            taken(&["named_metrics.*"], &["named_metrics.a=-7"]),
            [row("named_metrics.a", 1, -7.0)],
            "what the application names may be any number"
        );
    }

    #[test]
    fn names_that_endpoints_make_up_are_bounded() {
        let reports: Vec<String> = (0..1_000)
            .map(|n| format!("named_metrics.m{n}=1"))
            .collect();
        let reports: Vec<&str> = reports.iter().map(String::as_str).collect();
        assert_eq!(taken(&["named_metrics.*"], &reports).len(), METRICS);
        let all = reports.join(",") + ",cpu_utilization=0.5,named_metrics.queue=3";
        let wanted = ["named_metrics.*", "cpu_utilization", "named_metrics.queue"];
        for reports in [vec![&*all], [&reports[..], &[&*all]].concat()] {
            let found = taken(&wanted, &reports);
            assert_eq!(found.len(), METRICS + 2);
            assert!(found.contains(&row("cpu_utilization", 1, 0.5)));
            assert!(found.contains(&row("named_metrics.queue", 1, 3.0)));
        }
    }

    #[test]
    fn an_absurd_number_spoils_no_sum() {
        let reports = [
            "named_metrics.a=1, cpu_utilization=1e308",
            "named_metrics.a=1e308",
            "named_metrics.a=-1e10",
            "named_metrics.a=1e9",
        ];
        assert_eq!(
            taken(&["named_metrics.a", "cpu_utilization"], &reports),
            [row("named_metrics.a", 2, 1e9 + 1.0)]
        );
    }
}
