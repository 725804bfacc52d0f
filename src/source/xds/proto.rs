//! The messages by short names. Everything else in here says `route::Route` and not its full path.

pub(crate) use envoy_types::pb::envoy::config::{
    cluster::v3 as cluster, core::v3 as core, endpoint::v3 as endpoint, listener::v3 as listener,
    rbac::v3 as rbac, route::v3 as route,
};
pub(crate) use envoy_types::pb::envoy::extensions::clusters::{
    aggregate::v3 as aggregate, common::dns::v3 as dns_common, dns::v3 as dns,
};
pub(crate) use envoy_types::pb::envoy::extensions::filters::common::fault::v3 as fault_delay;
pub(crate) use envoy_types::pb::envoy::extensions::filters::http::{
    ext_authz::v3 as authz, fault::v3 as fault, jwt_authn::v3 as jwt,
    local_ratelimit::v3 as local_rate, rbac::v3 as rbac_filter, router::v3 as router,
    stateful_session::v3 as session,
};
pub(crate) use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
pub(crate) use envoy_types::pb::envoy::extensions::http::stateful_session::cookie::v3 as session_cookie;
pub(crate) use envoy_types::pb::envoy::extensions::http::stateful_session::header::v3 as session_header;
pub(crate) use envoy_types::pb::envoy::extensions::load_balancing_policies as balancing;
pub(crate) use envoy_types::pb::envoy::extensions::retry::priority::previous_priorities::v3 as previous_priorities;
pub(crate) use envoy_types::pb::envoy::extensions::transport_sockets::{
    raw_buffer::v3 as raw_buffer, tls::v3 as tls,
};
pub(crate) use envoy_types::pb::envoy::extensions::upstreams::http::v3 as upstream;
pub(crate) use envoy_types::pb::envoy::r#type::http::v3 as http_type;
pub(crate) use envoy_types::pb::envoy::r#type::matcher::v3 as matcher;
pub(crate) use envoy_types::pb::envoy::r#type::v3 as percent;
pub(crate) use envoy_types::pb::google::protobuf::{
    Any, BoolValue, Duration, FloatValue, UInt32Value, UInt64Value,
};
