//! Faults that are injected on purpose.

use super::value;
use crate::model::fault::{Abort, AbortStatus, Amount, Delay, Fault};
use crate::source::xds::proto::{fault as wire, fault_delay};

/// The filter that injects them.
pub(super) const FILTER: &str = "envoy.filters.http.fault";

pub(super) fn fault(model: &Fault) -> wire::HttpFault {
    let Fault {
        delay,
        abort,
        max_active,
    } = model;
    wire::HttpFault {
        delay: delay.as_ref().map(self::delay),
        abort: abort.as_ref().map(self::abort),
        max_active_faults: max_active.map(|max| value::number(max.get())),
        ..wire::HttpFault::default()
    }
}

fn delay(model: &Delay) -> fault_delay::FaultDelay {
    use fault_delay::fault_delay::{FaultDelaySecifier as Specifier, HeaderDelay};
    let Delay { duration, share } = model;
    let specifier = match duration {
        Amount::Fixed(duration) => Specifier::FixedDelay(value::limit(*duration)),
        Amount::Header => Specifier::HeaderDelay(HeaderDelay::default()),
    };
    fault_delay::FaultDelay {
        percentage: Some(value::fraction(*share)),
        fault_delay_secifier: Some(specifier),
    }
}

fn abort(model: &Abort) -> wire::FaultAbort {
    use wire::fault_abort::{ErrorType, HeaderAbort};
    let Abort { status, share } = model;
    let error = match status {
        Amount::Fixed(AbortStatus::Http(status)) => {
            ErrorType::HttpStatus(u32::from(status.as_u16()))
        }
        Amount::Fixed(AbortStatus::Grpc(code)) => ErrorType::GrpcStatus(*code),
        Amount::Header => ErrorType::HeaderAbort(HeaderAbort::default()),
    };
    wire::FaultAbort {
        percentage: Some(value::fraction(*share)),
        error_type: Some(error),
        ..wire::FaultAbort::default()
    }
}
