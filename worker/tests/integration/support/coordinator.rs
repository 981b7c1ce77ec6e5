//! A real coordinator on a database in a folder of its own, asked by HTTP as anybody else asks it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use promptfield_core::experiment::Known;
use promptfield_core::id::{JobId, WorkerId};
use promptfield_core::job::evaluation::Evaluation;
use promptfield_core::job::layout;
use promptfield_core::job::spec::BasisHash;
use promptfield_core::method::Methods;
use promptfield_core::scheduler::pilot_records::PilotRecord;
use promptfield_core::scheduler::{JobStateName, Policy, WorkerDescription, WorkerState};
use promptfield_core::wire::api::pools::Pilots;
use promptfield_core::wire::api::usage::{DeviceUsage, Usage};
use promptfield_core::wire::api::{
    JobDetail, JobSummary, Metrics, PREFIX, Page, PinnedBackbone, SubmitResponse, WorkerSummary,
};
use promptfield_server::{Limits, Options, PilotOptions, Retention, Security};
use reqwest::{RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;
use tempfile::TempDir;

use super::host::{BACKBONE, Host};
use super::soon;

/// A coordinator that can be stopped and started again at the same address.
pub(crate) struct Coordinator {
    http: reqwest::Client,
    options: Options,
    url: String,
    running: Option<promptfield_server::Coordinator>,
    _folder: TempDir,
}

impl Coordinator {
    /// One that gives a failed job out again at once.
    pub(crate) async fn start() -> Self {
        Self::start_with(Policy { backoff_ms: 1, ..Policy::default() }).await
    }

    /// One that has a pilot, of which only the process is missing: the test plays it.
    pub(crate) async fn start_with_pilot() -> Self {
        let coordinator = Self::start_with(Policy::default()).await;
        let settings = serde_json::json!({ "launcher": "local", "max": 1, "min": 1, "idle_s": 600 });
        answer(coordinator.http.put(coordinator.address_of("/pools/home")).json(&settings)).await;
        coordinator.eventually(async || coordinator.try_pilot().await).await;
        coordinator
    }

    pub(crate) async fn pilot(&self) -> PilotRecord {
        self.try_pilot().await.unwrap()
    }

    async fn try_pilot(&self) -> Option<PilotRecord> {
        let Pilots { pilots, .. } = self.get("/pilots").await;
        pilots.into_iter().find(|pilot| pilot.launcher_id.is_some())
    }

    /// Pins the backbone of the tests.
    pub(crate) async fn pin(&self, sha256: BasisHash) {
        let pin = PinnedBackbone { backbone: BACKBONE.to_owned(), sha256 };
        let response = self.http.put(format!("{}{PREFIX}/backbones", self.url)).json(&pin).send().await.unwrap();
        assert!(response.status().is_success(), "{response:?}");
    }

    pub(crate) async fn drain(&self, worker: WorkerId) {
        answer(self.post(&format!("/workers/{worker}/drain"))).await;
    }

    /// Waits until a worker is in a state.
    pub(crate) async fn until_worker(&self, id: WorkerId, state: WorkerState) {
        self.eventually(async || (self.worker(id).await.state == state).then_some(())).await;
    }

    pub(crate) async fn start_with(policy: Policy) -> Self {
        // For the tests' own clients; another test may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        // In `promptfield`'s place, as long as the test lasts.
        let program = folder.path().join("pilot.sh");
        fs_err::write(&program, "#!/bin/sh\ntrap 'exit 0' TERM; while [ -e \"$0\" ]; do sleep 0.05; done\n").unwrap();
        fs_err::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut pilots = PilotOptions::new(program, folder.path().join("pilots"));
        pilots.beat = Duration::from_millis(20);
        let mut options = Options {
            webhooks: Vec::new(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            database: folder.path().join("promptfield.db"),
            artefacts: folder.path().join("artefacts"),
            known: Known::built_in(),
            policy,
            limits: Limits::default(),
            retention: Retention::default(),
            security: Security::default(),
            pilots: Some(pilots),
            output_root: None,
            pins: BTreeMap::new(),
        };
        let running = promptfield_server::Coordinator::start(options.clone()).await.unwrap();
        options.listen = running.address();
        let url = format!("http://{}", running.address());
        Self { http: reqwest::Client::new(), options, url, running: Some(running), _folder: folder }
    }

    pub(crate) async fn stop(&mut self) {
        self.running.take().unwrap().shutdown().await;
    }

    pub(crate) async fn restart(&mut self) {
        self.running = Some(promptfield_server::Coordinator::start(self.options.clone()).await.unwrap());
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.options.listen
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Submits both jobs of a method on one data set: on the base classes, on the new ones.
    pub(crate) async fn submit(&self, method: &str) -> [JobId; 2] {
        let experiment = serde_json::json!({
            "name": method, "protocol": "base_to_new", "methods": [method], "datasets": ["caltech101"], "seeds": [1],
            "backbone": BACKBONE,
        });
        let submitted: SubmitResponse = ask(self.post("/experiments").json(&experiment)).await;
        let jobs: Page<JobSummary> = self.get(&format!("/experiments/{}/jobs", submitted.experiment.id)).await;
        jobs.items.iter().map(|job| job.id).collect::<Vec<_>>().try_into().unwrap()
    }

    pub(crate) async fn cancel(&self, job: JobId) {
        answer(self.post(&format!("/jobs/{job}/cancel"))).await;
    }

    /// Registers a worker in a host's place, which ends the registration of the one there.
    pub(crate) async fn register(&self, Host { options, .. }: &Host) {
        let output_root = fs_err::canonicalize(&options.machine.output_root).unwrap();
        let description = WorkerDescription {
            name: options.name.clone(),
            host: options.host.clone(),
            output_root: output_root.display().to_string(),
            places: String::new(),
            slots: 1,
            devices: vec!["cpu".to_owned()],
            backbones: vec![BACKBONE.to_owned()],
            backbone_sha256: BTreeMap::new(),
            methods: std::collections::BTreeMap::new(),
            version: promptfield_core::VERSION.to_owned(),
            labels: Vec::new(),
            memory_mib: None,
            pilot: None,
            time_left_ms: None,
        };
        answer(self.post("/workers").json(&description)).await;
    }

    pub(crate) async fn job(&self, job: JobId) -> JobDetail {
        self.get(&format!("/jobs/{job}")).await
    }

    /// A job's numbers by class, if there are any.
    pub(crate) async fn evaluation(&self, job: JobId) -> Option<Evaluation> {
        let response = soon(self.http.get(self.address_of(&format!("/jobs/{job}/evaluation"))).send()).await.unwrap();
        if response.status() == StatusCode::NOT_FOUND { None } else { response.json().await.unwrap() }
    }

    /// What the coordinator has of the checkpoint that a job made.
    pub(crate) async fn checkpoint(&self, job: &JobDetail) -> Vec<u8> {
        let files = &job.manifest.as_ref().unwrap().files;
        let name = layout::checkpoint(job.spec.method, Methods::built_in()).unwrap();
        let sha256 = &files[&name].sha256;
        let response = answer(self.http.get(self.address_of(&format!("/artefacts/{sha256}")))).await;
        response.bytes().await.unwrap().into()
    }

    /// The files of all artefacts.
    pub(crate) fn artefacts(&self) -> Vec<PathBuf> {
        let folders = fs_err::read_dir(&self.options.artefacts).unwrap().map(|entry| entry.unwrap().path());
        folders.flat_map(|folder| fs_err::read_dir(folder).unwrap()).map(|entry| entry.unwrap().path()).collect()
    }

    pub(crate) async fn log(&self, job: JobId) -> Vec<String> {
        let response = answer(self.http.get(self.address_of(&format!("/jobs/{job}/log")))).await;
        response.text().await.unwrap().lines().map(str::to_owned).collect()
    }

    /// The steps of which the coordinator has numbers.
    pub(crate) async fn steps(&self, job: JobId) -> Vec<u64> {
        let metrics: Metrics = self.get(&format!("/jobs/{job}/metrics")).await;
        metrics.points.iter().map(|point| point.step).collect()
    }

    /// Waits until a job is in a state.
    pub(crate) async fn until(&self, job: JobId, state: JobStateName) -> JobDetail {
        self.eventually(async || {
            let detail = self.job(job).await;
            (detail.summary.state == state).then_some(detail)
        })
        .await
    }

    /// Waits until a worker of this name is registered.
    pub(crate) async fn until_registered(&self, name: &str) -> WorkerId {
        self.eventually(async || {
            let workers: Page<WorkerSummary> = self.get("/workers").await;
            workers.items.iter().find(|worker| worker.description.name == name).map(|worker| worker.id)
        })
        .await
    }

    pub(crate) async fn worker(&self, id: WorkerId) -> WorkerSummary {
        let workers: Page<WorkerSummary> = self.get("/workers").await;
        workers.items.into_iter().find(|worker| worker.id == id).unwrap()
    }

    /// What a worker's devices are at, once it has said so.
    pub(crate) async fn devices(&self, id: WorkerId) -> Vec<DeviceUsage> {
        soon(async {
            loop {
                let usage: Usage = self.get("/workers/usage").await;
                let own = usage.workers.into_iter().find(|usage| usage.worker == id);
                match own.map(|usage| usage.devices).filter(|devices| !devices.is_empty()) {
                    Some(devices) => return devices,
                    None => tokio::task::yield_now().await,
                }
            }
        })
        .await
    }

    /// Looks again with every event, until there is something to see.
    async fn eventually<T>(&self, look: impl AsyncFn() -> Option<T>) -> T {
        // Subscribed before the first look, so that nothing happens unseen in between.
        let mut events = answer(self.http.get(self.address_of("/events"))).await;
        soon(async {
            loop {
                if let Some(seen) = look().await {
                    return seen;
                }
                events.chunk().await.unwrap().expect("the coordinator goes on");
            }
        })
        .await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> T {
        ask(self.http.get(self.address_of(path))).await
    }

    fn post(&self, path: &str) -> RequestBuilder {
        self.http.post(self.address_of(path))
    }

    fn address_of(&self, path: &str) -> String {
        format!("{}{}{path}", self.url, promptfield_core::wire::api::PREFIX)
    }
}

async fn ask<T: DeserializeOwned>(request: RequestBuilder) -> T {
    answer(request).await.json().await.unwrap()
}

async fn answer(request: RequestBuilder) -> Response {
    soon(request.send()).await.unwrap().error_for_status().unwrap()
}
