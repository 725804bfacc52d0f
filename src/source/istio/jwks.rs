//! JSON Web Key Sets, as far as a file can be judged: whether the text is one.

use serde::Deserialize;

/// What is in a set.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Inspected {
    /// Whether a key has its private part.
    pub(super) private: bool,
}

/// The shape that every set has (RFC 7517 5), and what a private key would have (RFC 7518 6).
#[derive(Deserialize)]
struct Set {
    keys: Vec<Key>,
}

#[derive(Deserialize)]
struct Key {
    kty: String,
    #[serde(default)]
    d: Option<String>,
    #[serde(default)]
    p: Option<String>,
}

/// Looks at a set.
pub(super) fn inspect(text: &str) -> Result<Inspected, String> {
    let set: Set = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if set.keys.is_empty() {
        return Err("it has no key".to_owned());
    }
    if let Some(key) = set
        .keys
        .iter()
        .find(|key| !matches!(&*key.kty, "RSA" | "EC" | "OKP" | "oct"))
    {
        return Err(format!("unknown kty {:?}", key.kty));
    }
    if set.keys.iter().any(|key| key.kty == "oct") {
        return Err(
            "kty \"oct\" is a shared secret, which whoever verifies could sign with".to_owned(),
        );
    }
    let private = set
        .keys
        .iter()
        .any(|key| key.d.is_some() || key.p.is_some());
    Ok(Inspected { private })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_public_keys() {
        let look = |text: &str| inspect(text).map(|found| found.private);
        assert_eq!(
            look(r#"{"keys": [{"kty": "EC", "crv": "P-256", "x": "", "y": ""}]}"#),
            Ok(false)
        );
        assert_eq!(look(r#"{"keys": [{"kty": "RSA", "d": "AQ"}]}"#), Ok(true));
        for (text, why) in [
            (r#"{"keys": []}"#, "it has no key"),
            (r#"{"keys": [{"kty": "X"}]}"#, "unknown kty \"X\""),
            (
                r#"{"keys": [{"kty": "oct", "k": "AQ"}]}"#,
                "kty \"oct\" is a shared secret, which whoever verifies could sign with",
            ),
        ] {
            assert_eq!(look(text), Err(why.to_owned()));
        }
        assert!(look("{}").unwrap_err().starts_with("missing field `keys`"));
    }
}
