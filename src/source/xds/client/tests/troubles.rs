//! What is not there, is refused, is deleted, or cannot be reached.

use super::*;
use crate::source::xds::ads::message::{Content, Unavailable};

fn failed(code: u32, name: &str) -> Response {
    Response {
        errors: vec![Unavailable {
            name: name.into(),
            code,
            text: "not for you".into(),
        }],
        ..response(Kind::Listener, "9", Vec::new())
    }
}

#[test]
fn c10_a_lost_control_plane_changes_nothing_and_updates_flow_again_after_it_is_back() {
    let mut bench = Bench::with_features(&[]);
    bench.all();
    let before = bench.resources.clone();
    bench.end(0, "reset");
    for _ in 0..20 {
        bench.pass(Duration::from_secs(180));
        bench.begin(0);
        bench.end(0, "connection refused");
    }
    assert!(Arc::ptr_eq(&before, &bench.resources));
    assert_eq!(*bench.status("l"), Status::InForce);
    let asked = bench.begin(0);
    assert_eq!(asked.len(), 4, "everything is asked for again");
    assert!(asked.iter().all(|request| request.nonce.is_empty()));
    bench.send(Kind::Endpoints, "5", &["e||5"]);
    assert_eq!(bench.stamps("c", "e"), (Some(1), Some(5)));
}

#[test]
fn c11_a_stream_that_ends_before_a_response_is_an_error_and_is_begun_later_each_time() {
    let mut bench = Bench::with_features(&[]);
    bench.demand(&["l"]);
    let mut pauses = Vec::new();
    for _ in 0..12 {
        bench.begin(0);
        bench.end(0, "connection refused");
        let Wish::Wait(until) = bench.client.wish(0) else {
            panic!("no pause");
        };
        pauses.push((until - bench.now).as_secs_f64());
        bench.now = until;
    }
    assert!((0.8..=1.2).contains(&pauses[0]), "{pauses:?}");
    assert!(pauses[11] > 90.0 && pauses[11] <= 144.0, "{pauses:?}");
    assert!(matches!(bench.status("l"), Status::Failed(_)));
    let why = bench.why("l");
    assert!(
        why.contains("one:1 cannot be reached: connection refused"),
        "{why}"
    );
    // One response resets it.
    bench.begin(0);
    bench.send(Kind::Listener, "1", &["l|r|1"]);
    assert!(matches!(bench.status("l"), Status::Pending(_)));
    bench.end(0, "the server ended the stream");
    let Wish::Wait(until) = bench.client.wish(0) else {
        panic!("no pause");
    };
    assert!(until - bench.now <= Duration::from_secs(1));
    assert!(
        matches!(bench.status("l"), Status::Pending(_)),
        "no error after a response"
    );
}

#[test]
fn c12_what_does_not_come_in_15_s_of_a_connected_stream_does_not_exist() {
    let mut bench = Bench::with_features(&[]);
    bench.demand(&["l"]);
    bench.pass(Duration::from_secs(60));
    assert!(
        matches!(bench.status("l"), Status::Pending(_)),
        "nothing was sent"
    );
    bench.begin(0);
    bench.pass(Duration::from_secs(14));
    bench.end(0, "reset");
    bench.pass(Duration::from_secs(60));
    assert!(
        bench.why("l").contains("cannot be reached"),
        "{}",
        bench.why("l")
    );
    bench.begin(0);
    bench.pass(Duration::from_millis(14_999));
    assert!(
        !matches!(bench.status("l"), Status::Absent(_)),
        "the time begins anew with a stream"
    );
    bench.pass(Duration::from_millis(1));
    assert!(matches!(bench.status("l"), Status::Absent(_)));
    assert!(
        bench.why("l").contains("did not send it within 15 s"),
        "{}",
        bench.why("l")
    );
    bench.send(Kind::Listener, "1", &["l|r|1"]);
    assert!(
        matches!(bench.status("l"), Status::Pending(_)),
        "it may come late"
    );
}

#[test]
fn c12_a_server_whose_silence_is_no_absence_has_30_s_and_the_error_is_transient() {
    let mut bench = Bench::with_features(&["resource_timer_is_transient_error"]);
    bench.demand(&["l"]);
    bench.begin(0);
    bench.pass(Duration::from_millis(29_999));
    assert!(matches!(bench.status("l"), Status::Pending(_)));
    bench.pass(Duration::from_millis(1));
    assert!(matches!(bench.status("l"), Status::Failed(_)));
}

#[test]
fn c12_a_known_resource_is_not_waited_for() {
    let mut bench = Bench::with_features(&[]);
    bench.all();
    bench.end(0, "reset");
    bench.begin(0);
    bench.pass(Duration::from_secs(3_600));
    assert_eq!(*bench.status("l"), Status::InForce);
    assert_eq!(bench.stamps("c", "e"), (Some(1), Some(1)));
}

#[test]
fn missing_clusters_and_endpoints_hold_nobody_up_and_are_told() {
    let mut bench = Bench::with_features(&[]);
    bench.demand(&["l"]);
    bench.begin(0);
    bench.send(Kind::Listener, "1", &["l|r|1"]);
    bench.send(Kind::RouteConfiguration, "1", &["r|c,d|1"]);
    bench.send(Kind::Cluster, "1", &["c|e|1"]);
    bench.pass(Duration::from_secs(15));
    assert_eq!(*bench.status("l"), Status::InForce);
    assert!(
        bench.notes["d"].contains("cluster \"d\": one:1 did not send it"),
        "{:?}",
        bench.notes
    );
    assert!(
        bench.notes["c"].contains("endpoints \"e\""),
        "{:?}",
        bench.notes
    );
    bench.send(Kind::Cluster, "2", &["c|e|1", "d|e|1"]);
    bench.send(Kind::Endpoints, "2", &["e||1"]);
    assert!(bench.notes.is_empty());
    assert_eq!(bench.resources.clusters.len(), 2);
}

#[test]
fn c13_d14_a_deleted_resource_is_kept_and_comes_back() {
    let mut bench = Bench::with_features(&[]);
    bench.all();
    bench.send(Kind::Cluster, "2", &[]);
    bench.send(Kind::Listener, "2", &[]);
    assert_eq!(*bench.status("l"), Status::InForce);
    assert_eq!(bench.stamps("c", "e"), (Some(1), Some(1)));
    bench.send(Kind::Cluster, "3", &["c|e|3"]);
    assert_eq!(bench.stamps("c", "e").0, Some(3));
}

#[test]
fn c13_d14_a_deleted_resource_is_dropped_where_errors_of_data_count() {
    let mut bench = Bench::with_features(&["fail_on_data_errors"]);
    bench.all();
    bench.send(Kind::Cluster, "2", &[]);
    assert_eq!(bench.stamps("c", "e").0, None);
    assert!(
        bench.notes["c"].contains("does not exist at one:1"),
        "{:?}",
        bench.notes
    );
    bench.send(Kind::Cluster, "3", &["c|e|3"]);
    bench.send(Kind::Endpoints, "3", &["e||3"]);
    assert_eq!(bench.stamps("c", "e"), (Some(3), Some(3)));
    bench.send(Kind::Cluster, "4", &["!c|e|4"]);
    assert_eq!(bench.stamps("c", "e").0, None, "a refused one too");
    bench.send(Kind::Listener, "4", &[]);
    assert!(matches!(bench.status("l"), Status::Absent(_)));
    assert!(bench.resources.listeners.is_empty());
}

#[test]
fn c13_what_was_never_received_is_not_deleted_by_an_older_response() {
    let mut bench = Bench::with_features(&["fail_on_data_errors"]);
    bench.all();
    bench.demand(&["l", "m"]);
    bench.requests(0);
    bench.send(Kind::Listener, "1", &["l|r|1"]);
    assert!(matches!(bench.status("m"), Status::Pending(_)));
    bench.send(Kind::RouteConfiguration, "2", &[]);
    bench.send(Kind::Endpoints, "2", &[]);
    assert_eq!(
        bench.stamps("c", "e"),
        (Some(1), Some(1)),
        "absence says nothing of these kinds"
    );
}

#[test]
fn c14_errors_of_resources_are_told_at_once() {
    let mut bench = Bench::with_features(&[]);
    bench.demand(&["l"]);
    bench.begin(0);
    bench.receive(0, failed(5, "l"));
    assert!(matches!(bench.status("l"), Status::Absent(_)));
    assert!(
        bench
            .why("l")
            .contains("one:1 says \"not for you\" (code 5)"),
        "{}",
        bench.why("l")
    );
    bench.receive(0, failed(7, "l"));
    assert!(matches!(bench.status("l"), Status::Failed(_)));
    bench.receive(0, failed(14, "l"));
    assert!(matches!(bench.status("l"), Status::Failed(_)));
}

#[test]
fn c14_errors_drop_what_is_known_only_where_errors_of_data_count_and_they_are_no_outage() {
    for (features, code, stays) in [
        (&[][..], 5, true),
        (&[], 7, true),
        (&["fail_on_data_errors"], 14, true),
        (&["fail_on_data_errors"], 5, false),
        (&["fail_on_data_errors"], 7, false),
    ] {
        let mut bench = Bench::with_features(features);
        bench.all();
        bench.receive(0, failed(code, "l"));
        let there = bench.resources.listeners.contains_key("l");
        assert_eq!(there, stays, "{features:?} {code}");
    }
}

#[test]
fn delta_says_at_once_what_does_not_exist_and_what_was_removed() {
    let mut bench = Bench::with_features(&["xds.delta"]);
    bench.demand(&["l"]);
    bench.begin(0);
    let removed = |kind, name: &str| Response {
        removed: vec![name.into()],
        ..response(kind, "", Vec::new())
    };
    bench.receive(0, removed(Kind::Listener, "l"));
    assert!(matches!(bench.status("l"), Status::Absent(_)));
    bench.send(Kind::Listener, "", &["l|r|1"]);
    bench.send(Kind::RouteConfiguration, "", &["r|c|1"]);
    bench.send(Kind::Cluster, "", &["c|e|1"]);
    bench.send(Kind::Endpoints, "", &["e||1"]);
    bench.send(Kind::Cluster, "", &["other|e|1"]);
    assert_eq!(
        bench.stamps("c", "e").0,
        Some(1),
        "what is not said has not changed"
    );
    bench.receive(0, removed(Kind::Cluster, "c"));
    assert_eq!(bench.stamps("c", "e").0, Some(1), "kept, as A88 has it");
}

#[test]
fn d24_a_time_to_live_ends_a_resource_and_heartbeats_prolong_it() {
    let mut bench = Bench::with_features(&["xds.delta"]);
    bench.all();
    let with_ttl = |content, seconds| {
        let mut incoming = sent(Kind::Cluster, "c|e|2");
        incoming.name = Some("c".into());
        incoming.ttl = Some(Duration::from_secs(seconds));
        if let Some(content) = content {
            incoming.content = content;
        }
        response(Kind::Cluster, "2", vec![incoming])
    };
    bench.receive(0, with_ttl(None, 10));
    bench.pass(Duration::from_secs(9));
    bench.receive(0, with_ttl(Some(Content::Heartbeat), 10));
    bench.pass(Duration::from_secs(9));
    assert_eq!(bench.stamps("c", "e").0, Some(2));
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.stamps("c", "e").0, None);
    assert!(
        bench.notes["c"].contains("time to live"),
        "{:?}",
        bench.notes
    );
    bench.send(Kind::Cluster, "3", &["c|e|3"]);
    bench.send(Kind::Endpoints, "3", &["e||3"]);
    bench.pass(Duration::from_secs(3_600));
    assert_eq!(
        bench.stamps("c", "e").0,
        Some(3),
        "the time to live is gone with the value"
    );
}

/// Verified faults of other clients: a cluster that leaves the routes and returns keeps its old
/// endpoints for ever.
#[test]
fn a_cluster_that_returns_is_asked_for_anew() {
    let mut bench = Bench::with_features(&[]);
    bench.all();
    bench.send(Kind::RouteConfiguration, "2", &["r|d|2"]);
    bench.send(Kind::Cluster, "2", &["d|f|1"]);
    bench.send(Kind::Endpoints, "2", &["f||1"]);
    bench.send(Kind::RouteConfiguration, "3", &["r|c|3"]);
    assert!(
        bench.resources.clusters.contains_key("d"),
        "until c is there again"
    );
    bench.send(Kind::Cluster, "3", &["c|e|3", "d|f|1"]);
    bench.send(Kind::Endpoints, "3", &["e||3"]);
    assert_eq!(bench.stamps("c", "e"), (Some(3), Some(3)));
    assert!(!bench.resources.clusters.contains_key("d"));
}

#[test]
fn d12_stale_and_repeated_responses_are_answered_and_change_nothing() {
    let mut bench = Bench::with_features(&[]);
    bench.all();
    let before = bench.resources.clone();
    for _ in 0..10_000 {
        let answers = bench.send(Kind::Cluster, "1", &["c|e|1"]);
        assert_eq!(answers.len(), 1);
    }
    assert!(Arc::ptr_eq(&before, &bench.resources));
}

#[test]
fn d13_a_server_that_repeats_a_bad_resource_gets_one_refusal_for_each() {
    let mut bench = Bench::with_features(&[]);
    bench.all();
    for number in 0..1_000 {
        let answers = bench.send(Kind::Cluster, &format!("b{number}"), &["!c|e|2"]);
        let [answer] = &*answers else {
            panic!("{answers:?}");
        };
        assert!(answer.refusal.is_some());
    }
    assert_eq!(bench.stamps("c", "e").0, Some(1));
}

#[test]
fn statuses_are_those_of_what_is_asked_for() {
    let mut bench = Bench::with_features(&[]);
    bench.demand(&["l", "m"]);
    let asked: BTreeSet<Arc<str>> = bench.statuses.keys().cloned().collect();
    assert_eq!(asked, set(&["l", "m"]));
}
