//! The rules of Sidecar, WorkloadGroup and the mesh configuration.

use super::names::{duration, export_to_at, host_fault, is_dns_label, labels};
use super::virtual_service::destination;
use super::{Checker, destination_rule, http_action, load_balancer, support, telemetry, token};
use crate::model::identity::TrustDomain;
use crate::source::istio::fault::{Code, quoted};
use crate::source::istio::kinds::{
    EgressListener, MeshConfig, OutboundMode, OutboundTrafficPolicy, Sidecar, WorkloadGroup,
};

pub(super) fn sidecar(check: &mut Checker<'_>, sidecar: &Sidecar) {
    let Sidecar {
        workload_selector,
        egress,
        outbound_traffic_policy,
        ingress,
        inbound_connection_pool,
    } = sidecar;
    let says = outbound_traffic_policy.is_some() || inbound_connection_pool.is_some();
    if egress.is_empty() && ingress.is_empty() && !says {
        check.error("sidecar: empty configuration provided");
    }
    check.some(
        "workloadSelector",
        workload_selector.as_ref(),
        |check, selector| {
            check.within("labels", |check| labels(check, &selector.labels));
        },
    );
    check.each("egress", egress, |check, listener| {
        egress_listener(check, listener)
    });
    check.some(
        "outboundTrafficPolicy",
        outbound_traffic_policy.as_ref(),
        |check, policy| {
            egress_proxy(check, policy);
        },
    );
    let reason = "it configures the listeners of a proxy for incoming requests";
    check.no_effect("ingress", !ingress.is_empty(), reason);
    check.some(
        "inboundConnectionPool",
        inbound_connection_pool.as_ref(),
        |check, pool| {
            destination_rule::connection_pool(check, pool);
            support::inbound_pool(check, pool);
        },
    );
}

fn egress_listener(check: &mut Checker<'_>, listener: &EgressListener) {
    let EgressListener {
        hosts,
        port,
        bind,
        capture_mode,
    } = listener;
    if hosts.is_empty() {
        check.error_at("hosts", "an egress listener must have at least one host");
    }
    check.each("hosts", hosts, |check, host| {
        let Some((namespace, name)) = host.split_once('/') else {
            let text = format!("{} is not namespace/host", quoted(host));
            check.error_hint(
                text,
                format!("write {:?} for any namespace", format!("*/{}", **host)),
            );
            return;
        };
        if namespace == "~" && name != "*" {
            check.error(format!("{} names nobody: expected ~/*", quoted(host)));
        } else if !matches!(namespace, "." | "*" | "~") && !is_dns_label(namespace) {
            let text = format!("{} is neither ., *, ~ nor a namespace", quoted(namespace));
            check.error(text);
        } else if let Some(fault) = host_fault(name).filter(|_| name != "*") {
            check.error(fault);
        }
    });
    let reason = "there are no listeners: the hosts are seen on all ports";
    check.no_effect("port", port.is_some(), reason);
    check.no_effect("bind", bind.is_some(), reason);
    check.no_effect("captureMode", capture_mode.is_some(), reason);
}

fn egress_proxy(check: &mut Checker<'_>, policy: &OutboundTrafficPolicy) {
    check.some("egressProxy", policy.egress_proxy.as_ref(), |check, to| {
        destination(check, to)
    });
    let reason = "it counts where mode is ALLOW_ANY";
    let given = policy.egress_proxy.is_some() && policy.mode != OutboundMode::AllowAny;
    check.no_effect("egressProxy", given, reason);
}

pub(super) fn workload_group(check: &mut Checker<'_>, group: &WorkloadGroup) {
    let WorkloadGroup {
        metadata,
        template,
        probe: _,
    } = group;
    if template.is_none() {
        check.error_at("template", "a workload group must have a template");
    }
    check.some("metadata", metadata.as_ref(), |check, metadata| {
        check.within("labels", |check| labels(check, &metadata.labels));
    });
    check.some("template", template.as_ref(), |check, template| {
        check.within("labels", |check| labels(check, &template.labels));
    });
    let text = "a WorkloadGroup is a template from which a control plane registers machines: by \
                itself it has no endpoints, write a WorkloadEntry for each machine";
    check.warn(Code::NoEffect, text);
}

pub(super) fn mesh_config(check: &mut Checker<'_>, config: &MeshConfig) {
    let MeshConfig {
        root_namespace,
        trust_domain,
        trust_domain_aliases,
        enable_auto_mtls: _,
        default_service_export_to,
        default_virtual_service_export_to,
        default_destination_rule_export_to,
        outbound_traffic_policy,
        connect_timeout,
        default_http_retry_policy,
        default_traffic_policy,
        locality_lb_setting,
        h2_upgrade_policy: _,
        path_normalization: _,
        extension_providers,
        dns_refresh_rate,
        default_providers,
        access_log_file,
        access_log_format: _,
        access_log_encoding: _,
    } = config;
    token::providers(check, extension_providers);
    telemetry::mesh_logs(check, config);
    check.some("accessLogFile", access_log_file.as_ref(), |check, path| {
        if !path.is_empty() && !path.starts_with('/') {
            check.error(format!("{} is no absolute path", quoted(path)));
        }
    });
    let providers = default_providers.as_ref();
    check.some("defaultProviders", providers, |check, providers| {
        let known = |name: &str, built_in: &str| {
            name == built_in || extension_providers.iter().any(|one| *one.name == *name)
        };
        let lists = [
            ("metrics", &providers.metrics, "prometheus"),
            ("tracing", &providers.tracing, ""),
            ("accessLogging", &providers.access_logging, "envoy"),
        ];
        for (field, names, built_in) in lists {
            check.each(field, names, |check, name| {
                if name.is_empty() || !known(name, built_in) {
                    let text = format!("{} is not among extensionProviders", quoted(name));
                    check.error(text);
                }
            });
        }
    });
    check.some("rootNamespace", root_namespace.as_ref(), |check, name| {
        if !is_dns_label(name) {
            check.error(format!("{} is no namespace (DNS-1123 label)", quoted(name)));
        }
    });
    let is_domain = |check: &mut Checker<'_>, text: &str| {
        if let Err(fault) = TrustDomain::new(text) {
            check.error(format!("{} is no trust domain: {fault}", quoted(text)));
        }
    };
    check.some("trustDomain", trust_domain.as_ref(), |check, text| {
        is_domain(check, text);
    });
    check.each("trustDomainAliases", trust_domain_aliases, |check, text| {
        is_domain(check, text)
    });
    export_to_at(check, "defaultServiceExportTo", default_service_export_to);
    export_to_at(
        check,
        "defaultVirtualServiceExportTo",
        default_virtual_service_export_to,
    );
    export_to_at(
        check,
        "defaultDestinationRuleExportTo",
        default_destination_rule_export_to,
    );
    check.some(
        "outboundTrafficPolicy",
        outbound_traffic_policy.as_ref(),
        |check, policy| {
            let given = policy.egress_proxy.is_some();
            check.no_effect("egressProxy", given, "only a Sidecar has one, as in Istio");
        },
    );
    duration(check, "connectTimeout", *connect_timeout);
    duration(check, "dnsRefreshRate", *dns_refresh_rate);
    check.some(
        "defaultHttpRetryPolicy",
        default_http_retry_policy.as_ref(),
        |check, block| {
            http_action::retries(check, block);
        },
    );
    check.some(
        "defaultTrafficPolicy",
        default_traffic_policy.as_ref(),
        |check, policy| {
            destination_rule::traffic_policy(check, policy);
            support::traffic_policy(check, policy);
        },
    );
    check.some(
        "localityLbSetting",
        locality_lb_setting.as_ref(),
        |check, setting| {
            // Whether a host has outlier detection is its own rule's to say.
            load_balancer::locality(check, setting, true);
        },
    );
}
