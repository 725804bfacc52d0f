//! What is refused, with path and text: one row for each rule (catalogue D; gRFC A27 to A83).

mod accepted;
mod actions;
mod balancing;
mod claims;
mod clusters;
mod discovery;
mod doors;
mod endpoints;
mod filters;
mod health;
mod listeners;
mod policies;
mod rbac;
mod routes;
mod secrets;
mod security;
mod servers;
mod settings;
#[cfg(feature = "jwt")]
mod tokens;
mod trust;

use prost::Message;

use super::decode;
use crate::source::xds::Kind;
use crate::source::xds::proto::{Duration, UInt32Value};

/// What is told of the message; empty if it is accepted.
fn told(kind: Kind, message: &impl Message) -> String {
    match decode(kind, &message.encode_to_vec()) {
        Ok(_) => String::new(),
        Err(rejection) => rejection.to_string(),
    }
}

#[track_caller]
fn refused(kind: Kind, message: &impl Message, expected: &str) {
    let told = told(kind, message);
    assert!(
        told.contains(expected),
        "wanted {expected:?}, was told {told:?}"
    );
}

fn seconds(seconds: i64) -> Option<Duration> {
    Some(Duration { seconds, nanos: 0 })
}

fn number(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}
