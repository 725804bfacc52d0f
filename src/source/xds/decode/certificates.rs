//! Which certificates are shown and who is believed: providers of the bootstrap, secrets, files, the
//! system's roots, in every way that Envoy's messages have to say it (gRFC A29, A82).

use std::path::Path;
use std::sync::Arc;

use super::place::{Place, Quoted};
use super::security::Reader;
use super::{matches, secret};
use crate::model::matcher::StringMatcher;
use crate::model::security::{Files, Material};
use crate::source::xds::proto::{core, tls};
use tls::common_tls_context::ValidationContextType as Validation;

impl Reader<'_> {
    fn instance(&self, place: &Place<'_>, name: &str) -> Option<Material> {
        if self.scope.context.certificate_providers.contains(name) {
            return Some(Material::Named(name.into()));
        }
        place.field("instance_name").fault(format_args!(
            "{} is none of the bootstrap's certificate_providers",
            Quoted(name)
        ))
    }

    pub(super) fn identity(
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

    /// Who is believed, and the names of whom one is asked for.
    pub(super) fn trust(
        &self,
        place: &Place<'_>,
        message: &tls::CommonTlsContext,
    ) -> Option<(Material, Vec<StringMatcher>)> {
        match &message.validation_context_type {
            Some(Validation::ValidationContext(context)) => {
                self.context(&place.field("validation_context"), context)
            }
            Some(Validation::CombinedValidationContext(combined)) => {
                self.combined(&place.field("combined_validation_context"), combined)
            }
            Some(Validation::ValidationContextSdsSecretConfig(config)) => {
                let place = place.field("validation_context_sds_secret_config");
                Some((secret::reference(&place, config)?, Vec::new()))
            }
            // Older than `ca_certificate_provider_instance`, and still read by gRPC.
            Some(Validation::ValidationContextCertificateProviderInstance(instance)) => {
                let place = place.field("validation_context_certificate_provider_instance");
                Some((self.instance(&place, &instance.instance_name)?, Vec::new()))
            }
            Some(Validation::ValidationContextCertificateProvider(_)) => {
                told(place, &[("validation_context_certificate_provider", true)])?;
                None
            }
            None => place
                .field("validation_context")
                .fault("is missing; a client says whom it trusts"),
        }
    }

    /// A context, and roots that come in another way: those stand in front of a file and of the
    /// system's.
    fn combined(
        &self,
        place: &Place<'_>,
        message: &tls::common_tls_context::CombinedCertificateValidationContext,
    ) -> Option<(Material, Vec<StringMatcher>)> {
        let provider = message.validation_context_certificate_provider.is_some();
        let refused = told(
            place,
            &[("validation_context_certificate_provider", provider)],
        );
        let none = tls::CertificateValidationContext::default();
        let context = message.default_validation_context.as_ref();
        let context = context.unwrap_or(&none);
        let at = place.field("default_validation_context");
        let named = context.ca_certificate_provider_instance.is_some();
        let older = message
            .validation_context_certificate_provider_instance
            .as_ref();
        let found = match (&message.validation_context_sds_secret_config, older) {
            (Some(config), _) => {
                let place = place.field("validation_context_sds_secret_config");
                checked(&at, context, secret::reference(&place, config))
            }
            (None, Some(instance)) if !named => {
                let place = place.field("validation_context_certificate_provider_instance");
                checked(&at, context, self.instance(&place, &instance.instance_name))
            }
            (None, _) => self.context(&at, context),
        };
        refused?;
        found
    }

    fn context(
        &self,
        place: &Place<'_>,
        message: &tls::CertificateValidationContext,
    ) -> Option<(Material, Vec<StringMatcher>)> {
        checked(place, message, self.roots(place, message))
    }

    /// The roots of a context: a provider's stand in front of a file (gRFC A29), and those of the
    /// system behind both (Envoy's `system_root_certs`), or any public authority would be believed
    /// where the roots of one's own are named.
    fn roots(
        &self,
        place: &Place<'_>,
        message: &tls::CertificateValidationContext,
    ) -> Option<Material> {
        if let Some(instance) = &message.ca_certificate_provider_instance {
            let place = place.field("ca_certificate_provider_instance");
            return self.instance(&place, &instance.instance_name);
        }
        if message.trusted_ca.is_some() {
            let roots = file(&place.field("trusted_ca"), message.trusted_ca.as_ref())?;
            return Some(Material::Files(Files {
                roots: Some(roots),
                ..Files::default()
            }));
        }
        if message.system_root_certs.is_some() {
            return Some(Material::System);
        }
        place.fault(
            "trusts nobody; ca_certificate_provider_instance, system_root_certs and trusted_ca \
             are allowed",
        )
    }
}

/// What a context checks, beside whom it believes.
fn checked(
    place: &Place<'_>,
    message: &tls::CertificateValidationContext,
    trust: Option<Material>,
) -> Option<(Material, Vec<StringMatcher>)> {
    let fine = validated(place, message);
    let names = names(place, message);
    fine?;
    Some((trust?, names?))
}

/// A file of this machine: certificates in messages would be secrets in dumps.
fn file(place: &Place<'_>, source: Option<&core::DataSource>) -> Option<Arc<Path>> {
    use core::data_source::Specifier;
    match &place.required(source)?.specifier {
        Some(Specifier::Filename(name)) if !name.is_empty() => Some(Arc::from(Path::new(name))),
        _ => place.fault("is no \"filename\"; only that is supported"),
    }
}

pub(super) fn unsupported(place: &Place<'_>, message: &tls::CommonTlsContext) -> Option<()> {
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
pub(super) fn names(
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
