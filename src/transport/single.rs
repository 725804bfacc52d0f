//! A connector that is asked for one address at a time.

use std::sync::Arc;

use super::{Connect, Connecting, Settings, race};
use crate::model::endpoint::Address;

/// Dials the addresses of an endpoint that has several, the preferred first and the next behind it (RFC 8305),
/// by a connector of the program, which need not know of such endpoints. What has one address or is a name
/// is left to that connector.
#[derive(Debug)]
pub(crate) struct Single(Arc<dyn Connect>);

impl Single {
    pub(crate) fn over(inner: Arc<dyn Connect>) -> Self {
        Self(inner)
    }
}

impl Connect for Single {
    fn connect(&self, address: &Address, settings: &Settings) -> Connecting {
        let Address::Several(several) = address else {
            return self.0.connect(address, settings);
        };
        let (inner, settings) = (self.0.clone(), settings.clone());
        let addresses = race::in_turn(several.all().collect());
        let within = settings.connect_timeout;
        let dial = move |address| inner.connect(&Address::Socket(address), &settings);
        Box::pin(race::first(addresses, within, dial))
    }
}
