//! What happens to requests for hosts that nobody declared.

/// What happens to requests for hosts that are not in the registry
/// (`MeshConfig.outboundTrafficPolicy`, `Sidecar.outboundTrafficPolicy`).
///
/// ```
/// use meshwork::model::OutboundTraffic;
///
/// assert_eq!(OutboundTraffic::default(), OutboundTraffic::AllowAny);
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum OutboundTraffic {
    /// They are sent to where DNS says, without policies (`ALLOW_ANY`).
    #[default]
    AllowAny,
    /// They are refused with 502 (`REGISTRY_ONLY`).
    RegistryOnly,
}
