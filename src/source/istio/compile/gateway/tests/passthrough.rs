//! Servers that do not look into connections.

use super::*;

#[test]
fn connections_that_pass_through_go_where_tls_rules_say() {
    let pass = "  - {port: {number: 443, name: pass, protocol: TLS}, hosts: ['*.test'], tls: {mode: PASSTHROUGH}}\n";
    let tls = |name: &str, sni: &str, to: &str| {
        rules(
            name,
            sni,
            &format!("  tls: [{{match: [{{sniHosts: [{sni}], port: 443}}], route: [{to}]}}]\n"),
        )
        .replace("[edge/edge, mesh]", "[edge/edge]")
    };
    let order = "{destination: {host: order, port: {number: 443}}}";
    let edge = of(&[
        &gateway("edge", &format!("{pass}{}", https("ends", "ends.test"))),
        &tls("order", "order.test", order),
        &tls(
            "split",
            "split.test",
            &format!(
                "{}, {}",
                order.replace("}}}", "}}, weight: 90}"),
                "{destination: {host: catalog}, weight: 10}"
            ),
        ),
        &tls("again", "order.test", order),
        &tls("ends", "ends.test", order),
        &tls("other", "other.example", order),
        &tls("nobody", "nobody.test", "{destination: {host: nobody}}"),
    ]);
    let chains = edge.listeners.values().next().expect("a listener");
    let clusters: BTreeSet<(String, Vec<String>)> = chains
        .iter()
        .filter_map(|chain| match &chain.leads {
            Leads::Clusters(to) => Some((chain.names[0].to_string(), {
                let all = to.all().iter();
                all.map(|one| one.cluster.to_string()).collect()
            })),
            Leads::Routes(_) => None,
        })
        .collect();
    let cluster = |port: u16, name: &str| format!("outbound|{port}||{name}.shop.svc.cluster.local");
    let wanted = [
        ("nobody.test", vec![cluster(443, "nobody")]),
        ("order.test", vec![cluster(443, "order")]),
        (
            "split.test",
            vec![cluster(443, "order"), cluster(80, "catalog")],
        ),
    ];
    let wanted = wanted.map(|(name, clusters)| (name.to_owned(), clusters));
    assert_eq!(clusters, wanted.into());
    let codes: Vec<Code> = told(&edge).into_iter().map(|(code, _)| code).collect();
    assert_eq!(
        codes,
        [Code::Conflict, Code::Conflict, Code::NotFound],
        "{}",
        edge.faults
    );
}

#[test]
fn blocks_of_tls_rules_for_others_are_left_out_and_networks_are_told_of() {
    let pass = "  - {port: {number: 443, name: pass, protocol: TLS}, hosts: ['*'], tls: {mode: PASSTHROUGH}}\n";
    let of_block = |more: &str| {
        let block = format!("{{sniHosts: [a.test], {more}}}");
        let to = "{destination: {host: catalog}}";
        let tls = format!("  tls: [{{match: [{block}], route: [{to}]}}]\n");
        of(&[&gateway("edge", pass), &rules("a", "a.test", &tls)])
    };
    for own in [
        "port: 443",
        "gateways: [edge/edge]",
        "sourceLabels: {istio: edge}",
        "sourceNamespace: edge",
    ] {
        assert_eq!(of_block(own).listeners.len(), 1, "{own}");
    }
    for other in [
        "port: 444",
        "gateways: [mesh]",
        "sourceLabels: {istio: other}",
        "sourceNamespace: other",
    ] {
        assert!(of_block(other).listeners.is_empty(), "{other}");
    }
    let networks = of_block("destinationSubnets: [10.0.0.0/8]");
    assert_eq!(networks.listeners.len(), 1);
    assert_eq!(told(&networks)[0].0, Code::NoEffect);
}

#[test]
fn a_server_that_nothing_passes_through_has_no_listener() {
    let pass = "  - {port: {number: 443, name: pass, protocol: TLS}, hosts: ['*'], tls: {mode: PASSTHROUGH}}\n";
    assert!(of(&[&gateway("edge", pass)]).listeners.is_empty());
    let other = "  - {port: {number: 3306, name: db, protocol: MYSQL}, hosts: ['*']}\n";
    assert!(of(&[&gateway("edge", other)]).listeners.is_empty());
}

#[test]
fn every_name_stays_every_name_beside_others() {
    let pass = "  - {port: {number: 443, name: pass, protocol: TLS}, hosts: ['*'], tls: {mode: PASSTHROUGH}}\n";
    let to = "{destination: {host: order, port: {number: 443}}}";
    let tls = format!("  tls: [{{match: [{{sniHosts: ['*', a.test]}}], route: [{to}]}}]\n");
    let all = rules("all", "'*'", &tls).replace("edge/edge, mesh", "edge/edge");
    let edge = of(&[&gateway("edge", pass), &all]);
    let chains = edge.listeners.values().next().expect("a listener");
    let names = chains.iter().map(|chain| &*chain.names);
    let names: Vec<&[Arc<str>]> = names.collect();
    assert_eq!(names, [&["a.test".into()][..], &[]], "{}", edge.faults);
}
