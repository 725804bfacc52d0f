//! Changes of headers.
//!
//! Each level (route configuration, virtual host, route, weighted cluster) removes first and adds
//! then, in the order of its list; the levels follow each other from the most specific to the
//! least, or the other way round where `most_specific_header_mutations_wins` says so (Envoy's
//! rules). The model has one list per route, so the levels are joined here.

use http::{HeaderName, HeaderValue};

use super::place::Place;
use super::value;
use crate::model::route::{HeaderChange, HeaderChanges};
use crate::source::xds::proto::core;

/// The fields of one level.
pub(super) struct Level<'a> {
    pub(super) request_add: &'a [core::HeaderValueOption],
    pub(super) request_remove: &'a [String],
    pub(super) response_add: &'a [core::HeaderValueOption],
    pub(super) response_remove: &'a [String],
}

pub(super) fn level(place: &Place<'_>, level: &Level<'_>) -> Option<HeaderChanges> {
    ordered(place, level, "", "")
}

/// One level whose changes stand in another order: `r` takes the next removal, `a` the next
/// addition. An order that does not fit is none.
pub(super) fn ordered(
    place: &Place<'_>,
    level: &Level<'_>,
    request_order: &str,
    response_order: &str,
) -> Option<HeaderChanges> {
    let request_add = added(&place.field("request_headers_to_add"), level.request_add);
    let request_remove = removed(
        &place.field("request_headers_to_remove"),
        level.request_remove,
    );
    let response_add = added(&place.field("response_headers_to_add"), level.response_add);
    let response_remove = removed(
        &place.field("response_headers_to_remove"),
        level.response_remove,
    );
    Some(HeaderChanges {
        request: in_order(request_order, request_remove?, request_add?),
        response: in_order(response_order, response_remove?, response_add?),
    })
}

pub(super) fn joined(first: HeaderChanges, then: HeaderChanges) -> HeaderChanges {
    let HeaderChanges {
        mut request,
        mut response,
    } = first;
    request.extend(then.request);
    response.extend(then.response);
    HeaderChanges { request, response }
}

fn in_order(
    order: &str,
    removals: Vec<HeaderChange>,
    additions: Vec<HeaderChange>,
) -> Vec<HeaderChange> {
    let count = |letter| order.bytes().filter(|byte| *byte == letter).count();
    let fits = count(b'r') == removals.len()
        && count(b'a') == additions.len()
        && order.len() == removals.len() + additions.len();
    let (mut removals, mut additions) = (removals.into_iter(), additions.into_iter());
    if !fits {
        return removals.chain(additions).collect();
    }
    order
        .bytes()
        .filter_map(|letter| match letter {
            b'r' => removals.next(),
            _ => additions.next(),
        })
        .collect()
}

fn removed(place: &Place<'_>, names: &[String]) -> Option<Vec<HeaderChange>> {
    let all: Vec<Option<HeaderChange>> = names
        .iter()
        .enumerate()
        .map(|(index, name)| {
            value::header_name(&place.index(index), name).map(HeaderChange::Remove)
        })
        .collect();
    all.into_iter().collect()
}

pub(super) fn added(
    place: &Place<'_>,
    options: &[core::HeaderValueOption],
) -> Option<Vec<HeaderChange>> {
    let mut all = Vec::with_capacity(options.len());
    let mut faulty = false;
    for (index, option) in options.iter().enumerate() {
        match addition(&place.index(index), option) {
            Some(change) => all.extend(change),
            None => faulty = true,
        }
    }
    (!faulty).then_some(all)
}

/// `Some(None)`: without effect, since an empty value is dropped unless it is kept.
fn addition(place: &Place<'_>, option: &core::HeaderValueOption) -> Option<Option<HeaderChange>> {
    use core::header_value_option::HeaderAppendAction as Append;
    let core::HeaderValueOption {
        header,
        append,
        append_action,
        keep_empty_value,
    } = option;
    let header_place = place.field("header");
    let core::HeaderValue {
        key,
        value,
        raw_value,
    } = header_place.required(header.as_ref())?;
    let name = value::header_name(&header_place.field("key"), key);
    let bytes = match raw_value.is_empty() {
        true => value.as_bytes(),
        false => raw_value,
    };
    let value = value::header_value(&header_place.field("value"), bytes);
    // The deprecated field wins where it is set, as in Envoy.
    let action = match append {
        Some(append) if append.value => Append::AppendIfExistsOrAdd,
        Some(_) => Append::OverwriteIfExistsOrAdd,
        None => match Append::try_from(*append_action) {
            Ok(action) => action,
            Err(_) => {
                return place.field("append_action").fault(format_args!(
                    "{append_action} is unknown; 0 to 3 are allowed"
                ));
            }
        },
    };
    let (name, value): (HeaderName, HeaderValue) = (name?, value?);
    if value.is_empty() && !keep_empty_value {
        return Some(None);
    }
    Some(Some(match action {
        Append::AppendIfExistsOrAdd => HeaderChange::Add(name, value),
        Append::AddIfAbsent => HeaderChange::AddIfAbsent(name, value),
        Append::OverwriteIfExistsOrAdd => HeaderChange::Set(name, value),
        Append::OverwriteIfExists => HeaderChange::SetIfPresent(name, value),
    }))
}
