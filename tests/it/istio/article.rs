//! The YAML that the project follows: the two example folders, and everything at once as pasted.

use meshwork::source::istio::kinds::{Kind, Object};
use meshwork::source::istio::{OnDuplicate, Options, Read, read, read_dir};

const ALL: &str = include_str!("../article/all.yaml");

fn example(name: &str) -> Read {
    let folder = format!("{}/examples/article/{name}", env!("CARGO_MANIFEST_DIR"));
    let read = read_dir(folder, &Options::default());
    assert!(read.faults.is_empty(), "{}", read.faults);
    read
}

fn kinds(read: &Read) -> Vec<&str> {
    read.objects
        .iter()
        .map(|object| object.kind.name())
        .collect()
}

#[test]
fn the_canary_example_has_no_faults() {
    let read = example("canary");
    let catalog = [
        "Service",
        "EndpointSlice",
        "EndpointSlice",
        "EndpointSlice",
        "Pod",
        "Pod",
        "Pod",
    ];
    let routing = ["VirtualService", "DestinationRule"];
    assert_eq!(kinds(&read), [&catalog[..], &routing[..]].concat());
    let Kind::VirtualService(service) = &read.objects[7].kind else {
        panic!("no VirtualService");
    };
    let weights: Vec<_> = service.http[1].route.iter().map(|to| to.weight).collect();
    assert_eq!(weights, [90, 10]);
    let header = &service.http[0].matches[0].headers["x-canary"];
    assert_eq!(header.exact.as_deref(), Some("true"));
    let Kind::DestinationRule(rule) = &read.objects[8].kind else {
        panic!("no DestinationRule");
    };
    let policy = rule.traffic_policy.as_ref().expect("a policy");
    let outlier = policy
        .outlier_detection
        .as_ref()
        .expect("outlier detection");
    assert_eq!(outlier.consecutive_5xx_errors, Some(3));
}

#[test]
fn the_resilience_example_has_no_faults() {
    let read = example("resilience");
    let Kind::VirtualService(service) = &read.objects[7].kind else {
        panic!("no VirtualService");
    };
    let route = &service.http[0];
    let retries = route.retries.as_ref().expect("retries");
    assert_eq!(retries.attempts, 3);
    let on = retries.retry_on.as_ref().map(|on| on.as_str());
    assert_eq!(on, Some("connect-failure,reset,5xx"));
    let timeout = route.timeout.map(std::time::Duration::from);
    assert_eq!(timeout, Some(std::time::Duration::from_secs(5)));
}

/// `line code message` of each fault.
fn faults(read: &Read) -> Vec<String> {
    let line = |f: &meshwork::source::istio::Fault| {
        format!("{} {} {}", f.line(), f.severity(), f.message())
    };
    read.faults.iter().map(line).collect()
}

#[test]
fn the_article_as_pasted_has_both_traps() {
    let read = read([("article.yaml", ALL)], &Options::default());
    assert_eq!(
        faults(&read),
        [
            "41 error a second object begins here: apiVersion stands twice in this document"
                .to_owned(),
            "126 error virtualservice my-app/catalog: written twice, first at article.yaml:15"
                .to_owned(),
            "220 error peerauthentication my-app/default: written twice, first at article.yaml:67"
                .to_owned(),
        ]
    );
    let hint = read.faults.iter().next().and_then(|fault| fault.hint());
    assert_eq!(hint, Some("add a line with --- before line 41"));
}

#[test]
fn the_article_with_its_traps_removed_and_permission_is_read() {
    let rule = "      weight: 10\napiVersion";
    assert!(ALL.contains(rule));
    let text = ALL.replace(rule, "      weight: 10\n---\napiVersion");
    let options = Options {
        allow_unenforced: true,
        on_duplicate: OnDuplicate::Last,
        ..Options::default()
    };
    let read = read([("article.yaml", text)], &options);
    assert!(!read.faults.has_errors(), "{}", read.faults);
    assert_eq!(read.faults.len(), 2, "{}", read.faults);
    let objects = [
        "Pod",
        "DestinationRule",
        "PeerAuthentication",
        "AuthorizationPolicy",
        "Telemetry",
        "Telemetry",
        "VirtualService",
    ];
    assert_eq!(kinds(&read)[..7], objects);
    let catalog = |object: &&Object| {
        object.kind.name() == "VirtualService" && &*object.meta.name == "catalog"
    };
    let remaining: Vec<_> = read.objects.iter().filter(catalog).collect();
    let [
        Object {
            line,
            kind: Kind::VirtualService(last),
            ..
        },
    ] = remaining[..]
    else {
        panic!("expected one VirtualService, found {remaining:?}");
    };
    assert_eq!(*line, 127);
    assert!(last.http[0].retries.is_some(), "the second one is used");
}

#[test]
fn an_unquoted_true_is_refused_with_the_hint_to_quote_it() {
    let text = ALL.replace("exact: \"true\"", "exact: true");
    let read = read([("article.yaml", text)], &Options::default());
    let fault = read.faults.iter().next().expect("a fault in that line");
    assert_eq!(
        fault.to_string(),
        "article.yaml:27:18: error[M021]: virtualservice my-app/catalog \
         http[0].match[0].headers.x-canary.exact: found the boolean true, expected a string\n\
         \x20 26 |         x-canary:\n\
         \x20 27 |           exact: true\n\
         \x20    |                  ^\n\
         \x20 28 |     route:\n\
         \x20 hint: quote it to make it a string: \"true\""
    );
}
