//! What is probably not meant, found by looking at a whole set of objects.
//!
//! A client is told of what concerns it and of nothing else. Some traps show to nobody that way: a
//! policy that selects no workload concerns no client, and whether a caller can prove who it is, is
//! decided at the other end. So [`check`](crate::source::istio::check) looks at the set once more,
//! as the one who deploys it does: who runs as whom, which services stand before them, what is asked of
//! their callers. The first groups are messages of `istioctl analyze`; the others are traps that Istio
//! leaves in silence.

mod access;
mod entry;
mod gateway;
mod overlap;
mod selector;
mod transport;
mod workload;

use super::peers::Peers;
use super::{Defaults, by_age};
use crate::source::istio::Options;
use crate::source::istio::fault::Faults;
use crate::source::istio::kinds::Object;
use workload::Census;

/// The cluster domain of hosts in files: what a workload has unless it says another.
const DOMAIN: &str = "cluster.local";

/// All that is known while a set is looked at.
struct Survey<'a> {
    objects: Vec<&'a Object>,
    defaults: Defaults<'a>,
    census: Census<'a>,
    peers: Peers<'a>,
    faults: Faults,
}

/// Looks at a whole set. The work is policies times workloads, services times workloads, and one
/// compilation for each Gateway.
pub(in crate::source::istio) fn survey(objects: &[Object], options: &Options) -> Faults {
    let objects = by_age(objects);
    let defaults = Defaults::of(&objects);
    // What is wrong between these policies a client is told when it is compiled for.
    let mut told = Faults::default();
    let mut survey = Survey {
        census: Census::of(&objects),
        peers: Peers::of(&objects, defaults, &mut told),
        defaults,
        objects,
        faults: Faults::default(),
    };
    selector::nobody(&mut survey);
    access::policies(&mut survey);
    access::probes(&mut survey);
    transport::client_tls(&mut survey);
    transport::outside(&mut survey);
    transport::ports(&mut survey);
    transport::never_ejects(&mut survey, options);
    entry::protocols(&mut survey);
    entry::addresses(&mut survey);
    gateway::edges(&mut survey, options);
    overlap::workloads(&mut survey);
    survey.faults
}
