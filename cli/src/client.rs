//! The coordinator as a client sees it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use promptfield_core::id::{ExperimentId, JobId, LeaseId, TokenId};
use promptfield_core::input::InvalidInput;
use promptfield_core::job::evaluation::Evaluation;
use promptfield_core::results::published::Reference;
use promptfield_core::results::tables::Format;
use promptfield_core::scheduler::machine_fault::MachineFault;
use promptfield_core::scheduler::pilot_records::PoolSettings;
use promptfield_core::scheduler::{Explanation, JobStateName};
use promptfield_core::wire::access::{TokenCreated, TokenRequest, TokenSummary};
use promptfield_core::wire::api::pools::{Pilots, PoolSummary, Pools};
use promptfield_core::wire::api::{
    Changed, ExperimentSummary, Findings, JobDetail, JobOutput, JobSummary, MachineFaults, PREFIX, Page,
    PinnedBackbone, PinnedBackbones, Problem, Recheck, Results, SubmitResponse, WorkerSummary,
};
use promptfield_worker::Connection;
use reqwest::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;

use crate::exit::Coded;
use crate::print;

/// Between the tries of a submission.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];
/// A coordinator may ask for patience, but not for more than this.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(30);

/// Between the tries of who is patient.
const PAUSE: Duration = Duration::from_millis(500);

/// A connection to a coordinator.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    url: String,
    /// `None` for who isn't patient; else whether somebody was there: where nobody listens from the first, there is nobody to wait for.
    was_there: Option<Arc<AtomicBool>>,
}

impl Client {
    /// A client of the coordinator at `url`; nothing is sent yet.
    pub(crate) fn new(url: String, connection: &Connection) -> anyhow::Result<Self> {
        let http = connection.client(&url)?.connect_timeout(Duration::from_secs(5)).build()?;
        Ok(Self { http, url, was_there: None })
    }

    /// A client that waits for a coordinator which is away, once it was there: for commands that wait anyway.
    pub(crate) fn patient(self) -> Self {
        Self { was_there: Some(Arc::default()), ..self }
    }

    /// Submits an experiment, again and again if need be: under its key it is one submission, however often it arrives.
    pub(crate) async fn submit(&self, experiment: &serde_json::Value, key: &str) -> anyhow::Result<SubmitResponse> {
        let mut pauses = PAUSES.iter();
        let mut was_there = false;
        loop {
            let request = self.request(Method::POST, "/experiments").header("Idempotency-Key", key);
            let error = match self.json(request.json(experiment)).await {
                Ok(submitted) => return Ok(submitted),
                Err(error) => error,
            };
            // Where nobody listens from the first, there is nobody to wait for.
            was_there |= !is_nobody(&error);
            let Some(&pause) = pauses.next().filter(|_| was_there && may_pass(&error)) else { return Err(error) };
            tracing::warn!("{error:#}; trying again");
            tokio::time::sleep(retry_after(&error).unwrap_or(pause)).await;
        }
    }

    pub(crate) async fn experiments(&self) -> anyhow::Result<Vec<ExperimentSummary>> {
        self.all_pages("/experiments?").await
    }

    pub(crate) async fn experiment(&self, id: ExperimentId) -> anyhow::Result<ExperimentSummary> {
        self.json(self.request(Method::GET, &format!("/experiments/{id}"))).await
    }

    pub(crate) async fn jobs(&self, id: ExperimentId, filter: &str) -> anyhow::Result<Vec<JobSummary>> {
        self.all_pages(&format!("/experiments/{id}/jobs?{filter}")).await
    }

    /// The first of an experiment's jobs that is in a state.
    pub(crate) async fn first_job(&self, id: ExperimentId, state: JobStateName) -> anyhow::Result<Option<JobSummary>> {
        let path = format!("/experiments/{id}/jobs?state={state}&limit=1");
        let page: Page<JobSummary> = self.json(self.request(Method::GET, &path)).await?;
        Ok(page.items.into_iter().next())
    }

    pub(crate) async fn results(&self, id: ExperimentId, compare: Option<Reference>) -> anyhow::Result<Results> {
        self.json(self.request(Method::GET, &results_path(id, Format::Json, compare))).await
    }

    pub(crate) async fn printed_results(
        &self,
        id: ExperimentId,
        format: Format,
        compare: Option<Reference>,
    ) -> anyhow::Result<String> {
        self.text(self.request(Method::GET, &results_path(id, format, compare))).await
    }

    pub(crate) async fn job(&self, id: JobId) -> anyhow::Result<JobDetail> {
        self.json(self.request(Method::GET, &format!("/jobs/{id}"))).await
    }

    pub(crate) async fn evaluation(&self, id: JobId) -> anyhow::Result<Evaluation> {
        self.json(self.request(Method::GET, &format!("/jobs/{id}/evaluation"))).await
    }

    /// The log of one of a job's attempts, the latest if none is named.
    pub(crate) async fn log(&self, id: JobId, attempt: Option<LeaseId>) -> anyhow::Result<String> {
        let of = attempt.map_or_else(String::new, |attempt| format!("?attempt={attempt}"));
        self.text(self.request(Method::GET, &format!("/jobs/{id}/log{of}"))).await
    }

    /// The same as events, from the line after `last` on.
    pub(crate) async fn follow_log(
        &self,
        id: JobId,
        attempt: Option<LeaseId>,
        last: Option<&str>,
    ) -> anyhow::Result<Response> {
        let of = attempt.map_or_else(String::new, |attempt| format!("&attempt={attempt}"));
        let request = self.request(Method::GET, &format!("/jobs/{id}/log?follow=true{of}"));
        let request = request.header(ACCEPT, "text/event-stream");
        self.send(last.into_iter().fold(request, |request, last| request.header("Last-Event-ID", last))).await
    }

    pub(crate) async fn explain(&self, id: JobId) -> anyhow::Result<Explanation> {
        self.json(self.request(Method::GET, &format!("/jobs/{id}/explain"))).await
    }

    /// `what` is `experiments/1` or `jobs/1`, `action` is `cancel` or `retry`.
    pub(crate) async fn act(&self, what: &str, action: &str) -> anyhow::Result<Changed> {
        self.json(self.request(Method::POST, &format!("/{what}/{action}"))).await
    }

    /// Queues jobs that have results again; `what` is `experiments/1` or `jobs/1`.
    pub(crate) async fn rerun(&self, what: &str, stale: bool, shared: bool) -> anyhow::Result<Changed> {
        let query = [("stale", stale), ("shared", shared)].into_iter().filter(|(_, on)| *on);
        let query: Vec<String> = query.map(|(name, _)| format!("{name}=true")).collect();
        self.json(self.request(Method::POST, &format!("/{what}/rerun?{}", query.join("&")))).await
    }

    pub(crate) async fn outputs(&self, id: ExperimentId) -> anyhow::Result<Vec<JobOutput>> {
        self.all_pages(&format!("/experiments/{id}/outputs?")).await
    }

    pub(crate) async fn note_findings(&self, findings: &Findings) -> anyhow::Result<()> {
        self.send(self.request(Method::POST, "/jobs/findings").json(findings)).await.map(drop)
    }

    pub(crate) async fn backbones(&self) -> anyhow::Result<Vec<PinnedBackbone>> {
        let pinned: PinnedBackbones = self.json(self.request(Method::GET, "/backbones")).await?;
        Ok(pinned.backbones)
    }

    pub(crate) async fn pin(&self, backbone: &PinnedBackbone) -> anyhow::Result<()> {
        self.send(self.request(Method::PUT, "/backbones").json(backbone)).await.map(drop)
    }

    /// What machines were found unable to use.
    pub(crate) async fn faults(&self) -> anyhow::Result<Vec<MachineFault>> {
        let found: MachineFaults = self.json(self.request(Method::GET, "/faults")).await?;
        Ok(found.faults)
    }

    pub(crate) async fn recheck(&self, host: Option<String>) -> anyhow::Result<Changed> {
        self.json(self.request(Method::POST, "/faults/recheck").json(&Recheck { host })).await
    }

    pub(crate) async fn workers(&self) -> anyhow::Result<Vec<WorkerSummary>> {
        self.all_pages("/workers?").await
    }

    pub(crate) async fn pools(&self) -> anyhow::Result<Pools> {
        self.json(self.request(Method::GET, "/pools")).await
    }

    pub(crate) async fn set_pool(&self, name: &str, settings: &PoolSettings) -> anyhow::Result<PoolSummary> {
        self.json(self.request(Method::PUT, &format!("/pools/{name}")).json(settings)).await
    }

    pub(crate) async fn end_pool(&self, name: &str) -> anyhow::Result<PoolSummary> {
        self.json(self.request(Method::DELETE, &format!("/pools/{name}"))).await
    }

    pub(crate) async fn resume_pool(&self, name: &str) -> anyhow::Result<()> {
        self.send(self.request(Method::POST, &format!("/pools/{name}/resume"))).await.map(drop)
    }

    /// The latest.
    pub(crate) async fn pilots(&self) -> anyhow::Result<Pilots> {
        self.json(self.request(Method::GET, "/pilots")).await
    }

    /// Where it is.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Whether it answers.
    pub(crate) async fn alive(&self) -> anyhow::Result<Response> {
        self.send(self.request(Method::GET, "/healthz")).await
    }

    /// Whether it can write its database.
    pub(crate) async fn ready(&self) -> anyhow::Result<Response> {
        self.send(self.request(Method::GET, "/readyz")).await
    }

    /// A copy of its database, as it comes.
    pub(crate) async fn backup(&self) -> anyhow::Result<Response> {
        self.send(self.request(Method::POST, "/backup")).await
    }

    pub(crate) async fn create_token(&self, token: &TokenRequest) -> anyhow::Result<TokenCreated> {
        self.json(self.request(Method::POST, "/tokens").json(token)).await
    }

    pub(crate) async fn tokens(&self) -> anyhow::Result<Vec<TokenSummary>> {
        self.all_pages("/tokens?").await
    }

    pub(crate) async fn revoke_token(&self, id: TokenId) -> anyhow::Result<()> {
        self.send(self.request(Method::DELETE, &format!("/tokens/{id}"))).await.map(drop)
    }

    /// The event stream from now on.
    pub(crate) async fn events(&self) -> anyhow::Result<Response> {
        self.send(self.request(Method::GET, "/events")).await
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{PREFIX}{path}", self.url))
    }

    async fn all_pages<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<Vec<T>> {
        let mut items = Vec::new();
        let mut cursor = String::new();
        loop {
            let page: Page<T> = self.json(self.request(Method::GET, &format!("{path}&limit=1000{cursor}"))).await?;
            items.extend(page.items);
            match page.next {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return Ok(items),
            }
        }
    }

    async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> anyhow::Result<T> {
        self.ask(request, async |response| {
            // The page of the dashboard, say.
            if response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/html")) {
                let expected = "the address that the coordinator said when it started, without a page's path";
                return Err(InvalidInput::new("--coordinator", &self.url, expected).into());
            }
            let body = response.bytes().await?;
            // No error of the connection: asking again would bring the same.
            serde_json::from_slice(&body).with_context(|| format!("the answer of {} can't be understood", self.url))
        })
        .await
    }

    async fn text(&self, request: RequestBuilder) -> anyhow::Result<String> {
        self.ask(request, async |response| Ok(response.text().await?)).await
    }

    /// Sends a request whose answer says nothing more, or is read as it comes.
    async fn send(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        self.ask(request, async |response| Ok(response)).await
    }

    /// Sends a request and reads the answer; who is patient does it until the answer is one that lasts.
    async fn ask<T>(
        &self,
        mut request: RequestBuilder,
        read: impl AsyncFn(Response) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let mut is_lost = false;
        loop {
            let again = request.try_clone();
            let answer = match self.send_once(request).await {
                Ok(response) => read(response).await,
                Err(error) => Err(error),
            };
            let (Some(was_there), Some(next)) = (&self.was_there, again) else { return answer };
            let there_now = answer.as_ref().err().is_none_or(|error| !is_nobody(error));
            let is_expected = was_there.fetch_or(there_now, Ordering::Relaxed) || there_now;
            let error = match answer {
                Err(error) if is_expected && may_pass(&error) => error,
                lasting => return lasting,
            };
            if !std::mem::replace(&mut is_lost, true) {
                print::talk(format_args!("{error}; waiting for it, Ctrl-C stops"));
            }
            tokio::time::sleep(retry_after(&error).unwrap_or(PAUSE)).await;
            request = next;
        }
    }

    /// Sends a request; a problem becomes an error with its exit code.
    async fn send_once(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        let response = request.send().await.map_err(|source| Coded::Unreachable { url: self.url.clone(), source })?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let detail = match response.json::<Problem>().await {
            Ok(problem) if !problem.errors.is_empty() => {
                return Err(InvalidInput { errors: problem.errors }.into());
            }
            Ok(problem) => problem.detail,
            Err(_) => format!("it answered {status}"),
        };
        Err(match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Coded::Refused { url: self.url.clone(), detail }.into(),
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                let (url, retry_after) = (self.url.clone(), retry_after.map(Duration::from_secs));
                Coded::NotNow { url, detail, retry_after }.into()
            }
            status if status.is_client_error() => Coded::BadInput(detail).into(),
            _ => anyhow::anyhow!("the coordinator at {} answered: {detail}", self.url),
        })
    }
}

/// Whether nobody listened.
fn is_nobody(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(Coded::Unreachable { source, .. }) if source.is_connect())
}

/// Whether the same request may get another answer soon: there was none, or one that only holds for now.
fn may_pass(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(Coded::Unreachable { .. } | Coded::NotNow { .. }))
        || error.is::<reqwest::Error>()
}

fn retry_after(error: &anyhow::Error) -> Option<Duration> {
    match error.downcast_ref() {
        Some(Coded::NotNow { retry_after, .. }) => retry_after.map(|pause| pause.min(LONGEST_RETRY_AFTER)),
        _ => None,
    }
}

fn results_path(id: ExperimentId, format: Format, compare: Option<Reference>) -> String {
    let compare = compare.map_or_else(String::new, |with| format!("&compare={with}"));
    format!("/experiments/{id}/results?format={format}{compare}")
}
