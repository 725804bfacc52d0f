//! `meshwork.echo.v1.Echo`: the methods that an echo really has.

use std::pin::Pin;
use std::time::Duration;

use prost::Message as _;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

use super::proto::echo_server::Echo;
use super::proto::{EchoRequest, EchoResponse};
use super::seen::Seen;

/// The most messages that one `ServerStream` sends.
const COUNT_LIMIT: u32 = 100_000;

/// The longest pause between two messages.
const PAUSE_LIMIT: Duration = Duration::from_secs(60);

/// The bytes before each gRPC message: the compression flag and the length.
const PREFIX: u64 = 5;

/// The service for one call. Made per call, so that what was seen of the call's head is a field
/// that is always there, not an extension that may be missing.
#[derive(Debug)]
pub(super) struct Speaker {
    seen: Seen,
}

type Responses = Pin<Box<dyn Stream<Item = Result<EchoResponse, Status>> + Send>>;

impl Speaker {
    pub(super) fn new(seen: Seen) -> Self {
        Self { seen }
    }

    fn response(&self, request: EchoRequest, index: u32, body_bytes: u64) -> EchoResponse {
        let EchoRequest {
            message,
            payload,
            count: _,
            pause_ms: _,
        } = request;
        EchoResponse {
            message,
            payload,
            index,
            body_bytes,
            ..self.seen.to_response()
        }
    }
}

/// The size of a message on the wire; this service takes no compressed ones.
fn size(request: &EchoRequest) -> u64 {
    request.encoded_len() as u64 + PREFIX
}

/// The pause that a request asks for.
fn pause(request: &EchoRequest) -> Result<Duration, Status> {
    let pause = Duration::from_millis(u64::from(request.pause_ms));
    if pause > PAUSE_LIMIT {
        let limit = PAUSE_LIMIT.as_millis();
        let asked = request.pause_ms;
        return Err(Status::invalid_argument(format!(
            "pause_ms {asked} is more than {limit}"
        )));
    }
    Ok(pause)
}

#[tonic::async_trait]
impl Echo for Speaker {
    type ServerStreamStream = Responses;
    type BidiStreamStream = Responses;

    async fn unary(&self, request: Request<EchoRequest>) -> Result<Response<EchoResponse>, Status> {
        let request = request.into_inner();
        let bytes = size(&request);
        Ok(Response::new(self.response(request, 1, bytes)))
    }

    async fn server_stream(
        &self,
        request: Request<EchoRequest>,
    ) -> Result<Response<Responses>, Status> {
        let request = request.into_inner();
        let pause = pause(&request)?;
        let count = request.count.max(1);
        if count > COUNT_LIMIT {
            let text = format!("count {count} is more than {COUNT_LIMIT}");
            return Err(Status::invalid_argument(text));
        }
        let bytes = size(&request);
        let response = self.response(request, 0, bytes);
        let responses = tokio_stream::iter(1..=count).then(move |index| {
            let response = EchoResponse {
                index,
                ..response.clone()
            };
            async move {
                tokio::time::sleep(pause).await;
                Ok(response)
            }
        });
        Ok(Response::new(Box::pin(responses)))
    }

    async fn client_stream(
        &self,
        request: Request<Streaming<EchoRequest>>,
    ) -> Result<Response<EchoResponse>, Status> {
        let mut requests = request.into_inner();
        let (mut last, mut count, mut bytes) = (EchoRequest::default(), 0_u32, 0_u64);
        while let Some(request) = requests.message().await? {
            count = count.saturating_add(1);
            bytes += size(&request);
            last = request;
        }
        Ok(Response::new(self.response(last, count, bytes)))
    }

    async fn bidi_stream(
        &self,
        request: Request<Streaming<EchoRequest>>,
    ) -> Result<Response<Responses>, Status> {
        let speaker = Self::new(self.seen.clone());
        let (mut index, mut bytes) = (0_u32, 0_u64);
        let responses = request.into_inner().then(move |request| {
            let response = request.and_then(|request| {
                index = index.saturating_add(1);
                bytes += size(&request);
                let pause = pause(&request)?;
                Ok((pause, speaker.response(request, index, bytes)))
            });
            async move {
                let (pause, response) = response?;
                tokio::time::sleep(pause).await;
                Ok(response)
            }
        });
        Ok(Response::new(Box::pin(responses)))
    }
}
