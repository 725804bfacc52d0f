//! Numbers that endpoints report of themselves (ORCA, gRPC A51).

use std::fmt;

/// A number of an endpoint's load report, by the name that xDS has for it.
///
/// ```
/// use meshwork::model::reported::ReportedMetric;
///
/// let metric = ReportedMetric::parse("named_metrics.queue").unwrap();
/// assert_eq!(metric, ReportedMetric::Named("queue".into()));
/// assert_eq!(metric.to_string(), "named_metrics.queue");
/// assert!(ReportedMetric::parse("queue").is_none());
/// ```
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum ReportedMetric {
    /// `application_utilization`.
    Application,
    /// `request_cost.NAME`: what requests cost, by a name of the application's.
    Cost(Box<str>),
    /// `cpu_utilization`.
    Cpu,
    /// `mem_utilization`.
    Memory,
    /// `named_metrics.NAME`: what the application likes to tell.
    Named(Box<str>),
    /// `utilization.NAME`: how much of a resource is used, by a name of the application's.
    Utilization(Box<str>),
}

impl ReportedMetric {
    /// The words of xDS (`metric_names_for_computing_utilization`, gRPC A114); `None` for others, which
    /// no report has.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "application_utilization" => Self::Application,
            "cpu_utilization" => Self::Cpu,
            "mem_utilization" => Self::Memory,
            other => match other.split_once('.')? {
                ("named_metrics", name) => Self::Named(name.into()),
                ("request_cost", name) => Self::Cost(name.into()),
                ("utilization", name) => Self::Utilization(name.into()),
                _ => return None,
            },
        })
    }
}

impl fmt::Display for ReportedMetric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Application => f.write_str("application_utilization"),
            Self::Cost(name) => write!(f, "request_cost.{name}"),
            Self::Cpu => f.write_str("cpu_utilization"),
            Self::Memory => f.write_str("mem_utilization"),
            Self::Named(name) => write!(f, "named_metrics.{name}"),
            Self::Utilization(name) => write!(f, "utilization.{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_they_are_written() {
        for word in [
            "application_utilization",
            "cpu_utilization",
            "mem_utilization",
            "named_metrics.a.b",
            "request_cost.a",
            "utilization.*",
        ] {
            let metric = ReportedMetric::parse(word);
            assert_eq!(
                metric.map(|metric| metric.to_string()).as_deref(),
                Some(word)
            );
        }
        for other in ["", "eps", "rps_fractional", "named_metrics", "other.a"] {
            assert_eq!(ReportedMetric::parse(other), None, "{other}");
        }
    }
}
