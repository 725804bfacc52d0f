//! One call of `CreateCertificate`: a connection, a request, an answer, and the end of the connection.
//!
//! A call happens once in hours, so nothing is kept between two. It goes to the first address that
//! takes the connection.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, TE};
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use thiserror::Error;
use tokio::net::TcpStream;

use super::super::client::{Connector, Offer};
use super::wire;
use crate::body::grpc;

const METHOD: &str = "/istio.v1.auth.IstioCertificateService/CreateCertificate";
/// istiod asks of which cluster a token is.
const CLUSTER: HeaderName = HeaderName::from_static("clusterid");
/// The longest answer, in bytes: a chain and a bundle of roots.
const ANSWER: usize = 1 << 20;
/// How long all of it may take.
const DEADLINE: Duration = Duration::from_secs(20);

/// Why there is no certificate.
#[derive(Debug, Error)]
pub(super) enum Failed {
    #[error("it took longer than {DEADLINE:?}")]
    Elapsed,
    #[error("it cannot be connected to: {0}")]
    Connect(io::Error),
    #[error("it is not believed, or does not believe this side: {0}")]
    Secure(io::Error),
    #[error("the call broke: {0}")]
    Broken(Box<dyn std::error::Error + Send + Sync>),
    #[error("it answered HTTP {0} where gRPC was expected")]
    Status(StatusCode),
    #[error("it refused with gRPC status {code}: {message}")]
    Refused { code: Box<str>, message: Box<str> },
    #[error("its answer is no IstioCertificateResponse")]
    Malformed,
}

/// What is asked, and of whom.
pub(super) struct Call<'a> {
    /// `host:port`.
    pub(super) authority: &'a str,
    pub(super) connector: &'a Connector,
    pub(super) csr: &'a str,
    pub(super) lifetime: Duration,
    /// The value of `authorization`.
    pub(super) token: Option<HeaderValue>,
    pub(super) cluster: Option<&'a HeaderValue>,
}

impl Call<'_> {
    /// The texts of the answer: the certificate, what stands between, and the roots.
    pub(super) async fn make(self) -> Result<Vec<String>, Failed> {
        match tokio::time::timeout(DEADLINE, self.go()).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failed::Elapsed),
        }
    }

    async fn go(self) -> Result<Vec<String>, Failed> {
        let stream = TcpStream::connect(self.authority)
            .await
            .map_err(Failed::Connect)?;
        let host = self.authority.rsplit_once(':');
        let host = host.map_or(self.authority, |(host, _)| host);
        let stream = self.connector.connect(stream, host, Offer::Http2);
        let stream = stream.await.map_err(Failed::Secure)?;
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(broken)?;
        let request = self.request()?;
        let answered = async {
            let response = sender.send_request(request).await.map_err(broken)?;
            let (head, body) = response.into_parts();
            if head.status != StatusCode::OK {
                return Err(Failed::Status(head.status));
            }
            let collected = Limited::new(body, ANSWER).collect().await;
            let collected = collected.map_err(Failed::Broken)?;
            let trailers = collected.trailers().unwrap_or(&head.headers);
            refusal(trailers)?;
            let bytes = collected.to_bytes();
            let message = grpc::message(&bytes).ok_or(Failed::Malformed)?;
            wire::response(message).map_err(|_| Failed::Malformed)
        };
        tokio::select! {
            answered = answered => answered,
            // Before the answer: it ended, or broke.
            ended = connection => Err(match ended {
                Ok(()) => broken("the connection ended"),
                Err(error) => broken(error),
            }),
        }
    }

    fn request(&self) -> Result<Request<Full<Bytes>>, Failed> {
        let message = wire::request(self.csr, self.lifetime.as_secs());
        let body = grpc::framed(&message).ok_or(Failed::Malformed)?;
        let mut request = Request::post(format!("https://{}{METHOD}", self.authority))
            .header(CONTENT_TYPE, "application/grpc")
            .header(TE, "trailers")
            .body(Full::new(body))
            .map_err(broken)?;
        let headers = request.headers_mut();
        if let Some(token) = &self.token {
            headers.insert(AUTHORIZATION, token.clone());
        }
        if let Some(cluster) = self.cluster {
            headers.insert(CLUSTER, cluster.clone());
        }
        Ok(request)
    }
}

/// The status of a call, if it is one of failure.
fn refusal(trailers: &HeaderMap) -> Result<(), Failed> {
    let text = |name: &str| {
        let value = trailers.get(name)?;
        let text = String::from_utf8_lossy(value.as_bytes());
        // It goes to a log: nobody else's text needs more room than this.
        Some(text.chars().take(256).collect::<String>().into_boxed_str())
    };
    match text("grpc-status") {
        Some(code) if &*code == "0" => Ok(()),
        code => Err(Failed::Refused {
            code: code.unwrap_or_else(|| "none".into()),
            message: text("grpc-message").unwrap_or_default(),
        }),
    }
}

fn broken(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Failed {
    Failed::Broken(error.into())
}
