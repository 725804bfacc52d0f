//! Numbers as protobuf writes them: seven bits in a byte, the low ones first, and a bit that says that
//! more follow.
//!
//! It is here and not a library's, because identities and load reports write a few bytes of
//! messages in builds that have no protobuf.

use bytes::BufMut;

/// Appends a number: one byte below 128, ten at most.
pub(crate) fn put(out: &mut impl BufMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_as_many_bytes_as_they_need() {
        for (number, bytes) in [
            (0, &[0][..]),
            (127, &[0x7f]),
            (128, &[0x80, 1]),
            (300, &[0xac, 2]),
            (u64::MAX, &[255, 255, 255, 255, 255, 255, 255, 255, 255, 1]),
        ] {
            let mut out = Vec::new();
            put(&mut out, number);
            assert_eq!(out, bytes, "{number}");
        }
    }
}
