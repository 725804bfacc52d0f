//! Messages as their fields, without what they mean.

/// One field of a message.
pub(in crate::source::xds) struct Field<'a> {
    pub(in crate::source::xds) number: u32,
    /// With its tag.
    pub(in crate::source::xds) whole: &'a [u8],
    /// Of a field with a length.
    pub(in crate::source::xds) content: Option<&'a [u8]>,
}

impl<'a> Field<'a> {
    /// The fields of a message; `None` where it is none, and nothing after it.
    pub(in crate::source::xds) fn all(bytes: &'a [u8]) -> impl Iterator<Item = Option<Self>> {
        let mut rest = Some(bytes);
        std::iter::from_fn(move || {
            let bytes = rest.take().filter(|bytes| !bytes.is_empty())?;
            let field = Self::read(bytes);
            rest = field.as_ref().map(|field| &bytes[field.whole.len()..]);
            Some(field)
        })
    }

    fn read(bytes: &'a [u8]) -> Option<Self> {
        let (tag, begin) = read_varint(bytes)?;
        let number = u32::try_from(tag >> 3).ok()?;
        let (content, end) = match tag & 7 {
            0 => (None, begin + read_varint(bytes.get(begin..)?)?.1),
            1 => (None, begin + 8),
            2 => {
                let (length, size) = read_varint(bytes.get(begin..)?)?;
                let start = begin + size;
                let end = start.checked_add(usize::try_from(length).ok()?)?;
                (Some(bytes.get(start..end)?), end)
            }
            5 => (None, begin + 4),
            _ => return None,
        };
        Some(Self {
            number,
            whole: bytes.get(..end)?,
            content,
        })
    }
}

/// A number, and how many bytes it takes.
fn read_varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0u64;
    for (index, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f).checked_shl(7 * index as u32)?;
        if byte & 0x80 == 0 {
            return Some((value, index + 1));
        }
    }
    None
}
