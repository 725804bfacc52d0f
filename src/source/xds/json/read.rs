//! Messages from JSON.

use std::fmt::Write as _;

use prost_reflect::prost::Message as _;
use prost_reflect::{DynamicMessage, Kind, MessageDescriptor};
use serde_json::{Map, Value as Json};

use super::descriptor;
use super::order::sorted;
use crate::source::istio::did_you_mean;

/// The most that is told of one message.
const MISFITS: usize = 100;
/// Objects inside of each other.
const DEPTH: usize = 100;

/// Something in a text that the message has no place for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Misfit {
    /// Where, from the message: `load_assignment.endpoints[0].priority`. Empty: the message itself.
    pub(crate) path: String,
    /// What was found, and what is allowed.
    pub(crate) text: String,
    /// What may have been meant.
    pub(crate) hint: Option<String>,
}

impl Misfit {
    fn new(path: &str, text: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            text: text.into(),
            hint: None,
        }
    }
}

/// The bytes of a message of a type. `@type` may be among its fields and is not looked at.
///
/// # Errors
/// All fields and types that are unknown; if there are none, the first value that does not fit.
pub(crate) fn read(
    of: &MessageDescriptor,
    mut object: Map<String, Json>,
) -> Result<Vec<u8>, Vec<Misfit>> {
    object.remove("@type");
    let object = Json::Object(object);
    let mut misfits = Vec::new();
    unknown(of, &object, &mut String::new(), DEPTH, &mut misfits);
    if !misfits.is_empty() {
        return Err(misfits);
    }
    let mut options = prost_reflect::DeserializeOptions::new();
    options = options.deny_unknown_fields(true);
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(object, &mut track);
    match DynamicMessage::deserialize_with_options(of.clone(), tracked, &options) {
        Ok(message) => Ok(sorted(of, message.encode_to_vec())),
        Err(error) => {
            let path = track.path().to_string();
            let path = path.trim_matches('.').trim_start_matches('?');
            Err(vec![Misfit::new(path, error.to_string())])
        }
    }
}

/// Finds fields and types that nobody knows.
fn unknown(
    of: &MessageDescriptor,
    json: &Json,
    path: &mut String,
    depth: usize,
    misfits: &mut Vec<Misfit>,
) {
    if misfits.len() >= MISFITS {
        return;
    }
    if depth == 0 {
        misfits.push(Misfit::new(
            path,
            format!("is deeper than {DEPTH} messages"),
        ));
        return;
    }
    let Json::Object(object) = json else {
        return;
    };
    match of.full_name() {
        "google.protobuf.Any" => return of_any(object, path, depth, misfits),
        name if name.starts_with("google.protobuf.") => return,
        _ => {}
    }
    for (key, value) in object {
        let before = path.len();
        step(path, key);
        let named = of.get_field_by_name(key);
        match named.or_else(|| of.get_field_by_json_name(key)) {
            None => misfits.push(no_such(of, key, path)),
            Some(field) => {
                if let Kind::Message(inner) = field.kind() {
                    let inner = match field.is_map() {
                        true => inner.map_entry_value_field().kind().as_message().cloned(),
                        false => Some(inner),
                    };
                    if let Some(inner) = inner {
                        members(&inner, (field.is_map(), value), path, depth, misfits);
                    }
                }
            }
        }
        path.truncate(before);
    }
}

fn members(
    of: &MessageDescriptor,
    (is_map, value): (bool, &Json),
    path: &mut String,
    depth: usize,
    misfits: &mut Vec<Misfit>,
) {
    let before = path.len();
    match value {
        Json::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                // Writing to a string cannot fail.
                let _ = write!(path, "[{index}]");
                unknown(of, item, path, depth - 1, misfits);
                path.truncate(before);
            }
        }
        Json::Object(entries) if is_map => {
            for (key, item) in entries {
                step(path, key);
                unknown(of, item, path, depth - 1, misfits);
                path.truncate(before);
            }
        }
        other => unknown(of, other, path, depth - 1, misfits),
    }
}

fn of_any(object: &Map<String, Json>, path: &mut String, depth: usize, misfits: &mut Vec<Misfit>) {
    let Some(url) = object.get("@type").and_then(Json::as_str) else {
        let text = "has no \"@type\"; a message of any type says its own, such as \
                    \"type.googleapis.com/envoy.extensions.filters.http.router.v3.Router\"";
        misfits.push(Misfit::new(path, text));
        return;
    };
    let Some(of) = descriptor(url) else {
        let text = format!("{url:?} is no type of Envoy's API that is known here");
        misfits.push(Misfit::new(&format!("{path}.@type"), text));
        return;
    };
    let mut rest = object.clone();
    rest.remove("@type");
    unknown(&of, &Json::Object(rest), path, depth - 1, misfits);
}

fn no_such(of: &MessageDescriptor, key: &str, path: &str) -> Misfit {
    let names: Vec<String> = of.fields().map(|field| field.name().to_owned()).collect();
    let all = names.iter().map(String::as_str);
    let meant = did_you_mean(key, all);
    let text = format!("{} has no field of this name", of.full_name());
    Misfit {
        hint: meant.map(|name| format!("did you mean {name:?}?")),
        ..Misfit::new(path, text)
    }
}

fn step(path: &mut String, key: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(key);
}
