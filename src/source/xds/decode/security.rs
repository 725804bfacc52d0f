//! How connections are secured (gRFC A29, A82, A101; Envoy's and istiod's spellings of it).
//!
//! Nothing here is ignored: what would be checked elsewhere and is not checked here refuses the
//! cluster, because the traffic that it would let through is what the field is there to stop. Only
//! what makes this side stricter than asked (an expired certificate that would be allowed) is left
//! out.

use std::path::Path;
use std::sync::Arc;

use super::place::{Place, Quoted};
use super::{Scope, certificates, value};
use crate::model::matcher::StringMatcher;
use crate::model::security::{Alpn, ClientTls, Files, Material, Security, Sni, Verification};
use crate::model::server::{CallerTls, ServerTls};
use crate::source::xds::extra::{ClusterExtra, MaterialExtra, TlsExtra};
use crate::source::xds::proto::{cluster as wire, core, raw_buffer, tls};
use tls::common_tls_context::ValidationContextType as Validation;

/// The longest name of a server (gRFC A101).
const MAX_SNI: usize = 255;

pub(super) fn security(
    scope: Scope<'_>,
    place: &Place<'_>,
    message: &wire::Cluster,
    extra: &ClusterExtra,
) -> Option<Security> {
    if message.transport_socket_matcher.is_some() {
        return place.field("transport_socket_matcher").fault(
            "chooses a transport by a tree, which is not supported; use \"transport_socket\"",
        );
    }
    let reader = Reader {
        scope,
        cluster: &message.name,
        extra: extra.tls.as_ref(),
    };
    if !message.transport_socket_matches.is_empty() {
        let place = place.field("transport_socket_matches");
        return reader.automatic(&place, &message.transport_socket_matches);
    }
    let Some(socket) = &message.transport_socket else {
        return Some(Security::Plaintext);
    };
    let socket = reader.socket(&place.field("transport_socket"), socket)?;
    Some(socket.map_or(Security::Plaintext, |tls| Security::Tls(Arc::new(tls))))
}

/// How a server's connections are encrypted: what callers are shown, and what they have to show.
pub(super) fn server(
    scope: Scope<'_>,
    place: &Place<'_>,
    common: &tls::CommonTlsContext,
    required: bool,
) -> Option<ServerTls> {
    let reader = Reader {
        scope,
        cluster: "",
        extra: None,
    };
    let refused = certificates::unsupported(place, common);
    let identity = match reader.identity(place, common) {
        Some(None) => place.fault(
            "presents no certificate; tls_certificate_provider_instance and files are allowed",
        ),
        Some(some) => some,
        None => None,
    };
    let callers = match (&common.validation_context_type, required) {
        (None, false) => Some(None),
        (None, true) => place.field("validation_context").fault(
            "is missing, and require_client_certificate is true; say whose certificates are \
             believed",
        ),
        (Some(_), _) => reader.callers(place, common, required).map(Some),
    };
    refused?;
    Some(ServerTls {
        identity: identity?,
        callers: callers?,
    })
}

/// Reads the TLS of one cluster or of one server.
pub(super) struct Reader<'a> {
    pub(super) scope: Scope<'a>,
    cluster: &'a str,
    /// What this library says beside the transport socket.
    extra: Option<&'a TlsExtra>,
}

impl Reader<'_> {
    /// What callers of a server have to show.
    fn callers(
        &self,
        place: &Place<'_>,
        common: &tls::CommonTlsContext,
        required: bool,
    ) -> Option<CallerTls> {
        let (trust, names) = self.trust(place, common)?;
        if trust == Material::System {
            let at = match &common.validation_context_type {
                Some(Validation::CombinedValidationContext(_)) => {
                    "combined_validation_context.default_validation_context.system_root_certs"
                }
                _ => "validation_context.system_root_certs",
            };
            return place.field(at).fault(
                "is for clients (gRFC A82): whom the public authorities vouch for is anybody; use \
                 ca_certificate_provider_instance or trusted_ca",
            );
        }
        Some(CallerTls {
            trust,
            names,
            required,
        })
    }

    /// Istio's pair: TLS to endpoints whose `tlsMode` is `istio`, plain text to the others.
    fn automatic(
        &self,
        place: &Place<'_>,
        all: &[wire::cluster::TransportSocketMatch],
    ) -> Option<Security> {
        let refuse = || {
            place.fault(
                "chooses transports in another way than Istio's, which is not supported: TLS for \
                 endpoints whose tlsMode is \"istio\", then plain text for the others",
            )
        };
        let [meshed, other] = all else {
            return refuse();
        };
        let first = place.index(0);
        let (first, second) = (first.field("transport_socket"), place.index(1));
        let tls = first
            .required(meshed.transport_socket.as_ref())
            .and_then(|socket| self.socket(&first, socket));
        let plain = match &other.transport_socket {
            None => Some(None),
            Some(socket) => self.socket(&second.field("transport_socket"), socket),
        };
        let wants_istio = meshed.r#match.as_ref().is_some_and(is_istio);
        let takes_all = other
            .r#match
            .as_ref()
            .is_none_or(|one| one.fields.is_empty());
        match (tls?, plain?) {
            (Some(tls), None) if wants_istio && takes_all => {
                Some(Security::Automatic(Arc::new(tls)))
            }
            _ => refuse(),
        }
    }

    /// `Some(None)`: plain text, and it says so.
    fn socket(
        &self,
        place: &Place<'_>,
        socket: &core::TransportSocket,
    ) -> Option<Option<ClientTls>> {
        use core::transport_socket::ConfigType;
        let place = place.field("typed_config");
        let Some(ConfigType::TypedConfig(any)) = &socket.config_type else {
            return place.fault("is missing");
        };
        if value::is::<raw_buffer::RawBuffer>(any) {
            return Some(None);
        }
        if !value::is::<tls::UpstreamTlsContext>(any) {
            return place.fault(format_args!(
                "{} is no transport that is known here; UpstreamTlsContext and RawBuffer are",
                Quoted(value::type_name(any))
            ));
        }
        let context: tls::UpstreamTlsContext = value::guarded(&place, any)?;
        match self.extra {
            Some(extra) => self.own(&place, &context, extra).map(Some),
            None => self.upstream(&place, &context).map(Some),
        }
    }

    /// What another process of this library has written. The certificates that it names by files are
    /// those of this machine, as in the other spellings.
    fn own(
        &self,
        place: &Place<'_>,
        message: &tls::UpstreamTlsContext,
        extra: &TlsExtra,
    ) -> Option<ClientTls> {
        let at = place.field("metadata");
        let unknown = || at.fault("says something of TLS that is not known here");
        let common = message.common_tls_context.as_ref();
        let names = match common.and_then(|common| common.validation_context_type.as_ref()) {
            Some(Validation::ValidationContext(context)) => {
                let place = place.field("common_tls_context.validation_context");
                certificates::names(&place, context)?
            }
            _ => return unknown(),
        };
        let identity = match &extra.identity {
            None => None,
            Some(own) => match self.material(own) {
                None => return unknown(),
                some => some,
            },
        };
        let trust = extra.trust.as_ref().and_then(|trust| self.material(trust));
        let verification = match extra.verification {
            0 => Verification::Chain,
            1 => Verification::Name,
            4 => Verification::NameOr,
            2 => Verification::Nothing,
            3 => Verification::Svid,
            _ => return unknown(),
        };
        let Some(trust) = trust else {
            return unknown();
        };
        Some(ClientTls {
            identity,
            trust,
            verification,
            names,
            sni: match (extra.sni_endpoint, message.sni.as_str()) {
                (true, "") => Sni::Endpoint,
                (true, name) => Sni::EndpointOr(name.into()),
                (false, "") => Sni::Nobody,
                (false, name) => Sni::Name(name.into()),
            },
            alpn: if extra.istio { Alpn::Istio } else { Alpn::Http },
        })
    }

    fn material(&self, extra: &MaterialExtra) -> Option<Material> {
        let path = |text: &Option<String>| text.as_deref().map(|text| Arc::from(Path::new(text)));
        Some(match extra.kind {
            1 => Material::Files(Files {
                certificate: path(&extra.certificate),
                key: path(&extra.key),
                roots: path(&extra.roots),
                revocations: path(&extra.revocations),
            }),
            2 => Material::Mesh,
            3 => Material::Named(extra.name.as_str().into()),
            4 => Material::System,
            _ => return None,
        })
    }

    fn upstream(&self, place: &Place<'_>, message: &tls::UpstreamTlsContext) -> Option<ClientTls> {
        let common_place = place.field("common_tls_context");
        let common = common_place.required(message.common_tls_context.as_ref())?;
        let refused = certificates::unsupported(&common_place, common);
        let identity = self.identity(&common_place, common);
        let trusted = self.trust(&common_place, common);
        let sni = self.sni(place, message);
        let (trust, names) = trusted?;
        refused?;
        let (verification, names) = named(message, names);
        let istio = common
            .alpn_protocols
            .iter()
            .any(|word| word.starts_with("istio"))
            || (common.alpn_protocols.is_empty() && self.istio_name().is_some());
        Some(ClientTls {
            identity: identity?,
            trust,
            verification,
            names,
            sni: sni?,
            alpn: if istio { Alpn::Istio } else { Alpn::Http },
        })
    }

    /// What sidecars ask for, which gateways between networks route by: istiod sends gRPC no SNI.
    fn istio_name(&self) -> Option<String> {
        let rest = self.cluster.strip_prefix("outbound|")?;
        let mut parts = rest.splitn(3, '|');
        let (port, subset, host) = (parts.next()?, parts.next()?, parts.next()?);
        Some(format!("outbound_.{port}_.{subset}_.{host}"))
    }

    fn sni(&self, place: &Place<'_>, message: &tls::UpstreamTlsContext) -> Option<Sni> {
        if message.sni.len() > MAX_SNI {
            return place.field("sni").fault(format_args!(
                "has {} bytes; at most {MAX_SNI} are allowed",
                message.sni.len()
            ));
        }
        Some(match (message.auto_host_sni, message.sni.as_str()) {
            // gRFC A101: the endpoint's name stands before the one that is written here.
            (true, "") => Sni::Endpoint,
            (true, name) => Sni::EndpointOr(name.into()),
            (false, "") => self
                .istio_name()
                .map_or(Sni::Nobody, |name| Sni::Name(name.into())),
            (false, name) => Sni::Name(name.into()),
        })
    }
}

/// What is checked of the server's name. Names of the context replace the check of the server's own, as
/// in gRFC A29, and the name that is asked for replaces those where the context says so (A101).
fn named(
    message: &tls::UpstreamTlsContext,
    names: Vec<StringMatcher>,
) -> (Verification, Vec<StringMatcher>) {
    if !message.auto_sni_san_validation {
        return (Verification::Chain, names);
    }
    match (names.is_empty(), message.auto_host_sni, &*message.sni) {
        // Also where no name is sent: the endpoint's address is checked then, and not nothing.
        (true, _, _) => (Verification::Name, names),
        (false, false, "") => (Verification::Chain, names),
        // An endpoint may have a name or none.
        (false, true, "") => (Verification::NameOr, names),
        (false, _, _) => (Verification::Name, Vec::new()),
    }
}

fn is_istio(wanted: &envoy_types::pb::google::protobuf::Struct) -> bool {
    use envoy_types::pb::google::protobuf::value::Kind;
    let mode = wanted
        .fields
        .get(super::TLS_MODE)
        .and_then(|value| value.kind.as_ref());
    wanted.fields.len() == 1
        && matches!(mode, Some(Kind::StringValue(text)) if text == super::ISTIO)
}
