//! Filters that a program adds and a control plane configures, on both sides.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::google::protobuf::Any;
use http::{HeaderName, HeaderValue, Response, request, response};
use meshwork::Mesh;
use meshwork::filter::{Answer, At, Filter};
use tower::ServiceExt as _;

use super::calls::get;
use super::messages::{Made, chain, cluster, listener_with, routes_with, served, service};
use super::plane::{Plane, bootstrap};
use super::server::start_built;
use crate::mesh::world::World;

/// Numbers the requests of each name, under a header that its configuration names; `deny` answers itself.
struct Stamp;

impl Filter for Stamp {
    type Config = HeaderName;
    type State = AtomicU64;

    fn messages(&self) -> &[&str] {
        &["acme.v1.Stamp"]
    }

    fn read(&self, _: &str, bytes: &[u8]) -> Result<HeaderName, String> {
        HeaderName::from_bytes(bytes).map_err(|error| format!("header: {error}"))
    }

    fn start(&self, _: &HeaderName, before: Option<Arc<AtomicU64>>) -> Arc<AtomicU64> {
        before.unwrap_or_default()
    }

    fn request(&self, at: At<'_, Self>, _: &mut request::Parts) -> Result<(), Box<Answer>> {
        at.state.fetch_add(1, SeqCst);
        if at.config == "deny" {
            let mut answer = Response::new(Bytes::from_static(b"not today"));
            *answer.status_mut() = http::StatusCode::IM_A_TEAPOT;
            return Err(Box::new(answer));
        }
        Ok(())
    }

    fn response(&self, at: At<'_, Self>, head: &mut response::Parts) {
        let number = HeaderValue::from(at.state.load(SeqCst));
        head.headers.insert(at.config.clone(), number);
    }
}

/// Writes a header into requests: the first byte of its configuration is the length of the name.
pub(super) struct Tempt;

impl Filter for Tempt {
    type Config = (HeaderName, HeaderValue);
    type State = ();

    fn messages(&self) -> &[&str] {
        &["acme.v1.Tempt"]
    }

    fn read(&self, _: &str, bytes: &[u8]) -> Result<Self::Config, String> {
        let (length, rest) = bytes.split_first().ok_or("is empty")?;
        let (name, value) = rest.split_at_checked((*length).into()).ok_or("is short")?;
        let name = HeaderName::from_bytes(name).map_err(|error| error.to_string())?;
        let value = HeaderValue::from_bytes(value).map_err(|error| error.to_string())?;
        Ok((name, value))
    }

    fn start(&self, _: &Self::Config, _: Option<Arc<()>>) -> Arc<()> {
        Arc::default()
    }

    fn request(&self, at: At<'_, Self>, head: &mut request::Parts) -> Result<(), Box<Answer>> {
        let (name, value) = at.config.clone();
        head.headers.insert(name, value);
        Ok(())
    }
}

/// Such a filter in a chain.
pub(super) fn tempted(name: &str, value: &str) -> hcm::HttpFilter {
    let length = u8::try_from(name.len()).unwrap();
    let config = Any {
        type_url: "type.googleapis.com/acme.v1.Tempt".into(),
        value: [&[length], name.as_bytes(), value.as_bytes()].concat(),
    };
    hcm::HttpFilter {
        name: "tempt".into(),
        config_type: Some(hcm::http_filter::ConfigType::TypedConfig(config)),
        ..hcm::HttpFilter::default()
    }
}

fn stamp(config: &str) -> Any {
    Any {
        type_url: "type.googleapis.com/acme.v1.Stamp".into(),
        value: config.as_bytes().to_vec(),
    }
}

fn named(name: &str, config: &str) -> hcm::HttpFilter {
    hcm::HttpFilter {
        name: name.into(),
        config_type: Some(hcm::http_filter::ConfigType::TypedConfig(stamp(config))),
        ..hcm::HttpFilter::default()
    }
}

fn filtered(filters: Vec<hcm::HttpFilter>) -> Made {
    listener_with("catalog:80", "catalog:80 routes", |manager| {
        let router = std::mem::replace(&mut manager.http_filters, filters);
        manager.http_filters.extend(router);
    })
}

/// The status, and what the filter has written under this name.
async fn call(mesh: &Mesh, header: &str) -> (u16, Option<String>) {
    let channel = mesh.channel("catalog:80").unwrap();
    let response = channel.oneshot(get("/items")).await.unwrap();
    let value = response.headers().get(header);
    let value = value.map(|value| value.to_str().unwrap().to_owned());
    (response.status().as_u16(), value)
}

/// Lets what was put come into force.
async fn settle() {
    tokio::time::sleep(Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_filter_of_the_program_runs_as_a_control_plane_says_and_its_state_survives_updates() {
    let world = World::default();
    world.named(1);
    let plane = Plane::new(&world);
    plane.put(service("catalog:80", "c", &[1]));
    plane.put([filtered(vec![named("stamp", "x-number")])]);
    let mesh = Mesh::builder()
        .xds(bootstrap())
        .connector(world.clone())
        .filter(Stamp);
    let mesh = mesh.start().await.unwrap();
    let number = |text: &str| (200, Some(text.to_owned()));
    assert_eq!(call(&mesh, "x-number").await, number("1"));
    assert_eq!(call(&mesh, "x-number").await, number("2"));
    // An edit of something else does not concern it.
    plane.put([routes_with("catalog:80 routes", &[("c", 2)], |_| {})]);
    settle().await;
    assert_eq!(call(&mesh, "x-number").await, number("3"));
    // Another configuration takes the state over.
    plane.put([filtered(vec![named("stamp", "x-other")])]);
    settle().await;
    assert_eq!(call(&mesh, "x-other").await, number("4"));
    // A route has its own.
    plane.put([routes_with("catalog:80 routes", &[("c", 1)], |message| {
        let own = HashMap::from([("stamp".to_owned(), stamp("deny"))]);
        message.virtual_hosts[0].routes[0].typed_per_filter_config = own;
    })]);
    settle().await;
    assert_eq!(call(&mesh, "deny").await, (418, None));
    // What it does not take refuses the listener, with its words.
    plane.asked();
    plane.put([filtered(vec![named("stamp", "no header")])]);
    settle().await;
    let refusal = plane.asked().into_iter().find_map(|one| one.error).unwrap();
    assert!(
        refusal.contains("http_filters[0].typed_config"),
        "{refusal}"
    );
    assert!(
        refusal.contains("header: invalid HTTP header name"),
        "{refusal}"
    );
    assert_eq!(call(&mesh, "deny").await, (418, None));
}

#[tokio::test(start_paused = true)]
async fn a_filter_that_nobody_has_added_refuses_the_listener_unless_it_is_optional() {
    let world = World::default();
    world.named(1);
    let plane = Plane::new(&world);
    plane.put(service("catalog:80", "c", &[1]));
    plane.put([cluster("c")]);
    let mesh = Mesh::builder().xds(bootstrap()).connector(world.clone());
    let mesh = mesh.start().await.unwrap();
    assert_eq!(call(&mesh, "x-number").await, (200, None));
    plane.asked();
    plane.put([filtered(vec![named("stamp", "x-number")])]);
    settle().await;
    let refusal = plane.asked().into_iter().find_map(|one| one.error).unwrap();
    assert!(
        refusal.contains("\"acme.v1.Stamp\" is no filter that is known here"),
        "{refusal}"
    );
    let optional = hcm::HttpFilter {
        is_optional: true,
        ..named("stamp", "x-number")
    };
    plane.put([filtered(vec![optional])]);
    settle().await;
    assert!(plane.asked().iter().all(|one| one.error.is_none()));
    assert_eq!(call(&mesh, "x-number").await, (200, None));
}

#[tokio::test]
async fn a_filter_of_the_program_runs_at_a_server_that_a_control_plane_configures() {
    let serving = start_built("", |builder| builder.filter(Stamp)).await;
    serving.plane.put([serving.listener(|message| {
        message.filter_chains = vec![chain(vec![named("stamp", "x-number")], Some("served"))];
    })]);
    serving.plane.put([served(&["/denied", "/"], |message| {
        let own = HashMap::from([("stamp".to_owned(), stamp("deny"))]);
        message.virtual_hosts[0].routes[0].typed_per_filter_config = own;
    })]);
    serving.until("/", Some(200)).await;
    let head = serving.head("/").await;
    assert!(head.contains("x-number: 2\r\n"), "{head}");
    assert_eq!(serving.get("/denied", "").await, Some(418));
}
