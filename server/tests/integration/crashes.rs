//! The coordinator dies and is started again.

use std::collections::BTreeSet;
use std::convert::Infallible;

use promptfield_core::id::JobId;
use promptfield_core::scheduler::{JobStateName, Policy};
use promptfield_core::wire::api::{JobDetail, LeaseGrant, LeaseRequest, LeaseResponse, Registered};
use reqwest::StatusCode;
use tokio::sync::{mpsc, watch};

use crate::support::{Client, LONG_MS, TestServer, at_step, completion, experiment, on, worker};

#[tokio::test]
async fn a_job_survives_a_death_after_every_step() {
    let mut server = TestServer::start().await;
    let submitted = server.submit(&experiment(&[1])).await;
    server.restart().await;
    assert!(!server.submit(&experiment(&[1])).await.created);
    let worker = server.register("w").await;
    server.restart().await;
    for job in [JobId(1), JobId(2)] {
        let grant = server.lease(worker, 1).await.remove(0);
        assert_eq!(grant.job, job);
        server.restart().await;
        assert_eq!(server.job(job).await.summary.state, JobStateName::Leased);
        assert_eq!(server.progress(&grant, &at_step(&grant, 1)).await.status(), StatusCode::OK);
        server.restart().await;
        assert_eq!(server.job(job).await.summary.state, JobStateName::Running);
        assert_eq!(server.complete(&grant).await.status(), StatusCode::NO_CONTENT);
        server.restart().await;
        // The worker never heard the answer, and says it again.
        assert_eq!(server.complete(&grant).await.status(), StatusCode::NO_CONTENT);
        let done = server.job(job).await;
        assert_eq!((done.summary.state, done.attempts.len()), (JobStateName::Completed, 1));
    }
    let shown: promptfield_core::wire::api::ExperimentSummary = server.json("/experiments/1").await;
    assert_eq!(
        (shown.id, shown.counts.completed, shown.submitted_at),
        (submitted.experiment.id, 2, submitted.experiment.submitted_at)
    );
}

/// A worker that rides out every death of the coordinator: it keeps what it has done until it was heard.
struct PersistentWorker {
    client: Client,
    name: String,
    up: watch::Receiver<bool>,
    acknowledged: mpsc::UnboundedSender<JobId>,
    done: Vec<LeaseGrant>,
}

impl PersistentWorker {
    async fn run(mut self) {
        while self.up.wait_for(|up| *up).await.is_ok() {
            // It ends when nobody answers.
            let _ = self.work().await;
        }
    }

    async fn work(&mut self) -> Option<Infallible> {
        self.deliver().await?;
        let registered: Registered = self.client.try_post("/workers", &worker(&self.name)).await?.json().await.ok()?;
        loop {
            let request = LeaseRequest { slots: 3, wait_ms: LONG_MS };
            let response = self.client.try_post(&format!("/workers/{}/lease", registered.worker), &request).await?;
            let response: LeaseResponse = response.json().await.ok()?;
            self.done.extend(response.leases);
            self.deliver().await?;
        }
    }

    async fn deliver(&mut self) -> Option<()> {
        while let Some(grant) = self.done.last() {
            let response = self.client.try_post(&on(grant.lease, "complete"), &completion(grant)).await?;
            match response.status() {
                StatusCode::NO_CONTENT => self.acknowledged.send(grant.job).ok()?,
                // Somebody else has it now.
                StatusCode::CONFLICT => {}
                _ => return None,
            }
            self.done.pop();
        }
        Some(())
    }
}

#[tokio::test]
async fn what_was_acknowledged_is_there_whenever_the_coordinator_dies() {
    let policy = Policy { backoff_ms: 1, longest_backoff_ms: 1, most_failures: 1000, ..Policy::default() };
    let mut server = TestServer::with_policy(policy).await;
    let seeds: Vec<u64> = (1..=40).collect();
    server.submit(&experiment(&seeds)).await;
    let (up, is_up) = watch::channel(true);
    let (sender, mut acknowledged) = mpsc::unbounded_channel();
    let workers: Vec<_> = (0..4)
        .map(|i| PersistentWorker {
            client: server.client.clone(),
            name: format!("w{i}"),
            up: is_up.clone(),
            acknowledged: sender.clone(),
            done: Vec::new(),
        })
        .map(|worker| tokio::spawn(worker.run()))
        .collect();
    let mut heard: BTreeSet<JobId> = BTreeSet::new();
    while heard.len() < 80 {
        let news = heard.insert(acknowledged.recv().await.unwrap());
        if news && heard.len() % 16 == 15 {
            up.send_replace(false);
            server.restart().await;
            for job in &heard {
                let job: JobDetail = server.job(*job).await;
                assert_eq!(job.summary.state, JobStateName::Completed);
                assert!(job.manifest.is_some());
            }
            up.send_replace(true);
        }
    }
    drop(up);
    for worker in workers {
        worker.abort();
    }
    let shown: promptfield_core::wire::api::ExperimentSummary = server.json("/experiments/1").await;
    assert_eq!(shown.counts.completed, 80);
    server.kill().await;
    let path = server.database().display().to_string();
    let pool = sqlx::SqlitePool::connect(&path).await.unwrap();
    let results: i64 = sqlx::query_scalar("SELECT count(*) FROM result").fetch_one(&pool).await.unwrap();
    let sound: String = sqlx::query_scalar("PRAGMA integrity_check").fetch_one(&pool).await.unwrap();
    assert_eq!((results, sound.as_str()), (80, "ok"));
    let gaps: i64 = sqlx::query_scalar("SELECT max(sequence) - count(*) FROM event").fetch_one(&pool).await.unwrap();
    assert_eq!(gaps, 0);
}

#[tokio::test]
async fn a_second_coordinator_on_the_database_is_refused() {
    let mut server = TestServer::start().await;
    let error = server.start_second().await.unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(cause, "another coordinator uses it: stop that one, or use another database");
    assert!(error.to_string().starts_with("can't use the database `"), "{error}");
    server.shut_down().await;
    server.start_second().await.unwrap();
}

#[tokio::test]
async fn a_coordinator_that_stops_in_order_leaves_one_file_with_everything() {
    let mut server = TestServer::start().await;
    server.submit(&experiment(&[1])).await;
    for _ in 0..5 {
        // Those who read the database are gone before the one who writes it.
        let reads = (0..4).map(|_| server.get("/jobs/1"));
        assert!(futures_util::future::join_all(reads).await.iter().all(|read| read.status() == StatusCode::OK));
        server.shut_down().await;
        let log = server.database().with_extension("db-wal");
        assert!(server.database().is_file() && !log.exists());
        server.start_again().await;
    }
}
