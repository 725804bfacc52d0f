//! What one node has been sent, as JSON, for people.
//!
//! One node at a time: a dump of ten thousand clients is a file that nobody reads, made while they
//! wait. What Envoy's API marks as sensitive is `[redacted]`.

use serde_json::{Value, json};

use super::ads::Held;
use super::house::{Client, House};
use super::kind::Kind;
use super::lock::lock;
use crate::source::xds::json::print;

/// All streams of the nodes with this id; `None`: there are none.
pub(super) fn of_node(house: &House, id: &str) -> Option<Value> {
    let clients = house.clients();
    let streams: Vec<Value> = clients
        .iter()
        .filter(|client| **client.node.id() == *id)
        .map(|client| stream(client))
        .collect();
    (!streams.is_empty()).then(|| {
        json!({
            "generation": house.store.generation(),
            "streams": streams,
        })
    })
}

fn stream(client: &Client) -> Value {
    let node = &client.node;
    // What is printed is shared and immutable; the stream is held for the time of a list of it.
    let held: Vec<(Kind, Resource)> = {
        let stream = lock(&client.stream);
        let held = stream.held();
        held.map(|(kind, held)| (kind, Resource::of(&held)))
            .collect()
    };
    let resources = held.into_iter().map(|(kind, one)| one.shown(kind));
    json!({
        "node": &**node.id(),
        "user_agent": &**node.user_agent(),
        "namespace": node.workload().namespace(),
        "service_account": node.workload().service_account(),
        "dialect": format!("{:?}", node.dialect()),
        "scope": client.scope(),
        "resources": resources.collect::<Vec<Value>>(),
    })
}

struct Resource {
    name: std::sync::Arc<str>,
    sent: Option<std::sync::Arc<super::Encoded>>,
    state: &'static str,
    refused: Option<(std::sync::Arc<str>, std::sync::Arc<str>)>,
}

impl Resource {
    fn of(held: &Held<'_>) -> Self {
        let state = match (held.sent, held.acked, held.error) {
            (None, ..) => "DOES_NOT_EXIST",
            (Some(_), true, _) => "ACKED",
            (Some(_), false, Some(_)) => "NACKED",
            (Some(_), false, None) => "REQUESTED",
        };
        Self {
            name: held.name.clone(),
            sent: held.sent.cloned(),
            state,
            refused: held.error.filter(|_| state == "NACKED").cloned(),
        }
    }

    fn shown(self, kind: Kind) -> Value {
        let mut shown = json!({
            "type_url": kind.type_url(),
            "name": &*self.name,
            "client_status": self.state,
        });
        if let Some(sent) = &self.sent {
            shown["version_info"] = (**sent.version()).into();
            shown["xds_config"] = print(kind.type_url(), sent.body());
        }
        if let Some((version, details)) = &self.refused {
            shown["error_state"] = json!({"version_info": &**version, "details": &**details});
        }
        shown
    }
}
