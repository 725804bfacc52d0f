//! The rules of one stream, by their numbers.

use super::*;

fn names(all: &[&str]) -> BTreeSet<Arc<str>> {
    all.iter().map(|name| Arc::from(*name)).collect()
}

fn list(all: &[&str]) -> Vec<Arc<str>> {
    all.iter().map(|name| Arc::from(*name)).collect()
}

fn sotw(version: &str, all: &[&str]) -> Ask {
    Ask::Sotw {
        names: list(all),
        version: version.into(),
    }
}

fn next(ads: &mut Ads) -> Option<Request> {
    ads.next(|_, _| None)
}

fn accept(ads: &mut Ads, nonce: &str, version: &str) {
    ads.answer(Kind::Cluster, nonce.into(), version.into(), None)
        .unwrap();
}

fn refuse(ads: &mut Ads, nonce: &str, version: &str) {
    let why = Some(Arc::from("cluster a: bad"));
    ads.answer(Kind::Cluster, nonce.into(), version.into(), why)
        .unwrap();
}

#[test]
fn c1_the_node_is_in_the_first_message_of_a_stream_only() {
    let mut ads = Ads::new(false);
    ads.want(Kind::Listener, names(&["l"]));
    ads.want(Kind::Cluster, names(&["c"]));
    assert!(next(&mut ads).unwrap().introduces);
    assert!(!next(&mut ads).unwrap().introduces);
    assert_eq!(next(&mut ads), None);
    ads.begin();
    assert!(next(&mut ads).unwrap().introduces);
    assert!(!next(&mut ads).unwrap().introduces);
}

#[test]
fn c2_c3_each_response_is_answered_once_with_its_nonce_and_the_last_accepted_version() {
    let mut ads = Ads::new(false);
    ads.want(Kind::Cluster, names(&["a"]));
    assert_eq!(next(&mut ads).unwrap().ask, sotw("", &["a"]));
    refuse(&mut ads, "n1", "v1");
    let first = next(&mut ads).unwrap();
    assert_eq!(
        (&*first.nonce, &first.ask),
        ("n1", &sotw("", &["a"])),
        "no version was accepted"
    );
    assert_eq!(first.refusal.as_deref(), Some("cluster a: bad"));
    accept(&mut ads, "n2", "v2");
    let second = next(&mut ads).unwrap();
    assert_eq!((&*second.nonce, &second.ask), ("n2", &sotw("v2", &["a"])));
    assert_eq!(second.refusal, None);
    refuse(&mut ads, "n3", "v3");
    let third = next(&mut ads).unwrap();
    assert_eq!((&*third.nonce, &third.ask), ("n3", &sotw("v2", &["a"])));
    assert_eq!(next(&mut ads), None, "an answer is sent once");
}

#[test]
fn c3_a_nonce_may_repeat_or_be_empty() {
    let mut ads = Ads::new(false);
    ads.want(Kind::Cluster, names(&["a"]));
    next(&mut ads);
    for nonce in ["", "", "n", "n"] {
        accept(&mut ads, nonce, "v");
        assert_eq!(&*next(&mut ads).unwrap().nonce, nonce);
        assert_eq!(next(&mut ads), None);
    }
}

#[test]
fn c8_a_changed_subscription_is_all_names_with_the_newest_nonce_and_version() {
    let mut ads = Ads::new(false);
    ads.want(Kind::Cluster, names(&["a"]));
    next(&mut ads);
    accept(&mut ads, "n1", "v1");
    next(&mut ads);
    ads.want(Kind::Cluster, names(&["a", "b"]));
    let more = next(&mut ads).unwrap();
    assert_eq!((&*more.nonce, &more.ask), ("n1", &sotw("v1", &["a", "b"])));
    assert_eq!(more.fresh, list(&["b"]));
    ads.want(Kind::Cluster, names(&[]));
    let none = next(&mut ads).unwrap();
    assert_eq!((&*none.nonce, &none.ask), ("n1", &sotw("v1", &[])));
    assert_eq!(next(&mut ads), None);
    ads.want(Kind::Cluster, names(&["a"]));
    let again = next(&mut ads).unwrap();
    assert_eq!(
        (&again.ask, again.fresh),
        (&sotw("v1", &["a"]), list(&["a"]))
    );
}

#[test]
fn c8_an_empty_list_is_never_the_first_message_of_a_kind() {
    for delta in [false, true] {
        let mut ads = Ads::new(delta);
        ads.want(Kind::Cluster, names(&[]));
        assert_eq!(next(&mut ads), None);
        ads.want(Kind::Cluster, names(&["a"]));
        ads.want(Kind::Cluster, names(&[]));
        assert_eq!(next(&mut ads), None);
        ads.want(Kind::Cluster, names(&["a"]));
        assert!(next(&mut ads).is_some());
        ads.want(Kind::Cluster, names(&[]));
        ads.begin();
        assert_eq!(next(&mut ads), None, "a new stream was never asked");
    }
}

#[test]
fn c8_a_change_rides_on_an_answer_and_is_said_again_if_that_was_out_of_date() {
    let mut ads = Ads::new(false);
    ads.want(Kind::Cluster, names(&["a"]));
    next(&mut ads);
    accept(&mut ads, "n1", "v1");
    ads.want(Kind::Cluster, names(&["a", "b"]));
    let answer = next(&mut ads).unwrap();
    assert_eq!(
        (&*answer.nonce, &answer.ask),
        ("n1", &sotw("v1", &["a", "b"]))
    );
    assert_eq!(next(&mut ads), None);
    // Two responses before one answer leaves: the first answer is not looked at by the server.
    accept(&mut ads, "n2", "v2");
    accept(&mut ads, "n3", "v3");
    ads.want(Kind::Cluster, names(&["c"]));
    assert_eq!(next(&mut ads).unwrap().ask, sotw("v2", &["c"]));
    let newest = next(&mut ads).unwrap();
    assert_eq!((&*newest.nonce, &newest.ask), ("n3", &sotw("v3", &["c"])));
    assert_eq!(
        newest.fresh,
        list(&["c"]),
        "what was passed over is fresh again"
    );
    assert_eq!(next(&mut ads), None);
}

#[test]
fn c8_a_name_that_goes_and_returns_between_two_messages_is_subscribed_anew() {
    for delta in [false, true] {
        let mut ads = Ads::new(delta);
        ads.want(Kind::Cluster, names(&["a", "b"]));
        next(&mut ads);
        ads.want(Kind::Cluster, names(&["b"]));
        ads.want(Kind::Cluster, names(&["a", "b"]));
        let (without, with) = (next(&mut ads).unwrap(), next(&mut ads).unwrap());
        assert_eq!((without.fresh, with.fresh), (list(&[]), list(&["a"])));
        match (without.ask, with.ask) {
            (Ask::Sotw { names: without, .. }, Ask::Sotw { names: with, .. }) => {
                assert_eq!((without, with), (list(&["b"]), list(&["a", "b"])));
            }
            (Ask::Delta { unsubscribe, .. }, Ask::Delta { subscribe, .. }) => {
                assert_eq!((unsubscribe, subscribe), (list(&["a"]), list(&["a"])));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(next(&mut ads), None);
    }
}

#[test]
fn c9_a_new_stream_has_no_nonce_the_last_version_and_all_names() {
    let mut ads = Ads::new(false);
    ads.want(Kind::Cluster, names(&["a", "b"]));
    next(&mut ads);
    accept(&mut ads, "n1", "v1");
    ads.begin();
    let first = next(&mut ads).unwrap();
    assert_eq!((&*first.nonce, &first.ask), ("", &sotw("v1", &["a", "b"])));
    assert_eq!(first.fresh, list(&["a", "b"]));
    assert_eq!(
        next(&mut ads),
        None,
        "the answer of a stream that is gone is not sent"
    );
}

#[test]
fn c9_delta_says_what_is_known_in_the_first_message_of_a_kind_only() {
    let mut ads = Ads::new(true);
    let known = |_: Kind, name: &Arc<str>| (&**name == "a").then(|| Arc::from("7"));
    ads.want(Kind::Cluster, names(&["a", "b"]));
    let first = ads.next(known).unwrap();
    let delta = |subscribe: &[&str], unsubscribe: &[&str], known: &[(&str, &str)]| Ask::Delta {
        subscribe: list(subscribe),
        unsubscribe: list(unsubscribe),
        known: known
            .iter()
            .map(|(name, version)| ((*name).into(), (*version).into()))
            .collect(),
    };
    assert_eq!(first.ask, delta(&["a", "b"], &[], &[("a", "7")]));
    ads.want(Kind::Cluster, names(&["b", "c"]));
    assert_eq!(ads.next(known).unwrap().ask, delta(&["c"], &["a"], &[]));
    accept(&mut ads, "n1", "");
    let answer = ads.next(known).unwrap();
    assert_eq!((&*answer.nonce, answer.ask), ("n1", delta(&[], &[], &[])));
    ads.begin();
    assert_eq!(ads.next(known).unwrap().ask, delta(&["b", "c"], &[], &[]));
    ads.want(Kind::Cluster, names(&[]));
    assert_eq!(ads.next(known).unwrap().ask, delta(&[], &["b", "c"], &[]));
}

#[test]
fn c13_kinds_have_nonces_and_versions_of_their_own() {
    let mut ads = Ads::new(false);
    ads.want(Kind::Listener, names(&["l"]));
    ads.want(Kind::Cluster, names(&["c"]));
    next(&mut ads);
    next(&mut ads);
    accept(&mut ads, "n1", "v1");
    next(&mut ads);
    ads.want(Kind::Listener, names(&["l", "m"]));
    let listeners = next(&mut ads).unwrap();
    assert_eq!(
        (&*listeners.nonce, listeners.ask),
        ("", sotw("", &["l", "m"]))
    );
}

#[test]
fn c19_a_server_that_reads_no_answers_is_given_up() {
    let mut ads = Ads::new(false);
    ads.want(Kind::Cluster, names(&["a"]));
    next(&mut ads);
    for nonce in 0..MOST_ANSWERS {
        accept(&mut ads, &nonce.to_string(), "v");
    }
    let last = ads.answer(Kind::Cluster, "n".into(), "v".into(), None);
    assert_eq!(last, Err(Overrun));
}
