//! Whose certificates are shown and believed, and which transports there are.

use super::clusters::cluster_refused;
use super::listeners::ads;
use super::security::{good_cluster_with, good_trust, refused_in_all};
use super::security::{provider, socket, tls_refused, trust_refused, trusting};
use super::told;
use crate::source::xds::Kind;
use crate::source::xds::extra::any;
use crate::source::xds::proto::{Any, BoolValue, UInt32Value, cluster, core, matcher, tls};

type Change = fn(&mut tls::CommonTlsContext);

/// The common context of a client with a change.
#[track_caller]
fn common_refused(change: impl FnOnce(&mut tls::CommonTlsContext), expected: &str) {
    let mut context = trusting(good_trust());
    change(context.common_tls_context.get_or_insert_default());
    tls_refused(&context, &format!(".common_tls_context{expected}"));
}

fn secret(name: &str, source: Option<core::ConfigSource>) -> tls::SdsSecretConfig {
    tls::SdsSecretConfig {
        name: name.to_owned(),
        sds_config: source,
    }
}

fn older(name: &str) -> tls::common_tls_context::CertificateProviderInstance {
    tls::common_tls_context::CertificateProviderInstance {
        instance_name: name.to_owned(),
        certificate_name: String::new(),
    }
}

fn source(specifier: core::data_source::Specifier) -> Option<core::DataSource> {
    Some(core::DataSource {
        specifier: Some(specifier),
        ..core::DataSource::default()
    })
}

fn inline() -> Option<core::DataSource> {
    source(core::data_source::Specifier::InlineString("x".into()))
}

fn named(name: &str) -> Option<core::DataSource> {
    source(core::data_source::Specifier::Filename(name.into()))
}

#[test]
fn d8_certificates_that_are_refused() {
    let rows: [(Change, &str); 13] = [
        (
            |c| c.custom_handshaker = Some(Default::default()),
            ".custom_handshaker: is not supported, and a field that secures is never left out",
        ),
        (
            |c| c.custom_tls_certificate_selector = Some(Default::default()),
            ".custom_tls_certificate_selector: is not supported",
        ),
        (
            |c| c.tls_certificate_certificate_provider = Some(Default::default()),
            ".tls_certificate_certificate_provider: is not supported",
        ),
        (
            |c| {
                c.tls_certificate_provider_instance = None;
                c.tls_certificate_certificate_provider_instance = Some(older("x"));
            },
            ".tls_certificate_certificate_provider_instance.instance_name: \"x\" is none of",
        ),
        (
            |c| certificates(c, vec![certificate(named("c"), named("k")); 2]),
            ".tls_certificates: has 2 entries; 1 is allowed",
        ),
        (
            |c| certificates(c, vec![certificate(None, named("k"))]),
            ".tls_certificates[0].certificate_chain: is missing",
        ),
        (
            |c| certificates(c, vec![certificate(inline(), named("k"))]),
            ".tls_certificates[0].certificate_chain: is no \"filename\"; only that is supported",
        ),
        (
            |c| certificates(c, vec![certificate(named("c"), None)]),
            ".tls_certificates[0].private_key: is missing",
        ),
        (
            |c| certificates(c, vec![certificate(named("c"), named(""))]),
            ".tls_certificates[0].private_key: is no \"filename\"",
        ),
        (
            |c| secrets(c, vec![secret("a", Some(ads())), secret("b", Some(ads()))]),
            ".tls_certificate_sds_secret_configs: has 2 entries; 1 is allowed",
        ),
        (
            |c| secrets(c, vec![secret("", Some(ads()))]),
            ".tls_certificate_sds_secret_configs[0].name: is empty",
        ),
        (
            |c| secrets(c, vec![secret("a", None)]),
            ".tls_certificate_sds_secret_configs[0].sds_config: is missing",
        ),
        (
            |c| secrets(c, vec![secret("a", Some(core::ConfigSource::default()))]),
            ".tls_certificate_sds_secret_configs[0].sds_config: names no source",
        ),
    ];
    for (change, expected) in rows {
        common_refused(change, expected);
    }
}

fn certificate(
    chain: Option<core::DataSource>,
    key: Option<core::DataSource>,
) -> tls::TlsCertificate {
    tls::TlsCertificate {
        certificate_chain: chain,
        private_key: key,
        ..tls::TlsCertificate::default()
    }
}

fn certificates(common: &mut tls::CommonTlsContext, all: Vec<tls::TlsCertificate>) {
    common.tls_certificate_provider_instance = None;
    common.tls_certificates = all;
}

fn secrets(common: &mut tls::CommonTlsContext, all: Vec<tls::SdsSecretConfig>) {
    common.tls_certificate_provider_instance = None;
    common.tls_certificate_sds_secret_configs = all;
}

/// Both a context of the message and what comes by another resource.
fn combined(
    context: Option<tls::CertificateValidationContext>,
    change: impl FnOnce(&mut tls::common_tls_context::CombinedCertificateValidationContext),
) -> Option<tls::common_tls_context::ValidationContextType> {
    use tls::common_tls_context::ValidationContextType as Validation;
    let mut combined = tls::common_tls_context::CombinedCertificateValidationContext {
        default_validation_context: context,
        ..Default::default()
    };
    change(&mut combined);
    Some(Validation::CombinedValidationContext(combined))
}

#[test]
fn d8_trust_by_other_resources_that_is_refused() {
    use tls::common_tls_context::ValidationContextType as Validation;
    const DEFAULT: &str = ".combined_validation_context.default_validation_context";
    let with = |validation: Option<Validation>, expected: &str| {
        common_refused(|c| c.validation_context_type = validation, expected);
    };
    with(
        Some(Validation::ValidationContextCertificateProvider(
            Default::default(),
        )),
        ".validation_context_certificate_provider: is not supported",
    );
    with(
        Some(Validation::ValidationContextCertificateProviderInstance(
            older("x"),
        )),
        ".validation_context_certificate_provider_instance.instance_name: \"x\" is none of",
    );
    with(
        Some(Validation::ValidationContextSdsSecretConfig(secret(
            "",
            Some(ads()),
        ))),
        ".validation_context_sds_secret_config.name: is empty",
    );
    with(
        Some(Validation::ValidationContextSdsSecretConfig(secret(
            "a", None,
        ))),
        ".validation_context_sds_secret_config.sds_config: is missing",
    );
    with(combined(None, |_| {}), &format!("{DEFAULT}: trusts nobody"));
    with(
        combined(None, |c| {
            c.validation_context_certificate_provider_instance = Some(older("x"));
        }),
        ".combined_validation_context.validation_context_certificate_provider_instance.\
         instance_name: \"x\" is none of",
    );
    with(
        combined(Some(good_trust()), |c| {
            c.validation_context_certificate_provider = Some(Default::default());
        }),
        ".combined_validation_context.validation_context_certificate_provider: is not supported",
    );
    with(
        combined(Some(good_trust()), |c| {
            c.validation_context_sds_secret_config = Some(secret("", Some(ads())));
        }),
        ".combined_validation_context.validation_context_sds_secret_config.name: is empty",
    );
    // A secret brings roots; what else is checked is in the context beside it.
    let hashed = tls::CertificateValidationContext {
        verify_certificate_hash: vec!["a".into()],
        ..tls::CertificateValidationContext::default()
    };
    with(
        combined(Some(hashed), |c| {
            c.validation_context_sds_secret_config = Some(secret("a", Some(ads())));
        }),
        &format!("{DEFAULT}.verify_certificate_hash: is not supported"),
    );
}

#[test]
fn d8_checks_of_certificates_that_are_refused() {
    type Change = fn(&mut tls::CertificateValidationContext);
    let rows: [(Change, &str); 4] = [
        (
            |t| t.require_signed_certificate_timestamp = Some(BoolValue { value: true }),
            ".require_signed_certificate_timestamp: is not supported",
        ),
        (
            |t| t.max_verify_depth = Some(UInt32Value { value: 1 }),
            ".max_verify_depth: is not supported",
        ),
        (
            |t| {
                t.ca_certificate_provider_instance = None;
                t.trusted_ca = inline();
            },
            ".trusted_ca: is no \"filename\"; only that is supported",
        ),
        (
            |t| {
                t.ca_certificate_provider_instance = None;
                t.trusted_ca = Some(core::DataSource::default());
            },
            ".trusted_ca: is no \"filename\"",
        ),
    ];
    for (change, expected) in rows {
        trust_refused(change, expected);
    }
    // All faults at once.
    let mut all = good_trust();
    all.crl = Some(core::DataSource::default());
    all.match_subject_alt_names = vec![matcher::StringMatcher::default()];
    all.ca_certificate_provider_instance = provider("y");
    refused_in_all(
        &trusting(all),
        &[
            ".validation_context.crl: is not supported",
            ".validation_context.match_subject_alt_names[0]: has no pattern",
            ".validation_context.ca_certificate_provider_instance.instance_name: \"y\" is none of",
        ],
    );
}

#[test]
fn d8_names_of_certificates_that_are_refused() {
    use matcher::string_matcher::MatchPattern as Pattern;
    use tls::subject_alt_name_matcher::SanType;
    let pattern = |pattern: Pattern| matcher::StringMatcher {
        match_pattern: Some(pattern),
        ignore_case: false,
    };
    let regex = |regex: &str| {
        Pattern::SafeRegex(matcher::RegexMatcher {
            regex: regex.into(),
            engine_type: None,
        })
    };
    for (found, expected) in [
        (Pattern::Prefix(String::new()), "prefix: is empty"),
        (Pattern::Suffix(String::new()), "suffix: is empty"),
        (Pattern::Contains(String::new()), "contains: is empty"),
        (regex("("), "safe_regex.regex: not a regular expression"),
        (
            Pattern::Custom(Default::default()),
            "custom: is not supported",
        ),
    ] {
        trust_refused(
            |t| t.match_subject_alt_names = vec![pattern(found)],
            &format!(".match_subject_alt_names[0].{expected}"),
        );
    }
    let typed = |kind: SanType, matcher: Option<matcher::StringMatcher>, expected: &str| {
        let one = tls::SubjectAltNameMatcher {
            san_type: kind.into(),
            matcher,
            oid: String::new(),
        };
        trust_refused(
            |t| t.match_typed_subject_alt_names = vec![one],
            &format!(".match_typed_subject_alt_names[0]{expected}"),
        );
    };
    typed(SanType::Uri, None, ".matcher: is missing");
    typed(
        SanType::Uri,
        Some(matcher::StringMatcher::default()),
        ".matcher: has no pattern",
    );
    let other = ": is of a type that is not supported; URI with an exact text or a prefix";
    let exact = |text: &str| Some(pattern(Pattern::Exact(text.into())));
    for kind in [
        SanType::Unspecified,
        SanType::Email,
        SanType::Dns,
        SanType::IpAddress,
        SanType::OtherName,
    ] {
        typed(kind, exact("spiffe://a/b"), other);
    }
    // A text that could be a name of another type, or a pattern that could match one.
    typed(SanType::Uri, exact("a.b"), other);
    typed(
        SanType::Uri,
        Some(pattern(Pattern::Suffix("://b".into()))),
        other,
    );
    typed(SanType::Uri, Some(pattern(regex("a://b"))), other);
}

#[test]
fn d8_transports_that_are_refused() {
    let typed = |config: Option<Any>| core::TransportSocket {
        name: "envoy.transport_sockets.tls".into(),
        config_type: config.map(core::transport_socket::ConfigType::TypedConfig),
    };
    let server = any(&tls::DownstreamTlsContext::default());
    let proxied = Any {
        type_url: "type.googleapis.com/envoy.extensions.transport_sockets.http_11_proxy.v3.\
                   Http11ProxyUpstreamTransport"
            .into(),
        value: Vec::new(),
    };
    let broken = Any {
        type_url:
            "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
                .into(),
        value: vec![0xff],
    };
    for (config, expected) in [
        (None, ": is missing"),
        (
            Some(server),
            ": \"envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext\" is no transport",
        ),
        (
            Some(proxied),
            ": \"envoy.extensions.transport_sockets.http_11_proxy.v3.Http11ProxyUpstreamTransport\" is \
             no transport that is known here",
        ),
        (
            Some(broken),
            ": is no envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        ),
    ] {
        cluster_refused(
            |c| c.transport_socket = Some(typed(config)),
            &format!("transport_socket.typed_config{expected}"),
        );
    }
}

/// Any other choice of transports than Istio's pair would send plain text where none is meant.
#[test]
fn d8_choices_of_transports_that_are_refused() {
    let tls = || socket(any(&trusting(good_trust())));
    let choice = |wanted: &[(&str, &str)], transport| cluster::cluster::TransportSocketMatch {
        name: "x".into(),
        r#match: Some(super::security::texts(wanted)),
        transport_socket: transport,
    };
    let istio = || choice(&[("tlsMode", "istio")], tls());
    let rest = || choice(&[], None);
    assert_eq!(
        told(
            Kind::Cluster,
            &good_cluster_with(|c| c.transport_socket_matches = vec![istio(), rest()])
        ),
        ""
    );
    let other = "transport_socket_matches: chooses transports in another way than Istio's";
    for matches in [
        vec![istio()],
        vec![choice(&[], tls()), istio()],
        vec![istio(), rest(), rest()],
        vec![istio(), choice(&[], tls())],
        vec![istio(), choice(&[("a", "b")], None)],
        vec![choice(&[("tlsMode", "other")], tls()), rest()],
        vec![choice(&[("tlsMode", "istio"), ("a", "b")], tls()), rest()],
        vec![choice(&[], tls()), rest()],
    ] {
        cluster_refused(|c| c.transport_socket_matches = matches, other);
    }
    cluster_refused(
        |c| {
            c.transport_socket_matches = vec![choice(&[("tlsMode", "istio")], None), rest()];
        },
        "transport_socket_matches[0].transport_socket: is missing",
    );
}
