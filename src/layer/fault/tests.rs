//! The dice and the headers.

use std::num::NonZeroU32;

use http::HeaderValue;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn share(parts: u32) -> Fraction {
    Fraction::from_parts_per_million(parts).unwrap()
}

fn teapot(share: Fraction) -> Option<Abort> {
    let status = Amount::Fixed(AbortStatus::Http(StatusCode::IM_A_TEAPOT));
    Some(Abort { status, share })
}

fn slow(share: Fraction) -> Option<Delay> {
    let duration = Amount::Fixed(SECOND);
    Some(Delay { duration, share })
}

fn fault(delay: Option<Delay>, abort: Option<Abort>) -> Fault {
    Fault {
        delay,
        abort,
        max_active: None,
    }
}

fn by_header(share: Fraction) -> Fault {
    let delay = Delay {
        duration: Amount::Header,
        share,
    };
    let abort = Abort {
        status: Amount::Header,
        share,
    };
    fault(Some(delay), Some(abort))
}

fn headers(of: &[(&'static str, &'static str)]) -> HeaderMap {
    let header = |(name, value): &(&'static str, &'static str)| {
        ((*name).try_into().unwrap(), HeaderValue::from_static(value))
    };
    of.iter().map(header).collect()
}

fn decide(fault: Fault, of: &[(&'static str, &'static str)]) -> Decision {
    Injector::new(fault).decide(&headers(of), &Random::seeded(1))
}

fn duration(decision: &Decision) -> Option<Duration> {
    decision.delay.as_ref().map(|hold| hold.duration)
}

#[test]
fn g18_shares_are_exact_to_the_millionth() {
    for (parts, draws, expected) in [
        (0, 100_000, 0..=0),
        (1, 4_000_000, 1..=10),
        (100_000, 400_000, 39_300..=40_700),
        (999_999, 400_000, 399_990..=400_000),
        (1_000_000, 100_000, 100_000..=100_000),
    ] {
        let injector = Injector::new(fault(None, teapot(share(parts))));
        let (random, none) = (Random::seeded(3), HeaderMap::new());
        let aborted = (0..draws)
            .filter(|_| injector.decide(&none, &random).abort.is_some())
            .count();
        assert!(expected.contains(&aborted), "{parts}: {aborted}");
    }
}

#[test]
fn delay_and_abort_are_rolled_independently() {
    let half = share(500_000);
    let injector = Injector::new(fault(slow(half), teapot(half)));
    let (random, none) = (Random::seeded(3), HeaderMap::new());
    let mut counts = [0_u32; 4];
    for _ in 0..40_000 {
        let decision = injector.decide(&none, &random);
        let (delay, abort) = (decision.delay.is_some(), decision.abort.is_some());
        counts[usize::from(delay) + 2 * usize::from(abort)] += 1;
    }
    assert!(
        counts.iter().all(|count| count.abs_diff(10_000) < 400),
        "{counts:?}"
    );
}

#[test]
fn g18_headers_trigger_nothing_unless_the_policy_says_so() {
    let asked = [
        ("x-envoy-fault-delay-request", "5"),
        ("x-envoy-fault-abort-request", "503"),
        ("x-envoy-fault-abort-grpc-request", "14"),
        ("x-envoy-fault-abort-request-percentage", "100"),
        ("x-envoy-fault-delay-request-percentage", "100"),
    ];
    for fault in [
        fault(None, None),
        fault(slow(Fraction::ZERO), teapot(Fraction::ZERO)),
    ] {
        let decision = decide(fault, &asked);
        assert!(decision.delay.is_none() && decision.abort.is_none());
    }
    // A fixed fault is not changed by headers either.
    let fixed = decide(fault(slow(Fraction::ONE), teapot(Fraction::ONE)), &asked);
    let teapot = AbortStatus::Http(StatusCode::IM_A_TEAPOT);
    assert_eq!(
        (duration(&fixed), fixed.abort),
        (Some(SECOND), Some(teapot))
    );
}

#[test]
fn headers_say_how_long_and_with_what() {
    let http = |status| Some(AbortStatus::Http(StatusCode::from_u16(status).unwrap()));
    let grpc = |code| Some(AbortStatus::Grpc(code));
    for (http_header, grpc_header, expected) in [
        ("503", "14", http(503)),
        ("200", "14", http(200)),
        ("599", "14", http(599)),
        ("600", "14", grpc(14)),
        ("199", "0", grpc(0)),
        ("-1", "+14", None),
        ("", "", None),
        ("5O3", "4294967296", None),
        ("65739", "x", None),
    ] {
        let asked = [
            ("x-envoy-fault-abort-request", http_header),
            ("x-envoy-fault-abort-grpc-request", grpc_header),
        ];
        let found = decide(by_header(Fraction::ONE), &asked);
        assert_eq!(found.abort, expected, "{http_header} {grpc_header}");
        assert!(found.delay.is_none());
    }
    for (header, expected) in [
        ("1500", Some(Duration::from_millis(1_500))),
        ("0", None),
        ("-5", None),
        ("1.5", None),
        (
            "18446744073709551615",
            Some(Duration::from_millis(u64::MAX)),
        ),
        ("18446744073709551616", None),
    ] {
        let asked = [("x-envoy-fault-delay-request", header)];
        let found = decide(by_header(Fraction::ONE), &asked);
        assert_eq!(duration(&found), expected, "{header}");
    }
    assert!(decide(by_header(Fraction::ONE), &[]).abort.is_none());
}

#[test]
fn a_percentage_header_lowers_the_share_and_never_raises_it() {
    for (policy, header, expected) in [
        (500_000, "10", 100_000),
        (500_000, "90", 500_000),
        (500_000, "0", 0),
        (500_000, "101", 500_000),
        (500_000, "4294967295", 500_000),
        (500_000, "ten", 500_000),
        (0, "100", 0),
    ] {
        let asked = headers(&[(header::ABORT_PERCENTAGE, header)]);
        let found = header::share(&asked, header::ABORT_PERCENTAGE, share(policy));
        assert_eq!(found, share(expected), "{policy} {header}");
    }
}

#[test]
fn g18_no_more_are_held_back_than_the_policy_says() {
    let injector = Injector::new(Fault {
        max_active: NonZeroU32::new(2),
        ..fault(slow(Fraction::ONE), teapot(Fraction::ONE))
    });
    let (random, none) = (Random::seeded(3), HeaderMap::new());
    let held: Vec<_> = (0..2).map(|_| injector.decide(&none, &random)).collect();
    assert!(held.iter().all(|decision| decision.delay.is_some()));
    let third = injector.decide(&none, &random);
    assert!(
        third.delay.is_none() && third.abort.is_none(),
        "it passes unharmed"
    );
    drop(held);
    assert!(injector.decide(&none, &random).delay.is_some());
    assert_eq!(injector.active.count(), 0);
}

#[test]
fn active_faults_are_counted_together_if_shared() {
    let active = ActiveFaults::default();
    let policy = Fault {
        max_active: NonZeroU32::new(1),
        ..fault(slow(Fraction::ONE), None)
    };
    let random = Random::seeded(3);
    let old = Injector::counting(policy.clone(), active.clone());
    let held = old.decide(&HeaderMap::new(), &random);
    let edited = Injector::counting(policy, active.clone());
    assert!(edited.decide(&HeaderMap::new(), &random).delay.is_none());
    drop(held);
    assert_eq!(active.count(), 0);
}

#[test]
fn errors_say_what_was_injected() {
    let error = decide(fault(None, teapot(Fraction::ONE)), &[])
        .error()
        .unwrap();
    assert_eq!(error.to_string(), "injected fault: HTTP 418 I'm a teapot");
    let asked = [("x-envoy-fault-abort-grpc-request", "8")];
    let error = decide(by_header(Fraction::ONE), &asked).error().unwrap();
    assert!(error.is_fault());
    assert_eq!((error.status(), error.grpc_status()), (StatusCode::OK, 8));
    assert!(Decision::default().error().is_none());
}
