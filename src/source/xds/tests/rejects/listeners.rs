//! Listeners.

use prost::Name;

use super::{refused, told};
use crate::source::xds::Kind;
use crate::source::xds::extra::any;
use crate::source::xds::proto::{Any, core, fault, hcm, listener, router, session};

pub(super) fn filter(name: &str, config: Any) -> hcm::HttpFilter {
    hcm::HttpFilter {
        name: name.to_owned(),
        config_type: Some(hcm::http_filter::ConfigType::TypedConfig(config)),
        ..hcm::HttpFilter::default()
    }
}

fn manager() -> hcm::HttpConnectionManager {
    use hcm::http_connection_manager::RouteSpecifier;
    hcm::HttpConnectionManager {
        http_filters: vec![filter("router", any(&router::Router::default()))],
        route_specifier: Some(RouteSpecifier::Rds(hcm::Rds {
            config_source: Some(ads()),
            route_config_name: "routes".to_owned(),
        })),
        ..hcm::HttpConnectionManager::default()
    }
}

pub(super) fn ads() -> core::ConfigSource {
    core::ConfigSource {
        config_source_specifier: Some(core::config_source::ConfigSourceSpecifier::Ads(
            core::AggregatedConfigSource::default(),
        )),
        ..core::ConfigSource::default()
    }
}

fn listener_of(manager: &hcm::HttpConnectionManager) -> listener::Listener {
    listener::Listener {
        name: "catalog:80".to_owned(),
        api_listener: Some(listener::ApiListener {
            api_listener: Some(any(manager)),
        }),
        ..listener::Listener::default()
    }
}

#[track_caller]
pub(super) fn listener_refused(
    change: impl FnOnce(&mut hcm::HttpConnectionManager),
    expected: &str,
) {
    let mut manager = manager();
    change(&mut manager);
    refused(Kind::Listener, &listener_of(&manager), expected);
}

#[cfg(feature = "rate-limit")]
#[test]
fn d7_limits_of_clients_that_cannot_be_counted_are_refused() {
    use crate::source::xds::proto::local_rate::LocalRateLimit;
    type Change = fn(&mut LocalRateLimit);
    let rows: [(Change, &str); 4] = [
        (
            |limit| limit.descriptors.push(Default::default()),
            "descriptors",
        ),
        (
            |limit| limit.rate_limits.push(Default::default()),
            "rate_limits",
        ),
        (
            |limit| limit.local_rate_limit_per_downstream_connection = true,
            "local_rate_limit_per_downstream_connection",
        ),
        (
            |limit| limit.enable_x_ratelimit_headers = 1,
            "enable_x_ratelimit_headers",
        ),
    ];
    for (change, field) in rows {
        let mut limit = LocalRateLimit::default();
        change(&mut limit);
        listener_refused(
            |manager| manager.http_filters.insert(0, filter("rate", any(&limit))),
            &format!(
                "api_listener.api_listener.http_filters[0].typed_config.{field}: is not supported; \
                 leave it out"
            ),
        );
    }
}

#[test]
fn d7_d11_listeners_that_are_refused() {
    use hcm::http_connection_manager::RouteSpecifier;
    assert_eq!(told(Kind::Listener, &listener_of(&manager())), "");
    let unnamed = listener::Listener::default();
    refused(
        Kind::Listener,
        &unnamed,
        "name: has 0 bytes; 1 to 4096 are allowed",
    );
    refused(Kind::Listener, &unnamed, "has no api_listener");
    let mut foreign = listener_of(&manager());
    foreign.api_listener = Some(listener::ApiListener {
        api_listener: Some(any(&router::Router::default())),
    });
    refused(
        Kind::Listener,
        &foreign,
        "api_listener.api_listener: is of type",
    );
    listener_refused(|m| m.route_specifier = None, "has no route_specifier");
    let scoped = RouteSpecifier::ScopedRoutes(hcm::ScopedRoutes::default());
    listener_refused(
        |m| m.route_specifier = Some(scoped),
        "scoped_routes: is not supported",
    );
    let unnamed = hcm::Rds {
        config_source: Some(ads()),
        route_config_name: String::new(),
    };
    listener_refused(
        |m| m.route_specifier = Some(RouteSpecifier::Rds(unnamed)),
        "rds.route_config_name: is empty",
    );
    let elsewhere = hcm::Rds {
        config_source: Some(core::ConfigSource {
            config_source_specifier: Some(core::config_source::ConfigSourceSpecifier::Path(
                "/x".into(),
            )),
            ..core::ConfigSource::default()
        }),
        route_config_name: "routes".to_owned(),
    };
    listener_refused(
        |m| m.route_specifier = Some(RouteSpecifier::Rds(elsewhere)),
        "rds.config_source: names another source; \"ads\" and \"self\" are allowed",
    );
    listener_refused(
        |m| m.xff_num_trusted_hops = 2,
        "xff_num_trusted_hops: is 2; only 0 is supported",
    );
    listener_refused(
        |m| m.original_ip_detection_extensions = vec![core::TypedExtensionConfig::default()],
        "original_ip_detection_extensions: is not supported",
    );
    listener_refused(|m| m.http_filters.clear(), "http_filters: is empty");
    let router = filter("router", any(&router::Router::default()));
    listener_refused(
        |m| m.http_filters.push(router.clone()),
        "http_filters[1].name: \"router\" stands twice",
    );
    listener_refused(
        |m| m.http_filters.push(router),
        "http_filters[0].typed_config: is the router, and filters follow it",
    );
    let fault = filter("fault", any(&fault::HttpFault::default()));
    listener_refused(
        |m| m.http_filters = vec![fault.clone()],
        "is the last filter and no",
    );
    listener_refused(
        |m| m.http_filters[0].name.clear(),
        "http_filters[0].name: is empty",
    );
    let unknown = Any {
        type_url: "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz".into(),
        value: Vec::new(),
    };
    listener_refused(
        |m| {
            m.http_filters
                .insert(0, filter("ext_authz", unknown.clone()))
        },
        "http_filters[0].typed_config: \"envoy.extensions.filters.http.ext_authz.v3.ExtAuthz\" is no filter",
    );
    let mut optional = manager();
    optional.http_filters.insert(
        0,
        hcm::HttpFilter {
            is_optional: true,
            ..filter("ext_authz", unknown)
        },
    );
    assert_eq!(told(Kind::Listener, &listener_of(&optional)), "");
    let broken = Any {
        type_url: fault::HttpFault::type_url(),
        value: vec![0xff],
    };
    listener_refused(
        |m| m.http_filters.insert(0, filter("f", broken)),
        "http_filters[0].typed_config: is no envoy",
    );
    let strict = |status: u32| session::StatefulSession {
        strict: true,
        status_on_strict_destination_not_found: status,
        ..session::StatefulSession::default()
    };
    listener_refused(
        |m| m.http_filters.insert(0, filter("f", any(&strict(404)))),
        "http_filters[0].typed_config.status_on_strict_destination_not_found: is 404; only 503",
    );
    let mut fine = manager();
    fine.http_filters.insert(0, filter("f", any(&strict(503))));
    assert_eq!(told(Kind::Listener, &listener_of(&fine)), "");
}
