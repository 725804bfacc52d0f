//! Gateway.

use super::*;

fn server(text: &str) -> String {
    format!("{{selector: {{istio: edge}}, servers: [{{{text}}}]}}")
}

const HTTPS: &str = "hosts: ['*'], port: {number: 443, name: https, protocol: HTTPS}";
const FILES: &str = "serverCertificate: /tls/crt, privateKey: /tls/key";

fn https(tls: &str) -> String {
    server(&format!("{HTTPS}, tls: {{{tls}}}"))
}

#[test]
fn a_gateway_of_http_is_accepted() {
    for protocol in ["HTTP", "http2", "GRPC", "GRPC-Web"] {
        let text = format!(
            "port: {{number: 80, name: x, protocol: {protocol}}}, bind: '::1', name: one, \
             hosts: ['*', shop.test, ./a.test, 'other/*.test'], tls: {{httpsRedirect: true}}"
        );
        accepts("Gateway", &server(&text));
    }
}

#[test]
fn a_gateway_of_tls_with_files_is_accepted() {
    for tls in [
        format!("mode: SIMPLE, {FILES}, minProtocolVersion: TLSV1_2, maxProtocolVersion: TLSV1_3"),
        format!("mode: SIMPLE, {FILES}, cipherSuites: [ECDHE-RSA-AES128-GCM-SHA256]"),
        format!("mode: MUTUAL, {FILES}, caCertificates: /tls/ca, caCrl: /tls/crl"),
        format!(
            "mode: OPTIONAL_MUTUAL, {FILES}, caCertificates: /tls/ca, subjectAltNames: [a.test]"
        ),
        format!("mode: SIMPLE, tlsCertificates: [{{{FILES}}}, {{{FILES}}}]"),
        "mode: PASSTHROUGH".to_owned(),
    ] {
        accepts("Gateway", &https(&tls));
    }
    let port = "{number: 443, name: tls, protocol: TLS}";
    let text = format!("hosts: ['*'], port: {port}, tls: {{mode: PASSTHROUGH}}");
    accepts("Gateway", &server(&text));
}

#[test]
fn what_is_required_is_told() {
    refuses("Gateway", "{}", "a gateway must have at least one server");
    for (text, message) in [
        ("hosts: ['*']", "servers[0]: a server must have a port"),
        (
            "hosts: ['*'], port: {protocol: HTTP, name: a}",
            "servers[0].port.number: port 0 does not exist: expected 1 to 65535",
        ),
        (
            "hosts: ['*'], port: {number: 80, name: a}",
            "servers[0].port: a port of a server must have a protocol",
        ),
        (
            "hosts: ['*'], port: {number: 80, protocol: HTTP}",
            "servers[0].port: a port of a server must have a name",
        ),
        (
            "port: {number: 80, protocol: HTTP, name: a}",
            "servers[0]: a server must have at least one host",
        ),
        (
            "hosts: ['*'], port: {number: 80, protocol: HTTPZ, name: a}",
            "servers[0].port.protocol: \"HTTPZ\" is no protocol: served are HTTP, HTTP2, GRPC, \
             GRPC-WEB, HTTPS, and TLS with mode PASSTHROUGH",
        ),
        (
            HTTPS,
            "servers[0]: a server of HTTPS or TLS must have tls settings",
        ),
    ] {
        refuses("Gateway", &server(text), message);
    }
}

#[test]
fn places_and_hosts_are_names_and_addresses() {
    for (more, message) in [
        (
            "hosts: ['*'], bind: here",
            "servers[0].bind: \"here\" is no IP address",
        ),
        (
            "hosts: ['*'], bind: 'unix:///run/edge'",
            "servers[0].bind: a Unix socket is known, not yet supported",
        ),
        (
            "hosts: ['a*/x.test']",
            "servers[0].hosts[0]: \"a*/x.test\" has the namespace \"a*\": a name, . and * are allowed",
        ),
        (
            "hosts: ['a b']",
            "servers[0].hosts[0]: \"a b\" is no host: expected a DNS name, *.suffix or an IP address",
        ),
        (
            "hosts: [10.0.0.1]",
            "servers[0].hosts[0]: \"10.0.0.1\" is an address: expected a DNS name",
        ),
    ] {
        let text = format!("{more}, port: {{number: 80, name: a, protocol: HTTP}}");
        refuses("Gateway", &server(&text), message);
    }
}

#[test]
fn names_of_ports_are_unique() {
    let one = "{hosts: [a.test], port: {number: 80, name: web, protocol: HTTP}}";
    let two = "{hosts: [b.test], port: {number: 81, name: web, protocol: HTTP}}";
    let text = format!("{{servers: [{one}, {two}]}}");
    let message = "servers[1].port.name: the port name \"web\" stands twice";
    refuses("Gateway", &text, message);
}

#[test]
fn certificates_are_files_and_whole() {
    let secrets = "is known, not yet supported";
    for (tls, message) in [
        (
            "mode: SIMPLE, credentialName: shop".to_owned(),
            format!("servers[0].tls.credentialName: credentialName {secrets}"),
        ),
        (
            "mode: SIMPLE, credentialNames: [shop]".to_owned(),
            format!("servers[0].tls.credentialNames: credentialNames {secrets}"),
        ),
        (
            "mode: ISTIO_MUTUAL".to_owned(),
            format!("servers[0].tls.mode: ISTIO_MUTUAL {secrets}"),
        ),
        (
            "mode: AUTO_PASSTHROUGH".to_owned(),
            format!("servers[0].tls.mode: AUTO_PASSTHROUGH {secrets}"),
        ),
        (
            "mode: SIMPLE".to_owned(),
            "servers[0].tls: the mode needs serverCertificate and privateKey".to_owned(),
        ),
        (
            "mode: SIMPLE, serverCertificate: /tls/crt".to_owned(),
            "servers[0].tls: serverCertificate needs privateKey".to_owned(),
        ),
        (
            "mode: SIMPLE, privateKey: /tls/key".to_owned(),
            "servers[0].tls: privateKey needs serverCertificate".to_owned(),
        ),
        (
            format!("mode: SIMPLE, {FILES}, tlsCertificates: [{{{FILES}}}]"),
            "servers[0].tls: tlsCertificates excludes serverCertificate and privateKey".to_owned(),
        ),
        (
            format!("mode: SIMPLE, tlsCertificates: [{{{FILES}}}, {{{FILES}}}, {{{FILES}}}]"),
            "servers[0].tls.tlsCertificates: 3 certificates: at most 2 are allowed".to_owned(),
        ),
    ] {
        refuses("Gateway", &https(&tls), &message);
    }
}

#[test]
fn what_is_asked_of_callers_is_asked_by_roots() {
    let asks = "it checks certificates of callers, whom the mode SIMPLE does not ask";
    for (tls, message) in [
        (
            "mode: MUTUAL",
            "servers[0].tls: the mode needs caCertificates, by which callers are checked"
                .to_owned(),
        ),
        (
            "mode: SIMPLE, caCrl: /tls/crl",
            format!("servers[0].tls.caCrl: {asks}"),
        ),
        (
            "mode: SIMPLE, subjectAltNames: [a.test]",
            format!("servers[0].tls.subjectAltNames: {asks}"),
        ),
        (
            "mode: SIMPLE, verifyCertificateSpki: [aaaa]",
            format!("servers[0].tls.verifyCertificateSpki: {asks}"),
        ),
        (
            "mode: SIMPLE, verifyCertificateHash: [aaaa]",
            format!("servers[0].tls.verifyCertificateHash: {asks}"),
        ),
        (
            "mode: SIMPLE, minProtocolVersion: TLSV1_3, maxProtocolVersion: TLSV1_2",
            "servers[0].tls.minProtocolVersion: it is above maxProtocolVersion".to_owned(),
        ),
        (
            "mode: SIMPLE, cipherSuites: [ROT13]",
            "servers[0].tls.cipherSuites[0]: \"ROT13\" is no cipher that Envoy knows".to_owned(),
        ),
    ] {
        refuses("Gateway", &https(&format!("{tls}, {FILES}")), &message);
    }
}

#[test]
fn plaintext_takes_the_redirect_alone() {
    let port = "hosts: ['*'], port: {number: 80, name: a, protocol: HTTP}";
    let text = server(&format!("{port}, tls: {{mode: SIMPLE, {FILES}}}"));
    let message = "servers[0].tls: a server of plaintext HTTP takes httpsRedirect alone";
    refuses("Gateway", &text, message);
    let port = "hosts: ['*'], port: {number: 80, name: a, protocol: TCP}";
    let text = server(&format!("{port}, tls: {{httpsRedirect: true}}"));
    let message = "servers[0].tls: tls settings are for the protocols HTTPS and TLS";
    refuses("Gateway", &text, message);
}

#[test]
fn what_has_no_effect_is_a_warning() {
    let mutual = format!("mode: SIMPLE, {FILES}, caCertificates: /tls/ca");
    let tls = "port: {number: 443, name: a, protocol: TLS}";
    for text in [
        "hosts: ['*'], port: {number: 80, name: a, protocol: MONGO}".to_owned(),
        "hosts: ['*'], port: {number: 80, name: a, protocol: HTTP, targetPort: 8080}".to_owned(),
        "hosts: ['*'], port: {number: 80, name: a, protocol: HTTP}, defaultEndpoint: 127.0.0.1:1"
            .to_owned(),
        format!("{HTTPS}, tls: {{mode: PASSTHROUGH, httpsRedirect: true}}"),
        format!("{HTTPS}, tls: {{mode: PASSTHROUGH, {FILES}}}"),
        format!("{HTTPS}, tls: {{{mutual}}}"),
        format!("hosts: ['*'], {tls}, tls: {{mode: SIMPLE, {FILES}}}"),
        format!(
            "{HTTPS}, tls: {{mode: SIMPLE, tlsCertificates: [{{{FILES}, caCertificates: /tls/ca}}]}}"
        ),
    ] {
        let faults = faults("Gateway", &server(&text));
        assert!(
            !faults.has_errors() && faults.len() == 1,
            "{text}: {faults}"
        );
    }
}
