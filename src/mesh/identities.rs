//! Whom the process says it is, when its mesh starts.

use std::sync::Arc;

use crate::error::Error;
use crate::random::Random;
use crate::tls::{Clock, Materials, Source};

use super::tasks::Tasks;

/// Where a mesh has its credentials from: its own, and those that configurations name.
pub(super) struct Identities {
    pub(super) own: Option<Source>,
    pub(super) named: Vec<(Arc<str>, Source)>,
}

impl Identities {
    /// Begins with what is there; `tasks` keep it fresh.
    ///
    /// # Errors
    /// All sources that contradict themselves: their handshakes would fail for ever. Nothing has begun then.
    pub(super) fn start(
        self,
        clock: Clock,
        random: &Random,
        tasks: &Tasks,
    ) -> Result<Materials, Error> {
        let mut faults = Vec::new();
        if let Some(Err(fault)) = self.own.as_ref().map(Source::consistent) {
            faults.push(format!("identity: {fault}"));
        }
        for (name, source) in &self.named {
            if let Err(fault) = source.consistent() {
                faults.push(format!("credential {name}: {fault}"));
            }
        }
        if !faults.is_empty() {
            return Err(Error::config(faults.join("\n")));
        }
        let begin = |source: Source| {
            let (credentials, upkeep) = source.start(clock, random);
            if let Some(upkeep) = upkeep {
                tasks.spawn(upkeep);
            }
            credentials
        };
        let materials = Materials::new(self.own.map(begin), clock);
        for (name, source) in self.named {
            materials.put_named(name, begin(source));
        }
        Ok(materials)
    }
}
