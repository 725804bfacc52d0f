//! Policies about requests that arrive, as one workload has them.

use meshwork::Workload;
use meshwork::model::Inbound;
use meshwork::model::authorization::{Action, Condition, Enforcement, PeerPattern};
use meshwork::model::inbound::Normalization;
use meshwork::model::matcher::StringMatcher;
use meshwork::model::token::{Keys, Location};
use meshwork::source::istio::Options;

use super::{assert_warns, compiled, compiled_as, order};

/// A policy `name.namespace`, with what else stands in its metadata.
fn object(kind: &str, name: &str, metadata: &str, spec: &str) -> String {
    let (name, namespace) = name.split_once('.').unwrap();
    format!(
        "apiVersion: security.istio.io/v1\nkind: {kind}\n\
         metadata: {{name: {name}, namespace: {namespace}{metadata}}}\nspec: {{{spec}}}\n"
    )
}

fn policy(name: &str, spec: &str) -> String {
    object("AuthorizationPolicy", name, "", spec)
}

fn inbound(texts: &[&str]) -> Inbound {
    (*compiled(texts).resources.inbound).clone()
}

/// Names of all policies of each stage.
fn stages(inbound: &Inbound) -> Vec<(Action, Enforcement, Vec<String>)> {
    let stages = inbound.authorization.stages.iter();
    stages
        .map(|stage| {
            let names = stage.policies.iter().map(|policy| policy.name.to_string());
            (stage.action, stage.enforcement, names.collect())
        })
        .collect()
}

#[test]
fn policies_of_the_namespace_and_the_root_count_where_they_select_the_workload() {
    let named =
        |name: &str, more: &str| policy(name, &format!("action: AUDIT, {more} rules: [{{}}]"));
    let (mine, other) = (
        "selector: {matchLabels: {app: order}},",
        "selector: {matchLabels: {app: x}},",
    );
    let texts = [
        named("whole.my-app", ""),
        named("empty.my-app", "selector: {},"),
        named("mine.my-app", mine),
        named("not-mine.my-app", other),
        named("else.other", ""),
        named("root.istio-system", ""),
        named("root-mine.istio-system", mine),
        named("root-not-mine.istio-system", other),
        named("attached.my-app", "targetRef: {kind: Service, name: a},"),
    ];
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let [(_, _, names)] = &stages(&inbound(&texts))[..] else {
        panic!("one stage")
    };
    let expected = [
        "whole.my-app",
        "empty.my-app",
        "mine.my-app",
        "root.istio-system",
        "root-mine.istio-system",
    ];
    let expected = expected.map(|name| {
        let (name, namespace) = name.split_once('.').unwrap();
        format!("ns[{namespace}]-policy[{name}]-rule[0]")
    });
    assert_eq!(names[..], expected);
}

#[test]
fn stages_are_audit_deny_and_allow_and_dry_runs_beside_them() {
    let dry = ", annotations: {istio.io/dry-run: \"true\"}";
    let texts = [
        policy("allow.my-app", "rules: [{}, {}]"),
        policy("deny.my-app", "action: DENY, rules: [{}]"),
        policy("audit.my-app", "action: AUDIT, rules: [{}]"),
        object(
            "AuthorizationPolicy",
            "dry-allow.my-app",
            dry,
            "rules: [{}]",
        ),
        object(
            "AuthorizationPolicy",
            "dry-deny.my-app",
            dry,
            "action: DENY, rules: [{}]",
        ),
    ];
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let found = stages(&inbound(&texts));
    let kinds: Vec<_> = found
        .iter()
        .map(|(action, how, names)| (*action, *how, names.len()))
        .collect();
    use Enforcement::{DryRun, Enforced};
    assert_eq!(
        kinds,
        [
            (Action::Audit, Enforced, 1),
            (Action::Deny, Enforced, 1),
            (Action::Deny, DryRun, 1),
            (Action::Allow, Enforced, 2),
            (Action::Allow, DryRun, 1),
        ]
    );
}

#[test]
fn c21_no_policy_is_no_stage_and_an_allow_without_rules_is_one_without_policies() {
    assert_eq!(inbound(&[]), Inbound::default());
    let nothing = policy("allow-nothing.my-app", "");
    assert_eq!(
        stages(&inbound(&[&nothing])),
        [(Action::Allow, Enforcement::Enforced, Vec::new())]
    );
}

#[test]
fn c19_a_trust_domain_of_the_mesh_stands_for_all_of_them() {
    let mesh = "mesh: {trustDomain: td, trustDomainAliases: [old]}";
    let principals = |principal: &str| -> Vec<StringMatcher> {
        let spec = format!("rules: [{{from: [{{source: {{principals: ['{principal}']}}}}]}}]");
        let text = policy("p.my-app", &spec);
        let inbound = inbound(&[mesh, &text]);
        let mut found = Vec::new();
        names(
            &inbound.authorization.stages[0].policies[0].condition,
            &mut found,
        );
        found
    };
    let exact = |text: &str| StringMatcher::Exact(text.into());
    let both = [
        exact("spiffe://td/ns/a/sa/b"),
        exact("spiffe://old/ns/a/sa/b"),
    ];
    for domain in ["td", "old", "cluster.local"] {
        assert_eq!(principals(&format!("{domain}/ns/a/sa/b")), both, "{domain}");
    }
    assert_eq!(
        principals("other/ns/a/sa/b"),
        [exact("spiffe://other/ns/a/sa/b")]
    );
    let prefix = |text: &str| StringMatcher::Prefix(text.into());
    assert_eq!(
        principals("td/ns/a/*"),
        [prefix("spiffe://td/ns/a/"), prefix("spiffe://old/ns/a/")]
    );
    assert_eq!(principals("*"), [prefix("")]);
    assert_eq!(
        principals("*/sa/b"),
        [StringMatcher::Suffix("/sa/b".into())]
    );
}

fn names(condition: &Condition, found: &mut Vec<StringMatcher>) {
    match condition {
        Condition::All(all) | Condition::Any(all) => all.iter().for_each(|one| names(one, found)),
        Condition::Peer(PeerPattern::Name(name)) => found.push(name.clone()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_account_without_namespace_is_of_the_policys_own() {
    let text = policy(
        "p.istio-system",
        "rules: [{from: [{source: {serviceAccounts: [a, b/c]}}]}]",
    );
    let inbound = inbound(&[&text]);
    let account = |namespace: &str, account: &str| {
        Condition::Peer(PeerPattern::ServiceAccount {
            namespace: namespace.into(),
            account: account.into(),
        })
    };
    let source = Condition::All(vec![Condition::Any(vec![
        account("istio-system", "a"),
        account("b", "c"),
    ])]);
    let expected = Condition::All(vec![Condition::Any(vec![source])]);
    assert_eq!(
        inbound.authorization.stages[0].policies[0].condition,
        expected
    );
}

#[test]
fn an_unknown_authorizer_denies_everything_and_is_a_warning() {
    let text = policy(
        "ask.my-app",
        "action: CUSTOM, provider: {name: nobody}, rules: [{}]",
    );
    let compiled = compiled(&[&text]);
    assert_warns(
        &compiled,
        "IST0101",
        "provider \"nobody\" is no ext_authz provider of the mesh configuration",
    );
    let found = stages(&compiled.resources.inbound);
    let name = "default-deny-all-due-to-bad-CUSTOM-action".to_owned();
    assert_eq!(found, [(Action::Deny, Enforcement::Enforced, vec![name])]);
    let known = "mesh: {extensionProviders: [{name: ask, envoyExtAuthzGrpc: {service: ext/authz.ext, port: 9000}}]}";
    let text = policy(
        "ask.my-app",
        "action: CUSTOM, provider: {name: ask}, rules: [{}]",
    );
    let inbound = inbound(&[known, &text]);
    assert_eq!(&*inbound.authorization.external[0].provider, "ask");
    let authorizer = &inbound.authorizers["ask"];
    assert_eq!(&*authorizer.cluster, "outbound|9000||authz.ext");
    assert_eq!(&*authorizer.authority, "authz.ext:9000");
}

#[test]
fn the_mesh_says_how_paths_are_read() {
    for (said, expected) in [
        ("DEFAULT", Normalization::Reject),
        ("NONE", Normalization::None),
        ("BASE", Normalization::Base),
        ("MERGE_SLASHES", Normalization::MergeSlashes),
        (
            "DECODE_AND_MERGE_SLASHES",
            Normalization::DecodeAndMergeSlashes,
        ),
    ] {
        let mesh = format!("mesh: {{pathNormalization: {{normalization: {said}}}}}");
        assert_eq!(inbound(&[&mesh]).normalization, expected, "{said}");
    }
    assert_eq!(inbound(&[]).normalization, Normalization::Reject);
}

#[test]
fn token_rules_have_places_keys_and_headers() {
    let keys = r#"jwks: '{"keys": [{"kty": "EC", "crv": "P-256", "x": "", "y": ""}]}'"#;
    let text = object(
        "RequestAuthentication",
        "tokens.my-app",
        "",
        &format!(
            "jwtRules: [{{issuer: b, {keys}}}, {{issuer: a, {keys}, fromCookies: [c], \
             outputClaimToHeaders: [{{header: X-A, claim: a.b}}], forwardOriginalToken: true, \
             spaceDelimitedClaims: [roles]}}]"
        ),
    );
    let elsewhere = text.replace("my-app", "other");
    let found = inbound(&[&text, &elsewhere]).tokens;
    let [a, b] = &found[..] else {
        panic!("{found:?}")
    };
    assert_eq!(
        (a.issuer.as_deref(), b.issuer.as_deref()),
        (Some("a"), Some("b"))
    );
    assert!(matches!(a.keys, Keys::Inline(_)) && a.forward && !b.forward);
    assert_eq!(a.locations, [Location::Cookie("c".into())]);
    assert_eq!(b.locations.len(), 2, "{:?}", b.locations);
    assert_eq!(a.claim_headers[0].0, "x-a");
    assert_eq!(a.claim_headers[0].1, ["a".into(), "b".into()]);
    assert_eq!(
        a.spaced,
        ["roles".into(), "scope".into(), "permission".into()]
    );
}

#[test]
fn the_order_of_files_does_not_change_who_may_do_what() {
    let texts = [
        policy("a.my-app", "rules: [{to: [{operation: {methods: [GET]}}]}]"),
        policy(
            "b.my-app",
            "action: DENY, rules: [{to: [{operation: {paths: ['/x/{*}']}}]}]",
        ),
    ];
    let client: Workload = order();
    let of = |texts: &[&str]| {
        compiled_as(&client, &Options::default(), texts)
            .resources
            .inbound
    };
    assert_eq!(of(&[&texts[0], &texts[1]]), of(&[&texts[1], &texts[0]]));
}

fn linkerd(kind: &str, version: &str, name: &str, spec: &str) -> String {
    object(kind, name, "", spec).replace(
        "security.istio.io/v1",
        &format!("policy.linkerd.io/{version}"),
    )
}

#[test]
fn limits_of_linkerd_are_those_of_the_port_and_the_workloads_of_their_server() {
    use meshwork::model::rate::Bucket;
    let server = |name: &str, labels: &str| {
        let spec = format!(
            "podSelector: {{matchLabels: {labels}}}, port: 8080, accessPolicy: all-unauthenticated"
        );
        linkerd("Server", "v1beta3", name, &spec)
    };
    let policy = |name: &str, of: &str| {
        let spec = format!(
            "targetRef: {{group: policy.linkerd.io, kind: Server, name: {of}}}, \
             total: {{requestsPerSecond: 100}}, identity: {{requestsPerSecond: 20}}, \
             overrides: [{{requestsPerSecond: 25, clientRefs: [{{kind: ServiceAccount, name: web}}]}}]"
        );
        linkerd("HTTPLocalRateLimitPolicy", "v1alpha1", name, &spec)
    };
    let texts = [
        server("mine.my-app", "{app: order}"),
        server("other.my-app", "{app: x}"),
        server("mine.else", "{app: order}"),
        policy("a.my-app", "mine"),
        policy("b.my-app", "other"),
        policy("c.else", "mine"),
    ];
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let found = inbound(&texts);
    let [limit] = &found.limits[..] else {
        panic!("{:?}", found.limits);
    };
    let bucket = |rate| Bucket::new(rate, rate, std::time::Duration::from_secs(1)).ok();
    assert_eq!(&*limit.scope, "my-app/a");
    assert_eq!(limit.port, Some(8080));
    assert_eq!((limit.total, limit.per_caller), (bucket(100), bucket(20)));
    assert_eq!(Some(limit.callers[0].bucket), bucket(25));
    let web: Box<str> = "spiffe://cluster.local/ns/my-app/sa/web".into();
    assert_eq!(limit.callers[0].identities, [web]);
    assert_warns(
        &compiled(&[&policy("a.my-app", "nobody")]),
        "IST0101",
        "Server \"nobody\" is not among the objects: the policy limits nothing",
    );
}
