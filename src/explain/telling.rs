//! What is told of a request while it is on its way.

use crate::model::Origin;
use crate::outbound::Core;

/// One thing that is told of a request, in words.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Telling {
    /// What, such as `a line in the access log envoy if response.code >= 400`.
    pub what: String,
    /// Who asked for it; `None`: the program.
    pub origin: Option<Origin>,
}

/// What is told of requests that begin at this moment.
pub(super) fn telling(core: &Core) -> Vec<Telling> {
    let told = core.environment.telemetry.told();
    let client = &told.model.client;
    let mut all = Vec::new();
    match &client.access_logs {
        Some(logs) => all.extend(logs.iter().map(|log| Telling {
            what: match &log.filter {
                None => format!("a line in the access log {}", log.provider),
                Some(filter) => {
                    format!("a line in the access log {} if {filter}", log.provider)
                }
            },
            origin: Some(log.origin.clone()),
        })),
        None if !told.client.logs.is_empty() => all.push(Telling {
            what: "a line in the access log of the program".to_owned(),
            origin: None,
        }),
        None => {}
    }
    let spans = &client.tracing;
    if let Some(origin) = &spans.origin {
        let share = spans.sampling.map(|share| {
            let percent = f64::from(share.parts_per_million()) / 10_000.0;
            format!("for {percent} % of the traces that begin here")
        });
        let share = share.unwrap_or_else(|| "for the program's share of traces".to_owned());
        let what = if core.environment.telemetry.tracing().is_on() {
            format!("spans {share}")
        } else {
            format!("no spans: they are wanted {share}, and the program has no tracer")
        };
        all.push(Telling {
            what: if spans.reporting {
                what
            } else {
                "no spans; the caller's trace is carried on".to_owned()
            },
            origin: Some(origin.clone()),
        });
    }
    all
}
