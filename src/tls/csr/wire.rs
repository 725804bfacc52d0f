//! The two messages of `istio.v1.auth.IstioCertificateService/CreateCertificate`.

use crate::protobuf::{Field, Fields, Malformed, Value, put_bytes, put_number};

/// How many texts an answer may have.
const TEXTS: usize = 64;

/// An `IstioCertificateRequest`: `csr` (1), and `validity_duration` (3) in seconds.
pub(super) fn request(csr: &str, seconds: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(csr.len() + 24);
    put_bytes(&mut out, 1, csr.as_bytes());
    put_number(&mut out, 3, seconds);
    out
}

/// The `cert_chain` (1) of an `IstioCertificateResponse`.
pub(super) fn response(message: &[u8]) -> Result<Vec<String>, Malformed> {
    let mut chain = Vec::new();
    for field in Fields(message) {
        let Field { number, value, .. } = field?;
        if let (1, Value::Bytes(bytes)) = (number, value) {
            let text = std::str::from_utf8(bytes).map_err(|_| Malformed)?;
            chain.push(text.to_owned());
        }
        if chain.len() > TEXTS {
            return Err(Malformed);
        }
    }
    Ok(chain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_the_bytes_that_protobuf_writes() {
        assert_eq!(&request("ab", 300)[..], b"\x0a\x02ab\x18\xac\x02");
    }

    #[test]
    fn an_answer_is_its_texts_whatever_stands_beside_them() {
        let answer = b"\x0a\x01a\x10\x96\x01\x1a\x02zz\x0a\x02bc";
        assert_eq!(response(answer), Ok(vec!["a".into(), "bc".into()]));
        assert_eq!(response(b""), Ok(Vec::new()));
        assert_eq!(response(b"\x0a\x01\xff"), Err(Malformed), "no text");
        assert_eq!(
            response(&b"\x0a\x00".repeat(TEXTS + 1)),
            Err(Malformed),
            "too many"
        );
    }
}
