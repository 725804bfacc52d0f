use super::*;
use crate::source::istio::{Options, compile, edge, read};
use crate::workload::Workload;

const GATEWAY: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: edge}
spec:
  selector: {istio: edge}
  servers:
";

/// The listeners of the servers, and how many losses were told of.
fn listeners(servers: &str, policies: &str) -> (Vec<listener::Listener>, usize) {
    let options = Options::default();
    let text = format!("{GATEWAY}{servers}\n{policies}");
    let read = read([("mesh.yaml", &*text)], &options);
    assert!(!read.faults.has_errors(), "{}", read.faults);
    let client = Workload::new("edge", "x").label("istio", "edge");
    let compiled = compile(&read.objects, &client, &options);
    let made = edge(&read.objects, &client, false, &options);
    let mut lost = BTreeSet::new();
    let mut all = Vec::new();
    for (address, chains) in &made.listeners {
        let encoded = listener(*address, chains, &compiled.resources.inbound, &mut lost);
        let message = listener::Listener::decode(encoded.body()).expect("a listener");
        assert_eq!(message.name, &**encoded.name());
        all.push(message);
    }
    (all, lost.len())
}

fn one(servers: &str) -> listener::Listener {
    let (mut all, _) = listeners(servers, "");
    assert_eq!(all.len(), 1);
    all.remove(0)
}

fn manager(chain: &listener::FilterChain) -> hcm::HttpConnectionManager {
    let Some(listener::filter::ConfigType::TypedConfig(any)) = &chain.filters[0].config_type else {
        panic!("{chain:?}");
    };
    hcm::HttpConnectionManager::decode(&*any.value).expect("a manager")
}

fn context(chain: &listener::FilterChain) -> tls::DownstreamTlsContext {
    let socket = chain.transport_socket.as_ref().expect("TLS");
    let Some(core::transport_socket::ConfigType::TypedConfig(any)) = &socket.config_type else {
        panic!("{socket:?}");
    };
    tls::DownstreamTlsContext::decode(&*any.value).expect("a context")
}

fn filters(manager: &hcm::HttpConnectionManager) -> Vec<&str> {
    let filters = manager.http_filters.iter();
    filters.map(|filter| &*filter.name).collect()
}

const HTTP: &str = "  - {port: {number: 8080, name: http, protocol: HTTP}, hosts: ['*']}";

#[test]
fn plaintext_servers_see_requests_by_the_routes_of_their_port_and_believe_no_caller() {
    let listener = one(HTTP);
    assert_eq!(listener.name, "0.0.0.0_8080");
    assert!(listener.listener_filters.is_empty());
    let manager = manager(&listener.filter_chains[0]);
    use hcm::http_connection_manager::RouteSpecifier;
    let Some(RouteSpecifier::Rds(rds)) = &manager.route_specifier else {
        panic!("{manager:?}");
    };
    assert_eq!(rds.route_config_name, "http.8080");
    assert_eq!(
        manager.use_remote_address.map(|flag| flag.value),
        Some(true)
    );
    assert_eq!(manager.forward_client_cert_details, 4 - 1, "SANITIZE_SET");
    assert_eq!(manager.upgrade_configs[0].upgrade_type, "websocket");
    assert_eq!(
        filters(&manager),
        ["envoy.filters.http.fault", "envoy.filters.http.router"]
    );
}

#[test]
fn browsers_speak_grpc_where_the_server_says_so() {
    let listener = one(&HTTP.replace("HTTP}", "GRPC-WEB}"));
    let manager = manager(&listener.filter_chains[0]);
    assert_eq!(filters(&manager)[0], "envoy.filters.http.grpc_web");
}

#[test]
fn what_is_asked_of_the_workload_stands_before_its_routes() {
    let policy = |more: &str| {
        format!(
            "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
             metadata: {{name: p, namespace: edge}}\n\
             spec: {{selector: {{matchLabels: {{istio: edge}}}}, {more}}}\n"
        )
    };
    let rules = "rules: [{to: [{operation: {paths: [/admin*]}}]}]";
    let (all, lost) = listeners(HTTP, &policy(&format!("action: DENY, {rules}")));
    let manager = manager(&all[0].filter_chains[0]);
    assert_eq!(filters(&manager)[0], "envoy.filters.http.rbac.DENY");
    assert_eq!(lost, 0);
    let other =
        policy(&format!("action: DENY, {rules}")).replace("{istio: edge}", "{istio: other}");
    let (all, _) = listeners(HTTP, &other);
    assert_eq!(filters(&self::manager(&all[0].filter_chains[0])).len(), 2);
}

/// The configuration of the filter of this name.
fn config<M: prost::Message + Default>(manager: &hcm::HttpConnectionManager, name: &str) -> M {
    use hcm::http_filter::ConfigType;
    let mut filters = manager.http_filters.iter();
    let found = filters
        .find(|filter| filter.name == name)
        .expect("a filter");
    let Some(ConfigType::TypedConfig(any)) = &found.config_type else {
        panic!("{found:?}");
    };
    M::decode(&*any.value).expect("its message")
}

/// Envoy refuses a listener with another, and would stay with the one before.
#[test]
fn the_statuses_of_an_authorizer_that_fails_are_those_that_envoy_takes() {
    use envoy_types::pb::envoy::r#type::v3::StatusCode;
    for status in 0..=600 {
        let text = format!(
            "mesh:\n  extensionProviders:\n  - name: p\n    envoyExtAuthzGrpc: \
             {{service: a.b, port: 80, statusOnError: '{status}'}}\n"
        );
        let read = read([("mesh.yaml", text)], &Options::default());
        let taken = status >= 200 && StatusCode::try_from(status).is_ok();
        assert_eq!(!read.faults.has_errors(), taken, "{status}");
    }
}

#[test]
fn an_authorizer_is_asked_about_what_its_policies_match_and_an_unknown_one_denies_it() {
    use envoy_types::pb::envoy::extensions::filters::http::{
        ext_authz::v3 as authz, rbac::v3 as rbac_filter,
    };
    let mesh = "---
mesh:
  extensionProviders:
  - name: web
    envoyExtAuthzHttp:
      service: authz.edge.svc.cluster.local
      port: 8000
      timeout: 2s
      statusOnError: '503'
      includeRequestHeadersInCheck: [x-user]
      headersToUpstreamOnAllow: [x-role]
  - name: grpc
    envoyExtAuthzGrpc: {service: authz.edge.svc.cluster.local, port: 9000, failOpen: true}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: p, namespace: edge}
spec:
  selector: {matchLabels: {istio: edge}}
  action: CUSTOM
  provider: {name: PROVIDER}
  rules: [{to: [{operation: {paths: [/admin*]}}]}]
";
    let of = |provider: &str| listeners(HTTP, &mesh.replace("PROVIDER", provider));
    let (all, lost) = of("web");
    let manager = self::manager(&all[0].filter_chains[0]);
    let names = [
        "envoy.filters.http.rbac.external.web",
        "envoy.filters.http.ext_authz.external.web",
    ];
    assert_eq!(filters(&manager)[..2], names);
    assert_eq!(lost, 0);
    // The rules have no effect but to say whether one of them matches.
    let marks: rbac_filter::Rbac = config(&manager, names[0]);
    assert!(marks.rules.is_none());
    assert_eq!(marks.shadow_rules.expect("rules").policies.len(), 1);
    let asked: authz::ExtAuthz = config(&manager, names[1]);
    let when = asked.filter_enabled_metadata.expect("a condition");
    let key = format!("{}shadow_engine_result", marks.shadow_rules_stat_prefix);
    assert!(
        when.invert && format!("{:?}", when.path).contains(&key),
        "{when:?}"
    );
    assert!(!asked.failure_mode_allow);
    assert_eq!(asked.status_on_error.map(|status| status.code), Some(503));
    assert_eq!(asked.allowed_headers.expect("a list").patterns.len(), 1);
    let Some(authz::ext_authz::Services::HttpService(service)) = asked.services else {
        panic!("{:?}", asked.services);
    };
    let server = service.server_uri.expect("a server");
    assert_eq!(server.uri, "http://authz.edge.svc.cluster.local:8000");
    assert!(format!("{server:?}").contains("outbound|8000||authz.edge.svc.cluster.local"));
    let (all, lost) = of("grpc");
    let manager = self::manager(&all[0].filter_chains[0]);
    let asked: authz::ExtAuthz = config(&manager, "envoy.filters.http.ext_authz.external.grpc");
    assert!(asked.failure_mode_allow && lost == 0);
    assert!(matches!(
        asked.services,
        Some(authz::ext_authz::Services::GrpcService(_))
    ));
    // Nobody knows whom to ask: the request is denied.
    let (all, _) = of("other");
    let manager = self::manager(&all[0].filter_chains[0]);
    let denies = filters(&manager)[0];
    let denies: rbac_filter::Rbac = config(&manager, denies);
    assert!(denies.rules.is_some(), "it is in force");
    assert!(
        !filters(&manager)
            .iter()
            .any(|name| name.contains("ext_authz"))
    );
}

#[test]
fn ambiguous_paths_are_refused_unless_the_mesh_says_otherwise() {
    let of = |normalization: &str| {
        let mesh = match normalization {
            "" => String::new(),
            kind => format!("---\nmesh: {{pathNormalization: {{normalization: {kind}}}}}\n"),
        };
        let (all, _) = listeners(HTTP, &mesh);
        let manager = manager(&all[0].filter_chains[0]);
        let normal = manager.normalize_path.is_some_and(|flag| flag.value);
        let escaped = manager.path_with_escaped_slashes_action;
        (normal, manager.merge_slashes, escaped)
    };
    let (keep, reject, unescape) = (1, 2, 4);
    assert_eq!(of(""), (true, true, reject));
    assert_eq!(of("NONE"), (false, false, keep));
    assert_eq!(of("BASE"), (true, false, keep));
    assert_eq!(of("MERGE_SLASHES"), (true, true, keep));
    assert_eq!(of("DECODE_AND_MERGE_SLASHES"), (true, true, unescape));
}

fn https(tls: &str) -> String {
    format!(
        "  - {{port: {{number: 443, name: a, protocol: HTTPS}}, hosts: [a.test, '*.b.test'], tls: {{{tls}}}}}"
    )
}

const FILES: &str = "serverCertificate: /crt, privateKey: /key";

fn path(source: &Option<core::DataSource>) -> String {
    match source.as_ref().and_then(|source| source.specifier.as_ref()) {
        Some(core::data_source::Specifier::Filename(path)) => path.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn encryption_ends_with_files_for_the_names_of_the_server() {
    let listener = one(&https(&format!(
        "mode: SIMPLE, {FILES}, minProtocolVersion: TLSV1_3"
    )));
    assert_eq!(
        listener.listener_filters[0].name,
        "envoy.filters.listener.tls_inspector"
    );
    let chain = &listener.filter_chains[0];
    let asked = chain.filter_chain_match.as_ref().expect("names");
    assert_eq!(asked.server_names, ["*.b.test", "a.test"]);
    let context = context(chain);
    assert_eq!(
        context.require_client_certificate.map(|flag| flag.value),
        Some(false)
    );
    let common = context.common_tls_context.expect("a common part");
    let certificate = &common.tls_certificates[0];
    assert_eq!(path(&certificate.certificate_chain), "/crt");
    assert_eq!(path(&certificate.private_key), "/key");
    assert!(common.validation_context_type.is_none());
    assert_eq!(common.alpn_protocols, ["h2", "http/1.1"]);
    let parameters = common.tls_params.expect("parameters");
    assert_eq!(parameters.tls_minimum_protocol_version, 4);
}

#[test]
fn callers_are_checked_as_the_server_says() {
    use tls::common_tls_context::ValidationContextType;
    for (mode, required) in [("MUTUAL", true), ("OPTIONAL_MUTUAL", false)] {
        let listener = one(&https(&format!(
            "mode: {mode}, {FILES}, caCertificates: /ca, caCrl: /crl, \
             subjectAltNames: [a.test, 'spiffe://x/y'], verifyCertificateSpki: [abc]"
        )));
        let context = context(&listener.filter_chains[0]);
        let asked = context.require_client_certificate.map(|flag| flag.value);
        assert_eq!(asked, Some(required), "{mode}");
        let common = context.common_tls_context.expect("a common part");
        let Some(ValidationContextType::ValidationContext(validation)) =
            common.validation_context_type
        else {
            panic!("{mode}: nobody is checked");
        };
        assert_eq!(path(&validation.trusted_ca), "/ca");
        assert_eq!(path(&validation.crl), "/crl");
        let names = validation.match_typed_subject_alt_names.iter();
        let kinds: Vec<i32> = names.map(|name| name.san_type).collect();
        assert_eq!(kinds, [2, 3], "a DNS name and a URI");
        assert_eq!(validation.verify_certificate_spki, ["abc"]);
    }
}

#[test]
fn several_certificates_are_one_chain() {
    let listener = one(&https(&format!(
        "mode: SIMPLE, tlsCertificates: [{{{FILES}}}, {{serverCertificate: /ec, privateKey: /ec.key}}]"
    )));
    let common = context(&listener.filter_chains[0]).common_tls_context;
    let all = common.expect("a common part").tls_certificates;
    let paths: Vec<String> = all.iter().map(|one| path(&one.certificate_chain)).collect();
    assert_eq!(paths, ["/crt", "/ec"]);
}

#[test]
fn bytes_pass_to_the_clusters_of_tls_rules() {
    let pass = https("mode: PASSTHROUGH");
    let rules = "---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: pass, namespace: edge}
spec:
  hosts: [a.test]
  gateways: [edge]
  tls:
  - match: [{sniHosts: [a.test]}]
    route: [{destination: {host: one.example, port: {number: 443}}}]
";
    let (all, _) = listeners(&pass, rules);
    let chain = &all[0].filter_chains[0];
    assert!(chain.transport_socket.is_none());
    let Some(listener::filter::ConfigType::TypedConfig(any)) = &chain.filters[0].config_type else {
        panic!("{chain:?}");
    };
    let proxy = tcp::TcpProxy::decode(&*any.value).expect("a proxy");
    let wanted = tcp::tcp_proxy::ClusterSpecifier::Cluster("outbound|443||one.example".into());
    assert_eq!(proxy.cluster_specifier, Some(wanted));
}
