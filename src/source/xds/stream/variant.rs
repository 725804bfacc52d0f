//! The two variants of the protocol as gRPC methods.

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3 as discovery;

use crate::source::xds::ads::message::{Request, Response};
use crate::source::xds::wire;

/// One of the two methods of `AggregatedDiscoveryService`.
pub(super) trait Variant: Send + 'static {
    type Request: prost::Message + Send + 'static;
    type Response: prost::Message + Default + Send + 'static;
    const PATH: &'static str;

    fn request(request: &Request, node: &Node) -> Self::Request;
    fn response(response: Self::Response) -> Response;
}

/// The state of the world.
pub(super) struct Sotw;

impl Variant for Sotw {
    type Request = discovery::DiscoveryRequest;
    type Response = discovery::DiscoveryResponse;
    const PATH: &'static str =
        "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";

    fn request(request: &Request, node: &Node) -> Self::Request {
        wire::sotw_request(request, node)
    }

    fn response(response: Self::Response) -> Response {
        wire::sotw_response(response)
    }
}

/// What changes.
pub(super) struct Delta;

impl Variant for Delta {
    type Request = discovery::DeltaDiscoveryRequest;
    type Response = discovery::DeltaDiscoveryResponse;
    const PATH: &'static str =
        "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

    fn request(request: &Request, node: &Node) -> Self::Request {
        wire::delta_request(request, node)
    }

    fn response(response: Self::Response) -> Response {
        wire::delta_response(response)
    }
}
