//! What the mesh configuration says where an object says nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::kinds::{
    AccessLogEncoding, ExtensionProvider, GoDuration, LocalitySetting, NormalizationKind, Retries,
    TrafficPolicy,
};
use super::kinds::{
    H2UpgradePolicy, Kind, MeshConfig, Object, OutboundMode, OutboundTrafficPolicy,
};
use super::registry::Visibility;
use super::yaml::Located;
use crate::model::OutboundTraffic;
use crate::model::inbound::Normalization;
use crate::model::telemetry::LineFormat;

/// MeshConfig's `rootNamespace`.
const ROOT_NAMESPACE: &str = "istio-system";
/// MeshConfig's `trustDomain`.
const TRUST_DOMAIN: &str = "cluster.local";
/// MeshConfig's `connectTimeout`.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// MeshConfig's `dnsRefreshRate`.
const DNS_REFRESH: Duration = Duration::from_secs(60);

/// The trust domain of identities in a mesh of these objects.
#[cfg(feature = "outbound")]
pub(crate) fn trust_domain(objects: &[Object]) -> String {
    let objects: Vec<&Object> = objects.iter().collect();
    let mut domains = Defaults::of(&objects).trust_domains();
    domains.next().unwrap_or(TRUST_DOMAIN).to_owned()
}

/// The defaults of a set of objects.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Defaults<'a> {
    config: Option<&'a MeshConfig>,
}

impl<'a> Defaults<'a> {
    /// Those of the mesh configuration among the objects; reading has refused a second one.
    pub(super) fn of(objects: &[&'a Object]) -> Self {
        let config = objects.iter().find_map(|object| match &object.kind {
            Kind::MeshConfig(config) => Some(&**config),
            _other_kinds => None,
        });
        Self { config }
    }

    /// Policy in this namespace is for the whole mesh.
    pub(super) fn root_namespace(self) -> &'a str {
        let said = self
            .config
            .and_then(|config| config.root_namespace.as_ref());
        said.map_or(ROOT_NAMESPACE, |name| name.as_str())
    }

    /// The trust domains whose identities are those of the mesh, its own first.
    pub(super) fn trust_domains(self) -> impl Iterator<Item = &'a str> {
        let own = self.config.and_then(|config| config.trust_domain.as_ref());
        let own = own.map_or(TRUST_DOMAIN, |domain| domain.as_str());
        let aliases = self.config.map(|config| &config.trust_domain_aliases);
        let aliases = aliases.into_iter().flatten().map(|domain| domain.as_str());
        std::iter::once(own).chain(aliases)
    }

    /// Whether mutual TLS is automatic.
    pub(super) fn auto_mtls(self) -> bool {
        self.config
            .and_then(|config| config.enable_auto_mtls)
            .unwrap_or(true)
    }

    /// What becomes of paths that can be read in two ways.
    pub(super) fn normalization(self) -> Normalization {
        let said = self
            .config
            .and_then(|config| config.path_normalization.as_ref());
        match said.map(|said| said.normalization).unwrap_or_default() {
            NormalizationKind::Default => Normalization::Reject,
            NormalizationKind::None => Normalization::None,
            NormalizationKind::Base => Normalization::Base,
            NormalizationKind::MergeSlashes => Normalization::MergeSlashes,
            NormalizationKind::DecodeAndMergeSlashes => Normalization::DecodeAndMergeSlashes,
        }
    }

    /// What the mesh works with outside of it.
    pub(super) fn providers(self) -> &'a [Located<ExtensionProvider>] {
        self.config
            .map(|config| &config.extension_providers[..])
            .unwrap_or_default()
    }

    /// The providers of logs where no Telemetry names one; a file alone means that of Envoy.
    pub(super) fn log_providers(self) -> Vec<Arc<str>> {
        let config = self.config;
        let named = config.and_then(|config| config.default_providers.as_ref());
        let named = named.map(|providers| &providers.access_logging[..]);
        match named.unwrap_or_default() {
            [] if self.log_file().is_some() => vec!["envoy".into()],
            named => named.iter().map(|name| name.as_str().into()).collect(),
        }
    }

    /// The provider of spans where no Telemetry names one.
    pub(super) fn trace_provider(self) -> Option<&'a str> {
        let providers = self.config?.default_providers.as_ref()?;
        providers.tracing.first().map(|name| name.as_str())
    }

    /// The file of the provider `envoy`.
    pub(super) fn log_file(self) -> Option<&'a str> {
        let path = self.config?.access_log_file.as_ref()?.as_str();
        (!path.is_empty()).then_some(path)
    }

    /// How its lines look.
    pub(super) fn log_format(self) -> LineFormat {
        let json = self
            .config
            .is_some_and(|config| config.access_log_encoding == AccessLogEncoding::Json);
        let written = self
            .config
            .and_then(|config| config.access_log_format.as_ref());
        match (written.filter(|text| !text.is_empty()), json) {
            (None, true) => LineFormat::Json,
            (None, false) => LineFormat::Text,
            (Some(text), false) => LineFormat::Words(text.as_str().into()),
            // Reading has refused what is no object of texts.
            (Some(text), true) => serde_json::from_str::<BTreeMap<String, String>>(text).map_or(
                LineFormat::Json,
                |all| {
                    let pairs = all.iter();
                    LineFormat::Labels(
                        pairs
                            .map(|(name, text)| (name.as_str().into(), text.as_str().into()))
                            .collect(),
                    )
                },
            ),
        }
    }

    pub(super) fn connect_timeout(self) -> Duration {
        positive(self.config.and_then(|config| config.connect_timeout)).unwrap_or(CONNECT_TIMEOUT)
    }

    pub(super) fn dns_refresh(self) -> Duration {
        positive(self.config.and_then(|config| config.dns_refresh_rate)).unwrap_or(DNS_REFRESH)
    }

    pub(super) fn retries(self) -> Option<&'a Retries> {
        let block = self.config?.default_http_retry_policy.as_ref()?;
        Some(&block.value)
    }

    pub(super) fn traffic_policy(self) -> Option<&'a Located<TrafficPolicy>> {
        self.config?.default_traffic_policy.as_ref()
    }

    /// Which endpoints are near, and what share each locality gets.
    pub(super) fn locality(self) -> Option<&'a Located<LocalitySetting>> {
        self.config?.locality_lb_setting.as_ref()
    }

    /// Whether HTTP/1.1 ports are called by HTTP/2.
    pub(super) fn upgrades(self) -> bool {
        let said = self.config.and_then(|config| config.h2_upgrade_policy);
        said == Some(H2UpgradePolicy::Upgrade)
    }

    pub(super) fn outbound_traffic(self) -> Option<OutboundTraffic> {
        let policy = self.config?.outbound_traffic_policy.as_ref()?;
        Some(traffic(policy))
    }

    /// Who sees a service of the namespace `own`.
    pub(super) fn service<'e>(
        self,
        exported: impl Iterator<Item = &'e str>,
        own: &str,
    ) -> Visibility {
        let list = self.config.map(|config| &config.default_service_export_to);
        visibility(exported, own, list)
    }

    /// Who sees a VirtualService of the namespace `own`.
    pub(super) fn virtual_service<'e>(
        self,
        exported: impl Iterator<Item = &'e str>,
        own: &str,
    ) -> Visibility {
        let list = self
            .config
            .map(|config| &config.default_virtual_service_export_to);
        visibility(exported, own, list)
    }

    /// Who sees a DestinationRule of the namespace `own`.
    pub(super) fn destination_rule<'e>(
        self,
        exported: impl Iterator<Item = &'e str>,
        own: &str,
    ) -> Visibility {
        let list = self
            .config
            .map(|config| &config.default_destination_rule_export_to);
        visibility(exported, own, list)
    }
}

/// What a policy means.
pub(super) fn traffic(policy: &OutboundTrafficPolicy) -> OutboundTraffic {
    match policy.mode {
        OutboundMode::AllowAny => OutboundTraffic::AllowAny,
        OutboundMode::RegistryOnly => OutboundTraffic::RegistryOnly,
    }
}

fn visibility<'e>(
    exported: impl Iterator<Item = &'e str>,
    own: &str,
    default: Option<&Vec<Located<String>>>,
) -> Visibility {
    let mut exported = exported.peekable();
    if exported.peek().is_some() {
        return Visibility::read(exported, own);
    }
    let default = default.into_iter().flatten();
    Visibility::read(default.map(|entry| entry.value.as_str()), own)
}

fn positive(duration: Option<GoDuration>) -> Option<Duration> {
    duration
        .map(Duration::from)
        .filter(|duration| !duration.is_zero())
}
