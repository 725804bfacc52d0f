use super::{accepts, refuses, rule_tests, warns};

type Shape = (&'static str, String);

/// A whole spec.
fn spec(text: &str) -> Shape {
    ("VirtualService", text.to_owned())
}

/// Fields beside a good http block.
fn beside(text: &str) -> Shape {
    spec(&format!(
        "{{http: [{{route: [{{destination: {{host: catalog}}}}]}}], {text}}}"
    ))
}

/// The list of http routes.
fn http(text: &str) -> Shape {
    spec(&format!("{{hosts: [catalog], http: [{text}]}}"))
}

/// Fields of a route that has a destination.
fn route(text: &str) -> Shape {
    http(&format!(
        "{{route: [{{destination: {{host: catalog}}}}], {text}}}"
    ))
}

/// A match block.
fn block(text: &str) -> Shape {
    route(&format!("match: [{text}]"))
}

/// The destinations of a route.
fn to(text: &str) -> Shape {
    http(&format!("{{route: [{text}]}}"))
}

rule_tests! {
    a_delegate_has_no_gateways: refuses(beside, "gateways: [mesh]")
        => "gateways: a delegate (a virtual service without hosts) must have no gateways";
    a_delegate_is_seen: refuses(beside, "exportTo: ['~']")
        => "exportTo: a delegate that nobody sees has no effect";
    a_delegate_does_not_delegate: refuses(spec, "{http: [{delegate: {name: a}}]}")
        => "http[0].delegate: a delegate cannot delegate";
    a_delegating_match_has_no_regex: refuses(http,
        "{delegate: {name: a}, match: [{uri: {regex: a}}]}")
        => "http[0].match[0].uri: a regex cannot be delegated: write exact or prefix";
    a_delegated_header_has_no_regex: refuses(spec,
        "{http: [{route: [{destination: {host: a}}], match: [{headers: {a: {regex: b}}}]}]}")
        => "http[0].match[0].headers: a regex cannot be delegated: write exact or prefix";
    a_delegate_has_a_name: refuses(http, "{delegate: {}}")
        => "http[0].delegate.name: a delegate needs a name";
    a_delegate_is_no_destination: refuses(route, "delegate: {name: a}")
        => "http[0]: route and delegate exclude each other";
    a_host_is_a_name: refuses(beside, "hosts: ['a b']")
        => "hosts[0]: \"a b\" is no host: expected a DNS name, *.suffix or an IP address";
    star_is_no_host_of_the_mesh: refuses(beside, "hosts: ['*']")
        => "hosts[0]: wildcard host * is not allowed for virtual services bound to the mesh gateway";
    the_wildcard_address_is_no_host_of_the_mesh: refuses(beside, "hosts: [0.0.0.0]")
        => "hosts[0]: the wildcard address is not allowed for the mesh gateway";
    hosts_are_unique: refuses(beside, "hosts: [a, a]") => "hosts[1]: duplicate host \"a\"";
    hosts_do_not_overlap: refuses(beside, "hosts: ['*.b.com', a.b.com]")
        => "hosts[1]: \"a.b.com\" overlaps with \"*.b.com\"";
    a_protocol_is_required: refuses(spec, "{hosts: [catalog]}")
        => "http, tcp or tls must be provided in virtual service";
    a_gateway_has_a_name: refuses(beside, "hosts: [a], gateways: [mesh, a/b/c]")
        => "gateways[1]: \"a/b/c\" is no gateway: expected mesh, name or namespace/name";
    export_to_is_known: refuses(beside, "hosts: [a], exportTo: [A_b]")
        => "exportTo[0]: \"A_b\" is neither ., *, ~ nor a namespace";
    export_to_star_stands_alone: refuses(beside, "hosts: [a], exportTo: ['*', b]")
        => "exportTo: * and ~ must stand alone";
    export_to_is_unique: refuses(beside, "hosts: [a], exportTo: [b, b]")
        => "exportTo[1]: \"b\" stands twice";
    an_action_is_required: refuses(http, "{timeout: 1s}")
        => "http[0]: HTTP route, redirect or direct_response is required";
    actions_exclude_each_other: refuses(route, "redirect: {uri: /a}")
        => "http[0]: route and redirect exclude each other";
    a_redirect_has_no_rewrite: refuses(http, "{redirect: {uri: /a}, rewrite: {uri: /b}}")
        => "http[0].rewrite: rewrite cannot stand beside redirect or directResponse";
    an_answer_has_no_fault: refuses(http,
        "{directResponse: {status: 200}, fault: {delay: {fixedDelay: 1s, percentage: {value: 1}}}}")
        => "http[0].fault: fault cannot stand beside redirect or directResponse";
    a_destination_is_required: refuses(to, "{weight: 1}, {destination: {host: a}, weight: 1}")
        => "http[0].route[0].destination: destination is required";
    a_destination_host_is_required: refuses(to, "{destination: {subset: v1}}")
        => "http[0].route[0].destination.host: a host must not be empty";
    a_destination_host_is_no_wildcard: refuses(to, "{destination: {host: '*'}}")
        => "http[0].route[0].destination.host: destination host must not be a wildcard";
    a_subset_is_a_label: refuses(to, "{destination: {host: a, subset: v_1}}")
        => "http[0].route[0].destination.subset: \"v_1\" is no subset name (DNS-1123 label)";
    a_destination_port_is_not_zero: refuses(to, "{destination: {host: a, port: {number: 0}}}")
        => "http[0].route[0].destination.port.number: port 0 does not exist: expected 1 to 65535";
    a_destination_port_is_small_enough: refuses(to,
        "{destination: {host: a, port: {number: 65536}}}")
        => "http[0].route[0].destination.port.number: found the number 65536, \
            expected a whole number from 0 to 65535";
    weights_do_not_sum_up_to_zero: refuses(to, "{destination: {host: a}}, {destination: {host: b}}")
        => "http[0].route: the weights of 2 destinations sum up to 0";
    weights_are_not_negative: refuses(to,
        "{destination: {host: a}, weight: -1}, {destination: {host: b}, weight: 1}")
        => "http[0].route[0].weight: found the number -1, \
            expected a whole number from 0 to 4294967295";
    a_weight_alone_is_ignored: warns(to, "{destination: {host: a}, weight: 90}")
        => "http[0].route[0]: the weight 90 is ignored: there is one destination only";
    a_timeout_is_a_millisecond_at_least: refuses(route, "timeout: 100us")
        => "http[0].timeout: 100\u{b5}s is shorter than 1ms";
    a_timeout_is_whole_milliseconds: refuses(route, "timeout: 1.5ms")
        => "http[0].timeout: 1.5ms is not a whole number of milliseconds";
    a_timeout_has_a_unit: refuses(route, "timeout: '5'")
        => "http[0].timeout: duration \"5\" needs a unit after each number: ns, us, ms, s, m or h, \
            such as 5s";
    a_timeout_is_no_number: refuses(route, "timeout: 5")
        => "http[0].timeout: found the number 5, expected a duration such as 5s, 0.5s, 250ms or \
            1h30m";
    a_per_try_timeout_is_not_zero: refuses(route, "retries: {attempts: 1, perTryTimeout: 0s}")
        => "http[0].retries.perTryTimeout: 0ns is shorter than 1ms";
    retries_without_attempts_have_no_other_fields: refuses(route, "retries: {perTryTimeout: 1s}")
        => "http[0].retries: http retry policy configured when attempts are set to 0 (disabled)";
    attempts_are_not_negative: refuses(route, "retries: {attempts: -1}")
        => "http[0].retries.attempts: found the number -1, \
            expected a whole number from 0 to 4294967295";
    a_retry_token_is_known: refuses(route, "retries: {attempts: 1, retryOn: '5xxx'}")
        => "http[0].retries.retryOn: unknown token \"5xxx\"";
    retry_tokens_have_no_blanks: refuses(route, "retries: {attempts: 1, retryOn: '5xx, reset'}")
        => "http[0].retries.retryOn: unknown token \" reset\"";
    retry_tokens_are_not_empty: refuses(route, "retries: {attempts: 1, retryOn: '5xx,'}")
        => "http[0].retries.retryOn: empty token";
    a_retry_status_is_in_range: refuses(route, "retries: {attempts: 1, retryOn: '600'}")
        => "http[0].retries.retryOn: status 600 is outside of 200 to 599";
    a_fault_does_something: refuses(route, "fault: {}")
        => "http[0].fault: HTTP fault injection must have an abort and/or a delay";
    a_delay_has_a_time: refuses(route, "fault: {delay: {percentage: {value: 1}}}")
        => "http[0].fault.delay.fixedDelay: a delay needs fixedDelay";
    a_delay_is_fixed: refuses(route,
        "fault: {delay: {exponentialDelay: 1s, percentage: {value: 1}}}")
        => "http[0].fault.delay.exponentialDelay: exponentialDelay not supported yet";
    a_delay_is_a_millisecond_at_least: refuses(route,
        "fault: {delay: {fixedDelay: 0s, percentage: {value: 1}}}")
        => "http[0].fault.delay.fixedDelay: 0ns is shorter than 1ms";
    an_abort_has_a_status: refuses(route, "fault: {abort: {percentage: {value: 1}}}")
        => "http[0].fault.abort: an abort needs httpStatus or grpcStatus";
    an_abort_has_one_status: refuses(route,
        "fault: {abort: {httpStatus: 500, grpcStatus: INTERNAL, percentage: {value: 1}}}")
        => "http[0].fault.abort: httpStatus and grpcStatus exclude each other";
    an_abort_status_is_in_range: refuses(route,
        "fault: {abort: {httpStatus: 100, percentage: {value: 1}}}")
        => "http[0].fault.abort.httpStatus: status 100 is outside of 200 to 599";
    an_abort_grpc_status_is_known: refuses(route,
        "fault: {abort: {grpcStatus: UNAVAILABEL, percentage: {value: 1}}}")
        => "http[0].fault.abort.grpcStatus: \"UNAVAILABEL\" is no gRPC status";
    an_abort_is_not_of_http2: refuses(route,
        "fault: {abort: {http2Error: X, httpStatus: 500, percentage: {value: 1}}}")
        => "http[0].fault.abort.http2Error: HTTP/2 abort fault injection not supported yet";
    a_percentage_is_not_too_small: refuses(route,
        "fault: {abort: {httpStatus: 500, percentage: {value: 0.00001}}}")
        => "http[0].fault.abort.percentage.value: percentage 0.00001 is neither 0 nor between \
            0.0001 and 100";
    a_percentage_is_not_above_100: refuses(route,
        "fault: {delay: {fixedDelay: 1s, percentage: {value: 101}}}")
        => "http[0].fault.delay.percentage.value: percentage 101 is neither 0 nor between 0.0001 \
            and 100";
    a_fault_without_percentage_never_happens: warns(route, "fault: {abort: {httpStatus: 500}}")
        => "http[0].fault.abort: nothing is injected: without percentage the share is 0 %";
    a_whole_percent_is_deprecated: warns(route, "fault: {delay: {fixedDelay: 1s, percent: 5}}")
        => "http[0].fault.delay.percent: percent is deprecated: write percentage: {value: ...}";
    a_redirect_changes_something: refuses(http, "{redirect: {redirectCode: 302}}")
        => "http[0].redirect: redirect must specify URI, authority, scheme, or port";
    a_redirect_code_is_a_redirect: refuses(http, "{redirect: {uri: /a, redirectCode: 200}}")
        => "http[0].redirect.redirectCode: 200 is not 301, 302, 303, 307 or 308";
    a_redirect_has_one_path: refuses(http, "{redirect: {uri: /a, prefixRewrite: /b}}")
        => "http[0].redirect: uri and prefixRewrite exclude each other";
    a_redirect_has_one_port: refuses(http,
        "{redirect: {port: 80, derivePort: FROM_REQUEST_PORT}}")
        => "http[0].redirect: port and derivePort exclude each other";
    a_redirect_prefix_needs_a_prefix: refuses(http,
        "{match: [{uri: {exact: /a}}], redirect: {prefixRewrite: /b}}")
        => "http[0].match[0].uri: prefixRewrite of a redirect needs a match by prefix";
    a_redirect_scheme_is_known: refuses(http, "{redirect: {scheme: ftp}}")
        => "http[0].redirect.scheme: \"ftp\" is neither http nor https";
    a_rewrite_changes_something: refuses(route, "rewrite: {}")
        => "http[0].rewrite: rewrite must specify uri, authority, or uriRegexRewrite";
    a_rewrite_has_one_path: refuses(route,
        "rewrite: {uri: /a, uriRegexRewrite: {match: a, rewrite: b}}")
        => "http[0].rewrite: uri and uriRegexRewrite exclude each other";
    a_rewrite_expression_compiles: refuses(route,
        "rewrite: {uriRegexRewrite: {match: '(', rewrite: b}}")
        => "http[0].rewrite.uriRegexRewrite.match: \"(\" is no RE2 regular expression: unclosed \
            group";
    a_rewrite_expression_has_a_replacement: refuses(route,
        "rewrite: {uriRegexRewrite: {match: a}}")
        => "http[0].rewrite.uriRegexRewrite.rewrite: rewrite is required";
    a_rewrite_authority_is_one: refuses(route, "rewrite: {authority: 'a b'}")
        => "http[0].rewrite.authority: \"a b\" is no authority";
    a_direct_response_has_a_status: refuses(http, "{directResponse: {body: {string: x}}}")
        => "http[0].directResponse.status: status 0 is outside of 200 to 599";
    a_direct_response_has_one_body: refuses(http,
        "{directResponse: {status: 200, body: {string: x, bytes: eA==}}}")
        => "http[0].directResponse.body: string and bytes exclude each other";
    a_direct_response_has_base64: refuses(http,
        "{directResponse: {status: 200, body: {bytes: x}}}")
        => "http[0].directResponse.body.bytes: bytes must be base64";
    a_matcher_is_one: refuses(block, "{uri: {exact: /a, prefix: /b}}")
        => "http[0].match[0].uri: exact, prefix and regex exclude each other";
    a_prefix_is_not_empty: refuses(block, "{uri: {prefix: ''}}")
        => "http[0].match[0].uri.prefix: prefix must not be empty";
    an_expression_is_not_empty: refuses(block, "{uri: {regex: ''}}")
        => "http[0].match[0].uri.regex: a regular expression must not be empty";
    an_expression_has_no_look_around: refuses(block, "{uri: {regex: '(?=a)'}}")
        => "http[0].match[0].uri.regex: \"(?=a)\" is no RE2 regular expression: look-around, \
            including look-ahead and look-behind, is not supported";
    an_expression_has_no_back_references: refuses(block, r"{uri: {regex: '(a)\1'}}")
        => "http[0].match[0].uri.regex: \"(a)\\\\1\" is no RE2 regular expression: \
            backreferences are not supported";
    a_header_value_is_a_string: refuses(block, "{headers: {x-canary: {exact: true}}}")
        => "http[0].match[0].headers.x-canary.exact: found the boolean true, expected a string";
    a_header_name_is_one: refuses(block, "{headers: {'a b': {exact: c}}}")
        => "http[0].match[0].headers[\"a b\"]: \"a b\" is no header name";
    claims_are_for_gateways: refuses(block, "{headers: {'@request.auth.claims.sub': {exact: c}}}")
        => "http[0].match[0].headers[\"@request.auth.claims.sub\"]: JWT claim based routing is for \
            gateways, not for the mesh";
    without_headers_have_a_matcher: refuses(block, "{withoutHeaders: {a: }}")
        => "http[0].match[0].withoutHeaders.a: a header of withoutHeaders needs a matcher; {} \
            means any value";
    a_match_port_is_not_zero: refuses(block, "{port: 0}")
        => "http[0].match[0].port: port 0 does not exist: expected 1 to 65535";
    source_labels_are_labels: refuses(block, "{sourceLabels: {'a b': c}}")
        => "http[0].match[0].sourceLabels[\"a b\"]: \"a b\" is no label key";
    source_label_values_are_short: refuses(block, "{sourceLabels: {a: 'b c'}}")
        => "http[0].match[0].sourceLabels.a: \"b c\" is no label value: expected up to 63 letters, \
            digits, -, _ and .";
    a_source_namespace_is_a_label: refuses(block, "{sourceNamespace: A}")
        => "http[0].match[0].sourceNamespace: \"A\" is no namespace";
    ignore_uri_case_is_not_for_expressions: warns(block, "{uri: {regex: a}, ignoreUriCase: true}")
        => "http[0].match[0].ignoreUriCase: ignoreUriCase has no effect in this client: it is for \
            exact and prefix; write (?i) in the expression";
    pseudo_headers_stay: refuses(route, "headers: {request: {set: {':path': /a}}}")
        => "http[0].headers.request.set[\":path\"]: \":path\": pseudo headers cannot be changed";
    the_authority_stays_in_responses: refuses(route,
        "headers: {response: {set: {':authority': a}}}")
        => "http[0].headers.response.set[\":authority\"]: \":authority\": pseudo headers cannot be \
            changed";
    the_host_header_cannot_be_removed: refuses(route, "headers: {request: {remove: [Host]}}")
        => "http[0].headers.request.remove[0]: the host header cannot be removed";
    the_authority_is_set_once: refuses(route,
        "headers: {request: {set: {host: a}}}, rewrite: {authority: b}")
        => "http[0].headers.request: the authority is set in more than one way";
    header_values_are_printable: refuses(route, r#"headers: {request: {set: {a: "b\nc"}}}"#)
        => "http[0].headers.request.set.a: \"b\\nc\" is no header value";
    substitutions_have_no_effect: warns(route,
        "headers: {request: {set: {a: '%DOWNSTREAM_REMOTE_ADDRESS%'}}}")
        => "http[0].headers.request.set.a: Envoy's substitutions (%...%) have no effect in this \
            client: the value is sent as it is written";
    a_later_route_is_unreachable: warns(http,
        "{route: [{destination: {host: a}}]}, {route: [{destination: {host: b}}]}")
        => "http[1]: no request reaches this route: http[0] takes all";
    a_repeated_route_is_unreachable: warns(http,
        "{match: [{uri: {prefix: /a}}], route: [{destination: {host: a}}]}, \
         {match: [{uri: {prefix: /a}, name: x}], route: [{destination: {host: b}}]}")
        => "http[1]: no request reaches this route: earlier routes have all of its matches";
    a_repeated_match_is_ineffective: warns(http,
        "{match: [{uri: {prefix: /a}}], route: [{destination: {host: a}}]}, \
         {match: [{uri: {prefix: /a}}, {uri: {prefix: /b}}], route: [{destination: {host: b}}]}")
        => "http[1].match[0]: this match repeats one of http[0] and never decides";
    an_unknown_field_is_named: refuses(route, "retry: {attempts: 1}")
        => "http[0].retry: unknown field \"retry\"";
    cors_methods_are_known: refuses(route, "corsPolicy: {allowMethods: [FETCH]}")
        => "http[0].corsPolicy.allowMethods[0]: \"FETCH\" is no HTTP method";
    cors_headers_are_headers: refuses(route, "corsPolicy: {exposeHeaders: ['a b']}")
        => "http[0].corsPolicy.exposeHeaders[0]: \"a b\" is no header name";
    cors_max_age_is_whole_seconds: refuses(route, "corsPolicy: {maxAge: 1.5s}")
        => "http[0].corsPolicy.maxAge: maxAge must be whole seconds";
    cors_origins_compile: refuses(route, "corsPolicy: {allowOrigins: [{regex: '('}]}")
        => "http[0].corsPolicy.allowOrigins[0].regex: \"(\" is no RE2 regular expression: \
            unclosed group";
}

fn tls(text: &str) -> Shape {
    spec(&format!("{{hosts: [a], tls: [{text}]}}"))
}

#[test]
fn tls_rules_hold_although_tls_is_not_supported() {
    for (name, text, message) in [
        (
            "sni_hosts_are_required",
            "{match: [], route: [{destination: {host: a}}]}",
            "tls[0].match: TLS match must have at least one SNI host",
        ),
        (
            "sni_hosts_are_hosts_of_the_object",
            "{match: [{sniHosts: [b]}], route: [{destination: {host: a}}]}",
            "tls[0].match[0].sniHosts[0]: SNI host \"b\" is not among the hosts of the object",
        ),
        (
            "sni_hosts_have_no_wildcard_inside",
            "{match: [{sniHosts: [a.*.b]}], route: [{destination: {host: a}}]}",
            "tls[0].match[0].sniHosts[0]: \"a.*.b\" is no SNI host",
        ),
        (
            "every_name_is_of_an_object_for_every_host",
            "{match: [{sniHosts: ['*']}], route: [{destination: {host: a}}]}",
            "tls[0].match[0].sniHosts[0]: SNI host \"*\" is not among the hosts of the object",
        ),
        (
            "a_tls_route_has_a_destination",
            "{match: [{sniHosts: [a]}], route: []}",
            "tls[0].route: route is required",
        ),
        (
            "a_subnet_is_a_network",
            "{match: [{sniHosts: [a], destinationSubnets: [x]}], route: [{destination: {host: a}}]}",
            "tls[0].match[0].destinationSubnets[0]: \"x\" is neither an address nor a network",
        ),
    ] {
        let (kind, spec) = tls(text);
        refuses_beside(name, kind, &spec, message);
    }
}

/// As `refuses`, beside the warning that such routes have no effect.
#[track_caller]
fn refuses_beside(name: &str, kind: &str, spec: &str, message: &str) {
    let faults = super::faults(kind, spec);
    let messages = super::messages(&faults, super::Severity::Error);
    assert_eq!(messages, [message], "{name}: {faults}");
}

#[test]
fn long_expressions_are_refused() {
    let (kind, spec) = block(&format!("{{uri: {{regex: {}}}}}", "a".repeat(1_025)));
    refuses(
        kind,
        &spec,
        "http[0].match[0].uri.regex: the regular expression has 1025 bytes; at most 1024 are \
         allowed",
    );
}

#[test]
fn large_bodies_are_refused() {
    let body = "x".repeat((1 << 20) + 1);
    let (kind, spec) = http(&format!(
        "{{directResponse: {{status: 200, body: {{string: {body}}}}}}}"
    ));
    refuses(
        kind,
        &spec,
        "http[0].directResponse.body: 1048577 bytes; a direct response has at most 1048576",
    );
}

#[test]
fn all_retry_tokens_are_accepted() {
    let tokens = "5xx,gateway-error,reset,reset-before-request,connect-failure,\
                  envoy-ratelimited,retriable-4xx,refused-stream,retriable-status-codes,\
                  retriable-headers,http3-post-connect-failure,cancelled,deadline-exceeded,\
                  internal,resource-exhausted,unavailable,503";
    let (kind, spec) = route(&format!("retries: {{attempts: 1, retryOn: '{tokens}'}}"));
    accepts(kind, &spec);
}

#[test]
fn what_istio_accepts_is_accepted() {
    for text in [
        "timeout: 0s",
        "retries: {}",
        "retries: {attempts: 0}",
        "retries: {attempts: 2, retry_on: '503', per_try_timeout: 1s, backoff: 10ms}",
        "match: [{headers: {a: {}}}, {headers: {b: {exact: ''}}}, {headers: {c: {regex: '*'}}}]",
        "match: [{withoutHeaders: {a: {}}}]",
        "match: [{uri: {exact: /A}, ignoreUriCase: true, gateways: [mesh], port: 80}]",
        "match: [{queryParams: {a: {prefix: b}}, scheme: {exact: http}}]",
        "rewrite: {uri: /a, authority: b.example.com}",
        "headers: {request: {set: {':authority': a, b: '100%%'}, remove: [c]}}",
        "fault: {abort: {grpcStatus: UNAVAILABLE, percentage: {value: 0.0001}}}",
        "name: first, match: [{name: second}]",
    ] {
        let (kind, spec) = route(text);
        accepts(kind, &spec);
    }
}
