//! The coordinator, seen from here: one function for each thing that a worker says or asks.
//!
//! A call either gets an answer, or is [`CallError::Unavailable`]: nobody listens, the connection broke, the coordinator says
//! that it's busy. [`Client::until_answered`] repeats the latter for as long as it takes, since a worker outlives its
//! coordinator; whoever has less patience drops the future. Losing and finding the coordinator is logged here, once each.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use promptfield_core::chain::chain;
use promptfield_core::id::{LeaseId, WorkerId};
use promptfield_core::scheduler::WorkerDescription;
use promptfield_core::wire::api::usage::LoadReport;
use promptfield_core::wire::api::{
    self, CompletionReport, FailureReport, LeaseRequest, LeaseResponse, Problem, ProgressReport, Registered,
    ReleaseReport, Renewed, Report, ReportAnswer, ReportAnswers, Reports,
};
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::connection::{Connection, ConnectionError};
use crate::mailbox::Mailbox;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For everything small.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// On top of the time that a long poll may take.
const POLL_MARGIN: Duration = Duration::from_secs(10);
/// For a checkpoint, some MB.
const ARTEFACT_TIMEOUT: Duration = Duration::from_mins(5);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A coordinator may ask for patience, but not for more than this.
const LONGEST_RETRY_AFTER: Duration = Duration::from_mins(1);
/// Reports of so many bytes are compressed: lines of logs and numbers by class shrink to a tenth.
const WORTH_PACKING: usize = 8 << 10;
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The coordinator's "no".
#[derive(Clone, Debug, thiserror::Error)]
pub enum Rejected {
    /// 409: the lease isn't the latest attempt's, or its job has ended.
    #[error("{0}")]
    Stale(String),
    /// 410: the worker said goodbye, was silent for too long, or was started again.
    #[error("{0}")]
    UnknownWorker(String),
    /// 404.
    #[error("{0}")]
    NotFound(String),
    /// Any other answer that repeating the call won't change.
    #[error("the coordinator refused {call} ({status}): {detail}")]
    Refused {
        /// The call.
        call: String,
        /// The HTTP status.
        status: u16,
        /// The coordinator's reason.
        detail: String,
    },
    /// Whoever answers isn't a coordinator of this version.
    #[error("the answer to {call} can't be understood; is the coordinator of version {}?", promptfield_core::VERSION)]
    Unreadable {
        /// The call.
        call: String,
        /// What is wrong with it.
        source: Arc<serde_json::Error>,
    },
}

impl Rejected {
    /// Whether the answer is on what was said, and not on who says it or from whom it comes.
    pub(crate) const fn is_final(&self) -> bool {
        match self {
            Self::Stale(_) | Self::NotFound(_) => true,
            Self::Refused { status, .. } => !matches!(*status, 401 | 403),
            Self::UnknownWorker(_) | Self::Unreadable { .. } => false,
        }
    }
}

/// A call that brought nothing.
#[derive(Clone, Debug)]
pub(crate) enum CallError {
    /// There was no answer, or one that asks to come again.
    Unavailable { reason: String, retry_after: Option<Duration> },
    /// The answer is no.
    Rejected(Rejected),
}

/// The way to one coordinator. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Http {
    client: reqwest::Client,
    /// With the API's prefix, without a slash at the end.
    base: Arc<str>,
}

/// Calls one coordinator for one worker.
#[derive(Debug)]
pub(crate) struct Client {
    http: Http,
    mailbox: Mailbox,
    /// Spreads the pauses of different workers.
    name: String,
    out_of_reach_since: Mutex<Option<Instant>>,
}

impl Client {
    pub(crate) fn new(coordinator: &str, name: &str, connection: &Connection) -> Result<Self, ConnectionError> {
        let client = connection
            .client(coordinator)?
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(ANSWER_TIMEOUT)
            .user_agent(concat!("promptfield-worker/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|source| ConnectionError::Client { source })?;
        let base = format!("{}{}", coordinator.trim_end_matches('/'), api::PREFIX).into();
        let http = Http { client, base };
        let mailbox = Mailbox::open(http.clone());
        Ok(Self { http, mailbox, name: name.to_owned(), out_of_reach_since: Mutex::default() })
    }

    /// Repeats a call until it is answered.
    pub(crate) async fn until_answered<T, F>(&self, call: impl Fn() -> F) -> Result<T, Rejected>
    where
        F: Future<Output = Result<T, CallError>>,
    {
        let mut failures = 0;
        loop {
            match call().await {
                Ok(value) => {
                    self.found();
                    return Ok(value);
                }
                Err(CallError::Rejected(rejected)) => {
                    self.found();
                    return Err(rejected);
                }
                Err(CallError::Unavailable { reason, retry_after }) => {
                    self.lost(&reason);
                    tokio::time::sleep(retry_after.unwrap_or_else(|| pause(&self.name, failures))).await;
                    failures += 1;
                }
            }
        }
    }

    fn lost(&self, reason: &str) {
        let mut since = self.out_of_reach_since.lock().unwrap_or_else(PoisonError::into_inner);
        if since.is_some() {
            tracing::debug!(reason, "the coordinator is still out of reach");
        } else {
            *since = Some(Instant::now());
            tracing::warn!(
                reason,
                "the coordinator at {} is out of reach; jobs go on and report later",
                self.http.base
            );
        }
    }

    fn found(&self) {
        let mut since = self.out_of_reach_since.lock().unwrap_or_else(PoisonError::into_inner);
        if since.take().is_some() {
            tracing::info!("the coordinator is back");
        }
    }

    /// Since when nobody has answered.
    pub(crate) fn out_of_reach_since(&self) -> Option<Instant> {
        *self.out_of_reach_since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) async fn register(&self, description: &WorkerDescription) -> Result<Registered, CallError> {
        let call = Call { method: Method::POST, path: "/workers".into() };
        self.http.ask(call, |request| request.json(description)).await
    }

    pub(crate) async fn lease(
        &self,
        worker: WorkerId,
        slots: usize,
        wait: Duration,
    ) -> Result<LeaseResponse, CallError> {
        let request = LeaseRequest { slots, wait_ms: wait.as_millis() as u64 };
        let call = Call { method: Method::POST, path: format!("/workers/{worker}/lease") };
        self.http.ask(call, |builder| builder.json(&request).timeout(wait + POLL_MARGIN)).await
    }

    pub(crate) async fn report_load(&self, worker: WorkerId, report: &LoadReport) -> Result<(), CallError> {
        let call = Call { method: Method::POST, path: format!("/workers/{worker}/load") };
        self.http.send(call, |request| request.json(report)).await.map(drop)
    }

    /// Says that the worker takes no more jobs.
    pub(crate) async fn drain(&self, worker: WorkerId) -> Result<(), CallError> {
        let call = Call { method: Method::POST, path: format!("/workers/{worker}/drain") };
        self.http.send(call, |request| request).await.map(drop)
    }

    pub(crate) async fn leave(&self, worker: WorkerId) -> Result<(), CallError> {
        let call = Call { method: Method::POST, path: format!("/workers/{worker}/leave") };
        self.http.send(call, |request| request).await.map(drop)
    }

    pub(crate) async fn progress(&self, lease: LeaseId, report: &ProgressReport) -> Result<Renewed, CallError> {
        match self.mailbox.send(lease, Report::Progress(report.clone())).await? {
            ReportAnswer::Renewed(renewed) => Ok(renewed),
            other => {
                let reason = format!("a progress report was answered with {other:?}");
                Err(CallError::Unavailable { reason, retry_after: None })
            }
        }
    }

    pub(crate) async fn complete(&self, lease: LeaseId, report: &CompletionReport) -> Result<(), CallError> {
        self.mailbox.send(lease, Report::Complete(Box::new(report.clone()))).await.map(drop)
    }

    pub(crate) async fn fail(&self, lease: LeaseId, report: &FailureReport) -> Result<(), CallError> {
        self.mailbox.send(lease, Report::Fail(report.clone())).await.map(drop)
    }

    pub(crate) async fn release(&self, lease: LeaseId, report: &ReleaseReport) -> Result<(), CallError> {
        self.mailbox.send(lease, Report::Release(report.clone())).await.map(drop)
    }

    /// Whether the coordinator has an artefact.
    pub(crate) async fn has_artefact(&self, sha256: &str) -> Result<bool, CallError> {
        match self.http.send(Call::artefact(Method::HEAD, sha256), |request| request).await {
            Ok(_) => Ok(true),
            Err(CallError::Rejected(Rejected::NotFound(_))) => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn put_artefact(&self, sha256: &str, bytes: Vec<u8>) -> Result<(), CallError> {
        let call = Call::artefact(Method::PUT, sha256);
        self.http.send(call, |request| request.body(bytes).timeout(ARTEFACT_TIMEOUT)).await.map(drop)
    }

    pub(crate) async fn get_artefact(&self, sha256: &str) -> Result<Vec<u8>, CallError> {
        let call = Call::artefact(Method::GET, sha256);
        let response = self.http.send(call, |request| request.timeout(ARTEFACT_TIMEOUT)).await?;
        Ok(response.bytes().await.map_err(broken)?.into())
    }

    /// An artefact of at most so many bytes. Of a longer one only the beginning is read: its hash is another.
    pub(crate) async fn get_artefact_up_to(&self, sha256: &str, most: u64) -> Result<Vec<u8>, CallError> {
        let call = Call::artefact(Method::GET, sha256);
        let mut response = self.http.send(call, |request| request.timeout(ARTEFACT_TIMEOUT)).await?;
        let mut bytes = Vec::new();
        while (bytes.len() as u64) <= most
            && let Some(chunk) = response.chunk().await.map_err(broken)?
        {
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }
}

impl Http {
    /// Reports on several leases.
    pub(crate) async fn report(&self, reports: &Reports) -> Result<ReportAnswers, CallError> {
        let call = Call { method: Method::POST, path: "/leases/reports".into() };
        let unsent = |reason: String| CallError::Unavailable { reason, retry_after: None };
        let body = serde_json::to_vec(reports).map_err(|error| unsent(chain(&error)))?;
        if body.len() < WORTH_PACKING {
            return self.ask(call, |request| request.header(CONTENT_TYPE, JSON).body(body)).await;
        }
        // Some milliseconds of a processor's time.
        let packed = tokio::task::spawn_blocking(move || gzip(&body)).await.map_err(|error| unsent(chain(&error)))?;
        let packed = packed.map_err(|error| unsent(chain(&error)))?;
        let headers = [(CONTENT_TYPE, JSON), (CONTENT_ENCODING, HeaderValue::from_static("gzip"))];
        self.ask(call, |request| request.headers(HeaderMap::from_iter(headers)).body(packed)).await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        call: Call,
        build: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<T, CallError> {
        let name = call.to_string();
        let answer = self.send(call, build).await?.bytes().await.map_err(broken)?;
        serde_json::from_slice(&answer)
            .map_err(|source| CallError::Rejected(Rejected::Unreadable { call: name, source: source.into() }))
    }

    async fn send(
        &self,
        call: Call,
        build: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, CallError> {
        let url = format!("{}{}", self.base, call.path);
        let response = build(self.client.request(call.method.clone(), url)).send().await.map_err(broken)?;
        match response.status() {
            status if status.is_success() => Ok(response),
            status => Err(refusal(&call, status, response).await),
        }
    }
}

fn gzip(body: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body)?;
    encoder.finish()
}

struct Call {
    method: Method,
    path: String,
}

impl Call {
    fn artefact(method: Method, sha256: &str) -> Self {
        Self { method, path: format!("/artefacts/{sha256}") }
    }
}

impl std::fmt::Display for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

async fn refusal(call: &Call, status: StatusCode, response: Response) -> CallError {
    let retry_after = retry_after(response.headers());
    // A body that breaks off only costs the explanation.
    let body = response.text().await.unwrap_or_default();
    let detail = serde_json::from_str::<Problem>(&body).map_or(body, |problem| problem.detail);
    CallError::refused(&call.to_string(), status.as_u16(), detail, retry_after)
}

impl CallError {
    /// What a problem document says, as the answer to `call` or a part of it.
    pub(crate) fn from_problem(call: &str, problem: Problem) -> Self {
        Self::refused(call, problem.status, problem.detail, None)
    }

    fn refused(call: &str, status: u16, detail: String, retry_after: Option<Duration>) -> Self {
        let rejected = match status {
            408 | 429 | 500.. => {
                return Self::Unavailable {
                    reason: format!("{call} was answered with {status}: {detail}"),
                    retry_after,
                };
            }
            409 => Rejected::Stale(detail),
            410 => Rejected::UnknownWorker(detail),
            404 => Rejected::NotFound(detail),
            _ => Rejected::Refused { call: call.to_owned(), status, detail },
        };
        Self::Rejected(rejected)
    }
}

fn broken(error: reqwest::Error) -> CallError {
    CallError::Unavailable { reason: chain(&error), retry_after: None }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER))
}

/// How long to wait after so many failures: twice as long each time up to a limit, and up to a quarter more or less,
/// depending on the worker's name, so that workers which lost the same coordinator don't all come back at once.
pub(crate) fn pause(name: &str, failures: u32) -> Duration {
    let mut hasher = DefaultHasher::new();
    (name, failures).hash(&mut hasher);
    let spread = 0.75 + (hasher.finish() % 1000) as f64 / 2000.0;
    let doubled = FIRST_PAUSE.saturating_mul(1 << failures.min(16));
    doubled.min(LONGEST_PAUSE).mul_f64(spread)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_differ_between_workers() {
        let (longest, shortest) = (LONGEST_PAUSE.mul_f64(1.25), LONGEST_PAUSE.mul_f64(0.75));
        assert!(pause("a", 0) <= FIRST_PAUSE.mul_f64(1.25));
        for failures in [10, 100, u32::MAX] {
            assert!((shortest..=longest).contains(&pause("a", failures)));
        }
        assert_ne!(pause("a", 9), pause("b", 9));
        assert_eq!(pause("a", 9), pause("a", 9));
    }

    #[test]
    fn the_coordinators_patience_has_a_limit() {
        let header = |text: &str| retry_after(&HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]));
        assert_eq!(header("3"), Some(Duration::from_secs(3)));
        assert_eq!(header("86400"), Some(LONGEST_RETRY_AFTER));
        assert_eq!(header("Wed, 21 Oct 2026 07:28:00 GMT"), None);
    }
}
