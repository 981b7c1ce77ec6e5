//! A disk that takes no more, and then does again, under a coordinator in a process of its own.
//!
//! What takes no more is the process: the kernel refuses its writes beyond a size of a file (`RLIMIT_FSIZE`), in the middle of a
//! transaction too, and a limit can be changed from outside while it runs.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::io::Read;

use promptfield_core::id::JobId;
use promptfield_core::scheduler::{AttemptEnd, JobStateName};
use promptfield_core::wire::api::{
    ExperimentSummary, JobDetail, LeaseGrant, LeaseResponse, PREFIX, Page, Problem, Registered, SubmitResponse,
};
use reqwest::{Response, StatusCode};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::site::{Running, Site, text};

const SETTINGS: &str = "[coordinator]\nlisten = \"127.0.0.1:0\"\n[backbones]\nclip-mini = \"nowhere\"\n";
const WAL: &str = "var/promptfield.db-wal";
/// So much more fits before the disk is full: some submissions, and not many.
const ROOM: u64 = 300_000;

/// A coordinator, and somebody who asks it.
struct Served {
    running: Running,
    http: reqwest::Client,
}

impl Served {
    fn at(site: &Site) -> Self {
        // For the tests' own clients; another test may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let running = site.start(&["serve"]);
        Self { running, http: reqwest::Client::new() }
    }

    /// Lets no file grow beyond so many bytes; `None` lets them grow.
    fn limit(&self, bytes: Option<u64>) {
        let Rlimit { maximum, .. } = getrlimit(Resource::Fsize);
        let limit = Rlimit { current: bytes.or(maximum), maximum };
        prlimit(Some(Pid::from_child(&self.running.child)), Resource::Fsize, limit).unwrap();
    }

    fn address(&self, path: impl Display) -> String {
        format!("{}{PREFIX}{path}", self.running.url)
    }

    async fn get(&self, path: impl Display) -> Response {
        self.http.get(self.address(path)).send().await.unwrap()
    }

    async fn json<T: DeserializeOwned>(&self, path: impl Display) -> T {
        self.get(path).await.error_for_status().unwrap().json().await.unwrap()
    }

    async fn post(&self, path: impl Display, body: &Value) -> Response {
        self.http.post(self.address(path)).json(body).send().await.unwrap()
    }

    async fn submit(&self, seed: u64) -> Response {
        let experiment = json!({
            "name": seed.to_string(), "protocol": "base_to_new", "methods": ["alignednorm"], "datasets": ["dtd"],
            "seeds": [seed], "backbone": "clip-mini",
        });
        self.post("/experiments", &experiment).await
    }

    async fn complete(&self, grant: &LeaseGrant) -> Response {
        let result = json!({ "total": 4, "correct": 3, "accuracy": 75.0, "error": 25.0, "macro_f1": 70.0 });
        let outcome = json!({ "result": result, "adopted": false, "manifest": null });
        self.post(format!("/leases/{}/complete", grant.lease), &json!({ "token": grant.token, "outcome": outcome }))
            .await
    }

    /// The seeds of all experiments that it has.
    async fn experiments(&self) -> BTreeSet<u64> {
        let list: Page<ExperimentSummary> = self.json("/experiments?limit=1000").await;
        assert_eq!(list.total, list.items.len());
        list.items.iter().map(|experiment| experiment.name.parse().unwrap()).collect()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.running.child.kill();
        let _ = self.running.child.wait();
    }
}

/// The problem document of an answer that says that nothing was stored.
async fn not_stored(response: Response) {
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE, "{}", response.url());
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    assert_eq!(response.headers()["retry-after"], "1");
    let problem: Problem = response.json().await.unwrap();
    assert_eq!(problem.kind, "/problems/unavailable");
    let (refused, reason) = problem.detail.split_once(": ").unwrap();
    assert_eq!(refused, "the database can't be written, and nothing was changed");
    assert!(["disk is full", "disk I/O error"].iter().any(|system| reason.contains(system)), "{reason}");
}

#[tokio::test]
async fn what_is_acknowledged_is_there_and_nothing_else_when_the_disk_was_full() {
    let site = Site::with_only(SETTINGS);
    let served = Served::at(&site);
    let worker = json!({
        "name": "w", "host": "h", "slots": 1, "devices": ["cpu"], "backbones": ["clip-mini"],
        "version": promptfield_core::VERSION,
    });
    let submitted: SubmitResponse = served.submit(1).await.error_for_status().unwrap().json().await.unwrap();
    assert!(submitted.created);
    let Registered { worker: id, .. } = served.post("/workers", &worker).await.json().await.unwrap();
    let lease = format!("/workers/{id}/lease");
    let LeaseResponse { leases, .. } =
        served.post(&lease, &json!({ "slots": 1, "wait_ms": 0 })).await.json().await.unwrap();
    let [grant] = &leases[..] else { panic!("one job is ready: {leases:?}") };
    assert_eq!(served.get("/readyz").await.status(), StatusCode::NO_CONTENT);

    // The disk runs full.
    let wal_bytes = || std::fs::metadata(site.path(WAL)).unwrap().len();
    let full = wal_bytes() + ROOM;
    served.limit(Some(full));
    let mut acknowledged = BTreeSet::from([1]);
    let mut seed = 2;
    let refusal = loop {
        let response = served.submit(seed).await;
        if response.status() != StatusCode::CREATED {
            break response;
        }
        acknowledged.insert(seed);
        seed += 1;
        assert!(seed < 1_000, "the disk takes more than it can");
    };
    not_stored(refusal).await;
    assert!(acknowledged.len() > 1, "some fitted");
    assert!(wal_bytes() <= full);

    // Not a byte more.
    served.limit(Some(0));
    let before = wal_bytes();
    not_stored(served.submit(seed).await).await;
    not_stored(served.complete(grant).await).await;
    not_stored(served.post("/workers", &worker).await).await;
    not_stored(served.post(&lease, &json!({ "slots": 1, "wait_ms": 0 })).await).await;
    not_stored(served.post("/experiments/1/cancel", &Value::Null).await).await;
    not_stored(served.post("/tokens", &json!({ "name": "t", "scopes": ["read"] })).await).await;
    not_stored(served.get("/readyz").await).await;
    // The SHA-256 of `x`.
    let artefact = "/artefacts/2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881";
    let kept = served.http.put(served.address(artefact)).body("x").send().await.unwrap();
    assert_eq!(kept.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(kept.json::<Problem>().await.unwrap().kind, "/problems/unavailable");
    assert_eq!(wal_bytes(), before);
    // It lives, and shows what is stored.
    assert_eq!(served.get("/healthz").await.status(), StatusCode::NO_CONTENT);
    assert_eq!(served.experiments().await, acknowledged);
    let job: JobDetail = served.json(format!("/jobs/{}", grant.job)).await;
    assert_eq!(job.summary.state, JobStateName::Leased);

    // There is room again.
    served.limit(None);
    assert_eq!(served.get("/readyz").await.status(), StatusCode::NO_CONTENT);
    assert_eq!(served.complete(grant).await.status(), StatusCode::NO_CONTENT);
    assert_eq!(served.submit(seed).await.status(), StatusCode::CREATED);
    acknowledged.insert(seed);
    assert_eq!(served.experiments().await, acknowledged);

    // It dies while the disk is full a second time.
    served.limit(Some(0));
    not_stored(served.submit(seed + 1).await).await;
    let stderr = ended(served);
    assert!(stderr.contains("can't write to the database"), "{stderr}");
    let again = Served::at(&site);
    assert_eq!(again.experiments().await, acknowledged);
    for (job, state) in [(grant.job, JobStateName::Completed), (JobId(2), JobStateName::Queued)] {
        let job: JobDetail = again.json(format!("/jobs/{job}")).await;
        assert_eq!(job.summary.state, state);
        let ends: Vec<_> = job.attempts.iter().map(|attempt| attempt.end).collect();
        let expected = if state == JobStateName::Completed { vec![Some(AttemptEnd::Completed)] } else { Vec::new() };
        assert_eq!(ends, expected);
    }
    let sound = site.run(&["backup", "sound.db", "--coordinator", &again.running.url]);
    assert!(sound.status.success(), "{}", text(&sound.stderr));
}

/// Ends it as a power cut would; what it had to say.
fn ended(mut served: Served) -> String {
    served.running.child.kill().unwrap();
    let mut stderr = String::new();
    served.running.stderr.read_to_string(&mut stderr).unwrap();
    stderr
}
