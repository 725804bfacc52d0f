use super::{accepts, refuses, rule_tests, warns};

type Shape = (&'static str, String);

/// A whole spec.
fn spec(text: &str) -> Shape {
    ("DestinationRule", text.to_owned())
}

/// Fields beside the host.
fn beside(text: &str) -> Shape {
    spec(&format!("{{host: catalog, {text}}}"))
}

/// A traffic policy.
fn policy(text: &str) -> Shape {
    beside(&format!("trafficPolicy: {text}"))
}

/// A load balancer, which the locality rules need outlier detection beside.
fn balancer(text: &str) -> Shape {
    policy(&format!("{{loadBalancer: {text}, outlierDetection: {{}}}}"))
}

fn pool(text: &str) -> Shape {
    policy(&format!("{{connectionPool: {text}}}"))
}

fn outlier(text: &str) -> Shape {
    policy(&format!("{{outlierDetection: {text}}}"))
}

fn tls(text: &str) -> Shape {
    policy(&format!("{{tls: {text}}}"))
}

rule_tests! {
    a_host_is_required: refuses(spec, "{subsets: []}") => "host: a host must not be empty";
    a_host_is_a_name: refuses(spec, "{host: 'a:80'}")
        => "host: \"a:80\" is no host: expected a DNS name, *.suffix or an IP address";
    a_policy_is_not_empty: refuses(policy, "{}")
        => "trafficPolicy: traffic policy must have at least one field";
    a_subset_policy_is_not_empty: refuses(beside, "subsets: [{name: v1, trafficPolicy: {}}]")
        => "subsets[0].trafficPolicy: traffic policy must have at least one field";
    a_subset_has_a_name: refuses(beside, "subsets: [{labels: {a: b}}]")
        => "subsets[0].name: a subset needs a name";
    a_subset_name_is_a_label: refuses(beside, "subsets: [{name: V1}]")
        => "subsets[0].name: \"V1\" is no subset name (DNS-1123 label)";
    subset_names_are_unique: refuses(beside, "subsets: [{name: v1}, {name: v1}]")
        => "subsets[1].name: duplicate subset name \"v1\"";
    subset_labels_are_labels: refuses(beside, "subsets: [{name: v1, labels: {version: 'a b'}}]")
        => "subsets[0].labels.version: \"a b\" is no label value: expected up to 63 letters, \
            digits, -, _ and .";
    a_label_is_a_string: refuses(beside, "subsets: [{name: v1, labels: {version: 1}}]")
        => "subsets[0].labels.version: found the number 1, expected a string";
    a_port_level_entry_has_a_port: refuses(policy, "{portLevelSettings: [{loadBalancer: {}}]}")
        => "trafficPolicy.portLevelSettings[0].port: portLevelSettings needs a port";
    a_port_level_entry_has_a_block: refuses(policy, "{portLevelSettings: [{port: {number: 80}}]}")
        => "trafficPolicy.portLevelSettings[0]: port traffic policy must have at least one field";
    port_level_ports_are_unique: refuses(policy,
        "{portLevelSettings: [{port: {number: 80}, loadBalancer: {}}, \
          {port: {number: 80}, loadBalancer: {}}]}")
        => "trafficPolicy.portLevelSettings[1].port: port 80 stands twice";
    a_pool_is_not_empty: refuses(pool, "{}")
        => "trafficPolicy.connectionPool: connection pool must have at least one field";
    a_limit_is_not_negative: refuses(pool, "{tcp: {maxConnections: -1}}")
        => "trafficPolicy.connectionPool.tcp.maxConnections: found the number -1, \
            expected a whole number from 0 to 4294967295";
    a_connect_timeout_is_a_millisecond_at_least: refuses(pool, "{tcp: {connectTimeout: 0s}}")
        => "trafficPolicy.connectionPool.tcp.connectTimeout: 0ns is shorter than 1ms";
    an_idle_timeout_is_a_millisecond_at_least: refuses(pool, "{http: {idleTimeout: 1us}}")
        => "trafficPolicy.connectionPool.http.idleTimeout: 1\u{b5}s is shorter than 1ms";
    a_connection_lives_a_millisecond_at_least: refuses(pool,
        "{tcp: {maxConnectionDuration: 1us}}")
        => "trafficPolicy.connectionPool.tcp.maxConnectionDuration: 1\u{b5}s is shorter than 1ms";
    tcp_keepalive_is_a_second_at_least: refuses(pool, "{tcp: {tcpKeepalive: {time: 10ms}}}")
        => "trafficPolicy.connectionPool.tcp.tcpKeepalive.time: a keepalive time must be at least \
            1s";
    http2_keepalive_has_both_times: refuses(pool, "{http: {http2KeepAlive: {interval: 1s}}}")
        => "trafficPolicy.connectionPool.http.http2KeepAlive.timeout: http2KeepAlive needs timeout";
    a_client_protocol_is_not_upgraded: refuses(pool,
        "{http: {useClientProtocol: true, h2UpgradePolicy: UPGRADE}}")
        => "trafficPolicy.connectionPool.http: use client protocol must not be true when \
            H2UpgradePolicy is UPGRADE";
    an_ejection_percent_is_one: refuses(outlier, "{maxEjectionPercent: 101}")
        => "trafficPolicy.outlierDetection.maxEjectionPercent: 101 % is above 100 %";
    a_health_percent_is_one: refuses(outlier, "{minHealthPercent: 200}")
        => "trafficPolicy.outlierDetection.minHealthPercent: 200 % is above 100 %";
    an_interval_is_a_millisecond_at_least: refuses(outlier, "{interval: 0s}")
        => "trafficPolicy.outlierDetection.interval: 0ns is shorter than 1ms";
    an_ejection_is_a_millisecond_at_least: refuses(outlier, "{baseEjectionTime: 0s}")
        => "trafficPolicy.outlierDetection.baseEjectionTime: 0ns is shorter than 1ms";
    local_failures_need_the_split: refuses(outlier, "{consecutiveLocalOriginFailures: 3}")
        => "trafficPolicy.outlierDetection.consecutiveLocalOriginFailures: outlier detection \
            consecutive local origin failures is specified, but split external local origin \
            errors is set to false";
    error_codes_are_statuses: refuses(outlier, "{outlierDetectionHttpErrorCodes: [600]}")
        => "trafficPolicy.outlierDetection.outlierDetectionHttpErrorCodes[0]: status 600 is \
            outside of 100 to 599";
    consecutive_errors_are_deprecated: warns(outlier, "{consecutiveErrors: 5}")
        => "trafficPolicy.outlierDetection.consecutiveErrors: consecutiveErrors is deprecated: it \
            has no effect in Istio either; write consecutive5xxErrors";
    a_balancer_is_simple_or_hashes: refuses(balancer,
        "{simple: RANDOM, consistentHash: {useSourceIp: true}}")
        => "trafficPolicy.loadBalancer: simple and consistentHash exclude each other";
    a_balancer_is_known: refuses(balancer, "{simple: ROUNDROBIN}")
        => "trafficPolicy.loadBalancer.simple: found the text \"ROUNDROBIN\", expected one of \
            UNSPECIFIED, LEAST_CONN, RANDOM, PASSTHROUGH, ROUND_ROBIN, LEAST_REQUEST";
    least_conn_is_deprecated: warns(balancer, "{simple: LEAST_CONN}")
        => "trafficPolicy.loadBalancer.simple: simple is deprecated: write LEAST_REQUEST, which is \
            the same";
    a_hash_has_a_key: refuses(balancer, "{consistentHash: {}}")
        => "trafficPolicy.loadBalancer.consistentHash: consistentHash needs one of httpHeaderName, \
            httpCookie, useSourceIp and httpQueryParameterName";
    a_hash_has_one_key: refuses(balancer,
        "{consistentHash: {useSourceIp: true, httpHeaderName: a}}")
        => "trafficPolicy.loadBalancer.consistentHash: consistentHash takes one key only";
    a_cookie_has_a_name: refuses(balancer, "{consistentHash: {httpCookie: {ttl: 0s}}}")
        => "trafficPolicy.loadBalancer.consistentHash.httpCookie.name: name required for \
            HttpCookie";
    a_hash_header_is_one: refuses(balancer, "{consistentHash: {httpHeaderName: 'a b'}}")
        => "trafficPolicy.loadBalancer.consistentHash.httpHeaderName: \"a b\" is not a header name";
    a_maglev_table_is_prime: refuses(balancer,
        "{consistentHash: {useSourceIp: true, maglev: {tableSize: 65536}}}")
        => "trafficPolicy.loadBalancer.consistentHash.maglev.tableSize: 65536 is not a prime \
            number of at most 5000011";
    a_ring_is_not_too_large: refuses(balancer,
        "{consistentHash: {useSourceIp: true, ringHash: {minimumRingSize: 8388609}}}")
        => "trafficPolicy.loadBalancer.consistentHash: a ring has at most 8388608 entries";
    a_hash_has_one_algorithm: refuses(balancer,
        "{consistentHash: {useSourceIp: true, ringHash: {}, maglev: {}}}")
        => "trafficPolicy.loadBalancer.consistentHash: ringHash and maglev exclude each other";
    warmup_is_written_once: refuses(balancer,
        "{warmupDurationSecs: 1s, warmup: {duration: 1s}}")
        => "trafficPolicy.loadBalancer: warmupDurationSecs and warmup exclude each other";
    warmup_has_a_duration: refuses(balancer, "{warmup: {aggression: 1}}")
        => "trafficPolicy.loadBalancer.warmup.duration: duration is required";
    warmup_aggression_is_at_least_one: refuses(balancer,
        "{warmup: {duration: 1s, aggression: 0.5}}")
        => "trafficPolicy.loadBalancer.warmup.aggression: aggression must be at least 1";
    localities_distribute_or_fail_over: refuses(balancer,
        "{localityLbSetting: {distribute: [{from: a, to: {a: 100}}], failover: [{from: a, to: b}]}}")
        => "trafficPolicy.loadBalancer.localityLbSetting: distribute excludes failover and \
            failoverPriority";
    locality_weights_sum_up_to_100: refuses(balancer,
        "{localityLbSetting: {distribute: [{from: a, to: {a: 90}}]}}")
        => "trafficPolicy.loadBalancer.localityLbSetting.distribute[0].to: the locality weights \
            sum up to 90, not 100";
    locality_weights_are_not_zero: refuses(balancer,
        "{localityLbSetting: {distribute: [{from: a, to: {a: 100, b: 0}}]}}")
        => "trafficPolicy.loadBalancer.localityLbSetting.distribute[0].to: a locality weight must \
            be from 1 to 100";
    locality_origins_are_unique: refuses(balancer,
        "{localityLbSetting: {distribute: [{from: a, to: {a: 100}}, {from: a, to: {a: 100}}]}}")
        => "trafficPolicy.loadBalancer.localityLbSetting.distribute[1].from: \"a\" stands twice";
    a_failover_region_is_one: refuses(balancer,
        "{localityLbSetting: {failover: [{from: a, to: b/c}]}}")
        => "trafficPolicy.loadBalancer.localityLbSetting.failover[0].to: \"b/c\" is no region";
    a_failover_goes_elsewhere: refuses(balancer,
        "{localityLbSetting: {failover: [{from: a, to: a}]}}")
        => "trafficPolicy.loadBalancer.localityLbSetting.failover[0]: from and to are the same \
            region";
    client_certificates_are_for_mutual: refuses(tls, "{mode: SIMPLE, clientCertificate: a}")
        => "trafficPolicy.tls: client certificates are for the modes MUTUAL and ISTIO_MUTUAL";
    plain_text_has_no_certificates: refuses(tls, "{mode: DISABLE, caCertificates: a}")
        => "trafficPolicy.tls: certificates have no meaning in mode DISABLE";
    mutual_needs_certificates: refuses(tls, "{mode: MUTUAL, clientCertificate: a}")
        => "trafficPolicy.tls: mode MUTUAL needs clientCertificate and privateKey, or \
            credentialName";
    a_credential_has_a_name: refuses(tls, "{mode: SIMPLE, credentialName: ''}")
        => "trafficPolicy.tls.credentialName: credentialName must not be empty";
    mutual_has_one_source: refuses(tls,
        "{mode: MUTUAL, clientCertificate: a, privateKey: b, credentialName: c}")
        => "trafficPolicy.tls: credentialName and certificate files exclude each other";
    istio_mutual_has_no_files: refuses(tls, "{mode: ISTIO_MUTUAL, caCertificates: a}")
        => "trafficPolicy.tls: mode ISTIO_MUTUAL takes the certificates of the mesh: name none";
    skipping_excludes_trust: refuses(tls,
        "{mode: SIMPLE, insecureSkipVerify: true, caCertificates: a}")
        => "trafficPolicy.tls.insecureSkipVerify: insecureSkipVerify excludes caCertificates and \
            subjectAltNames";
    a_crl_needs_a_ca: refuses(tls, "{mode: SIMPLE, caCrl: a}")
        => "trafficPolicy.tls.caCrl: caCrl needs caCertificates";
    a_tunnel_has_a_protocol: refuses_unsupported(policy,
        "{tunnel: {protocol: UDP, targetHost: a, targetPort: 80}}")
        => "trafficPolicy.tunnel.protocol: \"UDP\" is neither CONNECT nor POST";
    a_tunnel_has_a_host: refuses_unsupported(policy, "{tunnel: {targetPort: 80}}")
        => "trafficPolicy.tunnel.targetHost: a host must not be empty";
    a_tunnel_has_a_port: refuses_unsupported(policy, "{tunnel: {targetHost: a}}")
        => "trafficPolicy.tunnel.targetPort: port 0 does not exist: expected 1 to 65535";
    a_tunnel_excludes_the_proxy_protocol: refuses_unsupported(policy,
        "{tunnel: {targetHost: a, targetPort: 80}, proxyProtocol: {}}")
        => "trafficPolicy: tunnel and proxyProtocol must not be set together";
    zones_exclude_localities: refuses_unsupported(balancer,
        "{localityLbSetting: {}, zoneAwareLbSetting: {}}")
        => "trafficPolicy.loadBalancer: localityLbSetting and zoneAwareLbSetting exclude each \
            other";
    a_budget_is_a_percentage: refuses(policy, "{retryBudget: {percent: 101}}")
        => "trafficPolicy.retryBudget.percent: percent 101 is outside of 0 to 100";
    a_selector_stays_at_home: refuses(beside,
        "workloadSelector: {matchLabels: {a: b}}, exportTo: ['*']")
        => "exportTo: destination rule with workload selector cannot be exported to other \
            namespaces";
    export_to_is_known: refuses(beside, "exportTo: [a.b]")
        => "exportTo[0]: \"a.b\" is neither ., *, ~ nor a namespace";
}

/// The rule's text is among the errors, all others of which say "not yet supported".
#[track_caller]
fn refuses_unsupported(kind: &str, spec: &str, message: &str) {
    let faults = super::faults(kind, spec);
    let messages = super::messages(&faults, super::Severity::Error);
    let rules: Vec<_> = messages
        .iter()
        .filter(|message| !message.ends_with("is known, not yet supported"))
        .collect();
    assert_eq!(rules, [message], "{faults}");
}

#[test]
fn locality_failover_without_outlier_detection_has_no_effect() {
    let (kind, spec) = policy(
        "{loadBalancer: {localityLbSetting: {enabled: false, failover: [{from: a, to: b}]}}}",
    );
    warns(
        kind,
        &spec,
        "trafficPolicy.loadBalancer.localityLbSetting: failover has no effect without \
         outlierDetection",
    );
}

#[test]
fn what_istio_accepts_is_accepted() {
    for text in [
        "{connection_pool: {tcp: {max_connections: '100', connectTimeout: 30ms, \
          tcpKeepalive: {time: 7200s, interval: 75s, probes: 3}}, \
          http: {http1MaxPendingRequests: 50, http2MaxRequests: 1, maxRetries: 3, \
          maxRequestsPerConnection: 0, idleTimeout: 1h, h2UpgradePolicy: 2, \
          maxConcurrentStreams: 10, http2KeepAlive: {interval: 10s, timeout: 1s}}}}",
        "{outlierDetection: {}}",
        "{outlierDetection: {consecutive_5xx_errors: 3, consecutiveGatewayErrors: 0, \
          splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 3, \
          interval: 30s, baseEjectionTime: 30s, maxEjectionPercent: 100, \
          outlierDetectionHttpErrorCodes: [503]}}",
        "{loadBalancer: {simple: ROUND_ROBIN, localityLbSetting: {enabled: false}}}",
        "{loadBalancer: {simple: 5}}",
        "{tls: {mode: DISABLE}}",
        "{tls: {}}",
        "{tls: {mode: SIMPLE}}",
        "{tls: {mode: MUTUAL, clientCertificate: /a, privateKey: /b, caCertificates: /c}}",
        "{tls: {mode: ISTIO_MUTUAL, subjectAltNames: [spiffe://td/a], sni: b.example}}",
        "{retryBudget: {percent: 20, minRetryConcurrency: 3}}",
        "{portLevelSettings: [{port: {number: 80}, tls: {mode: DISABLE}}]}",
    ] {
        let (kind, spec) = policy(text);
        accepts(kind, &spec);
    }
    let (kind, spec) = beside("exportTo: [.], workloadSelector: {matchLabels: {app: a}}");
    accepts(kind, &spec);
}
