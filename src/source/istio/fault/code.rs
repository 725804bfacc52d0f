//! The kinds of faults and how much they weigh.

use std::fmt;

/// Whether a configuration with this fault can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Severity {
    /// It cannot; nothing of the new configuration takes effect.
    Error,
    /// It can, but something in it does not do what one may believe.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// Declares the codes once: variant, number, Istio's code for the same thing, meaning.
macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $istio:expr, $meaning:literal;)*) => {
        /// The kind of a fault, with a number that does not change between versions.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Code {
            $(#[doc = $meaning] $name,)*
        }

        impl Code {
            /// Every code, in the order of the numbers.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The number, such as `M021`.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// The code under which `istioctl analyze` reports the same thing, if it does.
            #[must_use]
            pub fn istio(self) -> Option<&'static str> {
                match self { $(Self::$name => $istio,)* }
            }

            /// One line on what it means.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning,)* }
            }
        }
    };
}

codes! {
    Unreadable = "M001", None, "The file cannot be read, is not UTF-8, or is too large.";
    Syntax = "M002", None, "The text is not YAML.";
    DuplicateKey = "M003", None, "The same key stands twice in one mapping.";
    MissingSeparator = "M004", None, "Two objects follow each other without a line of three hyphens.";
    Budget = "M005", None, "The document is too deep, too large, or expands its anchors too often.";
    NotAnObject = "M010", None, "The document is not an object with apiVersion and kind.";
    UnknownKind = "M011", None, "The API group has no such kind.";
    Version = "M012", None, "The kind does not exist in this apiVersion.";
    NotEnforced = "M013", None, "The kind is known, but what it says is not enforced.";
    NotRead = "M014", None, "The kind does not concern a mesh and is not read.";
    DuplicateObject = "M015", None, "Kind, namespace and name stand twice in one set of files.";
    Metadata = "M016", Some("IST0106"), "Name, namespace or another part of the metadata is not valid.";
    UnknownField = "M020", Some("IST0106"), "The kind has no such field.";
    Value = "M021", Some("IST0106"), "The value has the wrong type, form or range.";
    NotSupported = "M022", None, "The field is known, but not yet supported.";
    NoEffect = "M023", None, "The field has no effect in this client.";
    Deprecated = "M024", Some("IST0002"), "The field is deprecated.";
    Rule = "M030", Some("IST0106"), "The object breaks a rule of its kind.";
    Unreachable = "M031", Some("IST0130"), "No request can reach the route.";
    Ineffective = "M032", Some("IST0131"), "The match block repeats an earlier one.";
    NotFound = "M040", Some("IST0101"), "A host, subset or port that is referred to does not exist.";
    HostClaimed = "M041", Some("IST0109"), "Several VirtualServices or routes claim the same host; one wins.";
    PortRequired = "M042", Some("IST0112"), "The service has several ports, so the destination must name one.";
    SubsetEmpty = "M043", Some("IST0173"), "The labels of the subset select no endpoint.";
    HostUnknown = "M044", Some("IST0174"), "The host of the DestinationRule is in no registry.";
    Conflict = "M045", None, "Two objects say different things about the same; one wins.";
    PortName = "M046", Some("IST0118"), "The name of the port does not say its protocol.";
    NoEndpoints = "M047", None, "Nothing is known of who serves the host.";
    SelectorEmpty = "M048", Some("IST0127"), "The selector matches no workload.";
    ProtocolConflict = "M049", Some("IST0177"), "Two objects say different things about what is spoken at one port.";
    Suspicious = "M050", None, "Valid, but probably not what was meant.";
    Unproved = "M051", None, "A policy asks who the caller is where callers need not prove it.";
    GrpcMethod = "M052", None, "A policy names a method that gRPC never uses, for a port of gRPC.";
    TlsMismatch = "M053", None, "One side of a connection refuses what the other speaks.";
    PrincipalUnknown = "M054", None, "A policy names an identity that no workload has.";
    ProbeDenied = "M055", None, "A probe of the kubelet is refused.";
    ServicePort = "M056", None, "The port is one of a service, and what counts is the port of its workload.";
    RootsOfSystem = "M057", Some("IST0128"), "The server may be whoever an authority of the system vouches for.";
    SidecarDiffers = "M058", None, "A sidecar would do otherwise.";
    NotAccepted = "M060", None, "The route's condition Accepted is False: it is attached to nothing.";
    UnresolvedRefs = "M061", Some("IST0101"), "The route's condition ResolvedRefs is False: the share of a backend that it may not or cannot reach is answered with 500, or UNAVAILABLE for gRPC.";
    PartiallyInvalid = "M062", None, "The route's condition PartiallyInvalid is True: a rule of it cannot be carried out, its requests are answered with 500, or UNAVAILABLE for gRPC.";
    HostNotServed = "M063", Some("IST0132"), "No server of the Gateways that the VirtualService names has its host.";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_ascending() {
        let numbers: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert!(numbers.is_sorted_by(|left, right| left < right));
        assert!(Code::ALL.iter().all(|code| code.meaning().ends_with('.')));
    }
}
