//! The file that says whose roots count for which trust domain: a SPIFFE bundle map.
//!
//! One JSON object of trust domains, each with a set of keys in the format of SPIFFE bundles
//! (SPIFFE Trust Domain and Bundle §4, X509-SVID §6):
//!
//! ```json
//! {"trust_domains": {"td.example": {"spiffe_sequence": 1, "keys": [
//!     {"kty": "EC", "use": "x509-svid", "x5c": ["MIIB..."]}]}}}
//! ```
//!
//! A file with a fault is refused as a whole (gRFC A87): a domain that is left out of a file for a
//! slip in it would be cut off, and nobody could tell that from its being taken off the list. Keys for
//! JWT-SVIDs are passed over, since no certificate is ever signed with one; a `use` that is not known
//! is a fault. A domain without a key for certificates is one for which nobody is trusted.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value};

use super::pem::Unusable;
use super::trust::{Bundle, Trust};
use crate::model::identity::TrustDomain;

const WHAT: &str = "the SPIFFE bundle map";
/// How many faults of a file are told.
const TOLD: usize = 16;

/// Reads a map: a trust that knows domains and nothing else.
pub(super) fn read(text: &[u8]) -> Result<Trust, Unusable> {
    let value: Value = serde_json::from_slice(text)
        .map_err(|error| Unusable::new(WHAT, format!("it is not JSON: {error}")))?;
    let mut faults = Vec::new();
    let mut trust = Trust::of_no_domain();
    match value.get("trust_domains").and_then(Value::as_object) {
        None => faults.push("trust_domains: an object is needed".to_owned()),
        Some(domains) => {
            for (name, bundle) in domains {
                let place = format!("trust_domains[{name:?}]");
                let domain = TrustDomain::new(name)
                    .map_err(|error| faults.push(format!("{place}: the name {error}")));
                let roots = roots(&place, bundle, &mut faults);
                if let (Ok(domain), Some(roots)) = (domain, roots) {
                    trust = trust.with_domain(domain, roots);
                }
            }
        }
    }
    if faults.is_empty() {
        return Ok(trust);
    }
    let more = faults.len().saturating_sub(TOLD);
    faults.truncate(TOLD);
    if more > 0 {
        faults.push(format!("{more} more"));
    }
    Err(Unusable::new(WHAT, faults.join("; ")))
}

/// The roots of one domain; `None`: there is none, or a fault.
fn roots(place: &str, bundle: &Value, faults: &mut Vec<String>) -> Option<Bundle> {
    if let Some(sequence) = bundle.get("spiffe_sequence")
        && !sequence.is_u64()
    {
        faults.push(format!(
            "{place}.spiffe_sequence: found {}, a whole number from 0 is needed",
            kind(sequence)
        ));
    }
    let Some(keys) = bundle.get("keys").and_then(Value::as_array) else {
        faults.push(format!("{place}.keys: a list is needed"));
        return None;
    };
    let before = faults.len();
    let mut roots = Vec::new();
    for (index, key) in keys.iter().enumerate() {
        match key.as_object().map(certificate) {
            Some(Ok(root)) => roots.extend(root),
            Some(Err(why)) => faults.push(format!("{place}.keys[{index}].{why}")),
            None => faults.push(format!("{place}.keys[{index}]: an object is needed")),
        }
    }
    if faults.len() > before || roots.is_empty() {
        return None;
    }
    Bundle::from_der(roots)
        .map_err(|error| faults.push(format!("{place}.keys: {error}")))
        .ok()
}

/// The certificate of one key; `Ok(None)`: it is not for certificates.
fn certificate(key: &Map<String, Value>) -> Result<Option<Vec<u8>>, String> {
    let text = |name: &str| key.get(name).and_then(Value::as_str);
    match text("use") {
        Some("x509-svid") => {}
        Some("jwt-svid") => return Ok(None),
        Some(other) => {
            return Err(format!(
                "use: found {other:?}, \"x509-svid\" and \"jwt-svid\" are allowed"
            ));
        }
        None => return Err("use: \"x509-svid\" or \"jwt-svid\" is needed".to_owned()),
    }
    match text("kty") {
        Some("EC" | "OKP" | "RSA") => {}
        Some(other) => {
            return Err(format!(
                "kty: found {other:?}, \"EC\", \"OKP\" and \"RSA\" are allowed"
            ));
        }
        None => return Err("kty: \"EC\", \"OKP\" or \"RSA\" is needed".to_owned()),
    }
    let chain = key.get("x5c").and_then(Value::as_array);
    let Some([Value::String(one)]) = chain.map(Vec::as_slice) else {
        return Err("x5c: a list of exactly one certificate is needed".to_owned());
    };
    let der = BASE64_STANDARD.decode(one);
    der.map(Some)
        .map_err(|error| format!("x5c[0]: it is not base64: {error}"))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "another number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn root(name: &str) -> (Vec<u8>, String) {
        let mut params = rcgen::CertificateParams::default();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().to_vec();
        let text = BASE64_STANDARD.encode(&der);
        (der, text)
    }

    fn key(root: &str) -> Value {
        json!({"kty": "EC", "use": "x509-svid", "x5c": [root], "crv": "P-256", "x": "a", "y": "b"})
    }

    #[test]
    fn each_domain_has_its_own_roots_and_keys_of_tokens_are_none() {
        let ((first, one), (second, two), (third, three)) = (root("1"), root("2"), root("3"));
        let text = json!({"trust_domains": {
            "a.example": {"spiffe_sequence": 7, "spiffe_refresh_hint": 60, "keys": [
                key(&one), key(&two), {"kty": "RSA", "use": "jwt-svid", "kid": "x", "n": "", "e": ""},
            ]},
            "b.example": {"keys": [key(&three)]},
            "nobody.example": {"keys": []},
        }});
        let trust = read(text.to_string().as_bytes()).unwrap();
        let of = |name: &str| {
            let bundle = trust.domain(&name.parse().unwrap())?;
            Some(bundle.roots().map(<[u8]>::to_vec).collect::<Vec<_>>())
        };
        assert_eq!(of("a.example"), Some(vec![first, second]));
        assert_eq!(of("b.example"), Some(vec![third]));
        assert_eq!(of("nobody.example"), None);
        assert_eq!(trust.roots(), None);
    }

    #[test]
    fn an_empty_map_is_a_map() {
        let trust = read(br#"{"trust_domains": {}}"#).unwrap();
        assert_eq!(trust, Trust::of_no_domain());
        assert_ne!(
            trust,
            Trust::default(),
            "it is not the same as to know of no domains"
        );
    }

    #[test]
    fn a_file_with_a_fault_is_refused_as_a_whole_and_says_where_it_is() {
        let (_, good) = root("1");
        let with = |key: Value| json!({"trust_domains": {"td": {"keys": [key]}}});
        for (row, value, expected) in [
            ("no map", json!({}), "trust_domains: an object is needed"),
            (
                "no object",
                json!({"trust_domains": []}),
                "trust_domains: an object is needed",
            ),
            (
                "a name in upper case",
                json!({"trust_domains": {"TD": {"keys": [key(&good)]}}}),
                "trust_domains[\"TD\"]: the name ",
            ),
            (
                "no keys",
                json!({"trust_domains": {"td": {}}}),
                "trust_domains[\"td\"].keys: a list is needed",
            ),
            (
                "a sequence that is none",
                json!({"trust_domains": {"td": {"spiffe_sequence": -1, "keys": [key(&good)]}}}),
                "trust_domains[\"td\"].spiffe_sequence: found another number",
            ),
            (
                "a key that is none",
                with(json!(1)),
                "keys[0]: an object is needed",
            ),
            (
                "no use",
                with(json!({"kty": "EC", "x5c": [good]})),
                "keys[0].use: \"x509-svid\" or \"jwt-svid\" is needed",
            ),
            (
                "another use",
                with(json!({"kty": "EC", "use": "sig", "x5c": [good]})),
                "keys[0].use: found \"sig\"",
            ),
            (
                "another type",
                with(json!({"kty": "oct", "use": "x509-svid", "x5c": [good]})),
                "keys[0].kty: found \"oct\", \"EC\", ",
            ),
            (
                "no type",
                with(json!({"use": "x509-svid", "x5c": [good]})),
                "keys[0].kty: \"EC\", \"OKP\" or \"RSA\" is needed",
            ),
            (
                "two certificates",
                with(json!({"kty": "EC", "use": "x509-svid", "x5c": [good, good]})),
                "keys[0].x5c: a list of exactly one certificate is needed",
            ),
            (
                "no base64",
                with(json!({"kty": "EC", "use": "x509-svid", "x5c": ["%"]})),
                "keys[0].x5c[0]: it is not base64",
            ),
            (
                "no certificate",
                with(json!({"kty": "EC", "use": "x509-svid", "x5c": ["AAAA"]})),
                "trust_domains[\"td\"].keys: the bundle of roots cannot be used",
            ),
        ] {
            let fault = read(value.to_string().as_bytes()).unwrap_err().to_string();
            assert!(fault.contains(expected), "{row}: {fault}");
        }
        // All at once, and a good domain does not save the others.
        let two =
            json!({"trust_domains": {"a": {}, "b": {"keys": [key(&good)]}, "c": {"keys": [1]}}});
        let fault = read(two.to_string().as_bytes()).unwrap_err().to_string();
        assert!(
            fault.contains("[\"a\"].keys") && fault.contains("[\"c\"].keys[0]"),
            "{fault}"
        );
    }

    proptest! {
        #![proptest_config(crate::random::properties(256))]

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = read(&bytes);
        }
    }
}
