use super::*;

#[test]
fn s1_a_request_without_names_is_a_wildcard_and_is_answered_whole() {
    let mut world = World::sotw("C a=1; C b=1; E a=1");
    world.request("C", &[]);
    let response = world.gets("C a=1 b=1");
    assert!(!response.version.is_empty() && response.nonce > 0);
    world.ack(&response);
    world.gets_nothing();
}

#[test]
fn s1_an_empty_wildcard_is_answered_too() {
    let mut world = World::sotw("");
    world.request("L", &[]);
    world.takes("L");
    world.gets_nothing();
}

#[test]
fn s2_an_acknowledgement_is_not_answered() {
    let mut world = World::sotw("E a=1");
    world.request("E", &["a"]);
    world.takes("E a=1");
    world.gets_nothing();
    world.request("E", &["a"]);
    world.gets_nothing();
}

#[test]
fn s3_one_change_sends_the_whole_state_with_another_version_and_nonce() {
    let mut world = World::sotw("C a=1; C b=1");
    world.request("C", &[]);
    let first = world.gets("C a=1 b=1");
    world.ack(&first);
    world.set("C a=2; C b=1");
    let second = world.gets("C a=2 b=1");
    assert_ne!(first.version, second.version);
    assert_ne!(first.nonce, second.nonce);
}

#[test]
fn s4_deletion_is_absence_and_the_last_one_leaves_an_empty_response() {
    let mut world = World::sotw("L a=1; L b=1");
    world.request("L", &[]);
    world.takes("L a=1 b=1");
    world.set("L b=1");
    world.takes("L b=1");
    world.set("");
    world.takes("L");
    world.gets_nothing();
}

#[test]
fn s4_routes_and_endpoints_have_no_deletion() {
    let mut world = World::sotw("R a=1; E a=1");
    world.request("R", &["a"]);
    world.request("E", &["a"]);
    world.settles();
    world.set("");
    world.gets_nothing();
    world.set("R a=1; E a=2");
    world.takes("E a=2");
    world.gets_nothing();
}

#[test]
fn s5_only_what_was_asked_for_and_only_what_changed() {
    let mut world = World::sotw("E a=1; E b=1; E c=1");
    world.request("E", &["a", "b"]);
    world.takes("E a=1 b=1");
    world.set("E a=1; E b=1; E c=2");
    world.gets_nothing();
    world.set("E a=1; E b=2; E c=2");
    world.takes("E b=2");
}

#[test]
fn s6_a_stale_nonce_changes_nothing() {
    let mut world = World::sotw("E a=1; E b=1");
    world.request("E", &["a"]);
    let first = world.gets("E a=1");
    world.ack(&first);
    world.set("E a=2; E b=1");
    world.gets("E a=2");
    let stale = world.raw("E", &["a", "b"], "", &first.nonce.to_string(), None);
    assert_eq!(stale, Outcome::Stale);
    let stale = world.raw("E", &[], "", "", None);
    assert_eq!(stale, Outcome::Stale);
    world.set("E a=3; E b=2");
    world.gets_nothing();
    let response = world.nonce("E");
    world.raw("E", &["a"], "", &response, None);
    world.takes("E a=3");
    // What came with a stale nonce was not taken in, so that it is news when it comes again.
    let stale = world.raw("E", &["a", "b"], "", &first.nonce.to_string(), None);
    assert_eq!(stale, Outcome::Stale);
    world.request("E", &["a", "b"]);
    world.takes("E b=2");
}

#[test]
fn s10_a_list_is_another_if_any_name_in_it_is() {
    let mut world = World::sotw("E a=1; E ab=1; E bc=1; E c=1");
    world.request("E", &["ab", "c"]);
    world.takes("E ab=1 c=1");
    world.request("E", &["ab", "c"]);
    world.gets_nothing();
    world.request("E", &["a", "bc"]);
    world.takes("E a=1 bc=1");
    world.set("E a=2; E ab=2; E bc=2; E c=2");
    world.takes("E a=2 bc=2");
}

#[test]
fn s7_s8_a_refusal_is_not_answered_and_the_next_state_is_sent() {
    let mut world = World::sotw("C a=1");
    world.request("C", &[]);
    let first = world.gets("C a=1");
    world.nack(&first);
    world.gets_nothing();
    world.set("C a=2");
    world.takes("C a=2");
}

#[test]
fn s7_a_version_that_differs_is_no_refusal() {
    let mut world = World::sotw("C a=1");
    world.request("C", &[]);
    let first = world.gets("C a=1");
    let outcome = world.raw("C", &[], "something else", &first.nonce.to_string(), None);
    assert_eq!(outcome, Outcome::Acknowledged);
}

#[test]
fn s9_a_new_name_is_sent_whatever_the_version() {
    let mut world = World::sotw("E a=1; E b=1; C x=1; C y=1");
    world.request("E", &["a"]);
    let first = world.gets("E a=1");
    world.raw(
        "E",
        &["a", "b"],
        &first.version,
        &first.nonce.to_string(),
        None,
    );
    world.takes("E b=1");
    world.request("C", &["x"]);
    world.takes("C x=1");
    world.request("C", &["x", "y"]);
    world.takes("C x=1 y=1");
}

#[test]
fn s10_a_dropped_name_gets_no_updates_and_comes_again_when_it_is_added() {
    let mut world = World::sotw("E a=1; E b=1");
    world.request("E", &["a", "b"]);
    world.takes("E a=1 b=1");
    world.request("E", &["a"]);
    world.set("E a=1; E b=2");
    world.gets_nothing();
    world.request("E", &["a", "b"]);
    world.takes("E b=2");
    world.request("E", &["a"]);
    world.request("E", &["a", "b"]);
    world.takes("E b=2");
}

#[test]
fn s11_after_a_name_an_empty_list_is_no_wildcard() {
    let mut world = World::sotw("C a=1; C b=1");
    world.request("C", &["*", "a"]);
    world.takes("C a=1 b=1");
    world.request("C", &["a"]);
    world.set("C a=1; C b=2");
    world.gets_nothing();
    world.set("C a=2; C b=2");
    world.takes("C a=2");
    world.request("C", &[]);
    world.set("C a=3; C b=3");
    world.gets_nothing();
    assert!(world.has("C").is_empty());
    world.request("C", &["*"]);
    world.takes("C a=3 b=3");
}

#[test]
fn s11_a_wildcard_beside_an_old_one_stays_one() {
    let mut world = World::sotw("C a=1; C b=1");
    world.request("C", &[]);
    world.takes("C a=1 b=1");
    world.request("C", &[]);
    world.set("C a=1; C b=2");
    world.takes("C a=1 b=2");
}

#[test]
fn s12_a_missing_name_is_remembered() {
    let mut world = World::sotw("");
    world.request("E", &["a"]);
    world.request("C", &["x"]);
    world.gets_nothing();
    world.set("E a=1");
    world.takes("E a=1");
    world.set("E a=1; C x=1");
    world.takes("C x=1");
}

#[test]
fn s13_types_are_independent() {
    let mut world = World::sotw("C a=1; E a=1");
    world.request("C", &[]);
    world.request("E", &["a"]);
    let clusters = world.gets("C a=1");
    let endpoints = world.gets("E a=1");
    assert_ne!(clusters.nonce, endpoints.nonce);
    world.nack(&endpoints);
    world.set("C a=1; E a=2");
    let again = world.gets("E a=2");
    world.ack(&clusters);
    world.ack(&again);
}

#[test]
fn s14_one_change_of_everything_goes_out_in_order() {
    let mut world = World::sotw("C a=1 >a; E a=1; L l=1 >:r; R r=1 >a");
    world.request("R", &["r"]);
    world.request("L", &["l"]);
    world.request("E", &["a"]);
    world.request("C", &["a"]);
    assert_eq!(world.settles(), ["C a=1", "E a=1", "L l=1", "R r=1"]);
    world.set("C a=2 >a; E a=2; L l=2 >:r; R r=2 >a");
    assert_eq!(world.settles(), ["C a=2", "E a=2", "L l=2", "R r=2"]);
}

#[test]
fn s15_a_new_stream_gets_what_changed() {
    let mut world = World::sotw("C a=1; C b=1");
    world.request("C", &[]);
    let old = world.gets("C a=1 b=1").version;
    let mut again = World::sotw("C a=1; C b=1");
    again.raw("C", &[], &old, "", None);
    again.gets_nothing();
    again.set("C a=2; C b=1");
    again.takes("C a=2 b=1");
    let mut changed = World::sotw("C a=2; C b=1");
    changed.raw("C", &[], &old, "", None);
    changed.takes("C a=2 b=1");
}

#[test]
fn s16_names_on_a_new_stream_are_sent_whatever_the_version() {
    let mut world = World::sotw("E a=1; C a=1");
    world.request("E", &["a"]);
    let old = world.gets("E a=1").version;
    let mut again = World::sotw("E a=1; C a=1");
    again.raw("E", &["a"], &old, "", None);
    again.takes("E a=1");
    let clusters = again.snapshot.version(Kind::Cluster);
    again.raw("C", &["a"], &clusters, "", None);
    again.takes("C a=1");
    let mut both = World::sotw("C a=1");
    both.raw("C", &["*", "a"], &clusters, "", None);
    both.takes("C a=1");
}

#[test]
fn s15_a_label_is_no_proof_of_content() {
    let labelled = |body: &[u8]| {
        let mut parts = Parts::new(Kind::Cluster, "a".into(), body);
        parts.label = Some("v1".into());
        parts.finish()
    };
    let one = Snapshot::new([labelled(b"1")]);
    let mut world = World::of(Variant::Sotw, Arc::new(one.clone()));
    world.request("C", &[]);
    let response = world.gets("C a=1");
    assert_eq!(&*response.version, "v1");
    world.ack(&response);
    world
        .stream
        .update(Arc::new(one.next([labelled(b"2")])), world.now);
    let response = world.gets("C a=2");
    assert_eq!(
        &*response.version, "v1",
        "the label says nothing, the content is sent"
    );
    let mut again = World::of(Variant::Sotw, Arc::new(one));
    again.raw("C", &[], "v1", "", None);
    again.takes("C a=1");
}

#[test]
fn s17_an_empty_name_is_none() {
    let mut world = World::sotw("E a=1; C a=1");
    world.request("E", &["", "a"]);
    world.takes("E a=1");
    world.request("C", &[""]);
    world.gets_nothing();
    assert_eq!(world.stream.names(), 1);
}

#[test]
fn s18_an_invented_nonce_is_ignored() {
    let mut world = World::sotw("E a=1; E b=1");
    world.request("E", &["a"]);
    world.takes("E a=1");
    let outcome = world.raw("E", &["a", "b"], "", "4711", None);
    assert_eq!(outcome, Outcome::Stale);
    world.gets_nothing();
}

#[test]
fn s20_s21_equal_content_pushes_nothing() {
    let mut world = World::sotw("C a=1; E a=1");
    world.request("C", &[]);
    world.request("E", &["a"]);
    world.settles();
    world.set("E a=1; C a=1");
    world.gets_nothing();
}

#[test]
fn s25_changes_while_a_response_is_unanswered_become_one() {
    let mut world = World::sotw("C a=1");
    world.request("C", &[]);
    let first = world.gets("C a=1");
    for body in 2..=50 {
        world.set(&format!("C a={body}; C b={body}"));
        world.gets_nothing();
    }
    world.ack(&first);
    world.takes("C a=50 b=50");
    world.gets_nothing();
}

#[test]
fn s25_a_change_that_is_taken_back_is_none() {
    let mut world = World::sotw("C a=1");
    world.request("C", &[]);
    let first = world.gets("C a=1");
    world.set("C a=2; C b=1");
    world.set("C a=1");
    world.ack(&first);
    world.gets_nothing();
}

#[test]
fn s27_a_refusal_is_remembered_until_something_is_acknowledged() {
    let mut world = World::sotw("C a=1");
    world.request("C", &[]);
    let first = world.gets("C a=1");
    let long = "no ".repeat(10_000);
    let outcome = world.answer(&first, Some(&long));
    let Outcome::Refused { version, error } = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(version, first.version);
    assert!(error.len() <= 4_096, "cut to {}", error.len());
    // A storm of the same refusal is one.
    assert_eq!(world.answer(&first, Some("no")), Outcome::Subscribed);
    let (_, held) = world.stream.held().next().expect("a cluster");
    assert!(held.error.is_some() && !held.acked);
    world.set("C a=2");
    world.takes("C a=2");
    let (_, held) = world.stream.held().next().expect("a cluster");
    assert!(held.error.is_none() && held.acked);
}

#[test]
fn s28_names_that_exist_for_others_are_told_as_such() {
    let denied = |variant| {
        let snapshot = Snapshot::new(resources("C a=1"));
        let some = ["a", "x"].map(|name| Arc::new(Encoded::new(Kind::Cluster, name, b"1")));
        let reserved = crate::control::snapshot::Reserved::of(&some);
        World::of(variant, Arc::new(snapshot.denying(Arc::new(reserved))))
    };
    let mut world = denied(Variant::Sotw);
    world.stream.client.errors = true;
    world.request("C", &["a", "x", "y"]);
    world.takes("C a=1 ?y /x");
    world.gets_nothing();
    let mut world = denied(Variant::Delta);
    world.stream.client.errors = true;
    world.sub("C", &["a", "x", "y"], &[]);
    world.takes("C a=1 !x !y /x");
    let mut world = denied(Variant::Delta);
    world.sub("C", &["x"], &[]);
    world.takes("C !x");
}

#[test]
fn s28_missing_names_are_told_once_where_a_client_understands() {
    let mut world = World::sotw("C a=1");
    world.stream.client.errors = true;
    world.request("C", &["a", "x"]);
    world.takes("C a=1 ?x");
    world.request("R", &["r"]);
    world.takes("R ?r");
    world.gets_nothing();
    world.set("C a=1; R r=1");
    world.takes("R r=1");
    world.set("C a=2; R r=1");
    world.takes("C a=2");
}
