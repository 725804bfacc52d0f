//! `Sec-WebSocket-Accept`: proof that whoever answered had read the handshake (RFC 6455 §4.2.2).
//!
//! It is base64 of SHA-1 over the key and a fixed text. SHA-1 protects nothing here, it only tells
//! a WebSocket server from a cache, so thirty lines do for which a cryptographic library would have
//! to be linked into programs that use no TLS.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::HeaderValue;

const MAGIC: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What a server answers to `key`.
pub(crate) fn accept(key: &HeaderValue) -> HeaderValue {
    let text = [key.as_bytes().trim_ascii(), MAGIC].concat();
    // base64 is made of visible characters only.
    HeaderValue::try_from(BASE64_STANDARD.encode(sha1(&text)))
        .unwrap_or(HeaderValue::from_static(""))
}

/// FIPS 180-4 §6.1.
fn sha1(message: &[u8]) -> [u8; 20] {
    let mut state = [
        0x6745_2301_u32,
        0xefcd_ab89,
        0x98ba_dcfe,
        0x1032_5476,
        0xc3d2_e1f0,
    ];
    let mut padded = message.to_vec();
    padded.push(0x80);
    padded.resize(padded.len().next_multiple_of(64), 0);
    if (message.len() % 64) >= 56 {
        padded.resize(padded.len() + 64, 0);
    }
    let bits = (message.len() as u64) * 8;
    let end = padded.len() - 8;
    padded[end..].copy_from_slice(&bits.to_be_bytes());
    for block in padded.chunks_exact(64) {
        compress(&mut state, block);
    }
    let mut digest = [0; 20];
    for (bytes, word) in digest.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    digest
}

fn compress(state: &mut [u32; 5], block: &[u8]) {
    let mut words = [0_u32; 80];
    for (word, bytes) in words.iter_mut().zip(block.chunks_exact(4)) {
        *word = bytes
            .iter()
            .fold(0, |word, byte| word << 8 | u32::from(*byte));
    }
    for index in 16..80 {
        let mixed = words[index - 3] ^ words[index - 8] ^ words[index - 14] ^ words[index - 16];
        words[index] = mixed.rotate_left(1);
    }
    let [mut a, mut b, mut c, mut d, mut e] = *state;
    for (round, word) in words.iter().enumerate() {
        let (mixed, constant) = match round {
            0..20 => ((b & c) | (!b & d), 0x5a82_7999),
            20..40 => (b ^ c ^ d, 0x6ed9_eba1),
            40..60 => ((b & c) | (b & d) | (c & d), 0x8f1b_bcdc),
            _ => (b ^ c ^ d, 0xca62_c1d6_u32),
        };
        let next = a
            .rotate_left(5)
            .wrapping_add(mixed)
            .wrapping_add(e)
            .wrapping_add(constant)
            .wrapping_add(*word);
        (a, b, c, d, e) = (next, a, b.rotate_left(30), c, d);
    }
    for (before, added) in state.iter_mut().zip([a, b, c, d, e]) {
        *before = before.wrapping_add(added);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn sha1_is_that_of_the_standards_examples() {
        let million = "a".repeat(1_000_000);
        for (message, digest) in [
            ("", "da39a3ee5e6b4b0d3255bfef95601890afd80709"),
            ("abc", "a9993e364706816aba3e25717850c26c9cd0d89d"),
            (
                "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
                "84983e441c3bd26ebaae4aa1f95129e5e54670f1",
            ),
            (&million, "34aa973cd4c4daa4f61eeb2bdbad27316534016f"),
        ] {
            assert_eq!(hex(&sha1(message.as_bytes())), digest);
        }
    }

    #[test]
    fn every_length_around_a_block_has_its_own_digest() {
        let message = [7; 130];
        let mut digests: Vec<_> = (0..130).map(|length| sha1(&message[..length])).collect();
        digests.sort_unstable();
        digests.dedup();
        assert_eq!(digests.len(), 130);
    }

    #[test]
    fn the_answer_is_that_of_the_rfcs_example() {
        let key = HeaderValue::from_static(" dGhlIHNhbXBsZSBub25jZQ== ");
        assert_eq!(accept(&key), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
