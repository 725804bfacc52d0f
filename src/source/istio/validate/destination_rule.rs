//! The rules of a DestinationRule (Istio's `ValidateDestinationRule`).

use std::collections::BTreeSet;
use std::time::Duration;

use super::Checker;
use super::load_balancer;
use super::names::{duration, export_to, host_fault, is_dns_label, labels, port, whole_percent};
use crate::source::istio::fault::quoted;
use crate::source::istio::kinds::{
    ClientTls, ConnectionPool, DestinationRule, GoDuration, H2UpgradePolicy, HttpPool,
    OutlierDetection, PortTrafficPolicy, RetryBudget, TcpPool, TlsMode, TrafficPolicy, Tunnel,
};

pub(super) fn rules(check: &mut Checker<'_>, rule: &DestinationRule, namespace: &str) {
    if let Some(fault) = host_fault(&rule.host) {
        check.error_at("host", fault);
    }
    export_to(check, &rule.export_to);
    check.some(
        "workloadSelector",
        rule.workload_selector.as_ref(),
        |check, selector| {
            check.within("matchLabels", |check| labels(check, &selector.match_labels));
        },
    );
    let elsewhere = |to: &&str| !matches!(*to, ".") && *to != namespace;
    let mut exported = rule.export_to.iter().map(|to| to.as_str());
    if rule.workload_selector.is_some() && exported.any(|to| elsewhere(&to)) {
        let text = "destination rule with workload selector cannot be exported to other namespaces";
        check.error_at("exportTo", text);
    }
    let policy = rule.traffic_policy.as_ref();
    check.some("trafficPolicy", policy, |check, policy| {
        traffic_policy(check, policy)
    });
    let mut names = BTreeSet::new();
    check.each("subsets", &rule.subsets, |check, subset| {
        let name = subset.name.as_str();
        if name.is_empty() {
            check.error_at("name", "a subset needs a name");
        } else if !is_dns_label(name) {
            let text = format!("{} is no subset name (DNS-1123 label)", quoted(name));
            check.error_at("name", text);
        } else if !names.insert(name.to_owned()) {
            check.error_at("name", format!("duplicate subset name {}", quoted(name)));
        }
        check.within("labels", |check| labels(check, &subset.labels));
        let policy = subset.traffic_policy.as_ref();
        check.some("trafficPolicy", policy, |check, policy| {
            traffic_policy(check, policy)
        });
    });
}

pub(super) fn traffic_policy(check: &mut Checker<'_>, policy: &TrafficPolicy) {
    if *policy == TrafficPolicy::default() {
        check.error("traffic policy must have at least one field");
    }
    let TrafficPolicy {
        load_balancer: balancer,
        connection_pool: pool,
        outlier_detection,
        tls: secured,
        port_level_settings,
        tunnel: tunnelled,
        proxy_protocol,
        retry_budget: budget,
    } = policy;
    check.some("loadBalancer", balancer.as_ref(), |check, balancer| {
        load_balancer::rules(check, balancer, outlier_detection.is_some());
    });
    check.some("connectionPool", pool.as_ref(), |check, pool| {
        connection_pool(check, pool)
    });
    check.some("outlierDetection", outlier_detection.as_ref(), |c, o| {
        outlier(c, o)
    });
    check.some("tls", secured.as_ref(), |check, secured| {
        tls(check, secured)
    });
    let mut ports = BTreeSet::new();
    check.each(
        "portLevelSettings",
        port_level_settings,
        |check, settings| {
            port_level(check, settings);
            let number = settings.port.as_ref().map(|port| port.number);
            if let Some(number) = number.filter(|number| !ports.insert(*number)) {
                check.error_at("port", format!("port {number} stands twice"));
            }
        },
    );
    check.some("tunnel", tunnelled.as_ref(), |check, tunnelled| {
        tunnel(check, tunnelled)
    });
    if tunnelled.is_some() && proxy_protocol.is_some() {
        check.error("tunnel and proxyProtocol must not be set together");
    }
    check.some("retryBudget", budget.as_ref(), |check, b| {
        retry_budget(check, b)
    });
}

fn port_level(check: &mut Checker<'_>, settings: &PortTrafficPolicy) {
    let PortTrafficPolicy {
        port: selected,
        load_balancer: balancer,
        connection_pool: pool,
        outlier_detection,
        tls: secured,
    } = settings;
    match selected {
        None => check.error_at("port", "portLevelSettings needs a port"),
        Some(selected) => check.within("port", |check| {
            port(check, "number", Some(selected.number));
        }),
    }
    let blocks = [
        balancer.is_some(),
        pool.is_some(),
        outlier_detection.is_some(),
        secured.is_some(),
    ];
    if !blocks.contains(&true) {
        check.error("port traffic policy must have at least one field");
    }
    check.some("loadBalancer", balancer.as_ref(), |check, balancer| {
        load_balancer::rules(check, balancer, outlier_detection.is_some());
    });
    check.some("connectionPool", pool.as_ref(), |check, pool| {
        connection_pool(check, pool)
    });
    check.some("outlierDetection", outlier_detection.as_ref(), |c, o| {
        outlier(c, o)
    });
    check.some("tls", secured.as_ref(), |check, secured| {
        tls(check, secured)
    });
}

pub(super) fn connection_pool(check: &mut Checker<'_>, pool: &ConnectionPool) {
    if pool.tcp.is_none() && pool.http.is_none() {
        check.error("connection pool must have at least one field");
    }
    check.some("tcp", pool.tcp.as_ref(), tcp_pool);
    check.some("http", pool.http.as_ref(), http_pool);
}

fn tcp_pool(check: &mut Checker<'_>, pool: &TcpPool) {
    duration(check, "connectTimeout", pool.connect_timeout);
    duration(check, "maxConnectionDuration", pool.max_connection_duration);
    duration(check, "idleTimeout", pool.idle_timeout);
    check.some(
        "tcpKeepalive",
        pool.tcp_keepalive.as_ref(),
        |check, keepalive| {
            for (field, time) in [("time", keepalive.time), ("interval", keepalive.interval)] {
                // The operating system counts whole seconds.
                if time.is_some_and(|GoDuration(time)| time < Duration::from_secs(1)) {
                    check.error_at(field, "a keepalive time must be at least 1s");
                }
            }
        },
    );
}

fn http_pool(check: &mut Checker<'_>, pool: &HttpPool) {
    duration(check, "idleTimeout", pool.idle_timeout);
    let upgrade = pool.h2_upgrade_policy == Some(H2UpgradePolicy::Upgrade);
    if pool.use_client_protocol == Some(true) && upgrade {
        check.error("use client protocol must not be true when H2UpgradePolicy is UPGRADE");
    }
    check.some(
        "http2KeepAlive",
        pool.http2_keepalive.as_ref(),
        |check, keepalive| {
            for (field, time) in [
                ("interval", keepalive.interval),
                ("timeout", keepalive.timeout),
            ] {
                match time {
                    None => check.error_at(field, format!("http2KeepAlive needs {field}")),
                    Some(_) => duration(check, field, time),
                }
            }
        },
    );
}

fn outlier(check: &mut Checker<'_>, outlier: &OutlierDetection) {
    duration(check, "interval", outlier.interval);
    duration(check, "baseEjectionTime", outlier.base_ejection_time);
    whole_percent(check, "maxEjectionPercent", outlier.max_ejection_percent);
    whole_percent(check, "minHealthPercent", outlier.min_health_percent);
    let local = outlier.consecutive_local_origin_failures.unwrap_or(0) > 0;
    if local && !outlier.split_external_local_origin_errors {
        check.error_at(
            "consecutiveLocalOriginFailures",
            "outlier detection consecutive local origin failures is specified, \
             but split external local origin errors is set to false",
        );
    }
    let instead = "it has no effect in Istio either; write consecutive5xxErrors";
    check.deprecated(
        "consecutiveErrors",
        outlier.consecutive_errors.is_some(),
        instead,
    );
    let codes = &outlier.outlier_detection_http_error_codes;
    check.each("outlierDetectionHttpErrorCodes", codes, |check, code| {
        if !(100..=599).contains(code) {
            check.error(format!("status {code} is outside of 100 to 599"));
        }
    });
}

fn tls(check: &mut Checker<'_>, tls: &ClientTls) {
    let files = [
        tls.client_certificate.is_some(),
        tls.private_key.is_some(),
        tls.ca_certificates.is_some(),
    ];
    let any_file = files.contains(&true);
    let named = tls.credential_name.is_some();
    let own = tls.client_certificate.is_some() || tls.private_key.is_some();
    match tls.mode {
        TlsMode::Disable | TlsMode::Simple if own => {
            check.error("client certificates are for the modes MUTUAL and ISTIO_MUTUAL");
        }
        TlsMode::Disable if any_file || named => {
            check.error("certificates have no meaning in mode DISABLE");
        }
        TlsMode::IstioMutual if any_file || named => {
            check.error("mode ISTIO_MUTUAL takes the certificates of the mesh: name none");
        }
        TlsMode::Mutual if named && own => {
            check.error("credentialName and certificate files exclude each other");
        }
        TlsMode::Mutual if !(named || files[0] && files[1]) => {
            check.error("mode MUTUAL needs clientCertificate and privateKey, or credentialName");
        }
        TlsMode::Disable | TlsMode::IstioMutual | TlsMode::Mutual | TlsMode::Simple => {}
    }
    if tls.credential_name.as_deref() == Some("") {
        check.error_at("credentialName", "credentialName must not be empty");
    }
    let trusts = tls.ca_certificates.is_some() || !tls.subject_alt_names.is_empty();
    if tls.insecure_skip_verify == Some(true) && trusts {
        let text = "insecureSkipVerify excludes caCertificates and subjectAltNames";
        check.error_at("insecureSkipVerify", text);
    }
    if tls.ca_crl.is_some() && tls.ca_certificates.is_none() {
        check.error_at("caCrl", "caCrl needs caCertificates");
    }
}

fn tunnel(check: &mut Checker<'_>, tunnel: &Tunnel) {
    if let Some(protocol) = &tunnel.protocol
        && !matches!(protocol.as_str(), "CONNECT" | "POST")
    {
        let text = format!("{} is neither CONNECT nor POST", quoted(protocol));
        check.error_at("protocol", text);
    }
    if let Some(fault) = host_fault(&tunnel.target_host) {
        check.error_at("targetHost", fault);
    }
    port(check, "targetPort", Some(tunnel.target_port));
}

fn retry_budget(check: &mut Checker<'_>, budget: &RetryBudget) {
    if let Some(percent) = budget
        .percent
        .filter(|percent| !(0.0..=100.0).contains(percent))
    {
        check.error_at(
            "percent",
            format!("percent {percent} is outside of 0 to 100"),
        );
    }
}
