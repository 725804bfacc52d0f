//! How connections are secured.
//!
//! A cluster whose TLS a dialect cannot say is left out and never plain text: requests to a cluster
//! that is missing fail, requests that were not encrypted have been read. What the dialects have in
//! common is `UpstreamTlsContext`. The mesh's own certificates are the instance `default` of
//! `certificate_providers` for gRPC, as istiod calls them; for Envoy they would be secrets, which are
//! not served.

use std::sync::Arc;

use super::loss::Loss;
use super::{Dialect, Pen, matches, value};
use crate::model::Endpoints;
use crate::model::security::{Alpn, ClientTls, Files, Material, Security, Sni, Verification};
use crate::source::xds::decode::{ISTIO, TLS_MODE};
use crate::source::xds::extra::{ClusterExtra, MaterialExtra, TlsExtra, any};
use crate::source::xds::proto::{cluster as wire, core, raw_buffer, tls};

/// What gRPC's bootstraps call the mesh's own certificates.
const OWN: &str = "default";
const SOCKET: &str = "envoy.transport_sockets.tls";

/// Writes how the connections of a cluster are secured; `None`: the dialect cannot say it.
pub(super) fn security(
    pen: &mut Pen<'_>,
    message: &mut wire::Cluster,
    model: &Security,
    members: Option<&Arc<Endpoints>>,
    extra: &mut ClusterExtra,
) -> Option<()> {
    match model {
        Security::Plaintext => Some(()),
        Security::Tls(tls) => {
            message.transport_socket = Some(socket(pen, tls, extra)?);
            Some(())
        }
        Security::Automatic(tls) => automatic(pen, message, tls, members, extra),
    }
}

/// Istio's pair. gRPC has no such thing: all endpoints speak TLS there, or none does.
fn automatic(
    pen: &mut Pen<'_>,
    message: &mut wire::Cluster,
    model: &ClientTls,
    members: Option<&Arc<Endpoints>>,
    extra: &mut ClusterExtra,
) -> Option<()> {
    if pen.is_grpc() {
        let localities = members.map_or(&[][..], |members| &members.localities);
        let mut all = localities.iter().flat_map(|one| &one.endpoints).peekable();
        let meshed = all.peek().is_some() && all.all(|endpoint| endpoint.meshed);
        if meshed && let Some(socket) = socket(pen, model, extra) {
            message.transport_socket = Some(socket);
        } else {
            pen.lose(Loss::AutomaticTls);
        }
        return Some(());
    }
    let Some(secured) = socket(pen, model, extra) else {
        // Servers of such endpoints take plain text too, unless they are STRICT; then they refuse.
        pen.lose(Loss::AutomaticTls);
        return Some(());
    };
    let wanted = value::text_struct(&[(TLS_MODE, ISTIO)]);
    message.transport_socket_matches = vec![
        wire::cluster::TransportSocketMatch {
            name: "tlsMode-istio".to_owned(),
            r#match: Some(wanted),
            transport_socket: Some(secured),
        },
        wire::cluster::TransportSocketMatch {
            name: "tlsMode-disabled".to_owned(),
            r#match: Some(value::text_struct(&[])),
            transport_socket: Some(core::TransportSocket {
                name: "envoy.transport_sockets.raw_buffer".to_owned(),
                config_type: Some(core::transport_socket::ConfigType::TypedConfig(any(
                    &raw_buffer::RawBuffer::default(),
                ))),
            }),
        },
    ];
    Some(())
}

fn socket(
    pen: &Pen<'_>,
    model: &ClientTls,
    extra: &mut ClusterExtra,
) -> Option<core::TransportSocket> {
    let ClientTls {
        identity,
        trust,
        verification,
        names,
        sni,
        alpn,
    } = model;
    let mut common = tls::CommonTlsContext::default();
    let sayable = identity
        .as_ref()
        .is_none_or(|own| self::identity(pen.dialect, &mut common, own));
    let mut validation = tls::CertificateValidationContext {
        match_subject_alt_names: names.iter().map(matches::string).collect(),
        ..tls::CertificateValidationContext::default()
    };
    let trusted = self::trust(pen.dialect, &mut validation, trust);
    let checked = match verification {
        // The last is more than a chain; for others a chain to the same roots is the most there is.
        Verification::Chain | Verification::Name | Verification::NameOr | Verification::Svid => {
            true
        }
        Verification::Nothing => pen.is_meshwork(),
    };
    let sayable = pen.is_meshwork() || (sayable && trusted && checked);
    if !sayable {
        return None;
    }
    common.validation_context_type =
        Some(tls::common_tls_context::ValidationContextType::ValidationContext(validation));
    if pen.dialect == Dialect::Envoy {
        common.alpn_protocols = match alpn {
            Alpn::Http => vec!["h2".to_owned(), "http/1.1".to_owned()],
            Alpn::Istio => vec!["istio-peer-exchange".to_owned(), "istio".to_owned()],
        };
    }
    let mut context = tls::UpstreamTlsContext {
        common_tls_context: Some(common),
        auto_sni_san_validation: match verification {
            Verification::Name => names.is_empty(),
            Verification::NameOr => true,
            Verification::Chain | Verification::Nothing | Verification::Svid => false,
        },
        ..tls::UpstreamTlsContext::default()
    };
    match sni {
        Sni::Endpoint => context.auto_host_sni = true,
        Sni::EndpointOr(name) => {
            context.auto_host_sni = true;
            context.sni = name.to_string();
        }
        Sni::Name(name) => context.sni = name.to_string(),
        Sni::Nobody => {}
    }
    if pen.is_meshwork() {
        extra.tls = Some(TlsExtra {
            identity: identity.as_ref().map(material),
            trust: Some(material(trust)),
            verification: verification_number(*verification),
            sni_endpoint: matches!(sni, Sni::Endpoint | Sni::EndpointOr(_)),
            istio: *alpn == Alpn::Istio,
        });
    }
    Some(core::TransportSocket {
        name: SOCKET.to_owned(),
        config_type: Some(core::transport_socket::ConfigType::TypedConfig(any(
            &context,
        ))),
    })
}

fn instance(name: &str) -> tls::CertificateProviderPluginInstance {
    tls::CertificateProviderPluginInstance {
        instance_name: name.to_owned(),
        certificate_name: String::new(),
    }
}

fn path(path: &Option<Arc<std::path::Path>>) -> Option<core::DataSource> {
    path.as_ref().map(|path| core::DataSource {
        specifier: Some(core::data_source::Specifier::Filename(
            path.to_string_lossy().into_owned(),
        )),
        ..core::DataSource::default()
    })
}

/// Whether the dialect can say whose certificate is presented.
fn identity(dialect: Dialect, common: &mut tls::CommonTlsContext, own: &Material) -> bool {
    match own {
        Material::Named(name) => {
            common.tls_certificate_provider_instance = Some(instance(name));
            dialect != Dialect::Envoy
        }
        Material::Mesh => {
            common.tls_certificate_provider_instance = Some(instance(OWN));
            dialect != Dialect::Envoy
        }
        Material::Files(files) => {
            common.tls_certificates = vec![tls::TlsCertificate {
                certificate_chain: path(&files.certificate),
                private_key: path(&files.key),
                ..tls::TlsCertificate::default()
            }];
            dialect != Dialect::Grpc && files.certificate.is_some() && files.key.is_some()
        }
        Material::System => false,
    }
}

/// Whether the dialect can say who is trusted.
fn trust(
    dialect: Dialect,
    validation: &mut tls::CertificateValidationContext,
    trust: &Material,
) -> bool {
    match trust {
        Material::Named(name) => {
            validation.ca_certificate_provider_instance = Some(instance(name));
            dialect != Dialect::Envoy
        }
        Material::Mesh => {
            validation.ca_certificate_provider_instance = Some(instance(OWN));
            dialect != Dialect::Envoy
        }
        Material::Files(files) => {
            validation.trusted_ca = path(&files.roots);
            dialect != Dialect::Grpc && files.roots.is_some() && files.revocations.is_none()
        }
        Material::System => {
            validation.system_root_certs = Some(Default::default());
            true
        }
    }
}

/// The numbers of [`TlsExtra::verification`]; they are never used again for something else.
fn verification_number(model: Verification) -> u32 {
    match model {
        Verification::Chain => 0,
        Verification::Name => 1,
        Verification::Nothing => 2,
        Verification::Svid => 3,
        Verification::NameOr => 4,
    }
}

fn material(model: &Material) -> MaterialExtra {
    let text = |path: &Option<Arc<std::path::Path>>| {
        path.as_ref()
            .map(|path| path.to_string_lossy().into_owned())
    };
    let mut extra = MaterialExtra::default();
    match model {
        Material::Files(Files {
            certificate,
            key,
            roots,
            revocations,
        }) => {
            extra.kind = 1;
            extra.certificate = text(certificate);
            extra.key = text(key);
            extra.roots = text(roots);
            extra.revocations = text(revocations);
        }
        Material::Mesh => extra.kind = 2,
        Material::Named(name) => {
            extra.kind = 3;
            extra.name = name.to_string();
        }
        Material::System => extra.kind = 4,
    }
    extra
}
