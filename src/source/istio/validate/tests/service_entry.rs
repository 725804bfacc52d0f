use super::{accepts, refuses, rule_tests, warns};

type Shape = (&'static str, String);

/// Fields of a ServiceEntry.
fn spec(text: &str) -> Shape {
    ("ServiceEntry", format!("{{{text}}}"))
}

/// A ServiceEntry with one endpoint.
fn entry(text: &str) -> Shape {
    spec(&format!(
        "resolution: STATIC, endpoints: [{{address: 10.0.0.1}}], {text}"
    ))
}

/// A ServiceEntry with these endpoints.
fn endpoint(text: &str) -> Shape {
    let port = "{number: 80, name: http, protocol: HTTP}";
    spec(&format!(
        "resolution: STATIC, hosts: [a.b], ports: [{port}], endpoints: [{text}]"
    ))
}

/// A ServiceEntry with these ports.
fn ports(text: &str) -> Shape {
    entry(&format!("hosts: [a.b], ports: [{text}]"))
}

fn workload(text: &str) -> Shape {
    ("WorkloadEntry", text.to_owned())
}

/// A ServiceEntry with a port.
fn other(text: &str) -> Shape {
    spec(&format!("ports: [{{number: 80, name: http}}], {text}"))
}

rule_tests! {
    hosts_are_required: refuses(entry, "ports: [{number: 80, name: http}]")
        => "hosts: service entry must have at least one host";
    star_is_no_host: refuses(entry, "hosts: ['*'], ports: [{number: 80, name: http}]")
        => "hosts[0]: invalid host *";
    a_host_is_a_name: refuses(entry, "hosts: ['a/b'], ports: [{number: 80, name: http}]")
        => "hosts[0]: \"a/b\" is no host: expected a DNS name, *.suffix or an IP address";
    ports_are_required: refuses(entry, "hosts: [a.b]")
        => "ports: service entry must have at least one port";
    port_numbers_are_unique: refuses(ports, "{number: 80, name: a}, {number: 80, name: b}")
        => "ports[1].number: port number 80 stands twice";
    port_names_are_unique: refuses(ports, "{number: 80, name: a}, {number: 81, name: a}")
        => "ports[1].name: port name \"a\" stands twice";
    a_port_has_a_name: refuses(ports, "{number: 80}")
        => "ports[0].name: \"\" is no port name (DNS-1123 label)";
    a_port_is_not_zero: refuses(ports, "{name: a}")
        => "ports[0].number: port 0 does not exist: expected 1 to 65535";
    a_protocol_is_known: refuses(ports, "{number: 80, name: a, protocol: HTTP3}")
        => "ports[0].protocol: \"HTTP3\" is no protocol";
    an_address_is_one: refuses(entry,
        "hosts: [a.b], ports: [{number: 80, name: a}], addresses: [c.d]")
        => "addresses[0]: \"c.d\" is neither an address nor a network";
    endpoints_exclude_a_selector: refuses(entry,
        "hosts: [a.b], ports: [{number: 80, name: a}], workloadSelector: {labels: {a: b}}")
        => "only one of workloadSelector or endpoints is allowed in a service entry";
    static_needs_endpoints: refuses(spec,
        "hosts: [a.b], ports: [{number: 80, name: a}], resolution: STATIC")
        => "endpoints or workloadSelector must be provided for resolution STATIC";
    static_endpoints_are_addresses: refuses(endpoint, "{address: c.d}")
        => "endpoints[0].address: \"c.d\" is no IP address, as resolution STATIC needs";
    an_endpoint_has_an_address: refuses(endpoint, "{labels: {a: b}}")
        => "endpoints[0].address: address is required";
    an_endpoint_port_has_a_name_of_the_service: refuses(endpoint,
        "{address: 10.0.0.1, ports: {https: 443}}")
        => "endpoints[0].ports.https: the service has no port named \"https\"";
    none_has_no_endpoints: refuses(other,
        "hosts: [a.b], resolution: NONE, endpoints: [{address: 10.0.0.1}]")
        => "endpoints: no endpoints should be provided for resolution NONE";
    a_wildcard_is_not_resolved: refuses(other, "hosts: ['*.b'], resolution: DNS")
        => "hosts[0]: a wildcard host cannot be resolved: name endpoints";
    round_robin_has_one_endpoint: refuses(other,
        "hosts: [a.b], resolution: DNS_ROUND_ROBIN, endpoints: [{address: c.d}, {address: e.f}]")
        => "endpoints: resolution DNS_ROUND_ROBIN takes one endpoint";
    a_network_is_not_for_dns: refuses(other,
        "hosts: [a.b], resolution: DNS, addresses: [10.0.0.0/8]")
        => "addresses[0]: a network is allowed for the resolutions NONE and STATIC only";
    dynamic_dns_has_no_endpoints: refuses(other,
        "hosts: ['*.b'], resolution: DYNAMIC_DNS, endpoints: [{address: c.d}]")
        => "endpoints: no endpoints should be provided for resolution DYNAMIC_DNS";
    a_selector_finds_nobody_where_the_request_says_who: warns(other,
        "hosts: [a.b], workloadSelector: {labels: {a: b}}")
        => "workloadSelector: workloadSelector has no effect in this client: this resolution goes \
            to the host that the request asks for";
    a_unix_path_is_absolute: refuses(workload, "{address: 'unix://a/b'}")
        => "address: unix:// takes an absolute path";
    a_unix_socket_has_no_ports: refuses(workload, "{address: 'unix:///a', ports: {http: 80}}")
        => "ports: a unix socket has no ports";
    a_workload_port_is_not_zero: refuses(workload, "{address: 10.0.0.1, ports: {http: 0}}")
        => "ports.http: port 0 does not exist: expected 1 to 65535";
    a_workload_address_is_one: refuses(workload, "{address: '*.b'}")
        => "address: \"*.b\" is neither an IP address, a DNS name nor unix://";
    a_workload_label_is_one: refuses(workload, "{address: 10.0.0.1, labels: {'-a': b}}")
        => "labels.-a: \"-a\" is no label key";
    a_locality_has_three_parts: refuses(workload, "{address: 10.0.0.1, locality: a/b/c/d}")
        => "locality: \"a/b/c/d\" is not region/zone/subzone";
    a_locality_has_no_empty_part: refuses(workload, "{address: 10.0.0.1, locality: a//c}")
        => "locality: \"a//c\" is not region/zone/subzone";
    an_entry_without_an_address_is_told: warns(workload, "{network: north}")
        => "network: network has no effect in this client: gateways of networks are not read, so an entry without an address is nobody's endpoint";
}

#[test]
fn more_than_256_hosts_are_refused() {
    let hosts: Vec<String> = (0..257).map(|n| format!("h{n}.b")).collect();
    let (kind, spec) = entry(&format!(
        "ports: [{{number: 80, name: http}}], hosts: [{}]",
        hosts.join(", ")
    ));
    refuses(kind, &spec, "hosts: more than 256 hosts");
}

#[test]
fn unix_sockets_serve_one_port() {
    let (kind, spec) = spec(
        "hosts: [a.b], resolution: STATIC, endpoints: [{address: 'unix:///a'}], \
         ports: [{number: 80, name: a}, {number: 81, name: b}]",
    );
    refuses(
        kind,
        &spec,
        "endpoints[0].address: a unix socket serves a single port",
    );
}

#[test]
fn what_istio_accepts_is_accepted() {
    for text in [
        "hosts: [a.b, '*.c.d'], ports: [{number: 80, name: http, protocol: http, targetPort: 81}], \
         addresses: [10.1.0.0/16], location: MESH_INTERNAL, exportTo: [.]",
        "hosts: [a.b], ports: [{number: 443, name: grpc, protocol: GRPC-Web}], location: 1",
    ] {
        let (kind, spec) = entry(text);
        accepts(kind, &spec);
    }
    for text in [
        "hosts: ['*.b']",
        "hosts: [a.b], resolution: DNS",
        "hosts: [a.b], resolution: DNS, endpoints: [{address: c.d}, {address: 10.0.0.1}]",
        "hosts: [a.b], resolution: DNS_ROUND_ROBIN, endpoints: [{address: c.d}]",
        "hosts: ['*.b'], resolution: DYNAMIC_DNS",
    ] {
        let (kind, spec) = other(text);
        accepts(kind, &spec);
    }
    for text in [
        "{address: a.b}",
        "{address: 10.0.0.1, ports: {http: 8080}, labels: {app: a}, locality: r/z/s, weight: 2, \
          serviceAccount: sa}",
        "{address: 'unix:///var/run/a.sock'}",
    ] {
        let (kind, spec) = workload(text);
        accepts(kind, &spec);
    }
}
