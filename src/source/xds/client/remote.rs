//! One server: its stream, and when the next one is begun.
//!
//! A stream that ended before any response is a failure, and the next is begun later each time: 1 s,
//! then 1.6 times as long, up to 120 s, each 20 % more or less (gRPC's connection back-off, as A57
//! has it). One that ended after a response is none: servers end streams to spread their clients,
//! and what is known stays known. gRPC begins the next at once; here it is begun within a second, at
//! a time that is drawn, so that a server that restarts does not meet all of its clients in one
//! moment, and one that ends each stream behind its first response is not asked in a circle.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::random::Random;
use crate::source::xds::Kind;
use crate::source::xds::ads::Ads;
use crate::source::xds::bootstrap::Server;

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(120);
const GROWTH: f64 = 1.6;

/// A server and the state of its stream.
#[derive(Debug)]
pub(crate) struct Remote {
    pub(crate) server: Arc<Server>,
    pub(crate) ads: Ads,
    link: Link,
    /// Streams in a row that ended before any response.
    failures: u32,
    /// Why the last stream ended, while no response has come since.
    pub(crate) trouble: Option<Arc<str>>,
    pub(crate) counters: Counters,
}

/// The state of a stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Link {
    /// There is none.
    Down,
    /// It has begun; `heard`: a response has come.
    Up { heard: bool },
    /// There is none before this time.
    Waiting(Instant),
}

/// What shall become of a stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Wish {
    /// A stream shall begin.
    Begin,
    /// The stream that there is shall go on.
    Continue,
    /// There shall be none.
    Rest,
    /// A stream shall begin at this time.
    Wait(Instant),
}

/// What was counted of a server (gRFC A78).
#[derive(Clone, Debug, Default)]
pub(crate) struct Counters {
    /// `grpc.xds_client.server_failure`
    pub(crate) failures: u64,
    /// `grpc.xds_client.resource_updates_valid`
    pub(crate) valid: BTreeMap<Kind, u64>,
    /// `grpc.xds_client.resource_updates_invalid`
    pub(crate) invalid: BTreeMap<Kind, u64>,
    pub(crate) streams: u64,
}

impl Remote {
    pub(crate) fn new(server: Arc<Server>) -> Self {
        Self {
            ads: Ads::new(server.features.delta),
            server,
            link: Link::Down,
            failures: 0,
            trouble: None,
            counters: Counters::default(),
        }
    }

    pub(super) fn wish(&self, active: bool) -> Wish {
        match self.link {
            Link::Up { .. } if active => Wish::Continue,
            Link::Up { .. } => Wish::Rest,
            Link::Down | Link::Waiting(_) if !active || !self.ads.is_needed() => Wish::Rest,
            Link::Down => Wish::Begin,
            Link::Waiting(until) => Wish::Wait(until),
        }
    }

    pub(super) fn begin(&mut self, now: Instant) {
        tracing::debug!(target: "meshwork::source::xds", server = %self.server, ?now, "stream begins");
        self.counters.streams += 1;
        self.link = Link::Up { heard: false };
        self.ads.begin();
    }

    /// A response has come; returns whether it is the first of the stream.
    pub(super) fn hear(&mut self) -> bool {
        self.failures = 0;
        self.trouble = None;
        std::mem::replace(&mut self.link, Link::Up { heard: true }) != Link::Up { heard: true }
    }

    /// Whether it is connected: a response has come on the stream that there is.
    pub(crate) fn is_connected(&self) -> bool {
        self.link == Link::Up { heard: true }
    }

    /// The stream has ended; returns whether that is a failure.
    pub(super) fn end(&mut self, why: &str, random: &Random, now: Instant) -> bool {
        let heard = self.is_connected();
        let pause = if heard {
            FIRST_PAUSE.mul_f64(random.unit())
        } else {
            self.failures = self.failures.saturating_add(1);
            self.counters.failures += 1;
            let text = format!("the control plane {} cannot be reached: {why}", self.server);
            self.trouble = Some(text.into());
            pause(self.failures, random)
        };
        self.link = Link::Waiting(now + pause);
        self.ads.begin();
        if heard {
            tracing::info!(target: "meshwork::source::xds", server = %self.server, why, ?pause, "stream ended");
        } else {
            tracing::warn!(target: "meshwork::source::xds", server = %self.server, why, ?pause, "no stream");
        }
        !heard
    }

    /// The stream was given up from this side.
    pub(super) fn rest(&mut self) {
        self.link = Link::Down;
        self.ads.begin();
    }
}

/// The pause after this many failures.
fn pause(failures: u32, random: &Random) -> Duration {
    let exponent = failures.saturating_sub(1).min(64);
    let exact = FIRST_PAUSE.as_secs_f64() * GROWTH.powi(exponent.cast_signed());
    let exact = exact.min(LONGEST_PAUSE.as_secs_f64());
    random.around(Duration::from_secs_f64(exact))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c11_pauses_grow_to_two_minutes_each_a_fifth_more_or_less() {
        let random = Random::seeded(1);
        let mut exact = 1.0_f64;
        for failures in 1..40 {
            let share = pause(failures, &random).as_secs_f64() / exact;
            assert!((0.8..=1.2).contains(&share), "{failures}: {share}");
            exact = (exact * 1.6).min(120.0);
        }
        let first: Vec<Duration> = (0..100).map(|_| pause(1, &random)).collect();
        let (least, most) = (first.iter().min().unwrap(), first.iter().max().unwrap());
        assert!(
            *most - *least > Duration::from_millis(300),
            "{least:?} to {most:?}"
        );
        assert!(pause(u32::MAX, &random) <= Duration::from_secs(144));
    }
}
