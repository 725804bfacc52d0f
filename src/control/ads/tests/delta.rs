use super::*;

fn version(world: &World, kind: &str, name: &str) -> String {
    let resource = world.snapshot.get(kind_of(kind), name).expect("it exists");
    resource.version().to_string()
}

#[test]
fn d1_d2_nothing_named_is_a_wildcard_answered_even_when_empty() {
    let mut world = World::delta("");
    world.sub("L", &[], &[]);
    world.takes("L");
    world.gets_nothing();
    let mut world = World::delta("C a=1; C b=1");
    world.sub("C", &[], &[]);
    let response = world.gets("C a=1 b=1");
    assert_eq!(response.names(), ["a", "b"]);
    world.ack(&response);
    world.gets_nothing();
}

#[test]
fn d3_only_what_changed_is_sent() {
    let mut world = World::delta("C a=1; C b=1");
    world.sub("C", &[], &[]);
    world.settles();
    world.set("C a=1; C b=2; C c=1");
    world.takes("C b=2 c=1");
}

#[test]
fn d4_a_deletion_is_told_once_for_every_kind() {
    for kind in ["C", "E", "L", "R"] {
        let mut world = World::delta(&format!("{kind} a=1; {kind} b=1"));
        world.sub(kind, &["a", "b"], &[]);
        world.settles();
        world.set(&format!("{kind} b=1"));
        world.takes(&format!("{kind} !a"));
        world.gets_nothing();
        world.set(&format!("{kind} a=1; {kind} b=1"));
        world.takes(&format!("{kind} a=1"));
    }
}

#[test]
fn d5_a_missing_name_is_removed_at_once_and_created_later() {
    let mut world = World::delta("");
    world.sub("E", &["a"], &[]);
    world.takes("E !a");
    world.gets_nothing();
    world.set("E a=1");
    world.takes("E a=1");
}

#[test]
fn d6_a_name_asked_for_again_is_sent_again() {
    let mut world = World::delta("E a=1");
    world.sub("E", &["a"], &[]);
    world.takes("E a=1");
    world.sub("E", &["a"], &[]);
    world.takes("E a=1");
    world.sub("E", &["x"], &[]);
    world.takes("E !x");
    world.sub("E", &["x"], &[]);
    world.takes("E !x");
}

#[test]
fn d7_unsubscribing_ends_updates_and_phantoms_are_ignored() {
    let mut world = World::delta("E a=1; E b=1");
    world.sub("E", &["a", "b"], &[]);
    world.settles();
    world.sub("E", &[], &["a", "phantom"]);
    world.gets_nothing();
    world.set("E a=2; E b=2");
    world.takes("E b=2");
}

#[test]
fn d8_unsubscribing_a_name_under_a_wildcard_is_answered() {
    let mut world = World::delta("C a=1");
    world.sub("C", &["*", "a", "x"], &[]);
    world.takes("C a=1 !x");
    world.sub("C", &[], &["a"]);
    world.takes("C a=1");
    world.sub("C", &[], &["x"]);
    world.takes("C !x");
    world.gets_nothing();
}

#[test]
fn d9_unsubscribing_the_wildcard_leaves_names() {
    let mut world = World::delta("C a=1; C b=1");
    world.sub("C", &["*", "a"], &[]);
    world.settles();
    world.sub("C", &[], &["*"]);
    world.gets_nothing();
    world.set("C a=2; C b=2");
    world.takes("C a=2");
}

#[test]
fn d10_what_a_client_brings_is_not_sent_again() {
    let mut world = World::delta("C a=1; C b=2");
    // A stream of clusters alone.
    world.stream.client.aggregated = false;
    let (a, old) = (version(&world, "C", "a"), "0123456789abcdef");
    let initial = [("a", &*a), ("b", old), ("gone", old)];
    world.raw_delta("C", &[], &[], &initial, "", None);
    world.takes("C b=2 !gone");
    world.gets_nothing();
    world.set("C a=3; C b=2");
    world.takes("C a=3");
}

#[test]
fn d10_only_the_first_message_brings_anything() {
    let mut world = World::delta("E a=1; E b=1");
    world.sub("E", &["b"], &[]);
    world.takes("E b=1");
    let a = version(&world, "E", "a");
    world.raw_delta("E", &["a"], &[], &[("a", &a)], "", None);
    world.takes("E a=1");
}

#[test]
fn d10_everything_unchanged_is_still_an_answer_for_a_wildcard() {
    let mut world = World::delta("C a=1");
    let a = version(&world, "C", "a");
    world.raw_delta("C", &[], &[], &[("a", &a)], "", None);
    world.takes("C");
    world.gets_nothing();
}

#[test]
fn d11_versions_are_equal_on_another_server() {
    let (one, other) = (World::delta("C a=1; C b=1"), World::delta("C b=1; C a=1"));
    assert_eq!(version(&one, "C", "a"), version(&other, "C", "a"));
    assert_ne!(version(&one, "C", "a"), version(&one, "C", "b"));
}

#[test]
fn d12_d13_d14_refusals_and_stale_nonces_still_subscribe() {
    let mut world = World::delta("E a=1; E b=1; E c=1; E d=1");
    world.sub("E", &["a"], &[]);
    let first = world.gets("E a=1");
    let nonce = first.nonce.to_string();
    let outcome = world.raw_delta("E", &["b"], &[], &[], &nonce, Some("no"));
    assert!(matches!(outcome, Outcome::Refused { .. }));
    world.takes("E b=1");
    let outcome = world.raw_delta("E", &["c"], &[], &[], &nonce, None);
    assert_eq!(outcome, Outcome::Stale);
    let third = world.gets("E c=1");
    let nonce = third.nonce.to_string();
    let outcome = world.raw_delta("E", &["d"], &["a"], &[], &nonce, None);
    assert_eq!(outcome, Outcome::Acknowledged);
    world.takes("E d=1");
    world.set("E a=2; E b=1; E c=1; E d=1");
    world.gets_nothing();
}

#[test]
fn d12_a_refused_resource_is_not_sent_again_before_it_changes() {
    let mut world = World::delta("C a=1");
    world.sub("C", &[], &[]);
    let first = world.gets("C a=1");
    world.nack(&first);
    world.gets_nothing();
    world.set("C a=2");
    world.takes("C a=2");
}

#[test]
fn d15_one_change_of_everything_goes_out_in_order() {
    let mut world = World::delta("C a=1 >a; E a=1; L l=1 >:r; R r=1 >a");
    for (kind, name) in [("R", "r"), ("L", "l"), ("E", "a"), ("C", "a")] {
        world.sub(kind, &[name], &[]);
    }
    assert_eq!(world.settles(), ["C a=1", "E a=1", "L l=1", "R r=1"]);
    world.set("C a=2 >a; E a=2; L l=2 >:r; R r=2 >a");
    assert_eq!(world.settles(), ["C a=2", "E a=2", "L l=2", "R r=2"]);
}

#[test]
fn d17_two_streams_are_independent() {
    let mut one = World::delta("C a=1");
    let mut other = World::of(Variant::Delta, one.snapshot.clone());
    one.sub("C", &[], &[]);
    other.sub("C", &[], &[]);
    let refused = one.gets("C a=1");
    one.nack(&refused);
    other.takes("C a=1");
}

#[test]
fn d19_clusters_on_demand_are_answered_at_once() {
    let mut world = World::delta("C a=1 >a; E a=1");
    world.sub("C", &["a"], &[]);
    world.takes("C a=1");
    world.sub("C", &["unknown"], &[]);
    world.takes("C !unknown");
}

#[test]
fn d20_virtual_hosts_are_found_by_alias_told_as_unknown_and_sent_again_with_their_routes() {
    let mut parts = Parts::new(Kind::VirtualHost, "r/a".into(), b"1");
    parts.aliases = vec!["r/b".into()];
    let host = parts.finish();
    let route = |body: &str| resource(&format!("R r={body}"));
    let snapshot = Snapshot::new([host.clone(), route("1")]);
    let mut world = World::of(Variant::Delta, Arc::new(snapshot));
    world.sub("R", &["r"], &[]);
    world.takes("R r=1");
    world.sub("V", &["r/b", "r/none"], &[]);
    world.takes("V r/a=1 _r/none");
    world.gets_nothing();
    world.snapshot = Arc::new(world.snapshot.next([host, route("2")]));
    world.stream.update(world.snapshot.clone(), world.now);
    assert_eq!(world.settles(), ["R r=2", "V r/a=1"]);
}

#[test]
fn d21_a_collection_is_its_directory_in_equal_context() {
    let cluster = |path: &str| {
        let name = format!("xdstp://auth/envoy.config.cluster.v3.Cluster/{path}");
        Encoded::new(Kind::Cluster, name, b"1")
    };
    let all = || {
        [
            "foo/a?x=1&y=2",
            "foo/b",
            "foo/deep/c?x=1&y=2",
            "bar/d?x=1&y=2",
        ]
        .map(cluster)
    };
    let mut world = World::of(Variant::Delta, Arc::new(Snapshot::new(all())));
    let collection = "xdstp://auth/envoy.config.cluster.v3.Cluster/foo/*?y=2&x=1";
    world.sub("C", &[collection], &[]);
    world.takes("C xdstp://auth/envoy.config.cluster.v3.Cluster/foo/a?x=1&y=2=1");
    world.gets_nothing();
    let more = all().into_iter().chain([cluster("foo/e?x=1&y=2")]);
    world.snapshot = Arc::new(world.snapshot.next(more));
    world.stream.update(world.snapshot.clone(), world.now);
    world.takes("C xdstp://auth/envoy.config.cluster.v3.Cluster/foo/e?x=1&y=2=1");
    world.sub("C", &[], &[collection]);
    world.gets_nothing();
    assert!(world.has("C").is_empty());
}

#[test]
fn d22_the_old_wildcard_needs_both_lists_empty() {
    let mut world = World::delta("C a=1; C b=1");
    world.sub("C", &["*"], &["*"]);
    world.gets_nothing();
    world.sub("C", &[], &[]);
    world.gets_nothing();
    world.sub("C", &["a"], &[]);
    world.takes("C a=1");
    let mut world = World::delta("C a=1; C b=1");
    world.sub("C", &[], &["a"]);
    world.gets_nothing();
}

#[test]
fn d22_names_beside_the_old_wildcard_leave_it() {
    let mut world = World::delta("C a=1; C b=1");
    world.sub("C", &[], &[]);
    world.settles();
    world.sub("C", &["a"], &[]);
    world.takes("C a=1");
    world.set("C a=1; C b=2");
    world.takes("C b=2");
}

#[test]
fn d24_a_time_to_live_is_renewed_at_half_time_until_it_is_taken_back() {
    let lasting = |ttl: Option<u64>| {
        let mut parts = Parts::new(Kind::Endpoints, "a".into(), b"1");
        parts.ttl = ttl.map(Duration::from_secs);
        parts.finish()
    };
    let mut world = World::of(Variant::Delta, Arc::new(Snapshot::new([lasting(Some(10))])));
    world.sub("E", &["a"], &[]);
    world.takes("E a=1");
    world.gets_nothing();
    assert_eq!(
        world.stream.wake(),
        Some(world.now + Duration::from_secs(5))
    );
    for _ in 0..3 {
        world.pass(Duration::from_secs(5));
        world.takes("E ~a");
        world.gets_nothing();
    }
    world.snapshot = Arc::new(world.snapshot.next([lasting(None)]));
    world.stream.update(world.snapshot.clone(), world.now);
    world.takes("E a=1");
    world.pass(Duration::from_secs(60));
    world.gets_nothing();
    assert_eq!(world.stream.wake(), None);
}
