//! Asking a running process, or a control plane, at its admin endpoint.

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use http::Request;
use http_body_util::{BodyExt as _, Limited};
use meshwork::{Body, CallOptions, Client, Mesh};
use serde_json::Value;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// More is read of no answer: a configuration of 10,000 clusters has a tenth of it.
const LONGEST: usize = 256 << 20;

/// Whose admin endpoint knows the answer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Who {
    /// Both do.
    Any,
    /// A control plane.
    Server,
    /// A process with a mesh.
    Process,
}

impl Who {
    fn means(self) -> &'static str {
        match self {
            Self::Any => "a process that runs (Mesh::admin, or --admin of meshwork call and serve)",
            Self::Server => {
                "a control plane (--admin of meshwork serve); meshwork top, dump and explain --process ask a process"
            }
            Self::Process => {
                "a process with a mesh (Mesh::admin, or --admin of meshwork call); meshwork status and dump --node \
                 ask a control plane"
            }
        }
    }
}

/// An admin endpoint.
#[derive(Debug)]
pub(crate) struct Asked {
    client: Client,
    address: String,
    who: Who,
}

impl Asked {
    /// The endpoint at `HOST:PORT`.
    pub(crate) async fn at(address: &str, who: Who) -> anyhow::Result<Self> {
        // A mesh that knows nobody passes requests through: no second HTTP client is needed.
        let mesh = Mesh::builder().metrics(false).start().await?;
        Ok(Self {
            client: mesh.client(),
            address: address
                .trim_start_matches("http://")
                .trim_end_matches('/')
                .to_owned(),
            who,
        })
    }

    /// The body of an answer.
    pub(crate) async fn text(&self, path: &str) -> anyhow::Result<String> {
        let url = format!("http://{}{path}", self.address);
        let mut request = Request::get(&url)
            .body(Body::empty())
            .with_context(|| format!("{:?} is no HOST:PORT", self.address))?;
        let terms = CallOptions::new().timeout(PATIENCE);
        request.extensions_mut().insert(terms);
        let response = self.client.request(request).await;
        let response = response.with_context(|| self.hint(format_args!("cannot ask it")))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), LONGEST).collect().await;
        let body = body.map_err(anyhow::Error::from_boxed);
        let body = body.with_context(|| self.hint(format_args!("{path} breaks off")))?;
        let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
        if status.is_success() {
            return Ok(text);
        }
        // The rest of such an answer tells what else could be asked there.
        let first = text.lines().next().unwrap_or_default();
        Err(self.not(format_args!("{path}: {status}: {first}")))
    }

    /// The body of an answer as JSON.
    pub(crate) async fn json(&self, path: &str) -> anyhow::Result<Value> {
        let text = self.text(path).await?;
        serde_json::from_str(&text)
            .map_err(|error| self.not(format_args!("{path} is no JSON: {error}")))
    }

    /// The same, which must have this list.
    pub(crate) async fn with(&self, path: &str, list: &str) -> anyhow::Result<Value> {
        let all = self.json(path).await?;
        match all[list].is_array() {
            true => Ok(all),
            false => Err(self.not(format_args!("{path} tells no {list}"))),
        }
    }

    /// It is not what was asked.
    fn not(&self, what: std::fmt::Arguments<'_>) -> anyhow::Error {
        anyhow!(self.hint(what))
    }

    fn hint(&self, what: std::fmt::Arguments<'_>) -> String {
        let means = self.who.means();
        format!(
            "{}: {what}; is it the admin endpoint of {means}?",
            self.address
        )
    }
}

/// A text as a value in a query.
pub(crate) fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let bytes = text.bytes();
    bytes
        .map(|byte| match plain(byte) {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect()
}
