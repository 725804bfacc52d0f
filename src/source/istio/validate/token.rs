//! The rules of RequestAuthentication, after Istio's `validateJwtRule`, and of external authorizers.

use std::collections::BTreeSet;

use http::Uri;

use super::access::attachment;
use super::names::{duration, header_name, port};
use super::{Checker, telemetry};
use crate::source::istio::fault::quoted;
use crate::source::istio::jwks;
use crate::source::istio::kinds::{
    ExtAuthzGrpc, ExtAuthzHttp, ExtensionProvider, JwtRule, RequestAuthentication,
};
use crate::source::istio::yaml::Located;

pub(super) fn request_authentication(check: &mut Checker<'_>, policy: &RequestAuthentication) {
    let RequestAuthentication {
        selector,
        target_ref,
        target_refs,
        jwt_rules,
    } = policy;
    attachment(check, selector.as_ref(), target_ref.as_ref(), target_refs);
    // A door that cannot verify tokens would deny every request.
    if cfg!(all(feature = "inbound", not(feature = "jwt"))) {
        let hint = Some("build with the feature jwt");
        check.refuse_hint("jwtRules", !jwt_rules.is_empty(), hint);
    }
    check.each("jwtRules", jwt_rules, |check, rule| jwt_rule(check, rule));
}

fn jwt_rule(check: &mut Checker<'_>, rule: &JwtRule) {
    let JwtRule {
        issuer,
        audiences,
        jwks_uri,
        jwks,
        timeout,
        from_headers,
        from_params,
        from_cookies,
        forward_original_token: _,
        output_payload_to_header,
        output_claim_to_headers,
        space_delimited_claims,
    } = rule;
    let named = issuer.as_ref().is_some_and(|issuer| !issuer.is_empty());
    if !named && jwks_uri.is_none() {
        check.error("a rule needs issuer or jwksUri");
    }
    not_empty(check, "audiences", audiences);
    if jwks.is_some() && jwks_uri.is_some() {
        check.error_at("jwks", "only one of jwks and jwksUri can be set");
    }
    let address = jwks_uri.as_ref().filter(|_| jwks.is_none());
    check.some("jwksUri", address, |check, uri| key_address(check, uri));
    if let (true, None, None, Some(issuer)) = (named, jwks_uri, jwks, issuer) {
        check.within("issuer", |check| discovered(check, issuer));
    }
    check.some("jwks", jwks.as_ref(), |check, text| key_set(check, text));
    duration(check, "timeout", *timeout);
    check.each("fromHeaders", from_headers, |check, header| {
        check.within("name", |check| header_name(check, &header.name));
    });
    not_empty(check, "fromParams", from_params);
    not_empty(check, "fromCookies", from_cookies);
    check.some(
        "outputPayloadToHeader",
        output_payload_to_header.as_ref(),
        |check, name| {
            header_name(check, name);
        },
    );
    check.each(
        "outputClaimToHeaders",
        output_claim_to_headers,
        |check, output| {
            check.within("header", |check| claim_header(check, &output.header));
            if output.claim.is_empty() || output.claim.split('.').any(str::is_empty) {
                check.error_at("claim", format!("{} names no claim", quoted(&output.claim)));
            }
        },
    );
    not_empty(check, "spaceDelimitedClaims", space_delimited_claims);
}

fn not_empty(check: &mut Checker<'_>, field: &'static str, list: &[Located<String>]) {
    check.each(field, list, |check, text| {
        if text.is_empty() {
            check.error("must not be empty");
        }
    });
}

/// Istio's `^[-_A-Za-z0-9]+$`.
fn claim_header(check: &mut Checker<'_>, name: &str) {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if name.is_empty() || !name.bytes().all(allowed) {
        let text = "is no header name: expected letters, digits, - and _";
        check.error(format!("{} {text}", quoted(name)));
    }
}

fn key_address(check: &mut Checker<'_>, uri: &str) {
    let parsed = uri.parse::<Uri>().ok();
    let good = parsed.as_ref().is_some_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri
                .authority()
                .is_some_and(|authority| !authority.as_str().contains('@'))
    });
    if !good {
        check.error(format!(
            "{} is no address: expected http:// or https:// and a host",
            quoted(uri)
        ));
    }
    if parsed.is_some_and(|uri| good && uri.scheme_str() == Some("http")) {
        check.warn(
            crate::source::istio::fault::Code::Suspicious,
            "keys that come without TLS can be replaced by whoever is in between",
        );
    }
}

fn discovered(check: &mut Checker<'_>, issuer: &str) {
    let uri = issuer.parse::<Uri>().ok();
    let good = uri.is_some_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")));
    if !good {
        let text = format!("{} says nowhere where its keys are", quoted(issuer));
        check.error_hint(text, "write jwks or jwksUri");
    }
}

fn key_set(check: &mut Checker<'_>, text: &str) {
    match jwks::inspect(text) {
        Ok(found) if found.private => check.warn(
            crate::source::istio::fault::Code::Suspicious,
            "the set has a private key: whoever reads this file can make tokens",
        ),
        Ok(_) => {}
        Err(why) => check.error(format!("is no JSON Web Key Set: {why}")),
    }
}

/// The authorizers of the mesh configuration.
pub(super) fn providers(check: &mut Checker<'_>, providers: &[Located<ExtensionProvider>]) {
    let mut names = BTreeSet::new();
    check.each("extensionProviders", providers, |check, provider| {
        let ExtensionProvider {
            name,
            envoy_ext_authz_http,
            envoy_ext_authz_grpc,
            envoy_file_access_log,
            envoy_otel_als,
            prometheus: _,
            opentelemetry: _,
            zipkin: _,
            jaeger: _,
            datadog: _,
            skywalking: _,
            lightstep: _,
            opencensus: _,
            stackdriver: _,
        } = &**provider;
        if name.is_empty() {
            check.error_at("name", "a provider needs a name");
        } else if !names.insert(&**name) {
            check.error_at("name", format!("{} stands twice", quoted(name)));
        }
        check.some(
            "envoyExtAuthzHttp",
            envoy_ext_authz_http.as_ref(),
            |check, http| by_http(check, http),
        );
        check.some(
            "envoyExtAuthzGrpc",
            envoy_ext_authz_grpc.as_ref(),
            |check, grpc| by_grpc(check, grpc),
        );
        let file = envoy_file_access_log.as_ref();
        check.some("envoyFileAccessLog", file, |check, file| {
            telemetry::file(check, file);
        });
        check.some("envoyOtelAls", envoy_otel_als.as_ref(), |check, als| {
            check.some("logFormat", als.log_format.as_ref(), |check, format| {
                check.some("text", format.text.as_ref(), |check, text| {
                    telemetry::operators(check, text);
                });
                check.within("labels", |check| {
                    for (name, text) in &format.labels {
                        check.within_key(name, |check| telemetry::operators(check, text));
                    }
                });
            });
        });
    });
}

fn by_http(check: &mut Checker<'_>, http: &ExtAuthzHttp) {
    service(check, &http.service, http.port);
    duration(check, "timeout", http.timeout);
    check.some("pathPrefix", http.path_prefix.as_ref(), |check, prefix| {
        let good = prefix.starts_with('/')
            && prefix.parse::<Uri>().is_ok()
            && !prefix.contains(['?', '#']);
        if !good {
            check.error(format!("{} is no path", quoted(prefix)));
        }
    });
    status(check, http.status_on_error.as_ref());
    let lists = [
        (
            "includeRequestHeadersInCheck",
            &http.include_request_headers_in_check,
        ),
        ("includeHeadersInCheck", &http.include_headers_in_check),
        (
            "headersToUpstreamOnAllow",
            &http.headers_to_upstream_on_allow,
        ),
        (
            "headersToDownstreamOnDeny",
            &http.headers_to_downstream_on_deny,
        ),
        (
            "headersToDownstreamOnAllow",
            &http.headers_to_downstream_on_allow,
        ),
    ];
    for (field, list) in lists {
        not_empty(check, field, list);
    }
    check.deprecated(
        "includeHeadersInCheck",
        !http.include_headers_in_check.is_empty(),
        "use includeRequestHeadersInCheck",
    );
    check.within("includeAdditionalHeadersInCheck", |check| {
        for (name, value) in &http.include_additional_headers_in_check {
            check.within_key(name, |check| {
                header_name(check, name);
                if http::HeaderValue::from_str(value).is_err() {
                    check.error("is no header value");
                }
            });
        }
    });
    check.refuse(
        "includeRequestBodyInCheck",
        http.include_request_body_in_check.is_some(),
    );
    let reason = "there is no route to choose behind it";
    check.no_effect("clearRouteCache", http.clear_route_cache.is_some(), reason);
}

fn by_grpc(check: &mut Checker<'_>, grpc: &ExtAuthzGrpc) {
    service(check, &grpc.service, grpc.port);
    duration(check, "timeout", grpc.timeout);
    status(check, grpc.status_on_error.as_ref());
    check.refuse(
        "includeRequestBodyInCheck",
        grpc.include_request_body_in_check.is_some(),
    );
    let reason = "there is no route to choose behind it";
    check.no_effect("clearRouteCache", grpc.clear_route_cache.is_some(), reason);
}

fn service(check: &mut Checker<'_>, service: &str, number: u16) {
    let host = service.split_once('/').map_or(service, |(_, host)| host);
    if host.is_empty() || super::names::host_fault(host).is_some() || host.contains('*') {
        check.error_at("service", format!("{} is no host", quoted(service)));
    }
    port(check, "port", Some(number));
}

/// The statuses that Envoy can be told to answer with (`envoy.type.v3.StatusCode`; `HttpStatus.code` is
/// `defined_only`), as in Istio. Without 100, which is no answer.
fn is_answer(status: u16) -> bool {
    matches!(
        status,
        200..=208 | 226 | 300..=305 | 307 | 308 | 400..=417 | 421..=424 | 426 | 428 | 429 | 431
            | 500..=508 | 510 | 511
    )
}

fn status(check: &mut Checker<'_>, status: Option<&Located<String>>) {
    check.some("statusOnError", status, |check, text| {
        if !text.parse().is_ok_and(is_answer) {
            check.error(format!(
                "{} is no status that Envoy answers with: expected one of envoy.type.v3.StatusCode \
                 from 200 on, such as 403 or 503",
                quoted(text)
            ));
        }
    });
}
