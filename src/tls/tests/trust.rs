//! Bundles and whom they count for.

use super::*;
use crate::model::identity::TrustDomain;

#[test]
fn a_bundle_is_its_roots_and_its_lists_whatever_they_were_read_from() {
    let (one, other) = (Root::new("one"), Root::new("other"));
    let bundle = one.bundle();
    assert_eq!(bundle.roots().collect::<Vec<_>>(), [&*one.der]);
    assert_eq!(bundle, one.bundle());
    assert_eq!(bundle, bundle.clone());
    assert_ne!(bundle, other.bundle());
    let (first, second) = (one.revoking(1), one.revoking(2));
    let revoked = bundle
        .with_revocations_der(vec![first.der().to_vec()])
        .unwrap();
    assert_ne!(revoked, bundle);
    assert_eq!(
        revoked,
        bundle
            .with_revocations(first.pem().unwrap().as_bytes())
            .unwrap()
    );
    assert_ne!(
        revoked,
        bundle
            .with_revocations_der(vec![second.der().to_vec()])
            .unwrap()
    );
    // The same list under other roots revokes what others have issued.
    let foreign = other.bundle();
    let foreign = foreign.with_revocations_der(vec![first.der().to_vec()]);
    assert_ne!(revoked, foreign.unwrap());
    assert_eq!(
        format!("{revoked:?}"),
        "Bundle { roots: 1, revocation_lists: 1 }"
    );
}

#[test]
fn a_bundle_without_roots_and_what_is_no_certificate_and_no_list_are_refused() {
    let why = |outcome: Result<Bundle, crate::tls::Unusable>| outcome.unwrap_err().to_string();
    let bundle = Root::new("root").bundle();
    assert!(why(Bundle::from_der(Vec::new())).contains("it is empty"));
    assert!(why(Bundle::from_pem(b"")).contains("the bundle of roots"));
    assert!(why(Bundle::from_der(vec![vec![0; 9]])).contains("the bundle of roots"));
    let lists = bundle.with_revocations_der(vec![vec![0; 9]]);
    assert!(why(lists).contains("the revocation list"));
    assert!(bundle.with_revocations(b"").is_err());
}

#[test]
fn a_domain_has_the_bundle_that_it_was_given_last_and_roots_are_nobodys() {
    let (one, other, third) = (Root::new("one"), Root::new("other"), Root::new("third"));
    let named = |name: &str| name.parse::<TrustDomain>().unwrap();
    let trust = trust(&one)
        .with_domain(named("td"), other.bundle())
        .with_domain(named("b"), one.bundle())
        .with_roots(third.bundle());
    assert_eq!(trust.domain(&named("td")), Some(&other.bundle()));
    assert_eq!(trust.domain(&named("b")), Some(&one.bundle()));
    assert_eq!(trust.domain(&named("c")), None);
    assert_eq!(trust.roots(), Some(&third.bundle()));
    let names: Vec<&str> = trust.domains().map(|(domain, _)| domain.as_str()).collect();
    assert_eq!(names, ["b", "td"]);
    let left = trust.without_domain(&named("td"));
    assert_eq!(left.domain(&named("td")), None);
    assert_eq!(left.domain(&named("b")), Some(&one.bundle()));
    assert_eq!(left.roots(), Some(&third.bundle()));
}
