//! What is compiled does not depend on the order of objects and files.

use proptest::prelude::*;

use super::*;

/// Objects of which no two claim the same.
fn objects() -> Vec<String> {
    let rule = "  host: catalog\n  trafficPolicy: {outlierDetection: {}}\n  subsets:\n  \
                - {name: v1, labels: {version: v1}}\n  - {name: v2, labels: {version: v2}}";
    let canary = "  hosts: [catalog]\n  http:\n  - match: [{headers: {x-canary: {exact: \"true\"}}}]\n    \
                  route: [{destination: {host: catalog, subset: v2}}]\n  - route:\n    \
                  - {destination: {host: catalog, subset: v1}, weight: 90}\n    \
                  - {destination: {host: catalog, subset: v2}, weight: 10}";
    let wildcard = "  hosts: [\"*.my-app.svc.cluster.local\"]\n  http:\n  - timeout: 3s\n    \
                    route: [{destination: {host: cart, port: {number: 80}}}]";
    let entry = "  hosts: [api.example.com, b.example.com]\n  ports: [{number: 80, name: http, \
                 protocol: HTTP}]\n  resolution: STATIC\n  workloadSelector: {labels: {app: api}}";
    let mut objects = vec![
        destination_rule("catalog.my-app", rule),
        virtual_service("catalog.my-app", canary),
        virtual_service("all.my-app", wildcard),
        object("ServiceEntry", "api.my-app", entry),
    ];
    for (name, address) in [("one", "10.8.0.1"), ("two", "10.8.0.2")] {
        let spec = format!("  address: {address}\n  labels: {{app: api}}");
        objects.push(object("WorkloadEntry", &format!("{name}.my-app"), &spec));
    }
    let services = [
        catalog(),
        service(
            "cart.my-app",
            &[("http", 80), ("grpc", 90)],
            &[("10.0.1.1", "v1")],
        ),
        service("catalog.shop", &[("http", 80)], &[("10.0.2.1", "v1")]),
    ];
    for service in services {
        objects.extend(service.split("---\n").map(str::to_owned));
    }
    objects
}

proptest! {
    #![proptest_config(crate::properties(32))]

    #[test]
    fn order_and_names_of_files_do_not_matter_without_ties(
        shuffled in Just(objects()).prop_shuffle(),
        names in proptest::collection::vec("[a-z]{8}", 64),
    ) {
        let files = |objects: Vec<String>| -> Compiled {
            let named = objects.into_iter().zip(&names).enumerate();
            let files: Vec<(String, String)> = named
                .map(|(index, (text, name))| (format!("{name}{index}.yaml"), text))
                .collect();
            let read = read(files, &Options::default());
            assert!(read.faults.is_empty(), "{}", read.faults);
            compile(&read.objects, &order(), &Options::default())
        };
        let expected = files(objects());
        prop_assert!(expected.faults.is_empty(), "{}", expected.faults);
        prop_assert_eq!(files(shuffled).resources, expected.resources);
    }

    #[test]
    fn compiling_never_panics_and_names_hold(
        hosts in proptest::collection::vec("[a-c*]{1,2}(\\.[a-c]{1,2}){0,2}", 1..4),
        weight in any::<u32>(),
        port in any::<u16>(),
        path in "/[a-z/]{0,4}",
    ) {
        let hosts: Vec<String> = hosts.iter().map(|host| format!("{host:?}")).collect();
        let spec = format!(
            "  hosts: [{}]\n  http:\n  - match: [{{uri: {{prefix: {path:?}}}, port: {port}}}, {{}}]\n    \
             route: [{{destination: {{host: catalog}}, weight: {weight}}}, \
             {{destination: {{host: cart, port: {{number: {port}}}}}, weight: {weight}}}]",
            hosts.join(", ")
        );
        let texts = [catalog(), virtual_service("x.my-app", &spec)];
        let files = texts.iter().enumerate().map(|(i, text)| (i.to_string(), text));
        let read = read(files, &Options::default());
        let compiled = compile(&read.objects, &order(), &Options::default());
        for (name, listener) in &compiled.resources.listeners {
            let meshwork::model::listener::Routes::Named(routes) = &listener.routes else {
                panic!("{name} has its routes inside");
            };
            prop_assert!(compiled.resources.routes.contains_key(routes));
        }
        for cluster in compiled.resources.clusters.values() {
            prop_assert!(compiled.resources.endpoints.contains_key(&cluster.name));
        }
        for configuration in compiled.resources.routes.values() {
            let domains: Vec<_> = configuration
                .virtual_hosts
                .iter()
                .flat_map(|host| &host.domains)
                .collect();
            let unique: std::collections::HashSet<_> = domains.iter().collect();
            prop_assert_eq!(unique.len(), domains.len(), "{:?}", domains);
        }
    }
}
