//! Base64 (RFC 4648): written with the standard alphabet and padding, read as proto3-JSON reads it,
//! in both alphabets, with or without padding.
//!
//! It is needed for a body in YAML, a load report and a cookie, which is no reason for a dependency.

use std::iter;

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Encodes bytes.
#[cfg(any(feature = "outbound", test))]
pub(crate) fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let mut whole = [0; 4];
        whole[1..=chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes(whole);
        let digits = [18, 12, 6, 0].map(|shift| DIGITS[(bits >> shift) as usize & 63]);
        text.extend(
            digits[..=chunk.len()]
                .iter()
                .map(|digit| char::from(*digit)),
        );
        text.extend(iter::repeat_n('=', 3 - chunk.len()));
    }
    text
}

/// Decodes a text; `None` if it is not base64.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=').as_bytes();
    let padding = text.len() - digits.len();
    if digits.len() % 4 == 1 || padding > 2 || (padding > 0 && text.len() % 4 != 0) {
        return None;
    }
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    for chunk in digits.chunks(4) {
        let mut bits: u32 = 0;
        for digit in chunk {
            bits = (bits << 6) | u32::from(value(*digit)?);
        }
        bits <<= 6 * (4 - chunk.len());
        let [_, whole @ ..] = bits.to_be_bytes();
        bytes.extend_from_slice(&whole[..chunk.len() - 1]);
    }
    Some(bytes)
}

fn value(digit: u8) -> Option<u8> {
    Some(match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'+' | b'-' => 62,
        b'/' | b'_' => 63,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_the_vectors_of_rfc_4648_and_refuses_the_rest() {
        let rows = [("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo")];
        for (text, bytes) in rows.iter().chain(&[("Zm9vYg", "foob"), ("Pz8_", "???")]) {
            assert_eq!(decode(text).as_deref(), Some(bytes.as_bytes()), "{text}");
        }
        for (text, bytes) in rows {
            assert_eq!(encode(bytes.as_bytes()), text);
        }
        for bad in ["Z", "Zg=", "Zg===", "Z!==", "=", "Zm9v=Zg="] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }
}
