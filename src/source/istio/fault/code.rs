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

            /// The codes under which `istioctl analyze` reports the same thing; empty where it does not.
            #[must_use]
            pub fn istio(self) -> &'static [&'static str] {
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
    Unreadable = "M001", &[], "The file cannot be read, is not UTF-8, or is too large.";
    Syntax = "M002", &[], "The text is not YAML.";
    DuplicateKey = "M003", &[], "The same key stands twice in one mapping.";
    MissingSeparator = "M004", &[], "Two objects follow each other without a line of three hyphens.";
    Budget = "M005", &[], "The document is too deep, too large, or expands its anchors too often.";
    NotAnObject = "M010", &[], "The document is not an object with apiVersion and kind.";
    UnknownKind = "M011", &[], "The API group has no such kind.";
    Version = "M012", &[], "The kind does not exist in this apiVersion.";
    NotEnforced = "M013", &[], "The kind is known, but what it says is not enforced.";
    NotRead = "M014", &[], "The kind does not concern a mesh and is not read.";
    DuplicateObject = "M015", &[], "Kind, namespace and name stand twice in one set of files.";
    Metadata = "M016", &["IST0106"], "Name, namespace or another part of the metadata is not valid.";
    UnknownField = "M020", &["IST0106"], "The kind has no such field.";
    Value = "M021", &["IST0106"], "The value has the wrong type, form or range.";
    NotSupported = "M022", &[], "The field is known, but not yet supported.";
    NoEffect = "M023", &["IST0133", "IST0157", "IST0166", "IST0167"], "The field has no effect in this client.";
    Deprecated = "M024", &["IST0002", "IST0135"], "The field is deprecated.";
    Rule = "M030", &["IST0106", "IST0122", "IST0125", "IST0149"], "The object breaks a rule of its kind.";
    Unreachable = "M031", &["IST0130"], "No request can reach the route.";
    Ineffective = "M032", &["IST0131"], "The match block repeats an earlier one.";
    NotFound = "M040", &["IST0101"], "A host, subset or port that is referred to does not exist.";
    HostClaimed = "M041", &["IST0109"], "Several VirtualServices or routes claim the same host; one wins.";
    PortRequired = "M042", &["IST0112"], "The service has several ports, so the destination must name one.";
    SubsetEmpty = "M043", &["IST0173"], "The labels of the subset select no endpoint.";
    HostUnknown = "M044", &["IST0174"], "The host of the DestinationRule is in no registry.";
    Conflict = "M045", &["IST0110", "IST0111", "IST0145", "IST0159", "IST0160"], "Two objects say different things about the same; one wins.";
    PortName = "M046", &["IST0118"], "The name of the port does not say its protocol.";
    NoEndpoints = "M047", &[], "Nothing is known of who serves the host.";
    SelectorEmpty = "M048", &["IST0127"], "The selector matches no workload.";
    ProtocolConflict = "M049", &["IST0177", "IST0116"], "Two objects say different things about what is spoken at one port.";
    Suspicious = "M050", &[], "Valid, but probably not what was meant.";
    Unproved = "M051", &[], "A policy asks who the caller is where callers need not prove it.";
    GrpcMethod = "M052", &[], "A policy names a method that gRPC never uses, for a port of gRPC.";
    TlsMismatch = "M053", &["IST0113"], "One side of a connection refuses what the other speaks.";
    PrincipalUnknown = "M054", &[], "A policy names an identity that no workload has.";
    ProbeDenied = "M055", &[], "A probe of the kubelet is refused.";
    ServicePort = "M056", &[], "The port is one of a service, and what counts is the port of its workload.";
    RootsOfSystem = "M057", &["IST0128", "IST0129"], "The server may be whoever an authority of the system vouches for.";
    SidecarDiffers = "M058", &[], "A sidecar would do otherwise.";
    GatewayHost = "M059", &["IST0132"], "The gateway that a VirtualService names does not take its host.";
    NotAccepted = "M060", &[], "The route's condition Accepted is False: it is attached to nothing.";
    UnresolvedRefs = "M061", &["IST0101"], "The route's condition ResolvedRefs is False: the share of a backend that it may not or cannot reach is answered with 500, or UNAVAILABLE for gRPC.";
    PartiallyInvalid = "M062", &[], "The route's condition PartiallyInvalid is True: a rule of it cannot be carried out, its requests are answered with 500, or UNAVAILABLE for gRPC.";
    AddressRequired = "M063", &["IST0134"], "A ServiceEntry has a port of TCP and no address.";
    TriesCut = "M064", &[], "The timeout of the call cuts tries short, or never lets them begin.";
    RetryToken = "M065", &[], "A token of retryOn says what another one contains.";
    RetryUnsafe = "M066", &[], "Requests that may have had an effect are repeated.";
    ShortConnections = "M067", &[], "Connections of HTTP/2 are renewed after a number of requests.";
    HalfQualified = "M068", &[], "A host with a dot is not completed, and is nobody's.";
    GatewayUnnamed = "M069", &[], "No VirtualService names the Gateway.";
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
