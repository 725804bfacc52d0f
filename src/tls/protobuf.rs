//! protobuf's wire format, as far as two small protocols need it.
//!
//! An identity comes by `CreateCertificate` or by the Workload API, which have a handful of fields each.
//! Reading them here keeps a runtime and a code generator out of every application that has an identity.

use thiserror::Error;

use crate::varint;

/// The value of a field.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Value<'a> {
    /// A text, bytes or a message.
    Bytes(&'a [u8]),
    /// A number of fixed size, which no message here has.
    Fixed,
    Number(u64),
}

/// The bytes are no message.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("it is no protobuf message")]
pub(super) struct Malformed;

/// The fields of a message, by their numbers. Unknown ones are for the reader to skip.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    fn field(&mut self) -> Result<(u64, Value<'a>), Malformed> {
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Number(self.varint()?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
                Value::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            // Groups, which proto3 does not have, and what is no wire type at all.
            _ => return Err(Malformed),
        };
        Ok((tag >> 3, value))
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.take(1)?.first().ok_or(Malformed)?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            // Nothing can be read behind what cannot be read.
            self.0 = &[];
        }
        Some(field)
    }
}

/// Appends a field of bytes.
pub(super) fn put_bytes(out: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    varint::put(out, number << 3 | 2);
    varint::put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends a field that is a number.
pub(super) fn put_number(out: &mut Vec<u8>, number: u64, value: u64) {
    varint::put(out, number << 3);
    varint::put(out, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut out = Vec::new();
        put_bytes(&mut out, 1, b"ab");
        put_number(&mut out, 3, 300);
        assert_eq!(out, b"\x0a\x02ab\x18\xac\x02");
        let read: Result<Vec<_>, _> = Fields(&out).collect();
        assert_eq!(
            read,
            Ok(vec![(1, Value::Bytes(b"ab")), (3, Value::Number(300))])
        );
        let fixed = b"\x25abcd\x29abcdefgh";
        let read: Result<Vec<_>, _> = Fields(fixed).collect();
        assert_eq!(read, Ok(vec![(4, Value::Fixed), (5, Value::Fixed)]));
    }

    #[test]
    fn what_is_no_message_ends_at_its_fault() {
        for (row, bytes) in [
            ("longer than it is", &b"\x0a\x05ab"[..]),
            (
                "a number without end",
                b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80",
            ),
            ("a group", b"\x0b"),
            ("half a number", b"\x08\x80"),
            ("half a fixed one", b"\x25abc"),
        ] {
            assert!(Fields(bytes).any(|field| field.is_err()), "{row}");
        }
    }

    proptest::proptest! {
        #![proptest_config(crate::random::properties(256))]

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            assert!(Fields(&bytes).count() <= bytes.len());
        }
    }
}
