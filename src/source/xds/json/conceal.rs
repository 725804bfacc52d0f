//! Messages without their secrets, as messages: for whoever asks a process what it has.
//!
//! What Envoy's API marks as sensitive and the values of headers that carry credentials are replaced, at
//! any depth. What the Meshwork dialect adds for this library alone is left out: tools print a message as
//! JSON, which fails as a whole on a type that they do not know. A message that has none of all that stays
//! as it came, byte by byte.

use prost_reflect::prost::Message as _;
use prost_reflect::{DynamicMessage, FieldDescriptor, MapKey, ReflectMessage as _, Value};

use super::{REDACTED, SENSITIVE, descriptor, is_secret_header};

/// The key of metadata that only this library reads.
const OWN: &str = crate::source::xds::extra::KEY;

/// The message without its secrets; `None` if it has none. One whose type is not known has none
/// that could be found, and neither is it a message of xDS.
pub(crate) fn conceal(type_url: &str, bytes: &[u8]) -> Option<Vec<u8>> {
    let of = descriptor(type_url)?;
    let mut whole = DynamicMessage::decode(of, bytes).ok()?;
    message(&mut whole).then(|| whole.encode_to_vec())
}

/// Whether something was replaced.
fn message(of: &mut DynamicMessage) -> bool {
    if is_any(of) {
        return any(of);
    }
    let credentials = is_secret_header(of);
    let fields: Vec<(FieldDescriptor, Value)> = of
        .fields()
        .map(|(field, value)| (field, value.clone()))
        .collect();
    let mut changed = false;
    for (field, mut value) in fields {
        let hidden = SENSITIVE.contains(field.full_name())
            || (credentials && matches!(field.name(), "value" | "raw_value"));
        let replaced = match hidden {
            true => {
                replace(&mut value);
                true
            }
            false => inside(&mut value),
        };
        // The value has the shape that it had.
        changed |= replaced && of.try_set_field(&field, value).is_ok();
    }
    changed
}

fn is_any(of: &DynamicMessage) -> bool {
    of.descriptor().full_name() == "google.protobuf.Any"
}

fn any(of: &mut DynamicMessage) -> bool {
    let field = |number| of.get_field_by_number(number);
    let (url, content) = (field(1), field(2));
    let url = url.as_deref().and_then(Value::as_str).unwrap_or_default();
    let content = content.as_deref().and_then(Value::as_bytes);
    let concealed = content.and_then(|bytes| conceal(url, bytes));
    let Some(concealed) = concealed else {
        return false;
    };
    of.set_field_by_number(2, Value::Bytes(concealed.into()));
    true
}

/// Replaces what is inside of something that is not secret as a whole.
fn inside(of: &mut Value) -> bool {
    match of {
        Value::Message(inner) => message(inner),
        Value::List(items) => items
            .iter_mut()
            .fold(false, |changed, item| inside(item) | changed),
        Value::Map(entries) => {
            let own = MapKey::String(OWN.to_owned());
            let ours = matches!(entries.get(&own), Some(Value::Message(one)) if is_any(one));
            if ours {
                entries.remove(&own);
            }
            entries
                .values_mut()
                .fold(ours, |changed, item| inside(item) | changed)
        }
        _scalar => false,
    }
}

/// Replaces what is secret as a whole, and keeps its shape.
fn replace(of: &mut Value) {
    match of {
        Value::String(text) => REDACTED.clone_into(text),
        Value::Bytes(bytes) => *bytes = REDACTED.as_bytes().into(),
        Value::List(items) => items.iter_mut().for_each(replace),
        Value::Map(entries) => entries.values_mut().for_each(replace),
        Value::Message(inner) => {
            let fields: Vec<_> = inner
                .fields()
                .map(|(field, of)| (field, of.clone()))
                .collect();
            for (field, mut value) in fields {
                replace(&mut value);
                let _ = inner.try_set_field(&field, value);
            }
        }
        Value::Bool(_)
        | Value::EnumNumber(_)
        | Value::F32(_)
        | Value::F64(_)
        | Value::I32(_)
        | Value::I64(_)
        | Value::U32(_)
        | Value::U64(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
    use envoy_types::pb::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
    use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
    use envoy_types::pb::envoy::service::discovery::v3::Resource;
    use envoy_types::pb::google::protobuf::Any;
    use prost::Message as _;

    use super::*;

    const ROUTES: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
    const WRAPPED: &str = "type.googleapis.com/envoy.service.discovery.v3.Resource";
    const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

    fn routes(headers: &[(&str, &str)]) -> RouteConfiguration {
        let option = |(key, value): &(&str, &str)| HeaderValueOption {
            header: Some(HeaderValue {
                key: (*key).to_owned(),
                value: (*value).to_owned(),
                ..HeaderValue::default()
            }),
            append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
            ..HeaderValueOption::default()
        };
        RouteConfiguration {
            name: "80".to_owned(),
            request_headers_to_add: headers.iter().map(option).collect(),
            ..RouteConfiguration::default()
        }
    }

    #[test]
    fn values_of_headers_with_credentials_are_hidden_and_others_are_not() {
        let whole = routes(&[("Authorization", "Basic c2VzYW1l"), ("x-team", "red")]);
        let concealed = conceal(ROUTES, &whole.encode_to_vec()).expect("a secret");
        let concealed = RouteConfiguration::decode(&*concealed).expect("a message");
        assert_eq!(
            concealed,
            routes(&[("Authorization", REDACTED), ("x-team", "red")])
        );
    }

    #[test]
    fn secrets_inside_of_other_messages_are_hidden() {
        let inner = Any {
            type_url: ROUTES.to_owned(),
            value: routes(&[("cookie", "open=sesame")]).encode_to_vec(),
        };
        let outer = Resource {
            resource: Some(inner),
            ..Resource::default()
        };
        let concealed = conceal(WRAPPED, &outer.encode_to_vec()).expect("a secret");
        let text = String::from_utf8_lossy(&concealed);
        assert!(
            !text.contains("sesame") && text.contains(REDACTED),
            "{text}"
        );
    }

    #[test]
    fn what_only_this_library_reads_is_left_out() {
        use envoy_types::pb::envoy::config::core::v3::Metadata;
        use envoy_types::pb::envoy::config::route::v3::VirtualHost;
        let any = |url: &str| Any {
            type_url: url.to_owned(),
            value: Vec::new(),
        };
        let with = |keys: &[&str]| {
            let keys = keys.iter();
            let typed = keys.map(|key| ((*key).to_owned(), any("type.googleapis.com/a.B")));
            let host = VirtualHost {
                metadata: Some(Metadata {
                    typed_filter_metadata: typed.collect(),
                    ..Metadata::default()
                }),
                ..VirtualHost::default()
            };
            RouteConfiguration {
                virtual_hosts: vec![host],
                ..routes(&[])
            }
        };
        let concealed = conceal(ROUTES, &with(&[OWN, "other"]).encode_to_vec()).expect("ours");
        let concealed = RouteConfiguration::decode(&*concealed).expect("a message");
        assert_eq!(concealed, with(&["other"]));
        assert_eq!(conceal(ROUTES, &with(&["other"]).encode_to_vec()), None);
    }

    #[test]
    fn keys_are_hidden() {
        use envoy_types::pb::envoy::config::core::v3::{DataSource, data_source::Specifier};
        use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
            Secret, TlsCertificate, secret::Type,
        };
        let data = |text: &str| DataSource {
            specifier: Some(Specifier::InlineString(text.to_owned())),
            ..DataSource::default()
        };
        let secret = Secret {
            name: "default".to_owned(),
            r#type: Some(Type::TlsCertificate(TlsCertificate {
                certificate_chain: Some(data("chain")),
                private_key: Some(data("key of all doors")),
                ..TlsCertificate::default()
            })),
        };
        let concealed = conceal(SECRET, &secret.encode_to_vec()).expect("a secret");
        let text = String::from_utf8_lossy(&concealed);
        assert!(!text.contains("doors") && text.contains("chain"), "{text}");
    }

    #[test]
    fn what_has_no_secret_and_what_is_no_message_stays_as_it_is() {
        let plain = routes(&[("x-team", "red")]);
        assert_eq!(conceal(ROUTES, &plain.encode_to_vec()), None);
        assert_eq!(conceal(ROUTES, b"\xff\xff"), None);
        assert_eq!(conceal("type.googleapis.com/no.Such", b""), None);
    }
}
