//! Metrics that deviate from Istio's standard: labels that are left out, added or replaced.
//!
//! Shapes are applied where metrics are read and where instruments are bound, never where a request is
//! recorded. What a label that is left out told apart is added up then. A label is never a text of a
//! caller's choice, so that shapes do not loosen the bound on series; the method is one of ten.

use std::collections::BTreeMap;

use http::Method;

use super::histogram::Distribution;
use crate::model::telemetry::{LabelValue, Shape};

/// Labels with their values, in order.
pub(crate) type Pairs = Vec<(String, String)>;

/// The method of a request, as a label.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(u8)]
pub(crate) enum Verb {
    /// Nobody asks.
    #[default]
    Unasked,
    Connect,
    Delete,
    Get,
    Head,
    Options,
    Other,
    Patch,
    Post,
    Put,
    Trace,
}

impl Verb {
    pub(crate) fn of(method: &Method) -> Self {
        match method.as_str() {
            "CONNECT" => Self::Connect,
            "DELETE" => Self::Delete,
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "OPTIONS" => Self::Options,
            "PATCH" => Self::Patch,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            "TRACE" => Self::Trace,
            _ => Self::Other,
        }
    }

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Unasked => "unknown",
            Self::Connect => "CONNECT",
            Self::Delete => "DELETE",
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Options => "OPTIONS",
            Self::Other => "other",
            Self::Patch => "PATCH",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Trace => "TRACE",
        }
    }
}

/// The labels of a metric; `None`: it is not told.
pub(super) fn apply(
    shape: Option<&Shape>,
    labels: &[(&'static str, &str)],
    verb: &str,
) -> Option<Pairs> {
    let owned = |(name, value): &(&'static str, &str)| ((*name).to_owned(), (*value).to_owned());
    let Some(shape) = shape else {
        return Some(labels.iter().map(owned).collect());
    };
    if shape.disabled {
        return None;
    }
    let value = |of: &LabelValue| match of {
        LabelValue::Label(label) => labels
            .iter()
            .find(|(name, _)| *name == &**label)
            .map_or("unknown", |(_, value)| value)
            .to_owned(),
        LabelValue::Literal(text) => text.to_string(),
        LabelValue::Method => verb.to_owned(),
    };
    let stays = |(name, _): &&(&'static str, &str)| {
        !shape.removed.contains(*name) && !shape.set.contains_key(*name)
    };
    let mut pairs: Pairs = labels.iter().filter(stays).map(owned).collect();
    let set = shape.set.iter();
    pairs.extend(set.map(|(name, of)| (name.to_string(), value(of))));
    Some(pairs)
}

/// Distributions by their labels, those with the same labels added up.
#[derive(Debug, Default)]
pub(super) struct Sums(BTreeMap<Pairs, Distribution>);

impl Sums {
    pub(super) fn add(&mut self, labels: Pairs, values: &Distribution) {
        match self.0.get_mut(&labels) {
            Some(sum) => sum.add(values),
            None => {
                self.0.insert(labels, values.clone());
            }
        }
    }

    /// Takes off what was counted elsewhere, as far as it is here.
    pub(super) fn subtract(&mut self, labels: &Pairs, values: &Distribution) {
        if let Some(sum) = self.0.get_mut(labels) {
            sum.subtract(values);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Vec<(&str, &str)>, &Distribution)> {
        self.0.iter().map(|(labels, values)| {
            let labels = labels.iter();
            let labels = labels.map(|(name, value)| (name.as_str(), value.as_str()));
            (labels.collect(), values)
        })
    }
}
