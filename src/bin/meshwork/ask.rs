//! Asking a running process at its admin endpoint.

use std::time::Duration;

use anyhow::Context as _;
use http::Request;
use http_body_util::BodyExt as _;
use meshwork::{Body, CallOptions, Client, Mesh};
use serde_json::Value;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// An admin endpoint.
#[derive(Debug)]
pub(crate) struct Asked {
    client: Client,
    address: String,
}

impl Asked {
    /// The endpoint at `HOST:PORT`.
    pub(crate) async fn at(address: &str) -> anyhow::Result<Self> {
        // A mesh that knows nobody passes requests through: no second HTTP client is needed.
        let mesh = Mesh::builder().metrics(false).start().await?;
        Ok(Self {
            client: mesh.client(),
            address: address
                .trim_start_matches("http://")
                .trim_end_matches('/')
                .to_owned(),
        })
    }

    /// The body of an answer.
    pub(crate) async fn text(&self, path: &str) -> anyhow::Result<String> {
        let url = format!("http://{}{path}", self.address);
        let hint = || {
            format!(
                "cannot ask {}; is it the admin endpoint of a process that runs (Mesh::admin, or \
                 --admin of meshwork call and serve)?",
                self.address
            )
        };
        let mut request = Request::get(&url).body(Body::empty()).with_context(hint)?;
        let terms = CallOptions::new().timeout(PATIENCE);
        request.extensions_mut().insert(terms);
        let response = self.client.request(request).await.with_context(hint)?;
        let status = response.status();
        let body = response.into_body().collect().await.with_context(hint)?;
        let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
        if status.is_success() {
            Ok(text)
        } else {
            Err(anyhow::anyhow!("{url}: {status}: {}", text.trim()))
        }
    }

    /// The body of an answer as JSON.
    pub(crate) async fn json(&self, path: &str) -> anyhow::Result<Value> {
        let text = self.text(path).await?;
        serde_json::from_str(&text).with_context(|| format!("{}{path} is no JSON", self.address))
    }
}
