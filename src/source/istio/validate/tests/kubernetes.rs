use super::{accepts, refuses, rule_tests};

type Shape = (&'static str, String);

fn service(text: &str) -> Shape {
    ("Service", text.to_owned())
}

fn slice(text: &str) -> Shape {
    ("EndpointSlice", text.to_owned())
}

fn endpoints(text: &str) -> Shape {
    ("Endpoints", text.to_owned())
}

fn pod(text: &str) -> Shape {
    ("Pod", text.to_owned())
}

fn deployment(text: &str) -> Shape {
    ("Deployment", text.to_owned())
}

rule_tests! {
    a_service_has_a_port: refuses(service, "{selector: {a: b}}")
        => "ports: a service needs at least one port";
    a_service_port_is_not_zero: refuses(service, "{ports: [{name: http}]}")
        => "ports[0].port: port 0 does not exist: expected 1 to 65535";
    a_target_port_is_not_zero: refuses(service, "{ports: [{port: 80, targetPort: 0}]}")
        => "ports[0].targetPort: port 0 does not exist: expected 1 to 65535";
    a_target_port_is_small_enough: refuses(service, "{ports: [{port: 80, targetPort: 70000}]}")
        => "ports[0].targetPort: port 70000 is above 65535";
    several_ports_have_names: refuses(service, "{ports: [{port: 80, name: a}, {port: 81}]}")
        => "ports[1].name: a service with several ports must name each of them";
    port_names_are_unique: refuses(service,
        "{ports: [{port: 80, name: a}, {port: 81, name: a}]}")
        => "ports[1].name: port name \"a\" stands twice";
    port_numbers_are_unique: refuses(service,
        "{ports: [{port: 80, name: a}, {port: 80, name: b}]}")
        => "ports[1].port: port 80 stands twice";
    a_selector_has_labels: refuses(service, "{ports: [{port: 80}], selector: {'a b': c}}")
        => "selector[\"a b\"]: \"a b\" is no label key";
    an_ip_family_is_one: refuses(service, "{ports: [{port: 80}], ipFamilies: [IPv4, IPv5]}")
        => "ipFamilies[1]: \"IPv5\" is not IPv4 or IPv6";
    an_external_name_is_required: refuses(service, "{type: ExternalName}")
        => "externalName: an ExternalName service needs a name";
    an_external_name_is_a_host: refuses(service, "{type: ExternalName, externalName: a/b}")
        => "externalName: \"a/b\" is no host";
    a_slice_has_an_address_type: refuses(slice, "endpoints: []")
        => "addressType is required";
    an_address_type_is_known: refuses(slice, "addressType: IPv5")
        => "addressType: \"IPv5\" is not IPv4, IPv6 or FQDN";
    a_slice_endpoint_has_an_address: refuses(slice, "addressType: IPv4\nendpoints: [{}]")
        => "endpoints[0].addresses: an endpoint needs an address";
    a_slice_address_has_its_type: refuses(slice,
        "addressType: IPv4\nendpoints: [{addresses: ['fd00::1']}]")
        => "endpoints[0].addresses[0]: \"fd00::1\" is no IPv4 address";
    a_slice_port_is_not_zero: refuses(slice, "addressType: IPv4\nports: [{port: 0}]")
        => "ports[0].port: port 0 does not exist: expected 1 to 65535";
    an_endpoints_address_is_one: refuses(endpoints, "subsets: [{addresses: [{ip: a}]}]")
        => "subsets[0].addresses[0].ip: \"a\" is no IP address";
    an_unready_endpoints_address_is_one: refuses(endpoints,
        "subsets: [{notReadyAddresses: [{}]}]")
        => "subsets[0].notReadyAddresses[0].ip: \"\" is no IP address";
    a_pod_address_is_one: refuses(pod, "status: {podIP: a}")
        => "status.podIP: \"a\" is not an IP address";
    a_container_port_is_not_zero: refuses(pod, "spec: {containers: [{ports: [{name: a}]}]}")
        => "spec.containers[0].ports[0].containerPort: port 0 does not exist: expected 1 to 65535";
    a_template_has_the_labels_of_the_selector: refuses(deployment,
        "{selector: {matchLabels: {app: a}}, template: {metadata: {labels: {app: b}}}}")
        => "selector: the selector does not match the labels of the template";
    template_labels_are_labels: refuses(deployment, "{template: {metadata: {labels: {app: '-'}}}}")
        => "template.metadata.labels.app: \"-\" is no label value: expected up to 63 letters, \
            digits, -, _ and .";
}

#[test]
fn what_kubernetes_accepts_is_accepted() {
    for (kind, spec) in [
        service("{clusterIP: None, ports: [{port: 80, targetPort: http, appProtocol: grpc}]}"),
        service("{ports: [{port: 53, name: a}, {port: 53, name: b, protocol: UDP}]}"),
        service("{type: ExternalName, externalName: a.b, sessionAffinity: None}"),
        slice(
            "addressType: IPv6\nports: [{name: '', port: 80}]\nendpoints:\n\
             - {addresses: ['fd00::1'], conditions: {ready: true}, hints: {}, deprecatedTopology: }",
        ),
        endpoints("subsets: [{addresses: [{ip: 10.0.0.1}], ports: [{port: 80}]}]"),
        pod("spec: {containers: [{name: a, image: b}]}\nstatus: {podIP: 10.0.0.1}"),
        deployment(
            "{replicas: 3, selector: {matchLabels: {app: a}}, \
              template: {metadata: {labels: {app: a}}, spec: {containers: [{name: a}]}}}",
        ),
    ] {
        accepts(kind, &spec);
    }
}
