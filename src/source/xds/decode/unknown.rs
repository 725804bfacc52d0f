//! Fields of a newer API in messages that secure.
//!
//! Protobuf ignores fields that it does not know (gRFC A27), and so does this library, but not where
//! a message says who may do what: a condition that is left out makes a rule wider than it is meant,
//! and nobody would learn of it. The generated messages forget what they do not know, so the bytes
//! are looked at a second time, by the descriptors of the same API.

use prost_reflect::{DynamicMessage, Value};

use super::place::Place;
use crate::source::xds::json;
use crate::source::xds::proto::Any;

/// Refuses a message that has fields which are not known here, at any depth. What is in an `Any`
/// inside of it is for who reads that.
pub(super) fn refuse(place: &Place<'_>, any: &Any) -> Option<()> {
    let Some(descriptor) = json::descriptor(&any.type_url) else {
        return Some(());
    };
    match DynamicMessage::decode(descriptor, &*any.value) {
        Ok(message) => walk(place, &message),
        Err(error) => place.fault(format_args!("is no such message: {error}")),
    }
}

fn walk(place: &Place<'_>, message: &DynamicMessage) -> Option<()> {
    let mut fine = Some(());
    for unknown in message.unknown_fields() {
        fine = place.fault(format_args!(
            "has the field {} of a newer API, which is not known here; what secures is never \
             ignored",
            unknown.number()
        ));
    }
    for (field, content) in message.fields() {
        let place = place.field(field.name());
        let inner = match content {
            Value::List(items) => all(items.iter().enumerate(), |(index, item)| {
                value(&place.index(index), item)
            }),
            Value::Map(entries) => all(entries.iter(), |(key, entry)| {
                value(&place.key(key.as_str().unwrap_or_default()), entry)
            }),
            single => value(&place, single),
        };
        fine = inner.and(fine);
    }
    fine
}

fn value(place: &Place<'_>, value: &Value) -> Option<()> {
    match value {
        Value::Message(message) => walk(place, message),
        _ => Some(()),
    }
}

/// Looks at all of them, also behind a fault.
fn all<T>(items: impl Iterator<Item = T>, mut look: impl FnMut(T) -> Option<()>) -> Option<()> {
    let mut fine = Some(());
    for item in items {
        fine = look(item).and(fine);
    }
    fine
}
