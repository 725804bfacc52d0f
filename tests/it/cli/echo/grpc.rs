//! The gRPC services, and the methods of services that the echo does not know.

use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::super::echo_proto::echo_client::EchoClient;
use super::super::echo_proto::{EchoRequest, EchoResponse};
use super::super::process::Echo;
use super::{channel, text};

#[tokio::test]
async fn echo_service_tells_what_arrived() {
    let echo = Echo::start(&["--name", "v1"]).await;
    let mut client = EchoClient::new(channel(echo.address).await);
    let mut call = tonic::Request::new(EchoRequest {
        payload: vec![1, 2],
        ..text("hello")
    });
    call.metadata_mut()
        .insert("x-canary", "true".parse().expect("ASCII"));
    let answer = client.unary(call).await.expect("OK").into_inner();
    assert_eq!(answer.name, "v1");
    assert_eq!(answer.protocol, "HTTP/2.0");
    assert_eq!(answer.method, "POST");
    assert_eq!(answer.path, "/meshwork.echo.v1.Echo/Unary");
    assert_eq!(answer.authority, echo.address.to_string());
    assert_eq!(answer.attempt, 1);
    assert_eq!(answer.body_bytes, 5 + 7 + 4);
    assert_eq!(
        (answer.message.as_str(), answer.payload.as_slice()),
        ("hello", [1, 2].as_slice())
    );
    let canary = answer
        .headers
        .iter()
        .find(|header| header.name == "x-canary");
    assert_eq!(canary.expect("x-canary arrived").values, ["true"]);
}

#[tokio::test]
async fn echo_service_streams_in_each_direction() {
    let echo = Echo::start(&[]).await;
    let mut client = EchoClient::new(channel(echo.address).await);

    let ask = EchoRequest {
        count: 3,
        pause_ms: 1,
        ..text("down")
    };
    let stream = client.server_stream(ask).await.expect("OK").into_inner();
    let down: Vec<EchoResponse> = stream.map(|item| item.expect("OK")).collect().await;
    let indexes: Vec<u32> = down.iter().map(|answer| answer.index).collect();
    assert_eq!(indexes, [1, 2, 3]);
    assert!(down.iter().all(|answer| answer.message == "down"));

    let asks = tokio_stream::iter(["a", "b", "c"].map(text));
    let up = client.client_stream(asks).await.expect("OK").into_inner();
    assert_eq!(
        (up.index, up.message.as_str(), up.body_bytes),
        (3, "c", 3 * (5 + 3))
    );

    // Each answer is awaited before the next question is asked.
    let (ask, asks) = tokio::sync::mpsc::channel(1);
    let mut both = client
        .bidi_stream(ReceiverStream::new(asks))
        .await
        .expect("OK")
        .into_inner();
    for (index, word) in (1..).zip(["x", "y", "z"]) {
        ask.send(text(word)).await.expect("the stream is open");
        let answer = both.message().await.expect("OK").expect("an answer");
        assert_eq!((answer.index, answer.message.as_str()), (index, word));
    }
    drop(ask);
    assert!(both.message().await.expect("OK").is_none());
}

#[tokio::test]
async fn stream_requests_are_bounded() {
    let echo = Echo::start(&[]).await;
    let mut client = EchoClient::new(channel(echo.address).await);
    for (ask, why) in [
        (
            EchoRequest {
                count: 100_001,
                ..text("")
            },
            "count 100001 is more than 100000",
        ),
        (
            EchoRequest {
                pause_ms: 60_001,
                ..text("")
            },
            "pause_ms 60001 is more than 60000",
        ),
    ] {
        let status = client.server_stream(ask).await.expect_err(why);
        assert_eq!(
            (status.code(), status.message()),
            (Code::InvalidArgument, why)
        );
    }
}

#[tokio::test]
async fn any_grpc_method_is_answered_with_the_name_in_field_1() {
    let echo = Echo::start(&["--name", "v1"]).await;
    let mut client = tonic::client::Grpc::new(channel(echo.address).await);
    client.ready().await.expect("connected");
    let path = http::uri::PathAndQuery::from_static("/shop.catalog.v2.Catalog/ListItems");
    let codec = tonic_prost::ProstCodec::<EchoRequest, EchoResponse>::default();
    let call = tonic::Request::new(text("hello"));
    let answer = client
        .unary(call, path, codec)
        .await
        .expect("OK")
        .into_inner();
    assert_eq!(answer.name, "v1");
    assert_eq!(answer.path, "/shop.catalog.v2.Catalog/ListItems");
    assert_eq!(answer.body_bytes, 5 + 7);

    // An unknown method of the echo's own service is what it is everywhere.
    client.ready().await.expect("connected");
    let path = http::uri::PathAndQuery::from_static("/meshwork.echo.v1.Echo/Nothing");
    let codec = tonic_prost::ProstCodec::<EchoRequest, EchoResponse>::default();
    let status = client
        .unary(tonic::Request::new(text("")), path, codec)
        .await
        .expect_err("none");
    assert_eq!(status.code(), Code::Unimplemented);
}

#[tokio::test]
async fn health_is_serving_whatever_happens_to_calls() {
    let echo = Echo::start(&["--status", "503"]).await;
    let mut client = HealthClient::new(channel(echo.address).await);
    for service in ["", "meshwork.echo.v1.Echo"] {
        let check = HealthCheckRequest {
            service: service.to_owned(),
        };
        let answer = client.check(check).await.expect("OK").into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service}");
    }
    let check = HealthCheckRequest {
        service: "other".to_owned(),
    };
    assert_eq!(
        client.check(check).await.expect_err("unknown").code(),
        Code::NotFound
    );
}

/// Asks a reflection service of one version for the list of services and for the echo's file.
macro_rules! reflect {
    ($version:ident, $address:expr) => {{
        use pb::server_reflection_request::MessageRequest;
        use pb::server_reflection_response::MessageResponse;
        use tonic_reflection::pb::$version as pb;

        let ask = |message| pb::ServerReflectionRequest {
            host: String::new(),
            message_request: Some(message),
        };
        let mut client =
            pb::server_reflection_client::ServerReflectionClient::new(channel($address).await);
        let asks = tokio_stream::iter([
            ask(MessageRequest::ListServices(String::new())),
            ask(MessageRequest::FileContainingSymbol(
                "meshwork.echo.v1.Echo".to_owned(),
            )),
        ]);
        let mut answers = client
            .server_reflection_info(asks)
            .await
            .expect("OK")
            .into_inner();
        let mut next = async || {
            let answer = answers.message().await.expect("OK").expect("an answer");
            answer.message_response.expect("an answer of a kind")
        };
        let MessageResponse::ListServicesResponse(list) = next().await else {
            panic!("not a list");
        };
        let names: Vec<String> = list
            .service
            .into_iter()
            .map(|service| service.name)
            .collect();
        let MessageResponse::FileDescriptorResponse(file) = next().await else {
            panic!("not a file");
        };
        (names, file.file_descriptor_proto)
    }};
}

#[tokio::test]
async fn reflection_describes_the_echo_in_both_versions() {
    use prost::Message as _;

    let echo = Echo::start(&["--reset-rate", "1"]).await;
    for (names, files) in [reflect!(v1, echo.address), reflect!(v1alpha, echo.address)] {
        for service in ["meshwork.echo.v1.Echo", "grpc.health.v1.Health"] {
            assert!(
                names.iter().any(|name| name == service),
                "{service} is not in {names:?}"
            );
        }
        let file = prost_types::FileDescriptorProto::decode(files[0].as_slice()).expect("a file");
        assert_eq!(file.name(), "meshwork/echo/v1/echo.proto");
        assert_eq!(file.service[0].method.len(), 4);
    }
}
