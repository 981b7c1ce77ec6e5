//! The coordinator as a client sees it.

use promptfield_core::access::{TokenCreated, TokenRequest, TokenSummary};
use promptfield_core::api::{
    Changed, ExperimentSummary, JobDetail, JobSummary, PREFIX, Page, Problem, Results, SubmitResponse, WorkerSummary,
};
use promptfield_core::evaluation::Evaluation;
use promptfield_core::id::{ExperimentId, JobId, TokenId};
use promptfield_core::input::InvalidInput;
use promptfield_core::published::Reference;
use promptfield_core::scheduler::Explanation;
use promptfield_core::tables::Format;
use promptfield_worker::Connection;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;

use crate::exit::Coded;

/// A connection to a coordinator.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    url: String,
}

impl Client {
    /// A client of the coordinator at `url`; nothing is sent yet.
    pub(crate) fn new(url: String, connection: &Connection) -> anyhow::Result<Self> {
        let http = connection.client(&url)?.connect_timeout(std::time::Duration::from_secs(5)).build()?;
        Ok(Self { http, url })
    }

    pub(crate) async fn submit(&self, experiment: &serde_json::Value) -> anyhow::Result<SubmitResponse> {
        self.json(self.request(Method::POST, "/experiments").json(experiment)).await
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

    pub(crate) async fn results(&self, id: ExperimentId, compare: Option<Reference>) -> anyhow::Result<Results> {
        self.json(self.request(Method::GET, &results_path(id, Format::Json, compare))).await
    }

    pub(crate) async fn printed_results(
        &self,
        id: ExperimentId,
        format: Format,
        compare: Option<Reference>,
    ) -> anyhow::Result<String> {
        Ok(self.send(self.request(Method::GET, &results_path(id, format, compare))).await?.text().await?)
    }

    pub(crate) async fn job(&self, id: JobId) -> anyhow::Result<JobDetail> {
        self.json(self.request(Method::GET, &format!("/jobs/{id}"))).await
    }

    pub(crate) async fn evaluation(&self, id: JobId) -> anyhow::Result<Evaluation> {
        self.json(self.request(Method::GET, &format!("/jobs/{id}/evaluation"))).await
    }

    pub(crate) async fn log(&self, id: JobId) -> anyhow::Result<String> {
        Ok(self.send(self.request(Method::GET, &format!("/jobs/{id}/log"))).await?.text().await?)
    }

    pub(crate) async fn explain(&self, id: JobId) -> anyhow::Result<Explanation> {
        self.json(self.request(Method::GET, &format!("/jobs/{id}/explain"))).await
    }

    /// `what` is `experiments/1` or `jobs/1`, `action` is `cancel` or `retry`.
    pub(crate) async fn act(&self, what: &str, action: &str) -> anyhow::Result<Changed> {
        self.json(self.request(Method::POST, &format!("/{what}/{action}"))).await
    }

    pub(crate) async fn workers(&self) -> anyhow::Result<Vec<WorkerSummary>> {
        self.all_pages("/workers?").await
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
        Ok(self.send(request).await?.json().await?)
    }

    /// Sends a request; a problem becomes an error with its exit code.
    async fn send(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        let response = request.send().await.map_err(|source| Coded::Unreachable { url: self.url.clone(), source })?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let detail = match response.json::<Problem>().await {
            Ok(problem) if !problem.errors.is_empty() => {
                return Err(InvalidInput { errors: problem.errors }.into());
            }
            Ok(problem) => problem.detail,
            Err(_) => format!("it answered {status}"),
        };
        Err(match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Coded::Refused { url: self.url.clone(), detail }.into(),
            status if status.is_client_error() => Coded::BadInput(detail).into(),
            _ => anyhow::anyhow!("the coordinator at {} answered: {detail}", self.url),
        })
    }
}

fn results_path(id: ExperimentId, format: Format, compare: Option<Reference>) -> String {
    let compare = compare.map_or_else(String::new, |with| format!("&compare={with}"));
    format!("/experiments/{id}/results?format={format}{compare}")
}
