//! What secures connections, and what is asked of callers.

use meshwork::model::matcher::StringMatcher;
use meshwork::model::security::{
    Alpn, ClientTls, Files, Material, MutualTls, Security, Sni, Verification,
};

use super::*;

fn rule(policy: &str, more: &str) -> String {
    let spec = format!("  host: {CATALOG}\n  trafficPolicy: {policy}\n{more}");
    destination_rule("catalog.my-app", &spec)
}

fn security(texts: &[&str], subset: &str) -> Security {
    let name = format!("outbound|80|{subset}|{CATALOG}");
    cluster(&resources(texts), &name).security.clone()
}

fn tls(texts: &[&str], subset: &str) -> ClientTls {
    match security(texts, subset) {
        Security::Automatic(tls) | Security::Tls(tls) => ClientTls::clone(&tls),
        other => panic!("{other:?}"),
    }
}

fn exact(names: &[&str]) -> Vec<StringMatcher> {
    names
        .iter()
        .map(|name| StringMatcher::Exact((*name).into()))
        .collect()
}

fn path(text: &str) -> Option<std::sync::Arc<std::path::Path>> {
    Some(std::path::Path::new(text).into())
}

/// The catalog whose pods say that they take mutual TLS, as this account.
fn meshed_catalog() -> String {
    catalog()
        .replace("version: v", "security.istio.io/tlsMode: istio, version: v")
        .replace(
            "spec: {containers: []}",
            "spec: {serviceAccountName: catalog-sa, containers: []}",
        )
}

fn policy(name: &str, spec: &str) -> String {
    object("PeerAuthentication", name, spec).replace("networking.istio.io", "security.istio.io")
}

#[test]
fn each_mode_of_a_destination_rule_is_what_it_says() {
    let catalog = catalog();
    let disabled = security(&[&catalog, &rule("{tls: {mode: DISABLE}}", "")], "");
    assert_eq!(disabled, Security::Plaintext);

    let simple = tls(&[&catalog, &rule("{tls: {mode: SIMPLE}}", "")], "");
    assert_eq!(
        simple,
        ClientTls {
            identity: None,
            trust: Material::System,
            verification: Verification::Name,
            names: Vec::new(),
            sni: Sni::Name(CATALOG.into()),
            alpn: Alpn::Http,
        }
    );

    let files = "{tls: {mode: MUTUAL, clientCertificate: /c, privateKey: /k, caCertificates: /r, \
                 caCrl: /l, sni: a.example, subjectAltNames: [b.example]}}";
    let mutual = tls(&[&catalog, &rule(files, "")], "");
    let own = Files {
        certificate: path("/c"),
        key: path("/k"),
        ..Files::default()
    };
    let roots = Files {
        roots: path("/r"),
        revocations: path("/l"),
        ..Files::default()
    };
    assert_eq!(
        mutual,
        ClientTls {
            identity: Some(Material::Files(own)),
            trust: Material::Files(roots),
            verification: Verification::Name,
            names: exact(&["b.example"]),
            sni: Sni::Name("a.example".into()),
            alpn: Alpn::Http,
        }
    );

    let blind = rule("{tls: {mode: SIMPLE, insecureSkipVerify: true}}", "");
    assert_eq!(
        tls(&[&catalog, &blind], "").verification,
        Verification::Nothing
    );

    let istio = rule("{tls: {mode: ISTIO_MUTUAL}}", "");
    let istio = tls(&[&catalog, &istio], "");
    assert_eq!(istio.identity, Some(Material::Mesh));
    assert_eq!(
        (istio.trust, istio.verification),
        (Material::Mesh, Verification::Svid)
    );
    assert_eq!(istio.alpn, Alpn::Istio);
    assert_eq!(
        istio.sni,
        Sni::Name(format!("outbound_.80_._.{CATALOG}").into())
    );
}

#[test]
fn tls_has_the_precedence_of_every_other_block() {
    let catalog = catalog();
    let subsets = "  subsets: [{name: v1, labels: {version: v1}}, \
                   {name: v2, labels: {version: v2}, trafficPolicy: {tls: {mode: DISABLE}}}]";
    let rule = rule("{tls: {mode: ISTIO_MUTUAL}}", subsets);
    let texts = [&*catalog, &rule];
    assert!(matches!(security(&texts, ""), Security::Tls(_)));
    let v1 = tls(&texts, "v1");
    assert_eq!(
        v1.sni,
        Sni::Name(format!("outbound_.80_.v1_.{CATALOG}").into())
    );
    assert_eq!(security(&texts, "v2"), Security::Plaintext);
    // A port replaces all blocks: one that it does not have goes back to its default.
    let ports = self::rule(
        "{tls: {mode: ISTIO_MUTUAL}, portLevelSettings: [{port: {number: 80}, \
         loadBalancer: {simple: RANDOM}}]}",
        "",
    );
    assert_eq!(security(&[&catalog, &ports], ""), Security::Plaintext);
    let port = self::rule(
        "{portLevelSettings: [{port: {number: 80}, tls: {mode: SIMPLE}}]}",
        "",
    );
    assert!(matches!(security(&[&catalog, &port], ""), Security::Tls(_)));
}

#[test]
fn names_are_those_of_the_rule_else_the_accounts_of_those_who_serve() {
    let meshed = meshed_catalog();
    let istio = rule("{tls: {mode: ISTIO_MUTUAL}}", "");
    let id = "spiffe://cluster.local/ns/my-app/sa/catalog-sa";
    assert_eq!(tls(&[&meshed, &istio], "").names, exact(&[id]));
    let mesh = "mesh: {trustDomain: td, trustDomainAliases: [old.td]}";
    let both = [
        "spiffe://td/ns/my-app/sa/catalog-sa",
        "spiffe://old.td/ns/my-app/sa/catalog-sa",
    ];
    assert_eq!(tls(&[&meshed, &istio, mesh], "").names, exact(&both));
    let named = rule(
        "{tls: {mode: ISTIO_MUTUAL, subjectAltNames: [spiffe://td/a]}}",
        "",
    );
    assert_eq!(tls(&[&meshed, &named], "").names, exact(&["spiffe://td/a"]));
}

#[test]
fn mutual_tls_is_automatic_for_endpoints_that_speak_it() {
    let meshed = meshed_catalog();
    let all = resources(&[&meshed]);
    let name = format!("outbound|80||{CATALOG}");
    assert!(matches!(
        cluster(&all, &name).security,
        Security::Automatic(_)
    ));
    let members = |resources: &Resources| -> Vec<bool> {
        let localities = resources.endpoints[&*name].localities.iter();
        localities
            .flat_map(|one| &one.endpoints)
            .map(|one| one.meshed)
            .collect()
    };
    assert_eq!(members(&all), [true; 3]);

    let one = catalog().replacen(
        "version: v2",
        "security.istio.io/tlsMode: istio, version: v2",
        1,
    );
    let some = resources(&[&one]);
    assert!(matches!(
        cluster(&some, &name).security,
        Security::Automatic(_)
    ));
    assert_eq!(members(&some), [false, false, true]);

    assert_eq!(
        security(&[&catalog()], ""),
        Security::Plaintext,
        "nobody speaks it"
    );
    let off = "mesh: {enableAutoMtls: false}";
    assert_eq!(security(&[&meshed, off], ""), Security::Plaintext);
    let disable = rule("{tls: {mode: DISABLE}}", "");
    assert_eq!(security(&[&meshed, &disable], ""), Security::Plaintext);
    let port = policy(
        "catalog.my-app",
        "  selector: {matchLabels: {app: catalog}}\n  portLevelMtls: {8080: {mode: DISABLE}}",
    );
    assert_eq!(
        security(&[&meshed, &port], ""),
        Security::Plaintext,
        "its port takes plaintext"
    );
}

#[test]
fn machines_speak_it_by_their_account_unless_they_are_outside() {
    let entry = |location: &str| {
        object(
            "ServiceEntry",
            "vm.my-app",
            &format!(
                "  hosts: [vm.example]\n  location: {location}\n  resolution: STATIC\n  \
                 ports: [{{number: 80, name: http, protocol: HTTP}}]\n  \
                 endpoints: [{{address: 10.0.0.9, serviceAccount: vm-sa}}]"
            ),
        )
    };
    let of = |text: &str| {
        cluster(&resources(&[text]), "outbound|80||vm.example")
            .security
            .clone()
    };
    let Security::Automatic(inside) = of(&entry("MESH_INTERNAL")) else {
        panic!("not automatic");
    };
    assert_eq!(
        inside.names,
        exact(&["spiffe://cluster.local/ns/my-app/sa/vm-sa"])
    );
    assert_eq!(of(&entry("MESH_EXTERNAL")), Security::Plaintext);
    let named = entry("MESH_INTERNAL") + "  subjectAltNames: [spiffe://td/vm]\n";
    let Security::Automatic(named) = of(&named) else {
        panic!("not automatic");
    };
    assert_eq!(named.names, exact(&["spiffe://td/vm"]));
}

#[test]
fn what_is_asked_of_callers_is_that_of_workload_namespace_and_mesh() {
    use MutualTls::{Disable, Permissive, Strict};
    let mesh = policy("default.istio-system", "  mtls: {mode: STRICT}");
    let namespace = policy("default.my-app", "  mtls: {mode: DISABLE}");
    let unset = policy("default.my-app", "  mtls: {mode: UNSET}");
    let workload = policy(
        "order.my-app",
        "  selector: {matchLabels: {app: order}}\n  mtls: {mode: PERMISSIVE}\n  \
         portLevelMtls: {8081: {mode: STRICT}, 8082: {mode: UNSET}}",
    );
    let inherits = policy(
        "order.my-app",
        "  selector: {matchLabels: {app: order}}\n  portLevelMtls: {8081: {mode: DISABLE}}",
    );
    let other = policy(
        "pay.my-app",
        "  selector: {matchLabels: {app: pay}}\n  mtls: {mode: DISABLE}",
    );
    let elsewhere = policy("default.shop", "  mtls: {mode: DISABLE}");
    let rooted = policy(
        "order.istio-system",
        "  selector: {matchLabels: {app: order}}\n  mtls: {mode: DISABLE}",
    );
    for (row, texts, mode, port) in [
        ("nothing", vec![], Permissive, Permissive),
        ("the mesh", vec![&mesh, &other, &elsewhere], Strict, Strict),
        (
            "the namespace over the mesh",
            vec![&mesh, &namespace],
            Disable,
            Disable,
        ),
        (
            "UNSET is what the mesh says",
            vec![&mesh, &unset],
            Strict,
            Strict,
        ),
        (
            "the workload over both",
            vec![&mesh, &namespace, &workload],
            Permissive,
            Strict,
        ),
        (
            "a workload inherits",
            vec![&mesh, &inherits],
            Strict,
            Disable,
        ),
        (
            "a selector in the root counts nowhere",
            vec![&rooted],
            Permissive,
            Permissive,
        ),
    ] {
        let texts: Vec<&str> = texts.into_iter().map(String::as_str).collect();
        let peers = resources(&texts).peers;
        assert_eq!(peers.mode, mode, "{row}");
        assert_eq!(peers.on(8_081), port, "{row}");
        assert_eq!(peers.on(8_082), mode, "{row}");
    }
}

#[test]
fn a_second_policy_of_one_scope_and_one_that_counts_nowhere_are_told() {
    let first = policy("a.my-app", "  mtls: {mode: STRICT}");
    let second = policy("b.my-app", "  mtls: {mode: DISABLE}");
    let both = compiled(&[&first, &second]);
    assert_eq!(both.resources.peers.mode, MutualTls::Strict);
    assert_warns(&both, "M045 1.yaml:1", "a at 0.yaml:1 is older");
    let rooted = policy(
        "order.istio-system",
        "  selector: {matchLabels: {app: order}}\n  mtls: {mode: DISABLE}",
    );
    assert_warns(
        &compiled(&[&rooted]),
        "M023 0.yaml:1",
        "counts for no workload",
    );
    let selected = |name: &str| policy(name, "  selector: {matchLabels: {app: order}}");
    let twice = compiled(&[&selected("a.my-app"), &selected("b.my-app")]);
    assert_warns(
        &twice,
        "M045 1.yaml:1",
        "is older and for the same workloads",
    );
}

#[test]
fn a_credential_is_what_the_program_has_under_its_name() {
    let catalog = catalog();
    let named = || Material::Named("partner".into());
    let of = |block: &str| {
        let rule = rule(
            &format!("{{tls: {{credentialName: partner, {block}}}}}"),
            "",
        );
        let tls = tls(&[&catalog, &rule], "");
        (tls.identity, tls.trust, tls.verification)
    };
    assert_eq!(
        of("mode: MUTUAL"),
        (Some(named()), named(), Verification::Name)
    );
    assert_eq!(of("mode: SIMPLE"), (None, named(), Verification::Name));
    let roots = Files {
        roots: path("/r"),
        ..Files::default()
    };
    assert_eq!(
        of("mode: MUTUAL, caCertificates: /r"),
        (Some(named()), Material::Files(roots), Verification::Name)
    );
}
