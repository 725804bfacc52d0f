//! Which chains prove what.

use rustls::pki_types::{ServerName, UnixTime};

use super::*;
use crate::model::matcher::StringMatcher;
use crate::tls::Verification;
use crate::tls::provider::provider;
use crate::tls::verify::{Checks, Usage, verify};

const ID: &str = "spiffe://td/ns/my-app/sa/catalog";

fn checks(verification: Verification) -> Checks {
    Checks {
        verification,
        names: Vec::new(),
        usage: Usage::Server,
        skew: Duration::ZERO,
    }
}

/// Who the chain proves that the peer is.
fn judged(
    checks: &Checks,
    chain: &[CertificateDer<'_>],
    asked: Option<&str>,
    trust: &Trust,
    at: Duration,
) -> Result<Option<String>, Refusal> {
    let asked = asked.map(|name| ServerName::try_from(name).unwrap());
    let algorithms = provider().signature_verification_algorithms;
    let at = UnixTime::since_unix_epoch(at);
    let proven = verify(checks, chain, asked.as_ref(), trust, algorithms, at)?;
    Ok(proven.id.map(|id| id.to_string()))
}

/// As the identity of a mesh, an hour into its lifetime.
fn svid(chain: &[CertificateDer<'_>], trust: &Trust) -> Result<Option<String>, Refusal> {
    judged(&checks(Verification::Svid), chain, None, trust, NOW)
}

fn malformed(text: &str) -> Result<Option<String>, Refusal> {
    Err(Refusal::Malformed(text.into()))
}

#[test]
fn a_chain_is_as_long_and_a_certificate_as_big_as_allowed_and_no_more() {
    let root = Root::new("root");
    let (own, trust) = (root.sign(&leaf(vec![uri(ID)])).der(), trust(&root));
    let believed = Ok(Some(ID.to_owned()));
    let chain = |behind: usize| {
        let mut chain = vec![own.clone()];
        chain.resize(1 + behind, root.der.clone());
        chain
    };
    assert_eq!(svid(&[], &trust), Err(Refusal::Missing));
    assert_eq!(svid(&chain(0), &trust), believed);
    assert_eq!(svid(&chain(15), &trust), believed);
    assert_eq!(
        svid(&chain(16), &trust),
        malformed("17 certificates; at most 16 are allowed")
    );
    // Behind the leaf, where nobody has to read it.
    let padded = |bytes: usize| [own.clone(), CertificateDer::from(vec![0; bytes])];
    assert_eq!(svid(&padded(65_536), &trust), believed);
    assert_eq!(
        svid(&padded(65_537), &trust),
        malformed("65537 bytes; at most 65536 are allowed")
    );
}

#[test]
fn a_chain_counts_that_ends_at_a_root_of_the_peers_own_domain() {
    let (root, other, twin) = (Root::new("root"), Root::new("other"), Root::new("root"));
    let own = [root.sign(&leaf(vec![uri(ID)])).der()];
    assert_eq!(svid(&own, &trust(&root)), Ok(Some(ID.to_owned())));
    assert_eq!(svid(&own, &trust(&other)), Err(Refusal::UnknownIssuer));
    // One of the same name has not signed it.
    let found = svid(&own, &trust(&twin)).unwrap_err();
    assert_eq!(found.reason(), "signature", "{found}");
    let elsewhere = Trust::default()
        .with_domain("elsewhere".parse().unwrap(), root.bundle())
        .with_roots(root.bundle());
    assert_eq!(
        svid(&own, &elsewhere),
        Err(Refusal::WrongDomain("td".parse().unwrap()))
    );
    let list = root.revoking(SERIAL).der().to_vec();
    let revoking = |list| {
        let bundle = root.bundle().with_revocations_der(vec![list]).unwrap();
        Trust::default().with_domain("td".parse().unwrap(), bundle)
    };
    assert_eq!(svid(&own, &revoking(list)), Err(Refusal::Revoked));
    let list = root.revoking(SERIAL + 1).der().to_vec();
    assert_eq!(svid(&own, &revoking(list)), Ok(Some(ID.to_owned())));
}

#[test]
fn a6_a_certificate_holds_in_its_time_and_within_the_skew_of_clocks() {
    let root = Root::new("root");
    let (own, trust) = ([root.sign(&leaf(vec![uri(ID)])).der()], trust(&root));
    let skew = SECOND * 10;
    let end = BEGIN + LIFETIME;
    for (row, skew, at, expected) in [
        ("the first second", Duration::ZERO, BEGIN, None),
        (
            "a second before",
            Duration::ZERO,
            BEGIN - SECOND,
            Some(Refusal::NotYetValid),
        ),
        ("the last second", Duration::ZERO, end, None),
        (
            "a second after",
            Duration::ZERO,
            end + SECOND,
            Some(Refusal::Expired),
        ),
        ("the skew before", skew, BEGIN - skew, None),
        (
            "a second more before",
            skew,
            BEGIN - skew - SECOND,
            Some(Refusal::NotYetValid),
        ),
        ("the skew after", skew, end + skew, None),
        (
            "a second more after",
            skew,
            end + skew + SECOND,
            Some(Refusal::Expired),
        ),
    ] {
        let checks = Checks {
            skew,
            ..checks(Verification::Svid)
        };
        let found = judged(&checks, &own, None, &trust, at);
        assert_eq!(found.err(), expected, "{row}");
    }
}

#[test]
fn a14_one_of_the_names_is_one_of_those_asked_for() {
    use StringMatcher::{Exact, Prefix, Suffix};
    let root = Root::new("root");
    let names = vec![uri(ID), dns("*.my-app.example"), dns("*.example")];
    let (own, trust) = ([root.sign(&leaf(names)).der()], trust(&root));
    for (row, names, named) in [
        ("none is asked for", vec![], true),
        ("the identity", vec![Exact(ID.into())], true),
        (
            "one of two",
            vec![Exact("spiffe://td/b".into()), Exact(ID.into())],
            true,
        ),
        ("a prefix", vec![Prefix("spiffe://td/ns/".into())], true),
        ("another", vec![Exact("spiffe://td/b".into())], false),
        ("a wildcard", vec![Exact("a.my-app.example".into())], true),
        ("in any case", vec![Exact("A.My-App.Example".into())], true),
        (
            "of another domain",
            vec![Exact("a.other.example".into())],
            false,
        ),
        (
            "of one label",
            vec![Exact("a.b.my-app.example".into())],
            false,
        ),
        (
            "of no empty label",
            vec![Exact(".my-app.example".into())],
            false,
        ),
        (
            "not of a whole zone",
            vec![Exact("a.example".into())],
            false,
        ),
        (
            "as it is written only, for what is no whole name",
            vec![Suffix("a.my-app.example".into())],
            false,
        ),
    ] {
        let checks = Checks {
            names,
            ..checks(Verification::Svid)
        };
        let found = judged(&checks, &own, None, &trust, NOW);
        match (named, found) {
            (true, Ok(id)) => assert_eq!(id.as_deref(), Some(ID), "{row}"),
            (false, Err(Refusal::WrongName { found })) => assert_eq!(
                found,
                [ID.into(), "*.my-app.example".into(), "*.example".into()],
                "{row}"
            ),
            (_, found) => panic!("{row}: {found:?}"),
        }
    }
}

#[test]
fn a_server_outside_of_a_mesh_is_whom_it_was_asked_for() {
    let root = Root::new("root");
    let own = [root.sign(&leaf(vec![dns("api.example")])).der()];
    let trust = Trust::default().with_roots(root.bundle());
    let by_name = checks(Verification::Name);
    let asking = |asked| judged(&by_name, &own, asked, &trust, NOW);
    assert_eq!(asking(Some("api.example")), Ok(None));
    for asked in [Some("b.example"), None] {
        let found = asking(asked).unwrap_err();
        assert_eq!(found.reason(), "wrong_name", "{asked:?}");
    }
    let unknown = judged(&by_name, &own, Some("api.example"), &Trust::default(), NOW);
    assert_eq!(unknown, Err(Refusal::UnknownIssuer));
    let nothing = checks(Verification::Nothing);
    let found = judged(&nothing, &own, Some("b.example"), &Trust::default(), NOW);
    assert_eq!(found, Ok(None));
}

#[test]
fn roots_vouch_for_an_identity_only_where_no_domain_is_known() {
    let root = Root::new("root");
    let own = [root.sign(&leaf(vec![uri(ID), dns("api.example")])).der()];
    let roots = Trust::default().with_roots(root.bundle());
    let both = trust(&root).with_roots(root.bundle());
    for (verification, trust, id) in [
        (Verification::Name, &roots, Some(ID)),
        (Verification::Name, &both, None),
        (Verification::Chain, &roots, Some(ID)),
        (Verification::Chain, &both, Some(ID)),
    ] {
        let found = judged(&checks(verification), &own, Some("api.example"), trust, NOW);
        let found = found.unwrap();
        assert_eq!(found.as_deref(), id, "{verification:?} {trust:?}");
    }
}

/// gRFC A101: of a server that has no name to ask for, the names are checked that were told instead.
#[test]
fn names_stand_in_for_a_name_that_nobody_asked_for_and_for_no_other() {
    let root = Root::new("root");
    let own = [root.sign(&leaf(vec![uri(ID), dns("api.example")])).der()];
    let roots = Trust::default().with_roots(root.bundle());
    for (asked, name, believed) in [
        (Some("api.example"), Some("a.example"), true),
        (Some("b.example"), Some(ID), false),
        (Some("10.0.0.1"), Some(ID), true),
        (Some("10.0.0.1"), Some("a.example"), false),
        (None, Some(ID), true),
        (None, Some("a.example"), false),
        // Checked against nothing it would be anybody.
        (Some("10.0.0.1"), None, false),
        (None, None, false),
    ] {
        let checks = Checks {
            names: name
                .map(|name| StringMatcher::Exact(name.into()))
                .into_iter()
                .collect(),
            ..checks(Verification::NameOr)
        };
        let found = judged(&checks, &own, asked, &roots, NOW);
        let reason = found.as_ref().err().map(Refusal::reason);
        let expected = (!believed).then_some("wrong_name");
        assert_eq!(reason, expected, "{asked:?} {name:?}: {found:?}");
    }
}
