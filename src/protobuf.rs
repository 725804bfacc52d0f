//! Messages of protobuf as their fields, without what they mean: read and written by hand.
//!
//! Identities, load reports and checks of health are messages with a handful of fields each. Reading
//! them here keeps a runtime and a code generator out of builds that speak nothing else of protobuf;
//! those that have one read here as well what it does not tell, such as the order of fields.

use bytes::BufMut;
use thiserror::Error;

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    /// A text, bytes or a message.
    Bytes(&'a [u8]),
    Double(f64),
    /// Four bytes, whatever they are.
    Fixed,
    Number(u64),
}

/// One field of a message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Field<'a> {
    pub(crate) number: u32,
    pub(crate) value: Value<'a>,
    /// With its tag.
    #[cfg_attr(
        not(feature = "xds"),
        allow(dead_code, reason = "only messages of xDS are written anew")
    )]
    pub(crate) whole: &'a [u8],
}

#[cfg(feature = "xds")]
impl<'a> Field<'a> {
    /// Of a field with a length.
    pub(crate) fn content(&self) -> Option<&'a [u8]> {
        match self.value {
            Value::Bytes(content) => Some(content),
            Value::Double(_) | Value::Fixed | Value::Number(_) => None,
        }
    }
}

/// The bytes are no message.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("it is no protobuf message")]
pub(crate) struct Malformed;

/// The fields of a message, in their order; nothing comes after what cannot be read. Unknown ones are
/// for the reader to skip.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<Field<'a>> {
        let bytes = self.0;
        let tag = self.number()?;
        // Zero is the number of no field.
        let number = u32::try_from(tag >> 3).ok().filter(|number| *number > 0)?;
        let value = match tag & 7 {
            0 => Value::Number(self.number()?),
            1 => Value::Double(f64::from_le_bytes(*self.take(8)?.first_chunk()?)),
            2 => {
                let length = usize::try_from(self.number()?).ok()?;
                Value::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            // Groups, which proto3 does not have, and what is no wire type at all.
            _ => return None,
        };
        let (whole, _) = bytes.split_at_checked(bytes.len() - self.0.len())?;
        Some(Field {
            number,
            value,
            whole,
        })
    }

    /// Seven bits in a byte, the low ones first, and a bit that says that more follow. Bits above the
    /// 64th fall off, as in every decoder.
    fn number(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.0.split_off_first()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        self.0.split_off(..length)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field().ok_or(Malformed);
        if field.is_err() {
            // Nothing can be read behind what cannot be read.
            self.0 = &[];
        }
        Some(field)
    }
}

/// Appends a number: one byte below 128, ten at most.
pub(crate) fn put(out: &mut impl BufMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Appends a field of bytes.
pub(crate) fn put_bytes(out: &mut impl BufMut, number: u32, bytes: &[u8]) {
    put(out, u64::from(number) << 3 | 2);
    put(out, bytes.len() as u64);
    out.put_slice(bytes);
}

/// Appends a field that is a number.
#[cfg(any(feature = "outbound", test))]
pub(crate) fn put_number(out: &mut impl BufMut, number: u32, value: u64) {
    put(out, u64::from(number) << 3);
    put(out, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<(u32, Value<'_>)>, Malformed> {
        let fields = Fields(bytes).map(|field| field.map(|field| (field.number, field.value)));
        fields.collect()
    }

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
            assert_eq!(Fields(&out).number(), Some(number));
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let mut out = Vec::new();
        put_bytes(&mut out, 1, b"ab");
        put_number(&mut out, 3, 300);
        assert_eq!(out, b"\x0a\x02ab\x18\xac\x02");
        let both = vec![(1, Value::Bytes(b"ab")), (3, Value::Number(300))];
        assert_eq!(read(&out), Ok(both));
        let wholes: Vec<&[u8]> = Fields(&out).map(|field| field.unwrap().whole).collect();
        assert_eq!(wholes, [&b"\x0a\x02ab"[..], b"\x18\xac\x02"]);
        let mut fixed = b"\x25abcd\x29".to_vec();
        fixed.extend_from_slice(&0.5_f64.to_le_bytes());
        let both = vec![(4, Value::Fixed), (5, Value::Double(0.5))];
        assert_eq!(read(&fixed), Ok(both));
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
            ("field 0", b"\x00\x01"),
            (
                "a number of a field that does not fit",
                b"\x80\x80\x80\x80\x80\x80\x01\x01",
            ),
        ] {
            assert!(Fields(bytes).any(|field| field.is_err()), "{row}");
        }
    }

    proptest::proptest! {
        #![proptest_config(crate::random::properties(256))]

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let wholes: usize = Fields(&bytes).flatten().map(|field| field.whole.len()).sum();
            assert!(wholes <= bytes.len() && Fields(&bytes).count() <= bytes.len());
        }
    }
}
