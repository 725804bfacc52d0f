//! The rules of a Gateway (Istio's `ValidateGateway`), and what of it is not served.
//!
//! A server that is not served has no listener, so nobody is let in by mistake: that is a warning.
//! What would be served otherwise than it says (certificates that nobody can fetch, a check of
//! callers that is left out) is refused.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::Checker;
use super::names::{host_fault, is_dns_label, labels};
use crate::source::istio::fault::{Code, quoted};
use crate::source::istio::kinds::{
    Gateway, GatewayPort, GatewayServer, ServerCertificate, ServerProtocol, ServerTls,
    ServerTlsMode, TlsVersion,
};

/// Protocols that become listeners.
const SERVED: &str = "HTTP, HTTP2, GRPC, GRPC-WEB, HTTPS, and TLS with mode PASSTHROUGH";

/// Protocols that Istio knows and that become none.
const KNOWN: [&str; 7] = ["HBONE", "MONGO", "MYSQL", "REDIS", "TCP", "THRIFT", "UDP"];

/// Ciphers that Envoy knows by these names; with another it refuses the listener.
const CIPHERS: [&str; 15] = [
    "AES128-GCM-SHA256",
    "AES128-SHA",
    "AES256-GCM-SHA384",
    "AES256-SHA",
    "DES-CBC3-SHA",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-SHA",
    "ECDHE-RSA-CHACHA20-POLY1305",
];

pub(super) fn rules(check: &mut Checker<'_>, gateway: &Gateway) {
    let Gateway { servers, selector } = gateway;
    if servers.is_empty() {
        check.error("a gateway must have at least one server");
    }
    check.within("selector", |check| labels(check, selector));
    let mut names = BTreeSet::new();
    check.each("servers", servers, |check, server| {
        self::server(check, server);
        let name = server.port.as_ref().and_then(|port| port.name.as_deref());
        if let Some(name) = name.filter(|name| !names.insert(*name)) {
            check.within("port", |check| {
                let text = format!("the port name {} stands twice", quoted(name));
                check.error_at("name", text);
            });
        }
    });
}

fn server(check: &mut Checker<'_>, server: &GatewayServer) {
    let GatewayServer {
        port,
        bind,
        hosts,
        tls,
        default_endpoint,
        name: _,
    } = server;
    match port {
        None => check.error("a server must have a port"),
        Some(_) => check.some("port", port.as_ref(), |check, port| {
            self::port(check, port, server.protocol());
        }),
    }
    check.some("bind", bind.as_ref(), |check, bind| self::bind(check, bind));
    if hosts.is_empty() {
        check.error("a server must have at least one host");
    }
    check.each("hosts", hosts, |check, host| self::host(check, host));
    match tls {
        Some(_) => check.some("tls", tls.as_ref(), |check, tls| {
            self::tls(check, tls, server.protocol());
        }),
        None => untold(check, server.protocol()),
    }
    let reason = "it is for sidecars, which have no listeners here";
    check.no_effect("defaultEndpoint", default_endpoint.is_some(), reason);
}

fn untold(check: &mut Checker<'_>, protocol: ServerProtocol) {
    if matches!(protocol, ServerProtocol::Https | ServerProtocol::Tls) {
        check.error_hint(
            "a server of HTTPS or TLS must have tls settings",
            "write tls: {mode: SIMPLE, serverCertificate: ..., privateKey: ...}",
        );
    }
}

fn port(check: &mut Checker<'_>, port: &GatewayPort, protocol: ServerProtocol) {
    let GatewayPort {
        number,
        protocol: written,
        name,
        target_port,
    } = port;
    if *number == 0 {
        check.error_at("number", "port 0 does not exist: expected 1 to 65535");
    }
    match written.as_deref() {
        None | Some("") => check.error("a port of a server must have a protocol"),
        Some(written) if protocol == ServerProtocol::Other => {
            let known = KNOWN
                .iter()
                .any(|known| known.eq_ignore_ascii_case(written));
            check.within("protocol", |check| match known {
                true => {
                    let text = format!(
                        "{} is not served, so this server has no listener; served are {SERVED}",
                        quoted(written)
                    );
                    check.warn(Code::NotEnforced, text);
                }
                false => check.error(format!(
                    "{} is no protocol: served are {SERVED}",
                    quoted(written)
                )),
            });
        }
        Some(_) => {}
    }
    if name.as_deref().is_none_or(str::is_empty) {
        check.error("a port of a server must have a name");
    }
    let reason = "it is of old and means nothing";
    check.no_effect("targetPort", target_port.is_some(), reason);
}

fn bind(check: &mut Checker<'_>, bind: &str) {
    if bind.starts_with("unix://") {
        check.refuse_value("a Unix socket", Some("write an IP address"));
    } else if bind.parse::<IpAddr>().is_err() {
        check.error(format!("{} is no IP address", quoted(bind)));
    }
}

fn host(check: &mut Checker<'_>, host: &str) {
    let (namespace, name) = host.split_once('/').unwrap_or(("*", host));
    if !matches!(namespace, "*" | ".") && !is_dns_label(namespace) {
        check.error(format!(
            "{} has the namespace {}: a name, . and * are allowed",
            quoted(host),
            quoted(namespace)
        ));
    }
    if let Some(fault) = host_fault(name) {
        check.error(fault);
    } else if name.parse::<IpAddr>().is_ok() {
        check.error(format!(
            "{} is an address: expected a DNS name",
            quoted(name)
        ));
    }
}

// === TLS ===

fn tls(check: &mut Checker<'_>, tls: &ServerTls, protocol: ServerProtocol) {
    let certified = tls.server_certificate.is_some()
        || tls.private_key.is_some()
        || tls.ca_certificates.is_some()
        || !tls.tls_certificates.is_empty()
        || names_secrets(tls);
    match protocol {
        ServerProtocol::Http | ServerProtocol::GrpcWeb => {
            if tls.mode != ServerTlsMode::Passthrough || certified {
                let text = "a server of plaintext HTTP takes httpsRedirect alone";
                check.error_hint(text, "write protocol: HTTPS");
            }
            return;
        }
        ServerProtocol::Other => {
            check.error("tls settings are for the protocols HTTPS and TLS");
            return;
        }
        ServerProtocol::Https | ServerProtocol::Tls => {}
    }
    let reason = "callers of this server speak TLS already";
    check.no_effect("httpsRedirect", tls.https_redirect, reason);
    match tls.mode {
        ServerTlsMode::Passthrough => {
            let text = "the service behind a server with mode PASSTHROUGH has the certificates";
            if certified {
                check.warn(Code::NoEffect, text);
            }
        }
        ServerTlsMode::AutoPassthrough | ServerTlsMode::IstioMutual => unknown_mode(check, tls),
        ServerTlsMode::Simple | ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual => {
            if protocol == ServerProtocol::Tls {
                let text = format!(
                    "it is not served, so this server has no listener; served are {SERVED}"
                );
                check.within("mode", |check| check.warn(Code::NotEnforced, text));
            }
            certificates(check, tls);
            callers(check, tls);
            parameters(check, tls);
        }
    }
}

fn unknown_mode(check: &mut Checker<'_>, tls: &ServerTls) {
    let (mode, hint) = match tls.mode {
        ServerTlsMode::AutoPassthrough => (
            "AUTO_PASSTHROUGH",
            "write PASSTHROUGH and say in the tls rules of a VirtualService where connections go",
        ),
        _ => (
            "ISTIO_MUTUAL",
            "write MUTUAL and name files: serverCertificate, privateKey, caCertificates",
        ),
    };
    check.within("mode", |check| check.refuse_value(mode, Some(hint)));
}

fn names_secrets(tls: &ServerTls) -> bool {
    tls.credential_name.is_some() || !tls.credential_names.is_empty()
}

/// Files, because this server has none of Kubernetes' secrets to give.
fn certificates(check: &mut Checker<'_>, tls: &ServerTls) {
    let hint = "the secrets of a cluster are not read here: mount the secret where the Envoy runs, and \
                name its files in serverCertificate, privateKey and caCertificates";
    let named = tls.credential_name.is_some();
    check.refuse_hint("credentialName", named, Some(hint));
    let named = !tls.credential_names.is_empty();
    check.refuse_hint("credentialNames", named, Some(hint));
    if names_secrets(tls) {
        return;
    }
    let own = tls.server_certificate.is_some() || tls.private_key.is_some();
    match (own, tls.tls_certificates.len()) {
        (true, 0) => {
            pair(
                check,
                tls.server_certificate.is_some(),
                tls.private_key.is_some(),
            );
        }
        (true, _) => check.error("tlsCertificates excludes serverCertificate and privateKey"),
        (false, 0) => check.error("the mode needs serverCertificate and privateKey"),
        (false, 1 | 2) => {}
        (false, many) => {
            let text = format!("{many} certificates: at most 2 are allowed");
            check.error_at("tlsCertificates", text);
        }
    }
    check.each("tlsCertificates", &tls.tls_certificates, |check, one| {
        let ServerCertificate {
            server_certificate,
            private_key,
            ca_certificates,
        } = &one.value;
        pair(check, server_certificate.is_some(), private_key.is_some());
        let reason = "the roots of the server count";
        check.no_effect("caCertificates", ca_certificates.is_some(), reason);
    });
}

fn pair(check: &mut Checker<'_>, certificate: bool, key: bool) {
    if !certificate {
        check.error("privateKey needs serverCertificate");
    }
    if !key {
        check.error("serverCertificate needs privateKey");
    }
}

/// What is asked of callers must have roots to ask it by.
fn callers(check: &mut Checker<'_>, tls: &ServerTls) {
    let asks = tls.mode != ServerTlsMode::Simple;
    let roots = tls.ca_certificates.is_some();
    if asks && !roots && !names_secrets(tls) {
        check.error("the mode needs caCertificates, by which callers are checked");
    }
    let reason = "the mode SIMPLE asks callers for no certificate";
    check.no_effect("caCertificates", roots && !asks, reason);
    for (field, given) in [
        ("caCrl", tls.ca_crl.is_some()),
        ("subjectAltNames", !tls.subject_alt_names.is_empty()),
        (
            "verifyCertificateSpki",
            !tls.verify_certificate_spki.is_empty(),
        ),
        (
            "verifyCertificateHash",
            !tls.verify_certificate_hash.is_empty(),
        ),
    ] {
        if given && !asks {
            let text = "it checks certificates of callers, whom the mode SIMPLE does not ask";
            check.error_at(field, text);
        }
    }
}

fn parameters(check: &mut Checker<'_>, tls: &ServerTls) {
    let (least, most) = (tls.min_protocol_version, tls.max_protocol_version);
    if most != TlsVersion::Auto && least > most {
        check.error_at("minProtocolVersion", "it is above maxProtocolVersion");
    }
    check.each("cipherSuites", &tls.cipher_suites, |check, cipher| {
        if !CIPHERS.contains(&cipher.as_str()) {
            let text = format!("{} is no cipher that Envoy knows", quoted(cipher));
            check.error_hint(text, format!("known are {}", CIPHERS.join(", ")));
        }
    });
}
