//! A wrapper that makes its resource one variant of several.

use std::sync::Arc;

use serde_json::{Map, Value as Json};

use super::Reader;
use crate::source::istio::fault::Code;
use crate::source::istio::yaml::Node;
use crate::source::xds::json;

/// What tells variants of a resource apart.
const CONSTRAINTS: &str = "envoy.service.discovery.v3.DynamicParameterConstraints";

/// A name, and the message that says what is asked of parameters.
pub(super) type Variant = (Arc<str>, Option<Vec<u8>>);

impl Reader<'_> {
    /// The name of a variant and what it asks for, from `resource_name` of a wrapper. The outer `None`:
    /// it is not as it should be.
    #[allow(
        clippy::option_option,
        reason = "the outer one ends the resource, as a fault does everywhere here"
    )]
    pub(super) fn variant(
        &mut self,
        node: &Node,
        path: &str,
        wrapper: &Map<String, Json>,
        name: Option<&Arc<str>>,
    ) -> Option<Option<Variant>> {
        let either = |of: &Map<String, Json>, snake: &str, camel: &str| {
            of.get(snake).or_else(|| of.get(camel)).cloned()
        };
        let Some(Json::Object(found)) = either(wrapper, "resource_name", "resourceName") else {
            return Some(None);
        };
        let own = found.get("name").and_then(Json::as_str).unwrap_or_default();
        if own.is_empty() || name.is_some() {
            let text = match name {
                Some(_) => "stands beside name: only one of the two may be set",
                None => "has no name, by which clients ask for it",
            };
            let place = (node.line, node.column);
            self.fault(
                place,
                Code::Value,
                &format!("{path}.resource_name"),
                text.to_owned(),
            );
            return None;
        }
        let constraints = either(
            &found,
            "dynamic_parameter_constraints",
            "dynamicParameterConstraints",
        );
        let constraints = match constraints {
            // It was read as a part of the whole before.
            Some(Json::Object(constraints)) => {
                Some(json::read(&json::descriptor(CONSTRAINTS)?, constraints).ok()?)
            }
            _ => None,
        };
        Some(Some((own.into(), constraints)))
    }
}
