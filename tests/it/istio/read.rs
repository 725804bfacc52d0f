//! Which documents become objects, and what is said about the others.

use meshwork::source::istio::kinds::{Controller, Kind};
use meshwork::source::istio::{OnDuplicate, Options, Read, Severity, Strictness, read};

fn all(text: &str) -> Read {
    read([("test.yaml", text)], &Options::default())
}

fn names(read: &Read) -> Vec<String> {
    let name = |o: &meshwork::source::istio::kinds::Object| o.reference().to_string();
    read.objects.iter().map(name).collect()
}

#[track_caller]
fn only_fault(read: &Read) -> (Severity, &'static str, String, Option<&str>) {
    assert_eq!(read.faults.len(), 1, "{}", read.faults);
    let fault = read.faults.iter().next().expect("counted above");
    (
        fault.severity(),
        fault.code().as_str(),
        fault.message(),
        fault.hint(),
    )
}

/// An object of a kind without a spec.
fn bare(api_version: &str, kind: &str) -> String {
    format!("apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: a}}\n")
}

#[test]
fn all_api_versions_of_a_kind_are_read() {
    for version in ["v1", "v1beta1", "v1alpha3"] {
        let text = bare(&format!("networking.istio.io/{version}"), "DestinationRule");
        let read = all(&format!("{text}spec: {{host: a}}\n"));
        assert_eq!(
            names(&read),
            ["destinationrule default/a"],
            "{}",
            read.faults
        );
    }
}

#[test]
fn a_wrong_version_names_the_allowed_ones() {
    let read = all(&bare("networking.istio.io/v2", "VirtualService"));
    assert_eq!(
        only_fault(&read),
        (
            Severity::Error,
            "M012",
            "VirtualService does not exist in apiVersion \"networking.istio.io/v2\"".into(),
            Some(
                "allowed: networking.istio.io/v1, networking.istio.io/v1beta1, \
                 networking.istio.io/v1alpha3"
            ),
        )
    );
    let read = all(&bare("v1", "VirtualService"));
    assert_eq!(only_fault(&read).1, "M012");
}

#[test]
fn an_unknown_kind_of_the_mesh_is_a_fault_with_a_suggestion() {
    let read = all(&bare("networking.istio.io/v1", "VirtualServce"));
    assert_eq!(
        only_fault(&read),
        (
            Severity::Error,
            "M011",
            "\"networking.istio.io\" has no kind \"VirtualServce\"".into(),
            Some("did you mean \"VirtualService\"?"),
        )
    );
}

#[test]
fn a_kind_that_does_not_concern_the_mesh_is_a_warning() {
    let read = all(&bare("autoscaling/v2", "HorizontalPodAutoscaler"));
    assert_eq!(
        only_fault(&read),
        (
            Severity::Warning,
            "M014",
            "\"autoscaling/v2\" \"HorizontalPodAutoscaler\" is not read".into(),
            None,
        )
    );
    let read = all(&bare("v1", "Sevice"));
    assert_eq!(only_fault(&read).3, Some("did you mean \"Service\"?"));
}

#[test]
fn a_security_kind_is_a_fault_unless_it_is_allowed() {
    let text = bare("policy.linkerd.io/v1beta1", "ServerAuthorization");
    let message = "serverauthorization default/a: ServerAuthorization is known, not enforced yet: \
                   what it forbids is allowed";
    let hint = Some("pass --allow-unenforced to go on without this policy");
    let refused = all(&text);
    assert_eq!(
        only_fault(&refused),
        (Severity::Error, "M013", message.into(), hint)
    );
    let options = Options {
        allow_unenforced: true,
        ..Options::default()
    };
    let allowed = read([("test.yaml", text)], &options);
    assert_eq!(
        only_fault(&allowed),
        (Severity::Warning, "M013", message.into(), None)
    );
}

#[test]
fn other_kinds_that_are_not_enforced_are_named_warnings() {
    for (api_version, kind) in [
        ("networking.istio.io/v1beta1", "ProxyConfig"),
        ("networking.istio.io/v1alpha3", "EnvoyFilter"),
        ("extensions.istio.io/v1alpha1", "WasmPlugin"),
        ("gateway.networking.k8s.io/v1", "Gateway"),
        ("v1", "ConfigMap"),
    ] {
        let read = all(&bare(api_version, kind));
        let (severity, code, message, _) = only_fault(&read);
        assert_eq!((severity, code), (Severity::Warning, "M013"), "{kind}");
        assert!(message.contains(&format!("{kind} is known")), "{message}");
    }
}

#[test]
fn all_kubernetes_kinds_are_read() {
    let workload = |kind| bare("apps/v1", kind) + "spec: {replicas: 2}\n";
    let texts = [
        bare("v1", "Service") + "spec: {ports: [{port: 80}]}\n",
        bare("discovery.k8s.io/v1", "EndpointSlice") + "addressType: IPv4\n",
        bare("v1", "Endpoints"),
        bare("v1", "Pod"),
        workload("Deployment"),
        workload("StatefulSet"),
        workload("ReplicaSet"),
        workload("DaemonSet"),
        bare("v1", "Namespace"),
        bare("v1", "ServiceAccount"),
    ];
    let read = all(&texts.join("---\n"));
    assert!(read.faults.is_empty(), "{}", read.faults);
    assert_eq!(
        names(&read),
        [
            "service default/a",
            "endpointslice default/a",
            "endpoints default/a",
            "pod default/a",
            "deployment default/a",
            "statefulset default/a",
            "replicaset default/a",
            "daemonset default/a",
            "namespace a",
            "serviceaccount default/a",
        ]
    );
    let Kind::Workload(workload) = &read.objects[5].kind else {
        panic!("no workload");
    };
    assert_eq!(workload.controller, Controller::StatefulSet);
}

#[test]
fn the_items_of_a_list_are_objects_at_their_own_lines() {
    let text = "apiVersion: v1\nkind: List\nitems:\n\
                - apiVersion: v1\n  kind: Namespace\n  metadata: {name: a}\n\
                - apiVersion: v1\n  kind: ServiceAccountList\n  items:\n\
                \x20 - {apiVersion: v1, kind: ServiceAccount, metadata: {name: b}}\n";
    let read = all(text);
    assert!(read.faults.is_empty(), "{}", read.faults);
    assert_eq!(names(&read), ["namespace a", "serviceaccount default/b"]);
    let lines: Vec<_> = read.objects.iter().map(|object| object.line).collect();
    assert_eq!(lines, [4, 10]);
    let origin = read.objects[1].origin.to_string();
    assert_eq!(origin, "test.yaml:10 (serviceaccount default/b)");
}

#[test]
fn empty_documents_and_comments_are_nothing() {
    let read = all("# a\n---\n---\n# b\n---\nnull\n");
    assert!(read.faults.is_empty() && read.objects.is_empty());
}

#[test]
fn json_is_read_as_it_is() {
    let text =
        "{\"apiVersion\": \"v1\",\n\t\"kind\": \"Namespace\",\n\t\"metadata\": {\"name\": \"a\"}}";
    assert_eq!(names(&all(text)), ["namespace a"]);
}

#[test]
fn documents_without_a_kind_are_faults() {
    for (text, message) in [
        ("a: b", "expected an object with apiVersion and kind"),
        (
            "- a",
            "found a list, expected an object with apiVersion and kind",
        ),
        (
            "5",
            "found the number 5, expected an object with apiVersion and kind",
        ),
        (
            "{apiVersion: v1, kind: 5}",
            "expected an object with apiVersion and kind",
        ),
    ] {
        let read = all(text);
        assert_eq!(
            only_fault(&read),
            (Severity::Error, "M010", message.into(), None)
        );
    }
}

#[test]
fn metadata_is_checked() {
    for (metadata, message) in [
        (
            "{}",
            "namespace (no name) metadata.name: metadata.name is required",
        ),
        (
            "{name: A}",
            "namespace A metadata.name: \"A\" is no DNS-1123 name of at most 253",
        ),
        (
            "{name: a, labels: {b: 1}}",
            "namespace a metadata.labels.b: found the number 1, expected a string",
        ),
        (
            "{name: a, creationTimestamp: yesterday}",
            "namespace a metadata.creationTimestamp: \"yesterday\" is no time such as \
             2026-01-31T12:00:00Z",
        ),
    ] {
        let text = format!("apiVersion: v1\nkind: Namespace\nmetadata: {metadata}\n");
        let read = all(&text);
        let (severity, code, text, _) = only_fault(&read);
        assert_eq!((severity, code, &*text), (Severity::Error, "M016", message));
        assert!(read.objects.is_empty());
    }
}

#[test]
fn a_timestamp_and_a_namespace_are_kept() {
    let text = "apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: a\n  namespace: my-app\n  \
                creationTimestamp: 2026-01-31T12:00:00Z\n  uid: 5\n";
    let read = all(text);
    let meta = &read.objects[0].meta;
    assert_eq!(meta.creation.as_deref(), Some("2026-01-31T12:00:00Z"));
    assert_eq!(&*meta.namespace, "my-app");
}

#[test]
fn a_key_beside_spec_is_unknown() {
    let read = all(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
                    metadata: {name: a}\nspecs: {}\nspec: {host: a}\n",
    );
    assert_eq!(
        only_fault(&read),
        (
            Severity::Error,
            "M020",
            "destinationrule default/a specs: unknown field \"specs\"".into(),
            Some("did you mean \"spec\"?"),
        )
    );
}

#[test]
fn an_unknown_field_is_a_warning_when_lenient() {
    let text = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
                metadata: {name: a}\nspec: {host: a, subset: []}\n";
    let hint = Some("did you mean \"subsets\"?");
    let message = "destinationrule default/a subset: unknown field \"subset\"";
    let strict = all(text);
    assert_eq!(
        only_fault(&strict),
        (Severity::Error, "M020", message.into(), hint)
    );
    assert!(strict.objects.is_empty());
    let options = Options {
        strictness: Strictness::Warn,
        ..Options::default()
    };
    let lenient = read([("test.yaml", text)], &options);
    assert_eq!(
        only_fault(&lenient),
        (Severity::Warning, "M020", message.into(), hint)
    );
    assert_eq!(lenient.objects.len(), 1);
}

#[test]
fn an_object_written_twice_is_a_fault_that_names_both_places() {
    let files = [("a.yaml", bare("v1", "Pod")), ("b.yaml", bare("v1", "Pod"))];
    let rejected = read(files.clone(), &Options::default());
    assert_eq!(
        only_fault(&rejected),
        (
            Severity::Error,
            "M015",
            "pod default/a: written twice, first at a.yaml:1".into(),
            Some(
                "remove one of them, or pass --on-duplicate last to use the last one, as kubectl \
                 apply would"
            ),
        )
    );
    assert_eq!(
        rejected.faults.iter().next().map(|f| f.file()),
        Some("b.yaml")
    );
    let options = Options {
        on_duplicate: OnDuplicate::Last,
        ..Options::default()
    };
    let last = read(files, &options);
    assert_eq!(only_fault(&last).0, Severity::Warning);
    let kept: Vec<_> = last.objects.iter().map(|object| &*object.file).collect();
    assert_eq!(kept, ["b.yaml"]);
}

#[test]
fn the_same_name_of_another_kind_or_namespace_is_no_duplicate() {
    let other = bare("v1", "Pod").replace("name: a", "name: a, namespace: b");
    let texts = [bare("v1", "Pod"), bare("v1", "ServiceAccount"), other];
    let read = all(&texts.join("---\n"));
    assert!(read.faults.is_empty(), "{}", read.faults);
}

#[test]
fn a_fault_in_one_document_leaves_the_others() {
    let text = format!(
        "a: [\n---\n{}---\n{}",
        bare("v2", "Pod"),
        bare("v1", "Namespace")
    );
    let read = all(&text);
    assert!(read.faults.has_errors());
    assert_eq!(names(&read), ["namespace a"]);
}

#[test]
fn rules_do_not_repeat_what_could_not_be_decoded() {
    let read = all("apiVersion: networking.istio.io/v1\nkind: VirtualService\n\
                    metadata: {name: a}\nspec: {hosts: [5], http: [{rout: []}, {route: [5]}]}\n");
    let messages: Vec<_> = read.faults.iter().map(|fault| fault.message()).collect();
    assert_eq!(
        messages,
        [
            "virtualservice default/a hosts[0]: found the number 5, expected a string",
            "virtualservice default/a http[0].rout: unknown field \"rout\"",
            "virtualservice default/a http[1].route[0]: found the number 5, expected a mapping",
        ]
    );
}

#[test]
fn all_faults_of_all_kinds_come_at_once() {
    let text = "apiVersion: networking.istio.io/v1\nkind: VirtualService\n\
                metadata: {name: a}\n\
                spec:\n  hosts: [a, a]\n  http:\n  - route: [{destination: {host: b}}]\n    \
                timeout: soon\n    retries: {attempts: 1, retryOn: '5xxx, x'}\n    mirrored: {}\n";
    let read = all(text);
    let found: Vec<_> = read
        .faults
        .iter()
        .map(|f| (f.line(), f.code().as_str()))
        .collect();
    assert_eq!(
        found,
        [
            (5, "M030"),
            (8, "M021"),
            (9, "M030"),
            (9, "M030"),
            (10, "M020")
        ],
        "{}",
        read.faults
    );
}

#[test]
fn c27_a_field_of_a_newer_schema_in_a_policy_is_a_fault_wherever_it_stands() {
    for (kind, spec, place) in [
        (
            "AuthorizationPolicy",
            "rules: [{from: [{source: {principalClasses: [a]}}]}]",
            "rules[0].from[0].source.principalClasses",
        ),
        (
            "AuthorizationPolicy",
            "action: DENY\n  rules: [{unless: [{}]}]",
            "rules[0].unless",
        ),
        (
            "PeerAuthentication",
            "mtls: {mode: STRICT, minimum: TLSV1_4}",
            "mtls.minimum",
        ),
        (
            "RequestAuthentication",
            "jwtRules: [{issuer: 'https://me', algorithms: [ES256]}]",
            "jwtRules[0].algorithms",
        ),
    ] {
        let object = bare("security.istio.io/v1", kind);
        let read = all(&format!("{object}spec:\n  {spec}\n"));
        let faults = read.faults.to_string();
        assert!(read.faults.has_errors(), "{kind}: {faults}");
        assert!(faults.contains(place), "{kind}: {faults}");
        assert!(read.objects.is_empty(), "{kind}: nothing of it counts");
    }
}
