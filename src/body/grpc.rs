//! One message of gRPC in a body of its own, for calls that have one message each way.

use bytes::{BufMut, Bytes, BytesMut};

/// Whether the message is compressed, and its length.
const FRAME: usize = 5;

/// A message in its frame; `None` if it has 4 GiB or more.
pub(crate) fn framed(message: &[u8]) -> Option<Bytes> {
    let mut frame = BytesMut::with_capacity(FRAME + message.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).ok()?);
    frame.put_slice(message);
    Some(frame.freeze())
}

/// The message of a body that is one uncompressed frame.
pub(crate) fn message(body: &[u8]) -> Option<&[u8]> {
    let (frame, message) = body.split_first_chunk::<FRAME>()?;
    let [0, length @ ..] = *frame else {
        return None;
    };
    let length = u32::from_be_bytes(length);
    (usize::try_from(length).ok()? == message.len()).then_some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_holds_one_message_that_is_whole() {
        let frame = framed(b"abc").unwrap();
        assert_eq!(&frame[..], b"\0\0\0\0\x03abc");
        assert_eq!(message(&frame), Some(&b"abc"[..]));
        for bad in [
            &b""[..],
            b"\0\0\0\0",
            b"\x01\0\0\0\x01a",
            b"\0\0\0\0\x02a",
            b"\0\0\0\0\x01ab",
        ] {
            assert_eq!(message(bad), None, "{bad:?}");
        }
    }
}
