//! Messages as JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, ReflectMessage as _, Value};
use serde_json::{Map, Value as Json};

use super::{REDACTED, SENSITIVE, descriptor, is_secret_header};

/// A message of a type, as protobuf's JSON with the names of the proto files, and with `@type` as in
/// an `Any`. What is not known, or is no such message, is shown as `value`, in base64.
pub(crate) fn print(type_url: &str, bytes: &[u8]) -> Json {
    let mut object = Map::new();
    object.insert("@type".to_owned(), type_url.into());
    let decoded = descriptor(type_url).and_then(|of| DynamicMessage::decode(of, bytes).ok());
    match decoded.as_ref().map(message) {
        Some(Json::Object(fields)) => object.extend(fields),
        // Of the well-known types some are no objects; protobuf puts them beside their type.
        Some(other) => {
            object.insert("value".to_owned(), other);
        }
        None => {
            object.insert("value".to_owned(), STANDARD.encode(bytes).into());
        }
    }
    Json::Object(object)
}

fn message(of: &DynamicMessage) -> Json {
    let descriptor = of.descriptor();
    match descriptor.full_name() {
        "google.protobuf.Any" => any(of),
        // Durations, timestamps, wrappers, structs.
        name if name.starts_with("google.protobuf.") => well_known(of),
        _ => {
            let credentials = is_secret_header(of);
            let fields = of.fields().map(|(field, content)| {
                let hidden = SENSITIVE.contains(field.full_name())
                    || (credentials && matches!(field.name(), "value" | "raw_value"));
                let shown = match hidden {
                    true => redacted(content),
                    false => value(&field, content),
                };
                (field.name().to_owned(), shown)
            });
            Json::Object(fields.collect())
        }
    }
}

/// Those that JSON cannot say, such as a time after the year 9999, are shown as they are.
fn well_known(of: &DynamicMessage) -> Json {
    use prost_reflect::prost::Message as _;
    serde_json::to_value(of).unwrap_or_else(|_| STANDARD.encode(of.encode_to_vec()).into())
}

fn any(of: &DynamicMessage) -> Json {
    let field = |number| of.get_field_by_number(number);
    let (url, content) = (field(1), field(2));
    let url = url.as_deref().and_then(Value::as_str).unwrap_or_default();
    let content = content.as_deref().and_then(Value::as_bytes);
    print(url, content.map(|bytes| &**bytes).unwrap_or_default())
}

fn value(field: &FieldDescriptor, of: &Value) -> Json {
    match of {
        Value::List(items) => items
            .iter()
            .map(|item| scalar(&field.kind(), item))
            .collect(),
        Value::Map(entries) => {
            let Kind::Message(entry) = field.kind() else {
                return Json::Null;
            };
            let kind = entry.map_entry_value_field().kind();
            let entries = entries.iter();
            let entries = entries.map(|(key, of)| (text(key), scalar(&kind, of)));
            Json::Object(entries.collect())
        }
        other => scalar(&field.kind(), other),
    }
}

fn scalar(kind: &Kind, of: &Value) -> Json {
    match of {
        Value::Bool(flag) => (*flag).into(),
        Value::I32(number) => (*number).into(),
        Value::U32(number) => (*number).into(),
        // As texts: readers of JSON keep 53 bits of a number.
        Value::I64(number) => number.to_string().into(),
        Value::U64(number) => number.to_string().into(),
        Value::F32(number) => float(f64::from(*number)),
        Value::F64(number) => float(*number),
        Value::String(text) => text.as_str().into(),
        Value::Bytes(bytes) => STANDARD.encode(bytes).into(),
        Value::EnumNumber(number) => match kind {
            Kind::Enum(of) => of
                .get_value(*number)
                .map_or_else(|| (*number).into(), |value| value.name().into()),
            _ => (*number).into(),
        },
        Value::Message(inner) => message(inner),
        // Neither is inside of another.
        Value::List(_) | Value::Map(_) => Json::Null,
    }
}

fn float(number: f64) -> Json {
    let text = match number {
        number if number.is_nan() => "NaN",
        f64::INFINITY => "Infinity",
        f64::NEG_INFINITY => "-Infinity",
        number => return number.into(),
    };
    text.into()
}

fn text(key: &MapKey) -> String {
    match key {
        MapKey::Bool(flag) => flag.to_string(),
        MapKey::I32(number) => number.to_string(),
        MapKey::I64(number) => number.to_string(),
        MapKey::U32(number) => number.to_string(),
        MapKey::U64(number) => number.to_string(),
        MapKey::String(text) => text.clone(),
    }
}

/// The shape of what is secret: which fields are set, and nothing of what is in them.
fn redacted(of: &Value) -> Json {
    match of {
        Value::List(items) => items.iter().map(redacted).collect(),
        Value::Message(inner) if inner.descriptor().full_name().starts_with("envoy.") => {
            let fields = inner.fields();
            let fields = fields.map(|(field, of)| (field.name().to_owned(), redacted(of)));
            Json::Object(fields.collect())
        }
        _ => REDACTED.into(),
    }
}
