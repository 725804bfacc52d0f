//! C25: tokens that must be refused, and the few that must not.

use std::time::Duration;

use http::Request;
use http::header::{AUTHORIZATION, COOKIE};
use jsonwebtoken::EncodingKey;
use rcgen::{KeyPair, PublicKeyData};

use super::*;
use crate::model::Origin;
use crate::model::token::{Keys, Location};

/// The time in all tests, in seconds since 1970.
const NOW: u64 = 1_800_000_000;

struct Issuer {
    pair: KeyPair,
    kid: &'static str,
}

impl Issuer {
    fn new(kid: &'static str) -> Self {
        let pair = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        Self { pair, kid }
    }

    fn jwk(&self) -> String {
        let point = self.pair.der_bytes();
        let (x, y) = (&point[1..33], &point[33..65]);
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        format!(
            r#"{{"kty":"EC","crv":"P-256","alg":"ES256","use":"sig","kid":"{}","x":"{}","y":"{}"}}"#,
            self.kid,
            encode(x),
            encode(y)
        )
    }

    fn set(&self) -> String {
        format!(r#"{{"keys":[{}]}}"#, self.jwk())
    }

    /// Signs whatever it is given.
    fn sign(&self, header: &str, payload: &str) -> String {
        let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let signed = format!("{}.{}", encode(header), encode(payload));
        let key = EncodingKey::from_ec_der(&self.pair.serialize_der());
        let algorithm = jsonwebtoken::Algorithm::ES256;
        let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &key, algorithm).unwrap();
        format!("{signed}.{signature}")
    }

    fn token(&self, payload: &str) -> String {
        self.sign(
            &format!(r#"{{"alg":"ES256","kid":"{}"}}"#, self.kid),
            payload,
        )
    }
}

fn rule(issuer: &Issuer) -> TokenRule {
    TokenRule {
        issuer: Some("https://me".into()),
        audiences: vec!["us".into()],
        keys: Keys::Inline(issuer.set().into()),
        locations: vec![
            Location::Header {
                name: AUTHORIZATION,
                prefix: "Bearer ".into(),
            },
            Location::Parameter("access_token".into()),
            Location::Cookie("session".into()),
        ],
        forward: false,
        payload_header: None,
        claim_headers: Vec::new(),
        spaced: vec!["scope".into()],
        metadata: Some("payload".into()),
        origin: Origin::built_in(),
    }
}

async fn verified(token: &str, rule: &TokenRule) -> Result<Verified, Invalid> {
    let Keys::Inline(text) = &rule.keys else {
        panic!("not in these tests");
    };
    let keys = KeySource::inline(text);
    verify::verify(token, rule, &keys, Duration::from_secs(NOW)).await
}

const GOOD: &str = r#"{"iss":"https://me","sub":"you","aud":["them","us"],"exp":1800000001}"#;

#[tokio::test]
async fn a_good_token_says_who_it_is_of() {
    let issuer = Issuer::new("a");
    let payload = r#"{"iss":"https://me","sub":"you","aud":"us","azp":"app","scope":"read write",
        "deep":{"er":["x"]},"level":3,"nbf":1800000060}"#;
    let good = verified(&issuer.token(payload), &rule(&issuer))
        .await
        .ok()
        .unwrap();
    assert_eq!(good.token.principal.as_deref(), Some("https://me/you"));
    assert_eq!(good.token.audiences, ["us".into()]);
    assert_eq!(good.token.presenter.as_deref(), Some("app"));
    assert_eq!(good.token.metadata.as_deref(), Some("payload"));
    let claim = |path: &[&str]| {
        let path: Vec<Box<str>> = path.iter().map(|name| (*name).into()).collect();
        good.token.claim(&path).cloned()
    };
    let list = |items: &[&str]| Claim::List(items.iter().map(|i| (*i).into()).collect());
    assert_eq!(claim(&["scope"]), Some(list(&["read", "write"])));
    assert_eq!(claim(&["deep", "er"]), Some(list(&["x"])));
    assert_eq!(claim(&["level"]), Some(Claim::Other));
    assert_eq!(good.scalar(&["level".into()]).as_deref(), Some("3"));
    assert_eq!(good.scalar(&["deep".into()]), None);
}

#[tokio::test]
async fn c25_a_token_whose_header_is_not_trusted_is_refused() {
    let (issuer, other) = (Issuer::new("a"), Issuer::new("a"));
    let jwk = other.jwk();
    for (header, expected) in [
        (r#"{"alg":"none","kid":"a"}"#.to_owned(), Invalid::Algorithm),
        (r#"{"alg":"None"}"#.to_owned(), Invalid::Algorithm),
        (
            r#"{"alg":"HS256","kid":"a"}"#.to_owned(),
            Invalid::Algorithm,
        ),
        (r#"{"kid":"a"}"#.to_owned(), Invalid::Algorithm),
        (r#"{"alg":"RS256","kid":"a"}"#.to_owned(), Invalid::NoKey),
        (r#"{"alg":"ES384","kid":"a"}"#.to_owned(), Invalid::NoKey),
        (
            r#"{"alg":"ES256","kid":"../../a"}"#.to_owned(),
            Invalid::NoKey,
        ),
        (r#"{"alg":"ES256","kid":1}"#.to_owned(), Invalid::Header),
        (
            r#"{"alg":"ES256","alg":"ES256"}"#.to_owned(),
            Invalid::Header,
        ),
        (
            r#"{"alg":"ES256","crit":["x"],"x":1}"#.to_owned(),
            Invalid::Critical,
        ),
        ("[]".to_owned(), Invalid::Header),
        (
            format!(r#"{{"alg":"ES256","jwk":{jwk}}}"#),
            Invalid::Signature,
        ),
    ] {
        // Signed with a key that the header itself may bring along.
        let token = other.sign(&header, GOOD);
        let found = verified(&token, &rule(&issuer)).await.err();
        assert_eq!(found, Some(expected), "{header}");
    }
    // Without a name every key is tried.
    let unnamed = issuer.sign(r#"{"alg":"ES256"}"#, GOOD);
    assert!(verified(&unnamed, &rule(&issuer)).await.is_ok());
}

#[tokio::test]
async fn c25_a_token_that_says_the_wrong_things_is_refused() {
    let issuer = Issuer::new("a");
    for (payload, expected) in [
        (
            r#"{"iss":"https://you","sub":"you","aud":"us"}"#,
            Invalid::Issuer,
        ),
        (
            r#"{"iss":"https://me/","sub":"you","aud":"us"}"#,
            Invalid::Issuer,
        ),
        (r#"{"sub":"you","aud":"us"}"#, Invalid::Issuer),
        (r#"{"iss":"https://me","sub":"you"}"#, Invalid::Audience),
        (
            r#"{"iss":"https://me","sub":"you","aud":""}"#,
            Invalid::Audience,
        ),
        (
            r#"{"iss":"https://me","sub":"you","aud":[]}"#,
            Invalid::Audience,
        ),
        (
            r#"{"iss":"https://me","sub":"you","aud":["us",1]}"#,
            Invalid::Payload,
        ),
        (
            r#"{"iss":"https://me","aud":"us","exp":1800000000}"#,
            Invalid::Expired,
        ),
        (
            r#"{"iss":"https://me","aud":"us","exp":1}"#,
            Invalid::Expired,
        ),
        (
            r#"{"iss":"https://me","aud":"us","exp":"1900000000"}"#,
            Invalid::Payload,
        ),
        (
            r#"{"iss":"https://me","aud":"us","nbf":1.9e9}"#,
            Invalid::Early,
        ),
        (
            r#"{"iss":"https://me","aud":"us","nbf":1800000061}"#,
            Invalid::Early,
        ),
        (
            r#"{"iss":"https://me","aud":"us","aud":"us"}"#,
            Invalid::Payload,
        ),
        (
            r#"{"iss":"https://me","aud":"us","a":{"b":1,"b":2}}"#,
            Invalid::Payload,
        ),
        ("\"text\"", Invalid::Payload),
    ] {
        let found = verified(&issuer.token(payload), &rule(&issuer)).await.err();
        assert_eq!(found, Some(expected), "{payload}");
    }
    let past = r#"{"iss":"https://me","aud":"us","nbf":1e3}"#;
    assert!(verified(&issuer.token(past), &rule(&issuer)).await.is_ok());
}

#[tokio::test]
async fn c25_a_token_that_is_no_token_is_refused() {
    let issuer = Issuer::new("a");
    let good = issuer.token(GOOD);
    let (signed, _) = good.rsplit_once('.').unwrap();
    let other = Issuer::new("a").token(GOOD);
    let (_, foreign) = other.rsplit_once('.').unwrap();
    for (token, expected) in [
        ("a.b".to_owned(), Invalid::Form),
        (format!("{good}.x"), Invalid::Form),
        (format!("{signed}."), Invalid::Signature),
        (format!("{signed}.{foreign}"), Invalid::Signature),
        ("?.?.?".to_owned(), Invalid::Form),
        ("a".repeat(65_536), Invalid::TooLong),
    ] {
        let found = verified(&token, &rule(&issuer)).await.err();
        assert_eq!(found, Some(expected), "{}", &token[..token.len().min(80)]);
    }
}

#[tokio::test]
async fn c25_an_empty_set_of_keys_refuses_everything() {
    let issuer = Issuer::new("a");
    for set in [
        "",
        "{}",
        r#"{"keys":[]}"#,
        r#"{"keys":[{"kty":"oct","k":"AQ"}]}"#,
    ] {
        let rule = TokenRule {
            keys: Keys::Inline(set.into()),
            ..rule(&issuer)
        };
        let found = verified(&issuer.token(GOOD), &rule).await.err();
        assert_eq!(found, Some(Invalid::NoKeys), "{set}");
    }
}

fn request(header: Option<&str>, uri: &str, cookie: Option<&str>) -> Request<()> {
    let mut request = Request::get(uri).body(()).unwrap();
    for (name, value) in [(AUTHORIZATION, header), (COOKIE, cookie)] {
        if let Some(value) = value {
            request.headers_mut().append(name, value.parse().unwrap());
        }
    }
    request
}

#[test]
fn tokens_are_found_in_all_places_and_taken_out_of_them() {
    let rule = rule(&Issuer::new("a"));
    for (header, uri, cookie, expected) in [
        (Some("Bearer a"), "/", None, &["a"][..]),
        (Some("bearer a"), "/", None, &["a"]),
        (Some("Basic a"), "/", None, &[]),
        (Some("Bearer "), "/", None, &[]),
        (None, "/?x=1&access_token=b&y", None, &["b"]),
        (None, "/?access_token=b&access_token=c", None, &["b", "c"]),
        (None, "/", Some("x=1; session=d; y=2"), &["d"]),
        (
            Some("Bearer a"),
            "/?access_token=a",
            Some("session=e"),
            &["a", "e"],
        ),
    ] {
        let mut request = request(header, uri, cookie);
        let found = locate::find(&rule, &request).unwrap();
        let found: Vec<&str> = found.iter().map(|token| &**token).collect();
        assert_eq!(found, expected, "{header:?} {uri} {cookie:?}");
        locate::remove(&rule, &mut request);
        assert_eq!(locate::find(&rule, &request).unwrap().len(), 0);
    }
    let mut rest = request(None, "/?x=1&access_token=b&y", Some("x=1; session=d; y=2"));
    locate::remove(&rule, &mut rest);
    assert_eq!(rest.uri(), "/?x=1&y");
    assert_eq!(rest.headers()[COOKIE], "x=1; y=2");
    let many: String = (0..9).map(|n| format!("access_token={n}&")).collect();
    let many = request(None, &format!("/?{many}"), None);
    assert_eq!(locate::find(&rule, &many), Err(Invalid::TooMany));
}
