//! One test per rule, each with the text that users see.

mod access;
mod destination_rule;
mod gateway;
mod gateway_api;
mod kubernetes;
mod mesh;
mod peer_authentication;
mod rate_limit;
mod service_entry;
mod support;
mod telemetry;
mod token;
mod virtual_service;

use crate::source::istio::{Faults, Options, Severity, read};

/// An object of a kind with a spec in flow style, in namespace `my-app`.
fn object(kind: &str, spec: &str) -> String {
    let version = match kind {
        "Service" | "Pod" | "Endpoints" | "Namespace" => "v1",
        "EndpointSlice" => "discovery.k8s.io/v1",
        "Deployment" => "apps/v1",
        "BackendTLSPolicy" | "HTTPRoute" | "GRPCRoute" | "ReferenceGrant" => {
            "gateway.networking.k8s.io/v1"
        }
        "XBackendTrafficPolicy" => "gateway.networking.x-k8s.io/v1alpha1",
        "AuthorizationPolicy" | "PeerAuthentication" | "RequestAuthentication" => {
            "security.istio.io/v1"
        }
        "Telemetry" => "telemetry.istio.io/v1",
        "HTTPLocalRateLimitPolicy" => "policy.linkerd.io/v1alpha1",
        "Server" => "policy.linkerd.io/v1beta3",
        _ => "networking.istio.io/v1",
    };
    let body = match kind {
        "EndpointSlice" | "Endpoints" | "Pod" => spec.to_owned(),
        _ => format!("spec: {spec}"),
    };
    format!(
        "apiVersion: {version}\nkind: {kind}\nmetadata: {{name: catalog, namespace: my-app}}\n\
         {body}\n"
    )
}

fn faults(kind: &str, spec: &str) -> Faults {
    read([("test.yaml", object(kind, spec))], &Options::default()).faults
}

/// The messages of one severity, without the object that they begin with.
fn messages(faults: &Faults, severity: Severity) -> Vec<String> {
    let of_severity = faults.iter().filter(|fault| fault.severity() == severity);
    of_severity
        .map(|fault| {
            let message = fault.message();
            let object = fault.object().map(ToString::to_string).unwrap_or_default();
            let rest = message.strip_prefix(&object).unwrap_or(&message);
            rest.trim_start_matches(": ").trim_start().to_owned()
        })
        .collect()
}

/// The rule refuses the spec with exactly this text, and says nothing else.
#[track_caller]
fn refuses(kind: &str, spec: &str, message: &str) {
    let faults = faults(kind, spec);
    assert_eq!(messages(&faults, Severity::Error), [message], "{faults}");
}

/// The rule lets the spec pass with exactly this warning.
#[track_caller]
fn warns(kind: &str, spec: &str, message: &str) {
    let faults = faults(kind, spec);
    assert_eq!(messages(&faults, Severity::Error), [""; 0], "{faults}");
    assert_eq!(messages(&faults, Severity::Warning), [message], "{faults}");
}

/// Nothing is said about the spec.
#[track_caller]
fn accepts(kind: &str, spec: &str) {
    let faults = faults(kind, spec);
    assert!(faults.is_empty(), "{faults}");
}

/// Declares a test per rule: `name: check(shape, text) => message`.
macro_rules! rule_tests {
    ($($name:ident: $check:ident($shape:expr, $text:expr) => $message:expr;)*) => {$(
        #[test]
        fn $name() {
            let (kind, spec) = $shape($text);
            $check(kind, &spec, $message);
        }
    )*};
}
use rule_tests;
