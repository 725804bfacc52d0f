//! An explanation for programs.
//!
//! Durations are milliseconds in fields that end with `_ms`, shares are from 0 to 1, `null` is "none"
//! or "no limit".

use std::time::Duration;

use meshwork::explain::{
    Considered, End, EndpointState, Explanation, Forwarded, Host, Outcome, Refusal, Times, Verdict,
};
use meshwork::model::Fraction;
use serde_json::{Value, json};

pub(crate) fn explanation(explained: &Explanation) -> Value {
    json!({
        "request": explained.request,
        "generation": explained.generation,
        "virtual_host": host(&explained.host),
        "routes": explained.routes.iter().map(considered).collect::<Vec<_>>(),
        "outcomes": explained.outcomes.iter().map(outcome).collect::<Vec<_>>(),
        "told": explained.told.iter().map(|told| json!({
            "what": told.what,
            "origin": told.origin.as_ref().map(ToString::to_string),
        })).collect::<Vec<_>>(),
    })
}

fn host(host: &Host) -> Value {
    match host {
        Host::Found {
            name,
            domains,
            origin,
            ..
        } => json!({"name": **name, "domains": domains, "origin": origin.to_string()}),
        Host::Unknown => json!({"name": null, "passed_through": true}),
        _ => Value::Null,
    }
}

fn considered(route: &Considered) -> Value {
    let mut value = json!({
        "name": *route.name,
        "matches": route.matcher,
        "origin": route.origin.to_string(),
        "taken": 0.0,
    });
    match &route.verdict {
        Verdict::Mismatch { wanted, found, .. } => {
            value["wanted"] = json!(wanted);
            value["found"] = json!(found);
        }
        Verdict::Taken(share) => value["taken"] = json!(share),
        _ => value["reached"] = json!(false),
    }
    value
}

fn outcome(outcome: &Outcome) -> Value {
    let (kind, end) = match &outcome.end {
        End::Direct { status, bytes, .. } => (
            "direct",
            json!({"status": status.as_u16(), "body_bytes": bytes}),
        ),
        End::Forward(forwarded) => ("forward", forward(forwarded)),
        End::Redirect {
            status, location, ..
        } => (
            "redirect",
            json!({"status": status.as_u16(), "location": location}),
        ),
        End::Refused(refusal) => ("error", refused(refusal)),
        _ => ("other", Value::Null),
    };
    let delay = outcome
        .delay
        .map(|(held, share)| json!({"ms": millis(Some(held)), "share": part(share)}));
    let mut value = json!({
        "share": outcome.share,
        "route": outcome.route.as_deref(),
        "origin": outcome.origin.to_string(),
        "delay": delay,
        "limits": outcome.limits,
        "response_changes": outcome.response_changes,
    });
    value[kind] = end;
    value
}

fn refused(refusal: &Refusal) -> Value {
    json!({
        "status": refusal.status.as_u16(),
        "grpc_status": refusal.grpc_status,
        "flag": refusal.flag.map(|flag| flag.code()),
        "text": refusal.text,
    })
}

fn forward(forwarded: &Forwarded) -> Value {
    let retry = forwarded.retry.as_ref().map(|retry| {
        json!({
            "on": retry.on,
            "retries": retry.retries,
            "limit": retry.limit,
            "hedge_ms": millis(retry.hedge),
        })
    });
    let mirrors = forwarded.mirrors.iter().map(|mirror| {
        json!({
            "cluster": *mirror.cluster,
            "share": part(mirror.share),
            "exists": mirror.exists,
        })
    });
    let limits = forwarded
        .limits
        .iter()
        .map(|limit| json!({"name": limit.name, "now": limit.now, "limit": limit.limit}));
    let endpoints = forwarded.endpoints.iter().map(|member| {
        json!({
            "address": *member.address,
            "hostname": member.hostname,
            "weight": member.weight,
            "priority": member.priority,
            "state": match member.state {
                EndpointState::Admitted => "admitted",
                EndpointState::Ejected => "ejected",
                _ => "unhealthy",
            },
        })
    });
    json!({
        "cluster": *forwarded.cluster,
        "origin": forwarded.origin.to_string(),
        "uri": forwarded.uri,
        "request_changes": forwarded.request_changes,
        "session": forwarded.session,
        "times": times(&forwarded.times),
        "retry": retry,
        "mirrors": mirrors.collect::<Vec<_>>(),
        "balancing": forwarded.balancing,
        "protocol": format!("{:?}", forwarded.protocol),
        "security": forwarded.security,
        "connect_timeout_ms": millis(Some(forwarded.connect_timeout)),
        "limits": limits.collect::<Vec<_>>(),
        "ejection": forwarded.ejection,
        "endpoints": endpoints.collect::<Vec<_>>(),
        "endpoints_origin": forwarded.endpoints_origin.to_string(),
        "panicking": forwarded.panicking,
        "failure": forwarded.failure.as_ref().map(refused),
    })
}

fn times(times: &Times) -> Value {
    json!({
        "timeout_ms": millis(times.timeout),
        "per_try_ms": millis(times.per_try),
        "idle_ms": millis(times.idle),
        "caller_ms": millis(times.caller),
        "attempts": times.attempts,
        "attempts_if_slow": times.attempts_if_slow,
        "worst_case_ms": millis(times.worst_case),
    })
}

fn millis(time: Option<Duration>) -> Option<f64> {
    time.map(|time| time.as_secs_f64() * 1_000.0)
}

fn part(share: Fraction) -> f64 {
    f64::from(share.parts_per_million()) / 1_000_000.0
}
