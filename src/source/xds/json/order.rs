//! The entries of maps in order, so that equal messages are equal bytes.

use prost_reflect::{Kind, MessageDescriptor};

use super::descriptor;
use crate::protobuf::{Field, Fields, put_bytes};

/// Messages inside of each other; protobuf's own limit.
const DEPTH: usize = 100;

/// The message with its maps in order. Bytes that are no message of that type stay as they are.
pub(crate) fn sorted(of: &MessageDescriptor, bytes: Vec<u8>) -> Vec<u8> {
    rewritten(of, &bytes, DEPTH).unwrap_or(bytes)
}

fn rewritten(of: &MessageDescriptor, bytes: &[u8], depth: usize) -> Option<Vec<u8>> {
    if depth == 0 {
        return None;
    }
    if of.full_name() == "google.protobuf.Any" {
        return any(bytes, depth);
    }
    let mut out = Vec::with_capacity(bytes.len());
    let mut entries: Vec<(u32, Vec<u8>)> = Vec::new();
    for field in Fields(bytes) {
        let field = field.ok()?;
        let known = of.get_field(field.number);
        let inner = known.as_ref().and_then(|known| match known.kind() {
            Kind::Message(inner) => Some(inner),
            _scalar => None,
        });
        let whole = match (inner, field.content()) {
            (Some(inner), Some(content)) => {
                let content = rewritten(&inner, content, depth - 1)?;
                let mut whole = Vec::with_capacity(content.len() + 10);
                put_bytes(&mut whole, field.number, &content);
                whole
            }
            _ => field.whole.to_vec(),
        };
        match known.is_some_and(|known| known.is_map()) {
            true => entries.push((field.number, whole)),
            false => out.extend_from_slice(&whole),
        }
    }
    entries.sort_unstable();
    for (_, entry) in entries {
        out.extend_from_slice(&entry);
    }
    Some(out)
}

/// An `Any`: its type (1) says how its value (2) is read.
fn any(bytes: &[u8], depth: usize) -> Option<Vec<u8>> {
    let fields: Vec<Field<'_>> = Fields(bytes).collect::<Result<_, _>>().ok()?;
    let url = fields.iter().find(|field| field.number == 1)?.content()?;
    let Some(inner) = descriptor(std::str::from_utf8(url).ok()?) else {
        return Some(bytes.to_vec());
    };
    let mut out = Vec::with_capacity(bytes.len());
    for field in fields {
        match (field.number, field.content()) {
            (2, Some(content)) => {
                let content = rewritten(&inner, content, depth - 1)?;
                put_bytes(&mut out, 2, &content);
            }
            _ => out.extend_from_slice(field.whole),
        }
    }
    Some(out)
}
