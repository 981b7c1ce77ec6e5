//! A machine that can't do a job doesn't take the job along, and two workers don't take each other's name.

use promptfield_core::id::WorkerId;
use promptfield_core::job::outcome::{Failure, FailureClass};
use promptfield_core::scheduler::machine_fault::{Cause, FaultOf};
use promptfield_core::scheduler::{Explanation, JobStateName, WorkerDescription};
use promptfield_core::wire::api::{Changed, FailureReport, LeaseGrant, MachineFaults, Registered};
use promptfield_server::Limits;
use reqwest::StatusCode;
use serde_json::json;

use crate::support::{Client, TestServer, experiment, on, problem, read, worker};

fn at(host: &str) -> WorkerDescription {
    WorkerDescription { host: host.into(), output_root: "/scratch".into(), ..worker(host) }
}

async fn register(server: &Client, description: &WorkerDescription) -> WorkerId {
    read::<Registered>(server.post("/workers", description).await).await.worker
}

async fn fails(server: &Client, grant: &LeaseGrant, cause: Cause, reason: &str) {
    let failure = Failure { class: FailureClass::Storage, reason: reason.into() };
    let report = FailureReport { token: grant.token, failure, cause: Some(cause) };
    assert_eq!(server.post(&on(grant.lease, "fail"), &report).await.status(), StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn a_fault_is_listed_survives_a_restart_and_ends_on_request() {
    let mut server = TestServer::start().await;
    server.submit(&experiment(&[1, 2])).await;
    let (sick, well) = (register(&server, &at("sick")).await, register(&server, &at("well")).await);
    let grant = server.lease(sick, 1).await.remove(0);
    fails(&server, &grant, Cause::OutputRoot, "disk full").await;
    let job = server.job(grant.job).await;
    assert_eq!((job.summary.state, job.summary.failures), (JobStateName::Queued, 0));
    server.restart().await;
    assert!(server.lease_within(sick, 1, 0).await.is_empty());
    let listed = server.json::<MachineFaults>("/faults").await.faults;
    let seen: Vec<_> = listed.iter().map(|fault| (fault.host.as_str(), fault.what.clone(), fault.times)).collect();
    assert_eq!(seen, [("sick", FaultOf::OutputRoot("/scratch".into()), 1)]);
    assert_eq!(server.lease(well, 1).await.len(), 1);
    for (body, ended) in [(json!({"host": "well"}), 0), (json!({}), 1)] {
        assert_eq!(read::<Changed>(server.post("/faults/recheck", &body).await).await.changed, ended);
    }
    assert_eq!(server.json::<MachineFaults>("/faults").await.faults, []);
    assert_eq!(server.lease(sick, 1).await.len(), 1);
}

#[tokio::test]
async fn who_waits_for_a_job_gets_it_when_the_fault_ends() {
    let server = TestServer::start().await;
    server.submit(&experiment(&[1])).await;
    let sick = register(&server, &at("sick")).await;
    register(&server, &at("well")).await;
    let grant = server.lease(sick, 1).await.remove(0);
    fails(&server, &grant, Cause::Dataset, "no folder").await;
    let body = json!({"host": "sick"});
    let (waits, rechecks) = tokio::join!(server.lease(sick, 1), server.post("/faults/recheck", &body));
    assert_eq!((waits.len(), rechecks.status()), (1, StatusCode::OK));
}

#[tokio::test]
async fn a_job_that_nobody_can_do_fails_with_each_machine_s_reason() {
    let server = TestServer::start().await;
    server.submit(&experiment(&[1])).await;
    let mut workers = Vec::new();
    for host in ["one", "other"] {
        workers.push((host, register(&server, &at(host)).await));
    }
    for (host, worker) in workers {
        let grant = server.lease(worker, 1).await.remove(0);
        fails(&server, &grant, Cause::Dataset, &format!("nothing at {host}")).await;
    }
    let explained: Explanation = server.json("/jobs/1/explain").await;
    assert_eq!(explained.state, JobStateName::Failed);
    assert_eq!(
        explained.because,
        "no machine here can do it: `one` can't use the data set `dtd`: nothing at one; `other` can't use the data set `dtd`: nothing \
         at other"
    );
}

#[tokio::test]
async fn a_name_that_is_at_work_elsewhere_is_refused_with_the_place() {
    let server = TestServer::start().await;
    let first = register(&server, &at("one")).await;
    let second = WorkerDescription { name: "one".into(), ..at("other") };
    let refusal = problem(server.post("/workers", &second).await).await;
    assert!(refusal.kind.ends_with("name-taken"), "{refusal:?}");
    assert!(refusal.detail.contains("on host `one`"), "{refusal:?}");
    assert_ne!(register(&server, &at("one")).await, first, "it was started again");
}

#[tokio::test]
async fn registrations_are_bounded_in_a_minute() {
    let server = TestServer::with_limits(Limits { registrations: 3, ..Limits::default() }).await;
    for _ in 0..3 {
        register(&server, &at("one")).await;
    }
    let refusal = problem(server.post("/workers", &at("one")).await).await;
    assert_eq!(refusal.status, 429);
    assert!(refusal.detail.contains("3 registrations came within a minute"), "{refusal:?}");
}
