//! How connections are secured.

use std::path::Path;
use std::sync::Arc;

use super::super::listeners::ads;
use super::super::security::{good_trust, provider, socket, trusting};
use super::cluster;
use crate::model::matcher::StringMatcher;
use crate::model::security::{ClientTls, Files, Material, Security, Sni, Verification};
use crate::source::xds::extra::any;
use crate::source::xds::proto::{core, matcher, raw_buffer, tls};
use tls::common_tls_context::ValidationContextType as Validation;
use tls::common_tls_context::{CertificateProviderInstance, CombinedCertificateValidationContext};

#[track_caller]
fn client(context: &tls::UpstreamTlsContext) -> ClientTls {
    let cluster = cluster(|c| c.transport_socket = socket(any(context)));
    match &cluster.security {
        Security::Tls(tls) => ClientTls::clone(tls),
        other => panic!("TLS became {other:?}"),
    }
}

#[track_caller]
fn trust(validation: Validation) -> Material {
    let mut context = trusting(good_trust());
    context
        .common_tls_context
        .get_or_insert_default()
        .validation_context_type = Some(validation);
    client(&context).trust
}

fn file(name: &str) -> Option<core::DataSource> {
    Some(core::DataSource {
        specifier: Some(core::data_source::Specifier::Filename(name.into())),
        ..core::DataSource::default()
    })
}

fn roots() -> Material {
    Material::Files(Files {
        roots: Some(Arc::from(Path::new("/roots.pem"))),
        ..Files::default()
    })
}

fn named(name: &str) -> Material {
    Material::Named(name.into())
}

fn older() -> CertificateProviderInstance {
    CertificateProviderInstance {
        instance_name: "default".into(),
        certificate_name: String::new(),
    }
}

fn exact(text: &str) -> matcher::StringMatcher {
    matcher::StringMatcher {
        match_pattern: Some(matcher::string_matcher::MatchPattern::Exact(text.into())),
        ignore_case: false,
    }
}

/// Envoy: the roots of the system only where no others are named. The other way round, whoever has a
/// certificate of any public authority would be believed.
#[test]
fn d8_roots_of_the_system_stand_behind_all_others() {
    let system = Some(Default::default());
    let context = |instance, trusted_ca| tls::CertificateValidationContext {
        ca_certificate_provider_instance: instance,
        trusted_ca,
        system_root_certs: system,
        ..tls::CertificateValidationContext::default()
    };
    for (context, expected) in [
        (context(None, None), Material::System),
        (context(None, file("/roots.pem")), roots()),
        (context(provider("default"), None), named("default")),
        // gRFC A29: a provider stands in front of files.
        (
            context(provider("default"), file("/roots.pem")),
            named("default"),
        ),
    ] {
        assert_eq!(
            trust(Validation::ValidationContext(context.clone())),
            expected
        );
        let combined = CombinedCertificateValidationContext {
            default_validation_context: Some(context),
            ..Default::default()
        };
        assert_eq!(
            trust(Validation::CombinedValidationContext(combined)),
            expected
        );
    }
}

/// gRFC A29's fields, and those that came before them.
#[test]
fn d8_providers_are_named_in_several_ways() {
    assert_eq!(
        trust(Validation::ValidationContextCertificateProviderInstance(
            older()
        )),
        named("default")
    );
    let combined = |context: Option<tls::CertificateValidationContext>| {
        trust(Validation::CombinedValidationContext(
            CombinedCertificateValidationContext {
                default_validation_context: context,
                validation_context_certificate_provider_instance: Some(older()),
                ..Default::default()
            },
        ))
    };
    assert_eq!(combined(None), named("default"));
    // The roots of a provider stand in front of a file and of the system's here too.
    let file = tls::CertificateValidationContext {
        trusted_ca: file("/roots.pem"),
        system_root_certs: Some(Default::default()),
        ..tls::CertificateValidationContext::default()
    };
    assert_eq!(combined(Some(file)), named("default"));
    let secret = tls::SdsSecretConfig {
        name: "s".into(),
        sds_config: Some(ads()),
    };
    let by_secret = trust(Validation::ValidationContextSdsSecretConfig(secret.clone()));
    assert!(matches!(&by_secret, Material::Named(name) if name.ends_with('s')));
    let both = CombinedCertificateValidationContext {
        default_validation_context: Some(good_trust()),
        validation_context_sds_secret_config: Some(secret),
        ..Default::default()
    };
    assert_eq!(
        trust(Validation::CombinedValidationContext(both)),
        by_secret
    );
    let mut context = trusting(good_trust());
    let common = context.common_tls_context.get_or_insert_default();
    common.tls_certificate_provider_instance = None;
    assert_eq!(client(&context).identity, None);
    let common = context.common_tls_context.get_or_insert_default();
    common.tls_certificate_certificate_provider_instance = Some(older());
    assert_eq!(client(&context).identity, Some(named("default")));
}

/// gRFC A101: the name that is asked for replaces the names of the context; without one those hold.
#[test]
fn d8_the_name_that_is_asked_for_replaces_others() {
    let context = |names: &[&str], sni: &str, endpoint: bool, automatic: bool| {
        let context = tls::CertificateValidationContext {
            match_subject_alt_names: names.iter().map(|name| exact(name)).collect(),
            ..good_trust()
        };
        let found = client(&tls::UpstreamTlsContext {
            sni: sni.into(),
            auto_host_sni: endpoint,
            auto_sni_san_validation: automatic,
            ..trusting(context)
        });
        (found.verification, found.names, found.sni)
    };
    let a = || vec![StringMatcher::Exact("a".into())];
    let name = || Sni::Name("b.example".into());
    // Without it the name is asked for, and not checked (gRFC A29).
    assert_eq!(
        context(&[], "b.example", false, false),
        (Verification::Chain, vec![], name())
    );
    assert_eq!(
        context(&["a"], "b.example", false, false),
        (Verification::Chain, a(), name())
    );
    assert_eq!(
        context(&[], "b.example", false, true),
        (Verification::Name, vec![], name())
    );
    assert_eq!(
        context(&["a"], "b.example", false, true),
        (Verification::Name, vec![], name())
    );
    assert_eq!(
        context(&[], "", true, true),
        (Verification::Name, vec![], Sni::Endpoint)
    );
    assert_eq!(
        context(&["a"], "", false, true),
        (Verification::Chain, a(), Sni::Nobody)
    );
    // An endpoint has a name or none; where the cluster has one too, one is asked for in any case.
    assert_eq!(
        context(&["a"], "", true, true),
        (Verification::NameOr, a(), Sni::Endpoint)
    );
    assert_eq!(
        context(&["a"], "b.example", true, true),
        (
            Verification::Name,
            vec![],
            Sni::EndpointOr("b.example".into())
        )
    );
    // A context that would be checked against nothing is checked against the endpoint's address.
    assert_eq!(
        context(&[], "", false, true),
        (Verification::Name, vec![], Sni::Nobody)
    );
}

/// Names of the longest length, transports without a name of ours, and plain text that says so.
#[test]
fn d8_other_contexts_that_are_good() {
    let longest = tls::UpstreamTlsContext {
        sni: "a".repeat(255),
        ..trusting(good_trust())
    };
    assert_eq!(client(&longest).sni, Sni::Name("a".repeat(255).into()));
    // The type says what a transport is, not its name, as in Envoy; gRPC looks at both.
    let mut unnamed = socket(any(&trusting(good_trust())));
    unnamed.iter_mut().for_each(|one| one.name = "x".into());
    let secured = cluster(|c| c.transport_socket = unnamed);
    assert!(matches!(secured.security, Security::Tls(_)));
    let plain = cluster(|c| c.transport_socket = socket(any(&raw_buffer::RawBuffer::default())));
    assert_eq!(plain.security, Security::Plaintext);
    // What only makes this side stricter than asked, or is no matter of security.
    let mut lenient = trusting(tls::CertificateValidationContext {
        allow_expired_certificate: true,
        trust_chain_verification: 1,
        watched_directory: Some(Default::default()),
        ..good_trust()
    });
    lenient.allow_renegotiation = true;
    assert_eq!(client(&lenient), client(&trusting(good_trust())));
}
