//! How connections are secured (gRFC A29, A82, A101; Envoy's and istiod's spellings of it).
//!
//! Nothing here is ignored: what would be checked elsewhere and is not checked here refuses the
//! cluster, because the traffic that it would let through is what the field is there to stop. Only
//! what makes this side stricter than asked (an expired certificate that would be allowed) is left
//! out.

use std::path::Path;
use std::sync::Arc;

use super::place::{Place, Quoted};
use super::{Scope, matches, secret, value};
use crate::model::matcher::StringMatcher;
use crate::model::security::{Alpn, ClientTls, Files, Material, Security, Sni, Verification};
use crate::model::server::{CallerTls, ServerTls};
use crate::source::xds::extra::{ClusterExtra, MaterialExtra, TlsExtra};
use crate::source::xds::proto::{cluster as wire, core, raw_buffer, tls};

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
    let refused = unsupported(place, common);
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

struct Reader<'a> {
    scope: Scope<'a>,
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
            return place.field("validation_context.system_root_certs").fault(
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
        use tls::common_tls_context::ValidationContextType as Validation;
        let at = place.field("metadata");
        let unknown = || at.fault("says something of TLS that is not known here");
        let common = message.common_tls_context.as_ref();
        let names = match common.and_then(|common| common.validation_context_type.as_ref()) {
            Some(Validation::ValidationContext(context)) => {
                let place = place.field("common_tls_context.validation_context");
                self::names(&place, context)?
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
                (true, _) => Sni::Endpoint,
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
        let refused = unsupported(&common_place, common);
        let identity = self.identity(&common_place, common);
        let trusted = self.trust(&common_place, common);
        let sni = self.sni(place, message);
        let (trust, names) = trusted?;
        refused?;
        // Named certificates replace the check of the server's name, as in gRPC A29.
        let verification = match message.auto_sni_san_validation && names.is_empty() {
            true => Verification::Name,
            false => Verification::Chain,
        };
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
            (true, _) => Sni::Endpoint,
            (false, "") => self
                .istio_name()
                .map_or(Sni::Nobody, |name| Sni::Name(name.into())),
            (false, name) => Sni::Name(name.into()),
        })
    }

    fn instance(&self, place: &Place<'_>, name: &str) -> Option<Material> {
        if self.scope.context.certificate_providers.contains(name) {
            return Some(Material::Named(name.into()));
        }
        place.field("instance_name").fault(format_args!(
            "{} is none of the bootstrap's certificate_providers",
            Quoted(name)
        ))
    }

    fn identity(
        &self,
        place: &Place<'_>,
        message: &tls::CommonTlsContext,
    ) -> Option<Option<Material>> {
        if let Some(instance) = &message.tls_certificate_provider_instance {
            let place = place.field("tls_certificate_provider_instance");
            return self.instance(&place, &instance.instance_name).map(Some);
        }
        if let Some(instance) = &message.tls_certificate_certificate_provider_instance {
            let place = place.field("tls_certificate_certificate_provider_instance");
            return self.instance(&place, &instance.instance_name).map(Some);
        }
        let secrets = place.field("tls_certificate_sds_secret_configs");
        match message.tls_certificate_sds_secret_configs.as_slice() {
            [] => {}
            [one] => return secret::reference(&secrets.index(0), one).map(Some),
            more => {
                return secrets.fault(format_args!("has {} entries; 1 is allowed", more.len()));
            }
        }
        let place = place.field("tls_certificates");
        match message.tls_certificates.as_slice() {
            [] => Some(None),
            [one] => {
                let place = place.index(0);
                let certificate = file(
                    &place.field("certificate_chain"),
                    one.certificate_chain.as_ref(),
                );
                let key = file(&place.field("private_key"), one.private_key.as_ref());
                Some(Some(Material::Files(Files {
                    certificate: Some(certificate?),
                    key: Some(key?),
                    ..Files::default()
                })))
            }
            more => place.fault(format_args!("has {} entries; 1 is allowed", more.len())),
        }
    }

    fn trust(
        &self,
        place: &Place<'_>,
        message: &tls::CommonTlsContext,
    ) -> Option<(Material, Vec<StringMatcher>)> {
        use tls::common_tls_context::ValidationContextType as Validation;
        let none = tls::CertificateValidationContext::default();
        let (at, context, older) = match &message.validation_context_type {
            Some(Validation::ValidationContext(context)) => ("validation_context", context, None),
            Some(Validation::CombinedValidationContext(combined)) => (
                "combined_validation_context.default_validation_context",
                combined
                    .default_validation_context
                    .as_ref()
                    .unwrap_or(&none),
                combined
                    .validation_context_certificate_provider_instance
                    .as_ref(),
            ),
            Some(Validation::ValidationContextSdsSecretConfig(config)) => {
                let place = place.field("validation_context_sds_secret_config");
                return Some((secret::reference(&place, config)?, Vec::new()));
            }
            Some(_) => {
                return place.fault(
                    "takes what it trusts from a provider in an older way, which is not supported; use \
                     ca_certificate_provider_instance",
                );
            }
            None => {
                return place
                    .field("validation_context")
                    .fault("is missing; a client says whom it trusts");
            }
        };
        let outer = place;
        let place = place.field(at);
        validated(&place, context)?;
        let names = names(&place, context);
        let secret = match &message.validation_context_type {
            Some(Validation::CombinedValidationContext(combined)) => {
                combined.validation_context_sds_secret_config.as_ref()
            }
            _ => None,
        };
        if let Some(config) = secret {
            let place =
                outer.field("combined_validation_context.validation_context_sds_secret_config");
            return Some((secret::reference(&place, config)?, names?));
        }
        let trust = match (&context.ca_certificate_provider_instance, older) {
            (Some(instance), _) => {
                let place = place.field("ca_certificate_provider_instance");
                self.instance(&place, &instance.instance_name)
            }
            (None, Some(instance)) => self.instance(&place, &instance.instance_name),
            (None, None) if context.system_root_certs.is_some() => Some(Material::System),
            (None, None) if context.trusted_ca.is_some() => {
                let roots = file(&place.field("trusted_ca"), context.trusted_ca.as_ref());
                roots.map(|roots| {
                    Material::Files(Files {
                        roots: Some(roots),
                        ..Files::default()
                    })
                })
            }
            (None, None) => place.fault(
                "trusts nobody; ca_certificate_provider_instance, system_root_certs and trusted_ca \
                 are allowed",
            ),
        };
        Some((trust?, names?))
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

/// A file of this machine: certificates in messages would be secrets in dumps.
fn file(place: &Place<'_>, source: Option<&core::DataSource>) -> Option<Arc<Path>> {
    use core::data_source::Specifier;
    match &place.required(source)?.specifier {
        Some(Specifier::Filename(name)) if !name.is_empty() => Some(Arc::from(Path::new(name))),
        _ => place.fault("is no \"filename\"; only that is supported"),
    }
}

fn unsupported(place: &Place<'_>, message: &tls::CommonTlsContext) -> Option<()> {
    let refused = [
        ("tls_params", message.tls_params.is_some()),
        ("custom_handshaker", message.custom_handshaker.is_some()),
        (
            "custom_tls_certificate_selector",
            message.custom_tls_certificate_selector.is_some(),
        ),
        (
            "tls_certificate_certificate_provider",
            message.tls_certificate_certificate_provider.is_some(),
        ),
    ];
    told(place, &refused)
}

/// Checks that are not made here.
pub(super) fn validated(
    place: &Place<'_>,
    message: &tls::CertificateValidationContext,
) -> Option<()> {
    let timestamp = message.require_signed_certificate_timestamp;
    let refused = [
        (
            "verify_certificate_spki",
            !message.verify_certificate_spki.is_empty(),
        ),
        (
            "verify_certificate_hash",
            !message.verify_certificate_hash.is_empty(),
        ),
        (
            "require_signed_certificate_timestamp",
            timestamp.is_some_and(|flag| flag.value),
        ),
        ("crl", message.crl.is_some()),
        (
            "custom_validator_config",
            message.custom_validator_config.is_some(),
        ),
        ("max_verify_depth", message.max_verify_depth.is_some()),
    ];
    told(place, &refused)
}

pub(super) fn told(place: &Place<'_>, refused: &[(&str, bool)]) -> Option<()> {
    let mut fine = Some(());
    for (field, set) in refused {
        if *set {
            fine = place
                .field(field)
                .fault("is not supported, and a field that secures is never left out");
        }
    }
    fine
}

/// Names of which the certificate must have one. Of typed ones only URIs can be told from names of
/// other types by their text.
fn names(
    place: &Place<'_>,
    message: &tls::CertificateValidationContext,
) -> Option<Vec<StringMatcher>> {
    let list = place.field("match_subject_alt_names");
    let plain = message.match_subject_alt_names.iter().enumerate();
    let plain = plain.map(|(index, matcher)| matches::string_matcher(&list.index(index), matcher));
    let typed_list = place.field("match_typed_subject_alt_names");
    let typed = message.match_typed_subject_alt_names.iter().enumerate();
    let typed = typed.map(|(index, one)| {
        let place = typed_list.index(index);
        let matcher = place.field("matcher");
        let found = matcher.required(one.matcher.as_ref());
        let found = found.and_then(|found| matches::string_matcher(&matcher, found))?;
        match &found {
            StringMatcher::Exact(text) | StringMatcher::Prefix(text)
                if one.san_type == i32::from(tls::subject_alt_name_matcher::SanType::Uri)
                    && text.contains("://") =>
            {
                Some(found)
            }
            _ => place.fault(
                "is of a type that is not supported; URI with an exact text or a prefix that has \
                 \"://\" is, and match_subject_alt_names",
            ),
        }
    });
    let all: Vec<Option<StringMatcher>> = plain.chain(typed).collect();
    all.into_iter().collect()
}
