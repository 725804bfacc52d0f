//! HTTPRoute, GRPCRoute, ReferenceGrant: limits and CEL rules.

use super::{accepts, faults, messages, refuses, rule_tests, warns};
use crate::source::istio::{Options, Severity, Strictness, read};

type Shape = (&'static str, String);

const PARENT: &str = "{group: '', kind: Service, name: catalog}";

fn route(text: &str) -> Shape {
    ("HTTPRoute", format!("{{parentRefs: [{PARENT}], {text}}}"))
}

fn rule(text: &str) -> Shape {
    route(&format!("rules: [{{{text}}}]"))
}

fn path(text: &str) -> Shape {
    rule(&format!("matches: [{{path: {{{text}}}}}]"))
}

fn filter(text: &str) -> Shape {
    rule(&format!("filters: [{{{text}}}]"))
}

fn backend(text: &str) -> Shape {
    rule(&format!("backendRefs: [{{name: catalog, {text}}}]"))
}

fn parent(text: &str) -> Shape {
    ("HTTPRoute", format!("{{parentRefs: [{text}]}}"))
}

fn call(text: &str) -> Shape {
    let spec =
        format!("{{parentRefs: [{PARENT}], rules: [{{matches: [{{method: {{{text}}}}}]}}]}}");
    ("GRPCRoute", spec)
}

fn grpc(text: &str) -> Shape {
    let spec = format!("{{parentRefs: [{PARENT}], rules: [{{{text}}}]}}");
    ("GRPCRoute", spec)
}

fn grant(text: &str) -> Shape {
    ("ReferenceGrant", text.to_owned())
}

fn secured(text: &str) -> Shape {
    let target = "targetRefs: [{group: '', kind: Service, name: a}]";
    (
        "BackendTLSPolicy",
        format!("{{{target}, validation: {{{text}}}}}"),
    )
}

fn traffic(text: &str) -> Shape {
    let target = "targetRefs: [{group: '', kind: Service, name: a}]";
    ("XBackendTrafficPolicy", format!("{{{target}, {text}}}"))
}

rule_tests! {
    a_backend_policy_is_for_somebody: refuses(|text: &str| ("XBackendTrafficPolicy", text.to_owned()), "{targetRefs: []}")
        => "targetRefs: targetRefs must have at least one entry";
    a_backend_is_signed_by_somebody: refuses(secured, "hostname: a.b")
        => "validation: must specify either caCertificateRefs or wellKnownCACertificates";
    a_backend_is_signed_by_one: refuses(secured,
        "hostname: a.b, wellKnownCACertificates: System, caCertificateRefs: [{group: '', kind: ConfigMap, name: a}]")
        => "validation: must not contain both caCertificateRefs and wellKnownCACertificates";
    roots_of_a_backend_are_in_one_object: refuses(secured,
        "hostname: a.b, caCertificateRefs: [{group: '', kind: ConfigMap, name: a}, {group: '', kind: ConfigMap, name: b}]")
        => "validation.caCertificateRefs: one reference is supported: put the roots into one object";
    roots_of_a_backend_are_of_a_known_kind: refuses(secured,
        "hostname: a.b, caCertificateRefs: [{group: x.y, kind: Bundle, name: a}]")
        => "validation.caCertificateRefs[0].kind: a ConfigMap or a Secret of the core group is expected";
    well_known_authorities_are_the_systems: refuses(secured, "hostname: a.b, wellKnownCACertificates: Mozilla")
        => "validation.wellKnownCACertificates: \"Mozilla\" is not System";
    a_backend_has_a_host_name: refuses(secured, "hostname: '*', wellKnownCACertificates: System")
        => "validation.hostname: \"*\" is no host name";
    options_of_a_backend: warns(
        |text: &str| ("BackendTLSPolicy", format!("{{targetRefs: [{{group: '', kind: Service, name: a}}], \
            validation: {{hostname: a.b, wellKnownCACertificates: System}}, {text}}}")),
        "options: {a: b}")
        => "options: options has no effect in this client: no option is known here";
    a_name_of_a_backend_has_its_field: refuses(secured,
        "hostname: a.b, wellKnownCACertificates: System, subjectAltNames: [{type: URI, hostname: a}]")
        => "validation.subjectAltNames[0]: the type URI has a uri and no hostname";
    a_share_of_retries_is_a_percentage: refuses(traffic, "retryConstraint: {budget: {percent: 101}}")
        => "retryConstraint.budget.percent: percent 101 is outside of 0 to 100";
    a_share_of_retries_has_a_time: refuses(traffic, "retryConstraint: {budget: {interval: 2h}}")
        => "retryConstraint.budget.interval: interval must be between 1s and 1h";
    a_rate_of_retries_is_some: refuses(traffic, "retryConstraint: {minRetryRate: {count: 0}}")
        => "retryConstraint.minRetryRate.count: count 0 is outside of 1 to 1000000";
    a_rate_of_retries_has_no_time: warns(traffic, "retryConstraint: {minRetryRate: {interval: 1s}}")
        => "retryConstraint.minRetryRate.interval: interval has no effect in this client: the number is \
            one of retries under way, as Istio has it";
    a_session_of_a_backend: warns(traffic, "sessionPersistence: {sessionName: a}")
        => "sessionPersistence: sessionPersistence has no effect in this client: a session belongs to a \
            route here: write it in the rules that lead to the service";
    a_gateway_is_no_parent: warns(parent, "{name: edge}") =>
        "parentRefs[0]: has no effect in this client: there is no gateway here";
    a_parent_has_a_name: refuses(parent, "{group: '', kind: Service}") =>
        "parentRefs[0].name: name is required";
    a_parent_namespace_is_one: refuses(parent, "{group: '', kind: Service, name: a, namespace: A}") =>
        "parentRefs[0].namespace: \"A\" is no namespace";
    a_parent_stands_once: refuses(parent, "{kind: Service, group: '', name: a}, {kind: Service, group: '', name: a}") =>
        "parentRefs[1]: sectionName or port must be unique when parentRefs includes 2 or more \
         references to the same parent";
    a_route_without_parents_is_idle: warns(|text: &str| ("HTTPRoute", text.to_owned()), "{rules: []}") =>
        "the object has no effect: it is attached to nothing";
    hostnames_are_for_gateways: warns(route, "hostnames: [a.example]") =>
        "hostnames: hostnames has no effect in this client: they are for gateways; a service's \
         requests are its own by its host";
    default_gateways_are_none: warns(route, "useDefaultGateways: All") =>
        "useDefaultGateways: useDefaultGateways has no effect in this client: there is no gateway \
         here";
    names_of_rules_are_unique: refuses(route, "rules: [{name: a}, {name: a}]") =>
        "rules[1].name: Rule name must be unique within the route";
    a_session_has_a_known_type: refuses(rule, "sessionPersistence: {type: Jar}") =>
        "rules[0].sessionPersistence.type: \"Jar\" is neither Cookie nor Header";
    a_session_has_a_name_that_can_be_sent: refuses(rule, "sessionPersistence: {sessionName: a b}") =>
        "rules[0].sessionPersistence.sessionName: \"a b\" is no name of a cookie or header of up to \
         128 characters";
    a_permanent_cookie_ends: refuses(rule,
        "sessionPersistence: {cookieConfig: {lifetimeType: Permanent}}") =>
        "rules[0].sessionPersistence.absoluteTimeout: a Permanent cookie needs it: it is how long the \
         cookie lives";
    a_header_is_no_cookie: refuses(rule,
        "sessionPersistence: {type: Header, cookieConfig: {lifetimeType: Session}}") =>
        "rules[0].sessionPersistence.cookieConfig: cookieConfig is for the type Cookie, and the type \
         is Header";
    a_cookie_has_a_known_life: refuses(rule,
        "sessionPersistence: {cookieConfig: {lifetimeType: Ever}}") =>
        "rules[0].sessionPersistence.cookieConfig.lifetimeType: \"Ever\" is neither Permanent nor \
         Session";
    a_session_that_rests: warns(rule, "sessionPersistence: {idleTimeout: 1m}") =>
        "rules[0].sessionPersistence.idleTimeout: idleTimeout has no effect in this client: the \
         session is in what the caller sends, which does not say when it was used last";
    a_session_without_a_clock: warns(rule, "sessionPersistence: {absoluteTimeout: 1m}") =>
        "rules[0].sessionPersistence.absoluteTimeout: absoluteTimeout has no effect in this client: \
         only a Permanent cookie has a clock, the caller's";
    a_path_is_absolute: refuses(path, "value: foo") =>
        "rules[0].matches[0].path.value: value must be an absolute path and start with '/' when \
         type one of ['Exact', 'PathPrefix']";
    a_path_is_normal: refuses(path, "type: Exact, value: /a/../b") =>
        "rules[0].matches[0].path.value: must not contain '/../' when type one of ['Exact', \
         'PathPrefix']";
    a_path_does_not_end_in_a_dot: refuses(path, "value: /a/.") =>
        "rules[0].matches[0].path.value: must not end with '/.' when type one of ['Exact', \
         'PathPrefix']";
    a_path_is_escaped: refuses(path, "value: '/a b'") =>
        "rules[0].matches[0].path.value: \"/a b\" has characters that a path cannot have unescaped";
    a_path_expression_compiles: refuses(path, "type: RegularExpression, value: '('") =>
        "rules[0].matches[0].path.value: \"(\" is no RE2 regular expression: unclosed group";
    a_header_stands_once: refuses(rule, "matches: [{headers: [{name: a, value: x}, {name: a, value: y}]}]") =>
        "rules[0].matches[0].headers[1].name: \"a\" stands twice";
    of_two_spellings_the_first_counts: warns(rule, "matches: [{headers: [{name: a, value: x}, {name: A, value: y}]}]") =>
        "rules[0].matches[0].headers[1].name: \"A\" stands twice in another case; the first counts";
    a_header_has_a_value: refuses(rule, "matches: [{headers: [{name: a, value: ''}]}]") =>
        "rules[0].matches[0].headers[0].value: value must not be empty";
    a_parameter_has_a_name: refuses(rule, "matches: [{queryParams: [{value: x}]}]") =>
        "rules[0].matches[0].queryParams[0].name: name is required";
    a_method_is_one: refuses(rule, "matches: [{method: get}]") =>
        "rules[0].matches[0].method: \"get\" is no method of an HTTPRoute";
    a_service_backend_has_a_port: refuses(backend, "weight: 1") =>
        "rules[0].backendRefs[0]: Must have port for Service reference";
    a_weight_is_bounded: refuses(backend, "port: 80, weight: 1000001") =>
        "rules[0].backendRefs[0].weight: weight 1000001 is above 1000000";
    a_backend_redirects_nobody: refuses(backend, "port: 80, filters: [{type: RequestRedirect, requestRedirect: {}}]") =>
        "rules[0].backendRefs[0].filters[0].requestRedirect: requestRedirect is known, not yet \
         supported";
    a_filter_has_a_type: refuses(filter, "urlRewrite: {hostname: a.b}") =>
        "rules[0].filters[0].type: type is required";
    a_filter_has_its_block: refuses(filter, "type: URLRewrite") =>
        "rules[0].filters[0]: filter.urlRewrite must be specified for URLRewrite filter.type";
    a_filter_has_no_other_block: refuses(filter, "type: CORS, cors: {}, urlRewrite: {hostname: a.b}") =>
        "rules[0].filters[0]: filter.urlRewrite must be nil if the filter.type is not URLRewrite";
    a_filter_stands_once: refuses(rule, "filters: [{type: URLRewrite, urlRewrite: {hostname: a.b}}, {type: URLRewrite, urlRewrite: {hostname: a.b}}]") =>
        "rules[0].filters: URLRewrite filter cannot be repeated";
    redirect_or_rewrite: refuses(rule, "filters: [{type: URLRewrite, urlRewrite: {hostname: a.b}}, {type: RequestRedirect, requestRedirect: {hostname: a.b}}]") =>
        "rules[0].filters: May specify either httpRouteFilterRequestRedirect or \
         httpRouteFilterRequestRewrite, but not both";
    redirect_or_backends: refuses(rule, "filters: [{type: RequestRedirect, requestRedirect: {hostname: a.b}}], backendRefs: [{name: a, port: 80}]") =>
        "rules[0]: RequestRedirect filter must not be used together with backendRefs";
    a_redirect_code_is_one: refuses(filter, "type: RequestRedirect, requestRedirect: {statusCode: 304}") =>
        "rules[0].filters[0].requestRedirect.statusCode: 304 is not 301, 302, 303, 307 or 308";
    a_redirect_scheme_is_one: refuses(filter, "type: RequestRedirect, requestRedirect: {scheme: ftp}") =>
        "rules[0].filters[0].requestRedirect.scheme: \"ftp\" is neither http nor https";
    a_prefix_is_replaced_where_one_matched: refuses(rule, "matches: [{path: {type: Exact, value: /a}}], filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /b}}}]") =>
        "rules[0]: When using URLRewrite filter with path.replacePrefixMatch, exactly one \
         PathPrefix match must be specified";
    a_path_modifier_has_its_field: refuses(filter, "type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath}}") =>
        "rules[0].filters[0].urlRewrite.path: replaceFullPath must be specified when type is set \
         to 'ReplaceFullPath'";
    a_path_modifier_has_no_other_field: refuses(filter, "type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: /a, replacePrefixMatch: /b}}") =>
        "rules[0].filters[0].urlRewrite.path: type must be 'ReplacePrefixMatch' when \
         replacePrefixMatch is set";
    a_new_path_is_absolute: refuses(filter, "type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: 'a?b'}}") =>
        "rules[0].filters[0].urlRewrite.path.replaceFullPath: \"a?b\" is no absolute path";
    a_changed_header_has_a_name: refuses(filter, "type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: ':path', value: a}]}") =>
        "rules[0].filters[0].requestHeaderModifier.set[0].name: \":path\" is no header name";
    a_mirror_has_one_share: refuses(filter, "type: RequestMirror, requestMirror: {backendRef: {name: a, port: 80}, percent: 1, fraction: {numerator: 1}}") =>
        "rules[0].filters[0].requestMirror: Only one of percent or fraction may be specified in \
         HTTPRequestMirrorFilter";
    a_mirror_copies_at_most_all: refuses(filter, "type: RequestMirror, requestMirror: {backendRef: {name: a, port: 80}, fraction: {numerator: 3, denominator: 2}}") =>
        "rules[0].filters[0].requestMirror.fraction: numerator must be less than or equal to \
         denominator";
    a_mirror_is_a_part_of_something: refuses(filter, "type: RequestMirror, requestMirror: {backendRef: {name: a, port: 80}, fraction: {numerator: 0, denominator: 0}}") =>
        "rules[0].filters[0].requestMirror.fraction: denominator must be at least 1";
    a_mirror_has_a_port: refuses(filter, "type: RequestMirror, requestMirror: {backendRef: {name: a}}") =>
        "rules[0].filters[0].requestMirror.backendRef: Must have port for Service reference";
    a_redirect_is_not_copied: warns(rule, "filters: [{type: RequestRedirect, requestRedirect: {hostname: a.b}}, {type: RequestMirror, requestMirror: {backendRef: {name: a, port: 80}}}]") =>
        "rules[0].filters: RequestMirror has no effect: requests that are answered here are not \
         copied";
    cors_is_for_browsers: warns(filter, "type: CORS, cors: {allowOrigins: ['*']}") =>
        "rules[0].filters[0].cors: cors has no effect in this client: CORS is for browsers, which \
         do not call through it";
    a_try_is_within_the_call: refuses(rule, "timeouts: {request: 1s, backendRequest: 2s}") =>
        "rules[0].timeouts: backendRequest timeout cannot be longer than request timeout";
    a_duration_has_no_fraction: refuses(rule, "timeouts: {request: 0.5s}") =>
        "rules[0].timeouts.request: duration \"0.5s\": expected one to four numbers with a unit of \
         h, m, s or ms, such as 10s, 500ms or 1h30m";
    a_retried_status_is_an_error: refuses(rule, "retry: {codes: [399]}") =>
        "rules[0].retry.codes[0]: status 399 is outside of 400 to 599";
    a_pause_is_some_time: refuses(rule, "retry: {backoff: 0s}") =>
        "rules[0].retry.backoff: backoff must be longer than 0s";
    a_call_is_of_something: refuses(call, "type: Exact") =>
        "rules[0].matches[0].method: One or both of 'service' or 'method' must be specified";
    a_grpc_service_has_a_name: refuses(call, "service: a/b") =>
        "rules[0].matches[0].method.service: \"a/b\" is no name of a gRPC service";
    a_grpc_method_has_a_name: refuses(call, "method: 1a") =>
        "rules[0].matches[0].method.method: \"1a\" is no name of a gRPC method";
    a_grpc_route_does_not_redirect: refuses(grpc, "filters: [{type: RequestRedirect}]") =>
        "rules[0].filters[0].type: found the text \"RequestRedirect\", expected one of \
         ExtensionRef, RequestHeaderModifier, RequestMirror, ResponseHeaderModifier";
    grpc_sessions: refuses(grpc, "sessionPersistence: {type: Jar}") =>
        "rules[0].sessionPersistence.type: \"Jar\" is neither Cookie nor Header";
    a_grant_is_for_somebody: refuses(grant, "{to: [{group: '', kind: Service}]}") =>
        "from: from must have at least one entry";
    a_grant_names_a_namespace: refuses(grant, "{from: [{group: a, kind: b, namespace: C}], to: [{group: '', kind: Service}]}") =>
        "from[0].namespace: \"C\" is no namespace";
    a_grant_for_a_name_has_one: refuses(grant, "{from: [{group: a, kind: b, namespace: c}], to: [{group: '', kind: Service, name: ''}]}") =>
        "to[0].name: name must not be empty; leave it out to mean all";
}

#[test]
fn lists_have_limits() {
    let many = |count: usize, item: &str| vec![item; count].join(", ");
    for (shape, message) in [
        (
            route(&format!("rules: [{}]", many(17, "{}"))),
            "rules: 17 entries; at most 16 are allowed",
        ),
        (
            rule(&format!("matches: [{}]", many(65, "{method: GET}"))),
            "rules[0].matches: 65 entries; at most 64 are allowed",
        ),
        (
            rule(&format!(
                "backendRefs: [{}]",
                many(17, "{name: a, port: 80}")
            )),
            "rules[0].backendRefs: 17 entries; at most 16 are allowed",
        ),
        (
            route(&format!(
                "rules: [{}]",
                many(2, &format!("{{matches: [{}]}}", many(64, "{method: GET}")))
            )),
            "rules: While 16 rules and 64 matches per rule are allowed, the total number of \
             matches across all rules in a route must be less than 128",
        ),
    ] {
        refuses(shape.0, &shape.1, message);
    }
}

#[test]
fn unknown_field_is_a_fault_and_snake_case_is_not_understood() {
    let (kind, spec) = route("parent_refs: []");
    let found = faults(kind, &spec);
    let messages = messages(&found, Severity::Error);
    assert_eq!(messages, ["parent_refs: unknown field \"parent_refs\""]);
    let fault = found.iter().next().unwrap();
    assert_eq!(fault.hint(), Some("did you mean \"parentRefs\"?"));
    let options = Options {
        strictness: Strictness::Warn,
        ..Options::default()
    };
    let text = super::object(kind, &spec);
    assert!(!read([("test.yaml", text)], &options).faults.has_errors());
}

#[test]
fn what_the_reference_of_the_gateway_api_shows_is_accepted() {
    accepts(
        "HTTPRoute",
        "{parentRefs: [{group: '', kind: Service, name: catalog, port: 80}, \
         {group: networking.istio.io, kind: ServiceEntry, name: ext}], rules: [\
         {name: all, matches: [{path: {type: PathPrefix, value: /a}, method: GET, \
         headers: [{type: RegularExpression, name: x, value: 'a.*'}], \
         queryParams: [{name: q, value: '1'}]}], \
         filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: b}], \
         add: [{name: c, value: d}], remove: [e]}}, \
         {type: URLRewrite, urlRewrite: {hostname: a.b, path: {type: ReplacePrefixMatch, \
         replacePrefixMatch: /}}}], \
         backendRefs: [{name: catalog, port: 80, weight: 9}, {name: other, namespace: n, port: 80}], \
         timeouts: {request: 10s, backendRequest: 2s}, retry: {codes: [503], attempts: 3, backoff: 100ms}}]}",
    );
    accepts(
        "GRPCRoute",
        "{parentRefs: [{group: '', kind: Service, name: catalog}], rules: [\
         {matches: [{method: {service: shop.v1.Catalog, method: List}}, \
         {method: {type: RegularExpression, service: 'shop\\..*'}}], \
         filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {remove: [a]}}], \
         backendRefs: [{name: catalog, port: 80}]}]}",
    );
    accepts(
        "ReferenceGrant",
        "{from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: a}], \
         to: [{group: '', kind: Service, name: b}]}",
    );
}
