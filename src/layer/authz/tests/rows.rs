//! Rows of the catalogue, one by one.

use super::*;

#[test]
fn c4_c5_a_path_is_compared_without_query_and_with_its_case() {
    let deny = one(Action::Deny, path(exact("/admin")));
    for (target, expected) in [
        ("/admin", false),
        ("/admin?x", false),
        ("/admin?", false),
        ("/admin#x", false),
        ("/public?/../admin", true),
        ("/ADMIN", true),
        ("/Admin", true),
    ] {
        let request = request(&format!("http://catalog{target}"));
        assert_eq!(passes(&deny, &request), expected, "{target}");
    }
    let any_case = StringMatcher::ExactIgnoreCase("/admin".into());
    let deny = one(Action::Deny, path(any_case));
    assert!(!passes(&deny, &request("http://catalog/ADMIN")));
}

#[test]
fn c8_a_denied_host_is_denied_in_every_writing() {
    for (wanted, hosts) in [
        (
            exact("secret.com"),
            &[
                "secret.com",
                "Secret.COM",
                "secret.com:80",
                "secret.com.",
                "secret.com.:80",
            ][..],
        ),
        (exact("Secret.com:80"), &["secret.com:80", "SECRET.com.:80"]),
        (exact("[::1]"), &["[::1]", "[::1]:80"]),
        (
            StringMatcher::Suffix(".Secret.com".into()),
            &["a.secret.com", "a.secret.com:1", "A.SECRET.COM."],
        ),
        (
            StringMatcher::Prefix("Secret.".into()),
            &["secret.com", "SECRET.org:1"],
        ),
    ] {
        let deny = one(Action::Deny, Condition::Host(wanted.clone()));
        let allow = one(Action::Allow, Condition::Host(wanted).not());
        for host in hosts {
            let request = request(&format!("http://{host}/"));
            assert!(!passes(&deny, &request), "{host}");
            assert!(!passes(&allow, &request), "{host}");
        }
        assert!(passes(&deny, &request("http://public.com/")));
    }
}

#[test]
fn c8_an_allowed_host_is_allowed_as_it_is_written_only() {
    let allow = one(Action::Allow, Condition::Host(exact("a.b")));
    for (host, expected) in [
        ("a.b", true),
        ("A.B", true),
        ("a.b:80", false),
        ("a.b.", false),
    ] {
        assert_eq!(
            passes(&allow, &request(&format!("http://{host}/"))),
            expected,
            "{host}"
        );
    }
}

#[test]
fn c10_a_denied_value_is_denied_however_the_header_is_repeated() {
    let deny = one(Action::Deny, is("x-role", "admin"));
    for (headers, expected) in [
        (&[("x-role", "admin")][..], false),
        (&[("x-role", "user"), ("x-role", "admin")], false),
        (&[("x-role", "user, admin")], false),
        (&[("x-role", "admin ,user")], false),
        (&[("X-Role", "admin")], false),
        (&[("x-role", " admin ")], false),
        (&[("x-role", "ADMIN")], true),
        (&[("x-role", "administrator")], true),
        (&[("x-role", "")], true),
        (&[("x_role", "admin")], true),
        (&[], true),
    ] {
        assert_eq!(passes(&deny, &with(headers)), expected, "{headers:?}");
    }
    let joined = one(Action::Deny, is("x-role", "a,b"));
    assert!(!passes(&joined, &with(&[("x-role", "a"), ("x-role", "b")])));
    assert!(passes(&joined, &with(&[("x-role", "b"), ("x-role", "a")])));
}

#[test]
fn c11_an_allowed_value_must_be_the_only_one() {
    let allow = one(Action::Allow, is("x-role", "reader"));
    for (headers, expected) in [
        (&[("x-role", "reader")][..], true),
        (&[("x-role", "reader"), ("x-role", "reader")], true),
        (&[("x-role", "reader"), ("x-role", "admin")], false),
        (&[("x-role", "admin"), ("x-role", "reader")], false),
        (&[("x-role", "reader, admin")], false),
        (
            &[("x-role", "reader"), ("connection", "close, X-Role")],
            false,
        ),
        (&[], false),
    ] {
        assert_eq!(passes(&allow, &with(headers)), expected, "{headers:?}");
    }
    let parts = StringMatcher::Suffix("min".into());
    let parts = |name: &str| header(name, HeaderTest::Value(parts.clone()));
    let allow = |name: &str| one(Action::Allow, Condition::Header(parts(name)));
    assert!(passes(&allow("x-role"), &with(&[("x-role", "admin, min")])));
    assert!(!passes(
        &allow("x-role"),
        &with(&[("x-role", "user, admin")])
    ));
    assert!(passes(
        &allow("user-agent"),
        &with(&[("user-agent", "a (b, admin")])
    ));
    let all_but = one(Action::Deny, is("x-role", "reader").not());
    assert!(passes(&all_but, &with(&[("x-role", "reader")])));
    assert!(!passes(
        &all_but,
        &with(&[("x-role", "reader"), ("x-role", "admin")])
    ));
    let none_of = one(Action::Allow, is("x-role", "admin").not());
    assert!(passes(&none_of, &with(&[("x-role", "reader")])));
    assert!(!passes(&none_of, &with(&[("x-role", "reader, admin")])));
}

#[test]
fn c12_an_absent_header_follows_the_table_of_a41() {
    let value = HeaderTest::Value(exact("a"));
    let any = HeaderTest::Value(StringMatcher::Regex(Regex::new(".*").unwrap()));
    let range = HeaderTest::Range { from: 0, to: 9 };
    let present = HeaderTest::Present;
    // (test, invert, absent counts as empty, matches an absent header, matches "a")
    for (test, invert, empty, absent, found) in [
        (&value, false, false, false, true),
        (&value, true, false, false, false),
        (&value, false, true, false, true),
        (&value, true, true, true, false),
        (&any, false, false, false, true),
        (&any, true, false, false, false),
        (&any, false, true, true, true),
        (&any, true, true, false, false),
        (&range, false, false, false, false),
        (&range, true, false, false, true),
        (&present, false, false, false, true),
        (&present, true, false, true, false),
    ] {
        let matcher = HeaderMatcher {
            invert,
            missing_is_empty: empty,
            ..header("x-a", test.clone())
        };
        let condition = Condition::Header(matcher);
        for lean in [Lean::Broad, Lean::Narrow] {
            for (request, expected) in [(with(&[]), absent), (with(&[("x-a", "a")]), found)] {
                let attributes = Attributes::of(&request, Caller::default());
                assert_eq!(
                    holds(&condition, &attributes, lean),
                    expected,
                    "{condition:?} {lean:?}"
                );
            }
        }
    }
}

#[test]
fn c13_c14_names_of_headers_have_no_case_and_those_of_one_hop_are_absent() {
    let request = with(&[
        ("user-agent", "curl"),
        ("te", "trailers"),
        ("connection", "close"),
        ("keep-alive", "1"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("x-a", "1"),
        ("connection", "x-a"),
    ]);
    let attributes = Attributes::of(&request, Caller::default());
    let present = |name: &str, lean| {
        let condition = Condition::Header(header(name, HeaderTest::Present));
        holds(&condition, &attributes, lean)
    };
    assert!(present("User-Agent", Lean::Narrow));
    for name in [
        "TE",
        "Connection",
        "Keep-Alive",
        "Transfer-Encoding",
        "Upgrade",
    ] {
        assert!(
            !present(name, Lean::Broad) && !present(name, Lean::Narrow),
            "{name}"
        );
    }
    assert!(present("x-a", Lean::Broad) && !present("x-a", Lean::Narrow));
    // `Host` is the authority, wherever it was written.
    for (value, expected) in [("catalog", true), ("CATALOG", true), ("other", false)] {
        let host = Condition::Header(header("Host", HeaderTest::Value(exact(value))));
        assert_eq!(holds(&host, &attributes, Lean::Narrow), expected, "{value}");
    }
}

#[test]
fn c15_methods_have_a_case_and_no_header_overrides_them() {
    let allow = one(Action::Allow, Condition::Method(exact("POST")));
    for (method, expected) in [
        ("POST", true),
        ("post", false),
        ("X", false),
        ("GET", false),
    ] {
        let request = Request::builder()
            .method(method)
            .uri("http://catalog/")
            .header("x-http-method-override", "POST")
            .body(())
            .unwrap();
        assert_eq!(passes(&allow, &request), expected, "{method}");
    }
}

#[test]
fn c16_an_unknown_address_is_in_every_denied_range_and_in_no_allowed_one() {
    let ten: Network = "10.0.0.0/8".parse().unwrap();
    let request = request("http://catalog/");
    let from = |source: Option<&str>| {
        let source = source.map(|text| text.parse().unwrap());
        Caller {
            source,
            remote: source,
            ..Caller::default()
        }
    };
    type Make = fn(Network) -> Condition;
    let makes: [Make; 2] = [Condition::SourceIp, Condition::RemoteIp];
    for make in makes {
        for (source, allow, deny, allow_not, deny_not) in [
            (Some("10.1.2.3"), true, false, false, true),
            (Some("::ffff:10.1.2.3"), true, false, false, true),
            (Some("11.0.0.1"), false, true, true, false),
            (Some("fe80::1"), false, true, true, false),
            (None, false, false, false, false),
        ] {
            let caller = from(source);
            for (action, condition, expected) in [
                (Action::Allow, make(ten), allow),
                (Action::Deny, make(ten), deny),
                (Action::Allow, make(ten).not(), allow_not),
                (Action::Deny, make(ten).not(), deny_not),
            ] {
                let policies = one(action, condition);
                assert_eq!(
                    passes_from(&policies, &request, caller),
                    expected,
                    "{source:?} {policies:?}"
                );
            }
        }
    }
}

#[test]
fn c17_what_a_caller_says_of_itself_is_not_believed() {
    let ten: Network = "10.0.0.0/8".parse().unwrap();
    let me = exact("spiffe://td/ns/a/sa/b");
    let request = with(&[
        ("x-forwarded-for", "10.0.0.1"),
        ("x-envoy-external-address", "10.0.0.1"),
        ("x-forwarded-client-cert", "URI=spiffe://td/ns/a/sa/b"),
        ("l5d-client-id", "spiffe://td/ns/a/sa/b"),
    ]);
    let caller = Caller {
        source: Some("11.0.0.1".parse().unwrap()),
        remote: Some("11.0.0.1".parse().unwrap()),
        ..Caller::default()
    };
    for condition in [
        Condition::RemoteIp(ten),
        Condition::SourceIp(ten),
        Condition::Peer(PeerPattern::Name(me)),
    ] {
        assert!(!passes_from(
            &one(Action::Allow, condition),
            &request,
            caller
        ));
    }
}

#[test]
fn c18_c19_identities_are_compared_as_texts_and_by_their_parts() {
    let account = |namespace: &str, account: &str| {
        Condition::Peer(PeerPattern::ServiceAccount {
            namespace: namespace.into(),
            account: account.into(),
        })
    };
    let named = |matcher| Condition::Peer(PeerPattern::Name(matcher));
    let prefix = |text: &str| StringMatcher::Prefix(text.into());
    let suffix = |text: &str| StringMatcher::Suffix(text.into());
    let namespace = |matcher| Condition::Peer(PeerPattern::Namespace(matcher));
    let domain = |matcher| Condition::Peer(PeerPattern::TrustDomain(matcher));
    for (condition, principal, expected) in [
        (account("ns", "my.app"), "spiffe://td/ns/ns/sa/my.app", true),
        (
            account("ns", "my.app"),
            "spiffe://td/ns/ns/sa/myXapp",
            false,
        ),
        (account("ns", "a*"), "spiffe://td/ns/ns/sa/ab", false),
        (account("ns", "a+"), "spiffe://td/ns/ns/sa/aa", false),
        (account("ns", "(a|b)"), "spiffe://td/ns/ns/sa/a", false),
        (account("a", "b"), "spiffe://td/ns/a/sa/b/c", false),
        (account("a", "b"), "spiffe://td/sa/b/ns/a", false),
        (account("a", "b"), "spiffe://td/ns/ab/sa/b", false),
        (
            named(exact("spiffe://td/ns/a/sa/b")),
            "spiffe://td/ns/a/sa/b",
            true,
        ),
        (
            named(exact("spiffe://td/ns/a/sa/b")),
            "spiffe://td.evil/ns/a/sa/b",
            false,
        ),
        (
            named(prefix("spiffe://td/ns/a")),
            "spiffe://td/ns/ab/sa/x",
            true,
        ),
        (
            named(prefix("spiffe://td/ns/a/")),
            "spiffe://td/ns/ab/sa/x",
            false,
        ),
        (named(suffix("/sa/b")), "spiffe://td/ns/a/sa/b", true),
        (named(prefix("")), "spiffe://td/ns/a/sa/b", true),
        (named(prefix("")), "", false),
        (namespace(exact("a")), "spiffe://td/ns/a/sa/b", true),
        (namespace(exact("a")), "spiffe://td/ns/ab/sa/b", false),
        (namespace(prefix("a")), "spiffe://td/ns/ab/sa/b", true),
        (namespace(exact("a")), "spiffe://td/x/ns/a/sa/b", false),
        (domain(exact("td")), "spiffe://td/ns/a/sa/b", true),
        (domain(exact("td")), "spiffe://td.evil/ns/a/sa/b", false),
        (domain(exact("td")), "CN=td", false),
    ] {
        let policies = one(Action::Allow, condition);
        let request = request("http://catalog/");
        let caller = known(principal);
        assert_eq!(
            passes_from(&policies, &request, caller),
            expected,
            "{principal} {policies:?}"
        );
    }
    // Who denies also believes what is not of Istio's form.
    for condition in [account("a", "b"), namespace(exact("a"))] {
        let deny = one(Action::Deny, condition);
        for odd in ["spiffe://td/x/ns/a/sa/b", "spiffe://td/ns/a/sa/b/c"] {
            assert!(
                !passes_from(&deny, &request("http://catalog/"), known(odd)),
                "{odd}"
            );
        }
    }
}

#[test]
fn b3_nobody_has_an_identity_that_a_pattern_could_match_however_wide() {
    let request = request("http://catalog/");
    let patterns = [
        StringMatcher::Regex(Regex::new(".*").unwrap()),
        StringMatcher::Regex(Regex::new("").unwrap()),
        StringMatcher::Prefix("".into()),
        StringMatcher::Suffix("".into()),
        StringMatcher::Contains("".into()),
        exact(""),
        // Istio's `*` is everything that is not empty.
        StringMatcher::Regex(Regex::new(".+").unwrap()),
    ];
    let encrypted = Caller {
        encrypted: true,
        ..Caller::default()
    };
    for pattern in patterns {
        for peer in [
            PeerPattern::Name(pattern.clone()),
            PeerPattern::Namespace(pattern.clone()),
            PeerPattern::TrustDomain(pattern.clone()),
        ] {
            for caller in [Caller::default(), encrypted] {
                let passes =
                    |action, condition| passes_from(&one(action, condition), &request, caller);
                let is = || Condition::Peer(peer.clone());
                assert!(!passes(Action::Allow, is()), "ALLOW {peer:?}");
                assert!(passes(Action::Deny, is()), "DENY {peer:?}");
                assert!(!passes(Action::Deny, is().not()), "DENY not {peer:?}");
            }
        }
    }
}

#[test]
fn a_caller_without_identity_matches_what_is_negated_only() {
    let me = || Condition::Peer(PeerPattern::Name(exact("spiffe://td/ns/a/sa/b")));
    let request = request("http://catalog/");
    let plain = |action, condition| passes(&one(action, condition), &request);
    assert!(!plain(Action::Allow, me()) && plain(Action::Deny, me()));
    assert!(plain(Action::Allow, me().not()) && !plain(Action::Deny, me().not()));
    assert!(!plain(Action::Allow, Condition::Encrypted));
    let unnamed = Caller {
        encrypted: true,
        ..Caller::default()
    };
    assert!(passes_from(
        &one(Action::Allow, Condition::Encrypted),
        &request,
        unnamed
    ));
}

#[test]
fn c20_regular_expressions_match_the_whole_text() {
    let regex = |text: &str| StringMatcher::Regex(Regex::new(text).unwrap());
    for (pattern, target, expected) in [
        ("/adm", "/admin", true),
        ("/a|/admin", "/admin", false),
        ("/admin", "/admin/x", true),
        (".*", "/admin", false),
    ] {
        let deny = one(Action::Deny, path(regex(pattern)));
        let target = format!("http://catalog{target}");
        assert_eq!(passes(&deny, &request(&target)), expected, "{pattern}");
    }
    assert!(Regex::new(&"a".repeat(10_240)).is_err());
    assert!(Regex::new("(a{1000}){1000}").is_err() && Regex::new("(").is_err());
}

#[test]
fn c21_deny_comes_before_allow_and_an_empty_allow_denies_all() {
    let root = request("http://catalog/a");
    let stage = |action, conditions: &[&Condition]| {
        let policies = conditions
            .iter()
            .map(|c| Policy::new("p", Condition::clone(c)));
        Stage::enforced(action, policies.collect())
    };
    let all = Condition::always();
    let never = Condition::never();
    let pretend = |stage: Stage| Stage {
        enforcement: Enforcement::DryRun,
        ..stage
    };
    for (stages, expected) in [
        (vec![], true),
        (vec![stage(Action::Allow, &[])], false),
        (vec![stage(Action::Deny, &[])], true),
        (vec![stage(Action::Audit, &[])], true),
        (vec![stage(Action::Audit, &[&all])], true),
        (
            vec![stage(Action::Deny, &[&all]), stage(Action::Allow, &[&all])],
            false,
        ),
        (
            vec![
                stage(Action::Deny, &[&never]),
                stage(Action::Allow, &[&all]),
            ],
            true,
        ),
        (vec![stage(Action::Allow, &[&never, &all])], true),
        (vec![stage(Action::Allow, &[&never])], false),
        (
            vec![
                stage(Action::Allow, &[&all]),
                stage(Action::Allow, &[&never]),
            ],
            false,
        ),
        (vec![pretend(stage(Action::Deny, &[&all]))], true),
        (vec![pretend(stage(Action::Allow, &[]))], true),
        (
            vec![
                pretend(stage(Action::Allow, &[&all])),
                stage(Action::Allow, &[]),
            ],
            false,
        ),
    ] {
        let policies = Authorization {
            stages,
            ..Authorization::default()
        };
        assert_eq!(passes(&policies, &root), expected, "{policies:?}");
    }
    assert!(!passes(&Authorization::closed(), &root));
}

#[test]
fn c21_what_pretends_or_audits_is_told_and_what_stands_behind_a_denial_is_not_asked() {
    let stage = |name: &str, action, audit, enforcement| Stage {
        audit,
        enforcement,
        ..Stage::enforced(action, vec![Policy::new(name, Condition::always())])
    };
    let policies = Authorization {
        stages: vec![
            stage("audit", Action::Audit, Audit::Never, Enforcement::Enforced),
            stage("pretend", Action::Deny, Audit::Never, Enforcement::DryRun),
            stage(
                "allow",
                Action::Allow,
                Audit::OnAllow,
                Enforcement::Enforced,
            ),
            stage(
                "silent",
                Action::Allow,
                Audit::OnDeny,
                Enforcement::Enforced,
            ),
            stage("deny", Action::Deny, Audit::OnDeny, Enforcement::Enforced),
            stage(
                "behind",
                Action::Audit,
                Audit::Always,
                Enforcement::Enforced,
            ),
        ],
        ..Authorization::default()
    };
    let request = request("http://catalog/");
    let attributes = Attributes::of(&request, Caller::default());
    let mut seen = Vec::new();
    let decision = decide(&policies, &attributes, &mut |observation| {
        let name = observation.policy.map(|policy| policy.name.to_string());
        seen.push((name.unwrap(), observation.allowed));
    });
    assert!(!decision.allowed);
    assert_eq!(decision.policy.unwrap().name.as_ref(), "deny");
    let expected = [
        ("audit", true),
        ("pretend", false),
        ("allow", true),
        ("deny", false),
    ];
    assert_eq!(
        seen,
        expected.map(|(name, allowed)| (name.to_owned(), allowed))
    );
}

#[test]
fn external_authorizers_are_asked_in_order_about_what_their_policies_match() {
    let external = |provider: &str, condition| External {
        provider: provider.into(),
        policies: vec![Policy::new(provider, condition)],
    };
    let policies = Authorization {
        external: vec![
            external("a", is("x-role", "admin")),
            external("b", Condition::never()),
            external("c", Condition::always()),
        ],
        ..Authorization::default()
    };
    let asked = |request: &Request<()>| -> Vec<String> {
        let attributes = Attributes::of(request, Caller::default());
        let all = super::super::external(&policies, &attributes);
        all.map(|(external, _)| external.provider.to_string())
            .collect()
    };
    assert_eq!(asked(&with(&[("x-role", "user, admin")])), ["a", "c"]);
    assert_eq!(asked(&with(&[])), ["c"]);
}

#[test]
fn tokens_are_asked_for_their_claims_audiences_and_parties() {
    let text = |text: &str| Claim::Text(text.into());
    let token = Token {
        principal: Some("https://issuer/me".into()),
        audiences: vec!["a".into(), "b".into()],
        presenter: Some("app".into()),
        claims: vec![
            ("group".into(), Claim::List(vec!["x".into(), "y".into()])),
            (
                "nested".into(),
                Claim::Object(vec![("key".into(), text("value"))]),
            ),
            ("level".into(), Claim::Other),
            ("staff".into(), Claim::Bool(true)),
        ],
        metadata: Some("payload".into()),
    };
    let claim = |path: &[&str], value: &str| Condition::Claim {
        path: path.iter().map(|name| (*name).into()).collect(),
        value: exact(value),
    };
    let kept = |payload: &str, path: &[&str], value: ClaimMatcher| Condition::TokenMetadata {
        payload: payload.into(),
        path: path.iter().map(|name| (*name).into()).collect(),
        value,
    };
    let either = |text: StringMatcher| {
        ClaimMatcher::Any(vec![
            ClaimMatcher::Text(text.clone()),
            ClaimMatcher::Item(text),
        ])
    };
    let request = request("http://catalog/");
    let asked = |condition: &Condition, token, lean| {
        let attributes = Attributes::of(&request, Caller::default()).with_token(token);
        holds(condition, &attributes, lean)
    };
    for (condition, expected) in [
        (
            Condition::RequestPrincipal(exact("https://issuer/me")),
            true,
        ),
        (
            Condition::RequestPrincipal(StringMatcher::Prefix("".into())),
            true,
        ),
        (Condition::RequestPrincipal(exact("me")), false),
        (Condition::Audience(exact("b")), true),
        (Condition::Audience(exact("a,b")), false),
        (Condition::Presenter(exact("app")), true),
        (Condition::Presenter(exact("other")), false),
        (claim(&["group"], "y"), true),
        (claim(&["group"], "z"), false),
        (claim(&["nested", "key"], "value"), true),
        (claim(&["nested"], "value"), false),
        (claim(&["nested", "key", "deep"], "value"), false),
        (claim(&["level"], "1"), false),
        (claim(&["absent"], ""), false),
        (claim(&["staff"], "true"), false),
        (
            kept("payload", &["group"], ClaimMatcher::Item(exact("y"))),
            true,
        ),
        (
            kept("payload", &["group"], ClaimMatcher::Item(exact("z"))),
            false,
        ),
        // A list is no text, and a text no list.
        (
            kept("payload", &["group"], ClaimMatcher::Text(exact("y"))),
            false,
        ),
        (
            kept(
                "payload",
                &["nested", "key"],
                ClaimMatcher::Text(exact("value")),
            ),
            true,
        ),
        (
            kept(
                "payload",
                &["nested", "key"],
                ClaimMatcher::Item(exact("value")),
            ),
            false,
        ),
        (kept("payload", &["nested"], ClaimMatcher::Present), true),
        (kept("payload", &["level"], ClaimMatcher::Present), true),
        (kept("payload", &["absent"], ClaimMatcher::Present), false),
        (kept("payload", &["staff"], ClaimMatcher::Bool(true)), true),
        (
            kept("payload", &["staff"], ClaimMatcher::Bool(false)),
            false,
        ),
        (kept("other", &["staff"], ClaimMatcher::Present), false),
        (kept("payload", &["group"], either(exact("y"))), true),
        (
            kept("payload", &["nested", "key"], either(exact("value"))),
            true,
        ),
        (
            kept("payload", &["group"], ClaimMatcher::Any(Vec::new())),
            false,
        ),
    ] {
        assert_eq!(
            asked(&condition, Some(&token), Lean::Narrow),
            expected,
            "{condition:?}"
        );
        assert!(!asked(&condition, None, Lean::Broad), "{condition:?}");
    }
    // What is no text cannot be compared: who denies assumes the worst.
    for path in [&["level"][..], &["nested"], &["staff"]] {
        assert!(asked(&claim(path, "1"), Some(&token), Lean::Broad));
    }
    assert!(!format!("{token:?}").contains("value"));
}

#[test]
fn ports_server_names_and_values_that_are_no_text() {
    let request = request("http://catalog/");
    let caller = Caller {
        destination: Some("10.0.0.1:8080".parse().unwrap()),
        sni: Some("a.b"),
        ..Caller::default()
    };
    let attributes = Attributes::of(&request, caller);
    let port = |first, last| Condition::DestinationPort(PortRange { first, last });
    let to = |text: &str| Condition::DestinationIp(text.parse().unwrap());
    for (condition, expected) in [
        (port(8080, 8080), true),
        (port(1, 8079), false),
        (to("10.0.0.0/8"), true),
        (to("11.0.0.0/8"), false),
        (Condition::Sni(exact("a.b")), true),
        (Condition::Sni(exact("b")), false),
    ] {
        assert_eq!(
            holds(&condition, &attributes, Lean::Narrow),
            expected,
            "{condition:?}"
        );
    }
    let unknown = Attributes::of(&request, Caller::default());
    for condition in [port(1, 2), to("10.0.0.0/8")] {
        assert!(holds(&condition, &unknown, Lean::Broad));
        assert!(!holds(&condition, &unknown, Lean::Narrow));
    }
    let mut bytes = HeaderMap::new();
    bytes.insert("x-role", http::HeaderValue::from_bytes(b"\xff").unwrap());
    let mut request = super::request("http://catalog/");
    *request.headers_mut() = bytes;
    assert!(!passes(&one(Action::Deny, is("x-role", "a")), &request));
    assert!(!passes(&one(Action::Allow, is("x-role", "a")), &request));
}
