//! Certificates and roots as resources (SDS).
//!
//! A secret is one of both: a certificate with its key, or the roots of those who are believed. Whoever
//! names it takes what is in force at the moment of each handshake, so that a secret rotates without
//! any other resource. A key is in the message itself; it is never in a fault, a log or a dump, and
//! never written to the cache on disk.

use super::place::Place;
use super::{certificates, value};
use crate::model::security::Material;
use crate::source::xds::name;
use crate::source::xds::proto::{core, tls as wire};
use crate::source::xds::resource::{Resource, SECRETS};
use crate::tls::{Bundle, Identity, Secret};

/// What a secret is called by those who name it.
pub(super) fn reference(place: &Place<'_>, message: &wire::SdsSecretConfig) -> Option<Material> {
    let name = value::filled(&place.field("name"), &message.name);
    let source = value::own_stream(&place.field("sds_config"), message.sds_config.as_ref());
    source?;
    let name = name::canonical(name?);
    Some(Material::Named(format!("{SECRETS}{name}").into()))
}

pub(super) fn secret(place: &Place<'_>, message: &wire::Secret) -> Option<Resource> {
    use wire::secret::Type;
    let secret = match &message.r#type {
        Some(Type::TlsCertificate(certificate)) => {
            identity(&place.field("tls_certificate"), certificate).map(Secret::Identity)
        }
        Some(Type::ValidationContext(context)) => {
            roots(&place.field("validation_context"), context).map(Secret::Roots)
        }
        Some(Type::SessionTicketKeys(_) | Type::GenericSecret(_)) => {
            place.fault("is of a kind that nothing here asks for")
        }
        None => place.fault("is empty; tls_certificate and validation_context are allowed"),
    };
    Some(Resource::Secret(secret?))
}

fn identity(place: &Place<'_>, message: &wire::TlsCertificate) -> Option<Identity> {
    let refused = [
        (
            "private_key_provider",
            message.private_key_provider.is_some(),
        ),
        ("pkcs12", message.pkcs12.is_some()),
        ("password", message.password.is_some()),
    ];
    let fine = certificates::told(place, &refused);
    let chain = inline(
        &place.field("certificate_chain"),
        message.certificate_chain.as_ref(),
    );
    let key = inline(&place.field("private_key"), message.private_key.as_ref());
    fine?;
    match Identity::from_pem(chain?, key?) {
        Ok(identity) => Some(identity),
        // It says what is wrong and quotes nothing.
        Err(unusable) => place.fault(unusable),
    }
}

fn roots(place: &Place<'_>, message: &wire::CertificateValidationContext) -> Option<Bundle> {
    let fine = certificates::validated(place, message);
    let names = message.match_subject_alt_names.len() + message.match_typed_subject_alt_names.len();
    if names > 0 {
        return place.field("match_typed_subject_alt_names").fault(
            "stands in a secret, which is not supported; put it into the default_validation_context \
             of who names the secret",
        );
    }
    let place = place.field("trusted_ca");
    let text = inline(&place, message.trusted_ca.as_ref());
    fine?;
    match Bundle::from_pem(text?) {
        Ok(bundle) => Some(bundle),
        Err(unusable) => place.fault(unusable),
    }
}

fn inline<'a>(place: &Place<'_>, source: Option<&'a core::DataSource>) -> Option<&'a [u8]> {
    use core::data_source::Specifier;
    match &place.required(source)?.specifier {
        Some(Specifier::InlineBytes(bytes)) => Some(bytes),
        Some(Specifier::InlineString(text)) => Some(text.as_bytes()),
        Some(Specifier::Filename(_) | Specifier::EnvironmentVariable(_)) | None => {
            place.fault("is not inline; inline_bytes and inline_string are allowed")
        }
    }
}
