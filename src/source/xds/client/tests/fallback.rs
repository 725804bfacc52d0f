//! Authorities and lists of servers.

use super::*;

fn servers(uris: &[&str]) -> serde_json::Value {
    let server = |uri: &&str| json!({"server_uri": uri, "channel_creds": [{"type": "insecure"}]});
    uris.iter().map(server).collect()
}

fn bench(uris: &[&str]) -> Bench {
    let bootstrap = json!({"xds_servers": servers(uris)});
    Bench::new(&Bootstrap::from_json(&bootstrap.to_string()).unwrap())
}

fn send(bench: &mut Bench, server: usize, kind: Kind, version: &str, texts: &[&str]) {
    let resources = texts.iter().map(|text| sent(kind, text)).collect();
    bench.receive(server, response(kind, version, resources));
}

fn everything(bench: &mut Bench, server: usize, of: &str) {
    let (listener, route, cluster) = (
        format!("l|r{of}|1"),
        format!("r{of}|c{of}|1"),
        format!("c{of}|e{of}|1"),
    );
    send(bench, server, Kind::Listener, "1", &[&listener]);
    send(bench, server, Kind::RouteConfiguration, "1", &[&route]);
    send(bench, server, Kind::Cluster, "1", &[&cluster]);
    send(bench, server, Kind::Endpoints, "1", &[&format!("e{of}||1")]);
}

#[test]
fn c17_the_next_server_is_asked_when_one_cannot_be_reached_and_something_is_unknown() {
    let mut bench = bench(&["one:1", "two:2", "three:3"]);
    bench.demand(&["l"]);
    assert_eq!(bench.client.wish(1), Wish::Rest);
    bench.begin(0);
    bench.end(0, "refused");
    assert_eq!(bench.client.wish(1), Wish::Begin);
    assert!(
        matches!(bench.status("l"), Status::Pending(_)),
        "not all servers have failed"
    );
    let asked = bench.begin(1);
    assert_eq!(names(&asked[0]), ["l"]);
    assert!(asked[0].introduces);
    everything(&mut bench, 1, "two");
    assert_eq!(*bench.status("l"), Status::InForce);
    assert_eq!(bench.client.wish(2), Wish::Rest);
    assert!(
        matches!(bench.client.wish(0), Wish::Wait(_)),
        "the first is tried on"
    );
}

#[test]
fn c17_an_error_is_told_when_all_servers_have_failed() {
    let mut bench = bench(&["one:1", "two:2"]);
    bench.demand(&["l"]);
    bench.begin(0);
    bench.end(0, "refused");
    bench.begin(1);
    bench.end(1, "refused too");
    assert!(matches!(bench.status("l"), Status::Failed(_)));
    assert!(bench.why("l").contains("one:1"), "{}", bench.why("l"));
}

#[test]
fn c17_nobody_falls_back_while_everything_is_known() {
    let mut bench = bench(&["one:1", "two:2"]);
    bench.demand(&["l"]);
    bench.begin(0);
    everything(&mut bench, 0, "one");
    bench.end(0, "reset");
    bench.begin(0);
    bench.end(0, "refused");
    assert_eq!(bench.client.wish(1), Wish::Rest);
}

/// Catalogue E6: the primary goes, another takes over with other names, the primary returns.
#[test]
fn c17_e6_a_primary_that_returns_takes_over_whole_and_ends_the_fallback() {
    let mut bench = bench(&["one:1", "two:2"]);
    bench.demand(&["l"]);
    bench.begin(0);
    bench.end(0, "refused");
    bench.begin(1);
    everything(&mut bench, 1, "two");
    bench.pass(Duration::from_secs(2));
    bench.begin(0);
    assert_eq!(
        bench.client.wish(1),
        Wish::Continue,
        "until the first response"
    );
    send(&mut bench, 0, Kind::Listener, "1", &["l|rone|1"]);
    assert_eq!(bench.client.wish(1), Wish::Rest);
    bench.client.rest(1);
    assert!(
        bench.resources.clusters.contains_key("ctwo"),
        "until the other is whole"
    );
    send(
        &mut bench,
        0,
        Kind::RouteConfiguration,
        "1",
        &["rone|cone|1"],
    );
    send(&mut bench, 0, Kind::Cluster, "1", &["cone|eone|1"]);
    assert!(bench.resources.clusters.contains_key("ctwo"));
    send(&mut bench, 0, Kind::Endpoints, "1", &["eone||1"]);
    let clusters: Vec<&str> = bench
        .resources
        .clusters
        .keys()
        .map(|name| &**name)
        .collect();
    assert_eq!(clusters, ["cone"]);
}

#[test]
fn c17_a_resource_that_the_fallback_does_not_send_ends_too() {
    let mut bench = bench(&["one:1", "two:2"]);
    bench.demand(&["l"]);
    bench.begin(0);
    bench.end(0, "refused");
    bench.begin(1);
    // The first fails on and on; its tries do not put off the time of the other.
    for _ in 0..15 {
        bench.pass(Duration::from_secs(1));
        if let Wish::Wait(until) = bench.client.wish(0)
            && until <= bench.now
        {
            bench.begin(0);
            bench.end(0, "refused");
        }
    }
    assert!(
        matches!(bench.status("l"), Status::Absent(_)),
        "{}",
        bench.why("l")
    );
}

#[test]
fn c18_names_of_an_authority_are_asked_of_its_servers_and_equal_servers_are_one() {
    let bootstrap = json!({
        "xds_servers": servers(&["one:1"]),
        "authorities": {
            "a": {"xds_servers": servers(&["two:2"])},
            "b": {"xds_servers": servers(&["one:1"])},
        },
    });
    let mut bench = Bench::new(&Bootstrap::from_json(&bootstrap.to_string()).unwrap());
    assert_eq!(bench.client.servers(), 2);
    let listener = "envoy.config.listener.v3.Listener";
    let (a, b) = (
        format!("xdstp://a/{listener}/x?k=1&l=2"),
        format!("xdstp://b/{listener}/x"),
    );
    bench.demand(&[&a, &b, "plain"]);
    assert_eq!(names(&bench.begin(0)[0]), ["plain", &*b]);
    assert_eq!(names(&bench.begin(1)[0]), [&*a]);
    // A server may write the parameters in another order.
    send(
        &mut bench,
        1,
        Kind::Listener,
        "1",
        &[&format!("xdstp://a/{listener}/x?l=2&k=1|r|1")],
    );
    assert!(
        bench.why(&a).contains("route configuration \"r\""),
        "{}",
        bench.why(&a)
    );
}

#[test]
fn c18_an_authority_that_the_bootstrap_does_not_have_is_an_error_at_once() {
    let mut bench = bench(&["one:1"]);
    bench.demand(&["xdstp://nobody/envoy.config.listener.v3.Listener/x"]);
    let status = bench.statuses.values().next().unwrap();
    assert!(
        matches!(status, Status::Absent(why) if why.contains("\"nobody\"")),
        "{status:?}"
    );
}

#[test]
fn a95_an_authority_may_fall_back_for_reachability_alone() {
    let bootstrap = json!({
        "xds_servers": servers(&["one:1"]),
        "authorities": {"a": {
            "xds_servers": servers(&["two:2", "three:3"]),
            "fallback_on_reachability_only": true,
        }},
    });
    let mut bench = Bench::new(&Bootstrap::from_json(&bootstrap.to_string()).unwrap());
    let name = "xdstp://a/envoy.config.listener.v3.Listener/x";
    bench.demand(&[name]);
    bench.begin(1);
    send(
        &mut bench,
        1,
        Kind::Listener,
        "1",
        &[&format!("{name}|r|1")],
    );
    bench.requests(1);
    send(&mut bench, 1, Kind::RouteConfiguration, "1", &["r||1"]);
    bench.end(1, "reset");
    bench.begin(1);
    bench.end(1, "refused");
    assert_eq!(bench.client.wish(2), Wish::Begin);
}
