//! Variants of a resource, of which each client gets the one that its dynamic parameters match (xRFC
//! TP2, `DynamicParameterConstraints`).
//!
//! A client subscribes to a locator: a name, and parameters such as `env: canary`. Within a stream that
//! is a name as any other, made of both ([`key`]), so that the rest of the machine needs to know
//! nothing of it: the [snapshot](super::snapshot) finds the variant behind such a name. A plain name has
//! no parameters, and gets the variant that asks for none.
//!
//! No client that is known sends locators yet; the fields are in Envoy's API since 2022.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use envoy_types::pb::envoy::service::discovery::v3 as pb;
use pb::dynamic_parameter_constraints::{Type, single_constraint::ConstraintType};
use prost::Message as _;

use super::ads::Refusal;
use super::resource::{framed, text};

/// Between the name and what follows it in a key: it sorts before all that names have, so that a name
/// and its keys are neighbours.
const SEPARATOR: char = '\0';

/// What a locator is called within a stream.
pub(super) fn key(locator: pb::ResourceLocator) -> String {
    let mut key = locator.name;
    let parameters: BTreeMap<String, String> = locator.dynamic_parameters.into_iter().collect();
    for part in parameters.iter().flat_map(|(key, value)| [key, value]) {
        key.push(SEPARATOR);
        key.push_str(part);
    }
    key
}

/// What a request asks for: names, and the keys of locators.
///
/// # Errors
/// Something has the character that separates the parts of a key.
pub(super) fn asked(
    mut names: Vec<String>,
    locators: Vec<pb::ResourceLocator>,
) -> Result<Vec<String>, Refusal> {
    let parts = locators.iter().flat_map(|locator| {
        let parameters = locator.dynamic_parameters.iter();
        std::iter::once(&locator.name).chain(parameters.flat_map(|(key, value)| [key, value]))
    });
    names.iter().chain(parts).try_for_each(|text| plain(text))?;
    names.extend(locators.into_iter().map(key));
    Ok(names)
}

/// # Errors
/// It has the character that separates the parts of a key.
pub(super) fn plain(text: &str) -> Result<(), Refusal> {
    match text.contains(SEPARATOR) {
        true => Err(Refusal::invalid(format!(
            "{text:?}: names and parameters of resources have no NUL in them"
        ))),
        false => Ok(()),
    }
}

/// The name in a key.
pub(super) fn name(key: &str) -> &str {
    key.split_once(SEPARATOR).map_or(key, |(name, _)| name)
}

/// The parameters in a key, with what separates them from its name; empty: it is a plain name.
pub(super) fn parameters(key: &str) -> &str {
    &key[name(key).len()..]
}

/// The parameters in a key, one by one.
fn pairs(key: &str) -> BTreeMap<&str, &str> {
    let mut parts = key.split(SEPARATOR).skip(1);
    let mut pairs = BTreeMap::new();
    while let (Some(key), Some(value)) = (parts.next(), parts.next()) {
        pairs.insert(key, value);
    }
    pairs
}

/// What a variant asks of parameters.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Constraints {
    rule: Rule,
    /// The message that says so.
    message: Bytes,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Rule {
    All(Vec<Rule>),
    Any(Vec<Rule>),
    Exists(String),
    Not(Box<Rule>),
    Value(String, String),
}

impl Constraints {
    /// Those of a message; `None`: it is none.
    pub(super) fn read(message: Bytes) -> Option<Self> {
        let constraints = pb::DynamicParameterConstraints::decode(message.clone()).ok()?;
        let rule = Rule::of(constraints);
        Some(Self { rule, message })
    }

    /// Whether the parameters in a key are those that are asked for.
    pub(super) fn match_key(&self, key: &str) -> bool {
        self.rule.matches(&pairs(key))
    }

    pub(super) fn message(&self) -> &Bytes {
        &self.message
    }
}

impl Rule {
    fn of(constraints: pb::DynamicParameterConstraints) -> Self {
        let all = |list: pb::dynamic_parameter_constraints::ConstraintList| {
            list.constraints.into_iter().map(Self::of).collect()
        };
        match constraints.r#type {
            None => Self::All(Vec::new()),
            Some(Type::AndConstraints(list)) => Self::All(all(list)),
            Some(Type::OrConstraints(list)) => Self::Any(all(list)),
            Some(Type::NotConstraints(inner)) => Self::Not(Box::new(Self::of(*inner))),
            Some(Type::Constraint(one)) => match one.constraint_type {
                Some(ConstraintType::Value(value)) => Self::Value(one.key, value),
                Some(ConstraintType::Exists(_)) => Self::Exists(one.key),
                // It asks for something that this version of the API does not have.
                None => Self::Any(Vec::new()),
            },
        }
    }

    fn matches(&self, parameters: &BTreeMap<&str, &str>) -> bool {
        match self {
            Self::All(rules) => rules.iter().all(|rule| rule.matches(parameters)),
            Self::Any(rules) => rules.iter().any(|rule| rule.matches(parameters)),
            Self::Exists(key) => parameters.contains_key(&**key),
            Self::Not(rule) => !rule.matches(parameters),
            Self::Value(key, value) => parameters.get(&**key) == Some(&&**value),
        }
    }
}

/// The fields of a `ResourceName`: of a variant, or of the parameters for which there is none.
pub(super) fn resource_name(key: &str, constraints: Option<&Constraints>) -> BytesMut {
    let mut out = BytesMut::new();
    text(&mut out, 1, name(key));
    let message = match constraints {
        Some(constraints) => constraints.message().clone(),
        None => Bytes::from(exactly(key).encode_to_vec()),
    };
    if !parameters(key).is_empty() || constraints.is_some() {
        out.extend_from_slice(&framed(2, &message));
    }
    out
}

/// The constraints that the parameters in a key match, and no others that have one of them otherwise.
fn exactly(key: &str) -> pb::DynamicParameterConstraints {
    use pb::dynamic_parameter_constraints::{ConstraintList, SingleConstraint};
    let one = |(key, value): (&str, &str)| pb::DynamicParameterConstraints {
        r#type: Some(Type::Constraint(SingleConstraint {
            key: key.to_owned(),
            constraint_type: Some(ConstraintType::Value(value.to_owned())),
        })),
    };
    pb::DynamicParameterConstraints {
        r#type: Some(Type::AndConstraints(ConstraintList {
            constraints: pairs(key).into_iter().map(one).collect(),
        })),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use pb::dynamic_parameter_constraints::{ConstraintList, SingleConstraint, single_constraint};

    use super::*;

    type Wire = pb::DynamicParameterConstraints;

    fn wire(of: Type) -> Wire {
        Wire { r#type: Some(of) }
    }

    fn single(key: &str, constraint_type: Option<ConstraintType>) -> Wire {
        let key = key.to_owned();
        wire(Type::Constraint(SingleConstraint {
            key,
            constraint_type,
        }))
    }

    fn is(key: &str, value: &str) -> Wire {
        single(key, Some(ConstraintType::Value(value.to_owned())))
    }

    fn has(key: &str) -> Wire {
        single(
            key,
            Some(ConstraintType::Exists(single_constraint::Exists {})),
        )
    }

    fn list(constraints: &[Wire]) -> ConstraintList {
        let constraints = constraints.to_vec();
        ConstraintList { constraints }
    }

    fn read(wire: &Wire) -> Constraints {
        Constraints::read(wire.encode_to_vec().into()).expect("it decodes")
    }

    /// `key` is `value`; without a value, `key` is not there.
    pub(in crate::control) fn constraints(key: &str, value: Option<&str>) -> Constraints {
        read(&match value {
            Some(value) => is(key, value),
            None => wire(Type::NotConstraints(Box::new(has(key)))),
        })
    }

    pub(in crate::control) fn locator(name: &str, parameters: &[(&str, &str)]) -> String {
        let parameters = parameters.iter();
        key(pb::ResourceLocator {
            name: name.to_owned(),
            dynamic_parameters: parameters
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
        })
    }

    #[test]
    fn d23_every_form_of_constraint_is_matched() {
        let both = wire(Type::AndConstraints(list(&[
            is("env", "canary"),
            has("zone"),
        ])));
        let either = wire(Type::OrConstraints(list(&[
            is("env", "canary"),
            has("zone"),
        ])));
        let not = wire(Type::NotConstraints(Box::new(both.clone())));
        type Row<'a> = (&'a [(&'a str, &'a str)], [bool; 6]);
        let rows: [Row; 5] = [
            (&[], [false, false, false, false, true, true]),
            (&[("env", "canary")], [true, false, false, true, true, true]),
            (&[("env", "prod")], [false, false, false, false, true, true]),
            (&[("zone", "a")], [false, true, false, true, true, true]),
            (
                &[("env", "canary"), ("zone", "a")],
                [true, true, true, true, false, true],
            ),
        ];
        for (parameters, expected) in rows {
            let key = locator("a", parameters);
            let all = [
                &is("env", "canary"),
                &has("zone"),
                &both,
                &either,
                &not,
                &Wire::default(),
            ];
            let found = all.map(|wire| read(wire).match_key(&key));
            assert_eq!(found, expected, "{parameters:?}");
        }
        assert!(!read(&single("env", None)).match_key(&locator("a", &[("env", "canary")])));
        assert!(Constraints::read(Bytes::from_static(b"\xff")).is_none());
    }

    #[test]
    fn names_and_parameters_with_what_separates_them_are_refused() {
        let locator = |name: &str, value: &str| pb::ResourceLocator {
            name: name.into(),
            dynamic_parameters: [("k".to_owned(), value.to_owned())].into(),
        };
        let good = asked(vec!["a".into()], vec![locator("b", "v")]).expect("no NUL");
        assert_eq!(good, ["a", "b\0k\0v"]);
        for (names, locators) in [
            (vec!["a\0k\0v".to_owned()], vec![]),
            (vec![], vec![locator("b\0", "v")]),
            (vec![], vec![locator("b", "v\0x\0y")]),
        ] {
            let refused = asked(names, locators).expect_err("it has a NUL");
            assert!(refused.message.contains("NUL"), "{}", refused.message);
        }
    }

    #[test]
    fn d23_a_key_is_a_name_and_parameters_in_one_order() {
        let one = locator("a", &[("x", "1"), ("y", "2")]);
        assert_eq!(one, locator("a", &[("y", "2"), ("x", "1")]));
        assert_eq!((name(&one), name("a")), ("a", "a"));
        assert_eq!(
            (parameters(&one), parameters("a")),
            ("\0x\x001\0y\x002", "")
        );
        assert_eq!(locator("a", &[]), "a");
        let named = pb::ResourceName::decode(resource_name(&one, None)).expect("it decodes");
        assert_eq!(named.name, "a");
        let constraints = named.dynamic_parameter_constraints.expect("its parameters");
        assert!(read(&constraints).match_key(&one));
        assert!(!read(&constraints).match_key(&locator("a", &[("x", "1")])));
        let plain = pb::ResourceName::decode(resource_name("a", None)).expect("it decodes");
        assert!(plain.dynamic_parameter_constraints.is_none());
    }
}
