//! Changes of headers, as additions and removals. The messages have two lists, the model one, so
//! that an order other than "remove, then add" is told beside them.

use http::HeaderValue;

use super::Pen;
use super::loss::Loss;
use super::routes::unchanged;
use crate::model::route::{HeaderChange, HeaderChanges};
use crate::source::xds::proto::core;

#[derive(Default)]
pub(super) struct Level {
    pub(super) request_add: Vec<core::HeaderValueOption>,
    pub(super) request_remove: Vec<String>,
    /// Empty where removals come first.
    pub(super) request_order: String,
    pub(super) response_add: Vec<core::HeaderValueOption>,
    pub(super) response_remove: Vec<String>,
    pub(super) response_order: String,
}

/// gRPC does not change headers, so nothing is sent to it.
pub(super) fn level(pen: &mut Pen<'_>, changes: &HeaderChanges) -> Level {
    if pen.is_grpc() {
        pen.lose_if(!unchanged(changes), Loss::HeaderChanges);
        return Level::default();
    }
    let HeaderChanges { request, response } = changes;
    let mut level = Level::default();
    (level.request_remove, level.request_add, level.request_order) = split(request);
    (
        level.response_remove,
        level.response_add,
        level.response_order,
    ) = split(response);
    let ordered = !level.request_order.is_empty() || !level.response_order.is_empty();
    pen.lose_if(ordered && !pen.is_meshwork(), Loss::HeaderOrder);
    level
}

fn split(changes: &[HeaderChange]) -> (Vec<String>, Vec<core::HeaderValueOption>, String) {
    use core::header_value_option::HeaderAppendAction as Append;
    let mut remove = Vec::new();
    let mut add = Vec::new();
    let mut order = String::with_capacity(changes.len());
    for change in changes {
        let (name, value, action) = match change {
            HeaderChange::Remove(name) => {
                order.push('r');
                remove.push(name.as_str().to_owned());
                continue;
            }
            HeaderChange::Add(name, value) => (name, value, Append::AppendIfExistsOrAdd),
            HeaderChange::AddIfAbsent(name, value) => (name, value, Append::AddIfAbsent),
            HeaderChange::Set(name, value) => (name, value, Append::OverwriteIfExistsOrAdd),
            HeaderChange::SetIfPresent(name, value) => (name, value, Append::OverwriteIfExists),
        };
        order.push('a');
        add.push(core::HeaderValueOption {
            header: Some(header(name.as_str(), value)),
            append_action: action.into(),
            keep_empty_value: value.is_empty(),
            ..core::HeaderValueOption::default()
        });
    }
    if !order.contains("ar") {
        order.clear();
    }
    (remove, add, order)
}

/// What is no UTF-8 goes as bytes.
fn header(name: &str, value: &HeaderValue) -> core::HeaderValue {
    let mut header = core::HeaderValue {
        key: name.to_owned(),
        ..core::HeaderValue::default()
    };
    match std::str::from_utf8(value.as_bytes()) {
        Ok(text) => text.clone_into(&mut header.value),
        Err(_) => header.raw_value = value.as_bytes().to_vec(),
    }
    header
}
