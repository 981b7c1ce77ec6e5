//! The coordinator's HTTP API, as far as it's used here.

use anyhow::{Context as _, Result, bail};
use promptfield_core::wire::api::{PREFIX, Problem};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Calls one coordinator. Clones share connections.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
}

impl Client {
    /// A client with connections of its own; nothing is sent yet.
    pub(crate) fn new(url: &str) -> Result<Self> {
        // The client wants one even where nothing is encrypted.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().tcp_nodelay(true).build().context("can't make an HTTP client")?;
        Ok(Self { http, base: format!("{url}{PREFIX}") })
    }

    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        answer(self.http.post(format!("{}{path}", self.base)).json(body), path).await
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        answer(self.http.get(format!("{}{path}", self.base)), path).await
    }

    /// Whether the database can be written.
    pub(crate) async fn ready(&self) -> bool {
        let answer = self.http.get(format!("{}/readyz", self.base)).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }
}

async fn answer<T: DeserializeOwned>(request: reqwest::RequestBuilder, path: &str) -> Result<T> {
    let response = request.send().await.with_context(|| format!("{path} was not answered"))?;
    let status = response.status();
    let body = response.bytes().await.with_context(|| format!("the answer to {path} broke off"))?;
    if !status.is_success() {
        let detail = serde_json::from_slice::<Problem>(&body).map(|problem| problem.detail).unwrap_or_default();
        bail!("{path} was answered with {status}: {detail}");
    }
    serde_json::from_slice(&body).with_context(|| format!("the answer to {path} can't be understood"))
}
