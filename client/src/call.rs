//! One call: what is sent, and how its answer is read.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use promptfield_core::wire::api::{Page, Problem};
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use reqwest::{Method, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::patience::retry_after;
use crate::{Client, Error, Messages, Patience, Refusal};

/// A call that can be made, again and again if need be.
#[derive(Clone, Debug)]
pub(crate) struct Call<'a> {
    client: &'a Client,
    method: Method,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Option<Bytes>,
    timeout: Option<Duration>,
    pub(crate) patience: Patience,
}

impl Client {
    pub(crate) fn call(&self, method: Method, path: impl Into<String>) -> Call<'_> {
        let (path, patience) = (path.into(), self.patience);
        Call { client: self, method, path, headers: Vec::new(), body: None, timeout: None, patience }
    }

    pub(crate) fn get(&self, path: impl Into<String>) -> Call<'_> {
        self.call(Method::GET, path)
    }

    pub(crate) fn post(&self, path: impl Into<String>) -> Call<'_> {
        self.call(Method::POST, path)
    }

    /// All items of a list that comes in pages.
    pub(crate) async fn all<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>, Error> {
        let mut items = Vec::new();
        let mut cursor = String::new();
        let begin = if path.contains('?') { '&' } else { '?' };
        loop {
            let page: Page<T> = self.get(format!("{path}{begin}limit=1000{cursor}")).read().await?;
            items.extend(page.items);
            match page.next {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return Ok(items),
            }
        }
    }
}

/// The bytes of a value.
pub(crate) fn json(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).unwrap_or_else(|_| unreachable!("what is sent has text for the keys of its maps")).into()
}

impl std::fmt::Display for Call<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

impl Call<'_> {
    pub(crate) fn json(self, value: &impl Serialize) -> Self {
        self.json_bytes(json(value))
    }

    pub(crate) fn json_bytes(self, bytes: Bytes) -> Self {
        self.header("Content-Type", "application/json").bytes(bytes)
    }

    pub(crate) fn bytes(self, bytes: Bytes) -> Self {
        Self { body: Some(bytes), ..self }
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn timeout(self, timeout: Duration) -> Self {
        Self { timeout: Some(timeout), ..self }
    }

    /// Makes the call, and reads the answer as JSON.
    pub(crate) async fn read<T: DeserializeOwned>(self) -> Result<T, Error> {
        let (headers, body) = self.whole().await?;
        if headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/html")) {
            return Err(Error::Page { url: Arc::clone(&self.client.url) });
        }
        serde_json::from_slice(&body)
            .map_err(|source| Error::Unreadable { call: self.to_string(), source: source.into() })
    }

    /// Makes the call, and reads the answer as text.
    pub(crate) async fn text(self) -> Result<String, Error> {
        let (_, body) = self.whole().await?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    /// Makes the call; its answer says nothing more than that it was heard.
    pub(crate) async fn done(self) -> Result<HeaderMap, Error> {
        Ok(self.whole().await?.0)
    }

    /// Makes the call, and reads the answer as it comes.
    pub(crate) async fn stream(self) -> Result<Messages, Error> {
        self.begin().await.map(Messages::new)
    }

    /// Makes the call, until an answer begins that is no error.
    pub(crate) async fn begin(&self) -> Result<Response, Error> {
        self.client.repeat(self.patience, || self.send(), self.notice()).await
    }

    async fn whole(&self) -> Result<(HeaderMap, Bytes), Error> {
        let read = || async {
            let response = self.send().await?;
            let headers = response.headers().clone();
            Ok((headers, response.bytes().await.map_err(|source| self.broken(source))?))
        };
        self.client.repeat(self.patience, read, self.notice()).await
    }

    /// Tells of the first error only.
    fn notice(&self) -> impl FnMut(&Error) {
        let mut notice = Some(self.client.notice);
        move |error| {
            if let Some(notice) = notice.take() {
                notice(error);
            }
        }
    }

    /// An answer broke off.
    pub(crate) fn broken(&self, source: reqwest::Error) -> Error {
        Error::Broken { call: self.to_string(), source: source.into() }
    }

    /// Sends it once. An answer that isn't a success is an error.
    async fn send(&self) -> Result<Response, Error> {
        let Client { http, url, was_there, .. } = self.client;
        let mut request = http.request(self.method.clone(), self.client.address_of(&self.path));
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        if let Some(body) = &self.body {
            request = request.body(body.clone());
        }
        if let Some(timeout) = self.timeout {
            request = request.timeout(timeout);
        }
        let sent = request.send().await;
        if sent.as_ref().err().is_none_or(|error| !error.is_connect()) {
            was_there.store(true, Ordering::Relaxed);
        }
        let response = sent.map_err(|source| Error::Unreachable { url: Arc::clone(url), source: source.into() })?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let retry_after = retry_after(response.headers());
        // A body that breaks off, or is no problem document, only costs the explanation.
        let problem = serde_json::from_slice::<Problem>(&response.bytes().await.unwrap_or_default());
        let (detail, errors) = match problem {
            Ok(problem) => (problem.detail, problem.errors),
            Err(_) => (format!("it answered {status}"), Vec::new()),
        };
        let (url, call, status) = (Arc::clone(url), self.to_string(), status.as_u16());
        Err(Error::Refused(Box::new(Refusal { url, call, status, detail, errors, retry_after })))
    }
}
