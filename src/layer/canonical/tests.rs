use http::{Method, Request};

use super::*;

fn sent(target: &str) -> Request<()> {
    let mut request = Request::new(());
    *request.uri_mut() = target.parse().unwrap();
    request
        .headers_mut()
        .insert(HOST, "catalog".parse().unwrap());
    request
}

/// The path that a mode makes of another; `None`: it is refused.
fn becomes(path: &str, mode: Normalization) -> Option<String> {
    let mut request = sent(path);
    canonicalize(&mut request, mode).ok()?;
    Some(request.uri().path().to_owned())
}

#[track_caller]
fn refused(path: &str) {
    assert_eq!(becomes(path, Normalization::Reject), None, "{path}");
}

#[track_caller]
fn as_it_is(path: &str, mode: Normalization) {
    assert_eq!(becomes(path, mode).as_deref(), Some(path), "{mode:?}");
}

const MODES: [Normalization; 4] = [
    Normalization::None,
    Normalization::Base,
    Normalization::MergeSlashes,
    Normalization::DecodeAndMergeSlashes,
];

/// What each mode of Istio makes of a path, in the order of `MODES`. The rows are those of the table
/// of Istio's normalization test.
const ORACLE: &[(&str, [&str; 4])] = &[
    ("/", ["/", "/", "/", "/"]),
    ("/app", ["/app", "/app", "/app", "/app"]),
    ("/app/", ["/app/", "/app/", "/app/", "/app/"]),
    ("/app//", ["/app//", "/app//", "/app/", "/app/"]),
    ("//admin", ["//admin", "//admin", "/admin", "/admin"]),
    ("/./admin", ["/./admin", "/admin", "/admin", "/admin"]),
    ("/admin/.", ["/admin/.", "/admin/", "/admin/", "/admin/"]),
    ("/x/..", ["/x/..", "/", "/", "/"]),
    (
        "/app/../admin",
        ["/app/../admin", "/admin", "/admin", "/admin"],
    ),
    (
        "/app//../admin",
        ["/app//../admin", "/app/admin", "/app/admin", "/app/admin"],
    ),
    (
        "/app//../../admin",
        ["/app//../../admin", "/admin", "/admin", "/admin"],
    ),
    (
        "/x//..//admin",
        ["/x//..//admin", "/x//admin", "/x/admin", "/x/admin"],
    ),
    ("/app/%2f", ["/app/%2f", "/app/%2f", "/app/%2f", "/app/"]),
    ("/app%2f/", ["/app%2f/", "/app%2f/", "/app%2f/", "/app/"]),
    ("/%61dmin", ["/%61dmin", "/admin", "/admin", "/admin"]),
    (
        "/xyz%30..//abc",
        [
            "/xyz%30..//abc",
            "/xyz0..//abc",
            "/xyz0../abc",
            "/xyz0../abc",
        ],
    ),
    (
        "/app/%2E./admin",
        ["/app/%2E./admin", "/admin", "/admin", "/admin"],
    ),
    (
        "/app\\admin",
        ["/app\\admin", "/app/admin", "/app/admin", "/app/admin"],
    ),
    (
        "/app/\\/\\/\\admin",
        [
            "/app/\\/\\/\\admin",
            "/app//////admin",
            "/app/admin",
            "/app/admin",
        ],
    ),
    (
        "/%2Fapp%5cadmin%5Cabc",
        [
            "/%2Fapp%5cadmin%5Cabc",
            "/%2Fapp%5cadmin%5Cabc",
            "/%2Fapp%5cadmin%5Cabc",
            "/app/admin/abc",
        ],
    ),
    (
        "/x%2f..%2fadmin",
        [
            "/x%2f..%2fadmin",
            "/x%2f..%2fadmin",
            "/x%2f..%2fadmin",
            "/admin",
        ],
    ),
    (
        "/%252e%252e/admin",
        [
            "/%252e%252e/admin",
            "/%252e%252e/admin",
            "/%252e%252e/admin",
            "/%252e%252e/admin",
        ],
    ),
    ("/%c0%ae", ["/%c0%ae", "/%c0%ae", "/%c0%ae", "/%c0%ae"]),
    ("/%u002f", ["/%u002f", "/%u002f", "/%u002f", "/%u002f"]),
    ("/../../a", ["/../../a", "/a", "/a", "/a"]),
    (
        "/admin;a=b",
        ["/admin;a=b", "/admin;a=b", "/admin;a=b", "/admin;a=b"],
    ),
    (
        "/..;/admin",
        ["/..;/admin", "/..;/admin", "/..;/admin", "/..;/admin"],
    ),
    ("/ADMIN", ["/ADMIN", "/ADMIN", "/ADMIN", "/ADMIN"]),
];

#[test]
fn c1_c2_the_four_modes_of_istio_agree_with_the_table() {
    for (path, expected) in ORACLE {
        for (mode, expected) in MODES.into_iter().zip(expected) {
            let found = becomes(path, mode);
            assert_eq!(found.as_deref(), Some(*expected), "{path} {mode:?}");
        }
    }
}

#[test]
fn c1_what_a_mode_made_stays_as_it_is() {
    for (path, _) in ORACLE {
        for mode in MODES {
            let once = becomes(path, mode).unwrap();
            as_it_is(&once, mode);
        }
    }
}

#[test]
fn c1_ambiguous_paths_are_refused_by_default() {
    for path in [
        "//admin",
        "/./admin",
        "/x/../admin",
        "/x//..//admin",
        "/admin/.",
        "/admin/..",
        "/a//",
    ] {
        refused(path);
    }
    for path in [
        "/",
        "/admin",
        "/admin/",
        "/a.b/..c",
        "/.../x",
        "/a/b:c@d,e",
        "/caf%C3%A9",
        "/a%20b",
    ] {
        as_it_is(path, Normalization::Reject);
    }
}

#[test]
fn c2_every_encoded_byte_is_refused_unless_it_needs_its_encoding() {
    for path in [
        "/%61dmin",
        "/admin%2F",
        "/%2fadmin",
        "/x%2f..%2fadmin",
        "/a%5Cb",
        "/a\\b",
        "/%252e%252e",
        "/%c0%ae",
        "/%u002f",
        "/%",
        "/%2",
        "/%zz",
    ] {
        refused(path);
    }
    for byte in 1..=0xff_u8 {
        let path = format!("/a%{byte:02x}");
        let needed = b" !\"$&'()*+,:<=>@[]^`{|}".contains(&byte);
        let passes = becomes(&path, Normalization::Reject).is_some();
        assert_eq!(passes, needed, "{path}");
    }
}

#[test]
fn c2_an_encoded_zero_is_refused_in_every_mode() {
    refused("/a%00b");
    for mode in MODES {
        assert_eq!(becomes("/a%00b", mode), None, "{mode:?}");
    }
}

#[test]
fn c3_path_parameters_are_refused_and_pass_in_istios_modes() {
    for path in ["/admin;a=b", "/admin;/x", "/..;/admin"] {
        refused(path);
        for mode in MODES {
            as_it_is(path, mode);
        }
    }
}

#[test]
fn c4_a_query_is_no_part_of_the_path() {
    for (target, path) in [
        ("/admin?x", "/admin"),
        ("/admin?", "/admin"),
        ("/public?/../admin", "/public"),
    ] {
        assert_eq!(
            becomes(target, Normalization::Reject).as_deref(),
            Some(path)
        );
    }
    let mut request = sent("/a/../b?c=/../d");
    canonicalize(&mut request, Normalization::Base).unwrap();
    assert_eq!(request.uri(), "/b?c=/../d");
}

#[test]
fn c6_a_target_that_is_no_path_is_refused() {
    let refused = |method: Method, target: &str| {
        let mut request = sent(target);
        *request.method_mut() = method;
        canonicalize(&mut request, Normalization::None).is_err()
    };
    assert!(refused(Method::POST, "*"));
    assert!(refused(Method::CONNECT, "catalog:80"));
    assert!(!refused(Method::OPTIONS, "*"));
}

#[test]
fn c7_a_grpc_path_is_a_service_and_a_method() {
    for (path, good) in [
        ("/p.S/M", true),
        ("/M", false),
        ("/p/S/M", false),
        ("/p.S/M/", false),
        ("/p.S/", false),
        ("//M", false),
        ("/p.S/M?a", false),
        ("/p.S/./M", false),
    ] {
        let mut request = sent(path);
        let value = "application/grpc+proto".parse().unwrap();
        request.headers_mut().insert(CONTENT_TYPE, value);
        match canonicalize(&mut request, Normalization::Reject) {
            Ok(()) => assert!(good, "{path}"),
            Err(ambiguous) => assert!(ambiguous.is_no_method() && !good, "{path}"),
        }
    }
    let plain = canonicalize(&mut sent("/a/./b"), Normalization::Reject).unwrap_err();
    assert!(!plain.is_no_method());
    let mut hosts = sent("/p.S/M");
    let value = "application/grpc".parse().unwrap();
    hosts.headers_mut().insert(CONTENT_TYPE, value);
    hosts.headers_mut().append(HOST, "order".parse().unwrap());
    let hosts = canonicalize(&mut hosts, Normalization::Reject).unwrap_err();
    assert!(!hosts.is_no_method(), "its path is a method: {hosts}");
}

#[test]
fn c8_an_authority_is_a_host_with_a_port() {
    let says = |host: &str| {
        let mut request = sent("/");
        request.headers_mut().insert(HOST, host.parse().unwrap());
        canonicalize(&mut request, Normalization::Reject).map_err(|a| a.to_string())
    };
    for good in [
        "a",
        "A.B",
        "a:80",
        "a.",
        "10.0.0.1:80",
        "[::1]:80",
        "[::1]",
        "xn--bcher-kva.de",
        "a_b",
    ] {
        assert_eq!(says(good), Ok(()), "{good}");
    }
    let user = "the authority has user information";
    for (bad, why) in [
        ("user@secret.com", user),
        ("a@b@c", user),
        (
            "secret.com,evil",
            "the authority is no host with an optional port",
        ),
        ("", "the authority is no host with an optional port"),
        (":80", "the authority is no host with an optional port"),
        ("a:", "the authority is no host with an optional port"),
        ("a:b", "the authority is no host with an optional port"),
        // What Rust reads as a number is not always one.
        ("a:+80", "the authority is no host with an optional port"),
        (
            "[::1]:+80",
            "the authority is no host with an optional port",
        ),
        ("a:65536", "the authority is no host with an optional port"),
        ("a:80:80", "the authority is no host with an optional port"),
        ("::1", "the authority is no host with an optional port"),
        ("[::1", "the authority is no host with an optional port"),
        ("[::1]80", "the authority is no host with an optional port"),
        ("a%2eb", "the authority is no host with an optional port"),
        ("a b", "the authority is no host with an optional port"),
        ("a/b", "the authority is no host with an optional port"),
    ] {
        assert_eq!(says(bad), Err(why.to_owned()), "{bad}");
    }
}

#[test]
fn c9_the_target_decides_about_the_host_and_two_hosts_or_none_are_refused() {
    let mut both = sent("http://a/");
    both.headers_mut().insert(HOST, "b".parse().unwrap());
    canonicalize(&mut both, Normalization::Reject).unwrap();
    assert_eq!(both.headers()[HOST], "a");
    let mut two = sent("/");
    two.headers_mut().append(HOST, "b".parse().unwrap());
    let why = canonicalize(&mut two, Normalization::Reject).unwrap_err();
    assert_eq!(why.to_string(), "the header host stands there twice");
    let mut none = sent("/");
    none.headers_mut().remove(HOST);
    let why = canonicalize(&mut none, Normalization::Reject).unwrap_err();
    assert_eq!(why.to_string(), "the request names no host");
}

#[test]
fn c17_headers_that_claim_an_identity_are_removed() {
    let mut request = sent("/");
    for name in FORGED {
        request
            .headers_mut()
            .append(*name, "By=spiffe://td/ns/a/sa/b".parse().unwrap());
        request
            .headers_mut()
            .append(*name, "again".parse().unwrap());
    }
    request
        .headers_mut()
        .append("x-forwarded-for", "10.0.0.1".parse().unwrap());
    canonicalize(&mut request, Normalization::Reject).unwrap();
    assert_eq!(request.headers().len(), 2, "{:?}", request.headers());
}
