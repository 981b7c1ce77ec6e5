//! A coordinator in a folder of its own, and a client that speaks its types.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use promptfield_core::experiment::Known;
use promptfield_core::id::{JobId, LeaseId, WorkerId};
use promptfield_core::job::backbone::Architecture;
use promptfield_core::job::evaluation::{ClassCounts, Evaluation};
use promptfield_core::job::outcome::{
    Failure, FailureClass, FileEntry, Manifest, Outcome, Progress, Seconds, TestResult,
};
use promptfield_core::scheduler::{Policy, WorkerDescription};
use promptfield_core::time::Timestamp;
use promptfield_core::wire::access::{Scope, Secret, TokenRequest};
use promptfield_core::wire::api::{
    CompletionReport, FailureReport, JobDetail, LeaseGrant, LeaseRequest, LeaseResponse, PREFIX, Problem,
    ProgressReport, Registered, ReleaseReport, SubmitResponse,
};
use promptfield_server::{
    Coordinator, Database, Limits, Options, PilotOptions, Retention, Security, StartError, TokenRule, Webhook,
};
use reqwest::{Method, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;

/// Longer than any test takes; a poll that gets something ends before.
pub(crate) const LONG_MS: u64 = 60_000;

/// A running coordinator. It has a runtime of its own, so that it can be killed without a word.
pub(crate) struct TestServer {
    running: Option<(Runtime, Coordinator)>,
    options: Options,
    pub(crate) client: Client,
    folder: tempfile::TempDir,
}

impl TestServer {
    pub(crate) async fn start() -> Self {
        Self::with_policy(Policy::default()).await
    }

    pub(crate) async fn with_policy(policy: Policy) -> Self {
        Self::with(policy, Limits::default()).await
    }

    pub(crate) async fn with_limits(limits: Limits) -> Self {
        Self::with(Policy::default(), limits).await
    }

    pub(crate) async fn with_retention(retention: Retention) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { retention, ..options(folder.path()) };
        Self::on(folder, options, None).await
    }

    pub(crate) async fn with_webhooks(webhooks: Vec<Webhook>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { webhooks, ..options(folder.path()) };
        Self::on(folder, options, None).await
    }

    async fn with(policy: Policy, limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { policy, limits, ..options(folder.path()) };
        Self::on(folder, options, None).await
    }

    /// One that asks everybody for a token. Its client has one for everything.
    pub(crate) async fn with_tokens() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let security = Security { tokens: TokenRule::Required, ..Security::default() };
        let options = Options { security, ..options(folder.path()) };
        let admin = first_token(&options).await;
        Self::on(folder, options, Some(admin)).await
    }

    /// One that asks nobody for a token, but perhaps something else.
    pub(crate) async fn with_security(security: Security) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { security, ..options(folder.path()) };
        Self::on(folder, options, None).await
    }

    /// One that starts pilots.
    pub(crate) async fn with_pilots(pilots: impl FnOnce(&std::path::Path) -> PilotOptions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { pilots: Some(pilots(folder.path())), ..options(folder.path()) };
        Self::on(folder, options, None).await
    }

    /// The same, and it asks everybody for a token.
    pub(crate) async fn with_pilots_and_tokens(pilots: impl FnOnce(&std::path::Path) -> PilotOptions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let security = Security { tokens: TokenRule::Required, ..Security::default() };
        let options = Options { security, pilots: Some(pilots(folder.path())), ..options(folder.path()) };
        let admin = first_token(&options).await;
        Self::on(folder, options, Some(admin)).await
    }

    async fn on(folder: tempfile::TempDir, options: Options, token: Option<Secret>) -> Self {
        let running = run(options.clone()).await.unwrap();
        let client = Client::new(running.1.address()).with_token(token);
        Self { running: Some(running), options, client, folder }
    }

    /// Ends everything between two instructions, as `kill -9` does.
    pub(crate) async fn kill(&mut self) {
        let running = self.running.take().unwrap();
        tokio::task::spawn_blocking(move || drop(running)).await.unwrap();
    }

    /// Starts it again on the same files, and where clients expect it.
    pub(crate) async fn start_again(&mut self) {
        let listen = self.client.address;
        self.running = Some(run(Options { listen, ..self.options.clone() }).await.unwrap());
    }

    pub(crate) async fn restart(&mut self) {
        self.kill().await;
        self.start_again().await;
    }

    /// Stops it in order.
    pub(crate) async fn shut_down(&mut self) {
        let (runtime, coordinator) = self.running.take().unwrap();
        runtime.spawn(coordinator.shutdown()).await.unwrap();
        runtime.shutdown_background();
    }

    /// Starts another coordinator on the same files.
    pub(crate) async fn start_second(&self) -> Result<(), StartError> {
        let (runtime, second) = run(self.options.clone()).await?;
        runtime.spawn(second.shutdown()).await.unwrap();
        runtime.shutdown_background();
        Ok(())
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.options.database.clone()
    }

    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if let Some((runtime, coordinator)) = self.running.take() {
            drop(coordinator);
            runtime.shutdown_background();
        }
    }
}

impl std::ops::Deref for TestServer {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

/// What a coordinator in this folder is started with.
pub(crate) fn options(folder: &std::path::Path) -> Options {
    Options {
        listen: ([127, 0, 0, 1], 0).into(),
        database: folder.join("state/promptfield.db"),
        artefacts: folder.join("artefacts"),
        known: Known { backbones: vec!["ViT-B/16".into()], ..Known::built_in() },
        policy: Policy::default(),
        limits: Limits::default(),
        retention: Retention::default(),
        security: Security::default(),
        webhooks: Vec::new(),
        pilots: None,
        output_root: None,
        pins: BTreeMap::new(),
    }
}

/// A token for everything, made before the coordinator starts.
pub(crate) async fn first_token(options: &Options) -> Secret {
    let mut database = Database::open(&options.database).await.unwrap();
    let request = TokenRequest { name: "first".into(), scopes: vec![Scope::Admin], expires_in_s: None };
    let created = database.create_token(request).await.unwrap();
    database.close().await.unwrap();
    created.secret
}

pub(crate) async fn run(options: Options) -> Result<(Runtime, Coordinator), StartError> {
    // For the tests' own clients; another test may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    match runtime.spawn(Coordinator::start(options)).await.unwrap() {
        Ok(coordinator) => Ok((runtime, coordinator)),
        Err(error) => {
            runtime.shutdown_background();
            Err(error)
        }
    }
}

/// A user, or a worker. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    pub(crate) address: SocketAddr,
    token: Option<Secret>,
}

impl Client {
    fn new(address: SocketAddr) -> Self {
        Self { http: reqwest::Client::new(), address, token: None }
    }

    /// The same with another token, or without one.
    pub(crate) fn with_token(&self, token: Option<Secret>) -> Self {
        Self { token, ..self.clone() }
    }

    /// The same at another address.
    pub(crate) fn at(&self, address: SocketAddr) -> Self {
        Self { address, ..self.clone() }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("http://{}{PREFIX}{path}", self.address));
        match &self.token {
            Some(token) => request.bearer_auth(token.expose()),
            None => request,
        }
    }

    /// `None` if nobody answers.
    pub(crate) async fn try_post(&self, path: &str, body: &impl Serialize) -> Option<Response> {
        self.request(Method::POST, path).json(body).send().await.ok()
    }

    pub(crate) async fn post(&self, path: &str, body: &impl Serialize) -> Response {
        self.try_post(path, body).await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.unwrap()
    }

    pub(crate) async fn json<T: DeserializeOwned>(&self, path: &str) -> T {
        read(self.get(path).await).await
    }

    pub(crate) async fn text(&self, path: &str) -> String {
        let response = self.get(path).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        response.text().await.unwrap()
    }

    pub(crate) async fn submit(&self, document: &Value) -> SubmitResponse {
        read(self.post("/experiments", document).await).await
    }

    pub(crate) async fn register(&self, name: &str) -> WorkerId {
        let registered: Registered = read(self.post("/workers", &worker(name)).await).await;
        registered.worker
    }

    /// Leases jobs, waiting for the first.
    pub(crate) async fn lease(&self, worker: WorkerId, slots: usize) -> Vec<LeaseGrant> {
        loop {
            let leases = self.lease_within(worker, slots, LONG_MS).await;
            if !leases.is_empty() {
                return leases;
            }
        }
    }

    pub(crate) async fn lease_within(&self, worker: WorkerId, slots: usize, wait_ms: u64) -> Vec<LeaseGrant> {
        let request = LeaseRequest { slots, wait_ms };
        let response: LeaseResponse = read(self.post(&format!("/workers/{worker}/lease"), &request).await).await;
        response.leases
    }

    pub(crate) async fn progress(&self, grant: &LeaseGrant, report: &ProgressReport) -> Response {
        self.post(&on(grant.lease, "progress"), report).await
    }

    pub(crate) async fn complete(&self, grant: &LeaseGrant) -> Response {
        self.post(&on(grant.lease, "complete"), &completion(grant)).await
    }

    pub(crate) async fn fail(&self, grant: &LeaseGrant, class: FailureClass, reason: &str) -> Response {
        let failure = Failure { class, reason: reason.to_owned() };
        self.post(&on(grant.lease, "fail"), &FailureReport { token: grant.token, failure, cause: None }).await
    }

    pub(crate) async fn release(&self, grant: &LeaseGrant) -> Response {
        self.post(&on(grant.lease, "release"), &ReleaseReport { token: grant.token, unfinished: None }).await
    }

    /// The value of a series, as `/metrics` has it; `None` if it isn't there.
    pub(crate) async fn metric(&self, series: &str) -> Option<f64> {
        let text = self.text("/metrics").await;
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
        Some(value.parse().unwrap())
    }

    pub(crate) async fn job(&self, job: JobId) -> JobDetail {
        self.json(&format!("/jobs/{job}")).await
    }
}

/// Server-sent events, as they come.
pub(crate) struct Messages {
    response: Response,
    text: String,
}

/// A server-sent event.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) id: Option<String>,
    pub(crate) event: Option<String>,
    pub(crate) data: String,
}

impl Messages {
    pub(crate) fn new(response: Response) -> Self {
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, text: String::new() }
    }

    /// The next one; `None` when the stream has ended.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        loop {
            while let Some((entry, rest)) = self.text.split_once("\n\n") {
                let field =
                    |name: &str| Some(entry.lines().find_map(|line| line.strip_prefix(name))?.trim().to_owned());
                let (id, event, data) = (field("id:"), field("event:"), field("data:"));
                let read = self.text.len() - rest.len();
                self.text.drain(..read);
                // A comment has none.
                if let Some(data) = data {
                    return Some(Message { id, event, data });
                }
            }
            self.read().await?;
        }
    }

    /// Reads one piece more.
    async fn read(&mut self) -> Option<()> {
        let chunk = self.response.chunk().await.ok()??;
        self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        Some(())
    }

    /// Waits until a comment has come, and nothing else.
    pub(crate) async fn comment(&mut self) {
        while !self.text.contains("\n\n") {
            self.read().await.expect("the stream goes on");
        }
        assert!(self.text.starts_with(':'), "{}", self.text);
    }
}

pub(crate) fn on(lease: LeaseId, verb: &str) -> String {
    format!("/leases/{lease}/{verb}")
}

pub(crate) async fn read<T: DeserializeOwned>(response: Response) -> T {
    let status = response.status();
    let text = response.text().await.unwrap();
    assert!(status.is_success(), "{status}: {text}");
    serde_json::from_str(&text).unwrap()
}

/// The status line of the answer to a request whose body is announced and never sent.
pub(crate) async fn answer_to_announcement(client: &Client, start: &str, bytes: u64) -> String {
    let mut stream = tokio::net::TcpStream::connect(client.address).await.unwrap();
    let head = format!("{start} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {bytes}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("/problems/too-large"), "{answer}");
    answer.lines().next().unwrap().to_owned()
}

/// A problem document, checked to be one.
pub(crate) async fn problem(response: Response) -> Problem {
    let status = response.status().as_u16();
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
    let problem: Problem = response.json().await.unwrap();
    assert_eq!(problem.instance, Some(format!("urn:uuid:{id}")));
    assert_eq!(problem.status, status);
    assert!(!problem.title.is_empty() && !problem.detail.is_empty());
    problem
}

pub(crate) fn experiment(seeds: &[u64]) -> Value {
    json!({
        "name": "x", "protocol": "base_to_new", "methods": ["alignednorm"], "datasets": ["dtd"], "seeds": seeds,
        "backbone": "ViT-B/16",
    })
}

pub(crate) fn worker(name: &str) -> WorkerDescription {
    WorkerDescription {
        name: name.into(),
        host: "host".into(),
        output_root: "/out".into(),
        places: String::new(),
        slots: 2,
        devices: vec!["cpu".into()],
        backbones: vec!["ViT-B/16".into()],
        backbone_sha256: BTreeMap::new(),
        methods: BTreeMap::new(),
        version: promptfield_core::VERSION.into(),
        labels: Vec::new(),
        memory_mib: None,
        pilot: None,
        time_left_ms: None,
    }
}

pub(crate) const CHECKPOINT: &str = "MultiModalRepresentationLearner/model.safetensors";

/// What a job's worker brings: 90 % and a checkpoint whose hash is made of the job's.
pub(crate) fn completion(grant: &LeaseGrant) -> CompletionReport {
    let result = TestResult {
        total: 200,
        correct: 180,
        accuracy: 90.0,
        error: 10.0,
        macro_f1: 89.5,
        calibration_error: Some(3.25),
    };
    let checkpoint = FileEntry { sha256: grant.hash.to_string(), bytes: 7 };
    let manifest = Manifest {
        format: Manifest::FORMAT,
        spec: grant.spec.clone(),
        spec_hash: grant.hash,
        weights_sha256: "0".repeat(64),
        architecture: Architecture::OPENAI,
        assumed: Vec::new(),
        split_sha256: "1".repeat(64),
        test_sha256: Some("2".repeat(64)),
        checkpoint_sha256: None,
        left_out: Vec::new(),
        code_version: "0.1.0".into(),
        device: "cpu".into(),
        threads: 1,
        result: Some(result),
        started_at: Timestamp(1_795_484_412_345),
        seconds: Seconds { prepare: 0.1, train: 1.5, test: 0.2 },
        files: BTreeMap::from([(CHECKPOINT.to_owned(), checkpoint)]),
    };
    let outcome = Outcome { result: Some(result), adopted: false, manifest: Some(manifest) };
    CompletionReport { token: grant.token, outcome, evaluation: Some(evaluation()), memory_mib: None }
}

/// The numbers by class of what [`completion`] brings.
pub(crate) fn evaluation() -> Evaluation {
    let class = |name: &str, [images, predicted, correct]: [u64; 3], confused| ClassCounts {
        name: name.into(),
        images,
        predicted,
        correct,
        confused,
    };
    let classes = vec![
        class("banded", [120, 107, 105], vec![(1, 10), (2, 5)]),
        class("blotchy", [80, 85, 75], vec![(0, 2), (2, 3)]),
        class("braided", [0, 8, 0], Vec::new()),
    ];
    Evaluation { format: Evaluation::FORMAT, classes }
}

pub(crate) fn at_step(grant: &LeaseGrant, step: u64) -> ProgressReport {
    let progress = Progress { epoch: 0, epochs: 2, step, steps: 100, silent_s: 0 };
    ProgressReport { token: grant.token, progress: Some(progress), metrics: Vec::new(), log: None }
}

/// Runs everything that there is to run, one job after the other.
pub(crate) async fn run_all(client: &Client, worker: WorkerId, jobs: usize) -> Vec<LeaseGrant> {
    let mut done = Vec::new();
    while done.len() < jobs {
        for grant in client.lease(worker, 1).await {
            assert_eq!(client.complete(&grant).await.status(), StatusCode::NO_CONTENT);
            done.push(grant);
        }
    }
    done
}
